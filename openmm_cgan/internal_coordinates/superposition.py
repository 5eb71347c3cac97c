"""Configurations moved rigidly onto a reference, by torch."""

from __future__ import annotations

import torch
from torch import Tensor


def superposed(x: Tensor, reference: Tensor, atoms: Tensor) -> Tensor:
    """Move configurations rigidly so that some of their atoms fit a reference best.

    Parameters
    ----------
    x : Tensor, shape (n, n_atoms, 3)
        [nm]
    reference : Tensor, shape (n_fitted, 3)
        [nm]
    atoms : Tensor of int, shape (n_fitted,)
        Which atoms of ``x`` are fitted.

    Returns
    -------
    Tensor, shape (n, n_atoms, 3)
        Never mirrored. W. Kabsch, Acta Cryst. A 32, 922 (1976), doi 10.1107/S0567739476001873.
    """
    fitted = x[:, atoms]
    centre, own = reference.mean(0), fitted.mean(1, keepdim=True)
    u, _, vt = torch.linalg.svd((fitted - own).transpose(1, 2) @ (reference - centre))
    sign = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    u = torch.cat([u[:, :, :2], u[:, :, 2:] * sign[:, None, None]], dim=2)
    return (x - own) @ (u @ vt) + centre
