"""Run every benchmark and print one table (``make bench``).

Each script beside this one measures one thing and writes rows {name, value, unit, target, met,
peers, command} with --json. Ratios are taken within one run, for machines drift.

    python benchmarks/table.py [SCRIPT ...]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPTS = [
    "plumed_backends.py",
    "plumed_speed.py",
    "plumed_fuzz.py",
    "fuzz_files.py",
    "frame_reporter.py",
    "setups.py",
    "live_reads.py",
    "proposal_rate.py",
    "seeded_windows.py",
    "generator_rate.py",
    "candidate_energies.py",
    "conditional_ess.py",
    "exact_moves.py",
    "hidden_barrier.py",
    "time_to_solution.py",
    "mbar.py",
    "diffusion_map.py",
    "learned_variable.py",
    "demo_time.py",
    "peptide.py",
]


def rows_of(script: Path) -> list[dict[str, Any]]:
    """Run one script; its rows, or one row that says that it failed."""
    print(f"-- {script.name}", file=sys.stderr, flush=True)
    command = [sys.executable, str(script), "--json"]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "rows.json"
        code = subprocess.run([*command, str(output)], stdout=sys.stderr, check=False).returncode
        if code == 0 and output.exists():
            rows: list[dict[str, Any]] = json.loads(output.read_text())
            # what a reader can type, without the temporary file of this run
            ours = f"python benchmarks/{script.name}"
            return [
                row | {"command": ours} if script.name in row["command"] else row for row in rows
            ]
    failed = {"name": script.stem, "value": f"exit code {code}", "unit": "", "target": ""}
    return [{**failed, "met": False, "peers": {}, "command": f"python benchmarks/{script.name}"}]


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    lines = ["| what | measured | target | met | peers | command |", "|---|---|---|---|---|---|"]
    for row in rows:
        peers = row.get("peers") or {}
        beside = ", ".join(f"{k} {number(v)}" for k, v in peers.items()) if peers else ""
        met = {True: "yes", False: "NO", None: ""}[row.get("met")]
        cells = [row["name"], f"{number(row['value'])} {row['unit']}", number(row["target"]), met]
        lines.append("| " + " | ".join([*cells, beside, f"`{row['command']}`"]) + " |")
    return "\n".join(lines)


def number(value: Any) -> str:
    """A number with four digits, anything else as it is."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str("" if value is None else value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scripts", nargs="*", default=SCRIPTS, help="default: all")
    rows = [row for name in parser.parse_args().scripts for row in rows_of(HERE / name)]
    print(table(rows))
    sys.exit(not all(row.get("met") is not False for row in rows))


if __name__ == "__main__":
    main()
