"""One axis of a grid of hills: which nodes a hill reaches along it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Action, Given
from openmm_cgan.plumed.actions.metad.gaussian import reach_of
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.input.words import read_real

MAX_GRID_POINTS = 8_000_000


@dataclass(frozen=True)
class Axis:
    """One axis of a grid, over a value from `lower` to `upper` in `cells` equal steps."""

    value: Value
    lower: float
    upper: float
    cells: int
    texts: tuple[str, str] = ("", "")  # lower and upper as they were written

    @cached_property
    def step(self) -> float:
        """Distance of two nodes."""
        return (self.upper - self.lower) / self.cells

    @cached_property
    def periodic(self) -> bool:
        """Whether the last node is the first again."""
        return self.value.domain is not None

    @cached_property
    def nodes(self) -> int:
        """Number of nodes; the last of a periodic axis is the first again."""
        return self.cells + (not self.periodic)

    def goes_round(self, reach: float) -> bool:
        """Whether nodes within `reach` go more than once round, where PLUMED may stop."""
        return self.periodic and math.ceil(reach / self.step) >= self.cells

    def position(self, s: np.ndarray) -> np.ndarray:
        """Distance from `lower` in cells, of values of shape (...), of that shape."""
        return (self.value.wrap(s) - self.lower) / self.step

    def nearest(self, s: np.ndarray) -> np.ndarray:
        """The nodes that values of a grid file stand at, shape (n,); integers of that shape."""
        return np.floor((s - self.lower) / self.step + 0.5).astype(int)

    def inside(self, s: Any) -> Any:
        """Whether a value is on the grid; always, where periodic. PLUMED goes one step too far.

        Parameters
        ----------
        s : float or ndarray, shape (...)

        Returns
        -------
        bool or ndarray of bool, shape (...)
        """
        if self.periodic:
            return abs(s) < math.inf
        return (s >= self.lower) & (s < self.upper + self.step)

    def nearby(self, s: float, reach: float) -> tuple[range, np.ndarray, np.ndarray | None]:
        """Nodes within `reach` of a value, their distances, and counts if some count twice.

        The range runs beyond the ends of a periodic axis, but never more than once round it.
        PLUMED goes on, and adds a hill again to the nodes where it comes round.

        Parameters
        ----------
        s, reach : float
            [unit of the value]

        Returns
        -------
        range, length n_near
            The nodes.
        ndarray, shape (n_near,)
            Their distances [unit of the value].
        ndarray, shape (n_near,), or None
            How often PLUMED adds a hill to each; None for once.
        """
        position = (s - self.lower) / self.step
        if self.periodic:
            position -= self.cells * math.floor(position / self.cells)
        centre, width = math.floor(position), math.ceil(reach / self.step)
        if not self.periodic:
            width = min(width, self.cells + 1)
            near = range(max(centre - width, 0), min(centre + width, self.cells) + 1)
            part = slice(near.start - centre + width, near.stop - centre + width)
            return near, _offsets(width, self.step)[part] - self.step * (position - centre), None
        if 2 * width + 1 <= self.cells:
            near = range(centre - width, centre + width + 1)
            return near, _offsets(width, self.step) - self.step * (position - centre), None
        met = np.arange(centre - width, centre + width + 1) % self.cells
        distances = self.value.difference(s, self.lower + self.step * np.arange(self.cells))
        counts = np.bincount(met, minlength=self.cells).astype(float)
        return range(self.cells), distances, counts

    def pieces(self, near: range) -> list[tuple[slice, slice]]:
        """Slices of the nodes, and of `near`, that belong together."""
        pieces, start = [], near.start
        while start < near.stop:
            turn = start // self.nodes * self.nodes
            stop = min(near.stop, turn + self.nodes)
            node = slice(start - turn, stop - turn)
            pieces.append((node, slice(start - near.start, stop - near.start)))
            start = stop
        return pieces


def require_inside(
    action: Action, axes: Sequence[Axis], arguments: Sequence[Any], remedy: str
) -> None:
    """Raise as PLUMED does when a value has left a grid.

    Parameters
    ----------
    action : Action
        Whose grid it is.
    axes : sequence of Axis
    arguments : sequence of float, or of ndarray, shape (...)
        One for each axis.
    remedy : str
        What is to be done, for the message.

    Raises
    ------
    RuntimeError
    """
    for axis, s in zip(axes, arguments, strict=True):
        # numpy's all takes longer than the comparison of a float, and this is asked at every step
        if not (axis.inside(s) if isinstance(s, float) else np.all(axis.inside(s))):
            raise RuntimeError(
                f"{action.statement.location}: {action.name} {action.label}: {axis.value.name} = "
                f"{s} is outside the grid from {axis.lower} to {axis.upper}: {remedy}"
            )


def read_axis(
    given: Given,
    i: int,
    value: Value,
    lowest: Sequence[str],
    highest: Sequence[str],
    narrowest: Sequence[float],
) -> Axis:
    """One axis of the grid that GRID_MIN, GRID_MAX, GRID_BIN and GRID_SPACING tell.

    Parameters
    ----------
    given : Given
    i : int
        Which axis.
    value : Value
    lowest, highest : sequence of str, length n_axes
        The limits as they are written.
    narrowest : sequence of float, length n_axes
        Widths of the narrowest hills, of which a node comes five times where nothing is said.

    Raises
    ------
    PlumedInputError
        If they are no axis for the value.
    """
    options, texts = given.options, (lowest[i], highest[i])
    try:
        lower, upper = (read_real(text) for text in texts)
    except ValueError as error:
        raise given.error("GRID_MIN", str(error)) from None
    if lower >= upper:
        raise given.error("GRID_MIN", f"must be below GRID_MAX for {value.name}")
    if value.domain is not None and (lower, upper) != value.domain:
        side = int(lower == value.domain[0])
        limit = (value.domain_text or tuple(map(str, value.domain)))[side]
        message = f"must be {limit} for the periodic {value.name}, to fit its period"
        raise given.error(f"{('GRID_MIN', 'GRID_MAX')[side]}={texts[side]}", message)
    bins, spacing = options["GRID_BIN"], options["GRID_SPACING"]
    if bins is None and spacing is None:
        spacing = [0.2 * sigma for sigma in narrowest]
    cells = int(bins[i]) if bins is not None else 1
    if spacing is not None:
        if not spacing[i] > 0:
            raise given.error("GRID_SPACING", "must be positive")
        cells = max(cells, math.ceil((upper - lower) / spacing[i]))
    if not 1 <= cells <= MAX_GRID_POINTS:
        raise given.error("GRID_BIN", f"{cells} cells for {value.name}: expected at least 1")
    return Axis(value, lower, upper, cells, value.domain_text or texts)


def require_room(given: Given, axis: Axis, sigma: float) -> None:
    """Refuse hills that are wider than the whole domain of a value.

    Raises
    ------
    PlumedInputError
    """
    if axis.goes_round(reach_of(sigma)):
        message = f"the hills are wider than {axis.value.name}'s whole domain"
        raise given.not_native("SIGMA", message)


@lru_cache(maxsize=64)
def _offsets(width: int, step: float) -> np.ndarray:
    return step * np.arange(-width, width + 1)
