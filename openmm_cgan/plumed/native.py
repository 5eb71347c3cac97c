"""The native backend: a PLUMED input compiled to OpenMM forces.

Each term of a bias goes into the cheapest force that can hold it. A restraint or wall on one
torsion, angle or distance is a plain ``Custom*Force`` with the bias in its energy (measured: as
fast as no bias). Whatever couples variables, and METAD's table, is a ``CustomCVForce``.

Nothing is deposited or printed in a force evaluation: `NativeBackend.update` does that, between
steps.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openmm

from openmm_cgan.plumed.actions import (
    REMEDY,
    Action,
    Angle,
    Combine,
    Distance,
    Flush,
    Metad,
    Print,
    Restraint,
    Torsion,
)
from openmm_cgan.plumed.actions.biases import Bias, SeparableBias
from openmm_cgan.plumed.actions.variables import Variable
from openmm_cgan.plumed.colvar import CollectiveVariable, FieldWriter, domain_constants, read_fields
from openmm_cgan.plumed.language import PlumedInputError, Problem

log = logging.getLogger("openmm_cgan")
_serial = itertools.count()

KB_PLUMED = 0.0083144621  # kJ/mol/K, as PLUMED multiplies TEMP
KB = 0.00831446261815324  # kJ/mol/K, as OpenMM has it

# How a variable becomes a force of its own: the force, its adders for a term and a parameter
_PLAIN: dict[type, tuple[type, str, str]] = {
    Torsion: (openmm.CustomTorsionForce, "addTorsion", "addPerTorsionParameter"),
    Angle: (openmm.CustomAngleForce, "addAngle", "addPerAngleParameter"),
    Distance: (openmm.CustomBondForce, "addBond", "addPerBondParameter"),
}


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
        self._prints = [action for action in actions if isinstance(action, Print)]
        self._metads = [action for action in actions if isinstance(action, Metad)]
        self._flushes = [action.stride for action in actions if isinstance(action, Flush)]
        self._tables: dict[str, openmm.CustomCVForce] = {}
        self._changed: set[str] = set()
        self._writers: dict[str, FieldWriter] = {}
        self._terms: dict[tuple[str, int], tuple[Any, int]] = {}
        self._global_terms: dict[tuple[str, int], dict[str, str]] = {}
        self._prefix = f"plumed{next(_serial)}"  # global parameters are shared by all forces
        self._updated_once = False
        self.read: tuple[str, ...] = ()  # the values that `evaluate` and `update` return
        self._refuse_bias_of_bias()

    def _refuse_bias_of_bias(self) -> None:
        problems = []
        for bias in self._biases:
            for value in bias.arguments:
                if self._depends_on_bias(value.name):
                    message = f"a bias acting on the value of a bias is not native; {REMEDY}"
                    problems.append(Problem(bias.statement.location, value.name, message))
        if problems:
            raise PlumedInputError(problems)

    def _depends_on_bias(self, name: str) -> bool:
        owner = self._owner[name]
        return isinstance(owner, Bias) or any(
            self._depends_on_bias(value.name) for value in owner.arguments
        )

    # ---- forces

    def forces(self, system: openmm.System) -> list[openmm.Force]:
        """The forces of all biases, not yet in the system."""
        periodic = system.usesPeriodicBoundaryConditions()
        plain: dict[tuple[Any, ...], openmm.Force] = {}
        coupled: list[openmm.Force] = []
        for bias in self._biases:
            if isinstance(bias, Metad):
                coupled.append(self._metad_force(bias, periodic))
                continue
            assert isinstance(bias, SeparableBias)
            for i, value in enumerate(bias.arguments):
                owner = self._owner[value.name]
                if type(owner) in _PLAIN and isinstance(owner, Variable):
                    self._add_plain_term(plain, bias, i, owner, periodic)
                else:
                    coupled.append(self._coupled_term(bias, i, periodic))
        return [*plain.values(), *coupled]

    def _add_plain_term(
        self,
        plain: dict[tuple[Any, ...], openmm.Force],
        bias: SeparableBias,
        i: int,
        variable: Variable,
        periodic: bool,
    ) -> None:
        make, add_term, add_parameter = _PLAIN[type(variable)]
        text = self._energy_text(bias, bias.term_expression(i, _scaled(variable, variable.symbol)))
        parameters = bias.term_parameters(i)
        wrapped = periodic and variable.periodic
        key = (type(variable), text, wrapped)
        if key not in plain:
            force = make(text)
            for name in parameters:
                getattr(force, add_parameter)(name)
            force.setUsesPeriodicBoundaryConditions(wrapped)
            force.setName(f"PLUMED {bias.name} {variable.name}")
            plain[key] = force
        index = getattr(plain[key], add_term)(*variable.atoms, list(parameters.values()))
        self._terms[bias.label, i] = (plain[key], index)

    def _coupled_term(self, bias: SeparableBias, i: int, periodic: bool) -> openmm.Force:
        leaves: dict[str, Variable] = {}
        x = self._expression(bias.arguments[i].name, leaves)
        text = self._energy_text(bias, bias.term_expression(i, x))
        force = openmm.CustomCVForce("")
        names = {}
        for name, number in bias.term_parameters(i).items():
            names[name] = f"{self._prefix}_{len(self._global_terms)}_{name}"
            force.addGlobalParameter(names[name], number)
        force.setEnergyFunction(";".join([text, *(f"{n}={g}" for n, g in names.items())]))
        self._global_terms[bias.label, i] = names
        self._add_leaves(force, leaves, periodic)
        force.setName(f"PLUMED {bias.name} {bias.label}")
        return force

    def _metad_force(self, metad: Metad, periodic: bool) -> openmm.CustomCVForce:
        leaves: dict[str, Variable] = {}
        arguments = [self._expression(value.name, leaves) for value in metad.arguments]
        text = metad.grid.expression(arguments, "bias")
        energy, _, definitions = text.partition(";")
        force = openmm.CustomCVForce(f"{metad.units.energy!r}*({energy});{definitions}")
        self._add_leaves(force, leaves, periodic)
        table = openmm.Discrete1DFunction(metad.grid.table.ravel())
        force.addTabulatedFunction("bias", table)
        force.setName(f"PLUMED METAD {metad.label}")
        self._tables[metad.label] = force
        return force

    def _energy_text(self, bias: Bias, text: str) -> str:
        return text if bias.units.energy == 1 else f"{bias.units.energy!r}*({text})"

    def _expression(self, name: str, leaves: dict[str, Variable]) -> str:
        """Expression of a value in the variables ``v0``, ``v1`` ..., which are added to leaves."""
        owner = self._owner[name]
        if isinstance(owner, Variable):
            leaves.setdefault(owner.label, owner)
            return _scaled(owner, f"v{list(leaves).index(owner.label)}")
        assert isinstance(owner, Combine)
        return owner.expression([self._expression(v.name, leaves) for v in owner.arguments])

    @staticmethod
    def _add_leaves(
        force: openmm.CustomCVForce, leaves: dict[str, Variable], periodic: bool
    ) -> None:
        for i, variable in enumerate(leaves.values()):
            make, add_term, _ = _PLAIN[type(variable)]
            inner = make(variable.symbol)
            getattr(inner, add_term)(*variable.atoms, [])
            inner.setUsesPeriodicBoundaryConditions(periodic and variable.periodic)
            force.addCollectiveVariable(f"v{i}", inner)

    # ---- values

    def values(self, positions: np.ndarray, box: np.ndarray | None) -> dict[str, np.ndarray]:
        """All values of the input by name.

        Parameters
        ----------
        positions : ndarray, shape (..., n_atoms, 3)
            [nm]
        box : ndarray, shape (..., 3, 3), or None
            [nm]
        """
        found: dict[str, Any] = {}
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
        found: dict[str, Any] = {}
        energy = 0.0
        for bias in self._biases:
            for value in bias.arguments:
                self._compute_with_arguments(self._owner[value.name], found, positions, box)
            value_here = bias.energy([found[v.name] for v in bias.arguments])
            energy += float(value_here) * bias.units.energy
        for name in self.read:
            self._compute_with_arguments(self._owner[name], found, positions, box)
        return self._pick(found), energy

    def _pick(self, found: dict[str, Any]) -> np.ndarray:
        values = [found[name] for name in self.read]
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
            found[action.label] = action.value(positions, box)
        elif isinstance(action, Combine):
            found[action.label] = action.value([found[v.name] for v in action.arguments])
        elif isinstance(action, Bias):
            results = action.values([found[v.name] for v in action.arguments])
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
        users: list[Action] = [*self._biases] or [*self._prints]
        names = dict.fromkeys(value.name for action in users for value in action.arguments)
        return tuple(name for name in names if not isinstance(self._owner[name], Bias))

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
            [value] = [value for value in owner.outputs if value.name == name]
            atoms = owner.atoms if isinstance(owner, Variable) else ()
            action = owner.name if isinstance(owner, Variable) else ""
            described.append(CollectiveVariable(name, value.unit, value.domain, action, atoms))
        return tuple(described)

    def check(self, n_atoms: int) -> None:
        """Raise if the input names an atom that a system of `n_atoms` does not have.

        Raises
        ------
        PlumedInputError
        """
        for action in self.actions:
            if isinstance(action, Variable) and max(action.atoms) >= n_atoms:
                message = f"atom {max(action.atoms) + 1} is beyond the last atom {n_atoms}"
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
            if self.restart:
                self._read_hills(metad)

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
    def strides(self) -> list[int]:
        """At which multiples of the step `update` has something to do."""
        paces = [metad.pace for metad in self._metads]
        return sorted({*(p.stride for p in self._prints), *paces, *self._flushes})

    def update(
        self, positions: np.ndarray, box: np.ndarray | None, step: int
    ) -> tuple[np.ndarray, float]:
        """Write the rows and lay the hills of this step; return what `evaluate` had before."""
        found = self.values(positions, box)
        energy = float(self.total_bias(found))
        for metad in self._metads:
            metad.check_inside([found[v.name] for v in metad.arguments])
        for i, action in enumerate(self._prints):
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
            force = self._tables[label]
            [metad] = [m for m in self._metads if m.label == label]
            force.getTabulatedFunction(0).setFunctionParameters(metad.grid.table.ravel())
            force.updateParametersInContext(context)
        self._changed.clear()

    def move(self, context: openmm.Context, centres: np.ndarray) -> None:
        """Move the centre of the only restraint of the input, in a living Context."""
        [bias] = self._biases
        assert isinstance(bias, Restraint)
        bias.at = tuple(float(centre) for centre in centres)
        touched = set()
        for i, value in enumerate(bias.arguments):
            parameters = bias.term_parameters(i)
            if (bias.label, i) in self._global_terms:
                for name, parameter in self._global_terms[bias.label, i].items():
                    context.setParameter(parameter, parameters[name])
                continue
            force, index = self._terms[bias.label, i]
            variable = self._owner[value.name]
            assert isinstance(variable, Variable)
            setter = _PLAIN[type(variable)][1].replace("add", "set") + "Parameters"
            getattr(force, setter)(index, *variable.atoms, list(parameters.values()))
            touched.add(force)
        for force in touched:
            force.updateParametersInContext(context)

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
        writer = self._writer(metad.label, metad.file, lambda: _hills_header(metad))
        time = step * self.timestep / metad.units.time
        writer.write(metad.fmt % number for number in (time, *hill))
        writer.flush()

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


def _scaled(variable: Variable, symbol: str) -> str:
    return symbol if variable.scale == 1 else f"({symbol}*{variable.scale!r})"


def _colvar_header(action: Print) -> tuple[list[str], list[tuple[str, str]]]:
    names = [value.name for value in action.arguments]
    return ["time", *names], domain_constants(names, [v.domain_text for v in action.arguments])


def _hills_header(metad: Metad) -> tuple[list[str], list[tuple[str, str]]]:
    names = [value.name for value in metad.arguments]
    fields = ["time", *names, *(f"sigma_{name}" for name in names), "height", "biasf"]
    constants = [("multivariate", "false"), ("kerneltype", "stretched-gaussian")]
    domains = [value.domain_text for value in metad.arguments]
    return fields, constants + domain_constants(names, domains)
