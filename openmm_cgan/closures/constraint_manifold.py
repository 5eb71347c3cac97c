"""The manifold on which constraints hold a molecule: what is along it, and how it is bent.

Coordinates y = x / scale, scale the square root of a mobility, are those of some atoms, ``moved``
the flat numbers of theirs; ``pairs`` are the constraints among these atoms. P is the projector onto
what the constraints leave free.
"""

from __future__ import annotations

import torch
from torch import Tensor


def constraint_gradients(x: Tensor, moved: Tensor, pairs: Tensor, scale: Tensor) -> Tensor:
    """Gradients by y of the constrained distances.

    Parameters
    ----------
    x : Tensor, shape (n, n_atoms, 3)
        [nm]
    moved : Tensor of int, shape (d,)
        Whole atoms.
    pairs : Tensor of int, shape (c, 2)
    scale : Tensor, shape (n_atoms, 3)

    Returns
    -------
    Tensor, shape (n, c, d)
        Differentiable by x.
    """
    apart = x[:, pairs[:, 0]] - x[:, pairs[:, 1]]
    directions = apart / apart.norm(dim=-1, keepdim=True)
    bonds = (_ends(pairs, moved)[..., None] * directions[:, :, None]).flatten(2)
    return bonds * scale.flatten()[moved]


def curvatures(x: Tensor, moved: Tensor, pairs: Tensor, scale: Tensor, gradients: Tensor) -> Tensor:
    """tr(P D D r) of each constrained distance r, D D its second derivatives by y.

    They are E^T (1 - u u^T) E / r, u the direction and E y the vector between the two atoms.

    Parameters
    ----------
    x, moved, pairs, scale
        As of `constraint_gradients`.
    gradients : Tensor, shape (n, c, d)
        The result of it.

    Returns
    -------
    Tensor, shape (n, c)
    """
    apart = x[:, pairs[:, 0]] - x[:, pairs[:, 1]]
    lengths = apart.norm(dim=-1)
    directions = apart / lengths[..., None]
    whole = torch.eye(3, dtype=x.dtype, device=x.device)
    across = whole - directions[..., :, None] * directions[..., None, :]
    ends = _ends(pairs, moved)[..., None] * scale.flatten()[moved].view(-1, 3)
    # E P E^T: all of E E^T but what is along the gradients.
    seen = torch.einsum("kai,nlai->nkli", ends, gradients.unflatten(2, (-1, 3)))
    held = torch.linalg.inv(gradients @ gradients.transpose(1, 2))
    along = torch.einsum("nkli,nlm,nkmj->nkij", seen, held, seen)
    free = torch.diag_embed((ends**2).sum(1)) - along
    return (across * free).sum((-1, -2)) / lengths


def tangent(vectors: Tensor, gradients: Tensor | None) -> Tensor:
    """What constraints of gradients (n, c, d) leave of vectors (n, d): P v."""
    if gradients is None:
        return vectors
    return vectors - (along_constraints(vectors[:, None], gradients) @ gradients)[:, 0]


def along_constraints(vectors: Tensor, gradients: Tensor) -> Tensor:
    """Coefficients (n, k, c) of gradients (n, c, d) in vectors (n, k, d) less their tangents."""
    along = gradients @ vectors.transpose(1, 2)
    return torch.linalg.solve(gradients @ gradients.transpose(1, 2), along).transpose(1, 2)


def _ends(pairs: Tensor, moved: Tensor) -> Tensor:
    """1 and -1 for the first and second atom of each constraint, shape (c, n_moved_atoms)."""
    atoms = (moved[::3] // 3)[None]
    return ((pairs[:, :1] == atoms).int() - (pairs[:, 1:] == atoms).int()).double()
