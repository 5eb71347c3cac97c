"""Values that more variables go into than a CustomCVForce holds: the input's own arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions import Action
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.variables.variable import Variable, real_atoms
from openmm_cgan.plumed.native.pulls import pull_on_atoms, slopes_below


class InputFunction:
    """A value of an input with its gradient, for what OpenMM calls back.

    Parameters
    ----------
    name : str
        Of the value: a function of variables.
    owners : dict of str to Action
        The action that gives each value, in the order of the input.
    """

    def __init__(self, name: str, owners: dict[str, Action]) -> None:
        self._name = name
        needed: dict[str, Action] = {}
        names = [name]
        while names:
            owner = owners[names.pop()]
            needed[owner.label] = owner
            names += [value.name for value in owner.arguments]
        ordered = dict.fromkeys(owner.label for owner in owners.values())
        self._actions = [needed[label] for label in ordered if label in needed]
        variables = [action for action in self._actions if isinstance(action, Variable)]
        self.atoms = real_atoms(tuple(site for v in variables for site in v.sites))
        more = [e.atoms for v in variables for e in v.whole_entities]
        self.atoms = tuple(dict.fromkeys([*self.atoms, *(a for atoms in more for a in atoms)]))
        self._rows = np.array(self.atoms, dtype=int)
        self._positions = np.zeros((max(self.atoms) + 1, 3))

    def evaluate(self, some: np.ndarray, box: np.ndarray | None) -> tuple[float, np.ndarray]:
        """Value and gradient [unit of the input / nm], shape (n_needed, 3), as `KnownGradient`."""
        self._positions[self._rows] = some
        found: dict[str, Any] = {}
        for action in self._actions:
            if isinstance(action, Variable):
                seen = action.whole_positions(self._positions, box)
                values = action.values(seen, box)
            else:
                assert isinstance(action, Function)
                values = action.values([found[value.name] for value in action.arguments])
            found.update(zip((v.name for v in action.outputs), map(float, values), strict=True))
        slopes = slopes_below(self._actions, found, {self._name: 1.0}, 0)
        pull = pull_on_atoms(self._actions, slopes, self._positions, box)
        return found[self._name], pull[self._rows]
