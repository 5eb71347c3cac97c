"""ALPHABETA: how near many torsions are to reference values."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.many import EACH, ManyVariable
from openmm_cgan.plumed.actions.variables.reductions import Reduction
from openmm_cgan.plumed.geometry.vectors import cross, dot, vector_product
from openmm_cgan.plumed.input.expressions import namespace


class AlphaBeta(ManyVariable):
    """Sum of ``COEFFICIENT (1 + cos(torsion - REFERENCE)) / 2``."""

    name = "ALPHABETA"
    summary = "likeness of many torsions to reference values"
    keywords = (
        Keyword("ATOMS", "atoms", "the four atoms of a torsion", compulsory=True, first=1),
        Keyword("REFERENCE", "real", "its reference value", first=1),
        Keyword("REFERENCE", "real", "the same for all"),
        Keyword("COEFFICIENT", "real", "its coefficient", first=1),
        Keyword("COEFFICIENT", "real", "the same for all"),
        Keyword("NOPBC", "flag", "ignore the periodic box"),
    )
    makes_whole = True
    vector_name = ""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        for atoms in options["ATOMSi"]:
            if len(atoms) != 4:
                raise self.error("ATOMS", f"{len(atoms)} atoms; expected four for each torsion")
            if len(set(atoms)) < 4:
                raise self.not_native("ATOMS", "an atom is named twice")
        self.arrows = [list(pairwise(atoms)) for atoms in options["ATOMSi"]]
        numbers = (
            self._numbers("REFERENCE", options, None),
            self._numbers("COEFFICIENT", options, 1.0),
        )
        made = Reduction("", partial(_likeness, *numbers), partial(_likeness_slopes, *numbers))
        self.reductions = (made,)

    def _numbers(self, word: str, options: dict[str, Any], default: float | None) -> np.ndarray:
        each, common, n = options[f"{word}i"], options[word], len(self.arrows)
        if each and (common is not None or len(each) != n):
            raise self.error(word, f"give one {word}, or one for each of the {n} torsions")
        if not each and common is None and default is None:
            raise self.error(word, f"the keyword {word}= is missing")
        return np.array(each or [default if common is None else common] * n, dtype=float)

    @property
    def count_in_plumed(self) -> int:
        return 10

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label),)

    def elements(self, vectors: Any, rows: slice = EACH) -> Any:
        a, b, c = (tuple(vectors[..., k, axis] for axis in range(3)) for k in range(3))
        across, length2 = cross(b, c), dot(b, b)
        cosine = dot(a, b) * dot(b, c) - dot(a, c) * length2
        xp = namespace(vectors)
        return xp.atan2(xp.sqrt(length2) * dot(a, across), cosine)

    def element_slopes(self, vectors: np.ndarray, rows: slice = EACH) -> np.ndarray:
        # Blondel, Karplus, J. Comput. Chem. 17, 1132 (1996)
        a, b, c = (vectors[:, k] for k in range(3))
        m, n = vector_product(a, b), vector_product(b, c)
        m2, n2 = ((x * x).sum(-1, keepdims=True) for x in (m, n))
        length = np.sqrt((b * b).sum(-1, keepdims=True))
        ab, bc = ((x * b).sum(-1, keepdims=True) for x in (a, c))
        along = ab / (m2 * length) * m + bc / (n2 * length) * n
        return np.stack([length / m2 * m, -along, length / n2 * n], axis=1)


def _likeness(references: np.ndarray, coefficients: np.ndarray, angles: Any) -> Any:
    xp = namespace(angles)
    near = 0.5 + 0.5 * xp.cos(angles - xp.asarray(references))
    return (xp.asarray(coefficients) * near).sum(-1)


def _likeness_slopes(
    references: np.ndarray, coefficients: np.ndarray, angles: np.ndarray
) -> np.ndarray:
    return -0.5 * coefficients * np.sin(angles - references)
