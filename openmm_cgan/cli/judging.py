"""A model judged on the System and the frames of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm
from openmm import app

from openmm_cgan.cgan import ConditionalGAN
from openmm_cgan.cli.importance import weigher_by
from openmm_cgan.cli.molecules import runs_in
from openmm_cgan.frames import Frames, frames_of_atoms, read_frames
from openmm_cgan.metrics.consistency import MicroMacroConsistency, micro_macro_consistency
from openmm_cgan.metrics.judging import Judgement, SeedsWorth, seeds_worth, weights_worth
from openmm_cgan.molecules import Molecule
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import Screen, propose
from openmm_cgan.reporters.moves import Asked, SeedMove, Start
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.rotors import exchange_hydrogens, find_rotors
from openmm_cgan.run_folders import FRAMES, INPUT
from openmm_cgan.states import box_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openmm_cgan.reporters.attempts import Attempt

SCREENED = 500  # configurations that the screens look at
AT = 8  # values of the CVs at which laws are compared
NEAR = 200  # frames in each half there
SEEDS = 20  # attempts
TIMESTEP = 0.002  # ps, of healing


def judge_model(
    model: Path,
    folders: list[Path],
    *,
    n: int = 4000,
    seeds: int = SEEDS,
    seed: int = 0,
    device: str = "cpu",
) -> Judgement:
    """Judge a model.

    Parameters
    ----------
    model : Path
    folders : list of Path
        Of runs or umbrella windows of its molecule; the System is that of the first.
    n : int
        Configurations to weigh, one energy each.
    seeds : int
        Attempts at seeds; 0: none are tried.
    seed : int
    device : str
        Of torch, for the model.

    Raises
    ------
    ValueError
        If model and run do not belong together, or no frames are of the model's temperature.
    """
    molecule, folders = runs_in(folders)
    gan = ConditionalGAN.load(model, molecule.topology, device)
    found = read_frames([f / FRAMES for f in folders], temperature=gan.temperature)
    frames = frames_of_atoms(found, gan.atoms)
    rotors = find_rotors(molecule.topology, gan.atoms.tolist())
    rng = np.random.default_rng(seed)  # a run of nanoseconds has not turned its methyl groups
    frames = replace(frames, positions=exchange_hydrogens(frames.positions, rotors, rng))
    names = tuple(variable.name for variable in gan.variables)
    plumed = folders[0] / INPUT
    bias = PlumedBias(plumed, molecule, temperature=gan.temperature, cvs=names)
    why, weights, energies = "", None, 0
    try:
        move = weigher_by(gan, model, molecule, plumed)
    except ValueError as error:
        why = str(error).removeprefix(f"{model} gives no free energy: ")
    else:
        weights = weights_worth(move, frames.positions, frames.cvs, n, seed)
        energies = move.potential.evaluated
    tried = _seeds(gan, molecule, bias, frames, seeds, seed) if seeds else None
    return Judgement(
        why,
        weights,
        tried,
        _screened(gan, molecule, bias, frames, seed),
        _consistency(gan, molecule, bias, frames, seed),
        gan.variables,
        energies,
    )


def _screened(
    gan: ConditionalGAN, molecule: Molecule, bias: PlumedBias, frames: Frames, seed: int
) -> dict[str, int]:
    """What the screens say of configurations at the CVs of frames; of whole systems only."""
    if gan.n_atoms != molecule.system.getNumParticles():
        return {}
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(frames))[:SCREENED]
    screen = Screen(molecule, molecule.positions, bias)
    return propose(gan, frames.cvs[rows], screen, seed=seed).counts()


def _consistency(
    gan: ConditionalGAN, molecule: Molecule, bias: PlumedBias, frames: Frames, seed: int
) -> MicroMacroConsistency | None:
    """Laws at values of the CVs, with their floors; None where there are too few frames."""
    near = min(NEAR, len(frames) // 4)
    if gan.n_atoms != molecule.system.getNumParticles() or near < 2:
        return None
    rng = np.random.default_rng(seed)
    at = frames.cvs[rng.permutation(len(frames))[:AT]]
    return micro_macro_consistency(
        lambda cvs, own: gan.sample(cvs, seed=own), bias.cv_values, frames, at, n_frames=near,
        seed=seed,
    )  # fmt: skip


def _seeds(
    gan: ConditionalGAN, molecule: Molecule, bias: PlumedBias, frames: Frames, n: int, seed: int
) -> SeedsWorth | None:
    """Seeds at CVs drawn uniformly, healed as in a run; None where frames are of a part."""
    if gan.n_atoms != molecule.system.getNumParticles():
        return None
    settings = ProposalSettings()
    attempt = _attempts(gan, molecule, bias, frames, settings, seed)
    return None if attempt is None else seeds_worth(attempt, n, settings.heal_steps, gan.variables)


def _attempts(
    gan: ConditionalGAN,
    molecule: Molecule,
    bias: PlumedBias,
    frames: Frames,
    settings: ProposalSettings,
    seed: int,
) -> Callable[[int], Attempt] | None:
    integrator = openmm.LangevinMiddleIntegrator(gan.temperature, 1.0, TIMESTEP)
    simulation = app.Simulation(
        molecule.topology, molecule.system, integrator,
        openmm.Platform.getPlatformByName("Reference"),
    )  # fmt: skip
    simulation.context.setPositions(molecule.positions)
    plain = bias.restrained(gan.cv_range.mean(axis=1), 0.0)
    asked = Asked(gan, plain, "uniform", settings, 500)
    if SeedMove.refusal_in(asked, simulation) is not None:
        return None
    periodic = molecule.system.usesPeriodicBoundaryConditions()
    box = box_of(simulation.context.getState()) if periodic else None
    assert gan.temperature is not None, "asked for before"
    start = Start(simulation, np.asarray(gan.atoms), molecule.positions, box, gan.temperature)
    move: Any = SeedMove.prepare(asked, start)
    rng = np.random.default_rng(seed)

    def attempt(number: int) -> Attempt:
        here: NDArray = frames.positions[rng.integers(len(frames))].astype(float)
        return move.attempt(here, box, np.random.default_rng([seed, number]))

    return attempt
