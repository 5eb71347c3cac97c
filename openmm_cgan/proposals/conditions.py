"""Densities from which CV values are drawn for proposals whose weights are exact.

An exact move works with any density g that is known; one near the marginal density of the target
needs the fewest proposals. Where g is zero nothing is proposed, and a configuration stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmm_cgan.quantities import numbers_of

if TYPE_CHECKING:
    from openmm_cgan.collective_variable import CollectiveVariable

SPREAD = 0.5  # of each cell to the next: a share found to do well on several molecules
CELLS = 18  # of a grid that is found by some hundreds, along one of one or two CVs
ALMOST_ONE = 1 - 2.0**-40  # beyond which a cell of no share could be taken by rounding
NEARLY_ALL = 0.95  # of a period: frames leave the last bit of a whole turn open by chance


class Conditions(Protocol):
    """A density over CV values."""

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return CV values (n, n_cvs)."""

    def log_density(self, cvs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log g (n,) of CV values (n, n_cvs); -inf where none are drawn."""


class UniformConditions:
    """CV values drawn uniformly over a range.

    Parameters
    ----------
    cv_range : array_like, shape (n_cvs, 2)
        Lowest and highest value of each CV. A range of nearly a whole period is taken for all of
        it.
    variables : sequence of CollectiveVariable

    Raises
    ------
    ValueError
        If the range has another shape, is empty, or longer than a period.

    Examples
    --------
    >>> from openmm_cgan.collective_variable import CollectiveVariable
    >>> conditions = UniformConditions([[0.2, 0.7]], [CollectiveVariable("d", "nm")])
    >>> conditions.log_density(np.array([[0.3], [0.8]]))
    array([0.69314718,       -inf])
    """

    def __init__(self, cv_range: ArrayLike, variables: Sequence[CollectiveVariable]) -> None:
        self.variables = tuple(variables)
        self.cv_range = _whole_range(cv_range, self.variables)
        self._widths = self.cv_range[:, 1] - self.cv_range[:, 0]

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw CV values (n, n_cvs)."""
        return self.from_unit_cube(rng.random((n, len(self._widths))))

    def from_unit_cube(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """CV values (n, n_cvs) of numbers (n, n_cvs) from 0 to 1; of uniform ones draws."""
        return self.cv_range[:, 0] + self._widths * numbers

    def log_density(self, cvs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log density (n,) of CV values (n, n_cvs)."""
        fractions = _fractions(cvs, self.cv_range, self.variables)
        inside = ((fractions >= 0) & (fractions <= 1)).all(axis=1)
        return np.where(inside, -np.log(self._widths).sum(), -np.inf)


class GridConditions:
    """CV values drawn from a density that is constant in each cell of a grid.

    Parameters
    ----------
    probabilities : ndarray, shape (n_bins_1, n_bins_2, ...)
        Of the cells, up to a factor.
    cv_range : array_like, shape (n_cvs, 2)
        What the grid spans.
    variables : sequence of CollectiveVariable
    uniform_share : float
        Part of the draws that goes uniformly over the range, so that no cell is left out.

    Raises
    ------
    ValueError
        If probabilities are negative or all zero, or shapes do not fit.
    """

    def __init__(
        self,
        probabilities: ArrayLike,
        cv_range: ArrayLike,
        variables: Sequence[CollectiveVariable],
        uniform_share: float = 0.1,
    ) -> None:
        self.variables = tuple(variables)
        self.cv_range = _whole_range(cv_range, self.variables)
        p = np.asarray(probabilities, dtype=float)
        if p.ndim != len(self.variables) or not (np.isfinite(p).all() and (p >= 0).all()):
            raise ValueError(
                f"probabilities have shape {p.shape}; expected one axis for each of the "
                f"{len(self.variables)} CVs, and no negative numbers"
            )
        if not 0 <= uniform_share <= 1 or (uniform_share < 1 and not p.sum() > 0):
            raise ValueError(
                f"uniform_share is {uniform_share} and the probabilities sum to {p.sum()}; expected"
                " a share from 0 to 1 and a positive sum"
            )
        flat = p / p.sum() if p.sum() > 0 else p
        self.probabilities = (1 - uniform_share) * flat + uniform_share / p.size
        self._cell = (self.cv_range[:, 1] - self.cv_range[:, 0]) / p.shape
        with np.errstate(divide="ignore"):
            self._log_densities = np.log(self.probabilities) - np.log(self._cell).sum()

    @classmethod
    def from_weights(
        cls,
        cvs: NDArray[np.float64],
        log_weights: NDArray[np.float64],
        cv_range: ArrayLike,
        variables: Sequence[CollectiveVariable],
        bins: int = 24,
        uniform_share: float = 0.1,
        power: float = 1.0,
        spread: float = SPREAD,
    ) -> GridConditions:
        """The marginal density of weighted configurations: few proposals then suffice.

        Parameters
        ----------
        cvs : ndarray, shape (n, n_cvs)
            Configurations outside the range are left out.
        log_weights : ndarray, shape (n,)
            A constant may be added; -inf is weight zero.
        cv_range, variables, uniform_share
            As for the class.
        bins : int
            Cells along each CV.
        power : float
            The density is raised to it: 1/2, say, to draw from rare basins as well when their
            free energies are what is asked for.
        spread : float
            Part of each cell that goes to the next cells, half to either side, along one CV after
            the other: few configurations leave cells beside full ones empty by chance.
        """
        if not np.isfinite(log_weights).any() or np.isposinf(log_weights).any():
            raise ValueError("no weight is above zero, or one is infinite: expected finite numbers")
        whole = _whole_range(cv_range, tuple(variables))
        places = _fractions(np.asarray(cvs, dtype=float), whole, tuple(variables))
        weights = np.exp(log_weights - np.max(log_weights))
        unit_cube = [(0.0, 1.0)] * len(whole)
        counts, _ = np.histogramdd(places, bins=bins, range=unit_cube, weights=weights)
        made = counts**power
        for axis, variable in enumerate(variables):
            made = _spread(made, axis, spread, tuple(whole[axis]) == variable.domain)
        return cls(made, whole, variables, uniform_share)

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw CV values (n, n_cvs)."""
        return self.from_unit_cube(rng.random((n, self.probabilities.ndim)))

    def from_unit_cube(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """CV values (n, n_cvs) of numbers (n, n_cvs) from 0 to 1; of uniform ones draws.

        The inverse of Rosenblatt's transformation, one CV after the other given those before it
        (doi 10.1214/aoms/1177729394).
        """
        places = np.empty(numbers.shape)
        row = np.zeros(len(numbers), dtype=np.int64)  # cells of the CVs before, counted together
        for axis, number in enumerate(numbers.T):
            sides = self.probabilities.shape[: axis + 1]
            shares = self.probabilities.reshape(*sides, -1).sum(axis=-1).reshape(-1, sides[-1])
            before = np.pad(np.cumsum(shares, axis=1), [(0, 0), (1, 0)])[row]
            at = np.minimum(number, ALMOST_ONE) * before[:, -1]
            cell = np.minimum((before[:, 1:] <= at[:, None]).sum(axis=1), sides[-1] - 1)
            low, share = np.take_along_axis(before, cell[:, None], 1)[:, 0], shares[row, cell]
            places[:, axis] = cell + np.clip((at - low) / share, 0, 1)
            row = row * sides[-1] + cell
        return self.cv_range[:, 0] + places * self._cell

    def log_density(self, cvs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log density (n,) of CV values (n, n_cvs)."""
        cells = self.cells(cvs)
        return np.where(cells < 0, -np.inf, self._log_densities.ravel()[cells])

    def cells(self, cvs: NDArray[np.float64]) -> NDArray[np.int64]:
        """Numbers (n,) of the cells, the last CV running fastest, of CV values; -1 outside."""
        shape = np.array(self.probabilities.shape, dtype=int)
        fractions = _fractions(cvs, self.cv_range, self.variables)
        inside = ((fractions >= 0) & (fractions <= 1)).all(axis=1)
        along = np.clip(np.nan_to_num(fractions * shape), 0, shape - 1).astype(int)
        return np.where(inside, np.ravel_multi_index(tuple(along.T), tuple(shape)), -1)


def cells_along(n_cvs: int) -> int:
    """Cells along each CV of a grid of some hundreds."""
    return CELLS if n_cvs < 3 else max(3, int(CELLS ** (2 / n_cvs)))


def _spread(cells: NDArray[np.float64], axis: int, share: float, is_round: bool) -> NDArray:
    """Cells of which a share has gone to the next ones, beyond the ends back or round."""
    ends = [(1, 1) if k == axis else (0, 0) for k in range(cells.ndim)]
    padded = np.moveaxis(np.pad(cells, ends, "wrap" if is_round else "edge"), axis, 0)
    beside = 0.5 * (padded[:-2] + padded[2:])
    return np.moveaxis((1 - share) * padded[1:-1] + share * beside, 0, axis)


def log_density_of_mixture(
    densities: Sequence[Conditions], sizes: Sequence[int], cvs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log density (n,) of CV values (n, n_cvs) of which so many were drawn from each of some.

    By it weights are balanced [1]_.

    References
    ----------
    .. [1] E. Veach, L. J. Guibas, SIGGRAPH 1995, 419, doi 10.1145/218380.218498.
    """
    shares = np.log(np.asarray(sizes, dtype=float) / np.sum(sizes))
    each = np.stack([density.log_density(cvs) for density in densities])
    return np.logaddexp.reduce(each + shares[:, None], axis=0)


def _whole_range(
    cv_range: ArrayLike, variables: tuple[CollectiveVariable, ...]
) -> NDArray[np.float64]:
    """A checked range (n_cvs, 2), in which nearly whole periods are whole."""
    made = numbers_of(cv_range, "cv_range").copy()
    widths = made[:, 1] - made[:, 0] if made.shape == (len(variables), 2) else np.zeros(1)
    if not (np.isfinite(made).all() and (widths > 0).all()):
        raise ValueError(
            f"the range of CVs is {made.tolist()}; expected finite lowest and highest values, "
            f"shape ({len(variables)}, 2)"
        )
    for k, variable in enumerate(variables):
        if variable.period is None or variable.domain is None:
            continue
        if widths[k] > variable.period * (1 + 1e-6):
            raise ValueError(
                f"the range {made[k].tolist()} of {variable.name} is longer than its period "
                f"{variable.period:.6g}; CV values would be drawn twice"
            )
        if widths[k] > NEARLY_ALL * variable.period:
            made[k] = variable.domain
    return made


def _fractions(
    cvs: NDArray[np.float64],
    cv_range: NDArray[np.float64],
    variables: tuple[CollectiveVariable, ...],
) -> NDArray[np.float64]:
    """Where CV values (n, n_cvs) lie in a range: from 0 to 1 inside."""
    columns = []
    for k, variable in enumerate(variables):
        low, high = cv_range[k]
        # measured from the middle of the range, so that +pi and -pi are the same place
        away = variable.difference((low + high) / 2, cvs[:, k])
        columns.append(0.5 + away / (high - low))
    return np.stack(columns, axis=-1) if columns else np.zeros((len(cvs), 0))
