"""The native backend: a PLUMED input compiled to OpenMM forces.

`forces` makes the forces. Nothing is deposited or printed in a force evaluation:
`NativeBackend.update` has `runs` do that, between steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openmm

from openmm_cgan.checkpoints import SavedState
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.plumed.actions import Action, Print, Restraint
from openmm_cgan.plumed.actions.committor import StopRunError
from openmm_cgan.plumed.actions.dumps import DumpMassCharge
from openmm_cgan.plumed.actions.variables.centers import Centroid
from openmm_cgan.plumed.actions.variables.shapes import Gyration
from openmm_cgan.plumed.actions.variables.variable import BoxKind
from openmm_cgan.plumed.files.output_files import OutputFiles
from openmm_cgan.plumed.input.language import PlumedInputError, Problem
from openmm_cgan.plumed.native.dependence import default_variables, depending, is_listed
from openmm_cgan.plumed.native.forces.bias_forces import BiasForce
from openmm_cgan.plumed.native.forces.compiler import Compiler
from openmm_cgan.plumed.native.forces.energy_force import require_same_energy
from openmm_cgan.plumed.native.forces.system_box import kind_of_box, masses_and_charges
from openmm_cgan.plumed.native.refusals import (
    check_atoms,
    check_box,
    check_finite,
    forceless,
    kept_together,
    wandering,
)
from openmm_cgan.plumed.native.runs import runs_of
from openmm_cgan.plumed.native.runs.run import RunSettings, Step, require_no_earlier
from openmm_cgan.plumed.native.values import ArgumentValues, InputValues


class NativeBackend:
    """A list of actions run by OpenMM.

    Parameters
    ----------
    actions : list of Action
    directory : Path
        Where COLVAR and HILLS go.
    temperature : float or None
        Of the run [K]; for METAD without TEMP.
    restart : bool
        Append to the files and read the hills.

    Attributes
    ----------
    actions : list of Action
    prints : list of Print
        Those that write rows.
    read : tuple of str
        The values that `evaluate` and `update` return.
    checks_always : bool
        Whether steps at which nothing is due are checked too.

    Raises PlumedInputError for a combination that has no OpenMM force.
    """

    why_not_saved = why_no_derivatives = ""  # what backends that PLUMED runs refuse

    def __init__(
        self, actions: list[Action], directory: Path, temperature: float | None, restart: bool
    ) -> None:
        self.actions, self.temperature = actions, temperature
        self.prints = [action for action in actions if isinstance(action, Print)]
        self.read: tuple[str, ...] = ()
        self._values = InputValues(actions)
        self._owner, self._biases = self._values.owners, self._values.biases
        self._files = OutputFiles(directory, restart)
        self._runs = runs_of(RunSettings(actions, self._files, temperature))
        acting = [run.action for run in self._runs if run.needs_arguments]
        self._arguments = ArgumentValues(self._values, acting)
        self._strides = {stride for run in self._runs for stride in run.strides}
        self._box = BoxKind()  # that the forces are made for
        self._forces: dict[str, list[BiasForce]] = {}  # of each bias
        self._changed: set[str] = set()  # biases that are others than those uploaded
        self.checks_always = self._updated_once = self._told = False
        self._updated = -1  # the last step that was
        self._energy: openmm.Force | None = None  # that a bias acts on
        if problems := forceless(actions):
            raise PlumedInputError(problems)

    # ---- in a System

    def forces(self, system: openmm.System) -> list[openmm.Force]:
        """The forces of all biases, not yet in the System."""
        self.set_masses(*masses_and_charges(system))
        for action in self.actions:
            if isinstance(action, Centroid | Gyration):
                action.require_weights()
        self._box = kind_of_box(system)
        compiler = Compiler(self._owner, system)
        self._forces = {bias.label: compiler.compile(bias) for bias in self._biases}
        for run in self._runs:
            run.take_gradients(compiler)
        self._energy = compiler.energy
        return compiler.forces([part for parts in self._forces.values() for part in parts])

    def refusals(self, system: openmm.System) -> list[Problem]:
        """What OpenMM can not do in this System."""
        return wandering(self.actions, self._owner, kind_of_box(system))

    def groups(self) -> list[tuple[int, ...]]:
        """Groups of atoms that the forces take as they are, each to be in one periodic image."""
        return kept_together(self.actions, self._box)

    def set_masses(self, masses: np.ndarray, charges: np.ndarray, guessed: bool = False) -> None:
        """Take masses [dalton] and charges [e] of all atoms of the system, shape (n_atoms,)."""
        for action in self.actions:
            if isinstance(action, Centroid | Gyration):
                action.set_masses(masses, guessed)
            elif isinstance(action, DumpMassCharge):
                action.set_masses(masses, charges)

    def upload(self, context: openmm.Context) -> None:
        """Give what has changed since the last call to a running Context."""
        for label in self._changed:
            for part in self._forces.get(label, ()):
                part.upload(context)
        self._changed.clear()
        if self._told and self._energy is not None:
            require_same_energy(self._energy, context, self._values.potential)
            self._energy = None  # once is enough

    def move(self, context: openmm.Context, centres: np.ndarray) -> None:
        """Move the centre of the only restraint of the input, in a living Context.

        Parameters
        ----------
        context : openmm.Context
        centres : ndarray, shape (n_arguments,)
            [units of the arguments]
        """
        bias = self._biases[0] if len(self._biases) == 1 else None
        if not isinstance(bias, Restraint):
            raise ValueError("only the one restraint of a bias that `restrained` has made moves")
        bias.at = tuple(float(centre) for centre in centres)
        for part in self._forces[bias.label]:
            part.upload(context)

    # ---- values

    @property
    def needs_energy(self) -> bool:
        """Whether `tell_energy` is to be called before each update."""
        return self._values.needs_energy

    def tell_energy(self, potential: float) -> None:
        """Take the energy [kJ/mol] of all but the biases."""
        self._values.potential, self._told = potential, True

    def values(
        self, positions: np.ndarray, box: np.ndarray | None, step: int = 0
    ) -> dict[str, np.ndarray]:
        """All values by name, at positions (..., n_atoms, 3) and a box (..., 3, 3) [nm]."""
        found = self._values.present(positions, box, step)
        self._values.add_all(found, positions, box)
        return found

    def cv_values(self, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """The values in `read`, shape (..., n_read); what they do not need is not computed."""
        return self._pick(self._read_values(positions, box))

    def cv_columns(self, positions: Any) -> list[Any]:
        """The values in `read` one by one, without a box: of tensors, differentiable tensors."""
        found = self._read_values(positions, None)
        return [found[name] for name in self.read]

    def _read_values(self, positions: Any, box: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in self.read:
            self._values.add(name, found, positions, box)
        return found

    def evaluate(
        self, positions: np.ndarray, box: np.ndarray | None, step: int
    ) -> tuple[np.ndarray, float]:
        """The values in `read` and the bias [kJ/mol], leaving no trace.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            [nm]
        step : int

        Returns
        -------
        ndarray, shape (n_read,)
            [units of the input]
        float
            [kJ/mol]
        """
        found = self._values.present(positions, box, step)
        self._move_to(step)
        energy = sum(self._values.bias_energies(found, positions, box))
        for name in self.read:
            self._values.add(name, found, positions, box)
        return self._pick(found), energy

    def felt(self, positions: np.ndarray, box: np.ndarray | None, step: int) -> float:
        """The energy [kJ/mol] of the biases that act at a step: parameters are as of `evaluate`."""
        found = self._values.present(positions, box, step)
        self._move_to(step)
        energies = self._values.bias_energies(found, positions, box)
        acts = (bias.weight(step) > 0 for bias in self._biases)
        return sum(x for x, is_felt in zip(energies, acts, strict=True) if is_felt)

    def _pick(self, found: dict[str, Any]) -> np.ndarray:
        values = [found[name] for name in self.read]
        if not values or np.ndim(values[0]) == 0:  # np.array is several times quicker here
            return np.array(values, dtype=float)
        return np.stack(values, axis=-1)

    def total_bias(self, found: dict[str, Any]) -> Any:
        """Sum of the biases [kJ/mol] among values by name."""
        return self._values.total_bias(found)

    def bias_of_cvs(self, cvs: np.ndarray, step: int) -> np.ndarray:
        """Sum of the biases [kJ/mol] at a step for values of `read`, shape (n, n_read)."""
        self._move_to(step)
        return self._values.bias_of(self.read, cvs)

    def default_variables(self) -> tuple[str, ...]:
        """Arguments of the biases, each once, in order; of PRINT where there is no bias."""
        return default_variables(self.actions)

    def describe(self, names: tuple[str, ...]) -> tuple[CollectiveVariable, ...]:
        """What is known of the named values; ValueError if the input does not define one."""
        return self._values.describe(names)

    def check(self, n_atoms: int) -> None:
        """Raise PlumedInputError if the input names an atom beyond the last of `n_atoms`."""
        check_atoms(self.actions, n_atoms)

    # ---- between steps

    def start(self, timestep: float, first_step_written: bool | None = None) -> None:
        """Begin a run: the time step [ps] is known; hills of an earlier run are read.

        Parameters
        ----------
        timestep : float
        first_step_written : bool, optional
            Whether an earlier run has updated the first step that comes; by default where it
            restarts one.

        Raises
        ------
        ValueError
            If a temperature is needed and missing.
        """
        self._settle(timestep)
        self._updated_once = self._files.continues(first_step_written)
        self._changed |= {run.action.label for run in self._runs if run.read()}
        for run in self._runs:
            run.begin()

    def _settle(self, timestep: float) -> None:
        """Fix what depends on the run."""
        self._values.begin(timestep)
        for run in self._runs:
            run.settle(timestep, self.temperature)

    @property
    def static(self) -> bool:
        """Whether no bias changes with time."""
        acts_always = all(bias.stride == 1 for bias in self._biases)
        return acts_always and all(run.is_static for run in self._runs)

    @property
    def remembers(self) -> bool:
        """Whether a bias acts on a path whose list of models depends on the steps before."""
        biased = [value.name for bias in self._biases for value in bias.arguments]
        return not depending(self.actions, is_listed).isdisjoint(biased)

    @property
    def strides(self) -> list[int]:
        """At which multiples of the step `update` has something to do."""
        return sorted(self._strides.union(*[run.own_strides for run in self._runs]))

    def update(
        self, positions: np.ndarray, box: np.ndarray | None, number: int
    ) -> tuple[np.ndarray, float] | None:
        """Do all that is due at a step; return what `evaluate` had before.

        Where only what needs no more than its own arguments is due, that alone is done, and None
        returned.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            [nm]
        number : int
            Of the step.

        Raises
        ------
        StopRunError
            If COMMITTOR asks for it; all else of the step is done then.
        """
        self._move_to(number)
        self._updated = number
        first = not self._updated_once
        in_full = (
            first or self.checks_always or any(number % stride == 0 for stride in self._strides)
        )
        if in_full:
            check_box(self._box, box)
            check_finite(positions, number)
            values = self.values(positions, box, number)
        else:
            values = self._arguments(positions, box, number)
        time = number * self._values.timestep
        step = Step(values, positions, box, number, time, first)
        before = self._checked(step) if in_full else None
        self._act(step)
        return before

    def _checked(self, step: Step) -> tuple[np.ndarray, float]:
        """The values in `read` and the bias at a step, of which nothing is done yet."""
        for run in self._runs:
            run.check(step)
        return self._pick(step.values), float(self.total_bias(step.values))

    def _act(self, step: Step) -> None:
        stop: StopRunError | None = None
        for run in self._runs:
            try:
                if run.act(step):
                    self._changed.add(run.action.label)
            except StopRunError as asked:
                stop = stop or asked
        self._updated_once = True
        if stop is not None:
            raise stop

    def _move_to(self, number: int) -> None:
        if not self._values.begun:
            require_no_earlier(self._runs)
        for run in self._runs:
            run.move_to(number)

    def resume(self, positions: np.ndarray, box: np.ndarray | None, number: int) -> None:
        """Begin lists at the step that an earlier run, which this one restarts, has ended on.

        Parameters are those of `update`.
        """
        if self._updated < 0:
            values = self._arguments(positions, box, number)
            step = Step(values, positions, box, number, number * self._values.timestep, False)
            for run in self._runs:
                run.look_back(step)

    # ---- with a checkpoint

    def saved(self, step: int) -> SavedState:
        """What the run has gathered up to a step."""
        kept = {run.action.label: run.saved() for run in self._runs}
        arrays = {f"{label}/{name}": x for label, own in kept.items() for name, x in own.items()}
        return SavedState(step, self._updated, self._files.lengths(), arrays)

    def go_on(self, timestep: float, state: SavedState) -> None:
        """Go on where a saved run was, in place of `start`; files lose what came after.

        Raises
        ------
        ValueError
            If the state is of another input, or a file is not there as it was.
        """
        self._settle(timestep)
        for run in self._runs:
            run.restore_saved(state.of(run.action.label))
        self._files.go_on(state.files)
        self._updated, self._updated_once = state.updated, state.updated >= 0
        self._changed = {bias.label for bias in self._biases}
        self._move_to(state.step)
        for run in self._runs:
            run.go_on()

    def flush(self) -> None:
        """Hand what is written to the operating system."""
        self._files.flush()

    def close(self) -> None:
        """Close the files."""
        self._files.close()
