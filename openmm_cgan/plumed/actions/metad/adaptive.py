"""Hills along any direction: METAD's ADAPTIVE, which measures their widths as the run goes.

Adaptive Gaussians: Branduardi, Bussi, Parrinello, doi 10.1021/ct3002464. A hill is given by the
inverse of its covariance; files hold the Cholesky factor of the covariance, diagonal by diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.metad.gaussian import CUTOFF, STRETCHED, Kernel, reach_of
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.metad.hill_sums import HillSum
from openmm_cgan.plumed.actions.values import Value

THINNEST = 1e-14  # ratio of squared widths, below which rounding is all there is of the smaller

ADAPTIVE_KEYWORDS = (
    Keyword("ADAPTIVE", "text", "DIFF (SIGMA: memory in steps) or GEOM (SIGMA: a length)"),
    Keyword("SIGMA_MIN", "reals", "least width for each argument, negative for none; ADAPTIVE"),
    Keyword("SIGMA_MAX", "reals", "largest width for each argument, negative for none; ADAPTIVE"),
)


@dataclass(frozen=True)
class WidthOptions:
    """How the widths of hills are measured.

    Attributes
    ----------
    geometric : bool
        From the gradients of the values; else from how they have moved.
    sigma : float
        A length [input units], or the memory in steps.
    smallest, largest : tuple of float, length n_values
        Least and largest width for each value; not positive where there is none.
    """

    geometric: bool
    sigma: float
    smallest: tuple[float, ...]
    largest: tuple[float, ...]


class Widths:
    """The covariance of the next hill.

    Parameters
    ----------
    values : sequence of Value
        What the hills are in.
    options : WidthOptions
    """

    def __init__(self, values: Sequence[Value], options: WidthOptions) -> None:
        self.values = tuple(values)
        self.geometric, self.sigma = options.geometric, options.sigma
        self.smallest, self.largest = options.smallest, options.largest
        self._average: list[float] | None = None
        n = len(self.values)
        self._covariance = np.full((n, n), math.nan)

    def accumulate(self, arguments: Sequence[float]) -> None:
        """Take a step into the running average and covariance of the values, shape (n_values,)."""
        if self._average is None:
            self._average = list(arguments)
            self._covariance[:] = 0.0
            return
        decay, delta = 1.0 / self.sigma, []
        for i, (value, s) in enumerate(zip(self.values, arguments, strict=True)):
            delta.append(float(value.difference(self._average[i], s)))
            self._average[i] = float(value.wrap(self._average[i] + decay * delta[i]))
        self._covariance += decay * (np.outer(delta, delta) - self._covariance)

    def take_metric(self, metric: np.ndarray) -> None:
        """Take the products of the values' gradients.

        Parameters
        ----------
        metric : ndarray, shape (n_values, n_values)
            [CV units per length unit, squared]
        """
        self._covariance = self.sigma**2 * metric

    def inverse(self) -> np.ndarray:
        """Inverse covariance of a hill now, within the limits.

        Returns
        -------
        ndarray, shape (n_values, n_values)

        Raises
        ------
        ValueError
            If the hill would have no width along some direction.
        """
        if np.isnan(self._covariance).any():
            raise ValueError("the gradients of its values are not known: it is in no System")
        variances, columns = np.linalg.eigh(self._covariance)
        directions = columns.T  # one a row
        for i, limit in enumerate(self.largest):
            for j in range(len(variances)) if limit > 0 else ():
                if (variances[j] * directions[j, i]) ** 2 > limit**4:
                    scaled = abs(limit * limit / directions[j, i])
                    variances[j] = math.copysign(scaled, variances[j])
        for i, limit in enumerate(self.smallest):
            parts = (variances * directions[:, i]) ** 2
            j = int(np.argmax(parts))
            if limit > 0 and parts[j] < limit**4:
                scaled = abs(limit * limit / directions[j, i])
                variances[j] = math.copysign(scaled, variances[j])
        if not np.all(variances > THINNEST * np.max(variances)):
            raise ValueError("the hill has no width along some direction of its values")
        return directions.T @ (directions / variances[:, None])

    def saved(self) -> dict[str, np.ndarray]:
        """For a checkpoint, in the units of the values.

        ``average`` (n_values,), or (0,) where there is none yet, and ``covariance``
        (n_values, n_values).
        """
        average = np.array(self._average or [])
        return {"average": average, "covariance": self._covariance}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `saved` gave, in the same shapes."""
        average = saved_array(arrays, "average", (None,)).tolist()
        self._average = average or None
        self._covariance = saved_array(arrays, "covariance", self._covariance.shape).copy()


