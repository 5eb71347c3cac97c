"""What a run knows of where its umbrella windows are to stand: a rough free energy."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from openmm_cgan.frames import Frames, read_frames
from openmm_cgan.free_energy import (
    FreeEnergy,
    WeightedSamples,
    free_energy_profile,
    free_energy_surface,
)
from openmm_cgan.free_energy.biased_runs import BiasedRun, reweight_runs
from openmm_cgan.molecules import Molecule, read_molecule
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.run_folders import FRAMES, INPUT
from openmm_cgan.windows.placement import windows_needed

logger = logging.getLogger("openmm_cgan")

LOOKS = 4  # at how many windows it takes


@dataclass(frozen=True)
class Run:
    """What a run has left in its folder.

    Attributes
    ----------
    molecule : Molecule
        Its System is without the bias.
    biased : BiasedRun
    bias : PlumedBias
        For its CVs.
    """

    molecule: Molecule
    biased: BiasedRun
    bias: PlumedBias

    @property
    def frames(self) -> Frames:
        """Its frames."""
        return self.biased.frames


def read_run(folder: Path, plumed: Path | None = None, temperature: float | None = None) -> Run:
    """Read a run.

    Parameters
    ----------
    folder : Path
        As `run_biased` leaves it.
    plumed : Path, optional
        Its input where that names files that do not lie beside the copy in the folder.
    temperature : float, optional
        Its frames at this one alone [K], where it changed.

    Raises
    ------
    FileNotFoundError, ValueError
        If something is missing or damaged, or the frames are of a part of the atoms.
    """
    molecule = read_molecule(folder)
    frames = read_frames(folder / FRAMES, temperature=temperature)
    n_atoms = molecule.system.getNumParticles()
    if len(frames.atoms) != n_atoms:
        raise ValueError(
            f"the frames of {folder} hold {len(frames.atoms)} of {n_atoms} atoms: "
            "no window can start from them; run with --atoms all"
        )
    biased = BiasedRun.of(frames, folder / INPUT, folder)
    names = tuple(variable.name for variable in frames.variables)
    given = plumed or folder / INPUT
    bias = PlumedBias(given, molecule, temperature=frames.temperature, cvs=names)
    return Run(molecule, biased, bias)


def enough_windows(run: Run, names: Sequence[str], highest: float, number: int) -> FreeEnergy:
    """A rough free energy with as many bins as it takes windows, ``number`` at least.

    Finer bins see sharper bends: it is looked at again until it is enough.
    """
    temperature = run.frames.temperature
    assert temperature is not None, "looked at when the run was read"
    samples = samples_of(run)
    for _ in range(LOOKS):
        rough = rough_free_energy(run, samples, names, number)
        needed = windows_needed(rough, temperature, highest)
        if needed <= number:
            break
        logger.info("%d windows along each CV, for %d would not overlap", needed, number)
        number = needed
    return rough


def samples_of(run: Run) -> WeightedSamples:
    """Frames of a run with their weights, however few they are worth: a rough look is enough."""
    return replace(reweight_runs([run.biased], n_bootstrap=0), unknown="")


def rough_free_energy(
    run: Run, samples: WeightedSamples, names: Sequence[str], number: int
) -> FreeEnergy:
    """Free energy along one CV or over two as the run knows it, bins as many as windows.

    Of metadynamics and OPES what the bias adds up to, where frames have been; else the frames
    weighed.
    """
    found = (
        free_energy_profile(samples, names[0], number)
        if len(names) == 1
        else free_energy_surface(samples, names, number)
    )
    alone = (
        run.biased.free_energy_of_bias(names[0], found.centres[0])
        if len(names) == 1
        else run.biased.surface_of_bias(names, found.centres)
    )
    if alone is None:
        return found
    return replace(found, free_energy=np.where(np.isfinite(found.free_energy), alone, np.nan))
