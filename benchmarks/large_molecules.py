"""How long a Z-matrix of a large molecule takes to make, and a screen of its configurations.

T4 lysozyme L99A (2,603 atoms, from openmmtools): the Z-matrix by its bonds, the screen with its
stereocentres and amides, and 64 configurations of it screened: finite, bond lengths, clashes,
chirality, cis/trans. Processor seconds, the median over rounds after one that is not counted.

    python benchmarks/large_molecules.py [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from openmm import app, unit
from provenance import in_words, provenance

from openmm_cgan.internal_coordinates import ZMatrix
from openmm_cgan.proposals import Screen

N_SCREENED, SHAKEN = 64, 0.001  # nm
LIMIT = 1.0  # s


def lysozyme() -> tuple[app.Topology, np.ndarray]:
    """Its topology, and positions [nm]."""
    found = find_spec("openmmtools")
    if found is None or found.origin is None:
        sys.exit("openmmtools is needed, whose files these are: pip install openmmtools")
    folder = Path(found.origin).parent / "data" / "T4-lysozyme-L99A-implicit"
    positions = app.PDBFile(str(folder / "receptor.pdb")).positions
    topology = app.AmberPrmtopFile(str(folder / "receptor.prmtop")).topology
    return topology, np.array(positions.value_in_unit(unit.nanometer))


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Processor seconds of some work, the median over rounds."""
    taken = []
    for _ in range(rounds + 1):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    topology, x = lysozyme()
    shaken = x + SHAKEN * np.random.default_rng(1).standard_normal((N_SCREENED, *x.shape))
    parts = {
        f"Z-matrix of {len(x)} atoms": lambda: ZMatrix.from_topology(topology),
        f"their screen, and {N_SCREENED} configurations screened": lambda: Screen(
            topology, x
        ).check(shaken),
    }
    made, rows = provenance(), []
    print(in_words(made))
    for name, work in parts.items():
        taken = seconds(work, arguments.rounds)
        print(f"{name:50s} {taken:.2f} s of processor time")
        rows.append({
            "name": name, "value": round(taken, 2), "unit": "s", "target": f"<= {LIMIT:g}",
            "met": taken <= LIMIT, "peers": {}, "command": f"python {' '.join(sys.argv)}",
        } | made)  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
