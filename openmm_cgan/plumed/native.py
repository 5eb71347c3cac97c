"""The native backend: a PLUMED input compiled to OpenMM forces.

`lowering` makes the forces. Nothing is deposited or printed in a force evaluation:
`NativeBackend.update` does that, between
steps.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openmm

from openmm_cgan.plumed.actions import REMEDY, Action, Flush, Metad, Print, Restraint
from openmm_cgan.plumed.actions.biases import Bias
from openmm_cgan.plumed.actions.centers import Centroid, VirtualAtom
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.setup import WholeMolecules
from openmm_cgan.plumed.actions.shapes import Gyration
from openmm_cgan.plumed.actions.surroundings import Energy, Observed, Time
from openmm_cgan.plumed.actions.variables import Variable, describe
from openmm_cgan.plumed.colvar import CollectiveVariable, FieldWriter, domain_constants, read_fields
from openmm_cgan.plumed.language import PlumedInputError, Problem
from openmm_cgan.plumed.lowering import Lowering, kind_of_box

log = logging.getLogger("openmm_cgan")

KB_PLUMED = 0.0083144621  # kJ/mol/K, as PLUMED multiplies TEMP
KB = 0.00831446261815324  # kJ/mol/K, as OpenMM has it


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
        self._owner = {value.name: action for action in actions for value in action.outputs}
        self._biases = [action for action in actions if isinstance(action, Bias)]
        self.prints = [action for action in actions if isinstance(action, Print)]
        self._metads = [action for action in actions if isinstance(action, Metad)]
        self._flushes = [action.stride for action in actions if isinstance(action, Flush)]
        self._lowering = Lowering(self._owner)
        self._changed: set[str] = set()
        self._writers: dict[str, FieldWriter] = {}
        self._updated_once = False
        self.timestep = math.nan  # known from `start` on
        self.potential = 0.0  # energy of the System without the biases [kJ/mol]; 0 as in the driver
        self.read: tuple[str, ...] = ()  # the values that `evaluate` and `update` return
        self._refuse_what_has_no_force()

    def _refuse_what_has_no_force(self) -> None:
        problems = []
        made_whole = any(isinstance(action, WholeMolecules) for action in self.actions)
        for action in self.actions:
            if made_whole and isinstance(action, Variable | VirtualAtom) and not action.periodic:
                message = f"NOPBC after WHOLEMOLECULES is not native; {REMEDY}"
                problems.append(Problem(action.statement.location, "NOPBC", message))
        for bias in self._biases:
            for value in bias.arguments:
                if self._depends_on(Bias, value.name):
                    message = f"a bias acting on the value of a bias is not native; {REMEDY}"
                    problems.append(Problem(bias.statement.location, value.name, message))
                if self._depends_on(Observed, value.name):
                    message = f"a bias acting on TIME or ENERGY is not native; {REMEDY}"
                    problems.append(Problem(bias.statement.location, value.name, message))
        if problems:
            raise PlumedInputError(problems)

    def _depends_on(self, kind: type[Action], name: str) -> bool:
        owner = self._owner[name]
        return isinstance(owner, kind) or any(
            self._depends_on(kind, value.name) for value in owner.arguments
        )

    def _biased_variables(self) -> list[Variable]:
        """The variables that a bias acts on, directly or through functions."""
        found: dict[str, Variable] = {}
        names = [value.name for bias in self._biases for value in bias.arguments]
        while names:
            owner = self._owner[names.pop()]
            if isinstance(owner, Variable):
                found[owner.label] = owner
            names += [value.name for value in owner.arguments]
        return list(found.values())

    def forces(self, system: openmm.System) -> list[openmm.Force]:
        """The forces of all biases, not yet in the system."""
        masses = [system.getParticleMass(i)._value for i in range(system.getNumParticles())]
        self.set_masses(np.array(masses))
        return self._lowering.forces(self._biases, system)

    def refusals(self, system: openmm.System) -> list[Problem]:
        """What OpenMM can not do in this System.

        It moves whole molecules between periodic images: where NOPBC makes a value depend on the
        image, its forces would not be those of the value.
        """
        box = kind_of_box(system)
        message = f"biasing what depends on the periodic image is not native; {REMEDY}"
        return [
            Problem(variable.statement.location, f"{variable.name} {variable.label}", message)
            for variable in self._biased_variables()
            if box.periodic and variable.wanders(box)
        ]

    def set_masses(self, masses: np.ndarray) -> None:
        """Take the masses [dalton] of all atoms of the system."""
        for action in self.actions:
            if isinstance(action, Centroid | Gyration):
                action.set_masses(masses)

    # ---- values

    @property
    def needs_energy(self) -> bool:
        """Whether the input asks for the potential energy, which `potential` must then hold."""
        return any(isinstance(action, Energy) for action in self.actions)

    def values(
        self, positions: np.ndarray, box: np.ndarray | None, step: int = 0
    ) -> dict[str, np.ndarray]:
        """All values of the input by name.

        Parameters
        ----------
        positions : ndarray, shape (..., n_atoms, 3)
            [nm]
        box : ndarray, shape (..., 3, 3), or None
            [nm]
        step : int
            For TIME.
        """
        found = self._observed(step)
        for action in self.actions:
            self._compute(action, found, positions, box)
        return found

    def cv_values(self, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """The values in `read`, shape (..., n_read); what they do not need is not computed."""
        found: dict[str, Any] = {}
        for name in self.read:
            self._compute_with_arguments(self._owner[name], found, positions, box)
        return self._pick(found)

    def evaluate(
        self, positions: np.ndarray, box: np.ndarray | None, step: int
    ) -> tuple[np.ndarray, float]:
        """The values in `read` and the bias [kJ/mol], leaving no trace."""
        self._check_box(box)
        found = self._observed(step)
        energy = 0.0
        for bias in self._biases:
            for value in bias.arguments:
                self._compute_with_arguments(self._owner[value.name], found, positions, box)
            value_here = bias.energy([found[v.name] for v in bias.arguments])
            energy += float(value_here) * bias.units.energy
        for name in self.read:
            self._compute_with_arguments(self._owner[name], found, positions, box)
        return self._pick(found), energy

    def _observed(self, step: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for action in self.actions:
            if isinstance(action, Time):
                found[action.label] = step * self.timestep / action.units.time
            elif isinstance(action, Energy):
                found[action.label] = self.potential / action.units.energy
        return found

    def _check_box(self, box: np.ndarray | None) -> None:
        if box is None or self._lowering.box.triclinic or not self._lowering.box.periodic:
            return
        if box[1, 0] != 0 or box[2, 0] != 0 or box[2, 1] != 0:
            raise ValueError(
                "the box is triclinic now, but was rectangular in the System that the bias was "
                "added to: give that System the triclinic box by setDefaultPeriodicBoxVectors"
            )

    def _pick(self, found: dict[str, Any]) -> np.ndarray:
        values = [found[name] for name in self.read]
        if not values:
            return np.empty(0)
        if np.ndim(values[0]) == 0:  # np.array is several times quicker than np.stack here
            return np.array(values)
        return np.stack(values, axis=-1)

    def _compute_with_arguments(
        self, action: Action, found: dict[str, Any], positions: Any, box: Any
    ) -> None:
        if action.outputs and action.outputs[0].name in found:
            return
        for value in action.arguments:
            self._compute_with_arguments(self._owner[value.name], found, positions, box)
        self._compute(action, found, positions, box)

    @staticmethod
    def _compute(action: Action, found: dict[str, Any], positions: Any, box: Any) -> None:
        if isinstance(action, Variable):
            results = action.values(positions, box)
        elif isinstance(action, Function | Bias):
            results = action.values([found[v.name] for v in action.arguments])
        elif isinstance(action, Observed) and action.label not in found:
            raise ValueError(f"{action.name} {action.label} is no function of the positions")
        else:
            return
        found.update(zip((v.name for v in action.outputs), results, strict=True))

    def total_bias(self, found: dict[str, Any]) -> Any:
        """Sum of the biases [kJ/mol]."""
        return sum(found[f"{b.label}.bias"] * b.units.energy for b in self._biases)

    def bias_of_cvs(self, cvs: np.ndarray) -> np.ndarray:
        """Sum of the biases [kJ/mol] for values of `read`, shape (n, n_read)."""
        found: dict[str, Any] = {name: cvs[:, i] for i, name in enumerate(self.read)}
        for bias in self._biases:
            for value in bias.arguments:
                self._compute_from_read(value.name, bias, found)
            self._compute(bias, found, None, None)
        return np.broadcast_to(self.total_bias(found), len(cvs))

    def _compute_from_read(self, name: str, bias: Action, found: dict[str, Any]) -> None:
        if name in found:
            return
        owner = self._owner[name]
        if isinstance(owner, Variable):
            raise ValueError(
                f"the bias {bias.label} depends on {name}, which is not among the collective "
                f"variables {', '.join(self.read)}: name it in PlumedBias(..., cvs=...)"
            )
        for value in owner.arguments:
            self._compute_from_read(value.name, bias, found)
        self._compute(owner, found, None, None)

    def default_variables(self) -> tuple[str, ...]:
        """Arguments of the biases, each once, in order; of PRINT where there is no bias."""
        users: list[Action] = [*self._biases] or [*self.prints]
        names = dict.fromkeys(value.name for action in users for value in action.arguments)
        return tuple(
            name
            for name in names
            if not isinstance(self._owner[name], Bias) and not self._depends_on(Observed, name)
        )

    def describe(self, names: tuple[str, ...]) -> tuple[CollectiveVariable, ...]:
        """What is known of the named values.

        Raises
        ------
        ValueError
            If the input does not define one.
        """
        described = []
        for name in names:
            owner = self._owner.get(name)
            if owner is None:
                known = ", ".join(self._owner)
                raise ValueError(f"the input defines no value '{name}'; it has: {known}")
            described.append(describe(owner, name))
        return tuple(described)

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

    def start(self, timestep: float) -> None:
        """Begin a run: the time step [ps] is known; hills of an earlier run are read.

        Raises
        ------
        ValueError
            If a temperature is needed and missing.
        """
        self.timestep = timestep
        self._updated_once = self.restart  # the first step of this run was updated by the last
        for metad in self._metads:
            metad.start(self._kt(metad), timestep)
        for metad in self._metads:
            if self.restart:
                self._read_hills(metad)
            else:  # there from the beginning: a run that ends before its first hill can go on
                self._hills_writer(metad)

    def _kt(self, metad: Metad) -> float | None:
        if metad.temp is not None:
            return KB_PLUMED * metad.temp / metad.units.energy
        if metad.needs_temperature and self.temperature is None:
            raise ValueError(
                f"{metad.statement.location}: METAD {metad.label} with BIASFACTOR needs a "
                "temperature: give PlumedBias(..., temperature=300*kelvin) or TEMP= in the input"
            )
        return None if self.temperature is None else KB * self.temperature / metad.units.energy

    def _read_hills(self, metad: Metad) -> None:
        path = self.directory / metad.file
        if not path.exists():
            raise FileNotFoundError(
                f"restart: {path} with the hills of METAD {metad.label} is not there"
            )
        table = read_fields(path)
        names = [value.name for value in metad.arguments]
        metad.restore(
            np.stack([table.columns[name] for name in names], axis=-1),
            np.stack([table.columns[f"sigma_{name}"] for name in names], axis=-1),
            table.columns["height"],
        )
        self._changed.add(metad.label)
        log.info("METAD %s: %d hills read from %s", metad.label, len(table), path)

    @property
    def static(self) -> bool:
        """Whether no bias changes with time."""
        return not self._metads

    @property
    def strides(self) -> list[int]:
        """At which multiples of the step `update` has something to do."""
        paces = [metad.pace for metad in self._metads]
        return sorted({*(p.stride for p in self.prints), *paces, *self._flushes})

    def update(
        self, positions: np.ndarray, box: np.ndarray | None, step: int
    ) -> tuple[np.ndarray, float]:
        """Write the rows and lay the hills of this step; return what `evaluate` had before."""
        self._check_box(box)
        found = self.values(positions, box, step)
        energy = float(self.total_bias(found))
        for metad in self._metads:
            metad.check_inside([found[v.name] for v in metad.arguments])
        for i, action in enumerate(self.prints):
            if step % action.stride == 0:
                self._print(i, action, found, step)
        if self._updated_once:  # as PLUMED: never at the first step of a run
            for metad in self._metads:
                if step % metad.pace == 0:
                    self._lay_hill(metad, found, step)
        self._updated_once = True
        if any(step % stride == 0 for stride in self._flushes):
            for writer in self._writers.values():
                writer.flush()
        return self._pick(found), energy

    def upload(self, context: openmm.Context) -> None:
        """Give the hills laid since the last call to the running Context."""
        for label in self._changed:
            [metad] = [m for m in self._metads if m.label == label]
            self._lowering.refresh_table(metad, context)
        self._changed.clear()

    def move(self, context: openmm.Context, centres: np.ndarray) -> None:
        """Move the centre of the only restraint of the input, in a living Context."""
        [bias] = self._biases
        assert isinstance(bias, Restraint)
        bias.at = tuple(float(centre) for centre in centres)
        self._lowering.refresh(bias, context)

    def _print(self, i: int, action: Print, found: dict[str, Any], step: int) -> None:
        time = step * self.timestep / action.units.time
        row = [f" {time:f}", *(" " + action.fmt % found[v.name] for v in action.arguments)]
        if action.file is None:
            log.info("PRINT%s", "".join(row))
            return
        self._writer(f"{i}", action.file, lambda: _colvar_header(action)).write(row)

    def _lay_hill(self, metad: Metad, found: dict[str, Any], step: int) -> None:
        hill = metad.deposit([float(found[v.name]) for v in metad.arguments])
        self._changed.add(metad.label)
        writer = self._hills_writer(metad)
        time = step * self.timestep / metad.units.time
        writer.write(metad.fmt % number for number in (time, *hill))
        writer.flush()

    def _hills_writer(self, metad: Metad) -> FieldWriter:
        return self._writer(metad.label, metad.file, lambda: _hills_header(metad))

    def _writer(
        self, key: str, file: str, header: Callable[[], tuple[list[str], list[tuple[str, str]]]]
    ) -> FieldWriter:
        if key not in self._writers:
            fields, constants = header()
            path = self.directory / file
            self._writers[key] = FieldWriter(path, fields, constants, append=self.restart)
        return self._writers[key]

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()


def _colvar_header(action: Print) -> tuple[list[str], list[tuple[str, str]]]:
    names = [value.name for value in action.arguments]
    return ["time", *names], domain_constants(names, [v.domain_text for v in action.arguments])


def _hills_header(metad: Metad) -> tuple[list[str], list[tuple[str, str]]]:
    names = [value.name for value in metad.arguments]
    fields = ["time", *names, *(f"sigma_{name}" for name in names), "height", "biasf"]
    constants = [("multivariate", "false"), ("kerneltype", "stretched-gaussian")]
    domains = [value.domain_text for value in metad.arguments]
    return fields, constants + domain_constants(names, domains)
