"""The reporters of a bias: one acts between the steps, one saves it with a checkpoint."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm

from openmm_cgan.atomic_files import require_writable
from openmm_cgan.plumed.backends import Backend
from openmm_cgan.quantities import number_of_steps
from openmm_cgan.states import positions_and_box

if TYPE_CHECKING:
    from openmm.app import Simulation

log = logging.getLogger("openmm_cgan")


class UpdateReporter:
    """Calls the backend between steps, first at the first step of the run, as PLUMED does.

    Parameters
    ----------
    engine : Backend
    begun : bool
        Whether the step that the run stands at has been updated before.
    groups : set of int
        Force groups of the bias.
    step : int
        Where the run stands.

    Attributes
    ----------
    values : ndarray, shape (n_cvs,)
        Of the last update that computed them [CV units].
    energy : float
        The bias then [kJ/mol].
    """

    def __init__(self, engine: Backend, begun: bool, groups: set[int], step: int) -> None:
        self._engine = engine
        self._groups = groups
        self._begun, self._looked = begun, False
        self._step = -1
        self._last = 0  # the step that the Simulation was last seen at
        # the next step at which there is something to do
        self._due = self._next_due(step) if begun or not engine.strides else step
        self._positions = np.empty(0)
        self.values = np.empty(0)
        self.energy = math.nan

    def has_seen(self, step: int, positions: np.ndarray) -> bool:
        """Whether the last update knew the bias of this step, at positions (n_atoms, 3) [nm]."""
        same_step = step == self._step and not math.isnan(self.energy)
        return same_step and np.array_equal(positions, self._positions)

    def require_not_back(self, simulation: Simulation) -> None:
        """Raise if a Simulation stands at a step before the last that was seen.

        Raises
        ------
        RuntimeError
        """
        now = simulation.currentStep
        if now >= self._last:
            return
        if self._engine.static:  # it is the same bias at any step
            log.warning("the Simulation has gone back from step %d to %d", self._last, now)
            self._last = now
            return
        raise RuntimeError(
            f"the Simulation has gone back from step {self._last} to {now}, and its bias has not: "
            "what it has laid or moved since would stay. Go on from both together: "
            "bias.save_checkpoint(path), then attach(simulation, checkpoint=path) in a new run"
        )

    def describeNextReport(self, simulation: Simulation) -> dict[str, Any]:  # noqa: N802
        self._follow(simulation)
        if not self._looked and self._engine.static:  # COMMITTOR in libplumed writes at a look
            self._require_number(simulation)
        if not self._begun:
            self._begun = True
            self._update(simulation, simulation.context.getState(positions=True))
        elif not self._looked:
            state = simulation.context.getState(positions=True)
            periodic = simulation.system.usesPeriodicBoundaryConditions()
            self._engine.resume(*positions_and_box(state, periodic), simulation.currentStep)
        self._looked = True
        step = simulation.currentStep
        self._due = self._next_due(step)
        wait = 0 if self._due is None else self._due - step
        return {"steps": wait, "periodic": False, "include": ["positions"]}

    def _next_due(self, step: int) -> int | None:
        waits = [stride - step % stride for stride in self._engine.strides]
        return step + min(waits) if waits else None

    def _require_number(self, simulation: Simulation) -> None:
        """Raise ValueError where the bias is no number, as of log(phi) at a negative phi."""
        state = simulation.context.getState(positions=True)
        periodic = simulation.system.usesPeriodicBoundaryConditions()
        tell_energy(self._engine, simulation, self._groups)
        values, energy = self._engine.evaluate(
            *positions_and_box(state, periodic), simulation.currentStep
        )
        if not math.isfinite(energy):
            raise ValueError(
                f"the bias is {energy} kJ/mol where the Simulation stands, at the values {values}; "
                "positions are missing, or a function of the input has no value there"
            )

    def _follow(self, simulation: Simulation) -> None:
        """See where a Simulation stands since it was last seen."""
        self.require_not_back(simulation)
        self.tell_left_out(simulation)
        self._last = simulation.currentStep

    def tell_left_out(self, simulation: Simulation) -> None:
        """Say in the log where a Simulation has gone on by other ways than `simulation.step`."""
        now = simulation.currentStep
        if self._due is None or now <= self._due:
            return
        log.warning(
            "the run has come to step %d without simulation.step, by integrator.step or a state "
            "that was loaded: nothing was laid, moved or written from step %d on, which was due",
            now, self._due,
        )  # fmt: skip
        self._due = None

    def report(self, simulation: Simulation, state: openmm.State) -> None:
        self._last = simulation.currentStep
        self._update(simulation, state)
        self._due = self._next_due(self._last)

    def _update(self, simulation: Simulation, state: openmm.State) -> None:
        positions, box = positions_and_box(
            state, simulation.system.usesPeriodicBoundaryConditions()
        )
        step = simulation.currentStep
        tell_energy(self._engine, simulation, self._groups)
        found = self._engine.update(positions, box, step)
        if found is not None:
            self.values, self.energy = found
            self._step, self._positions = step, positions
        self._engine.upload(simulation.context)


def tell_energy(engine: Backend, simulation: Simulation, groups: set[int]) -> None:
    """Give ENERGY the potential energy of all forces but the bias."""
    if engine.needs_energy:
        others = simulation.context.getState(energy=True, groups=set(range(32)) - groups)
        engine.tell_energy(others.getPotentialEnergy()._value)


class BiasCheckpointReporter:
    """Saves the Simulation and its bias together, again and again, as ``bias.save_checkpoint``.

    Parameters
    ----------
    file : str or Path
        Replaced whole each time.
    reportInterval : int
        Steps between checkpoints.
    bias : PlumedBias
        Attached to the Simulation before this reporter is appended.
    """

    def __init__(
        self,
        file: str | Path,
        reportInterval: int,  # noqa: N803  as OpenMM's reporters have it
        bias: Any,
    ) -> None:
        self._file, self._bias = Path(file).absolute(), bias
        require_writable(self._file)
        self._interval = number_of_steps(reportInterval, "reportInterval")

    def describeNextReport(self, simulation: Simulation) -> dict[str, Any]:  # noqa: N802
        """As OpenMM asks its reporters."""
        steps = self._interval - simulation.currentStep % self._interval
        return {"steps": steps, "periodic": None, "include": []}

    def report(self, simulation: Simulation, state: openmm.State) -> None:
        """Save."""
        self._bias.save_checkpoint(self._file)
