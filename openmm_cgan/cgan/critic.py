"""The critic of a WGAN-GP [1]_, conditioned on CVs.

The critic judges features beside their condition, and pays for gradients that differ from a slope.
Slope 1 is the penalty of [1]_, under which the critic keeps pushing where nothing is left to
mend, and training circles; with slope 0 it falls silent there, and training converges [2]_.

References
----------
.. [1] I. Gulrajani et al., Advances in Neural Information Processing Systems 30 (2017),
   arXiv 1704.00028.
.. [2] L. Mescheder, A. Geiger, S. Nowozin, Proc. ICML 80, 3481 (2018), arXiv 1801.04406.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from openmm_cgan.generators import perceptron


class Critic(nn.Module):
    """Judges features beside their condition; the second half of a Wasserstein GAN.

    Parameters
    ----------
    n_linear, n_pairs, n_condition : int
        As for the generator.
    width, depth : int
        Of the hidden layers.
    """

    def __init__(
        self, n_linear: int, n_pairs: int, n_condition: int, width: int = 128, depth: int = 2
    ) -> None:
        super().__init__()
        self.n_linear = n_linear
        self.layers = perceptron(n_linear + 6 * n_pairs + n_condition, width, depth, 1)

    def see(self, features: Tensor) -> Tensor:
        """Features, and second and third harmonics of the pairs: methyl groups have three wells.

        Parameters
        ----------
        features : Tensor, shape (n, n_linear + 2 n_pairs)

        Returns
        -------
        Tensor, shape (n, n_linear + 6 n_pairs)
        """
        cosine, sine = features[:, self.n_linear :].chunk(2, dim=1)
        cosine2, sine2 = cosine * cosine - sine * sine, 2 * cosine * sine
        cosine3, sine3 = cosine2 * cosine - sine2 * sine, cosine2 * sine + sine2 * cosine
        return torch.cat([features, cosine2, sine2, cosine3, sine3], dim=1)

    def forward(self, seen: Tensor, condition: Tensor) -> Tensor:
        """Score (n,) of what `see` gave and of conditions (n, n_condition)."""
        return self.layers(torch.cat([seen, condition], dim=1))[:, 0]


def gradient_penalty(
    critic: Callable[[Tensor, Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    condition: Tensor,
    rng: torch.Generator,
    slope: float = 1.0,
) -> Tensor:
    """Mean of (|grad D| - slope)^2 at random points between real and generated rows.

    The gradient is that with respect to what the critic sees, at a fixed condition.

    Parameters
    ----------
    critic : callable
        What it sees (n, n_seen) and conditions (n, n_condition) to scores (n,).
    real, fake : Tensor, shape (n, n_seen)
        Rows as the critic sees them, of frames and generated.
    condition : Tensor, shape (n, n_condition)
    rng : torch.Generator
        Draws the points.
    slope : float
        Norm of the gradient that costs nothing.

    Returns
    -------
    Tensor, shape ()
        Differentiable with respect to the critic's weights.
    """
    mix = torch.rand(len(real), 1, generator=rng, dtype=real.dtype).to(real.device)
    between = torch.lerp(real, fake, mix).requires_grad_()
    score = critic(between, condition).sum()
    (gradient,) = torch.autograd.grad(score, between, create_graph=True)
    if slope == 0:  # no square root: its derivative is infinite where the critic is flat
        return gradient.square().sum(1).mean()
    return (gradient.norm(dim=1) - slope).square().mean()
