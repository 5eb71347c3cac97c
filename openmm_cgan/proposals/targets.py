"""Where the next proposal goes: CV values drawn uniformly, where a run has been least, or listed.

Small pure functions of what the run has visited and a numpy Generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable, require_near_domains
from openmm_cgan.proposals.samplers import Sampler
from openmm_cgan.quantities import numbers_of

# CV values visited (n_visited, n_cvs) to one to ask for (n_cvs,)
TargetStrategy = Callable[[NDArray, np.random.Generator], NDArray]


def trained_range(sampler: Sampler) -> NDArray:
    """Where a sampler knows configurations: its ``cv_range``, else whole periodic domains.

    Parameters
    ----------
    sampler : Sampler

    Returns
    -------
    ndarray, shape (n_cvs, 2)
        Lowest and highest value of each CV.

    Raises
    ------
    ValueError
        If it has no ``cv_range`` and a CV is not periodic.
    """
    if sampler.cv_range is not None:
        return np.asarray(sampler.cv_range, dtype=float).reshape(-1, 2)
    endless = [variable.name for variable in sampler.variables if variable.domain is None]
    if endless:
        raise ValueError(
            f"the sampler has no cv_range, and {', '.join(endless)} is not periodic, so targets "
            "have no bounds; give the sampler an attribute cv_range of shape (n_cvs, 2)"
        )
    return np.array([variable.domain for variable in sampler.variables], dtype=float)


def uniform_targets(cv_range: NDArray, n: int, rng: np.random.Generator) -> NDArray:
    """Draw CV values uniformly over a range.

    Parameters
    ----------
    cv_range : ndarray, shape (n_cvs, 2)
        Lowest and highest value of each CV.
    n : int
    rng : numpy Generator

    Returns
    -------
    ndarray, shape (n, n_cvs)
    """
    lower, upper = np.asarray(cv_range, dtype=float).T
    return lower + (upper - lower) * rng.random((n, len(lower)))


class LeastVisited:
    """Targets where a run has been least, as `least_visited_targets` draws them.

    Visits are counted once, so that an attempt takes as long after many as after few.

    Parameters
    ----------
    cv_range : ndarray, shape (n_cvs, 2)
    n_bins : int
        Cells along each CV, fewer where there are so many CVs that they exceed 100,000.
    """

    def __init__(self, cv_range: NDArray, n_bins: int = 24) -> None:
        self._range = np.asarray(cv_range, dtype=float)
        n_cvs = len(self._range)
        self._n_bins = max(2, min(n_bins, int(100_000 ** (1 / n_cvs))))
        self._visits = np.zeros((self._n_bins,) * n_cvs)
        self._counted = 0

    def __call__(self, visited: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
        """One target, shape (n_cvs,).

        Parameters
        ----------
        visited : ndarray, shape (n_visits, n_cvs)
            CV values of the run so far, which only grow.
        rng : numpy Generator
        """
        self._count(visited)
        return self.draw(1, rng)[0]

    def _count(self, visited: NDArray) -> None:
        if len(visited) < self._counted:  # of another run
            self._visits[...], self._counted = 0.0, 0
        new = visited[self._counted :].reshape(-1, len(self._range))
        shape, limits = self._visits.shape, self._range.tolist()
        self._visits += np.histogramdd(new, bins=shape, range=limits)[0]
        self._counted = len(visited)

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Targets for the visits counted so far, shape (n, n_cvs)."""
        weights = 1 / (1 + self._visits.ravel())
        cells = rng.choice(weights.size, size=n, p=weights / weights.sum())
        corners = np.stack(np.unravel_index(cells, self._visits.shape), axis=-1)
        widths = (self._range[:, 1] - self._range[:, 0]) / self._n_bins
        return self._range[:, 0] + (corners + rng.random(corners.shape)) * widths


def least_visited_targets(
    cv_range: NDArray, visited: NDArray, n: int, rng: np.random.Generator, n_bins: int = 24
) -> NDArray:
    """Draw CV values where a run has been least.

    A cell of a histogram over the range is drawn with probability proportional to 1 / (1 + visits),
    a value uniformly within it.

    Parameters
    ----------
    cv_range : ndarray, shape (n_cvs, 2)
    visited : ndarray, shape (n_visits, n_cvs)
        CV values of the run so far; those outside the range are left out.
    n : int
    rng : numpy Generator
    n_bins : int
        Cells along each CV, fewer where there are so many CVs that they exceed 100,000.

    Returns
    -------
    ndarray, shape (n, n_cvs)

    Examples
    --------
    >>> visited = np.full((10_000, 1), 0.25)
    >>> rng = np.random.default_rng(0)
    >>> targets = least_visited_targets([[0, 1]], visited, 1000, rng, n_bins=2)
    >>> bool((targets > 0.5).mean() > 0.99)
    True
    """
    counts = LeastVisited(cv_range, n_bins)
    counts._count(visited)
    return counts.draw(n, rng)


def target_strategy(
    targets: str | NDArray | TargetStrategy,
    cv_range: NDArray,
    variables: Sequence[CollectiveVariable],
) -> TargetStrategy:
    """Turn what a user asks for into a function that chooses the next target.

    Parameters
    ----------
    targets : "uniform", "least_visited", ndarray of shape (m, n_cvs), or callable
        A list is gone through in order, again and again.
    cv_range : ndarray, shape (n_cvs, 2)
        Where the sampler was trained.
    variables : sequence of CollectiveVariable

    Returns
    -------
    callable
        ``strategy(visited, rng) -> target``, with the CVs of the run at each attempt so far, this
        one included, shape (n_attempts, n_cvs), and a numpy Generator; the target has shape
        (n_cvs,).

    Raises
    ------
    ValueError
        If a word is unknown, or a listed target is outside the range.
    """
    if callable(targets):
        return targets
    if isinstance(targets, str):
        if targets == "uniform":
            return lambda visited, rng: uniform_targets(cv_range, 1, rng)[0]
        if targets == "least_visited":
            return LeastVisited(cv_range)
        raise ValueError(
            f"targets is {targets!r}; expected 'uniform', 'least_visited', an array of CV values "
            "or a function of (visited, rng)"
        )
    rows = _listed_targets(targets, np.asarray(cv_range, dtype=float), variables)
    return lambda visited, rng: rows[(len(visited) - 1) % len(rows)]


def _listed_targets(
    targets: NDArray, cv_range: NDArray, variables: Sequence[CollectiveVariable]
) -> NDArray:
    rows = np.atleast_2d(numbers_of(targets, "targets"))
    if rows.ndim != 2 or rows.shape[1] != len(variables) or len(rows) == 0:
        raise ValueError(
            f"the list of targets has shape {rows.shape}; expected (m, {len(variables)}), one "
            f"column for each of {', '.join(v.name for v in variables)}"
        )
    require_near_domains(variables, rows, "targets")
    for k, variable in enumerate(variables):
        lower, upper = cv_range[k]
        # measured from the middle of the range, so that +pi and -pi are the same place
        middle, slack = (lower + upper) / 2, 1e-6 * (upper - lower)
        outside = ~(np.abs(variable.difference(middle, rows[:, k])) <= (upper - lower) / 2 + slack)
        if outside.any():
            unit = f" {variable.unit}" if variable.unit else ""
            raise ValueError(
                f"target {rows[outside][0].tolist()} has {variable.name} outside the range "
                f"[{lower:.4g}, {upper:.4g}]{unit} that the sampler was trained on; leave it out, "
                "or train on frames from there"
            )
    return rows
