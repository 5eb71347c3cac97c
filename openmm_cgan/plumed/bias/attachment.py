"""Where a bias is: its forces in a System, and the Simulation that it is attached to."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import openmm
from numpy.typing import NDArray

from openmm_cgan.plumed.backends import Backend
from openmm_cgan.plumed.bias.presence import (
    Presence,
    free_force_group,
    require_no_foreign,
    tell_others,
)
from openmm_cgan.plumed.bias.reporters import UpdateReporter, tell_energy
from openmm_cgan.plumed.bias.watch import RunWatch, require_felt
from openmm_cgan.quantities import timestep_of
from openmm_cgan.states import positions_and_box
from openmm_cgan.stepping import around_steps

if TYPE_CHECKING:
    from openmm.app import Simulation


_living: weakref.WeakSet[Attachment] = weakref.WeakSet()


class Attachment:
    """The place of one bias, which is in nothing at first.

    Attributes
    ----------
    simulation : openmm.app.Simulation or None
        That it is attached to.
    files : set of Path
        That it writes, once it is attached.
    timestep : float or None
        That of the integrator when it was attached: the length of a step for the bias [ps].
    """

    def __init__(self, files: set[Path]) -> None:
        self._presence: Presence | None = None
        self._reporter: UpdateReporter | None = None
        self.simulation: Simulation | None = None
        self.files = files
        _living.add(self)
        self.timestep: float | None = None

    @property
    def groups(self) -> set[int]:
        """Force groups of the bias in its System, as they are now."""
        return set() if self._presence is None else self._presence.groups

    def require_none(self) -> None:
        """Raise RuntimeError if it is in a System."""
        if self._presence is not None:
            raise RuntimeError("this PlumedBias is in a System already; make another for this one")

    def add(
        self,
        engine: Backend,
        system: openmm.System,
        force_group: int | None,
        to_a_copy: bool,
    ) -> Sequence[openmm.Force]:
        """Put its forces into a System; see `Presence`."""
        group = free_force_group(system, force_group)
        forces = engine.forces(system)
        does_more = not engine.static or bool(engine.strides)
        self._presence = Presence(forces, system, group, to_a_copy, does_more)
        return forces

    def require_attachable(self, simulation: Simulation) -> None:
        """Raise where it can not be attached to a Simulation; see `PlumedBias.attach`."""
        if self._reporter is not None:
            raise RuntimeError("attached already: each Simulation takes its own System and bias")
        self._require_in(simulation)
        for other in _living:
            shared = other.files & self.files if other.simulation is simulation else set()
            if shared:
                raise ValueError(
                    f"{min(shared)} is written by another bias of this Simulation: give each its "
                    "own FILE=, or its own directory"
                )

    def require_acting(
        self, simulation: Simulation, biases: bool, changes: bool, source: str
    ) -> None:
        """Raise where a Simulation does not run under it; see `PlumedBias.require_acting`.

        Parameters
        ----------
        simulation : openmm.app.Simulation
        biases : bool
            Whether its input biases at all, or measures only.
        changes : bool
            Whether it must be attached to act as it should.
        source : str
            Its input, in words.
        """
        tell_others(self._presence, simulation.system, source)
        if not biases or self.simulation is simulation:
            return  # what is attached is watched
        if changes and self.simulation is not None:
            raise RuntimeError(
                "the bias is attached to another Simulation: what it lays or moves there does not "
                "act in this one. Each takes its own System and PlumedBias"
            )
        presence = self._require_in(simulation)
        if changes:
            presence.say_no_more()
            raise RuntimeError(
                "the bias is in the System and not attached: what it does between steps (hills, "
                "moving centres, files) is not done. Call bias.attach(simulation) before the first "
                "step"
            )
        presence.say_not_attached()

    def _require_in(self, simulation: Simulation) -> Presence:
        if self._presence is None:
            require_no_foreign(simulation.system)
            raise RuntimeError(
                "call bias.add_to(system) before Simulation(...), then attach. To measure its CVs "
                "in a run that it does not bias, take an input that only prints them"
            )
        self._presence.require_in(simulation)
        self._presence.require_own_groups()
        require_felt(simulation.integrator, self.groups)
        return self._presence

    def measure(
        self, engine: Backend, simulation: Simulation, state: openmm.State
    ) -> tuple[NDArray, float]:
        """Values and bias at a state: those of the last update where it was of that state."""
        step = simulation.currentStep
        periodic = simulation.system.usesPeriodicBoundaryConditions()
        positions, box = positions_and_box(state, periodic)
        if self._reporter is not None and self._reporter.has_seen(step, positions):
            return self._reporter.values, self._reporter.energy
        tell_energy(engine, simulation, self.groups)
        return engine.evaluate(positions, box, step)

    def end(self, used: bool) -> None:
        """Say what the run has left out, if it is over; of a bias that was not used, nothing."""
        if self._presence is not None and not used:
            self._presence.say_no_more()
        if self._reporter is not None and self.simulation is not None:
            self._reporter.tell_left_out(self.simulation)

    def begin(
        self, engine: Backend, simulation: Simulation, begun: bool, temperature: float | None
    ) -> None:
        """Act from now on.

        Parameters
        ----------
        engine : Backend
            Started, or gone on.
        simulation : openmm.app.Simulation
            Attachable.
        begun : bool
            Whether the step where it stands has been updated before.
        temperature : float or None
            That the bias counts with [K].
        """
        engine.upload(simulation.context)
        self._reporter = UpdateReporter(engine, begun, self.groups, simulation.currentStep)
        self.simulation, self.timestep = simulation, timestep_of(simulation)
        simulation.reporters.append(self._reporter)
        run_watch = RunWatch(simulation, self._reporter, self.groups, temperature)
        around_steps(simulation, before=run_watch.look, after=engine.flush)
        if self._presence is not None:
            self._presence.say_no_more()
            around_steps(simulation, before=self._presence.require_kept)