def read_widths(given: Given) -> WidthOptions | None:
    """How the hills of a METAD adapt; None where SIGMA says how wide they are.

    Raises
    ------
    PlumedInputError
        If the keywords do not go together.
    """
    options = given.options
    kind, sigma, n = options["ADAPTIVE"] or "NONE", options["SIGMA"], len(given.arguments)
    if kind == "NONE":
        for word in ("SIGMA_MIN", "SIGMA_MAX"):
            if options[word] is not None:
                raise given.error(word, "needs ADAPTIVE")
        if len(sigma) != n:
            raise given.error("SIGMA", f"{len(sigma)} numbers for {n} arguments in ARG")
        return None
    if kind not in ("DIFF", "GEOM"):
        raise given.error("ADAPTIVE", "expected DIFF or GEOM")
    if len(sigma) != 1:
        raise given.error("SIGMA", "with ADAPTIVE one number: steps with DIFF, length with GEOM")
    if kind == "DIFF" and (sigma[0] < 1 or sigma[0] != int(sigma[0])):
        raise given.error("SIGMA", "with ADAPTIVE=DIFF a number of steps")
    if options.get("INTERVAL") is not None:
        raise given.not_native("INTERVAL", "with ADAPTIVE is not native")
    none = (-1.0,) * n
    limits = (options["SIGMA_MIN"] or none, options["SIGMA_MAX"] or none)
    if options["GRID_MIN"] is not None and not all(limit > 0 for limit in limits[0]):
        raise given.error("SIGMA_MIN", "must be given for ADAPTIVE hills on a grid")
    return WidthOptions(kind == "GEOM", sigma[0], *limits)


# ---- as files have them


def _places(n: int) -> list[tuple[int, int]]:
    """Row and column of the numbers that a file holds of an n x n factor, in its order."""
    return [(i + j, j) for i in range(n) for j in range(n - i)]


def wide_names(values: Sequence[Value]) -> list[str]:
    """Names of the columns that hold the widths."""
    return [f"sigma_{values[i].name}_{values[j].name}" for i, j in _places(len(values))]


def to_columns(inverse: np.ndarray) -> list[float]:
    """What a file holds of an inverse covariance.

    Parameters
    ----------
    inverse : ndarray, shape (n, n)

    Returns
    -------
    list of float, length n (n + 1) / 2
        The Cholesky factor of the covariance, diagonal by diagonal.
    """
    lower = np.linalg.cholesky(np.linalg.inv(inverse))
    return [float(lower[place]) for place in _places(len(inverse))]


def from_columns(columns: Sequence[float], n: int) -> np.ndarray:
    """The inverse covariance, shape (n, n), from what a file holds."""
    lower = np.zeros((n, n))
    for place, number in zip(_places(n), columns, strict=True):
        lower[place] = number
    return np.linalg.inv(lower @ lower.T)


# ---- sums


