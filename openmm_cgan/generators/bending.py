"""Torsions one after another: uniform angles bent into torsions of known density, and back.

The spline of each torsion depends on the condition, on harmonics of the torsions before it, and on
what it meets as it turns, where Contacts know that; so the density of any of them, given those
before, is known by itself.

Shape suffixes: B batch, P torsions.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from openmm_cgan.generators.contacts import Contacts
from openmm_cgan.generators.splines import circular_spline

HARMONICS = 3  # of the torsions, as the networks see them: methyl groups have three wells
LOG_2PI = math.log(2 * math.pi)
BELOW_ONE = 1 - 2.0**-24  # in single precision, in which wells are counted


class Noise(NamedTuple):
    """What a FlowGenerator bends into features.

    Attributes
    ----------
    angles : Tensor, shape (n, n_pairs)
        Uniform in [-pi, pi].
    wells : Tensor, shape (n, n_pairs)
        Which of the alike wells of a torsion.
    z : Tensor, shape (n, n_linear)
        Normal deviates.
    """

    angles: Tensor
    wells: Tensor
    z: Tensor


def given(torsions: Tensor, condition: Tensor) -> Tensor:
    """Condition, and harmonics of torsions (n, k)."""
    multiples = torch.cat([m * torsions for m in range(1, HARMONICS + 1)], dim=1)
    return torch.cat([condition, multiples.cos(), multiples.sin()], dim=1)


def uniform_angles(
    condition: Tensor, folds: Sequence[int], rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Angles and wells (n, n_torsions) that `bent` makes torsions of, for conditions (n, C)."""
    uniform = torch.rand(len(condition), len(folds), generator=rng, dtype=condition.dtype)
    return folded_angles(uniform.to(condition.device), folds)


def folded_angles(uniform: Tensor, folds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Angles and wells (n, n_torsions) of uniform numbers (n, n_torsions)."""
    folds_P = torch.tensor(folds).to(uniform)
    # which of the wells, and where in it: as likely in each
    wells_BP = torch.floor(folds_P * uniform)
    return (2 * (folds_P * uniform - wells_BP) - 1) * math.pi, wells_BP


def bent(
    splines: nn.ModuleList,
    folds: Sequence[int],
    angles: Tensor,
    wells: Tensor,
    condition: Tensor,
    contacts: Contacts | None = None,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Torsions of uniform angles.

    Parameters
    ----------
    splines : ModuleList
        A network for each torsion.
    folds : sequence of int
        Symmetry of each torsion.
    angles, wells : Tensor, shape (n, n_torsions)
        As `uniform_angles` gives them.
    condition : Tensor, shape (n, n_condition)
    contacts : Contacts, optional
    kept : Tensor, shape (n, n_torsions), optional
        Torsions [rad] that are as they are; NaN: to be made.

    Returns
    -------
    torsions : Tensor, shape (n, n_torsions)
        [rad]
    log_prob : Tensor, shape (n, n_torsions)
        Log density of each given those before it [1/rad]; of no meaning where it was kept.
    """
    torsions_BP = log_prob = condition.new_zeros(len(condition), 0)
    positions = None
    if contacts is not None and contacts.meets:
        positions = contacts.posed(torsions_BP, condition)
    for k, network in enumerate(splines):
        told = given(torsions_BP, condition)
        if contacts is not None and positions is not None:
            seen = contacts.met[k](positions, torch.zeros_like(angles[:, k]))
            told = torch.cat([told, seen], dim=1)
        folded, log_slope = circular_spline(angles[:, k], network(told), inverse=True)
        torsion = wrapped((folded + 2 * math.pi * wells[:, k]) / folds[k])
        if kept is not None:
            torsion = torch.where(kept[:, k].isnan(), torsion, kept[:, k])
        if contacts is not None and positions is not None:
            positions = contacts.met[k].turned(positions, torsion)
        torsions_BP = torch.cat([torsions_BP, torsion[:, None]], dim=1)
        log_prob = torch.cat([log_prob, (-LOG_2PI - log_slope)[:, None]], dim=1)
    return torsions_BP, log_prob


def unbent(
    splines: nn.ModuleList,
    folds: Sequence[int],
    torsions: Tensor,
    condition: Tensor,
    contacts: Contacts | None = None,
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """What `bent` makes torsions of: angles and wells, and the log density of each torsion.

    All of shape (n, n_torsions); parameters as for `bent`.
    """
    angles, wells, log_prob = [torsions[:, :0]], [torsions[:, :0]], [torsions[:, :0]]
    positions = None
    if contacts is not None and contacts.meets:
        positions = contacts.posed(torsions, condition)
    for k, network in enumerate(splines):
        turned = folds[k] * torsions[:, k]
        folded = wrapped(turned)
        told = given(torsions[:, :k], condition)
        if contacts is not None and positions is not None:  # as before this and later were known
            told = torch.cat([told, contacts.met[k](positions, torsions[:, k])], dim=1)
        angle, log_slope = circular_spline(folded, network(told))
        angles.append(angle[:, None])
        wells.append(torch.round((turned - folded) / (2 * math.pi))[:, None])
        log_prob.append((log_slope - LOG_2PI)[:, None])
    return (torch.cat(angles, dim=1), torch.cat(wells, dim=1)), torch.cat(log_prob, dim=1)


def wrapped(angles: Tensor) -> Tensor:
    """Angles [rad] brought into [-pi, pi)."""
    return angles - 2 * math.pi * torch.floor(angles / (2 * math.pi) + 0.5)
