"""Local chemistry as frames show it, and configurations mended until they have it.

Positions that are right on the whole and wrong in detail (a linear combination of modes shortens
what it turns) are moved as little as it takes until bonds, angles and rigid torsions, hands of
stereocentres and planes are within what frames show, until CVs are where they are asked for, and
until no two atoms are on top of each other. Each is a constraint that moves its own atoms
along its gradient, by all that is missing, and an atom goes where the mean of its constraints
wants it, time and again: position-based dynamics [1]_ without the dynamics, SHAKE [2]_ with bounds.

References
----------
.. [1] M. Mueller et al., J. Vis. Commun. Image R. 18, 109 (2007), doi 10.1016/j.jvcir.2007.01.005.
.. [2] J.-P. Ryckaert, G. Ciccotti, H. J. C. Berendsen, J. Comput. Phys. 23, 327 (1977),
   doi 10.1016/0021-9991(77)90098-5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.internal_coordinates.molecule import MoleculeGraph
from openmm_cgan.internal_coordinates.neighbours import near_pairs
from openmm_cgan.radii import van_der_waals_radii

BONDS = 3  # apart at most: pairs whose distances are kept within what frames show
TOUCHING = 0.35  # nm: heavy atoms of two molecules that are never farther apart hold each other
# Of the sum of the radii: nearer atoms are moved apart. Dynamics at 600 K stays above 0.62.
CONTACT = 0.62
SWEEPS, RELIST = 120, 20  # at most, and those after which neighbours are looked for again
MARGIN = 0.05  # nm: atoms that far beyond contact are neighbours, too
RELAXED = 1.5  # times the mean step: fewer sweeps (half as many on proteins), and still stable
MENDED = 3e-3  # nm: what may be left, a fiftieth of a bond
ARM = 0.3  # nm: an angle that is off by a radian counts as so much
FARTHEST = 0.3  # rad: an angle is turned by so much in a sweep, as far as it is nearly linear
CHUNK = 50_000  # constraints worked on at a time: enough for speed, few enough for the caches


class Tie(NamedTuple):
    """A CV that is to have a value: DISTANCE [nm], ANGLE or TORSION [rad] of some atoms."""

    action: str
    atoms: tuple[int, ...]
    values: Tensor  # (n,), one for each configuration


@dataclass(frozen=True, eq=False)
class LocalGeometry:
    """Bounds of distances and volumes of neighbouring atoms, and how near others may come.

    Attributes
    ----------
    pairs : ndarray of int, shape (n_pairs, 2)
    distances : ndarray, shape (2, n_pairs)
        Shortest and longest [nm].
    corners : ndarray of int, shape (n_corners, 4)
        An atom and three of its neighbours.
    volumes : ndarray, shape (2, n_corners)
        Least and greatest signed volume that they span [nm^3]: hands and planes.
    contact : ndarray, shape (n_atoms,)
        Radii [nm]; atoms more than `BONDS` bonds apart are kept apart by their sum.
    movable : ndarray of bool, shape (n_atoms,)
        Which atoms mending may move.
    """

    pairs: NDArray[np.int64]
    distances: NDArray[np.float64]
    corners: NDArray[np.int64]
    volumes: NDArray[np.float64]
    contact: NDArray[np.float64]
    movable: NDArray[np.bool_]

    @classmethod
    def of_frames(
        cls, molecule: MoleculeGraph, x: NDArray[np.float64], movable: NDArray[np.bool_]
    ) -> Self:
        """Read it off frames (n, n_atoms, 3) [nm] of a molecule, or of several."""
        n_atoms = len(molecule.atoms)
        bonded = [(a, b) for a in range(n_atoms) for b in molecule.within(a, BONDS) if a < b]
        pairs = np.array(bonded, dtype=np.int64).reshape(-1, 2)
        pairs = np.concatenate([pairs, _touching(molecule, x)])
        pairs = pairs[movable[pairs].any(axis=1)]
        corners = [
            (a, *three)
            for a, near in enumerate(molecule.neighbours)
            for three in combinations(near, 3)
            if movable[[a, *three]].any()
        ]
        corners_of = np.array(corners, dtype=np.int64).reshape(-1, 4)
        apart = np.array([np.linalg.norm(x[:, i] - x[:, j], axis=1) for i, j in pairs])
        apart = apart.reshape(len(pairs), len(x))  # of ions there are none
        spanned = _volumes(torch.from_numpy(x).transpose(0, 1), torch.from_numpy(corners_of))[0]
        radii = CONTACT * van_der_waals_radii(molecule.elements)
        return cls(
            pairs,
            np.stack([apart.min(1), apart.max(1)]),
            corners_of,
            np.stack([spanned.amin(1).numpy(), spanned.amax(1).numpy()]),
            np.where(np.array(molecule.elements) > 0, radii, -1.0),
            movable,
        )

    def mend(self, x: Tensor, ties: Sequence[Tie] = ()) -> Tensor:
        """Move atoms until all is within bounds, or `SWEEPS` sweeps have been made.

        Parameters
        ----------
        x : Tensor, shape (n, n_atoms, 3)
            [nm], float64.
        ties : sequence of Tie

        Returns
        -------
        Tensor, shape (n, n_atoms, 3)
            Differentiable, the neighbours taken as they are. What is not finite stays so. All is
            done on the processor, where neighbours are looked for.
        """
        device, x = x.device, x.cpu()
        ties = [tie._replace(values=tie.values.cpu()) for tie in ties]
        rows = max(1, CHUNK // (4 * len(self.pairs) + len(self.corners) + 1))
        parts = []
        for start in range(0, len(x), rows):
            some = slice(start, start + rows)
            own = [tie._replace(values=tie.values[some]) for tie in ties]
            parts.append(_Mending(self, own, len(x[some])).run(x[some]))
        return (torch.cat(parts) if parts else x).to(device)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its attributes by name, for a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Make it again from its `arrays`."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


class _Mending:
    """Constraints of several configurations, atoms numbered through all of them."""

    def __init__(self, geometry: LocalGeometry, ties: Sequence[Tie], n: int) -> None:
        self.geometry, self.ties = geometry, ties
        n_atoms = len(geometry.contact)
        self.first = n_atoms * torch.arange(n)  # atom of each configuration
        self.pairs = self._repeated(geometry.pairs)
        self.shortest, self.longest = (torch.from_numpy(d).repeat(n) for d in geometry.distances)
        self.corners = self._repeated(geometry.corners)
        self.least, self.greatest = (torch.from_numpy(v).repeat(n) for v in geometry.volumes)
        self.contact = torch.from_numpy(geometry.contact).repeat(n)
        self.free = torch.from_numpy(geometry.movable).double().repeat(n)[:, None]
        low, high = geometry.pairs.min(axis=1), geometry.pairs.max(axis=1)
        self.excluded = np.unique(low * n_atoms + high)

    def _repeated(self, atoms: NDArray[np.int64]) -> Tensor:
        shifted = torch.from_numpy(atoms)[None] + self.first[:, None, None]
        return shifted.reshape(-1, atoms.shape[1])

    def run(self, x: Tensor) -> Tensor:
        """Sweep: positions (n, n_atoms, 3) to mended ones."""
        shape, finite = x.shape, torch.isfinite(x).all(dim=2).all(dim=1)
        x = torch.where(finite[:, None, None], x, torch.zeros_like(x)).reshape(-1, 3)
        for sweep in range(SWEEPS):
            if sweep % RELIST == 0:
                near = self._near(x.detach().reshape(shape).numpy())
            x, worst = self._sweep(x, *near)
            if worst < MENDED and sweep % RELIST > 0:
                break
        return torch.where(finite[:, None, None], x.reshape(shape), torch.nan)

    def _near(self, x: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """Neighbours (n_near, 2) that no bounds hold, and how near they may come (n_near,)."""
        cutoff = 2 * float(self.geometry.contact.max()) + MARGIN
        near = near_pairs(x, cutoff, self.geometry.movable, self.excluded)
        return near, self.contact[near].sum(dim=1)

    def _sweep(self, x: Tensor, near: Tensor, apart: Tensor) -> tuple[Tensor, float]:
        """One step of all atoms, and the worst that was found before it [nm]."""
        pairs = torch.cat([self.pairs, near])
        shortest = torch.cat([self.shortest, apart])
        longest = torch.cat([self.longest, torch.full_like(apart, torch.inf)])
        steps = _Steps(x, self.free)
        steps.towards(pairs, shortest, longest)
        steps.span(self.corners, self.least, self.greatest)
        for tie in self.ties:
            steps.tie(tie, torch.tensor(tie.atoms) + self.first[:, None])
        return x + RELAXED * steps.mean(), steps.worst


class _Steps:
    """What each constraint wants of its atoms in one sweep.

    Parameters
    ----------
    x : Tensor, shape (n, 3)
        [nm]
    free : Tensor, shape (n, 1)
        1 for atoms that move, 0 for those that do not.
    """

    def __init__(self, x: Tensor, free: Tensor) -> None:
        self.x, self.free = x, free
        self.sum, self.count = torch.zeros_like(x), torch.zeros_like(free)
        self.worst = 0.0

    def towards(self, pairs: Tensor, shortest: Tensor, longest: Tensor) -> None:
        """Distances of pairs (m, 2) within bounds (m,)."""
        arm = self.x[pairs[:, 0]] - self.x[pairs[:, 1]]
        square = (arm.detach() ** 2).sum(dim=1)
        off = ((square < shortest**2) | (square > longest**2)).nonzero()[:, 0]
        pairs, arm = pairs[off], arm[off]
        distance = arm.norm(dim=1).clamp(min=1e-6)
        missing = torch.minimum(torch.maximum(distance, shortest[off]), longest[off]) - distance
        along = arm / distance[:, None]
        self._add(pairs, torch.stack([along, -along], dim=1), missing)
        self._note(missing)

    def span(self, corners: Tensor, least: Tensor, greatest: Tensor) -> None:
        """Signed volumes of corners (m, 4) within bounds (m,)."""
        volume = _volumes(self.x.detach(), corners)[0]
        off = ((volume < least) | (volume > greatest)).nonzero()[:, 0]
        volume, slopes = _volumes(self.x, corners[off])
        missing = torch.minimum(torch.maximum(volume, least[off]), greatest[off]) - volume
        self._add(corners[off], slopes, missing)
        steepest = slopes.detach().norm(dim=2).amax(dim=1).clamp(min=1e-4)
        self._note(missing / steepest)

    def tie(self, tie: Tie, atoms: Tensor) -> None:
        """A CV of atoms (n, k) at its values."""
        if tie.action == "DISTANCE":
            self.towards(atoms, tie.values, tie.values)
            return
        found, slopes = (_torsions if tie.action == "TORSION" else _angles)(self.x, atoms)
        off = tie.values - found
        off = off - 2 * torch.pi * torch.round(off / (2 * torch.pi))
        self._add(atoms, slopes, off.clamp(-FARTHEST, FARTHEST))
        self._note(ARM * off)

    def mean(self) -> Tensor:
        """Mean step (n, 3) of each atom [nm]."""
        return self.sum / self.count.clamp(min=1)

    def _add(self, atoms: Tensor, slopes: Tensor, missing: Tensor) -> None:
        """Steps along slopes (m, k, 3) of atoms (m, k), which make up for what is missing (m,)."""
        free = self.free[atoms]
        weight = (free * slopes**2).sum(dim=(1, 2)).clamp(min=1e-12)
        step = free * slopes * (missing / weight)[:, None, None]
        self.sum = self.sum.index_add(0, atoms.flatten(), step.flatten(0, 1))
        self.count.index_add_(0, atoms.flatten(), self.x.new_ones(atoms.numel(), 1))

    def _note(self, missing: Tensor) -> None:
        if len(missing):
            self.worst = max(self.worst, float(missing.detach().abs().max()))


def _volumes(x: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """Signed volumes (m, ...) that corners (m, 4) span in x (n, ..., 3), and slopes (m, 4, 3)."""
    a, b, c = (x[corners[:, k]] - x[corners[:, 0]] for k in (1, 2, 3))
    slopes = [torch.linalg.cross(*two) for two in ((b, c), (c, a), (a, b))]
    volume = (a * slopes[0]).sum(-1)
    return volume, torch.stack([-(slopes[0] + slopes[1] + slopes[2]), *slopes], dim=1)


def _angles(x: Tensor, atoms: Tensor) -> tuple[Tensor, Tensor]:
    """Angles (m,) of atoms (m, 3) at the second, and slopes (m, 3, 3)."""
    u, v = (x[atoms[:, k]] - x[atoms[:, 1]] for k in (0, 2))
    one, two = u.norm(dim=1, keepdim=True), v.norm(dim=1, keepdim=True)
    u, v = u / one, v / two
    cosine = (u * v).sum(1, keepdim=True)
    sine = torch.linalg.cross(u, v).norm(dim=1, keepdim=True)
    steep = sine.clamp(min=0.05)  # where it is straight, any way bends it
    first, last = (cosine * u - v) / (one * steep), (cosine * v - u) / (two * steep)
    angle = torch.atan2(sine, cosine)[:, 0]
    return angle, torch.stack([first, -(first + last), last], dim=1)


def _torsions(x: Tensor, atoms: Tensor) -> tuple[Tensor, Tensor]:
    """Torsions (m,) of atoms (m, 4), and slopes (m, 4, 3).

    A. Blondel, M. Karplus, J. Comput. Chem. 17, 1132 (1996),
    doi 10.1002/(SICI)1096-987X(19960715)17:9<1132::AID-JCC5>3.0.CO;2-T.
    """
    i, j, k, l = (x[atoms[:, n]] for n in range(4))  # noqa: E741
    f, g, h = i - j, j - k, l - k
    a, b, length = torch.linalg.cross(f, g), torch.linalg.cross(h, g), g.norm(dim=1)
    torsion = torch.atan2((torch.linalg.cross(b, a) * g).sum(1) / length, (a * b).sum(1))
    a = a / (a * a).sum(1, keepdim=True).clamp(min=1e-10)
    b = b / (b * b).sum(1, keepdim=True).clamp(min=1e-10)
    first, last = -length[:, None] * a, length[:, None] * b
    shift = ((f * g).sum(1) / length)[:, None] * a - ((h * g).sum(1) / length)[:, None] * b
    return torsion, torch.stack([first, shift - first, -shift - last, last], dim=1)


def _touching(molecule: MoleculeGraph, x: NDArray[np.float64]) -> NDArray[np.int64]:
    """Pairs of heavy atoms of two molecules (an ion and what holds it) that never part."""
    number, heavy = molecule.components(), np.array(molecule.elements) > 1
    if number.max() == 0:
        return np.zeros((0, 2), dtype=np.int64)
    near = near_pairs(x[:1], TOUCHING, heavy, np.zeros(0, dtype=np.int64)).numpy()
    near = near[heavy[near].all(axis=1) & (number[near[:, 0]] != number[near[:, 1]])]
    kept = [np.linalg.norm(x[:, a] - x[:, b], axis=1).max() < TOUCHING for a, b in near]
    return near[np.array(kept, dtype=bool)]
