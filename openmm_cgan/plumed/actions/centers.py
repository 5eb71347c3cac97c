"""Virtual atoms: COM and CENTER, points that move with a group of atoms."""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Action, Given, Keyword
from openmm_cgan.plumed.actions.geometry import Vector, weighted_mean, whole

_ATOMS = Keyword("ATOMS", "atoms", "the atoms of the group", compulsory=True)
_NOPBC = Keyword("NOPBC", "flag", "do not make the group whole")


def mass_weights(action: Action, masses: np.ndarray | None) -> np.ndarray:
    """Masses of a group, made to sum to 1.

    Raises
    ------
    ValueError
        If they are not known yet.
    """
    if masses is None:
        raise ValueError(
            f"{action.statement.location}: {action.name} {action.label} needs the masses: call "
            "bias.add_to(system), or PlumedBias(..., topology), before its values"
        )
    return masses / masses.sum()


class VirtualAtom(Action):
    """A weighted mean of atoms, usable wherever an atom is.

    The group is made whole first: each atom at the image nearest to the one before it.
    """

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.atoms: tuple[int, ...] = given.options["ATOMS"]
        self.periodic: bool = not given.options["NOPBC"]
        if not given.statement.label:
            raise self.error(self.name, "a virtual atom needs a label, or nothing can use it")
        if not all(isinstance(atom, int) for atom in self.atoms) or not self.atoms:
            raise self.error("ATOMS", "expected real atoms, at least one")
        self.weights: np.ndarray | None = None
        self.masses: np.ndarray | None = None

    def set_masses(self, masses: np.ndarray) -> None:
        """Take the masses [dalton] of all atoms of the system."""
        self.masses = np.asarray(masses, dtype=float)[list(self.atoms)]

    @property
    def sites(self) -> tuple[int, ...]:
        """The atoms that it depends on."""
        return self.atoms

    @property
    def normalized_weights(self) -> np.ndarray:
        """Weight of each atom, summing to 1."""
        if self.weights is None:
            return mass_weights(self, self.masses)
        return self.weights / self.weights.sum()

    def position(self, positions: Any, box: Any) -> Vector:
        """Its position [nm]."""
        points = whole(self.atoms, positions, box if self.periodic else None)
        return weighted_mean([float(w) for w in self.normalized_weights], points)


class Com(VirtualAtom):
    """The centre of mass."""

    name = "COM"
    summary = "centre of mass of a group"
    keywords = (_ATOMS, _NOPBC)


class Center(VirtualAtom):
    """The centre of a group: the mean, with given weights, or of mass."""

    name = "CENTER"
    summary = "centre of a group"
    keywords = (
        _ATOMS,
        Keyword("WEIGHTS", "numbers", "one for each atom; all equal if absent"),
        Keyword("MASS", "flag", "weights are the masses"),
        _NOPBC,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        weights, by_mass = given.options["WEIGHTS"], given.options["MASS"]
        if by_mass and weights is not None:
            raise self.error("WEIGHTS", "give WEIGHTS or MASS, not both")
        if weights is None:
            weights = (1.0,) * len(self.atoms)
        if len(weights) != len(self.atoms):
            raise self.error("WEIGHTS", f"{len(weights)} weights for {len(self.atoms)} atoms")
        if sum(weights) == 0:
            raise self.error("WEIGHTS", "the weights add up to zero")
        self.weights = None if by_mass else np.array(weights, dtype=float)
