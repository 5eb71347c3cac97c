"""Steered moves of chains whose densities are known, each with the terms that it was judged by."""

import dataclasses
import types
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray

from openmm_cgan.proposals import GridConditions
from openmm_cgan.reporters.moves import Asked, Start, SteeredMove
from openmm_cgan.reporters.moves.steering import SHARE, Steering
from openmm_cgan.reporters.moves.switching import Switched
from openmm_cgan.reporters.settings import ProposalSettings
from tests.cases.chain_flow import chain_flow
from tests.cases.chain_sampler import INPUTS, RANGES
from tests.cases.chain_targets import Case, T
from tests.cases.exact_runs import make_run

COARSE = 0.02  # ps: a step so long that it conserves no energy
UNEVEN = np.exp(2 * np.sin(np.linspace(-2.8, 2.8, 10)))  # how often cells of a torsion are drawn


def steered_move(
    case: Case,
    folder: Path,
    step: float = COARSE,
    kind: Any = chain_flow,
    system: openmm.System | None = None,
    **settings: Any,
) -> SteeredMove:
    """A move of a flow of a chain, or of another kind of generator, in its System or another."""
    text = INPUTS[case.cv] + (case.bias or f"PRINT ARG={case.cv} FILE=C\n")
    run = make_run(folder, text, case.chain, system)
    run.simulation.integrator.setStepSize(step)
    conditions: Any = "uniform"
    if case.grid:
        conditions = GridConditions(UNEVEN, [RANGES[case.cv]], run.bias.variables)
    given = {
        "switching_steps": 10, "switching_timestep": step, "steering_kappa": 60.0,
        "conditions": conditions, **settings,
    }  # fmt: skip
    flow = kind(case.chain, run.bias.variables)
    asked = Asked(flow, run.bias, "uniform", ProposalSettings(**given), 20)
    assert SteeredMove.refusal(asked) is None
    assert SteeredMove.refusal_in(asked, run.simulation) is None
    x = case.chain.sample(1, T, 1)[0]
    return SteeredMove.prepare(asked, Start(run.simulation, flow.atoms, x, None, T))


@dataclasses.dataclass
class Term:
    """What one move was judged by; energies in kJ/mol."""

    end: NDArray
    log_q: float  # of the places that there were
    log_q_end: float
    log_q_before: float  # of the places that there were, as if the CVs had stayed
    change: float  # of H
    work: float  # of the force that leads, without what the steps do not conserve
    bias: float  # its change
    uniform: float
    is_taken: bool


class LastUniform:
    """A Generator that remembers the last number of random()."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self.last = rng, np.nan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rng, name)

    def random(self, size: Any = None) -> Any:
        drawn = self._rng.random(size)
        self.last = drawn if size is None else self.last
        return drawn


class Watched:
    """The moves of a SteeredMove, each term of them kept as it comes along, work if asked for."""

    def __init__(self, move: SteeredMove, is_worked: bool = True) -> None:
        self.move, self._densities, self._works = move, list[float](), list[float]()
        self._switched: Switched | None = None
        switching, targets = move.switching, move.targets
        made, log_density = switching.made, targets.log_density
        integrator, steering = switching._integrator, move.steering

        def remembered(*given: Any) -> Switched:
            self._ends = given[2], given[3]
            self._works = []
            self._switched = made(*given)
            return self._switched

        def kept(places: NDArray, cvs: NDArray) -> float:
            self._densities.append(log_density(places, cvs))
            return self._densities[-1]

        def step(n: int) -> None:
            integrator.step(n)
            state = switching.context.getState(positions=True)
            here = steering.values(state.getPositions(asNumpy=True)._value)
            share = switching.context.getParameter(SHARE)
            self._works.append(self._work(steering, here, share))

        switching.made, targets.log_density = remembered, kept
        if is_worked:
            switching._integrator = types.SimpleNamespace(step=step)

    def _work(self, steering: Steering, here: NDArray, share: float) -> float:
        """Of the force when its places go on by a step, where the coordinates are."""
        start, end = self._ends
        way, n = steering.ways(start, end), self.move.switching.n_steps
        energies = [
            0.5 * steering.kappa * (steering.ways(start + s * way, here) ** 2).sum()
            for s in (share, share + 1 / n)
        ]
        return float(energies[1] - energies[0])

    def tried(self, x: NDArray, rng: np.random.Generator) -> Term | None:
        """A move from a configuration (n_atoms, 3) [nm]; None if it ended before the switch."""
        self._densities, self._switched = [], None
        uniform: Any = LastUniform(rng)
        attempt = self.move.attempt(x, None, uniform)
        if self._switched is None:
            return None
        start = self.move._with_places(x, self._ends[0])
        as_before = self.move.targets.log_density(start, self.move.bias.cv_values(x))
        before, after = (
            self.move.bias.bias_of_cvs(self.move.bias.cv_values(y[None]))[0]
            for y in (x, self._switched.positions)
        )
        return Term(
            self._switched.positions, *self._densities[:2], as_before, self._switched.change,
            sum(self._works), after - before, uniform.last, attempt.positions is not None,
        )  # fmt: skip
