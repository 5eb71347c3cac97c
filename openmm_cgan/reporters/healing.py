"""A second Context, without the bias, in which candidates are judged and healed.

The running Context must not see a candidate: PLUMED would deposit a hill and print a row at it, and
a NaN would stay. Healing is a restrained minimisation and short restrained dynamics at the CVs
asked for; then the restraint is gone and what came out is judged again. Among other atoms nothing
is minimised but what clashes: the generated atoms push the others aside (`insertion`), and the
restrained dynamics goes on from there, at temperature all the time.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.constraints import masses_of
from openmm_cgan.potentials import global_parameters, system_without
from openmm_cgan.proposals import PASSED, Proposals, Screen, cv_differences, cv_tolerances
from openmm_cgan.reporters.attempts import ENERGY_NOT_FINITE, Attempt
from openmm_cgan.reporters.bath import Bath
from openmm_cgan.reporters.contexts import (
    context_like,
    degrees_of_freedom,
    follow_parameters,
    verlet_step,
)
from openmm_cgan.reporters.insertion import (
    REDRAW_EVERY,
    Insertion,
    Moment,
    moment_of,
    why_not_pushed,
)
from openmm_cgan.reporters.rest_energy import RestEnergy
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.reporters.surroundings import Surroundings

ENERGY_TOO_HIGH = "energy too high"
HEALING_FAILED = "healing failed"
LEFT_TARGET = "left target"

log = logging.getLogger("openmm_cgan")

FORCE_TOLERANCE = 10.0  # kJ/mol/nm: where minimisation may stop, OpenMM's default
LARGEST_PHASE = 0.5  # of a vibration, in one step of Verlet's, which is stable below 2
# Of the steps of healing. What has arrived among other atoms is some 1 kJ/mol an atom too high, and
# that goes within 0.1 ps: the other half is for it.
PUSHING = 1 / 2


class HealingContext:
    """Judges and heals candidates with the forces of a simulation, its bias left out.

    The dynamics is Verlet with velocities redrawn every 25 steps (Andersen's thermostat). A
    Langevin integrator would draw its noise from where the running one does (on the Reference
    platform there is one stream in a process), so that a refused proposal would change the run; and
    so healing repeats from a recorded seed.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        With the Context to be copied; it is only read.
    surroundings : Surroundings
    temperature : float
        [K]
    settings : ProposalSettings
    """

    def __init__(
        self,
        simulation: app.Simulation,
        surroundings: Surroundings,
        temperature: float,
        settings: ProposalSettings,
    ) -> None:
        self.surroundings = surroundings
        self.settings = settings
        self.temperature = temperature
        self.kT = GAS_CONSTANT * temperature
        self.tolerance = cv_tolerances(settings.screen, surroundings.variables, None)
        self.kappa = self._force_constants(simulation)
        system = system_without(simulation.system, surroundings.bias.force_groups())
        self._followed = global_parameters(system)
        self._rest = RestEnergy(simulation, system, surroundings.atoms)  # the restraint is not yet
        centres = surroundings.bias.cv_values(surroundings.positions, surroundings.box)
        self._restraint = surroundings.bias.restrained(centres, self.kappa)
        self._restraint.add_to(system)
        self._groups = set(range(32)) - set(self._restraint.force_groups())
        self._constraint_tolerance = simulation.integrator.getConstraintTolerance()
        self._context = context_like(simulation, system)
        self._bath = Bath(system)
        self._insertion = self._insertion_into(simulation)
        self.n_dof = degrees_of_freedom(system, surroundings.atoms.tolist())
        if self._rest.is_any:
            self.n_dof *= 2  # how they touch their surroundings varies as much as they themselves

    def _insertion_into(self, simulation: app.Simulation) -> Insertion | None:
        """What pushes other atoms aside; None where there are none, or where they cannot be."""
        here = self.surroundings
        if not here.has_others:
            return None
        system = system_without(simulation.system, here.bias.force_groups())
        if reason := why_not_pushed(system, here.atoms):
            log.warning(
                "what surrounds the generated atoms is minimised and heated, not pushed aside, and "
                "takes longer to settle: %s", reason,
            )  # fmt: skip
            return None
        return Insertion(simulation, system, here)

    def _force_constants(self, simulation: app.Simulation) -> NDArray[np.float64]:
        """What the settings say; else as the tolerances ask, but no stiffer than a step can bear.

        A CV whose range is narrow would vibrate faster than Verlet can follow: its frequency
        times the time step is kept below `LARGEST_PHASE`.
        """
        given = self.settings.kappa
        if given is not None:
            if np.shape(given) not in ((), self.tolerance.shape):
                raise ValueError(
                    f"kappa is {given}; expected one number, or one for each of the "
                    f"{len(self.tolerance)} CVs"
                )
            return np.array(np.broadcast_to(np.asarray(given, float), self.tolerance.shape))
        step = verlet_step(simulation.integrator)
        masses = self.surroundings.cv_masses(masses_of(simulation.system))
        kappa = np.minimum(4 * self.kT / self.tolerance**2, masses * (LARGEST_PHASE / step) ** 2)
        self.tolerance = 2 * np.sqrt(self.kT / kappa)  # no less than the restraint can hold
        return kappa

    def follow(self, context: openmm.Context, temperature: float) -> None:
        """Take over the parameters of the running Context (an alchemical lambda, say).

        Parameters
        ----------
        context : openmm.Context
        temperature : float
            [K]
        """
        self.temperature, self.kT = temperature, GAS_CONSTANT * temperature
        follow_parameters(self._followed, context, self._context)
        self._rest.follow(context)
        if self._insertion is not None:
            self._insertion.follow(context)

    def energies(self, positions: NDArray) -> NDArray:
        """Potential energies without the bias [kJ/mol].

        Parameters
        ----------
        positions : ndarray, shape (n, n_atoms, 3)
            Whole systems [nm]; constraints are applied.

        Returns
        -------
        ndarray, shape (n,)
            Infinite where the energy could not be evaluated.
        """
        energies = np.full(len(positions), np.inf)
        for i, configuration in enumerate(positions):
            with contextlib.suppress(openmm.OpenMMException):
                self._place(configuration)
                energies[i] = self._energy()
        return np.where(np.isnan(energies), np.inf, energies)

    def heal(self, positions: NDArray, target: NDArray, seed: int) -> Moment | None:
        """Bring a candidate to its place, and run it at its target.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            The whole system [nm]; the current one but for the generated atoms.
        target : ndarray, shape (n_cvs,)
        seed : int
            Of the velocities.

        Returns
        -------
        Moment or None
            None where it could not be healed.
        """
        rng = np.random.default_rng(seed)
        try:
            if self._insertion is None:
                return self._minimised_and_run(positions, target, rng)
            return self._pushed_and_run(self._insertion, positions, target, rng)
        except openmm.OpenMMException:
            return None

    def _minimised_and_run(
        self, positions: NDArray, target: NDArray, rng: np.random.Generator
    ) -> Moment:
        """All atoms minimised, then run; all velocities are drawn anew again and again."""
        self._place(positions)
        self._restraint.move_restraint(self._context, target)
        openmm.LocalEnergyMinimizer.minimize(
            self._context, FORCE_TOLERANCE, self.settings.minimise_iterations
        )
        self._context.setVelocities(np.zeros_like(positions))  # of no step that was made
        return self._run(np.ones(len(positions), dtype=bool), self.settings.heal_steps, rng)

    def _pushed_and_run(
        self, insertion: Insertion, positions: NDArray, target: NDArray, rng: np.random.Generator
    ) -> Moment:
        """Other atoms pushed aside, then all run; what is far from all this goes on as it went."""
        steps, settings = round(PUSHING * self.settings.heal_steps), self.settings
        there = insertion.unstrained(positions, self._largest_rise(), settings.minimise_iterations)
        moment, warmed = insertion.move(there, steps, self.temperature, rng)
        self._place(moment.positions)
        self._context.setVelocities(moment.velocities)
        self._restraint.move_restraint(self._context, target)
        return self._run(warmed, settings.heal_steps - steps, rng)

    def _largest_rise(self) -> float:
        """How far an energy may be above the current one [kJ/mol]."""
        return float(self.settings.max_energy * self.kT * np.sqrt(self.n_dof))

    def _run(self, warmed: NDArray[np.bool_], steps: int, rng: np.random.Generator) -> Moment:
        """Restrained dynamics; velocities of some atoms are drawn anew again and again."""
        integrator = self._context.getIntegrator()
        for start in range(0, steps, REDRAW_EVERY):
            taken = min(REDRAW_EVERY, steps - start)
            time = taken * integrator.getStepSize()._value
            self._bath.touch(self._context, warmed, self.temperature, time, rng)
            integrator.step(taken)
        return moment_of(self._context)

    def judge(self, proposals: Proposals, screen: Screen, rng: np.random.Generator) -> Attempt:
        """Choose one of the proposals that passed, heal it, and say what became of it.

        Parameters
        ----------
        proposals : Proposals
            All at one target.
        screen : Screen
            That they passed.
        rng : numpy Generator

        Returns
        -------
        Attempt
        """
        target = proposals.targets[0]
        nowhere = np.full(target.shape, np.nan)
        passed = np.flatnonzero(proposals.accepted)
        if len(passed) == 0:
            reasons, counts = np.unique(proposals.reasons, return_counts=True)
            reason = str(reasons[counts.argmax()])  # the most frequent stands for the batch
            return Attempt(target, nowhere, nowhere, reason=reason)
        whole = self.surroundings.fill(proposals.positions[passed])
        energies = self._ranking(whole)
        order = np.argsort(energies, kind="stable")[: np.isfinite(energies).sum()]
        if len(order) == 0:
            generated = proposals.cvs[passed[0]]
            return Attempt(target, generated, nowhere, reason=ENERGY_NOT_FINITE)
        chosen = rng.choice(order[: self.settings.choose_from])
        generated = proposals.cvs[passed[chosen]]
        before = float(self.energies(whole[[chosen]])[0])
        moment = self.heal(whole[chosen], target, int(rng.integers(1, 2**31 - 1)))
        if moment is None:
            return Attempt(target, generated, nowhere, before, reason=HEALING_FAILED)
        positions, after = moment.positions, self._energy()
        healed = self.surroundings.bias.cv_values(positions, self.surroundings.box)
        attempt = Attempt(target, generated, healed, before, after)
        if reason := self._refusal(positions, target, healed, after, screen):
            return replace(attempt, reason=reason)
        velocities = None if self._insertion is None else moment.velocities
        return replace(attempt, positions=positions, velocities=velocities)

    def _ranking(self, whole: NDArray) -> NDArray[np.float64]:
        """Energies (n,) [kJ/mol] that tell good geometries: what will make room does not count."""
        insertion = self._insertion
        return self.energies(whole) if insertion is None else insertion.own_energies(whole)

    def _refusal(
        self, positions: NDArray, target: NDArray, cvs: NDArray, energy: float, screen: Screen
    ) -> str:
        """Why a healed configuration is refused, or nothing."""
        here = self.surroundings
        if not np.isfinite(energy):
            return ENERGY_NOT_FINITE
        reason = str(screen.check(positions[None, here.atoms], whole=positions)[0])
        if reason:
            return reason
        # in the restraint CVs fluctuate: the tolerance, and three deviations at the default kappa
        reach = 2.5 * self.tolerance
        if not (np.abs(cv_differences(here.variables, target, cvs)) <= reach).all():
            return LEFT_TARGET
        current = float(self.energies(here.positions[None])[0])
        rest = self._rest(positions, here.box) - self._rest(here.positions, here.box)
        rise = energy - current - rest + self._bias_rise(cvs)
        return PASSED if rise <= self._largest_rise() else ENERGY_TOO_HIGH

    def _bias_rise(self, cvs: NDArray) -> float:
        """Bias at CVs minus the bias now [kJ/mol]; 0 where the bias is no function of the CVs."""
        here = self.surroundings
        now = here.bias.cv_values(here.positions, here.box)
        try:
            there, current = here.bias.bias_of_cvs(np.stack([cvs, now]))
        except ValueError:
            return 0.0
        return float(there - current)

    def _place(self, positions: NDArray) -> None:
        if self.surroundings.box is not None:
            self._context.setPeriodicBoxVectors(*self.surroundings.box)
        self._context.setPositions(positions)
        self._context.applyConstraints(self._constraint_tolerance)

    def _energy(self) -> float:
        state = self._context.getState(energy=True, groups=self._groups)
        return state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
