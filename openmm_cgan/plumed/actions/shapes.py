"""The size and the shape of a group of atoms: GYRATION, RMSD."""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import REMEDY, Given, Keyword, Value
from openmm_cgan.plumed.actions.centers import VirtualAtom, mass_weights
from openmm_cgan.plumed.actions.geometry import dot, subtract, weighted_mean, whole
from openmm_cgan.plumed.actions.variables import Site, Variable
from openmm_cgan.plumed.expressions import namespace
from openmm_cgan.plumed.pdb import read_pdb


class Gyration(Variable):
    """The radius of gyration, of equal weights unless MASS_WEIGHTED."""

    name = "GYRATION"
    summary = "radius of gyration"
    keywords = (
        Keyword("ATOMS", "atoms", "the atoms", compulsory=True),
        Keyword("TYPE", "text", "RADIUS", default="RADIUS"),
        Keyword("MASS_WEIGHTED", "flag", "weigh by mass"),
        Keyword("NOPBC", "flag", "do not make the group whole"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.atoms: tuple[int, ...] = given.options["ATOMS"]
        if given.options["TYPE"].upper() != "RADIUS":
            raise self.error("TYPE", f"natively RADIUS only; {REMEDY}")
        if any(isinstance(atom, VirtualAtom) for atom in self.atoms) or len(self.atoms) < 2:
            raise self.error("ATOMS", "expected real atoms, at least two")
        self.mass_weighted: bool = given.options["MASS_WEIGHTED"]
        self.masses: np.ndarray | None = None

    def set_masses(self, masses: np.ndarray) -> None:
        """Take the masses [dalton] of all atoms of the system."""
        self.masses = np.asarray(masses, dtype=float)[list(self.atoms)]

    @property
    def normalized_weights(self) -> np.ndarray:
        """Weight of each atom, summing to 1."""
        if not self.mass_weighted:
            return np.full(len(self.atoms), 1 / len(self.atoms))
        return mass_weights(self, self.masses)

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.atoms

    @property
    def scale(self) -> float:
        return 1.0 / self.units.length

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label, self.units.length_name),)

    def value(self, positions: Any, box: Any = None) -> Any:
        xp = namespace(positions)
        weights = [float(weight) for weight in self.normalized_weights]
        points = whole(self.atoms, positions, box if self.periodic else None)
        centre = weighted_mean(weights, points)
        arms = [subtract(point, centre) for point in points]
        return self.scale * xp.sqrt(
            sum(w * dot(arm, arm) for w, arm in zip(weights, arms, strict=True))
        )


class Rmsd(Variable):
    """Root mean square deviation from a reference after optimal superposition.

    All weights are equal. The rotation is that of Kabsch, doi 10.1107/S0567739476001873.
    """

    name = "RMSD"
    summary = "deviation from a reference, TYPE=OPTIMAL, equal weights"
    keywords = (
        Keyword("REFERENCE", "text", "a PDB file", compulsory=True),
        Keyword("TYPE", "text", "OPTIMAL", default="SIMPLE"),
        Keyword("SQUARED", "flag", "the mean square deviation"),
        Keyword("NOPBC", "flag", "do not make the group whole"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.squared: bool = options["SQUARED"]
        if options["TYPE"].upper() not in ("OPTIMAL", "OPTIMAL-FAST"):
            raise self.error("TYPE", f"natively OPTIMAL only; {REMEDY}")
        try:
            found = read_pdb(given.folder / options["REFERENCE"])
        except ValueError as error:
            raise self.error(f"REFERENCE={options['REFERENCE']}", str(error)) from None
        weights = {(atom.occupancy, atom.beta) for atom in found}
        if len(weights) != 1 or len(found) < 3:
            message = f"natively three or more atoms with equal occupancy and beta; {REMEDY}"
            raise self.error("REFERENCE", message)
        self.atoms: tuple[int, ...] = tuple(atom.serial - 1 for atom in found)
        if len(set(self.atoms)) != len(found):
            raise self.error("REFERENCE", "an atom number stands twice")
        self.reference = np.array([atom.position for atom in found])
        self.reference -= self.reference.mean(axis=0)

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.atoms

    @property
    def scale(self) -> float:
        return 1.0 / self.units.length ** (2 if self.squared else 1)

    @property
    def outputs(self) -> tuple[Value, ...]:
        unit = self.units.length_name
        return (Value(self.label, f"{unit}^2" if self.squared else unit),)

    def value(self, positions: Any, box: Any = None) -> Any:
        xp = namespace(positions)
        points = whole(self.atoms, positions, box if self.periodic else None)
        x = xp.stack([xp.stack(list(point), -1) for point in points], -2)
        x = x - x.mean(-2)[..., None, :]
        y = xp.asarray(self.reference)
        left, stretches, right = xp.linalg.svd(x.swapaxes(-1, -2) @ y)
        sign = xp.sign(xp.linalg.det(left) * xp.linalg.det(right))
        overlap = stretches[..., 0] + stretches[..., 1] + sign * stretches[..., 2]
        square = ((x * x).sum(-1).sum(-1) + (y * y).sum() - 2 * overlap) / len(self.atoms)
        square = xp.where(square > 0, square, square * 0)
        return self.scale * (square if self.squared else xp.sqrt(square))
