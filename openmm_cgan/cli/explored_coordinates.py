"""An exploration without CVs: coordinates are learned, biased, and asked for a difference."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.atom_selection import solute_atoms
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.cli.exploration_folder import ExplorationFolder
from openmm_cgan.cli.other_cvs import run_with
from openmm_cgan.explore.circle import Outcome
from openmm_cgan.explore.coordinate_rounds import (
    LABEL,
    MODEL,
    RoundSettings,
    learn_in_rounds,
    metadynamics_along,
)
from openmm_cgan.explore.coverage import crossings
from openmm_cgan.explore.torsions import turning_torsions
from openmm_cgan.free_energy.biased_runs import BiasedRun, reweight_runs
from openmm_cgan.free_energy.samples import Estimate, WeightedSamples
from openmm_cgan.learned_variable import Inputs, LearnedVariable
from openmm_cgan.run_folders import INPUT
from openmm_cgan.testsystems import Molecule
from openmm_cgan.windows.platforms import fastest_platform

logger = logging.getLogger("openmm_cgan")

COORDINATES, BIASED, BIAS, CVS = "coordinates", "biased-1", "biased.dat", "cvs.dat"
HEIGHT, PACE = 0.5, 250  # kT, steps
GENTLY = 2  # less bias than gets over the barrier by itself: its frames are to be weighed
LEFT_OUT = 0.2  # of the run, while its bias grew
AGREEMENT = 2.0  # standard errors by which halves may differ
CROSSINGS = 10  # between the states: fewer, and no error is known
FRAMES_EVERY = 100
FEWEST = 10 * FRAMES_EVERY  # steps, of a run along the coordinates
NOTHING = Estimate(math.nan, math.nan)


def torsion_inputs(molecule: Molecule) -> Inputs:
    """The torsions about all bonds of the solute that turn, as lines of PLUMED.

    Raises
    ------
    ValueError
        If there are none.
    """
    found = turning_torsions(molecule.topology, (), solute_atoms(molecule.topology).tolist())
    if not found:
        raise ValueError(
            "no bond of the molecule turns that has heavy atoms at both ends: no coordinates are "
            "learned of torsions; give CVs by --plumed"
        )
    names = tuple(f"t{k}" for k in range(1, len(found) + 1))
    lines = [
        f"{name}: TORSION ATOMS={','.join(str(a + 1) for a in torsion.atoms)}  # {torsion.name}"
        for name, torsion in zip(names, found, strict=True)
    ]
    return Inputs("\n".join(lines) + "\n", names, (2 * np.pi,) * len(found))


def find_coordinates(
    molecule: Molecule, folder: Path, settings: RoundSettings, say: Callable[[str], None]
) -> LearnedVariable:
    """Learn coordinates from one structure, and write the file that names them, ``cvs.dat``.

    The rounds that the folder holds already are gone on with.
    """
    inputs = torsion_inputs(molecule)
    say(f"coordinates are learned of {len(inputs.names)} torsions: a diffusion map in rounds")
    place = folder / COORDINATES
    learned = learn_in_rounds(molecule, inputs, place, settings, resume=True)
    path = (place / MODEL).absolute()
    if not learned.is_in(path):  # a run goes on with the very file that it began with
        learned.save(path)
    names = ",".join(f"{LABEL}.node-{k}" for k in range(learned.n_coordinates))
    lines = learned.variable_lines(path, LABEL)
    wall = learned.plumed_lines(path, LABEL).splitlines()[-1]
    remark = f"# a bias along them needs a wall where nothing was learned:\n# {wall}\n"
    write_atomically(folder / CVS, f"{lines}{remark}PRINT ARG={names} STRIDE=100 FILE=COLVAR\n")
    say(
        f"{learned.n_coordinates} coordinates after {_rounds_made(folder)} rounds of "
        f"{settings.steps} steps; eigenvalues {learned.found.eigenvalues.round(3).tolist()}; "
        f"{folder / CVS} names them"
    )
    return learned


def _rounds_made(folder: Path) -> int:
    return len(list((folder / COORDINATES).glob("round-*")))


def rounds_of(place: ExplorationFolder) -> RoundSettings:
    """Rounds under the conditions of an exploration, on the platform that is the quickest.

    Raises
    ------
    ValueError
        If the budget is less than one round.
    """
    settings = place.settings
    most = min(RoundSettings.most, settings.budget_steps // RoundSettings.steps)
    if most == 0:
        raise ValueError(
            f"a budget of {settings.budget_steps:,} steps is less than one round, which has "
            f"{RoundSettings.steps:,}: give more by --budget-steps"
        )
    return RoundSettings(
        most=most,
        temperature=settings.temperature,
        timestep=settings.timestep,
        platform=place.platform
        or fastest_platform(place.molecule.system, place.molecule.positions),
        seed=settings.seed,
    )


@dataclass(frozen=True)
class Seen:
    """What a run along the coordinates says of the difference.

    Attributes
    ----------
    whole : Estimate
    halves : (Estimate, Estimate)
    crossings : int
        From one state to the other, by frames.
    unknown : str
        Why there is no number; empty where there is one.
    """

    whole: Estimate
    halves: tuple[Estimate, Estimate]
    crossings: int
    unknown: str = ""

    def why_not(self, tolerance: float) -> str:
        """Why it is no number yet; empty where it is."""
        error = self.whole[1]
        if self.crossings < CROSSINGS:
            return f"the run went {self.crossings} times between the states, {CROSSINGS} needed"
        if self.unknown:
            return self.unknown
        if not error <= tolerance:
            return f"its error is {error:.2f} kJ/mol, {tolerance:g} wanted"
        first, second = self.halves
        apart = abs(first[0] - second[0]) / np.hypot(first[1], second[1])
        if not apart <= AGREEMENT:
            return f"its halves differ by {apart:.1f} standard errors"
        return ""


def explore_without_cvs(
    place: ExplorationFolder, rounds: RoundSettings, say: Callable[[str], None]
) -> Outcome:
    """Learn coordinates, run metadynamics along them until the difference is known.

    Parameters
    ----------
    place : ExplorationFolder
        Its input defines the CV of the difference, which is not biased.
    rounds : RoundSettings
    say : callable
        Told of what is done and why.

    Returns
    -------
    Outcome
    """
    settings = place.settings
    learned = find_coordinates(place.molecule, place.folder, rounds, say)
    path = (place.folder / COORDINATES / MODEL).absolute()
    spent = _rounds_made(place.folder) * rounds.steps
    height = HEIGHT * GAS_CONSTANT * settings.temperature
    factor = max(2.0, settings.barrier / (GAS_CONSTANT * settings.temperature) / GENTLY)
    text = learned.plumed_lines(path, LABEL) + metadynamics_along(learned, height, PACE, factor)
    write_atomically(place.folder / BIAS, text)
    last = 0
    value, error, why = math.nan, math.nan, "nothing is left for a run along the coordinates"
    for end in _ends(settings.biased_steps, settings.budget_steps - spent):
        say(f"metadynamics along the coordinates, to step {end:,}")
        place.run(BIASED, place.folder / BIAS, end, frames_every=FRAMES_EVERY)
        seen = look(place)
        why = seen.why_not(settings.tolerance)
        value, error = seen.whole
        if not why:
            said = f"{settings.difference}: {value:.2f} +- {error:.2f} kJ/mol"
            say(f"{said}; {seen.crossings} crossings, halves agree")
            return Outcome(True, value, error, said, spent + end)
        say(f"not yet {value:.2f} +- {error:.2f} kJ/mol: {why}")
        last = end
    reason = f"not converged, because the budget is spent and {why}"
    say(reason)
    return Outcome(False, value, error, reason, spent + last)


def _ends(first: int, budget: int) -> Iterator[int]:
    """Lengths of the run at which it is looked at: each half as long again, within the budget."""
    end = 0
    while end < budget and budget >= FEWEST:
        end = min(budget, end + max(end // 2, first))
        yield end


def look(place: ExplorationFolder) -> Seen:
    """What the run so far says of the difference."""
    folder = place.folder / BIASED
    run = BiasedRun.of(place.frames(BIASED), folder / INPUT, folder)
    difference = place.difference
    run = run_with(run, [difference.name], place.plumed_input)
    between = crossings(difference.sides(run.frames.cvs, run.frames.variables))
    try:
        samples = reweight_runs([run], skip=LEFT_OUT, seed=place.settings.seed)
        whole = difference.estimate(samples)
        halves = tuple(difference.estimate(half) for half in halves_of(samples))
    except ValueError as none:  # a state was not visited
        return Seen(NOTHING, (NOTHING, NOTHING), between, str(none))
    return Seen(whole, (halves[0], halves[1]), between, samples.unknown)


def halves_of(samples: WeightedSamples) -> list[WeightedSamples]:
    """The earlier and the later samples of one run.

    Neither is refused for being worth few: errors that are then too small make it harder for them
    to agree, not easier.
    """
    order = np.argsort(samples.frame)
    middle = len(order) // 2
    known = replace(samples, unknown="")
    return [known.select(rows) for rows in (order[:middle], order[middle:])]
