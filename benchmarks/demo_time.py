"""The demo from start to end: its seconds and its free-energy difference beside the reference.

python benchmarks/demo_time.py [--json FILE] [--seeds 1 2 3]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LONGEST = 300.0  # s on 2 cores, installation apart
NEAR = 1.0  # kJ/mol
SIGMAS = 2.0


def demo(seed: int, folder: Path) -> dict[str, Any]:
    """Run the demo as a user does; its summary with the seconds of the whole command."""
    command = [sys.executable, "-c", "from openmm_cgan.cli import main; main()", "demo"]
    start = time.monotonic()
    subprocess.run([*command, "--out", str(folder), "--seed", str(seed)], check=True)
    seconds = time.monotonic() - start
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return {**summary, "whole_seconds": seconds}


def rows_of(seed: int) -> list[dict[str, Any]]:
    """Time, error and error in standard errors of one demo."""
    with tempfile.TemporaryDirectory() as folder:
        result = demo(seed, Path(folder) / "demo")
    off = abs(result["delta_f"] - result["reference"])
    sigma = (result["delta_f_error"] ** 2 + result["reference_error"] ** 2) ** 0.5
    peers = {key: result[key] for key in ("delta_f", "delta_f_error", "reference")}
    measured = [
        ("seconds", result["whole_seconds"], "s", LONGEST, {}),
        ("off the reference", off, "kJ/mol", NEAR, peers),
        ("off the reference", off / sigma, "standard errors", SIGMAS, {}),
    ]
    command = f"openmm-cgan demo --seed {seed}"
    return [
        {
            "name": f"demo, seed {seed}: {name}",
            "value": value,
            "unit": unit,
            "target": f"<= {target:g}",
            "met": bool(value <= target),
            "peers": beside,
            "command": command,
        }
        for name, value, unit, target, beside in measured
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    rows = [row for seed in arguments.seeds for row in rows_of(seed)]
    for row in rows:
        print(f"{row['name']}: {row['value']:.2f} {row['unit']} ({row['target']})")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
