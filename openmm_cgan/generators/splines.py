"""Monotone splines on the circle: how a FlowGenerator bends a uniform angle into a torsion.

Rational-quadratic splines [1]_ made periodic [2]_: the circle maps onto itself, invertibly and with
continuous slope, so that the density of a torsion has no seam.

References
----------
.. [1] C. Durkan, A. Bekasov, I. Murray, G. Papamakarios, Neural Spline Flows, NeurIPS 2019,
   arXiv 1906.04032.
.. [2] D. J. Rezende et al., Normalizing Flows on Tori and Spheres, ICML 2020, arXiv 2002.02428.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

LEAST_BIN = 0.02  # share of the circle: of a bin, times the number of bins
LEAST_SLOPE = 0.01
UNIT_SLOPE = math.log(math.expm1(1 - LEAST_SLOPE))  # where softplus gives slope 1


def n_parameters(bins: int) -> int:
    """Numbers that a spline of so many bins takes: widths, heights and slopes."""
    return 3 * bins


def circular_spline(x: Tensor, parameters: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Map angles onto angles, each by a spline of its own.

    Parameters
    ----------
    x : Tensor, shape (n,)
        In [-pi, pi].
    parameters : Tensor, shape (n, 3 bins)
        Any real numbers; all zero give the identity.
    inverse : bool
        Map back.

    Returns
    -------
    y : Tensor, shape (n,)
        In [-pi, pi].
    log_slope : Tensor, shape (n,)
        log dy/dx.

    Examples
    --------
    >>> y, log_slope = circular_spline(torch.tensor([0.5]), torch.zeros(1, 12))
    >>> round(float(y), 5), round(abs(float(log_slope)), 5)
    (0.5, 0.0)
    """
    n_bins = parameters.shape[-1] // 3
    widths, heights, slopes = parameters.split(n_bins, dim=-1)
    xs, ys = _knots(widths), _knots(heights)
    d = LEAST_SLOPE + softplus(slopes + UNIT_SLOPE)
    d = torch.cat([d, d[..., :1]], dim=-1)  # the same slope at -pi and pi
    given = ys if inverse else xs
    k = (x[..., None] >= given[..., 1:-1]).sum(-1, keepdim=True)
    x0, x1, y0, y1, d0, d1 = (
        table.gather(-1, k + up)[..., 0] for table in (xs, ys, d) for up in (0, 1)
    )
    width, height = x1 - x0, y1 - y0
    s = height / width
    bend = d0 + d1 - 2 * s
    if inverse:
        rise = x - y0
        a, b = height * (s - d0) + rise * bend, height * d0 - rise * bend
        root = torch.sqrt((b * b + 4 * a * s * rise).clamp(min=0))
        xi = 2 * s * rise / (b + root)
    else:
        xi = (x - x0) / width
    across = xi * (1 - xi)
    below = s + bend * across
    log_slope = 2 * s.log() - 2 * below.log()
    log_slope = log_slope + (d1 * xi * xi + 2 * s * across + d0 * (1 - xi) ** 2).log()
    if inverse:
        return x0 + xi * width, -log_slope
    return y0 + height * (s * xi * xi + d0 * across) / below, log_slope


def _knots(shares: Tensor) -> Tensor:
    """Ends of the bins, from -pi to pi exactly."""
    n_bins = shares.shape[-1]
    share = LEAST_BIN / n_bins + (1 - LEAST_BIN) * shares.softmax(-1)
    inner = 2 * math.pi * share.cumsum(-1)[..., :-1] - math.pi
    return pad(pad(inner, (1, 0), value=-math.pi), (0, 1), value=math.pi)
