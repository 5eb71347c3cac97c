"""Contacts: how near atoms come to one another at given torsions, as a network sees it.

What bends bonds and angles, once torsions are known, is what touches: a perceptron that is told
angles alone has to find the distances of atoms by itself. Here the skeleton of the molecule is
built, and its distances are told. At equal numbers of steps this doubled the effective share of
ACE-LEU-NME and of ACE-LYS-NME, whose side chains reach the backbone.

Shape suffixes: B batch, C condition, K pairs of atoms, P torsions.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from openmm_cgan.features.skeleton import Skeleton
from openmm_cgan.internal_coordinates import Internal, ZMatrix

NEAR = 0.6  # nm: pairs that never come that near are not looked at
CHANGE = 0.02  # nm: nor are those whose distance hardly changes
MOST = 1000  # pairs: the nearest, where a molecule has more
ROWS = 500  # by which pairs are chosen and scaled
CLOSE = 0.03  # nm over which a repulsion falls by a factor of e
OVERLAP = 0.05  # nm: nearer than this counts as this
WIDTH = 64  # of what is seen


class Contacts(nn.Module):
    """A layer over the distances of atoms, at torsions and conditions.

    Parameters
    ----------
    rows, turning, placed
        As a Skeleton has them.
    near : sequence of [int, int]
        Pairs of atoms that are looked at.

    Raises
    ------
    ValueError
        If ``near`` or the columns name what is not there.
    """

    at_rest: Tensor  # (3 n_atoms - 6,)
    lines: Tensor  # (n_placed, 2)
    centre: Tensor  # (2 K,)
    scale: Tensor  # (2 K,)
    pairs: Tensor  # (2, K)
    columns: Tensor  # (P + n_placed,)
    told: Tensor  # (n_placed, 2)

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        turning: Sequence[int],
        placed: Sequence[Sequence[int]],
        near: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "rows": rows,
            "turning": turning,
            "placed": placed,
            "near": near,
        }
        self.z_matrix = ZMatrix(rows)
        n_coordinates, n_near = sum(self.z_matrix.widths), len(near)
        pairs = torch.tensor(near, dtype=torch.int64).reshape(-1, 2).T.contiguous()
        told = torch.tensor(placed, dtype=torch.int64).reshape(-1, 3)
        columns = torch.cat([torch.tensor(turning, dtype=torch.int64), told[:, 0]])
        for numbers, limit in ((pairs, self.z_matrix.n_atoms), (columns, n_coordinates)):
            if ((numbers < 0) | (numbers >= limit)).any():
                raise ValueError(f"contacts name atoms or coordinates beyond {limit}")
        for name, numbers in (("pairs", pairs), ("columns", columns), ("told", told[:, 1:])):
            self.register_buffer(name, numbers, persistent=False)  # they are in the settings
        self.register_buffer("at_rest", torch.zeros(n_coordinates))
        self.register_buffer("lines", torch.zeros(len(placed), 2))
        self.register_buffer("centre", torch.zeros(2 * n_near))
        self.register_buffer("scale", torch.ones(2 * n_near))
        self.seen = nn.Sequential(nn.Linear(2 * n_near, WIDTH), nn.SiLU())

    @classmethod
    def fit(cls, skeleton: Skeleton, features: Tensor, condition: Tensor) -> Self | None:
        """Choose pairs that touch or part somewhere among features; None if there are none.

        Parameters
        ----------
        skeleton : Skeleton
        features : Tensor, shape (n, n_features)
            Whose last ones are cosines and then sines of the turning torsions.
        condition : Tensor, shape (n, n_condition)
        """
        rows = torch.linspace(0, len(features) - 1, min(ROWS, len(features))).long()
        n_pairs = len(skeleton.turning)
        cosine, sine = features[rows][:, features.shape[1] - 2 * n_pairs :].chunk(2, dim=1)
        turned = torch.atan2(sine, cosine), condition[rows]
        n_atoms = len(skeleton.rows)
        nearest = []
        for some in torch.triu_indices(n_atoms, n_atoms, 1).T.split(10 * MOST):
            known = cls._over(skeleton, some)
            distances = known.distances(*turned)
            least, most = distances.amin(1), distances.amax(1)
            kept = (least < NEAR) & (most - least > CHANGE)
            nearest.append(torch.cat([least[kept, None], some[kept]], dim=1))
        found = torch.cat(nearest)
        if not len(found):
            return None
        chosen = found[found[:, 0].argsort(stable=True)[:MOST].sort().values, 1:].long()
        contacts = cls._over(skeleton, chosen)
        felt = contacts.felt(*turned)
        contacts.centre.copy_(felt.mean(0))
        contacts.scale.copy_(felt.std(0, correction=0))
        return contacts

    @classmethod
    def _over(cls, skeleton: Skeleton, near: Tensor) -> Self:
        """Contacts over pairs (K, 2) that are not scaled yet."""
        contacts = cls(skeleton.rows, skeleton.turning, skeleton.placed, near.tolist())
        contacts.at_rest.copy_(skeleton.at_rest)
        contacts.lines.copy_(skeleton.lines)
        return contacts

    def forward(self, torsions: Tensor, condition: Tensor) -> Tensor:
        """What is seen (n, WIDTH) at torsions (n, P) [rad] and conditions (n, C)."""
        deviation_BK = (self.felt(torsions, condition) - self.centre) / self.scale
        # as a number while it is usual, as a logarithm where atoms are nearer than they ever were
        seen: Tensor = self.seen(torch.asinh(deviation_BK))
        return seen

    def felt(self, torsions: Tensor, condition: Tensor) -> Tensor:
        """A repulsion and an attraction (n, 2 K) of each pair, of no scale."""
        distances_KB = self.distances(torsions, condition)
        return torch.cat([(-distances_KB / CLOSE).exp(), 1.0 / distances_KB]).T

    def distances(self, torsions: Tensor, condition: Tensor) -> Tensor:
        """Of each pair (K, n) [nm], at torsions (n, P) [rad] and conditions (n, C)."""
        first, second = (condition[:, self.told[:, k]] for k in (0, 1))
        periodic = self.told[:, 0] != self.told[:, 1]
        told = torch.where(periodic, torch.atan2(second, first), first)
        placed = self.lines[:, 0] * told + self.lines[:, 1]
        at_rest = self.at_rest.expand(len(torsions), -1)
        values = torch.cat([torsions, placed], dim=1)
        q = at_rest.index_copy(1, self.columns, values)
        positions = self.z_matrix.to_cartesian(Internal(*q.split(self.z_matrix.widths, dim=1)))
        x = positions.permute(2, 1, 0).contiguous()  # (3, atom, batch): rows are copied whole
        apart = x.index_select(1, self.pairs[0]) - x.index_select(1, self.pairs[1])
        return apart.square().sum(0).clamp(min=OVERLAP**2).sqrt()
