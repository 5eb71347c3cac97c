"""FUNNEL_PS: where a ligand is along an axis that goes with a protein, and how far from it.

The protein is superposed on a reference, in whose frame the axis is given: Limongelli, Bonomi,
Parrinello, doi 10.1073/pnas.1303186110.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.shapes import GroupVariable, read_references
from openmm_cgan.plumed.actions.variables.variable import BoxKind, Site, points_of, site_position
from openmm_cgan.plumed.geometry.last_frames import LastFrame
from openmm_cgan.plumed.geometry.molecules import whole
from openmm_cgan.plumed.geometry.superposition import (
    best_rotation,
    make_references,
    pulled_by_turn,
)
from openmm_cgan.plumed.geometry.vectors import vector_product
from openmm_cgan.plumed.input.expressions import namespace


class FunnelPlace(GroupVariable):
    """``.lp`` along the axis from its first point, ``.ld`` across it.

    Attributes
    ----------
    atoms : tuple of int
        Of the reference.
    """

    name = "FUNNEL_PS"
    summary = "place of a ligand along an axis of a superposed protein, and distance from it"
    keywords = (
        Keyword("REFERENCE", "text", "a PDB file of the atoms to superpose", compulsory=True),
        Keyword("LIGAND", "atoms", "one atom, or the COM of the ligand", compulsory=True),
        Keyword("ANCHOR", "atoms", "the atom that the ligand is nearest to", compulsory=True),
        Keyword("POINTS", "numbers", "two points of the axis, six numbers", compulsory=True),
        Keyword("SQUARED-ROOT", "flag", "accepted: it changes nothing"),
        Keyword("NOPBC", "flag", "do not make the group whole"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        [self._ligand] = points_of(given, "LIGAND", 1)
        [anchor] = points_of(given, "ANCHOR", 1)
        points = np.array(given.options["POINTS"], dtype=float) * self.units.length
        if points.shape != (6,) or np.all(points[:3] == points[3:]):
            raise self.error("POINTS", "expected two different points, six numbers")
        models = read_references(self, given)
        if self.has_repeats:
            raise self.not_native("REFERENCE", "an atom stands twice")
        model = models[0]  # as PLUMED, which takes the first
        self.atoms = tuple(atom.serial - 1 for atom in model)
        if len(self.atoms) < 3:
            raise self.not_native("REFERENCE", "a superposition needs three atoms at least")
        flat = np.ones((1, len(model)))
        places = np.array([[atom.position for atom in model]])
        self.references = make_references(places, flat, flat, rotate=True)
        self._rotation = LastFrame(best_rotation)
        self._start = points[:3] - places[0].mean(axis=0)  # from the centre of the reference
        self._axis = (points[3:] - points[:3]) / np.linalg.norm(points[3:] - points[:3])
        self._chain: tuple[Site, ...] = (*self.atoms, anchor, self._ligand)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        return tuple(dict.fromkeys(self._chain))

    @property
    def outputs(self) -> tuple[Value, ...]:
        unit = self.units.length_name
        return Value(f"{self.label}.lp", unit), Value(f"{self.label}.ld", unit)

    def depends_on_image(self, box: BoxKind) -> bool:
        return self.leaves_fixed_point or super().depends_on_image(box)

    def _points(self, positions: Any, box: Any) -> Any:
        """The atoms of the reference and the ligand, made whole, (..., n_atoms + 1, 3) [nm]."""
        xp = namespace(positions)
        ends = [site_position(site, positions, box) for site in self._chain[-2:]]
        made = [[np.asarray(c) if xp is np else c for c in end] for end in ends]
        last = xp.stack([xp.stack(end, -1) for end in made], -2)
        points = xp.concatenate([positions[..., list(self.atoms), :], last], -2)
        places = whole(tuple(range(len(self._chain))), points, box if self.periodic else None)
        n = len(self.atoms)
        return xp.concatenate([places[..., :n, :], places[..., n + 1 :, :]], -2)

    def _placed(self, points: Any) -> tuple[Any, Any, Any, Any]:
        """Rotation, the ligand from the centre, turned; its place along and from the axis [nm]."""
        xp = namespace(points)
        atoms, centre = points[..., :-1, :], points[..., :-1, :].mean(-2)
        single = isinstance(atoms, np.ndarray) and atoms.ndim == 2
        turn = (self._rotation if single else best_rotation)(atoms, self.references)
        ligand = ((points[..., -1, :] - centre)[..., None, :] @ turn)[..., 0, :]
        axis = xp.asarray(self._axis)
        from_start = ligand - xp.asarray(self._start)
        along = (from_start * axis).sum(-1)
        return turn, ligand, along, from_start - along[..., None] * axis

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        *_, along, across = self._placed(self._points(positions, box))
        distance = namespace(positions).sqrt((across * across).sum(-1))
        return along / self.units.length, distance / self.units.length

    def _pulls(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """An output, the points of `_points`, and its gradient by these."""
        points = self._points(positions, box)
        turn, ligand, along, across = self._placed(points)
        distance = float(np.sqrt(across @ across))
        pull = self._axis if index == 0 else across / max(distance, 1e-12)
        n, y = len(self.atoms), self.references.points[0]
        turned = (points[:-1] - points[:-1].mean(axis=0)) @ turn
        weights = np.full((n, 1), 1 / n)
        inner = pulled_by_turn(turned, y, weights, vector_product(ligand, pull)) - pull / n
        slopes = np.vstack([inner, pull]) @ turn.T / self.units.length
        value = float(along) if index == 0 else distance
        return value / self.units.length, points, slopes

    def gradient_of_ends(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> np.ndarray:
        """Gradient by the atoms of the reference, the anchor and the ligand, (n_atoms + 2, 3)."""
        slopes = self._pulls(index, positions, box)[2]
        return np.insert(slopes, len(self.atoms), 0.0, axis=0)

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        value, _, slopes = self._pulls(index, positions, box)
        row = {site: i for i, site in enumerate(self.sites)}
        total = np.zeros((len(self.sites), 3))
        for site, slope in zip((*self.atoms, self._ligand), slopes, strict=True):
            total[row[site]] += slope
        return value, total

    def strain_slope(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        if not self.strains_evenly:
            return super(GroupVariable, self).strain_slope(index, positions, box)
        _, points, slopes = self._pulls(index, positions, box)
        return points.T @ slopes
