"""The derivative of a loss by one weight, by moving it."""

from collections.abc import Callable

import torch


def difference(loss: Callable[[], torch.Tensor], weights: torch.Tensor, k: int) -> float:
    """Slope of a loss along weight k of weights (n,), over 0.02 to either side."""
    found = []
    with torch.no_grad():
        for sign in (1, -1):
            weights[k] += sign * 0.02
            found.append(loss().item())
            weights[k] -= sign * 0.02
    return (found[0] - found[1]) / 0.04
