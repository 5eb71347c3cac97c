"""The values of an input at positions: of all actions, or of what a few of them need."""

from __future__ import annotations

import logging
import math
from functools import cached_property
from typing import Any

import numpy as np

from openmm_cgan.collective_variable import CollectiveVariable, NotOfTheCVsError
from openmm_cgan.plumed.actions import Action
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.external import External
from openmm_cgan.plumed.actions.function_path import FuncPathMsd
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.metad.metad import Metad
from openmm_cgan.plumed.actions.names import told
from openmm_cgan.plumed.actions.pbmetad.pbmetad import Pbmetad
from openmm_cgan.plumed.actions.variables.chains import ChainVariable
from openmm_cgan.plumed.actions.variables.paths import PathMsd
from openmm_cgan.plumed.actions.variables.surroundings import Energy, Observed, Time
from openmm_cgan.plumed.actions.variables.variable import Variable, describe
from openmm_cgan.plumed.geometry.single_frame import at_right_angles
from openmm_cgan.plumed.native.forces.frame_values import chain_values

log = logging.getLogger("openmm_cgan")


class InputValues:
    """The values of an input, worked out without a trace into dictionaries by name.

    Parameters
    ----------
    actions : list of Action

    Attributes
    ----------
    owners : dict of str to Action
        The action that gives each value.
    biases : list of Bias
    timestep : float
        [ps], once it is known.
    potential : float
        Energy of the System without the biases [kJ/mol]; 0 as in the driver.
    """

    def __init__(self, actions: list[Action]) -> None:
        self.owners = {value.name: action for action in actions for value in action.outputs}
        self.biases = [action for action in actions if isinstance(action, Bias)]
        self._observers = [action for action in actions if isinstance(action, Time | Energy)]
        paths = [action for action in actions if isinstance(action, PathMsd)]
        self._listed = [path for path in paths if path.nearest is not None]
        functions = [action for action in actions if isinstance(action, FuncPathMsd)]
        self._listed_functions = [f for f in functions if f.is_listed]
        self._by_time = [a for a in actions if _words_of_time(a)]
        self._computed = [a for a in actions if isinstance(a, Variable | Function | Bias)]
        self._told: set[str] = set()  # METADs that were asked off their grids
        self.timestep = math.nan  # until a run begins
        self.potential = 0.0

    def begin(self, timestep: float) -> None:
        """Begin a run of steps that long [ps]; 0 where they differ in length.

        Raises
        ------
        PlumedInputError
            If they do, and something is to be done at a time: none is told but steps by length.
        """
        if timestep == 0 and self._by_time:
            action = self._by_time[0]
            raise action.error(
                _words_of_time(action),
                "depends on the time, and the steps of this integrator differ in length, as no "
                "time in PLUMED does: take an integrator with a fixed step, or leave it out",
            )
        self.timestep = timestep

    @property
    def begun(self) -> bool:
        """Whether a run has begun."""
        return not math.isnan(self.timestep)

    @cached_property
    def needs_energy(self) -> bool:
        """Whether the input asks for the potential energy."""
        return any(isinstance(action, Energy) for action in self._observers)

    @cached_property
    def _chains(self) -> dict[str, ChainVariable]:
        chains = [action for action in self._computed if isinstance(action, ChainVariable)]
        return {chain.label: chain for chain in chains if chain.in_plain_floats}

    def present(self, positions: Any, box: Any, step: int) -> dict[str, Any]:
        """What is no function of a frame alone: paths with a list of models, TIME, ENERGY.

        Parameters
        ----------
        positions, box : ndarray, shape (..., n_atoms, 3), (..., 3, 3) or None
            [nm]
        step : int
        """
        found: dict[str, Any] = {}
        for path in self._listed:
            values = path.values_of_list(path.whole_positions(positions, box), box)
            found |= zip((value.name for value in path.outputs), values, strict=True)
            found[path.label] = values  # the action itself is done with
        for action in self._observers:
            if isinstance(action, Time):
                found[action.label] = step * self.timestep / action.units.time
            else:
                found[action.label] = self.potential / action.units.energy
        for function in self._listed_functions:
            for value in function.arguments:
                self.add(value.name, found, positions, box)
            listed = function.values_of_list([found[v.name] for v in function.arguments], step)
            found |= zip((value.name for value in function.outputs), listed, strict=True)
            found[function.label] = listed
        return found

    def add_all(self, found: dict[str, Any], positions: np.ndarray, box: np.ndarray | None) -> None:
        """Add all values that are not there.

        Parameters
        ----------
        found : dict
        positions, box : ndarray, shape (..., n_atoms, 3), (..., 3, 3) or None
            [nm]
        """
        if positions.ndim == 2 and at_right_angles(box):
            chains = self._chains
            found.update(zip(chains, chain_values(chains.values(), positions, box), strict=True))
        for action in self._computed:
            if action.label not in found:
                self._compute(action, found, positions, box)

    def add(self, name: str, found: dict[str, Any], positions: Any, box: Any) -> None:
        """Add one value and those that it depends on; positions may be tensors."""
        self.add_action(self.owners[name], found, positions, box)

    def add_action(self, action: Action, found: dict[str, Any], positions: Any, box: Any) -> None:
        """Add the values of one action, and those that they depend on."""
        if action.outputs and action.outputs[0].name in found:
            return
        for value in action.arguments:
            self.add(value.name, found, positions, box)
        self._compute(action, found, positions, box)

    @staticmethod
    def _compute(action: Action, found: dict[str, Any], positions: Any, box: Any) -> None:
        if isinstance(action, Variable):
            seen = action.whole_positions(positions, box)
            found_here = action.values(seen, box)  # arithmetic with numpy's scalars is slow
            results = tuple(float(x) if isinstance(x, np.float64) else x for x in found_here)
        elif isinstance(action, Function | Bias):
            results = action.values([found[v.name] for v in action.arguments])
        elif isinstance(action, Observed) and action.label not in found:
            raise ValueError(f"{action.name} {action.label} is no function of the positions")
        else:
            return
        found.update(zip((v.name for v in action.outputs), results, strict=True))

    def bias_energies(
        self, found: dict[str, Any], positions: np.ndarray, box: np.ndarray | None
    ) -> list[float]:
        """Of each bias [kJ/mol]; adds the values that they need.

        Parameters
        ----------
        found : dict
        positions, box : ndarray, shape (n_atoms, 3), (3, 3) or None
            [nm]
        """
        energies = []
        for bias in self.biases:
            for value in bias.arguments:
                self.add(value.name, found, positions, box)
            arguments = [found[value.name] for value in bias.arguments]
            self.tell_outside(bias, arguments)
            energies.append(float(bias.energy(arguments)) * bias.units.energy)
        return energies

    def total_bias(self, found: dict[str, Any]) -> Any:
        """Sum of the biases [kJ/mol]."""
        return sum(found[b.outputs[0].name] * b.units.energy for b in self.biases)

    def bias_of(self, read: tuple[str, ...], cvs: np.ndarray) -> np.ndarray:
        """Sum of the biases [kJ/mol] where some values are given.

        Parameters
        ----------
        read : tuple of str
            Their names.
        cvs : ndarray, shape (n, n_read)

        Raises
        ------
        NotOfTheCVsError
            If a bias depends on something else.
        """
        found: dict[str, Any] = {name: cvs[:, i] for i, name in enumerate(read)}
        for bias in self.biases:
            for value in bias.arguments:
                self._add_from(read, value.name, bias, found)
            self.tell_outside(bias, [found[value.name] for value in bias.arguments])
            self._compute(bias, found, None, None)
        return np.broadcast_to(self.total_bias(found), len(cvs))

    def tell_outside(self, bias: Bias, arguments: list[Any]) -> None:
        """Say once in the log where a bias on a grid is asked for off it: it has none there.

        Parameters
        ----------
        bias : Bias
        arguments : list of float or ndarray, shape (...) each
            Its arguments, in the units of the input.
        """
        if not isinstance(bias, Metad | Pbmetad | External) or bias.label in self._told:
            return
        try:
            bias.check_inside(arguments)
        except RuntimeError as outside:
            self._told.add(bias.label)
            log.warning("%s; no bias acts there", outside)

    def _add_from(
        self, read: tuple[str, ...], name: str, bias: Action, found: dict[str, Any]
    ) -> None:
        if name in found:
            return
        owner = self.owners[name]
        if isinstance(owner, Variable):
            raise NotOfTheCVsError(
                f"the bias {bias.label} depends on {name}, which is not among the collective "
                f"variables {', '.join(read)}: name it in PlumedBias(..., cvs=...)"
            )
        for value in owner.arguments:
            self._add_from(read, value.name, bias, found)
        self._compute(owner, found, None, None)

    def describe(self, names: tuple[str, ...]) -> tuple[CollectiveVariable, ...]:
        """What is known of the named values.

        Raises
        ------
        ValueError
            If the input does not define one.
        """
        described = []
        for name in names:
            owner = self.owners.get(name)
            if owner is None:
                known = told(self.owners)
                raise ValueError(f"the input defines no value '{name}'; it has: {known}")
            described.append(describe(owner, name))
        return tuple(described)


