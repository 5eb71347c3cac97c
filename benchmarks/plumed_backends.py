"""How well the native backend agrees with libplumed.

The largest deviation of the native backend from libplumed in values, bias energy and
forces over 40 random frames for each action (plumed_cases.py holds the inputs),
relative to 1 + magnitude, without and with periodic boxes.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.eight_atoms import BOXES, TOLERANCE, deviation
from benchmarks.plumed_cases import CASES


def agreement_rows() -> list[dict[str, Any]]:
    rows = []
    print(f"{'largest deviation from libplumed':34s} {'values':>9s} {'energy':>9s} {'forces':>9s}")
    for name, text in CASES.items():
        worst = np.zeros(3)
        for box in BOXES.values():
            for pbc in ("",) if box is None else ("", " NOPBC"):
                with tempfile.TemporaryDirectory() as folder:
                    found = deviation(text.format(pbc=pbc), box, Path(folder))
                worst = np.maximum(worst, (found.values, found.energy, found.forces))
        print(f"{name:34s} {worst[0]:9.1e} {worst[1]:9.1e} {worst[2]:9.1e}", flush=True)
        rows.append(
            {
                "name": f"native against libplumed, {name}: largest deviation",
                "value": float(f"{worst.max():.2e}"),
                "unit": "relative to 1 + magnitude",
                "target": f"<= {TOLERANCE:g}",
                "met": bool(worst.max() <= TOLERANCE),
                "peers": {},
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    logging.getLogger("openmm_cgan").setLevel(logging.WARNING)
    rows = agreement_rows()
    for row in rows:
        row["command"] = f"python {' '.join(sys.argv)}"
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
