"""Which pairs of atoms a flow is told of: those that come near and part among the frames.

What turns with a torsion is tried, not concluded: a pair that turned with a later one as well would
make densities wrong. Pairs are (2, K), positions (3, n_atoms, n) [nm].
"""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from openmm_cgan.features.skeleton import Skeleton
from openmm_cgan.generators.contacts import Contacts, angles_tried, felt
from openmm_cgan.generators.posed_skeleton import (
    PosedSkeleton,
    distances,
    distances_turned,
    squared_distances,
    turned,
)

NEAR = 0.6  # nm: pairs that never come that near are not looked at
CHANGE = 0.02  # nm: nor are those whose distance hardly changes
SAME = 1e-6  # nm: distances that differ by less are the same
FEWEST = 20  # pairs: of less, networks find out by themselves, in half the time
MOST = 1000  # pairs: the nearest, where there are more
MOST_MET, MOST_MEETINGS = 200, 3000  # of one torsion, and of all
PIECE = 20_000  # pairs that are tried at a time
ROWS = 500  # by which pairs are chosen and scaled
TRIED = 8  # of them: by which is found what turns with what
TINY = 1e-12  # deviation of what never changes


def fitted_contacts(skeleton: Skeleton, features: Tensor, condition: Tensor) -> Contacts | None:
    """Contacts over pairs that come near and part among features; None if there are few.

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
    if near.shape[1] < FEWEST:
        return None
    turns = _turns(posed, given[1][:TRIED])
    met = [_met(posed, k, turns[k], positions, *given).T.tolist() for k in range(posed.n_turning)]
    atoms = [some.tolist() for some in turns]
    contacts = Contacts(**posed.settings, near=near.T.tolist(), turns=atoms, met=met)
    contacts.posed.load_state_dict(posed.state_dict())
    _scale_by(contacts, torch.cat(felt(squared_distances(positions, near))))
    for k, met_k in enumerate(contacts.met):
        if met_k.n_seen:
            felt_at = map(torch.cat, met_k.felt(positions, torsions[:, k]))
            _scale_by(met_k, torch.cat([*felt_at], dim=1))
    return contacts


def require_same_seen(contacts: Contacts, n_condition: int) -> None:
    """Refuse contacts of which a torsion is told other things once later torsions are known.

    Densities would be wrong, and nothing would show it.

    Parameters
    ----------
    contacts : Contacts
        As a file has them.
    n_condition : int

    Raises
    ------
    ValueError
        If atoms, pairs or the order of torsions are not those of the skeleton.
    """
    tried: Any = copy.deepcopy(contacts).double()
    rng = torch.Generator().manual_seed(0)
    condition = torch.randn(TRIED, n_condition, generator=rng, dtype=torch.float64)
    (torsions,) = _random_torsions(tried.posed, condition, 1)
    drawn, known = tried.posed(torsions[:, :0], condition), tried.posed(torsions, condition)
    for k, met in enumerate(tried.met):
        ways = ((drawn, torch.zeros_like(torsions[:, k])), (known, torsions[:, k]))
        one, other = (
            distances_turned(positions, met.pairs, met.axis, met.angles - torsion)
            for positions, torsion in ways
        )
        if ((one - other).abs() > SAME).any():
            raise ValueError(f"what torsion {k} meets is not known before the later ones are")
        drawn = met.turned(drawn, torsions[:, k])


def _turns(posed: PosedSkeleton, condition: Tensor) -> list[Tensor]:
    """The atoms that turn with each torsion; none at all where one does more than turn some."""
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
            there, further = positions[..., rows], angles_tried() - torsions[rows, k]
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


def _scale_by(layer: Any, values: Tensor) -> None:
    """Take over the means and deviations of what is felt (2 K, n)."""
    layer.centre.copy_(values.mean(1))
    layer.scale.copy_(values.std(1, correction=0).clamp(min=TINY))
