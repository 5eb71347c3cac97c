"""The size of a group of atoms: GYRATION."""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import REMEDY, Given, Keyword, Value
from openmm_cgan.plumed.actions.centers import VirtualAtom
from openmm_cgan.plumed.actions.geometry import dot, subtract, weighted_mean, whole
from openmm_cgan.plumed.actions.variables import Site, Variable
from openmm_cgan.plumed.expressions import namespace


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
        if self.masses is None:
            raise ValueError(
                f"{self.statement.location}: GYRATION {self.label} needs the masses: call "
                "bias.add_to(system), or PlumedBias(..., topology), before its values"
            )
        return self.masses / self.masses.sum()

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
