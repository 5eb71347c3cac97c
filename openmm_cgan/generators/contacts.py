"""Contacts: how near atoms come to one another at given torsions, as networks see it.

What bends bonds and angles, once torsions are known, is what touches; and how far a torsion turns
is up to what it meets on its way. Perceptrons that are told angles alone have to find the distances
of atoms by themselves. Here the skeleton of the molecule is posed, and they are told. At equal
numbers of steps that doubled the effective share of ACE-LEU-NME and ACE-LYS-NME, whose side chains
reach the backbone. Which pairs are looked at, `contact_pairs` finds.

Shape suffixes: B batch, K pairs of atoms.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from openmm_cgan.generators.posed_skeleton import (
    LEAST,
    PosedSkeleton,
    Turning,
    squared_distances,
    turned,
)

CLOSE = 0.03  # nm over which a repulsion falls by a factor of e
WIDTH = 64  # of what the stiff part sees
ANGLES = 8  # to which a torsion is turned to see what it meets
CHANNELS = 4  # of what is seen at each of them
FARTHEST = 8.0  # deviations from the mean

Pairs = Sequence[Sequence[int]]


class Contacts(nn.Module):
    """Layers over the distances of atoms, at torsions and conditions.

    Parameters
    ----------
    rows, turning, placed
        As a Skeleton has them.
    near : sequence of [int, int]
        Pairs of atoms that are looked at once all torsions are known.
    turns : sequence of sequences of int
        Of each torsion, the atoms that turn about its axis; none where it is not known.
    met : sequence of sequences of [int, int]
        Of each torsion, pairs of an atom that stays and one that turns: their distance hangs on
        this torsion and on those before it, on none that comes later.

    Raises
    ------
    ValueError
        If atoms or columns are not there, or there are not as many ``turns`` and ``met`` as
        torsions.
    """

    pairs: Tensor  # (2, K)
    centre: Tensor  # (2 K,)
    scale: Tensor  # (2 K,)

    def __init__(
        self,
        rows: Pairs,
        turning: Sequence[int],
        placed: Pairs,
        near: Pairs,
        turns: Pairs,
        met: Sequence[Pairs],
    ) -> None:
        super().__init__()
        self.posed = PosedSkeleton(rows, turning, placed)
        self.settings: dict[str, Any] = {
            **self.posed.settings,
            **{"near": near, "turns": turns, "met": met},
        }
        named = [*turns, *(pair for some in (near, *met) for pair in some)]
        if not all(0 <= atom < len(rows) for atoms in named for atom in atoms):
            raise ValueError(f"contacts of atoms beyond the {len(rows)} that there are")
        if not len(turns) == len(met) == len(turning):
            raise ValueError(f"of {len(turning)} torsions {len(turns)} turn and {len(met)} meet")
        self.register_buffer("pairs", _indices(near), persistent=False)  # they are in the settings
        self.register_buffer("centre", torch.zeros(2 * len(near)))
        self.register_buffer("scale", torch.ones(2 * len(near)))
        self.seen = nn.Sequential(nn.Linear(2 * len(near), WIDTH), nn.SiLU())
        self.met: Any = nn.ModuleList(map(_Met, met, turns, self.posed.axes))
        self.meets = any(one.n_seen for one in self.met)

    def forward(self, torsions: Tensor, condition: Tensor) -> Tensor:
        """What is seen (n, WIDTH) once torsions (n, P) [rad] are known, and conditions (n, C)."""
        squares = squared_distances(self.posed(torsions, condition), self.pairs)
        felt_KB = torch.cat(felt(squares))
        scale = 1 / self.scale[:, None]
        deviation_KB = torch.addcmul(-scale * self.centre[:, None], felt_KB, scale)
        seen: Tensor = self.seen(_bounded(deviation_KB).T)
        return seen


class _Met(nn.Module):
    """What one torsion meets as it turns.

    Parameters
    ----------
    pairs : sequence of [int, int]
    turns : sequence of int
        Atoms.
    axis : (int, int)
        As `turned` takes it.
    """

    pairs: Tensor  # (2, K)
    turns: Tensor
    centre: Tensor  # (2 K,)
    scale: Tensor  # (2 K,)
    angles: Tensor  # (ANGLES, 1)

    def __init__(self, pairs: Pairs, turns: Sequence[int], axis: Sequence[int]) -> None:
        super().__init__()
        self.axis, self.n_seen = axis, ANGLES * CHANNELS if len(pairs) else 0
        self.register_buffer("pairs", _indices(pairs), persistent=False)
        self.register_buffer("turns", torch.tensor(turns, dtype=torch.int64), persistent=False)
        self.register_buffer("angles", angles_tried(), persistent=False)
        self.register_buffer("centre", torch.zeros(2 * len(pairs)))
        self.register_buffer("scale", torch.ones(2 * len(pairs)))
        self.channels = nn.Parameter(torch.randn(CHANNELS, 2 * len(pairs)))

    def turned(self, positions: Tensor, torsion: Tensor) -> Tensor:
        """Positions (3, n_atoms, n) once the torsion is turned further by these (n,) [rad]."""
        return turned(positions, self.turns, self.axis, torsion)

    def felt(self, positions: Tensor, torsion: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """As `felt`, at each angle, from positions (3, n_atoms, n) at this torsion (n,).

        One after another: what is made of one angle stays in the processor's cache.
        """
        turning = Turning.of(positions, self.pairs, self.axis)
        return (felt(turning.at(further)) for further in self.angles - torsion)

    def forward(self, positions: Tensor, torsion: Tensor) -> Tensor:
        """What is seen (n, n_seen)."""
        if not self.n_seen:
            return torsion.new_zeros(len(torsion), 0)
        weights = self.channels / self.scale / math.sqrt(self.channels.shape[1])
        near, far = weights.tensor_split(2, dim=1)
        seen = torch.cat([near @ x + far @ y for x, y in self.felt(positions, torsion)])
        return _bounded(seen - (weights @ self.centre).repeat(ANGLES)[:, None]).T


def felt(squares: Tensor) -> tuple[Tensor, Tensor]:
    """A repulsion and an attraction (K, n), of no scale, at squared distances (K, n) [nm^2]."""
    squares = squares.clamp(min=LEAST**2)
    inverse = squares.rsqrt()
    return (squares * inverse).mul_(-1 / CLOSE).exp_(), inverse


def angles_tried() -> Tensor:
    """Angles (ANGLES, 1) [rad] to which a torsion is turned."""
    return (torch.arange(ANGLES) * (2 * math.pi / ANGLES) - math.pi)[:, None]


def _bounded(deviation: Tensor) -> Tensor:
    """Itself while it is usual, at most FARTHEST where atoms are nearer than they ever were."""
    one = deviation.new_ones(())
    return deviation * torch.addcmul(one, deviation, deviation, value=FARTHEST**-2).rsqrt_()


def _indices(pairs: Pairs) -> Tensor:
    """Pairs as (2, K)."""
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
