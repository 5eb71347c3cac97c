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
from typing import Any

import torch
from torch import Tensor, nn

from openmm_cgan.features.skeleton import Skeleton
from openmm_cgan.generators.posed_skeleton import PosedSkeleton, distances, distances_turned

NEAR = 0.6  # nm: pairs that never come that near are not looked at
CHANGE = 0.02  # nm: nor are those whose distance hardly changes
SAME = 1e-6  # nm: distances that differ by less are the same
MOST, MOST_MET = 1000, 200  # pairs in all and of a torsion: the nearest, where there are more
ROWS = 500  # by which pairs are chosen and scaled
TRIED = 8  # of them: by which is found what turns with what
CLOSE = 0.03  # nm over which a repulsion falls by a factor of e
WIDTH = 64  # of what the stiff part sees
ANGLES = 8  # to which a torsion is turned to see what it meets
CHANNELS = 4  # of what is seen at each of them
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
    met : sequence of sequences of [int, int]
        Of each torsion that turns, pairs of an atom that stays and one that turns with it: their
        distance hangs on this torsion and on those before it, on none that comes later.

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
        met: Sequence[Pairs],
    ) -> None:
        super().__init__()
        self.posed = PosedSkeleton(rows, turning, placed)
        self.settings: dict[str, Any] = {**self.posed.settings, "near": near, "met": met}
        if not all(
            0 <= atom < len(rows) for some in (near, *met) for pair in some for atom in pair
        ):
            raise ValueError(f"contacts of atoms beyond the {len(rows)} that there are")
        self.register_buffer("pairs", _indices(near), persistent=False)  # they are in the settings
        self.register_buffer("centre", torch.zeros(2 * len(near)))
        self.register_buffer("scale", torch.ones(2 * len(near)))
        self.seen = nn.Sequential(nn.Linear(2 * len(near), WIDTH), nn.SiLU())
        self.met: Any = nn.ModuleList(_Met(some, self.posed.axes[k]) for k, some in enumerate(met))

    def forward(self, torsions: Tensor, condition: Tensor) -> Tensor:
        """What is seen (n, WIDTH) once torsions (n, P) [rad] are known, and conditions (n, C)."""
        felt_BK = felt(distances(self.posed(torsions, condition), self.pairs)).T
        # as a number while it is usual, as a logarithm where atoms are nearer than they ever were
        seen: Tensor = self.seen(torch.asinh((felt_BK - self.centre) / self.scale))
        return seen


class _Met(nn.Module):
    """What one torsion meets as it turns.

    Parameters
    ----------
    pairs : sequence of [int, int]
    axis : (int, int)
        As `distances_turned` takes it.
    """

    pairs: Tensor  # (2, K)
    centre: Tensor  # (2 K,)
    scale: Tensor  # (2 K,)
    angles: Tensor  # (ANGLES, 1)

    def __init__(self, pairs: Pairs, axis: Sequence[int]) -> None:
        super().__init__()
        self.axis, self.n_seen = axis, ANGLES * CHANNELS if len(pairs) else 0
        self.register_buffer("pairs", _indices(pairs), persistent=False)
        self.register_buffer("angles", _angles(), persistent=False)
        self.register_buffer("centre", torch.zeros(2 * len(pairs)))
        self.register_buffer("scale", torch.ones(2 * len(pairs)))
        self.channels = nn.Parameter(torch.randn(CHANNELS, 2 * len(pairs)))

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
        return torch.asinh(seen).flatten(0, 1).T


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
    cosine, sine = features[rows].double().tensor_split([-posed.n_turning], dim=1)
    torsions = torch.atan2(sine, cosine[:, cosine.shape[1] - posed.n_turning :])
    given = torsions, condition[rows].double()
    near = _near(posed, *given)
    if not near.shape[1]:
        return None
    met = [_met(posed, k, *given).T.tolist() for k in range(posed.n_turning)]
    contacts = Contacts(**posed.settings, near=near.T.tolist(), met=met)
    contacts.posed.load_state_dict(posed.state_dict())
    positions = posed(*given)
    _scale_by(contacts, felt(distances(positions, near)))
    for k, met_k in enumerate(contacts.met):
        if met_k.n_seen:
            _scale_by(met_k, met_k.felt(positions, torsions[:, k]).transpose(0, 1).flatten(1))
    return contacts


def _near(posed: PosedSkeleton, torsions: Tensor, condition: Tensor) -> Tensor:
    """Pairs (2, K) that come near and part."""
    positions = posed(torsions, condition)
    return _nearest(_all_pairs(positions), lambda some: distances(positions, some)[None], MOST)


def _met(posed: PosedSkeleton, k: int, torsions: Tensor, condition: Tensor) -> Tensor:
    """Pairs (2, K) of which the second turns with torsion k, and none with a later one.

    That is tried, at random torsions: what is found wrong here would make densities wrong.
    """
    rng = torch.Generator().manual_seed(k)
    some = condition[:TRIED]
    shape = 3, len(some), posed.n_turning
    one, other, further = 2 * math.pi * torch.rand(shape, generator=rng, dtype=torsions.dtype)
    later = torch.arange(posed.n_turning) > k
    before, after = posed(one, some), posed(torch.where(later, other, one), some)
    turned = one.clone()
    turned[:, k] += further[:, k]
    moved, axis, found = posed(turned, some), posed.axes[k], []
    for pairs in _all_pairs(before).split(MOST, dim=1):
        apart = distances(before, pairs)
        free = (distances(after, pairs) - apart).abs().amax(1) < SAME
        turns = (distances(moved, pairs) - apart).abs().amax(1) > SAME
        for ordered in (pairs, pairs.flip(0)):
            predicted = distances_turned(before, ordered, axis, further[None, :, k])[0]
            right = (predicted - distances(moved, ordered)).abs().amax(1) < SAME
            found.append(ordered[:, free & turns & right])
    positions, angles = posed(torsions, condition), _angles() - torsions[:, k]
    return _nearest(
        torch.cat(found, dim=1), lambda s: distances_turned(positions, s, axis, angles), MOST_MET
    )


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


def _scale_by(layer: Any, values: Tensor) -> None:
    """Take over the means and deviations of what is felt (2 K, n)."""
    layer.centre.copy_(values.mean(1))
    layer.scale.copy_(values.std(1, correction=0).clamp(min=TINY))


def _indices(pairs: Pairs) -> Tensor:
    """Pairs as (2, K)."""
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
