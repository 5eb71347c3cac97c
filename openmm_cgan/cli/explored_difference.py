"""A difference along learned coordinates: metadynamics, then its bias held, until it is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from shlex import quote

import numpy as np

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.cli.exploration_folder import ExplorationFolder
from openmm_cgan.cli.explored_coordinates import COORDINATES, find_coordinates, rounds_made
from openmm_cgan.cli.explored_numbers import free_energy_command
from openmm_cgan.cli.other_cvs import run_with
from openmm_cgan.explore.added_bias import GENTLE_HEIGHT, bias_factor_for
from openmm_cgan.explore.circle import Outcome
from openmm_cgan.explore.coordinate_bias import (
    LABEL,
    held_along,
    metadynamics_along,
    write_held,
)
from openmm_cgan.explore.coordinate_rounds import MODEL, RoundSettings
from openmm_cgan.explore.coverage import crossings
from openmm_cgan.explore.legs import Known, Leg, Seen, next_leg, why_unknown
from openmm_cgan.free_energy.biased_runs import HILLS, BiasedRun, reweight_runs
from openmm_cgan.free_energy.samples import Estimate, WeightedSamples
from openmm_cgan.learned_variable import LearnedVariable
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.run_folders import INPUT

BIASED, BIAS, HELD_RUN = "biased-1", "biased.dat", "held-{}"  # the steps of metadynamics before it
PACE = 250  # steps
FRAMES_EVERY = 100
FEWEST = 10 * FRAMES_EVERY  # steps, of a run along the coordinates
NOTHING = Estimate(math.nan, math.nan)


def explore_without_cvs(
    place: ExplorationFolder, rounds: RoundSettings, say: Callable[[str], None]
) -> Outcome:
    """Learn coordinates, run along them until the difference is known.

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
    learned = find_coordinates(place.molecule, place.folder, rounds, say)
    search = _Search(place, learned, rounds_made(place.folder) * rounds.steps)
    search.begin()
    tolerance = place.settings.tolerance
    while True:
        known, left = search.known(), search.left()
        first = place.settings.biased_steps
        leg = next_leg(known, first, tolerance, left if left >= FEWEST else 0)
        if leg is None:
            return search.outcome(known, say)
        what = "the bias held" if leg.held else "metadynamics along the coordinates"
        say(f"{what}, to step {leg.end:,}: {leg.reason}")
        search.run(leg, known)


@dataclass(frozen=True)
class _Search:
    """The runs of a search; how far they are is on disk alone.

    Attributes
    ----------
    place : ExplorationFolder
    learned : LearnedVariable
    rounds : int
        Steps that the coordinates have taken.
    """

    place: ExplorationFolder
    learned: LearnedVariable
    rounds: int

    def begin(self) -> None:
        """Write the input of metadynamics, and finish what was killed."""
        place, kT = self.place, GAS_CONSTANT * self.place.settings.temperature
        factor = bias_factor_for(place.settings.barrier, kT, gently=True)
        line = metadynamics_along(self.learned, GENTLE_HEIGHT * kT, PACE, factor)
        write_atomically(place.folder / BIAS, self._lines() + line)
        flooded = place.steps_of(BIASED)
        held = HELD_RUN.format(flooded)
        for name, plumed in ((BIASED, BIAS), (held, f"{held}.dat")):
            if end := place.steps_of(name):
                place.run(name, place.folder / plumed, end, frames_every=FRAMES_EVERY)

    def known(self) -> Known:
        """How far it is."""
        place = self.place
        flooded = place.steps_of(BIASED)
        if not flooded:
            return Known()
        held = HELD_RUN.format(flooded)
        if steps := place.steps_of(held):
            return Known(flooded, 0, steps, look(place, held))
        return Known(flooded, _crossings_of(_with_states(place, BIASED), place))

    def left(self) -> int:
        """Steps that may still be made."""
        place = self.place
        runs = [
            folder.name for folder in place.folder.glob(HELD_RUN.format("*")) if folder.is_dir()
        ]
        spent = self.rounds + sum(place.steps_of(name) for name in (BIASED, *runs))
        return place.settings.budget_steps - spent

    def run(self, leg: Leg, known: Known) -> None:
        """Make a leg."""
        place = self.place
        if not leg.held:
            place.run(BIASED, place.folder / BIAS, leg.end, frames_every=FRAMES_EVERY)
            return
        name = HELD_RUN.format(known.flooded)
        path, grid = place.folder / f"{name}.dat", (place.folder / f"{name}.grid").absolute()
        if not known.held:
            write_held(grid, self.learned, read_fields(place.folder / BIASED / HILLS))
            write_atomically(path, self._lines() + held_along(self.learned, grid))
        start = place.frames(BIASED).positions[-1].astype(float)
        place.run(name, path, leg.end, start=start, frames_every=FRAMES_EVERY)

    def outcome(self, known: Known, say: Callable[[str], None]) -> Outcome:
        """What has come of it, which is told."""
        place, spent = self.place, self.place.settings.budget_steps - self.left()
        value, error = NOTHING if known.seen is None else known.seen.whole
        words = f"{place.difference.words} = {value:.2f} +- {error:.2f} kJ/mol"
        why = why_unknown(known, place.settings.tolerance)
        if not why:
            assert known.seen is not None, "it is known by what was seen"
            folder = place.folder / HELD_RUN.format(known.flooded)
            say(f"{words}; {known.seen.crossings} crossings, halves agree")
            source = f"{quote(str(folder))} --plumed {quote(str(place.plumed_input))}"
            say(f"the same from its frames: {free_energy_command(source, place.difference)}")
            return Outcome(True, value, error, words, spent)
        reason = f"not converged, because the budget is spent and {why}"
        say(reason if math.isnan(value) else f"not {words}: {reason}")
        return Outcome(False, value, error, reason, spent)

    def _lines(self) -> str:
        path = (self.place.folder / COORDINATES / MODEL).absolute()
        return self.learned.plumed_lines(path, LABEL)


def _with_states(place: ExplorationFolder, name: str) -> BiasedRun:
    """A run whose frames have the CV of the difference."""
    folder = place.folder / name
    run = BiasedRun.of(place.frames(name), folder / INPUT, folder)
    return run_with(run, [place.difference.name], place.plumed_input)


def _crossings_of(run: BiasedRun, place: ExplorationFolder) -> int:
    return crossings(place.difference.sides(run.frames.cvs, run.frames.variables))


def look(place: ExplorationFolder, name: str) -> Seen:
    """What a run under a bias that does not change says of the difference."""
    run, difference = _with_states(place, name), place.difference
    between = _crossings_of(run, place)
    try:
        samples = reweight_runs([run], seed=place.settings.seed)
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