class WideHillSum(HillSum):
    """A list of hills, each with an inverse covariance of its own."""

    def __init__(self, values: Sequence[Value], kernel: Kernel = STRETCHED) -> None:
        n = len(values)
        self._upper = np.triu_indices(n)
        super().__init__(values, n_widths=n * (n + 1) // 2, kernel=kernel)

    def add(self, centre: Sequence[float], shape: Any, height: float) -> None:
        """Add one hill.

        Parameters
        ----------
        centre : sequence of float, length n_values
        shape : ndarray, shape (n_values, n_values)
            Its inverse covariance.
        height : float
            [energy unit of the input]
        """
        self._append(centre, np.asarray(shape)[self._upper], height)

    def value_and_slopes(self, arguments: Sequence[float]) -> tuple[float, list[float]]:
        hills = slice(0, self._size)
        away, pulled = self._away(arguments, hills)
        half = 0.5 * sum(a * p for a, p in zip(away, pulled, strict=True))
        inside = half < CUTOFF
        bump = self.kernel.stretch * self._heights[hills] * np.exp(-half) * inside
        value = float(bump.sum()) + self.kernel.shift * float(self._heights[hills] @ inside)
        return value, [-float((bump * p).sum()) for p in pulled]

    def _half_squares(self, points: Sequence[Any], hills: slice) -> Any:
        return 0.5 * sum(a * p for a, p in zip(*self._away(points, hills), strict=True))

    def _away(self, arguments: Sequence[Any], hills: slice) -> tuple[list[Any], list[Any]]:
        """Distances from the centres, and the inverse covariances times them."""
        away = [
            value.difference(self._centres[i, hills], s)
            for i, (value, s) in enumerate(zip(self.values, arguments, strict=True))
        ]
        pulled: list[Any] = [0.0] * len(away)
        for row, (i, j) in enumerate(zip(*self._upper, strict=True)):
            entry = self._over_sigma[row, hills]
            pulled[i] = pulled[i] + entry * away[j]
            if i != j:
                pulled[j] = pulled[j] + entry * away[i]
        return away, pulled


def add_wide(grid: HillGrid, centre: Sequence[float], inverse: np.ndarray, height: float) -> None:
    """Add a hill to a grid, on the nodes where PLUMED adds it.

    Parameters
    ----------
    grid : HillGrid
    centre : sequence of float, length n_axes
    inverse : ndarray, shape (n_axes, n_axes)
        Inverse covariance of the hill.
    height : float
        [energy unit of the input]

    Raises
    ------
    ValueError
        If it is wider than the whole domain of a value.
    """
    n, near, away, counts = len(grid.axes), [], [], []
    for i, (axis, reach) in enumerate(zip(grid.axes, _reaches(inverse), strict=True)):
        if axis.goes_round(reach):
            name = axis.value.name
            raise ValueError(f"the hill is wider than {name}'s whole domain; give SIGMA_MAX")
        indices, delta, count = axis.nearby(centre[i], reach)
        along = (slice(None),) + (None,) * (n - 1 - i)
        near.append(indices)
        away.append(delta[along])
        if count is not None:
            counts.append(count[along])
    pulled = [sum(inverse[i, j] * away[j] for j in range(n)) for i in range(n)]
    half = 0.5 * sum(a * p for a, p in zip(away, pulled, strict=True))
    inside = half < CUTOFF
    bump = height * grid.kernel.stretch * np.exp(-half) * inside
    slopes = [-bump * p * axis.step for p, axis in zip(pulled, grid.axes, strict=True)]
    hill = np.stack([*slopes[::-1], bump + height * grid.kernel.shift * inside])
    for count in counts:
        hill *= count
    grid.lay([axis.pieces(nodes) for axis, nodes in zip(grid.axes, near, strict=True)], hill)


def _reaches(inverse: np.ndarray) -> list[float]:
    """How far PLUMED takes a hill along each value.

    Not its extent: PLUMED reads the matrix of directions across instead of along (which in two
    dimensions is the same), and a hill along one value is one node wide along the others.
    """
    variances, directions = np.linalg.eigh(np.linalg.inv(inverse))
    widest = int(np.argmax(variances))
    # rows of PLUMED's matrix are columns here
    return [reach_of(math.sqrt(variances[widest]) * abs(x)) for x in directions[widest]]
