"""MLPGenerator: the paper's generator, a perceptron that bends a Gaussian. It has no density.

Shape suffixes: B batch, Z noise, C condition, F features, L standardised features, P pairs.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from openmm_cgan.generators.contacts import Contacts

PIECE = 8192  # rows worked on at a time
SMALLEST = 2.0**-31  # of even numbers, which are multiples of twice that: 6 deviations
RIDGE = 1e-6  # of the fit that starts a generator; the features have unit variance


class MLPGenerator(nn.Module):
    """A multilayer perceptron that bends a conditional Gaussian.

    x = m(c) + S (z + MLP(z, c)), with m linear in the condition and S a Cholesky factor, both
    fitted to the data by `start_from`, so that training starts from the Gaussian of the right mean
    and covariance and learns only what is left. Pairs are normalised to the unit circle.

    Parameters
    ----------
    n_linear, n_pairs : int
        Features: standardised ones, then as many cosines and sines as there are pairs.
    n_condition : int
        Length of a condition.
    width, depth : int
        Of the hidden layers.

    Examples
    --------
    >>> generator = MLPGenerator(n_linear=2, n_pairs=1, n_condition=3)
    >>> generator.sample(torch.zeros(5, 3), torch.Generator().manual_seed(0)).shape
    torch.Size([5, 4])
    """

    has_density: ClassVar[bool] = False
    mean: Tensor  # (1 + C, F)
    spread: Tensor  # (F, F)

    def __init__(
        self, n_linear: int, n_pairs: int, n_condition: int, width: int = 128, depth: int = 2
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "n_linear": n_linear,
            "n_pairs": n_pairs,
            "n_condition": n_condition,
            "width": width,
            "depth": depth,
        }
        self.n_linear = n_linear
        self.n_features = n_linear + 2 * n_pairs
        self.layers = perceptron(self.n_features + n_condition, width, depth, self.n_features)
        with torch.no_grad():  # begin close to the Gaussian
            for parameter in self.layers[-1].parameters():
                parameter.mul_(0.1)
        self.register_buffer("mean", torch.zeros(1 + n_condition, self.n_features))
        self.register_buffer("spread", torch.eye(self.n_features))

    @classmethod
    def of_size(
        cls,
        n_linear: int,
        n_pairs: int,
        n_condition: int,
        *,
        width: int,
        depth: int,
        folds: Sequence[int],
        contacts: Contacts | None = None,
    ) -> Self:
        """One for these lengths of features and conditions; it has no use for the rest."""
        return cls(n_linear, n_pairs, n_condition, width=width, depth=depth)

    def start_from(self, features: Tensor, condition: Tensor) -> None:
        """Fit the Gaussian: least squares for the mean, covariance of what is left.

        Parameters
        ----------
        features : Tensor, shape (n, n_features)
        condition : Tensor, shape (n, n_condition)
        """
        mean, spread = fitted_gaussian(features, condition)
        self.mean.copy_(mean)
        self.spread.copy_(spread)

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Features (B, F) of standard normal noise (B, F) and conditions (B, C)."""
        bent_BF = noise + self.layers(torch.cat([noise, condition], dim=1))
        mean_BF = torch.addmm(self.mean[0], condition, self.mean[1:])
        x_BF = torch.addmm(mean_BF, bent_BF, self.spread.T)
        linear_BL, pairs_BP = x_BF[:, : self.n_linear], x_BF[:, self.n_linear :]
        if not pairs_BP.shape[1]:
            return x_BF
        cosine_BP, sine_BP = pairs_BP.chunk(2, dim=1)
        radius_BP = torch.sqrt(cosine_BP**2 + sine_BP**2 + 1e-12)
        return torch.cat([linear_BL, cosine_BP / radius_BP, sine_BP / radius_BP], dim=1)

    def sample(self, condition: Tensor, rng: torch.Generator) -> Tensor:
        """Features (n, n_features), one row for each condition (n, n_condition)."""
        noise = torch.randn(len(condition), self.n_features, generator=rng)
        return self(noise.to(condition), condition)

    @property
    def n_numbers(self) -> int:
        """How many random numbers a sample is made of."""
        return self.n_features

    def from_unit_cube(self, numbers: Tensor, condition: Tensor) -> Tensor:
        """The sample of numbers (n, n_numbers) from 0 to 1, uniform ones of which are draws."""
        return self(normal_deviates(numbers).to(condition), condition)


def normal_deviates(numbers: Tensor) -> Tensor:
    """Standard normal deviates of uniform numbers from 0 to 1, which are kept off its ends."""
    return torch.special.ndtri(numbers.double().clamp(SMALLEST, 1 - SMALLEST))


def fitted_gaussian(features: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """Linear mean and spread of features given something.

    Parameters
    ----------
    features : Tensor, shape (n, n_features)
    given : Tensor, shape (n, n_given)

    Returns
    -------
    mean : Tensor, shape (1 + n_given, n_features)
        By least squares; the first row is the constant.
    spread : Tensor, shape (n_features, n_features)
        Cholesky factor of the covariance of what is left.
    """
    n, n_features = features.shape
    given_BC = torch.cat([given.new_ones(n, 1), given], dim=1).double()
    normal = given_BC.T @ given_BC / n + RIDGE * torch.eye(given_BC.shape[1]).to(given_BC)
    # a piece at a time: all of many large rows would not fit into memory in double precision
    crossed = normal.new_zeros(given_BC.shape[1], n_features)
    for rows in torch.arange(n).split(PIECE):
        crossed += given_BC[rows].T @ features[rows].double() / n
    mean = torch.linalg.solve(normal, crossed)
    covariance = normal.new_zeros(n_features, n_features)
    for rows in torch.arange(n).split(PIECE):
        rest_BF = features[rows].double() - given_BC[rows] @ mean
        covariance += rest_BF.T @ rest_BF / n
    # Few frames: shrink towards the diagonal, which keeps the covariance of full rank.
    shrink = min(1.0, n_features / n)
    diagonal = covariance.diagonal().clamp(min=RIDGE).diag()
    return mean, torch.linalg.cholesky(torch.lerp(covariance, diagonal, shrink))


def perceptron(n_in: int, width: int, depth: int, n_out: int) -> nn.Sequential:
    """Linear layers with SiLU between them: smooth, so that a gradient penalty is too."""
    widths = [n_in, *[width] * depth]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_out))
