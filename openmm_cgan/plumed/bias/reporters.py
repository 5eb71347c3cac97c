"""The reporters of a bias: one acts between the steps, one saves it with a checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm

from openmm_cgan.plumed.backends import Backend
from openmm_cgan.states import positions_and_box

if TYPE_CHECKING:
    from openmm.app import Simulation


class UpdateReporter:
    """Calls the backend between steps, first at the first step of the run, as PLUMED does.

    Parameters
    ----------
    engine : Backend
    begun : bool
        Whether the step that the run stands at has been updated before.
    groups : set of int
        Force groups of the bias.

    Attributes
    ----------
    values : ndarray, shape (n_cvs,)
        Of the last update that computed them [CV units].
    energy : float
        The bias then [kJ/mol].
    """

    def __init__(self, engine: Backend, begun: bool, groups: set[int]) -> None:
        self._engine = engine
        self._groups = groups
        self._begun, self._looked = begun, False
        self._step = -1
        self._positions = np.empty(0)
        self.values = np.empty(0)
        self.energy = math.nan

    def has_seen(self, step: int, positions: np.ndarray) -> bool:
        """Whether the last update was for this step and these positions (n_atoms, 3) [nm]."""
        return step == self._step and np.array_equal(positions, self._positions)

    def describeNextReport(self, simulation: Simulation) -> dict[str, Any]:  # noqa: N802
        if not self._begun:
            self._begun = True
            self._update(simulation, simulation.context.getState(positions=True))
        elif not self._looked:
            state = simulation.context.getState(positions=True)
            periodic = simulation.system.usesPeriodicBoundaryConditions()
            self._engine.resume(*positions_and_box(state, periodic), simulation.currentStep)
        self._looked = True
        step = simulation.currentStep
        waits = [stride - step % stride for stride in self._engine.strides]
        return {"steps": min(waits, default=0), "periodic": False, "include": ["positions"]}

    def report(self, simulation: Simulation, state: openmm.State) -> None:
        self._update(simulation, state)

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
        self._file, self._interval, self._bias = Path(file), reportInterval, bias

    def describeNextReport(self, simulation: Simulation) -> dict[str, Any]:  # noqa: N802
        """As OpenMM asks its reporters."""
        steps = self._interval - simulation.currentStep % self._interval
        return {"steps": steps, "periodic": None, "include": []}

    def report(self, simulation: Simulation, state: openmm.State) -> None:
        """Save."""
        self._bias.save_checkpoint(self._file)
