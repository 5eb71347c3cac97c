"""The native backend: a PLUMED input compiled to OpenMM forces.

`lowering` makes the forces. Nothing is deposited or printed in a force evaluation:
`NativeBackend.update` does that, between steps.
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import openmm

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.checkpoints import SavedState
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.plumed.actions import Action, Flush, Metad, Print, Restraint
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.committor import Committor
from openmm_cgan.plumed.actions.opes.opes import Opes
from openmm_cgan.plumed.actions.variables.centers import Centroid, VirtualAtom
from openmm_cgan.plumed.actions.variables.chains import ChainVariable
from openmm_cgan.plumed.actions.variables.paths import PathMsd
from openmm_cgan.plumed.actions.variables.shapes import Gyration
from openmm_cgan.plumed.actions.variables.surroundings import Observed
from openmm_cgan.plumed.actions.variables.variable import Variable
from openmm_cgan.plumed.files.output_files import OutputFiles
from openmm_cgan.plumed.geometry.single_frame import at_right_angles
from openmm_cgan.plumed.input.language import PlumedInputError, Problem
from openmm_cgan.plumed.native.forces.compiler import Lowering, kind_of_box
from openmm_cgan.plumed.native.forces.frame_values import chain_values
from openmm_cgan.plumed.native.refusals import (
    depends_on,
    forceless,
    is_listed,
    kept_together,
    wandering,
)
from openmm_cgan.plumed.native.runs.metad_steps import metad_run
from openmm_cgan.plumed.native.runs.print import PrintRun
from openmm_cgan.plumed.native.runs.run import Stepwise
from openmm_cgan.plumed.native.values import InputValues

log = logging.getLogger("openmm_cgan")

KB_PLUMED = 0.0083144621  # kJ/mol/K, as PLUMED multiplies TEMP


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

    Raises
    ------
    PlumedInputError
        For a combination that has no OpenMM force.
    """

    def __init__(
        self, actions: list[Action], directory: Path, temperature: float | None, restart: bool
    ) -> None:
        self.actions = actions
        self.directory = directory
        self.temperature = temperature
        self.restart = restart
        self._values = InputValues(actions)
        self._owner = self._values.owners
        self._biases = self._values.biases
        self._files = files = OutputFiles(directory)
        prints = [action for action in actions if isinstance(action, Print)]
        self.prints = [PrintRun(action, directory, files, restart) for action in prints]
        metads = [action for action in actions if isinstance(action, Metad)]
        self._metads = [metad_run(action, directory, files) for action in metads]
        self._stepwise = Stepwise(actions, directory, files)
        for run in self._stepwise.opes:
            if (kt := self._kt_or_none(run.action)) is not None:
                run.action.start(kt)
        self._keepers = [a for a in actions if isinstance(a, Bias | Committor | PathMsd)]
        self._flushes = [action.stride for action in actions if isinstance(action, Flush)]
        self._lowering = Lowering(self._owner)
        self._changed: set[str] = set()
        self._updated_once = False
        self._updated = -1  # the last step that was
        self.read: tuple[str, ...] = ()  # the values that `evaluate` and `update` return
        if problems := forceless(actions, self._owner):
            raise PlumedInputError(problems)

    def forces(self, system: openmm.System) -> list[openmm.Force]:
        """The forces of all biases, not yet in the system."""
        masses = [system.getParticleMass(i)._value for i in range(system.getNumParticles())]
        self.set_masses(np.array(masses))
        return self._lowering.forces(self._biases, system)

    def refusals(self, system: openmm.System) -> list[Problem]:
        """What OpenMM can not do in this System."""
        return wandering(self.actions, self._owner, kind_of_box(system))

    def groups(self) -> list[tuple[int, ...]]:
        """Groups of atoms that the forces take as they are, each to be in one periodic image."""
        return kept_together(self.actions, self._lowering.box)

    def set_masses(self, masses: np.ndarray) -> None:
        """Take the masses [dalton] of all atoms of the system."""
        for action in self.actions:
            if isinstance(action, Centroid | Gyration):
                action.set_masses(masses)

    # ---- values

    @property
    def needs_energy(self) -> bool:
        """Whether `tell_energy` is to be called before each update."""
        return self._values.needs_energy

    def tell_energy(self, potential: float) -> None:
        """Take the energy [kJ/mol] of all but the biases."""
        self._values.potential = potential

    def values(
        self, positions: np.ndarray, box: np.ndarray | None, step: int = 0
    ) -> dict[str, np.ndarray]:
        """All values of the input by name.

        Positions (..., n_atoms, 3) and box (..., 3, 3) are in nm; the step is for TIME.
        """
        found = self._present(positions, box, step)
        self._values.add_all(found, positions, box)
        return found

    def _present(self, positions: Any, box: Any, step: int) -> dict[str, Any]:
        """What is no function of a frame alone."""
        return self._stepwise.present_values(positions, box) | self._values.surroundings(step)

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
        """The values in `read` and the bias [kJ/mol], leaving no trace."""
        found = self._present(positions, box, step)
        energy = 0.0
        self._stepwise.move_to(step)
        for bias in self._biases:
            for value in bias.arguments:
                self._values.add(value.name, found, positions, box)
            value_here = bias.energy([found[v.name] for v in bias.arguments])
            energy += float(value_here) * bias.units.energy
        for name in self.read:
            self._values.add(name, found, positions, box)
        return self._pick(found), energy

    def _check_box(self, box: np.ndarray | None) -> None:
        made_for = self._lowering.box
        if box is None or made_for.triclinic or not made_for.periodic:
            return
        if box[1, 0] != 0 or box[2, 0] != 0 or box[2, 1] != 0:
            raise ValueError(
                "the box is triclinic now, but was rectangular in the System that the bias was "
                "added to: give that System the triclinic box by setDefaultPeriodicBoxVectors"
            )

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
        self._stepwise.move_to(step)
        return self._values.bias_of(self.read, cvs)

    def default_variables(self) -> tuple[str, ...]:
        """Arguments of the biases, each once, in order; of PRINT where there is no bias."""
        users: list[Action] = [*self._biases] or [print_.action for print_ in self.prints]
        names = dict.fromkeys(value.name for action in users for value in action.arguments)
        return tuple(
            name
            for name in names
            if not depends_on(Bias, name, self._owner)
            and not depends_on(Observed, name, self._owner)
        )

    def describe(self, names: tuple[str, ...]) -> tuple[CollectiveVariable, ...]:
        """What is known of the named values; ValueError if the input does not define one."""
        return self._values.describe(names)

    def check(self, n_atoms: int) -> None:
        """Raise if the input names an atom that a system of `n_atoms` does not have.

        Raises
        ------
        PlumedInputError
        """
        for action in self.actions:
            if not isinstance(action, Variable | VirtualAtom):
                continue
            last = max((atom for atom in action.sites if isinstance(atom, int)), default=-1)
            if last >= n_atoms:
                message = f"atom {last + 1} is beyond the last atom {n_atoms}"
                raise action.error("ATOMS", message)

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
        self._updated_once = self.restart if first_step_written is None else first_step_written
        for metad in self._metads:
            if metad.start(self.restart):
                self._changed.add(metad.action.label)
        for opes in self._stepwise.opes:
            opes.start(self.restart)
            self._changed.add(opes.action.label)
        self._stepwise.open(self.restart)

    def _settle(self, timestep: float) -> None:
        """Fix what depends on the run."""
        self._values.timestep = timestep
        for metad in self._metads:
            metad.action.start(self._kt(metad.action, metad.action.needs_temperature), timestep)
        for opes in self._stepwise.opes:
            kt = self._kt(opes.action, True)
            assert kt is not None
            opes.action.start(kt)

    def _kt(self, bias: Metad | Opes, needed: bool) -> float | None:
        kt = self._kt_or_none(bias)
        if kt is None and needed:
            raise ValueError(
                f"{bias.statement.location}: {bias.name} {bias.label} needs a "
                "temperature: give PlumedBias(..., temperature=300*kelvin) or TEMP= in the input"
            )
        return kt

    def _kt_or_none(self, bias: Metad | Opes) -> float | None:
        """The kT that a bias works with [energy unit of the input]; None where it is not known."""
        temp = bias.options.temp
        k, t = (GAS_CONSTANT, self.temperature) if temp is None else (KB_PLUMED, temp)
        return None if t is None else k * t / bias.units.energy

    @property
    def static(self) -> bool:
        """Whether no bias changes with time."""
        return not self._metads and self._stepwise.is_static

    @property
    def remembers(self) -> bool:
        """Whether a bias acts on a path whose list of models depends on the steps before."""
        biased = [value.name for bias in self._biases for value in bias.arguments]
        return any(is_listed(name, self._owner) for name in biased)

    @property
    def strides(self) -> list[int]:
        """At which multiples of the step `update` has something to do."""
        changing = self._stepwise.strides
        return sorted(self._rare_strides | changing) if changing else self._own_strides

    @cached_property
    def _own_strides(self) -> list[int]:
        return sorted(self._rare_strides)

    def update(
        self, positions: np.ndarray, box: np.ndarray | None, step: int
    ) -> tuple[np.ndarray, float] | None:
        """Write the rows and lay the hills of this step; return what `evaluate` had before.

        Where only what runs at every step is due, that alone is done, and None returned.

        Raises
        ------
        StopRunError
            If COMMITTOR asks for it; all else of the step is done then.
        """
        self._stepwise.move_to(step)
        time = step * self._values.timestep
        self._updated = step
        if self._updated_once and all(step % stride for stride in self._rare_strides):
            found = self._arguments_alone(positions, box, step)
            stop, changed = self._stepwise.act(found, positions, box, step, time, first=False)
            self._changed |= changed
            if stop is not None:
                raise stop
            return None
        self._check_box(box)
        found = self.values(positions, box, step)
        energy = float(self.total_bias(found))
        self._lowering.measure(positions, box, step)
        for metad in self._metads:
            metad.action.check_inside([found[v.name] for v in metad.action.arguments])
        values = self._pick(found)
        first = not self._updated_once
        stop, changed = self._stepwise.act(found, positions, box, step, time, first)
        self._changed |= changed
        for metad in self._metads:
            if metad.tick(found, step, time / metad.action.units.time, first):
                self._changed.add(metad.action.label)
        self._updated_once = True
        for print_ in self.prints:
            if step % print_.stride == 0:
                print_.write(found, time / print_.action.units.time)
        if any(step % stride == 0 for stride in self._flushes):
            self._files.flush()
        if stop is not None:
            raise stop
        return values, energy

    @cached_property
    def _rare_strides(self) -> set[int]:
        """Where there is more to do than what runs at every step."""
        strides = {p.stride for p in self.prints} | set(self._flushes)
        strides = strides.union(*(metad.action.strides for metad in self._metads))
        return strides | self._stepwise.rare_strides

    def _arguments_alone(
        self, positions: np.ndarray, box: np.ndarray | None, step: int
    ) -> dict[str, Any]:
        """The values that are needed at every step."""
        chains, others = self._needed_alone
        found = self._present(positions, box, step)
        if at_right_angles(box):
            values = chain_values(chains, positions, box)
            found |= zip((c.label for c in chains), values, strict=True)
        else:
            others = [*chains, *others]
        for owner in others:
            self._values.add_action(owner, found, positions, box)
        return found

    @cached_property
    def _needed_alone(self) -> tuple[list[ChainVariable], list[Action]]:
        owners = list(dict.fromkeys(self._owner[name] for name in self._stepwise.arguments))
        chains = [o for o in owners if isinstance(o, ChainVariable) and o.quick]
        return chains, [owner for owner in owners if owner not in chains]

    def resume(self, positions: np.ndarray, box: np.ndarray | None, step: int) -> None:
        """Begin lists at the step that an earlier run, which this one restarts, has ended on."""
        if self._updated < 0:
            found = self._arguments_alone(positions, box, step)
            self._stepwise.follow(found, positions, box, step)

    def upload(self, context: openmm.Context) -> None:
        """Give the hills laid since the last call, and what moves, to the running Context."""
        for metad in self._metads:
            if metad.action.label in self._changed:
                self._lowering.refresh_hills(metad.action, context)
        for opes in self._stepwise.opes:
            if opes.action.label in self._changed:
                self._lowering.refresh_kernels(opes.action, context)
        self._changed.clear()

    def move(self, context: openmm.Context, centres: np.ndarray) -> None:
        """Move the centre of the only restraint of the input, in a living Context."""
        [bias] = self._biases
        assert isinstance(bias, Restraint)
        bias.at = tuple(float(centre) for centre in centres)
        self._lowering.refresh(bias, context)

    # ---- with a checkpoint

    def saved(self, step: int) -> SavedState:
        """What the run has gathered up to a step."""
        kept: list[tuple[str, dict[str, np.ndarray]]] = [
            *((action.label, action.saved()) for action in self._keepers),
            *((metad.action.label, metad.saved()) for metad in self._metads),
            *((print_.action.label, print_.saved()) for print_ in self.prints),
        ]
        arrays = {f"{label}/{name}": x for label, own in kept for name, x in own.items()}
        return SavedState(step, self._updated, self._files.lengths(), arrays)

    def go_on(self, timestep: float, state: SavedState) -> None:
        """Go on where a saved run was, in place of `start`; files lose what came after.

        Raises
        ------
        ValueError
            If the state is of another input, or a file is not there as it was.
        """
        self._settle(timestep)
        for action in self._keepers:
            action.restore_saved(state.of(action.label))
        self._files.go_on(state.files)
        self._updated, self._updated_once = state.updated, state.updated >= 0
        self._changed = {bias.label for bias in self._biases}
        self._stepwise.move_to(state.step)
        for print_ in self.prints:
            print_.go_on(state.of(print_.action.label), state.files)
        for metad in self._metads:
            metad.go_on(state.of(metad.action.label))
        self._stepwise.open(append=True)

    def close(self) -> None:
        """Close the files."""
        self._files.close()
