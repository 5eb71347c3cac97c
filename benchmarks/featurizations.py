"""Where aligned coordinates take over from a Z-matrix: what share of either passes the screens.

ACE-ALAn-NME in OBC2, CVs phi and psi of the residue in the middle. One generator, trained for the
same steps on the same frames, by each of the two featurizations; it is asked for the CVs of frames
that it has not seen. What passes is then healed, as seeds are.

    python benchmarks/featurizations.py [RESIDUES ...] [--steps N] [--folder F]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from injection import in_implicit, peptide
from proteins import TEMPERATURE, TRAINING, Case, attempts, simulation_of, trajectory
from provenance import in_words, provenance

from openmm_cgan import ConditionalGAN, PlumedBias
from openmm_cgan.features import AlignedFeatures, ZMatrixFeatures
from openmm_cgan.frames import Frames

ATTEMPTS = 8
HYDROGEN = 3.0  # dalton


def compare(n_residues: int, steps: int, folder: Path) -> None:
    """Print a line for each featurization."""
    solute = peptide(n_residues)
    system = in_implicit(solute.topology, HYDROGEN)
    case = Case(solute.topology, solute.positions, system, None, solute.plumed())
    bias = PlumedBias(case.plumed, case.topology, temperature=TEMPERATURE,
                      directory=tempfile.mkdtemp())  # fmt: skip
    simulation = simulation_of(case, bias)
    x = trajectory(simulation, steps, folder / f"alanines-{n_residues}.npy")
    cvs = np.concatenate([bias.cv_values(one[None].astype(float)) for one in x])
    frames = Frames.of_arrays(x, cvs, bias.variables, temperature=TEMPERATURE)
    cut = 3 * len(x) // 4
    starts = x[np.linspace(cut, len(x) - 1, ATTEMPTS).astype(int)]
    for kind in (ZMatrixFeatures, AlignedFeatures):
        gan = ConditionalGAN.fit(
            frames.select(slice(0, cut)), case.topology, TRAINING, featurize=kind.fit
        )
        unseen = cvs[cut:]
        inside = ((unseen >= gan.cv_range[:, 0]) & (unseen <= gan.cv_range[:, 1])).all(axis=1)
        found = attempts(gan, simulation, bias, starts, unseen[inside])
        print(
            f"{x.shape[1]} atoms, {cut} frames, {kind.__name__}: passed {found['passed']:.2f} of "
            f"{found['made']}, healed {found['healed']:.2f} of {ATTEMPTS}; {found['refused']}",
            flush=True,
        )
    bias.close()


def main() -> None:
    """Compare at each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("residues", nargs="*", type=int, default=[5, 9, 14, 20])
    parser.add_argument("--steps", type=int, default=40_000, help="of MD, of 4 fs")
    parser.add_argument("--folder", type=Path, default=Path("protein_frames"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(in_words(provenance()))
    for n_residues in arguments.residues:
        compare(n_residues, arguments.steps, arguments.folder)


if __name__ == "__main__":
    main()
