r"""Steered moves: torsions led by force to where a flow sends them, while all else moves; exact.

Beside the running configuration x stand places z of its torsions theta(x), with the density
k(z|theta) of `steering`. A move draws

1. z from k(z|theta(x)), as new places for the configuration as it is (a Gibbs step);
2. z' from the flow's density of torsions, q(z'|c(x)); c are CVs that the generated atoms do not
   move, if there are any (phi and psi beside a side chain), and torsions that are not led, as they
   stand in x;
3. velocities v from Maxwell-Boltzmann;

leads (x, v) with the centre of the force from z to z' to (x', v') (`switching`), and goes on from
x' with the probability

    min(1, q(z|c(x'))/q(z'|c(x)) exp(-[dH + dV]/kT)),

dH the change of kinetic and potential energy with the force, V the bias of the run. c need not stay
during the switch: each way is drawn given c where it begins.

Why that leaves pi(x) ~ exp(-[U(x) + V(x)]/kT) as it is. Let P(x, v, z) be pi(x) times
Maxwell-Boltzmann of v times k(z|theta(x)), that is, exp(-[H(x, v; z) + V(x)]/kT) to a constant. If
x is distributed as pi, (x, v, z) is as P after steps 1 and 3. For given z and z' the switch
T: (x, v) -> (x', v') preserves volume, and with R, which reverses velocities, R T R leads back with
the places going from z' to z. The flow out of a set A of (x, v, z) into a set B of (x', -v', z') is

    integral over A, T into B, of
        P(x, v, z) q(z'|c(x)) min(1, q(z|c(x')) P(x', v', z')/[q(z'|c(x)) P(x, v, z)]),

which is symmetric in both ends: min(P q', P' q), with q' = q(z'|c(x)) and q = q(z|c(x')), the
density with which the way back from (x', -v', z') draws z, whatever c is as a function of x.
P(x', -v', z') = P(x', v', z'), so that the moves out of B into A have the same flow: detailed
balance of P, up to a reversal of velocities, which leaves P as it is. The marginal of P over v and
z is pi. Where c is not what the flow was trained on q is zero: from there nothing is moved, and
nothing to there.

Here no velocity of a switch is ever used again: x' gets new ones, and where x stays the run keeps
its own, which the switch did not know: it goes on as if nothing had been tried, bit for bit. pi(x)
with Maxwell-Boltzmann is invariant that way, too. With constraints pi is that of constrained
dynamics, Fixman's factor in it, and nothing need be known of it. The box stays, so that pi is that
of the present box, and barostats make their own steps before and after.

Nothing is asked of the atoms that the flow makes but that their torsions are known in x: they may
be a part that hangs on the rest (`ZMatrixFeatures.of_part`). Bonds, angles and stiff torsions of
the part answer as all else does; only those that turn are led.

The bias of the run does not push during a switch (PLUMED must not see it, and the torsions are led
anyhow); it counts at both ends.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.attached_parts import molecule_around
from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.bias.presence import free_force_group
from openmm_cgan.potentials import system_without
from openmm_cgan.proposals import PASSED, Sampler, Screen, TorsionSampler, hangs_on_rest
from openmm_cgan.quantities import positive
from openmm_cgan.reporters.attempts import ENERGY_NOT_FINITE, Attempt, Candidates
from openmm_cgan.reporters.contexts import energy_without
from openmm_cgan.reporters.moves import exactness
from openmm_cgan.reporters.moves.exact import OUTSIDE_CONDITIONS, chemistry_of, kept_because
from openmm_cgan.reporters.moves.held_rest import moved_variables
from openmm_cgan.reporters.moves.move import Asked, Refusal, Start, TemperatureChanges
from openmm_cgan.reporters.moves.steering import Steering
from openmm_cgan.reporters.moves.switching import Steps, Switched, Switching
from openmm_cgan.reporters.moves.torsion_targets import TorsionTargets, torsions_of

if TYPE_CHECKING:
    import openmm
    from openmm.app import Simulation


REMEMBERED = 200  # moves that the log speaks of


class SteeredMove:
    """Leads the torsions of the running configuration to others, and takes or leaves the end.

    Parameters
    ----------
    asked : Asked
        With a TorsionSampler.
    start : Start
    screen : Screen
        What the molecule must be, whatever its energy: chirality, cis/trans.

    Raises
    ------
    ValueError
        If the sampler has no torsions to draw.
    """

    mode: ClassVar[str] = "steered"
    log_level: ClassVar[int] = logging.DEBUG
    settle_steps, watch = 0, None

    def __init__(self, asked: Asked, start: Start, screen: Screen, molecule: list[int]) -> None:
        settings = asked.settings
        self.bias, self.screen = asked.bias, screen
        self.kT = GAS_CONSTANT * start.temperature
        self._changes = TemperatureChanges(self.mode)
        self._molecule = molecule
        self._n_steps = settings.switching_steps or asked.interval
        timestep = settings.switching_timestep
        self._timestep = None if timestep is None else positive(timestep, "ps", "timestep")
        box, atoms = start.box, start.atoms
        self._is_moved = moved_variables(asked.bias, atoms, start.positions, box)
        self._kappa, self._given = settings.steering_kappa, settings.conditions
        self._simulation, self._running_energy = start.simulation, np.nan
        self._costs: deque[float] = deque(maxlen=REMEMBERED)
        assert isinstance(asked.sampler, TorsionSampler), "refusal comes first"
        self.replace_sampler(asked.sampler)

    @classmethod
    def refusal(cls, asked: Asked) -> Refusal | None:
        """Why the sampler has no torsions of known density, or the targets ask for seeds."""
        if (refused := exactness.refusal_of_given(asked, cls.mode)) is not None:
            return refused
        reason = ""
        if not isinstance(asked.sampler, TorsionSampler):
            reason = f"{type(asked.sampler).__name__} has no torsion_map, as a flow has"
        else:
            try:
                torsions_of(asked.sampler)
                if not hangs_on_rest(asked.sampler):  # else CVs that stay are not known yet
                    TorsionTargets(asked.sampler, asked.settings.conditions)
            except ValueError as error:
                reason = str(error)
        return Refusal.of(cls.mode, reason)

    @classmethod
    def refusal_in(cls, asked: Asked, simulation: Simulation) -> Refusal | None:
        """Why torsions cannot be steered exactly in a simulation."""
        return Refusal.of(cls.mode, exactness.why_not_steered(simulation, asked.bias))

    @classmethod
    def prepare(cls, asked: Asked, start: Start) -> Self:
        """Make the screen, of the whole molecules to which the torsions belong.

        Raises
        ------
        ValueError
            As for the class.
        """
        topology, own = start.simulation.topology, start.atoms.tolist()
        molecule = sorted([*own, *molecule_around(topology, own)])
        kept = chemistry_of(asked)
        screen = Screen(topology, start.positions[molecule], None, kept, molecule)
        return cls(asked, start, screen, molecule)

    @classmethod
    def why_not_replaced(cls, new: Sampler, now: Sampler) -> str:
        """Why a sampler cannot take the place of the one there is; empty if it can."""
        if not isinstance(new, TorsionSampler):
            return f"{type(new).__name__} has no torsion_map"
        if not np.array_equal(np.sort(new.atoms), np.sort(np.asarray(now.atoms))):
            return "it makes other atoms"
        return ""

    def replace_sampler(self, sampler: Sampler) -> None:
        """Steer to where another sampler sends torsions from now on.

        Raises
        ------
        ValueError
            If it has none to draw.
        """
        if not isinstance(sampler, TorsionSampler):
            raise ValueError(f"{type(sampler).__name__} has no torsion_map")
        topology = self._simulation.topology
        targets = TorsionTargets(sampler, self._given, topology, self._is_moved)
        steering = Steering(targets.rows[targets.is_drawn], self._kappa)
        system = system_without(self._simulation.system, self.bias.force_groups())
        group = free_force_group(system, None)
        steps = Steps(self._n_steps, self._timestep)
        self.switching = Switching(self._simulation, system, steering, group, steps)
        self.targets, self.steering = targets, steering
        self._torsions = Steering(targets.rows, self._kappa)  # those that are not led as well

    def follow(self, context: openmm.Context, temperature: float) -> None:
        """Take over parameters and box of the running Context, its energy, and the temperature."""
        self.switching.follow(context)
        self._running_energy = energy_without(context, self.bias.force_groups())
        kT = GAS_CONSTANT * temperature
        if kT != self.kT:
            self._changes.say(temperature)
            self.kT = kT
            self._costs.clear()

    def attempt(
        self,
        positions: NDArray[np.float64],
        box: NDArray[np.float64] | None,
        rng: np.random.Generator,
    ) -> Attempt:
        """Make one move, as any `Move`: with positions if the run goes on from the switch's end."""
        cvs = self.bias.cv_values(positions, box)
        led, torsions = self.targets.is_drawn, self._torsions.values(positions)
        places = self.steering.places(torsions[led], self.kT, rng)
        drawn, condition = self.targets.drawn(torsions, cvs, rng)
        reason = self._judged(positions) or self._unknown(positions, places, cvs)
        if reason:  # density zero: what is never moved to is never moved from
            return Attempt(condition, cvs, cvs, reason=kept_because(reason))
        velocities = self.switching.drawn_velocities(positions, self.kT, rng)
        switched = self.switching.made(positions, velocities, places, drawn[led])
        exactness.require_same_energy(self._running_energy, switched.energies[0], self.kT)
        log_ratio, reason, after = self._log_ratio(switched, cvs, box)
        if not reason and (reason := self._unknown(switched.positions, drawn[led], after)):
            log_ratio = -np.inf
        if not reason:
            back = self._with_places(switched.positions, places)
            log_ratio += self.targets.log_density(back, after)
            log_ratio -= self.targets.log_density(drawn, cvs)
        self._costs.append(-self.kT * log_ratio)
        is_taken = bool(np.log(rng.random()) < log_ratio)
        refused = {reason: 1} if reason else {}
        return Attempt(
            condition, after, after if is_taken else cvs, *switched.energies,
            PASSED if is_taken else kept_because(reason),
            switched.positions if is_taken else None,
            Candidates(1, refused, switched.evaluated),
        )  # fmt: skip

    def _log_ratio(
        self, switched: Switched, cvs: NDArray[np.float64], box: NDArray[np.float64] | None
    ) -> tuple[float, str, NDArray[np.float64]]:
        """-(dH + dV)/kT of a switch, why it is -inf, and the CVs (n_cvs,) at its end."""
        nowhere = np.full_like(cvs, np.nan)
        if not np.isfinite(switched.change):
            return -np.inf, ENERGY_NOT_FINITE, nowhere
        after = self.bias.cv_values(switched.positions, box)
        if reason := self._judged(switched.positions):
            return -np.inf, reason, after
        before, now = self.bias.bias_of_cvs(np.stack([cvs, after]))
        log_ratio = -(switched.change + now - before) / self.kT
        if not np.isfinite(log_ratio):
            return -np.inf, ENERGY_NOT_FINITE, after
        return float(log_ratio), "", after

    def _with_places(
        self, positions: NDArray[np.float64], places: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Torsions (n_torsions,) [rad] of positions, but places (n,) where they are led."""
        torsions = self._torsions.values(positions)
        torsions[self.targets.is_drawn] = places
        return torsions

    def _unknown(
        self,
        positions: NDArray[np.float64],
        places: NDArray[np.float64],
        cvs: NDArray[np.float64],
    ) -> str:
        """Why nothing leads to or from a configuration with places (n,); empty if something may."""
        torsions = self._with_places(positions, places)
        return "" if self.targets.can_be_drawn(torsions, cvs) else OUTSIDE_CONDITIONS

    def _judged(self, positions: NDArray[np.float64]) -> str:
        """Why the molecule is not the one that was given; empty if it is."""
        if not self.screen.knows_isomers:
            return PASSED
        return str(self.screen.check(positions[None, self._molecule])[0])

    @property
    def last_cost(self) -> float:
        """-kT log of the last ratio that was judged [kJ/mol], negative where it was above one."""
        return self._costs[-1] if self._costs else np.nan

    def summary(self) -> str:
        """How likely the last switches were accepted, and what they cost, in words."""
        if not self._costs:
            return ""
        costs = np.array(self._costs)
        likely = float(np.exp(-np.maximum(costs, 0.0) / self.kT).mean())
        return (
            f"the last {len(costs)} accepted with a probability of {likely:.2g} on average, median "
            f"cost {np.median(costs):.3g} kJ/mol, over {self._n_steps} steps"
        )

    def saved(self) -> dict[str, NDArray]:
        """``costs`` (n,) [kJ/mol] of the last moves."""
        return {"costs": np.array(self._costs, dtype=float)}

    def restore_saved(self, arrays: dict[str, NDArray]) -> None:
        """Take over what `saved` gave; ValueError if it does not fit."""
        costs = saved_array(arrays, "costs", (None,)).tolist()
        self._costs = deque(costs, maxlen=REMEMBERED)

    def weighed_candidates(self) -> tuple[NDArray, NDArray]:
        """None: a switch has no weight of its own."""
        return np.zeros((0, len(self.bias.variables))), np.zeros(0)
