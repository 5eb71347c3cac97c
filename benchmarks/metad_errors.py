"""Whether errors of reweighted metadynamics cover: one molecule, many seeds.

Metadynamics on phi and psi as in molecules.py, each seed by itself weighed as `openmm-cgan
free-energy` does. Printed for the means of sines and cosines of the CVs and the population of
phi > 0: the mean over seeds, their standard deviation, the root mean square of the errors that each
seed told, and the ratio of both, 1 if errors are right (known to 1 / sqrt(2 (n - 1))); how many
independent frames each run is worth, beside Kish's number over the inefficiency of the slowest CV,
and which would have no number.

    python benchmarks/metad_errors.py [ALA ...] [--seeds 10] [--steps 1000000] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from molecule_runs import Run, biased_run
from provenance import in_words, provenance

from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.free_energy.biased_runs import reweight_runs
from openmm_cgan.free_energy.samples import WeightedSamples
from openmm_cgan.metrics import kish_effective_sample_size

RESULTS = Path(__file__).parent / "results" / "metad_errors.json"


def observables(samples: WeightedSamples) -> dict[str, tuple[float, float]]:
    """Each with its error, whether it would be told or not."""
    told = dataclasses.replace(samples, unknown="")
    phi, psi = samples.cvs.T
    values = {
        "cos phi": np.cos(phi),
        "sin phi": np.sin(phi),
        "cos psi": np.cos(psi),
        "sin psi": np.sin(psi),
        "phi > 0": (phi > 0) & (phi < 2.3),
    }
    return {name: tuple(told.average(x)) for name, x in values.items()}


def row_of(run: Run, data: Path) -> dict[str, Any]:
    """What one seed says."""
    samples = reweight_runs([biased_run(run, data)])
    g = float(samples.inefficiencies[0])
    return {
        "run": dataclasses.asdict(run),
        "worth": round(samples.effective_samples),
        "Kish over g": round(kish_effective_sample_size(samples.log_weights) / g),
        "forgotten": round(len(samples.cvs) / g),
        "unknown": samples.unknown,
        "observables": observables(samples),
        "made": provenance(),
        "command": f"python {' '.join(sys.argv)}",
    }


def printed(name: str, rows: list[dict[str, Any]]) -> None:
    """The table of one molecule."""
    worth, old = ([row[k] for row in rows] for k in ("worth", "Kish over g"))
    unknown = sum(bool(row["unknown"]) for row in rows)
    print(f"{name}: {len(rows)} runs, {unknown} without a number   {in_words(rows[-1]['made'])}")
    print(f"  worth {sorted(worth)}; Kish over the inefficiency of the slowest CV {sorted(old)}")
    told = [row for row in rows if not row["unknown"]]
    for observable in told[0]["observables"] if len(told) > 1 else ():
        value, error = np.array([row["observables"][observable] for row in told]).T
        spread, rms = value.std(ddof=1), np.sqrt((error**2).mean())
        print(
            f"  {observable}: mean {value.mean():.4f}, scatter {spread:.4f}, told {rms:.4f}, "
            f"ratio {spread / rms:.2f} +- {spread / rms / np.sqrt(2 * (len(told) - 1)):.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["ALA"], help="of small_molecules.py")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1_000_000, help="of 4 fs")
    parser.add_argument("--data", type=Path, default=Path("molecules-data"))
    parser.add_argument("--json", type=Path, default=RESULTS, help="rows, old and new")
    arguments = parser.parse_args()
    rows = json.loads(arguments.json.read_text()) if arguments.json.exists() else []
    for name in arguments.names:
        runs = [Run(name, "vacuum", arguments.steps, seed + 1) for seed in range(arguments.seeds)]
        for run in runs:
            if not any(row["run"] == dataclasses.asdict(run) for row in rows):
                rows.append(row_of(run, arguments.data))
                write_atomically(arguments.json, (json.dumps(rows, indent=1) + "\n").encode())
        asked = [dataclasses.asdict(run) for run in runs]
        printed(name, [row for row in rows if row["run"] in asked])


if __name__ == "__main__":
    main()