class ArgumentValues:
    """The arguments of some actions, and no other values, quickly for one frame after another.

    Parameters
    ----------
    values : InputValues
    actions : list of Action
    """

    def __init__(self, values: InputValues, actions: list[Action]) -> None:
        names = (value.name for action in actions for value in action.arguments)
        owners = list(dict.fromkeys(values.owners[name] for name in names))
        self._values = values
        self._chains = [o for o in owners if isinstance(o, ChainVariable) and o.in_plain_floats]
        self._others = [owner for owner in owners if owner not in self._chains]

    def __call__(self, positions: np.ndarray, box: np.ndarray | None, step: int) -> dict[str, Any]:
        """By name, with what `InputValues.present` gives.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            [nm]
        step : int
        """
        chains, others = self._chains, self._others
        found = self._values.present(positions, box, step)
        if at_right_angles(box):
            values = chain_values(chains, positions, box)
            found |= zip((c.label for c in chains), values, strict=True)
        else:
            others = [*chains, *others]
        for owner in others:
            self._values.add_action(owner, found, positions, box)
        return found


def _words_of_time(action: Action) -> str:
    """The word by which an action does something at a time; empty where there is none."""
    if isinstance(action, Time):
        return action.name
    words = [word.partition("=")[0].upper() for word in action.statement.words]
    by_time = ["UPDATE_FROM", "UPDATE_UNTIL"]
    if isinstance(action, FuncPathMsd) and action.is_listed:
        by_time.append("NEIGH_STRIDE")
    return next((word for word in words if word in by_time), "")
