"""Affine couplings of a FlowGenerator: numbers scaled and moved, by what a network says.

L. Dinh, J. Sohl-Dickstein, S. Bengio, Density estimation using Real NVP, ICLR 2017, arXiv
1605.08803.
"""

import torch
from torch import Tensor

REACH = 1.5  # largest logarithm of a scale in one coupling: training does not run away


def _shift_and_log_scale(parameters: Tensor) -> tuple[Tensor, Tensor]:
    shift, log_scale = parameters.chunk(2, dim=1)
    return shift, REACH * torch.tanh(log_scale / REACH)


def scaled(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """From noise towards data, and the log of the volume's growth (n,)."""
    shift, log_scale = _shift_and_log_scale(parameters)
    return z * log_scale.exp() + shift, log_scale.sum(1)


def scaled_back(y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `scaled`, and the same logarithm."""
    shift, log_scale = _shift_and_log_scale(parameters)
    return (y - shift) * (-log_scale).exp(), log_scale.sum(1)
