"""A second Context, without the bias, in which candidates are judged and healed.

The running Context must not see a candidate: PLUMED would deposit a hill and print a row at it, and
a NaN would stay. Healing is a restrained minimisation and short restrained dynamics at the CVs
asked for; then the restraint is gone and what came out is judged again.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.potentials import global_parameters, system_without
from openmm_cgan.proposals import PASSED, Proposals, Screen, ScreenSettings, cv_differences
from openmm_cgan.proposals.conditions import Conditions
from openmm_cgan.reporters.attempts import Attempt
from openmm_cgan.reporters.contexts import context_like, degrees_of_freedom
from openmm_cgan.states import positions_of

ENERGY_NOT_FINITE = "energy not finite"
ENERGY_TOO_HIGH = "energy too high"
HEALING_FAILED = "healing failed"
LEFT_TARGET = "left target"

FORCE_TOLERANCE = 10.0  # kJ/mol/nm: where minimisation may stop, OpenMM's default
REDRAW_EVERY = 25  # steps between two draws of the velocities


@dataclass(frozen=True)
class ProposalSettings:
    """How a ProposalReporter proposes, heals and judges.

    Exact moves look at ``temperature``, ``candidates``, ``conditions``, and at ``chirality`` and
    ``cis_trans`` of ``screen``; seeds at all but ``candidates`` and ``conditions``.

    Parameters
    ----------
    temperature : float or Quantity, optional
        Of the velocities and the healing [K]; that of the integrator by default.
    batch : int
        Configurations generated at each target.
    choose_from : int
        One of the so many lowest in energy is healed, drawn uniformly: the raw energy tells bad
        geometry, and always to take the lowest would seed one hidden basin again and again.
    screen : ScreenSettings
        What a configuration must hold before it is healed; all but the CVs also afterwards.
    kappa : float or tuple of float, optional
        Force constant of the healing restraint [kJ/mol per CV unit squared], default
        ``4 kT / cv_tolerance**2``: two standard deviations are the tolerance.
    minimise_iterations : int
        At most so many iterations of the minimiser.
    heal_steps : int
        Steps of restrained dynamics, with the step size of the run.
    max_energy : float
        A healed configuration is refused when its energy (bias included, where the bias is a
        function of the CVs) exceeds that of the current one by more than
        ``max_energy * kT * sqrt(n_dof)``: the energies of two equilibrated configurations differ by
        ``kT * sqrt(n_dof)`` (one standard deviation, n_dof harmonic degrees of freedom).
    settle_steps : int, optional
        Length of the settle window after an injection, default ``1 / friction`` of the integrator,
        or 1 ps where it has none.
    candidates : int
        Fresh configurations of an exact move.
    conditions : "uniform" or Conditions
        Where exact moves draw CV values from: uniformly over the range that the sampler was trained
        on, or an object with ``draw`` and ``log_density`` (GridConditions).
    """

    temperature: float | unit.Quantity | None = None
    batch: int = 64
    choose_from: int = 8
    screen: ScreenSettings = field(default_factory=ScreenSettings)
    kappa: float | tuple[float, ...] | None = None
    minimise_iterations: int = 200
    heal_steps: int = 250
    max_energy: float = 5.0
    settle_steps: int | None = None
    candidates: int = 100
    conditions: str | Conditions = "uniform"

    def __post_init__(self) -> None:
        for name in ("batch", "choose_from", "heal_steps", "candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not self.max_energy > 0:
            raise ValueError(f"max_energy is {self.max_energy}; expected a positive number")
        if isinstance(self.conditions, str) and self.conditions != "uniform":
            raise ValueError(
                f"conditions is {self.conditions!r}; expected 'uniform' or an object with draw and "
                "log_density, such as GridConditions"
            )


def superpose(mobile: NDArray, onto: NDArray) -> NDArray:
    """Move configurations rigidly onto another one, without reflection.

    Parameters
    ----------
    mobile : ndarray, shape (n, n_atoms, 3)
        Configurations to be moved [nm].
    onto : ndarray, shape (n_atoms, 3)
        Where to [nm].

    Returns
    -------
    ndarray, shape (n, n_atoms, 3)
        Least-squares fit of W. Kabsch, Acta Cryst. A 32, 922 (1976), doi
        10.1107/S0567739476001873.
    """
    centre = onto.mean(axis=0)
    x = mobile - mobile.mean(axis=1, keepdims=True)
    u, _, vt = np.linalg.svd(x.transpose(0, 2, 1) @ (onto - centre))
    u[:, :, -1] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))[:, None]
    return x @ (u @ vt) + centre


class Surroundings:
    """The current configuration, into which generated atoms are put; measures their CVs.

    It is a Restriction: what a Screen asks for the CVs of generated atoms.

    Parameters
    ----------
    bias : PlumedBias
    atoms : ndarray of int, shape (n_generated,)
        The generated atoms in the whole system.
    positions : ndarray, shape (n_atoms, 3)
        The whole system [nm], molecules whole.
    box : ndarray, shape (3, 3), or None
        Box vectors [nm].
    """

    def __init__(self, bias: Any, atoms: NDArray, positions: NDArray, box: NDArray | None) -> None:
        self.bias = bias
        self.variables = tuple(bias.variables)
        self.atoms = atoms
        self.move(positions, box)

    def move(self, positions: NDArray, box: NDArray | None) -> None:
        """Take another configuration of the whole system."""
        self.positions = positions
        self.box = box

    def fill(self, generated: NDArray) -> NDArray:
        """Whole systems (n, n_atoms, 3) with generated atoms superposed on the current ones."""
        whole = np.repeat(self.positions[None], len(generated), axis=0)
        whole[:, self.atoms] = superpose(generated, self.positions[self.atoms])
        return whole

    def cv_values(self, positions: NDArray) -> NDArray:
        """CVs (n, n_cvs) of generated atoms (n, n_generated, 3)."""
        return self.bias.cv_values(self.fill(positions), self.box)


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
        self.tolerance = np.broadcast_to(
            np.asarray(settings.screen.cv_tolerance, float), len(surroundings.variables)
        )
        kappa = 4 * self.kT / self.tolerance**2 if settings.kappa is None else settings.kappa
        self.kappa = np.array(np.broadcast_to(np.asarray(kappa, float), self.tolerance.shape))
        system = system_without(simulation.system, surroundings.bias.force_groups())
        self._followed = global_parameters(system)
        centres = surroundings.bias.cv_values(surroundings.positions, surroundings.box)
        self._restraint = surroundings.bias.restrained(centres, self.kappa)
        self._restraint.add_to(system)
        self._groups = set(range(32)) - set(self._restraint.force_groups())
        self._constraint_tolerance = simulation.integrator.getConstraintTolerance()
        self._context = context_like(simulation, system)
        self.n_dof = degrees_of_freedom(system)

    def follow(self, context: openmm.Context) -> None:
        """Take over the parameters of the running Context (an alchemical lambda, say)."""
        running = dict(context.getParameters())
        for name in self._followed & running.keys():
            self._context.setParameter(name, running[name])

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

    def heal(self, positions: NDArray, target: NDArray, seed: int) -> NDArray | None:
        """Minimise and run a candidate at its target.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            The whole system [nm].
        target : ndarray, shape (n_cvs,)
        seed : int
            Of the velocities.

        Returns
        -------
        ndarray, shape (n_atoms, 3), or None
            None where it could not be healed.
        """
        integrator = self._context.getIntegrator()
        starts = range(0, self.settings.heal_steps, REDRAW_EVERY)
        seeds = np.random.default_rng(seed).integers(1, 2**31 - 1, size=len(starts))
        try:
            self._place(positions)
            self._restraint.move_restraint(self._context, target)
            openmm.LocalEnergyMinimizer.minimize(
                self._context, FORCE_TOLERANCE, self.settings.minimise_iterations
            )
            for start, velocity_seed in zip(starts, seeds, strict=True):
                self._context.setVelocitiesToTemperature(self.temperature, int(velocity_seed))
                integrator.step(min(REDRAW_EVERY, self.settings.heal_steps - start))
        except openmm.OpenMMException:
            return None
        healed = self._positions()
        return healed if np.isfinite(healed).all() else None

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
        energies = self.energies(whole)
        order = np.argsort(energies, kind="stable")[: np.isfinite(energies).sum()]
        if len(order) == 0:
            generated = proposals.cvs[passed[0]]
            return Attempt(target, generated, nowhere, reason=ENERGY_NOT_FINITE)
        chosen = rng.choice(order[: self.settings.choose_from])
        generated = proposals.cvs[passed[chosen]]
        before = float(energies[chosen])
        positions = self.heal(whole[chosen], target, int(rng.integers(1, 2**31 - 1)))
        if positions is None:
            return Attempt(target, generated, nowhere, before, reason=HEALING_FAILED)
        after = self._energy()
        healed = self.surroundings.bias.cv_values(positions, self.surroundings.box)
        reason = self._refusal(positions, target, healed, after, screen)
        kept = None if reason else positions
        return Attempt(target, generated, healed, before, after, reason, kept)

    def _refusal(
        self, positions: NDArray, target: NDArray, cvs: NDArray, energy: float, screen: Screen
    ) -> str:
        """Why a healed configuration is refused, or nothing."""
        here = self.surroundings
        if not np.isfinite(energy):
            return ENERGY_NOT_FINITE
        reason = str(screen.check(positions[None, here.atoms])[0])
        if reason:
            return reason
        # in the restraint CVs fluctuate: the tolerance, and three deviations at the default kappa
        reach = 2.5 * self.tolerance
        if not (np.abs(cv_differences(here.variables, target, cvs)) <= reach).all():
            return LEFT_TARGET
        current = float(self.energies(here.positions[None])[0])
        rise = energy - current + self._bias_rise(cvs)
        limit = self.settings.max_energy * self.kT * np.sqrt(self.n_dof)
        return PASSED if rise <= limit else ENERGY_TOO_HIGH

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

    def _positions(self) -> NDArray:
        return positions_of(self._context.getState(positions=True))
