"""ConditionEncoding: what the networks are told of CVs."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.collective_variable import CollectiveVariable


class Told(NamedTuple):
    """Where a condition tells a CV: ``slope t + offset`` [CV unit].

    Attributes
    ----------
    columns : (int, int)
        Cosine and sine of t, or twice the column that is t.
    slope, offset : float
    """

    columns: tuple[int, int]
    slope: float
    offset: float


class ConditionEncoding:
    """CVs as a network sees them: harmonics of the periodic ones, the others standardised.

    Parameters
    ----------
    variables : sequence of CollectiveVariable
        Columns of the CVs.
    centre, scale : Tensor, shape (n_cvs,)
        Mean and standard deviation of the frames [CV units], float64.
    """

    def __init__(
        self, variables: Sequence[CollectiveVariable], centre: Tensor, scale: Tensor
    ) -> None:
        self.variables = tuple(variables)
        self.centre, self.scale = centre, scale

    @classmethod
    def fit(cls, variables: Sequence[CollectiveVariable], cvs: Tensor) -> Self:
        """Find the scaling of CVs (n_frames, n_cvs) [CV units]; scale 1 where one is constant."""
        scale = cvs.std(0, correction=0)
        return cls(variables, cvs.mean(0), torch.where(scale > 0, scale, torch.ones_like(scale)))

    @property
    def n_condition(self) -> int:
        """Length of a condition vector."""
        return self.encode(self.centre[None]).shape[1]

    @property
    def device(self) -> torch.device:
        """Where it lies, and with it the generator."""
        return self.centre.device

    def copied(self, array: NDArray[Any]) -> Tensor:
        """A copy of an array there, float64."""
        return self.centre.new_tensor(array)

    def encode(self, cvs: Tensor) -> Tensor:
        """What the networks are told.

        First and second harmonics of each periodic CV and of the sum and difference of each two;
        of the others the standardised value and its square.

        Parameters
        ----------
        cvs : Tensor, shape (n, n_cvs)
            [CV units]

        Returns
        -------
        Tensor, shape (n, n_condition)
            float64
        """
        angles, plain = [], []
        for k, variable in enumerate(self.variables):
            value = cvs[:, k].double()
            if variable.domain is not None:
                low, high = variable.domain
                angles.append((value - low) * (2 * math.pi / (high - low)) - math.pi)
            else:
                plain.append((value - self.centre[k]) / self.scale[k])
        angles += [c for a, b in combinations(angles, 2) for c in (a + b, a - b)]
        harmonics = [f(m * a) for a in angles for m in (1, 2) for f in (torch.cos, torch.sin)]
        return torch.stack([*harmonics, *plain, *(p * p for p in plain)], dim=1)

    def told(self, cv: int) -> Told:
        """Where a condition tells a CV."""
        periodic = [variable.domain is not None for variable in self.variables]
        domain, before = self.variables[cv].domain, sum(periodic[:cv])
        if domain is None:
            column = self.n_condition - 2 * (len(periodic) - sum(periodic)) + cv - before
            return Told((column, column), float(self.scale[cv]), float(self.centre[cv]))
        low, high = domain
        cosine = 4 * before  # two harmonics of each before it
        return Told((cosine, cosine + 1), (high - low) / (2 * math.pi), (low + high) / 2)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """``centre`` and ``scale`` (n_cvs,) [CV units], by name, for a file."""
        return {"centre": self.centre.numpy(), "scale": self.scale.numpy()}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], variables: Sequence[CollectiveVariable]
    ) -> Self:
        """Make it again from its `arrays`, of shape (n_cvs,) each."""
        return cls(variables, torch.from_numpy(arrays["centre"]), torch.from_numpy(arrays["scale"]))
