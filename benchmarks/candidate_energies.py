"""Energies of 100 candidates: one Context, or as many Contexts in threads as there are cores.

OpenMM works without Python's lock, so threads help where an energy takes longer than handing it
over. Alanine dipeptide in vacuum (22 atoms) and the capped pentapeptide in OBC2 (62 atoms), on the
Reference and the CPU platform; blocks of both ways alternate, and each number is the median.

    python benchmarks/candidate_energies.py [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from openmm_cgan.potentials import WORTH_A_THREAD, Potential
from openmm_cgan.testsystems import Molecule, alanine_dipeptide, alanine_pentapeptide

CANDIDATES = 100


def seconds(potential: Potential, x: np.ndarray) -> float:
    """How long the energies of x (n, n_atoms, 3) take."""
    start = time.perf_counter()
    potential.energies(x)
    return time.perf_counter() - start


def compared(molecule: Molecule, platform: str, rounds: int) -> dict[str, Any]:
    """Microseconds a candidate, with one Context and with one a core."""
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.001, size=(CANDIDATES, *molecule.positions.shape))
    x = molecule.positions + noise
    counts = {"one": 1, "one a core": os.cpu_count() or 1}
    made = {
        name: Potential(molecule.system, platform=platform, n_contexts=n)
        for name, n in counts.items()
    }
    chosen = Potential(molecule.system, platform=platform)
    chosen.energies(x)
    times: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(rounds + 1):  # the first is not counted
        for name, potential in made.items():
            found = seconds(potential, x)
            if turn:
                times[name].append(found)
    medians = {n: statistics.median(t) / CANDIDATES * 1e6 for n, t in times.items()}
    gain = statistics.median(
        one / many for one, many in zip(times["one"], times["one a core"], strict=True)
    )
    return {
        "gain": round(gain, 2),
        **{f"{n}, us": round(m, 1) for n, m in medians.items()},
        "Contexts by default": chosen.n_contexts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    rows = []
    for title, molecule in (
        ("alanine dipeptide, vacuum", alanine_dipeptide("C7eq")),
        ("pentapeptide, OBC2", alanine_pentapeptide()),
    ):
        for platform in ("Reference", "CPU"):
            found = compared(molecule, platform, arguments.rounds)
            name = f"energies of {CANDIDATES} candidates, {os.cpu_count()} Contexts over one"
            rows.append(
                {
                    "name": f"{name}: {title}, {platform} platform",
                    "value": found.pop("gain"),
                    "unit": "times faster",
                    "target": "",
                    "met": None,
                    "peers": {**found, "one where faster than, us": WORTH_A_THREAD * 1e6},
                    "command": f"python {' '.join(sys.argv)}",
                }
            )
            print(f"{rows[-1]['name']:85s} {rows[-1]['value']}  {rows[-1]['peers']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
