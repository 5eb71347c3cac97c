"""Contacts: how near atoms come to one another at given torsions, as networks see it.

What bends bonds and angles, once torsions are known, is what touches; and how far a torsion turns
is up to what it meets on its way. Perceptrons that are told angles alone have to find the distances
of atoms by themselves. Here the skeleton of the molecule is posed, and they are told. At equal
numbers of steps that doubled the effective share of ACE-LEU-NME and ACE-LYS-NME, whose side chains
reach the backbone.

Shape suffixes: B batch, K pairs of atoms.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from openmm_cgan.features.skeleton import Skeleton
from openmm_cgan.generators.posed_skeleton import (
    PosedSkeleton,
    distances,
    distances_turned,
    turned,
)

NEAR = 0.6  # nm: pairs that never come that near are not looked at
CHANGE = 0.02  # nm: nor are those whose distance hardly changes
SAME = 1e-6  # nm: distances that differ by less are the same
MOST = 1000  # pairs: the nearest, where there are more
MOST_MET, MOST_MEETINGS = 200, 3000  # of one torsion, and of all
PIECE = 20_000  # pairs that are tried at a time
ROWS = 500  # by which pairs are chosen and scaled
TRIED = 8  # of them: by which is found what turns with what
CLOSE = 0.03  # nm over which a repulsion falls by a factor of e
WIDTH = 64  # of what the stiff part sees
ANGLES = 8  # to which a torsion is turned to see what it meets
CHANNELS = 4  # of what is seen at each of them
FARTHEST = 8.0  # deviations from the mean
TINY = 1e-12  # of what never changes

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
        If atoms or columns are not there.
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
        self.register_buffer("pairs", _indices(near), persistent=False)  # they are in the settings
        self.register_buffer("centre", torch.zeros(2 * len(near)))
        self.register_buffer("scale", torch.ones(2 * len(near)))
        self.seen = nn.Sequential(nn.Linear(2 * len(near), WIDTH), nn.SiLU())
        self.met: Any = nn.ModuleList(map(_Met, met, turns, self.posed.axes))
        self.meets = any(one.n_seen for one in self.met)

    def forward(self, torsions: Tensor, condition: Tensor) -> Tensor:
        """What is seen (n, WIDTH) once torsions (n, P) [rad] are known, and conditions (n, C)."""
        felt_BK = felt(distances(self.posed(torsions, condition), self.pairs)).T
        seen: Tensor = self.seen(_bounded((felt_BK - self.centre) / self.scale))
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
        self.register_buffer("angles", _angles(), persistent=False)
        self.register_buffer("centre", torch.zeros(2 * len(pairs)))
        self.register_buffer("scale", torch.ones(2 * len(pairs)))
        self.channels = nn.Parameter(torch.randn(CHANNELS, 2 * len(pairs)))

    def turned(self, positions: Tensor, torsion: Tensor) -> Tensor:
        """Positions (3, n_atoms, n) once the torsion is turned further by these (n,) [rad]."""
        return turned(positions, self.turns, self.axis, torsion)

    def felt(self, positions: Tensor, torsion: Tensor) -> Tensor:
        """At each angle (ANGLES, 2 K, n), from positions (3, n_atoms, n) at this torsion (n,)."""
        further = self.angles - torsion
        return felt(distances_turned(positions, self.pairs, self.axis, further))

    def forward(self, positions: Tensor, torsion: Tensor) -> Tensor:
        """What is seen (n, n_seen)."""
        if not self.n_seen:
            return torsion.new_zeros(len(torsion), 0)
        weights = self.channels / self.scale / math.sqrt(self.channels.shape[1])
        seen = weights @ self.felt(positions, torsion) - (weights @ self.centre)[:, None]
        return _bounded(seen).flatten(0, 1).T


def felt(apart: Tensor) -> Tensor:
    """A repulsion and an attraction (..., 2 K, n), of no scale, at distances (..., K, n) [nm]."""
    return torch.cat([(-apart / CLOSE).exp(), 1.0 / apart], dim=-2)


def fitted_contacts(skeleton: Skeleton, features: Tensor, condition: Tensor) -> Contacts | None:
    """Contacts over pairs that come near and part among features; None if there are none.

    Parameters
    ----------
    skeleton : Skeleton
    features : Tensor, shape (n, n_features)
        Whose last ones are cosines and then sines of the turning torsions.
    condition : Tensor, shape (n, n_condition)
    """
    posed = PosedSkeleton.of(skeleton)
    rows = torch.linspace(0, len(features) - 1, min(ROWS, len(features))).long()
    n = posed.n_turning  # 0 of a chain whose only torsion is a condition
    pairs = features[rows, features.shape[1] - 2 * n :].double()
    torsions = torch.atan2(pairs[:, n:], pairs[:, :n])
    given = torsions, condition[rows].double()
    positions = posed(*given)
    near = _nearest(_all_pairs(positions), lambda some: distances(positions, some)[None], MOST)
    if not near.shape[1]:
        return None
    turns = _turns(posed, given[1][:TRIED])
    met = [_met(posed, k, turns[k], positions, *given).T.tolist() for k in range(posed.n_turning)]
    atoms = [some.tolist() for some in turns]
    contacts = Contacts(**posed.settings, near=near.T.tolist(), turns=atoms, met=met)
    contacts.posed.load_state_dict(posed.state_dict())
    _scale_by(contacts, felt(distances(positions, near)))
    for k, met_k in enumerate(contacts.met):
        if met_k.n_seen:
            _scale_by(met_k, met_k.felt(positions, torsions[:, k]).transpose(0, 1).flatten(1))
    return contacts


def _turns(posed: PosedSkeleton, condition: Tensor) -> list[Tensor]:
    """The atoms that turn with each torsion; none at all where one does more than turn some.

    That is tried, at random torsions and a few conditions.
    """
    one, further = _random_torsions(posed, condition, 2)
    before, found = posed(one, condition), []
    for k in range(posed.n_turning):
        other = one.clone()
        other[:, k] += further[:, k]
        after = posed(other, condition)
        (atoms,) = torch.where((after - before).abs().amax((0, 2)) > SAME)
        if (turned(before, atoms, posed.axes[k], further[:, k]) - after).abs().max() > SAME:
            return [atoms[:0]] * posed.n_turning
        found.append(atoms)
    return found


def _met(
    posed: PosedSkeleton,
    k: int,
    turns: Tensor,
    positions: Tensor,
    torsions: Tensor,
    condition: Tensor,
) -> Tensor:
    """Pairs (2, K) of an atom that stays and one that turns with torsion k, and with none later."""
    stays = torch.ones(positions.shape[1], dtype=torch.bool)
    stays[turns] = False
    (staying,) = torch.where(stays)
    pairs = torch.cartesian_prod(staying, turns).T
    one, other = _random_torsions(posed, condition[:TRIED], 2)
    later = torch.arange(posed.n_turning) > k
    tried = [posed(angles, condition[:TRIED]) for angles in (one, torch.where(later, other, one))]
    pairs = torch.cat([
        some[:, (distances(tried[1], some) - distances(tried[0], some)).abs().amax(1) < SAME]
        for some in pairs.split(PIECE, dim=1)
    ], dim=1)  # fmt: skip
    most = min(MOST_MET, MOST_MEETINGS // posed.n_turning)
    for rows, kept in ((slice(TRIED), 4 * most), (slice(None), most)):
        if pairs.shape[1] > kept or rows == slice(None):
            there, further = positions[..., rows], _angles() - torsions[rows, k]
            apart_of = partial(distances_turned, there, axis=posed.axes[k], angles=further)
            pairs = _nearest(pairs, apart_of, kept)
    return pairs


def _random_torsions(posed: PosedSkeleton, condition: Tensor, n: int) -> Tensor:
    """Torsions (n, m, P) [rad] for m conditions, always the same."""
    rng = torch.Generator().manual_seed(0)
    shape = n, len(condition), posed.n_turning
    return 2 * math.pi * torch.rand(shape, generator=rng, dtype=condition.dtype)


def _nearest(pairs: Tensor, apart_of: Callable[[Tensor], Tensor], most: int) -> Tensor:
    """Those of pairs (2, K) that come near and part, the nearest where these are many.

    ``apart_of`` gives the distances (A, K, n) of some.
    """
    kept = [pairs[:, :0]]
    least = [torch.zeros(0).to(apart_of(pairs[:, :0]))]
    for some in pairs.split(MOST_MET, dim=1):
        apart = apart_of(some)
        nearest = apart.amin((0, 2))
        change = (apart.amax(2) - apart.amin(2)).amax(0)
        chosen = (nearest < NEAR) & (change > CHANGE)
        kept.append(some[:, chosen])
        least.append(nearest[chosen])
    order = torch.cat(least).argsort(stable=True)[:most].sort().values
    return torch.cat(kept, dim=1)[:, order]


def _all_pairs(positions: Tensor) -> Tensor:
    n_atoms = positions.shape[1]
    return torch.triu_indices(n_atoms, n_atoms, 1)


def _angles() -> Tensor:
    """Angles (ANGLES, 1) [rad] to which a torsion is turned."""
    return (torch.arange(ANGLES) * (2 * math.pi / ANGLES) - math.pi)[:, None]


def _bounded(deviation: Tensor) -> Tensor:
    """Itself while it is usual, at most FARTHEST where atoms are nearer than they ever were."""
    return deviation * (1 + (deviation / FARTHEST).square()).rsqrt()


def _scale_by(layer: Any, values: Tensor) -> None:
    """Take over the means and deviations of what is felt (2 K, n)."""
    layer.centre.copy_(values.mean(1))
    layer.scale.copy_(values.std(1, correction=0).clamp(min=TINY))


def _indices(pairs: Pairs) -> Tensor:
    """Pairs as (2, K)."""
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
