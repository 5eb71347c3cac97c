"""CVs that a run did not record, from the positions of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from openmm_cgan.cli.molecules import runs_in
from openmm_cgan.closures import of_samples
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames
from openmm_cgan.free_energy import WeightedSamples
from openmm_cgan.free_energy.biased_runs import BiasedRun
from openmm_cgan.molecules import Molecule, read_molecule
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.windows import read_window_frames
from openmm_cgan.windows.run_files import INPUT

BLOCK = 1000  # frames at once


def not_recorded(variables: Sequence[CollectiveVariable], names: Sequence[str]) -> list[str]:
    """The names that are no CVs of frames."""
    known = {variable.name for variable in variables}
    return [name for name in names if name not in known]


def run_with(run: BiasedRun, names: Sequence[str], plumed: Path | None = None) -> BiasedRun:
    """A run whose frames have CVs that they did not record.

    Parameters
    ----------
    run : BiasedRun
    names : sequence of str
    plumed : Path, optional
        An input that defines them, by default the run's own.

    Raises
    ------
    ValueError
        If a CV depends on atoms that the frames do not hold.
    PlumedInputError
        If the input does not define them.
    """
    missing = not_recorded(run.frames.variables, names)
    if not missing:
        return run
    molecule = read_molecule(run.folder)
    return replace(run, frames=_with(run.frames, plumed or run.plumed, molecule, missing))


def samples_with(
    samples: WeightedSamples,
    folders: Sequence[Path],
    names: Sequence[str],
    plumed: Path | None = None,
) -> WeightedSamples:
    """Samples of umbrella windows with CVs that their frames did not record.

    Parameters
    ----------
    samples : WeightedSamples
        Of `reweight_windows`.
    folders : sequence of Path
        Of the windows, as `read_windows` was given them.
    names, plumed, and what is raised
        As of `run_with`.
    """
    missing = not_recorded(samples.variables, names)
    if not missing:
        return samples
    molecule, _ = runs_in(folders)
    wider = [
        _with(frames, plumed or folders[0] / INPUT, molecule, missing)
        for frames in read_window_frames(folders)
    ]
    found = of_samples(samples, [frames.cvs[:, -len(missing) :] for frames in wider])
    variables = (*samples.variables, *wider[0].variables[-len(missing) :])
    return replace(samples, cvs=np.column_stack([samples.cvs, found]), variables=variables)


def _with(frames: Frames, plumed: Path, molecule: Molecule, names: Sequence[str]) -> Frames:
    """Frames with more CVs beside theirs; nothing of the input is run."""
    bias = PlumedBias(plumed, molecule, temperature=frames.temperature, cvs=tuple(names))
    n_atoms = molecule.system.getNumParticles()
    found = np.empty((len(frames), len(names)))
    blocks = range(0, len(frames), BLOCK)
    for first in tqdm(blocks, desc=f"{', '.join(names)} of the frames", disable=None, leave=False):
        rows = slice(first, first + BLOCK)
        part = frames.positions[rows]
        whole = np.full((len(part), n_atoms, 3), np.nan)
        whole[:, frames.atoms] = part
        found[rows] = bias.cv_values(whole, None if frames.box is None else frames.box[rows])
    unknown = ~np.isfinite(found).all(axis=0)
    if unknown.any():
        raise ValueError(
            f"{plumed}: {', '.join(np.array(names)[unknown])} depends on atoms that the frames do "
            f"not hold ({len(frames.atoms)} of {n_atoms}); run with --atoms all"
        )
    cvs = np.column_stack([frames.cvs, found])
    return replace(frames, cvs=cvs, variables=(*frames.variables, *bias.variables))
