"""The identity b = -sigma^2 A'/2kT + (sigma^2)'/2 on alanine dipeptide, bonds to hydrogen held.

Umbrella windows along phi, along phi with psi looked at too, and along the distance of the inner
hydrogen bond; at how many values of the CVs the residual is within two of its standard errors, and
how large it is beside the terms that cancel.

    OMP_NUM_THREADS=1 python benchmarks/alanine_identity.py [--steps 50000]
"""

import argparse
import logging
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from provenance import in_words, provenance

from openmm_cgan import PlumedBias
from openmm_cgan.closures import Grid, identity, local_dynamics_of_frames, of_samples
from openmm_cgan.free_energy import reweight_windows
from openmm_cgan.potentials import Potential
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.windows import (
    DragSettings,
    WindowSettings,
    drag,
    read_window_frames,
    read_windows,
    run_windows,
    umbrella_windows,
)

TEMPERATURE, FRICTION = 300.0, 10.0  # K, 1/ps
TORSIONS = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"


@dataclass(frozen=True)
class Case:
    """CVs, the template of their windows with ``${at}``, where these stand, and what is asked."""

    name: str
    template: str
    centres: np.ndarray
    cells: int | tuple[int, int]
    bounds: tuple[tuple[float, float] | None, ...]


CASES = (
    Case(
        "phi",
        "phi: TORSION ATOMS=5,7,9,15\nRESTRAINT ARG=phi AT=${at} KAPPA=200\n",
        -1.3 + np.arange(36) * 2 * np.pi / 36,
        72,
        (None,),
    ),
    Case(
        "phi and psi",
        TORSIONS + "RESTRAINT ARG=phi,psi AT=${at},0 KAPPA=200,0\n",
        -1.3 + np.arange(36) * 2 * np.pi / 36,
        (24, 24),
        (None, None),
    ),
    Case(
        "distance",
        "d: DISTANCE ATOMS=6,18\nRESTRAINT ARG=d AT=${at} KAPPA=4000\n",
        np.linspace(0.18, 0.55, 20),
        40,
        ((0.19, 0.53),),
    ),
)


def identity_of(case: Case, steps: int, folder: str, workers: int):
    """Windows of a case and the identity on its grid."""
    molecule = alanine_dipeptide("C7eq")
    first = case.template.replace("${at}", str(case.centres[0]))
    bias = PlumedBias(first, molecule.topology, temperature=TEMPERATURE)
    # What has no spring in the windows is dragged nowhere: it stands at the start's own value.
    here = bias.cv_values(molecule.positions)
    centres = np.tile(here, (len(case.centres), 1))
    centres[:, 0] = case.centres
    stiff = np.array([4000.0 if case.name == "distance" else 400.0, 1e-3][: len(here)])
    settings = DragSettings(TEMPERATURE, kappa=stiff, steps=2000, platform="Reference")
    starts = drag(bias, molecule.system, molecule.positions, centres, settings)
    windows = umbrella_windows(
        case.template,
        case.centres[:, None],
        starts,
        WindowSettings(TEMPERATURE, steps, steps // 10, 25, friction=FRICTION),
        folder,
        "dragged",
    )
    with ProcessPoolExecutor(workers) as pool:
        run_windows(windows, molecule.system, molecule.topology, pool, platform="Reference")
    folders = [window.folder for window in windows]
    samples = reweight_windows(read_windows(folders), max_samples=30_000)
    positions = of_samples(samples, [f.positions for f in read_window_frames(folders)])
    local = local_dynamics_of_frames(
        bias.differentiable_cvs, positions, Potential(molecule.system), TEMPERATURE, FRICTION
    )
    return identity(samples, local, Grid.over(samples.variables, case.cells, case.bounds).points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50_000, help="of each window")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    logging.getLogger("openmm_cgan").setLevel(logging.ERROR)
    print(in_words(provenance()))
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            found = identity_of(case, arguments.steps, str(Path(folder, "w")), arguments.workers)
        print(f"{case.name:12s} {found}", flush=True)


if __name__ == "__main__":
    main()
