"""Progress along a path of configurations, and the distance from it: PATHMSD.

Branduardi, Gervasio, Parrinello, doi 10.1063/1.2432340.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import REMEDY, Given, Keyword, Value
from openmm_cgan.plumed.actions.shapes import (
    NOPBC,
    GroupVariable,
    read_references,
    references_of,
)
from openmm_cgan.plumed.actions.superposition import deviation_gradient, mean_square_deviation
from openmm_cgan.plumed.expressions import namespace


class PathMsd(GroupVariable):
    """Progress ``.sss`` along the models of a PDB file, and distance ``.zzz`` from them."""

    name = "PATHMSD"
    summary = "progress along a path of configurations and distance from it"
    keywords = (
        Keyword("REFERENCE", "text", "a PDB file of several models", compulsory=True),
        Keyword("LAMBDA", "real", "smoothing, per square of the length unit", compulsory=True),
        Keyword("NEIGH_SIZE", "integer", "no less than the models: the sum here is over all"),
        Keyword("NEIGH_STRIDE", "integer", "accepted with that"),
        NOPBC,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.smoothing: float = options["LAMBDA"]
        if not self.smoothing > 0:
            raise self.error("LAMBDA", "must be positive")
        models = read_references(self, given)
        size = options["NEIGH_SIZE"]
        if size is not None and 0 < size < len(models):
            message = f"a list of {size} of the {len(models)} models is not native; {REMEDY}"
            raise self.error(f"NEIGH_SIZE={size}", message)
        self.atoms, self.references = references_of(self, models, rotate=True)
        self.places = np.arange(1.0, len(models) + 1)

    @property
    def outputs(self) -> tuple[Value, ...]:
        unit = f"{self.units.length_name}^2"
        return Value(f"{self.label}.sss"), Value(f"{self.label}.zzz", unit)

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        xp = namespace(positions)
        square = mean_square_deviation(self._whole(positions, box), self.references)
        square = square / self.units.length**2
        nearest = xp.amin(square, -1)
        likeness = xp.exp(-self.smoothing * (square - nearest[..., None]))
        total = likeness.sum(-1)
        progress = (likeness * xp.asarray(self.places)).sum(-1) / total
        return progress, nearest - xp.log(total) / self.smoothing

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        points = self._whole(positions, box)
        square, slopes = deviation_gradient(points, self.references)
        square = square / self.units.length**2
        likeness = np.exp(-self.smoothing * (square - square.min()))
        shares = likeness / likeness.sum()
        progress = shares @ self.places
        if index == 0:
            value, factors = progress, self.smoothing * shares * (progress - self.places)
        else:
            value, factors = square.min() - np.log(likeness.sum()) / self.smoothing, shares
        factors = factors / self.units.length**2
        return float(value), np.tensordot(factors, slopes, 1)
