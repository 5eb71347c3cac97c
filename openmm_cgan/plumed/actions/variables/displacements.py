"""RMSD with DISPLACEMENT: how far each atom is from its place in a reference, to print."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.action import Action, Given, Keyword, Scope
from openmm_cgan.plumed.actions.setup import WholeMolecules
from openmm_cgan.plumed.actions.values import Value, elements_of
from openmm_cgan.plumed.actions.variables.shapes import Rmsd
from openmm_cgan.plumed.geometry.superposition import best_rotation
from openmm_cgan.plumed.input.expressions import namespace


class RmsdOrDisplacement(Rmsd):
    """What the statement RMSD stands for."""

    keywords: ClassVar[tuple[Keyword, ...]] = (
        *Rmsd.keywords,
        Keyword("DISPLACEMENT", "flag", "values .dist and, to print, the vector .disp"),
    )

    @classmethod
    def made(cls, given: Given) -> Action:
        return Displacement(given) if given.options["DISPLACEMENT"] else cls(given)


class Displacement(Rmsd):
    """``.dist``, and in ``.disp`` x of all atoms, then y, then z.

    Those of OPTIMAL are weighed by the roots of the weights, those of SIMPLE are not, as PLUMED's.

    Attributes
    ----------
    is_vector : bool
        Whether something takes the displacements.
    """

    is_vector = False

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._given = given

    def enter(self, scope: Scope) -> None:
        """Make its atoms whole for all that is below it, which PLUMED does on the way."""
        if scope.molinfo_whole:
            raise self.not_native("DISPLACEMENT", "below MOLINFO WHOLE it is not native")
        if self.periodic:
            options = {"ENTITYi": (self.atoms,), "STRIDE": 1, "EMST": False}
            statement = replace(self.statement, action=WholeMolecules.name, label="")
            made = replace(self._given, label=f"@{scope.count}", statement=statement)
            WholeMolecules(replace(made, options=options)).enter(scope)
        super().enter(scope)
        scope.shortcuts[self.label] = {"x", "y", "z"}
        scope.vectors[f"{self.label}.disp"] = self

    @property
    def vectors_in_star(self) -> tuple[str, ...]:
        return (f"{self.label}.disp",)

    @property
    def count_in_plumed(self) -> int:
        return 8

    @cached_property
    def _elements(self) -> tuple[Value, ...]:
        return elements_of(f"{self.label}.disp", self.units.length_name, 3 * len(self.atoms))

    def vector(self, name: str) -> tuple[Value, ...]:
        self.is_vector = True
        return self._elements

    @property
    def outputs(self) -> tuple[Value, ...]:
        [distance] = super().outputs
        made = (replace(distance, name=f"{self.label}.dist"),)
        return (*made, *self._elements) if self.is_vector else made

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        distance = (self.value(positions, box),)
        if not self.is_vector:
            return distance
        points, references = self._whole(positions, box), self.references
        xp = namespace(points)
        align, y = xp.asarray(references.align[0])[:, None], xp.asarray(references.points[0])
        away = points - (align * points).sum(-2)[..., None, :]
        if references.rotate:
            weights = xp.asarray(np.sqrt(references.displace[0]))[:, None]
            away = weights * (away @ best_rotation(points, references) - y)
        else:
            away = away - y
        away = away / self.units.length
        n = len(self.atoms)
        return (*distance, *(away[..., k % n, k // n] for k in range(3 * n)))
