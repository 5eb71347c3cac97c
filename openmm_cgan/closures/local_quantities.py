"""Drift, diffusion and mean force of single configurations: the record, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.short_reprs import short_repr

CvFunction = Callable[[Tensor], Tensor]  # positions (n, ...) to CVs (n, k), differentiable twice
NOTHING = 1e-20  # part of a squared gradient that is rounding
PARALLEL = 1e-12  # least eigenvalue of the cosines between gradients of CVs


@dataclass(frozen=True)
class LocalDynamics:
    """Drift, diffusion and mean force of each configuration, to be averaged at values of the CVs.

    Attributes
    ----------
    cvs : ndarray, shape (n, k)
        Values of the CVs [CV unit].
    drift : ndarray, shape (n, k)
        L xi [CV unit/ps].
    diffusion : ndarray, shape (n, k, k)
        Growth of the covariance of xi, twice the diffusion coefficient [CV unit^2/ps].
    mean_force : ndarray, shape (n, k)
        Averages to the slope of the free energy [kJ/mol/CV unit].
    laplacian_error : ndarray, shape (n, k)
        Standard error of the drift by Hutchinson's estimate of the Laplacian; zero if exact.
    kT : float, optional
        Thermal energy that it was made with [kJ/mol]: samples of another are refused.
    """

    cvs: NDArray[np.float64]
    drift: NDArray[np.float64]
    diffusion: NDArray[np.float64]
    mean_force: NDArray[np.float64]
    laplacian_error: NDArray[np.float64]
    kT: float | None = None

    __repr__ = short_repr


def completed(
    values: Tensor,
    drift: Tensor,
    metric: Tensor,
    fields: Tensor,
    y: Tensor,
    kT: float,
    error: Tensor,
    first: int,
) -> tuple[NDArray[np.float64], ...]:
    """The arrays of `LocalDynamics` for a batch of frames, the mean force added.

    Parameters
    ----------
    values, drift, error : Tensor, shape (n, k)
        CVs, L xi and its standard error.
    metric : Tensor, shape (n, k, k)
        G, differentiable by y.
    fields : Tensor, shape (n, k, d)
        What moves along y as each CV rises, so that ``fields . grad f = grad xi . grad f``.
    y : Tensor, shape (n, d)
    kT : float
        [kJ/mol]
    first : int
        Number of the first frame, for messages.

    Raises
    ------
    ValueError
        If a result is not finite, or two CVs move as one.
    """
    arrays = tuple(a.detach().numpy() for a in (values, drift, 2.0 * kT * metric, error))
    _require_finite(arrays, first)
    require_independent(metric, "CVs move as one, their gradients", first)
    inverse = torch.linalg.inv(metric)
    mean_force = -(inverse.detach() @ drift[..., None])[..., 0]
    for a in range(values.shape[1]):
        for b in range(values.shape[1]):
            steepness = slope_of(inverse[:, a, b], y, again=False)
            mean_force[:, a] -= kT * (fields[:, b].detach() * steepness).sum(1)
    forces = mean_force.detach().numpy()
    _require_finite((forces,), first)
    return *arrays[:3], forces, arrays[3]


def joined_dynamics(parts: Sequence[tuple[NDArray[np.float64], ...]], kT: float) -> LocalDynamics:
    """Of the arrays of each batch, as `completed` gives them."""
    columns = [np.concatenate(own) for own in zip(*parts, strict=True)]
    cvs, drift, diffusion, mean_force, error = columns
    return LocalDynamics(cvs, drift, diffusion, mean_force, error, kT)


def _require_finite(arrays: tuple[NDArray[np.float64], ...], first: int) -> None:
    finite = np.all([np.isfinite(a.reshape(len(a), -1)).all(1) for a in arrays], axis=0)
    if not finite.all():
        raise ValueError(
            f"frame {first + int(np.flatnonzero(~finite)[0])}: a CV or a derivative of it is not "
            "finite; leave such frames out"
        )


def require_moving(fields: Tensor, slopes: Tensor, first: int) -> None:
    """Refuse CVs whose gradients are zero, or nothing is left of by constraints.

    Parameters
    ----------
    fields, slopes : Tensor, shape (n, k, d)
        Gradients along what is free, and as they are.
    first : int
        Number of the first frame, for messages.

    Raises
    ------
    ValueError
    """
    still = (fields.detach() ** 2).sum(-1) <= NOTHING * (slopes.detach() ** 2).sum(-1)
    if bool(still.any()):
        frame, cv = (int(i) for i in still.nonzero()[0])
        raise ValueError(
            f"frame {first + frame} and {int(still.any(1).sum()) - 1} others of its batch: CV "
            f"number {cv} stands still, its gradient is zero or constraints hold it, so that it "
            "has no mean force; leave such frames out, or take a CV that moves everywhere"
        )


def require_independent(metric: Tensor, what: str, first: int) -> None:
    """Refuse gradients that are linearly dependent.

    Parameters
    ----------
    metric : Tensor, shape (n, k, k)
        Their scalar products.
    what : str
        For the message.
    first : int
        Number of the first frame, for messages.

    Raises
    ------
    ValueError
    """
    products = metric.detach()
    lengths = products.diagonal(dim1=1, dim2=2).sqrt()
    cosines = torch.nan_to_num(products / (lengths[:, :, None] * lengths[:, None]))
    alike = torch.linalg.eigvalsh(cosines)[:, 0] < PARALLEL
    if bool(alike.any()):
        raise ValueError(
            f"frame {first + int(alike.nonzero()[0])}: the {what} are linearly dependent; leave "
            "one of them out"
        )


def slope_of(values: Tensor, y: Tensor, again: bool = True) -> Tensor:
    """Gradient (n, d) of each row's value (n,) by its own coordinates, itself differentiable."""
    if not values.requires_grad:
        return torch.zeros_like(y)
    [slope] = torch.autograd.grad(
        values.sum(), y, create_graph=again, retain_graph=True, allow_unused=True
    )
    return torch.zeros_like(y) if slope is None else slope
