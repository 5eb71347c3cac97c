"""ERMSD: how far the bases of nucleic acids are from where those of a reference are.

Bottaro, Di Palma, Bussi, doi 10.1093/nar/gku972.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.shapes import GroupVariable, read_references
from openmm_cgan.plumed.geometry.vectors import vector_product
from openmm_cgan.plumed.input.expressions import namespace

# In the plane of a base, and across it, where distances weigh more [1/nm]: the paper's a = b = 0.5
# and c = 0.3 nm
SCALES = np.array([2.0, 2.0, 1 / 0.3])


class Ermsd(GroupVariable):
    """Root mean square deviation of where bases are, seen from each other.

    With the places ``r`` of the bases in the frames of the others, scaled along the axes,
    ``G = (sin(g r) r / |r|, 1 + cos(g |r|)) / g`` up to the cutoff ``pi / g``; the value is
    ``sqrt(sum |G - G_reference|^2 / n_bases)``.
    """

    name = "ERMSD"
    summary = "deviation of the bases of nucleic acids from a reference"
    keywords = (
        Keyword("REFERENCE", "text", "a PDB file", compulsory=True),
        Keyword("ATOMS", "atoms", "three of each base: @lcs-1,@lcs-2 ...", compulsory=True),
        Keyword("CUTOFF", "real", "of scaled distances", default=2.4),
        Keyword("PAIRS", "integers", "bases that are compared, two by two; all if absent"),
        Keyword("NOPBC", "flag", "accepted: PLUMED makes the group whole with it too"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.periodic = True
        self.atoms = given.options["ATOMS"]
        n = len(self.atoms)
        if n < 6 or n % 3:
            raise self.error("ATOMS", f"{n} atoms; expected three of each base, six at least")
        if not all(isinstance(a, int) for a in self.atoms) or len(set(self.atoms)) < n:
            raise self.not_native("ATOMS", "expected different real atoms")
        self.cutoff: float = given.options["CUTOFF"]
        if not self.cutoff > 0:
            raise self.error("CUTOFF", "must be positive")
        self._i, self._j = self._pairs(given.options["PAIRS"])
        model = {atom.serial - 1: atom.position for atom in read_references(self, given)[0]}
        if missing := [atom for atom in self.atoms if atom not in model]:
            message = f"it has no atom {missing[0] + 1}, which ATOMS names"
            raise self.error(f"REFERENCE={given.options['REFERENCE']}", message)
        self._target = self._seen(np.array([model[atom] for atom in self.atoms]))

    def _pairs(self, numbers: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
        """Which bases are seen from which, shape (n_pairs,) each."""
        n = len(self.atoms) // 3
        if not numbers:
            first, second = np.nonzero(~np.eye(n, dtype=bool))
            return first, second
        if len(numbers) % 2:
            raise self.error("PAIRS", f"{len(numbers)} numbers; expected two for each pair")
        if not all(1 <= number <= n for number in numbers):
            raise self.not_native("PAIRS", f"a number is not one of the {n} bases of ATOMS")
        seen = np.zeros((n, n), dtype=bool)
        a, b = np.array(numbers, dtype=np.intp).reshape(-1, 2).T - 1
        seen[a, b] = seen[b, a] = True
        np.fill_diagonal(seen, False)
        first, second = np.nonzero(seen)
        return first, second

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label),)

    # ---- what the bases see

    def _seen(self, points: Any) -> Any:
        """The vectors G of all pairs, shape (..., n_pairs, 4), of atoms of shape (..., n, 3)."""
        xp = namespace(points)
        bases = points.reshape(*points.shape[:-2], -1, 3, 3)
        centres, axes = _frames(bases)[:2]
        gaps = centres[..., self._j, :] - centres[..., self._i, :]
        where = (axes[..., self._i, :, :] * gaps[..., None, :]).sum(-1) * xp.asarray(SCALES)
        length = xp.sqrt((where * where).sum(-1))[..., None]
        wave = math.pi / self.cutoff
        side = xp.sin(wave * length) / (wave * length) * where
        seen = xp.concatenate([side, (1 + xp.cos(wave * length)) / wave], -1)
        return xp.where(length < self.cutoff, seen, seen * 0)

    def value(self, positions: Any, box: Any = None) -> Any:
        seen = self._seen(self._whole(positions, box))
        xp = namespace(seen)
        off = seen - xp.asarray(self._target)
        return xp.sqrt((off * off).sum(-1).sum(-1) * 3 / len(self.atoms))

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        points = self._whole(positions, box)
        bases = points.reshape(-1, 3, 3)
        centres, axes, arms, normal = _frames(bases)
        gaps = centres[self._j] - centres[self._i]
        off = self._seen(points) - self._target
        value = math.sqrt((off * off).sum() / len(bases))
        pull = off / (len(bases) * max(value, 1e-12))

        wave = math.pi / self.cutoff
        where = (axes[self._i] * gaps[:, None, :]).sum(-1) * SCALES
        length = np.sqrt((where * where).sum(-1))[:, None]
        sine, cosine = np.sin(wave * length) / (wave * length), np.cos(wave * length)
        along = (where * pull[:, :3]).sum(-1)[:, None]
        by_where = sine * pull[:, :3] + (cosine - sine) / length**2 * along * where
        by_where -= wave * sine * pull[:, 3:] * where
        by_where = np.where(length < self.cutoff, by_where, 0.0) * SCALES

        by_axes, by_centres = np.zeros_like(axes), np.zeros_like(centres)
        np.add.at(by_axes, self._i, by_where[:, :, None] * gaps[:, None, :])
        by_gaps = (by_where[:, :, None] * axes[self._i]).sum(1)
        np.add.at(by_centres, self._j, by_gaps)
        np.add.at(by_centres, self._i, -by_gaps)
        slopes = _slopes_of_frames(axes, arms, normal, by_axes)
        slopes += (by_centres - slopes.sum(1))[:, None, :] / 3  # arms begin at the centres
        return value, slopes.reshape(-1, 3)


def _frames(bases: Any) -> tuple[Any, Any, tuple[Any, Any], Any]:
    """Centres and axes of bases, and what the axes are made of.

    Parameters
    ----------
    bases : ndarray or tensor, shape (..., n, 3, 3)
        Three atoms of each [nm].

    Returns
    -------
    centres, axes : ndarray or tensor, shape (..., n, 3), (..., n, 3, 3)
        [nm]; unit vectors in rows.
    arms : tuple of two ndarray or tensor, shape (..., n, 3)
        From the centre to the first two atoms [nm].
    normal : ndarray or tensor, shape (..., n, 3)
        Their vector product [nm^2].
    """
    xp = namespace(bases)
    centres = bases.mean(-2)
    a, b = bases[..., 0, :] - centres, bases[..., 1, :] - centres
    normal = xp.linalg.cross(a, b)
    x = a / xp.sqrt((a * a).sum(-1))[..., None]
    z = normal / xp.sqrt((normal * normal).sum(-1))[..., None]
    return centres, xp.stack([x, xp.linalg.cross(z, x), z], -2), (a, b), normal


def _slopes_of_frames(
    axes: np.ndarray, arms: tuple[np.ndarray, np.ndarray], normal: np.ndarray, by_axes: np.ndarray
) -> np.ndarray:
    """Gradient by the arms, as of three atoms of each base, of what has slopes by the axes.

    Parameters
    ----------
    axes, arms, normal : ndarray
        As `_frames` gives them.
    by_axes : ndarray, shape (n, 3, 3)

    Returns
    -------
    ndarray, shape (n, 3, 3)
        [1/nm]; zero for the third atom, which has no arm.
    """
    x, z, (a, b) = axes[:, 0], axes[:, 2], arms
    by_x = by_axes[:, 0] + vector_product(by_axes[:, 1], z)
    by_z = by_axes[:, 2] + vector_product(x, by_axes[:, 1])
    across = by_z - z * (z * by_z).sum(-1)[:, None]
    across /= np.linalg.norm(normal, axis=-1)[:, None]
    by_a = by_x - x * (x * by_x).sum(-1)[:, None]
    by_a /= np.linalg.norm(a, axis=-1)[:, None]
    slopes = np.zeros_like(axes)
    slopes[:, 0] = by_a + vector_product(b, across)
    slopes[:, 1] = vector_product(across, a)
    return slopes
