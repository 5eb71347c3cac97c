"""PUCKERING: the shape of a ring of five or six atoms.

Huang, Giese, Lee, York, doi 10.1021/ct401013s (five); Cremer, Pople, doi 10.1021/ja00839a011 (six).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Action, Given, Keyword
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.shapes import GroupVariable
from openmm_cgan.plumed.geometry.vectors import torsion_slopes, vector_product
from openmm_cgan.plumed.input.expressions import namespace

_COS, _SIN = 2 * math.cos(0.8 * math.pi), 2 * math.sin(0.8 * math.pi)
_AROUND = 2 * math.pi * np.arange(6) / 6


class Puckering(GroupVariable):
    """The pucker of a ring of five atoms: two torsions, as a phase and an amplitude."""

    name = "PUCKERING"
    summary = "pucker of a ring of five or six atoms"
    keywords = (Keyword("ATOMS", "atoms", "the ring, in order", compulsory=True),)
    _bonds = (((1, 2), (2, 3), (3, 4)), ((3, 4), (4, 0), (0, 1)))  # of the two torsions

    @classmethod
    def made(cls, given: Given) -> Action:
        return SixPuckering(given) if len(given.options["ATOMS"]) == 6 else cls(given)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.atoms = given.options["ATOMS"]
        if len(self.atoms) not in (5, 6):
            raise self.error("ATOMS", f"{len(self.atoms)} atoms; expected a ring of 5 or 6")
        if not all(isinstance(a, int) for a in self.atoms) or len(set(self.atoms)) < len(
            self.atoms
        ):
            raise self.not_native("ATOMS", "expected different real atoms")

    @property
    def outputs(self) -> tuple[Value, ...]:
        phase = Value(f"{self.label}.phs", "rad", (-math.pi, math.pi), ("-pi", "pi"))
        return phase, *(Value(f"{self.label}.{name}", "rad") for name in ("amp", "Zx", "Zy"))

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        points = self._whole(positions, box)
        xp = namespace(points)
        first, second = (self._torsion(points, bonds, xp) for bonds in self._bonds)
        zx, zy = (first + second) / _COS, (first - second) / _SIN
        return xp.atan2(zy, zx), xp.sqrt(zx * zx + zy * zy), zx, zy

    @staticmethod
    def _torsion(points: Any, bonds: tuple[tuple[int, int], ...], xp: Any) -> Any:
        a, b, c = (points[..., end, :] - points[..., start, :] for start, end in bonds)
        across, length = xp.linalg.cross(b, c), xp.sqrt((b * b).sum(-1))
        normal = xp.linalg.cross(a, b)
        return xp.atan2(length * (a * across).sum(-1), (normal * across).sum(-1))

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        points = self._whole(positions, box)
        values = self.values(positions, box)
        parts = []
        for bonds in self._bonds:
            vectors = [points[end] - points[start] for start, end in bonds]
            slopes = np.zeros((5, 3))
            for (start, end), slope in zip(bonds, torsion_slopes(*vectors), strict=True):
                slopes[start] -= slope
                slopes[end] += slope
            parts.append(slopes)
        dx, dy = (parts[0] + parts[1]) / _COS, (parts[0] - parts[1]) / _SIN
        _, amplitude, zx, zy = (float(value) for value in values)
        safe = max(amplitude, 1e-12)
        slopes = ((zx * dy - zy * dx) / safe**2, (zx * dx + zy * dy) / safe, dx, dy)[index]
        return float(values[index]), slopes


class SixPuckering(Puckering):
    """The pucker of a ring of six atoms: how far each is from the mean plane."""

    @property
    def outputs(self) -> tuple[Value, ...]:
        unit = self.units.length_name
        phase = Value(f"{self.label}.phi", "rad", (0.0, 2 * math.pi), ("0", "2pi"))
        lengths = [Value(f"{self.label}.{name}", unit) for name in ("qx", "qy", "qz")]
        theta = Value(f"{self.label}.theta", "rad")
        return *lengths, phase, theta, Value(f"{self.label}.amplitude", unit)

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        points = self._whole(positions, box)
        xp = namespace(points)
        arms = points - points.mean(-2)[..., None, :]
        normal = xp.linalg.cross(*(self._sum(arms, f(_AROUND)) for f in (np.sin, np.cos)))
        normal = normal / xp.sqrt((normal * normal).sum(-1))[..., None]
        a, b, c = ((self._sum(arms, w) * normal).sum(-1) for w in _WEIGHTS)
        return self._of_sums(a, b, c, xp)

    @staticmethod
    def _sum(arms: Any, weights: np.ndarray) -> Any:
        return (namespace(arms).asarray(weights)[:, None] * arms).sum(-2)

    def _of_sums(self, a: Any, b: Any, c: Any, xp: Any) -> tuple[Any, ...]:
        unit = self.units.length
        phi = xp.atan2(-a, b)
        theta = xp.atan2(xp.sqrt(2 * (a * a + b * b)), c)
        amplitude = xp.sqrt((2 * (a * a + b * b) + c * c) / 6)
        flat = (-a / math.sqrt(3) / unit, b / math.sqrt(3) / unit, c / math.sqrt(6) / unit)
        return *flat, self.outputs[3].wrap(phi), theta, amplitude / unit

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        points, unit = self._whole(positions, box), self.units.length
        arms = points - points.mean(axis=0)
        sine, cosine = np.sin(_AROUND), np.cos(_AROUND)
        p, q = sine @ arms, cosine @ arms
        normal = vector_product(p, q)
        size = np.linalg.norm(normal)
        normal /= size
        sums, parts = [], []
        for weights in _WEIGHTS:
            v = weights @ arms
            across = (v - normal * (normal @ v)) / size
            slopes = np.outer(weights, normal)
            slopes += np.outer(sine, vector_product(q, across)) + np.outer(
                cosine, vector_product(across, p)
            )
            sums.append(float(v @ normal))
            parts.append(slopes - slopes.mean(axis=0))
        (a, b, c), (da, db, dc) = sums, parts
        ring = max(math.hypot(a, b), 1e-12)
        whole = 2 * ring**2 + c * c
        outer = (
            -da / math.sqrt(3) / unit, db / math.sqrt(3) / unit, dc / math.sqrt(6) / unit,
            (a * db - b * da) / ring**2,
            math.sqrt(2) * (c * (a * da + b * db) / ring - ring * dc) / whole,
            (2 * (a * da + b * db) + c * dc) / math.sqrt(6 * whole) / unit,
        )  # fmt: skip
        return float(self._of_sums(a, b, c, np)[index]), outer[index]


_WEIGHTS = (np.sin(2 * _AROUND), np.cos(2 * _AROUND), np.array([1.0, -1.0] * 3))
