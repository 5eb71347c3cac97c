"""ALPHARMSD, ANTIBETARMSD and PARABETARMSD: how many pieces of a backbone are like ideal ones.

Pietrucci, Laio, doi 10.1021/ct900202f.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword, Scope
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.ideal_structures import (
    ALPHA,
    ANTIPARALLEL,
    PARALLEL_1,
    PARALLEL_2,
)
from openmm_cgan.plumed.actions.variables.reductions import Reduction, switched
from openmm_cgan.plumed.actions.variables.variable import Site, Variable
from openmm_cgan.plumed.geometry.molecules import whole
from openmm_cgan.plumed.geometry.superposition import References, best_rotation, make_references
from openmm_cgan.plumed.geometry.switching import read_switch
from openmm_cgan.plumed.geometry.vectors import shortest_image
from openmm_cgan.plumed.input.expressions import namespace

N_ATOMS = 30  # of six residues
BONDED = 0.17  # nm; nearer pairs of the ideal structure are not compared by DRMSD
_HELD = 6, 21  # the atoms of the two strands that are brought next to each other

_KEYWORDS = (
    Keyword("RESIDUES", "backbone", "all, or numbers of residues of MOLINFO", compulsory=True),
    Keyword("TYPE", "text", "DRMSD, OPTIMAL or SIMPLE", default="DRMSD"),
    Keyword("LESS_THAN", "text", "the switching function; the value is .lessthan then"),
    Keyword("R_0", "real", "its length, if LESS_THAN is not given", default=0.08),
    Keyword("D_0", "real", "where it begins", default=0.0),
    Keyword("NN", "integer", "its first exponent", default=8),
    Keyword("MM", "integer", "its second exponent", default=12),
    Keyword("NOPBC", "flag", "ignore the periodic box"),
)
_STRANDS = (
    Keyword("STYLE", "text", "all, inter or intra: which pairs of strands", default="all"),
    Keyword("STRANDS_CUTOFF", "real", "strands farther apart are left out"),
)


class SecondaryStructure(Variable):
    """How many pieces of six residues are like ideal structures."""

    makes_whole = True
    keywords: ClassVar[tuple[Keyword, ...]] = _KEYWORDS
    ideals: ClassVar[tuple[np.ndarray, ...]]  # the nearest of these counts
    shortest: ClassVar[int]  # residues of a chain
    of_strands: ClassVar[bool] = True

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        if self.units.natural:
            raise self.error(self.name, "is not for natural units")
        self.chains: tuple[tuple[int, ...], ...] = options["RESIDUES"]
        self._require_long(options.get("STYLE", "all").lower())
        self.pieces = np.array(self._pieces(options.get("STYLE", "all").lower()), dtype=np.intp)
        self.type: str = options["TYPE"]
        if self.type not in ("DRMSD", "OPTIMAL", "OPTIMAL-FAST", "SIMPLE"):
            raise self.error(f"TYPE={self.type}", "expected DRMSD, OPTIMAL or SIMPLE")
        self.reduction = self._reduction(options)
        cutoff = options.get("STRANDS_CUTOFF")
        self.cutoff = None if cutoff is None or cutoff <= 0 else cutoff * self.units.length
        flat = np.ones((len(self.ideals), N_ATOMS))
        rotate = self.type != "SIMPLE"
        self._references = make_references(np.array(self.ideals), flat, flat, rotate)

    def _require_long(self, style: str) -> None:
        if style not in ("all", "inter", "intra"):
            raise self.error("STYLE", "expected all, inter or intra")
        if style == "inter" and len(self.chains) == 1:
            raise self.error("STYLE", "there is only one chain")
        if style != "inter" and any(len(c) < 5 * self.shortest for c in self.chains):
            message = f"a piece of the backbone has less than {self.shortest} residues"
            raise self.error("RESIDUES", message)

    def _reduction(self, options: dict[str, Any]) -> Reduction:
        text, name = options["LESS_THAN"], "_lessthan"
        if text is None:
            numbers = " ".join(f"{word}={options[word]!r}" for word in ("R_0", "D_0", "NN", "MM"))
            text, name = f"RATIONAL {numbers}", ""
        try:
            return switched(name, read_switch(text))
        except ValueError as error:
            raise self.not_native("LESS_THAN", str(error)) from None

    def _pieces(self, style: str) -> list[tuple[int, ...]]:
        """The atoms of each piece that may have the structure, by their places in `sites`."""
        raise NotImplementedError

    def _begins(self) -> list[int]:
        """Where each chain begins among `sites`."""
        return [sum(map(len, self.chains[:k])) for k in range(len(self.chains))]

    def enter(self, scope: Scope) -> None:
        super().enter(scope)
        scope.shortcuts[self.label] = {f"struct-{k}" for k in range(1, len(self.ideals) + 1)}
        for value in self.outputs[: len(self.reduction.name)]:
            scope.other_names[f"{self.label}.lessthan"] = value

    @property
    def count_in_plumed(self) -> int:
        nearest = 2 if len(self.ideals) > 1 else 0
        return 5 + nearest + (0 if self.cutoff is None else 6)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        return tuple(atom for chain in self.chains for atom in chain)

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(f"{self.label}{self.reduction.name}"),)

    # ---- the pieces

    def _points(self, positions: Any, box: Any, pieces: np.ndarray) -> Any:
        """Positions of pieces, shape (..., n_pieces, 30, 3) [nm]."""
        atoms = np.array(self.sites, dtype=np.intp)[pieces]
        if not self.of_strands:
            if box is None or not self.periodic:
                return positions[..., atoms, :]
            flat, edges = positions[..., atoms, :], box[..., None, :, :]
            return whole(tuple(range(N_ATOMS)), flat, edges if box.ndim > 2 else box)
        points = positions[..., atoms, :]
        if box is None:
            return points
        gap, near = self._gaps(positions, box, pieces)
        shift = (near - gap)[..., None, :]
        xp = namespace(points)
        return xp.concatenate([points[..., :15, :], points[..., 15:, :] + shift], -2)

    def _gaps(self, positions: Any, box: Any, pieces: np.ndarray) -> tuple[Any, Any]:
        """Vectors between the strands of pieces, and their nearest images, (..., n_pieces, 3)."""
        held = np.array(self.sites, dtype=np.intp)[pieces[:, _HELD]]
        gap = positions[..., held[:, 1], :] - positions[..., held[:, 0], :]
        if box is None:
            return gap, gap
        edges = box if box.ndim == 2 else box[..., None, :, :]
        near = shortest_image((gap[..., 0], gap[..., 1], gap[..., 2]), edges)
        return gap, namespace(gap).stack(list(near), -1)

    def _far(self, positions: Any, box: Any) -> Any:
        """Which pieces are of strands too far apart, shape (..., n_pieces)."""
        gap = self._gaps(positions, box, self.pieces)[1]
        return (gap * gap).sum(-1) > (self.cutoff or np.inf) ** 2

    def _near_pieces(self, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """The pieces of one frame that may count, shape (n_near, 30): a small part, with a cutoff.

        So the other atoms of the rest need not be looked at.
        """
        return self.pieces if self.cutoff is None else self.pieces[~self._far(positions, box)]

    @cached_property
    def _targets(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each ideal structure, the pairs that DRMSD compares and their distances [nm]."""
        found = []
        for ideal in self.ideals:
            i, j = np.triu_indices(N_ATOMS, 1)
            lengths = np.sqrt(((ideal[j] - ideal[i]) ** 2).sum(-1))
            kept = lengths > BONDED
            found.append((i[kept], j[kept], lengths[kept]))
        return found

    def _one(self, k: int) -> References:
        return self._references.some(np.array([k]))

    def _deviation(self, k: int, points: Any) -> Any:
        """Deviation of pieces from an ideal structure, shape (..., n_pieces) [nm]."""
        xp = namespace(points)
        if self.type == "DRMSD":
            i, j, target = self._targets[k]
            gaps = points[..., j, :] - points[..., i, :]
            off = xp.sqrt((gaps * gaps).sum(-1)) - xp.asarray(target)
            return xp.sqrt((off * off).mean(-1))
        off = self._off(k, points)[0]
        return xp.sqrt((off * off).sum(-1).mean(-1))

    def _off(self, k: int, points: Any) -> tuple[Any, Any]:
        """Pieces minus the ideal structure, superposed, and the turn of each."""
        xp, one = namespace(points), self._one(k)
        x = points - points.mean(-2)[..., None, :]
        turn = best_rotation(x, one) if one.rotate else xp.asarray(np.eye(3))
        return x @ turn - xp.asarray(one.points[0]), turn

    def _slopes(self, k: int, points: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Gradient of the deviations by the positions, shape (n_pieces, 30, 3)."""
        safe = np.maximum(deviation, 1e-12)[:, None, None]
        if self.type != "DRMSD":
            off, turn = self._off(k, points)
            return off @ np.swapaxes(turn, -1, -2) / (N_ATOMS * safe)
        i, j, target = self._targets[k]
        gaps = points[:, j] - points[:, i]
        lengths = np.sqrt((gaps * gaps).sum(-1))
        pull = ((lengths - target) / np.maximum(lengths, 1e-12))[..., None] * gaps
        pull /= len(target) * safe
        rows = np.arange(N_ATOMS)[:, None]
        return ((rows == j).astype(float) - (rows == i)) @ pull

    # ---- values and gradients

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        single = isinstance(positions, np.ndarray) and positions.ndim == 2
        pieces = self._near_pieces(positions, box) if single else self.pieces
        points = self._points(positions, box, pieces)
        xp = namespace(points)
        each = xp.stack([self._deviation(k, points) for k in range(len(self.ideals))], -1)
        counted = xp.amin(each, -1) / self.units.length
        if self.cutoff is None or single:
            return (self.reduction.value(counted),)
        far = self._far(positions, box)  # so far off that they count for nothing
        return (self.reduction.value(xp.where(far, counted * 0 + 1e9, counted)),)

    def _pulls(
        self, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        """Value, the pieces that count, their positions and the gradient by these."""
        pieces = self._near_pieces(positions, box)
        points = self._points(positions, box, pieces)
        each = np.array([self._deviation(k, points) for k in range(len(self.ideals))])
        nearest = each.argmin(axis=0)
        counted = each.min(axis=0) / self.units.length
        factors = self.reduction.slopes(counted) / self.units.length
        slopes = np.zeros_like(points)
        for k in range(len(self.ideals)):
            own = nearest == k
            slopes[own] = self._slopes(k, points[own], each[k][own])
        return float(self.reduction.value(counted)), pieces, points, factors[:, None, None] * slopes

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        value, pieces, _, slopes = self._pulls(positions, box)
        total, n = np.zeros((len(self.sites), 3)), len(self.sites)
        for axis in range(3):
            total[:, axis] = np.bincount(pieces.ravel(), slopes[..., axis].ravel(), n)
        return value, total

    def strain_slope(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        _, _, points, slopes = self._pulls(positions, box)
        return points.reshape(-1, 3).T @ slopes.reshape(-1, 3)


class AlphaRmsd(SecondaryStructure):
    """How many pieces of six residues are alpha helices."""

    name = "ALPHARMSD"
    summary = "alpha helices in a backbone"
    ideals = (ALPHA,)
    shortest = 6
    of_strands = False

    def _pieces(self, style: str) -> list[tuple[int, ...]]:
        return [
            tuple(range(begin + 5 * i, begin + 5 * i + N_ATOMS))
            for begin, chain in zip(self._begins(), self.chains, strict=True)
            for i in range(len(chain) // 5 - 5)
        ]


class _Sheet(SecondaryStructure):
    keywords = (*_KEYWORDS, *_STRANDS)
    shortest = 8

    def _within(self, n: int) -> list[tuple[int, int]]:
        """The first residues of two strands of a chain of `n` residues."""
        raise NotImplementedError

    def _pieces(self, style: str) -> list[tuple[int, ...]]:
        pairs = []
        begins, counts = self._begins(), [len(chain) // 5 for chain in self.chains]
        if style != "inter":
            for begin, n in zip(begins, counts, strict=True):
                pairs += [(begin + 5 * i, begin + 5 * j) for i, j in self._within(n)]
        if style != "intra":
            pairs += [
                (begins[c] + 5 * i, begins[d] + 5 * j)
                for c in range(1, len(counts))
                for i in range(counts[c] - 2)
                for d in range(c)
                for j in range(counts[d] - 2)
            ]
        return [(*range(a, a + 15), *range(b, b + 15)) for a, b in pairs]


class AntibetaRmsd(_Sheet):
    """How many pairs of strands are antiparallel."""

    name = "ANTIBETARMSD"
    summary = "antiparallel strands in backbones"
    ideals = (ANTIPARALLEL,)

    def _within(self, n: int) -> list[tuple[int, int]]:
        return [(i, j - 2) for i in range(n - 7) for j in range(i + 7, n)]


class ParabetaRmsd(_Sheet):
    """How many pairs of strands are parallel."""

    name = "PARABETARMSD"
    summary = "parallel strands in backbones"
    ideals = (PARALLEL_1, PARALLEL_2)

    def _within(self, n: int) -> list[tuple[int, int]]:
        return [(i, j) for i in range(n - 8) for j in range(i + 6, n - 2)]
