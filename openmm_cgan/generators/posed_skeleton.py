"""PosedSkeleton: where atoms stand at torsions and conditions, stiff coordinates at their means."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from openmm_cgan.features.skeleton import Skeleton
from openmm_cgan.internal_coordinates import Internal, ZMatrix
from openmm_cgan.internal_coordinates.z_matrix import cross

LEAST = 0.05  # nm: atoms that are nearer count as that far apart


class PosedSkeleton(nn.Module):
    """Positions of a Skeleton, in batches and differentiable.

    Parameters
    ----------
    rows, turning, placed
        As a Skeleton has them.

    Raises
    ------
    ValueError
        If columns name what is not there, or one coordinate twice.
    """

    at_rest: Tensor  # (3 n_atoms - 6,)
    lines: Tensor  # (n_placed, 2)
    columns: Tensor  # (n_turning + n_placed,)
    told: Tensor  # (n_placed, 2)

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        turning: Sequence[int],
        placed: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"rows": rows, "turning": turning, "placed": placed}
        self.z_matrix = ZMatrix(rows)
        self.n_turning = len(turning)
        n_coordinates = sum(self.z_matrix.widths)
        first = sum(self.z_matrix.widths[:2])
        table = torch.tensor(placed, dtype=torch.int64).reshape(-1, 3)
        columns = [*turning, *table[:, 0].tolist()]
        if not all(first <= c < n_coordinates for c in turning) or not all(
            0 <= c < n_coordinates for c in columns
        ):
            raise ValueError(
                f"a skeleton turns {turning} and places {columns}, which are not there"
            )
        if len({*columns}) < len(columns):
            raise ValueError(f"a skeleton turns {turning} and places {columns}: one of them twice")
        # the two atoms of each axis: what turns hangs on the first
        self.axes = [tuple(self.z_matrix.rows[c - first + 3, 1:3].tolist()) for c in turning]
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)
        self.register_buffer("told", table[:, 1:], persistent=False)
        self.register_buffer("at_rest", torch.zeros(n_coordinates))
        self.register_buffer("lines", torch.zeros(len(placed), 2))

    @classmethod
    def of(cls, skeleton: Skeleton) -> Self:
        """The positions of a skeleton, in double precision."""
        posed = cls(skeleton.rows, skeleton.turning, skeleton.placed).double()
        posed.at_rest.copy_(skeleton.at_rest)
        posed.lines.copy_(skeleton.lines)
        return posed

    def forward(self, torsions: Tensor, condition: Tensor) -> Tensor:
        """Positions (3, n_atoms, n) [nm] at torsions (n, k) [rad] and conditions (n, n_condition).

        Where k is less than there are, the later ones are zero.
        """
        first, second = (condition[:, self.told[:, k]] for k in (0, 1))
        periodic = self.told[:, 0] != self.told[:, 1]
        told = torch.where(periodic, torch.atan2(second, first), first)
        placed = self.lines[:, 0] * told + self.lines[:, 1]
        turned = pad(torsions, (0, self.n_turning - torsions.shape[1]))
        q = self.at_rest.expand(len(torsions), -1)
        q = q.index_copy(1, self.columns, torch.cat([turned, placed], dim=1))
        positions = self.z_matrix.to_cartesian(Internal(*q.split(self.z_matrix.widths, dim=1)))
        return positions.permute(2, 1, 0).contiguous()  # rows are then copied whole


def squared_distances(positions: Tensor, pairs: Tensor) -> Tensor:
    """Of pairs (2, K) of atoms [nm^2], shape (K, n), from positions (3, n_atoms, n)."""
    x, y, z = positions.index_select(1, pairs[0]) - positions.index_select(1, pairs[1])
    return torch.addcmul(torch.addcmul(x * x, y, y), z, z)


def distances(positions: Tensor, pairs: Tensor) -> Tensor:
    """Of pairs (2, K) of atoms [nm], shape (K, n), from positions (3, n_atoms, n)."""
    return _root(squared_distances(positions, pairs))


def turned(positions: Tensor, atoms: Tensor, axis: Sequence[int], angles: Tensor) -> Tensor:
    """Positions once some atoms are turned about an axis.

    Parameters
    ----------
    positions : Tensor, shape (3, n_atoms, n)
        [nm]
    atoms : Tensor of int, shape (m,)
        That turn.
    axis : (int, int)
        Atoms p and g of a torsion's row: it turns about p - g, through p.
    angles : Tensor, shape (n,)
        [rad]

    Returns
    -------
    Tensor, shape (3, n_atoms, n)
    """
    origin, along = _axis(positions, axis)
    height, across, quarter = _about(along, positions.index_select(1, atoms) - origin)
    there = origin + height * along + angles.cos() * across + angles.sin() * quarter
    return positions.index_copy(1, atoms, there)


class Turning(NamedTuple):
    """Squared distances of pairs, one atom of which turns about an axis.

    Attributes
    ----------
    mean, cosine, sine : Tensor, shape (K, n)
        [nm^2]
    """

    mean: Tensor
    cosine: Tensor
    sine: Tensor

    @classmethod
    def of(cls, positions: Tensor, pairs: Tensor, axis: Sequence[int]) -> Self:
        """From positions (3, n_atoms, n) [nm], pairs (2, K) and an axis as of `turned`.

        The first atom of a pair stays, the second turns.
        """
        origin, along = _axis(positions, axis)
        stays, turns = (positions.index_select(1, atoms) - origin for atoms in pairs)
        height, across, quarter = _about(along, turns)
        own_height = (stays * along).sum(0)
        own = stays - own_height * along
        mean = (own_height - height) ** 2 + own.square().sum(0) + across.square().sum(0)
        return cls(mean, -2 * (own * across).sum(0), -2 * (own * quarter).sum(0))

    def at(self, angle: Tensor) -> Tensor:
        """Squared distances (K, n) [nm^2] once turned by angles (n,) [rad]."""
        half_way = torch.addcmul(self.mean, angle.cos(), self.cosine)
        return torch.addcmul(half_way, angle.sin(), self.sine)


def distances_turned(
    positions: Tensor, pairs: Tensor, axis: Sequence[int], angles: Tensor
) -> Tensor:
    """Distances (A, K, n) [nm] of pairs at several turns (A, n) [rad], the rest as of `Turning`."""
    turning = Turning.of(positions, pairs, axis)
    return torch.stack([_root(turning.at(angle)) for angle in angles])


def _axis(positions: Tensor, axis: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Origin and direction (3, 1, n) of an axis."""
    p, g = (positions[:, k : k + 1] for k in axis)
    return p, (p - g) / _norm(p - g)


def _about(along: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Heights (m, n) of x (3, m, n) along an axis, what is across, and that a quarter further."""
    height = (x * along).sum(0)
    across = x - height * along
    return height, across, cross(along, across)


def _norm(v: Tensor) -> Tensor:
    return _root(v.square().sum(0))


def _root(squares: Tensor) -> Tensor:
    return squares.clamp(min=LEAST**2).sqrt()
