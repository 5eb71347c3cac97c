"""The same umbrella windows started from a generator's seeds and dragged, at the same cost in MD.

Seeded: metadynamics, a conditional GAN trained on its frames, one accepted proposal to a window.
Dragged: as many steps as that metadynamics took, spent on dragging one configuration from window to
window, row by row. Then the same windows are run from both kinds of start, and MBAR's free energy
of the basin 0 < phi < 2.3 rad over the rest is held against benchmarks/reference.

    python benchmarks/seeded_windows.py --json seeded_windows.json
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.cgan import ConditionalGAN
from openmm_cgan.cli.demo import (
    DemoSettings,
    Seeds,
    choose_seeds,
    run_metadynamics,
    window_centres,
)
from openmm_cgan.cli.demo_analysis import BASIN, TEMPERATURE
from openmm_cgan.cli.shipped import plumed_input, read_reference
from openmm_cgan.frames import read_frames
from openmm_cgan.free_energy import (
    Estimate,
    WeightedSamples,
    basin_difference,
    convergence,
    reweight_windows,
)
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import Screen, propose
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.windows import (
    DragSettings,
    LocalWorkers,
    WindowResult,
    WindowSettings,
    drag,
    read_windows,
    run_windows,
    umbrella_windows,
)

KAPPA = 200.0  # kJ/mol/rad^2, of the restraint that drags
TARGET = "within 1.0 kJ/mol and 2 standard errors of the reference"
logger = logging.getLogger("openmm_cgan")


def seeded_starts(folder: Path, settings: DemoSettings, seed: int) -> Seeds:
    """One accepted proposal for each window, from a generator trained on metadynamics."""
    bias = run_metadynamics(folder / "md", settings, seed)
    molecule = alanine_dipeptide("C7eq")
    gan = ConditionalGAN.fit(
        read_frames(folder / "md" / "frames"), molecule.topology, settings.training
    )
    centres = window_centres(bias, settings)
    targets = np.repeat(centres, settings.proposals_per_window, axis=0)
    screen = Screen(molecule.topology, molecule.positions, bias)
    return choose_seeds(propose(gan, targets, screen, seed=seed), centres, seed)


def dragged_starts(centres: NDArray, settings: DemoSettings, seed: int) -> NDArray[np.float64]:
    """Starts (n, n_atoms, 3) [nm] dragged through the windows' centres (n, 2), row by row.

    In as many steps as the metadynamics took.
    """
    molecule = alanine_dipeptide("C7eq")
    text = plumed_input("alanine_phi_psi_umbrella.dat").read_text()
    bias = PlumedBias(text.replace("${phi},${psi}", "0,0"))
    steps = settings.md_steps // len(centres)
    how = DragSettings(TEMPERATURE, KAPPA, steps=steps, seed=seed, platform="Reference")
    return drag(bias, molecule.system, molecule.positions, centres, how)


def both_starts(folder: Path, settings: DemoSettings, seed: int) -> dict[str, Seeds]:
    """Both kinds of start; read from the folder where an earlier call has left them."""
    path = folder / "starts.npz"
    if not path.exists():
        seeds = seeded_starts(folder, settings, seed)
        dragged = dragged_starts(seeds.centres, settings, seed)
        np.savez(path, centres=seeds.centres, seeded=seeds.positions, dragged=dragged)
    with np.load(path) as starts:
        return {name: Seeds(starts["centres"], starts[name]) for name in ("seeded", "dragged")}


def window_template(kappa: str | None) -> str:
    """The PLUMED input of the windows, with another KAPPA if one is given."""
    text = plumed_input("alanine_phi_psi_umbrella.dat").read_text()
    return text if kappa is None else re.sub(r"KAPPA=\S+", f"KAPPA={kappa}", text)


def run(
    folder: Path, origin: str, seeds: Seeds, window: WindowSettings, template: str
) -> list[WindowResult]:
    """Run the windows from one kind of start, on all cores."""
    molecule = alanine_dipeptide("C7eq")
    windows = umbrella_windows(
        template, seeds.centres, seeds.positions, window, folder / origin, origin
    )
    with LocalWorkers() as pool:
        return run_windows(windows, molecule.system, molecule.topology, pool, platform="Reference")


def in_basin(cvs: NDArray) -> NDArray[np.bool_]:
    return (cvs[:, 0] > BASIN[0]) & (cvs[:, 0] < BASIN[1])


def free_energy(samples: WeightedSamples) -> float:
    return basin_difference(samples, in_basin).value


def row(origin: str, results: list[WindowResult], reference: Estimate) -> dict[str, Any]:
    """One row of the table."""
    windows = read_windows([result.folder for result in results])
    estimate = basin_difference(reweight_windows(windows, max_samples=40_000), in_basin)
    halves = convergence(windows, free_energy, (0.5,))
    off = abs(estimate.value - reference.value)
    sigma = float(np.hypot(estimate.error, reference.error))
    failed = sum(result.status == "failed" for result in results)
    return {
        "name": f"free energy of the basin, {origin} windows",
        "value": round(estimate.value, 2),
        "unit": "kJ/mol",
        "error": round(estimate.error, 2),
        "halves": [round(float(halves.forward[0]), 2), round(float(halves.backward[0]), 2)],
        "windows": len(results),
        "failed": failed,
        "target": TARGET if origin == "seeded" else None,
        "met": bool(off < 1.0 and off < 2.0 * sigma) if origin == "seeded" else None,
        "peers": {"reference": round(reference.value, 2)},
        "command": " ".join(["python", *sys.argv]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--folder", type=Path, help="keep the runs; go on with those begun")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kappa", help="such as 50,50, in place of the umbrella input's")
    parser.add_argument(
        "--highest", type=float, help="windows up to this free energy [kJ/mol], 45 if not given"
    )
    parser.add_argument("--quick", action="store_true", help="the steps only, no good numbers")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    settings = DemoSettings.quick() if arguments.quick else DemoSettings()
    if arguments.highest is not None:
        settings = replace(settings, highest=arguments.highest)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="seeded_windows-"))
    reference = read_reference().difference
    window = WindowSettings(
        TEMPERATURE, settings.window_steps, settings.settle_steps, seed=arguments.seed
    )
    template = window_template(arguments.kappa)
    runs = folder if arguments.kappa is None else folder / f"kappa-{arguments.kappa}"
    rows = []
    for origin, starts in both_starts(folder, settings, arguments.seed).items():
        rows.append(row(origin, run(runs, origin, starts, window, template), reference))
        r = rows[-1]
        print(f"{r['name']}: {r['value']:.2f} +- {r['error']:.2f} {r['unit']}, halves "
              f"{r['halves']}, {r['failed']} of {r['windows']} windows failed")  # fmt: skip
    print(f"reference: {reference.value:.2f} +- {reference.error:.2f} kJ/mol")
    rows[0]["peers"]["dragged windows"] = rows[1]["value"]
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
