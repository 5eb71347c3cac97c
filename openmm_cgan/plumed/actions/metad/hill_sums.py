"""The sum of Gaussian hills without a grid: exact, and dearer with every hill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.metad.gaussian import CUTOFF, STRETCHED, Kernel
from openmm_cgan.plumed.actions.values import Value

BLOCK = 1_000_000  # hills times points that one step of a batch works on


class HillSum:
    """A list of Gaussian hills.

    Parameters
    ----------
    values : sequence of Value
        What the hills are in, for the periods.
    interval : (float, float), optional
        Of the only value: outside, the bias is level, as high as on the limit.
    n_widths : int, optional
        How many numbers tell the shape of a hill; by default one for each value.
    kernel : Kernel, optional
    """

    def __init__(
        self,
        values: Sequence[Value],
        interval: tuple[float, float] | None = None,
        n_widths: int | None = None,
        kernel: Kernel = STRETCHED,
    ) -> None:
        self.kernel = kernel
        self.values = tuple(values)
        self.interval = interval
        self._n_widths = len(values) if n_widths is None else n_widths
        self._size = 0
        self._make_room(64)

    def _make_room(self, room: int) -> None:
        self._centres = np.empty((len(self.values), room))
        self._over_sigma = np.empty((self._n_widths, room))
        self._heights = np.empty(room)

    def __len__(self) -> int:
        return self._size

    def add(self, centre: Sequence[float], sigma: Sequence[float], height: float) -> None:
        """Add one hill.

        Parameters
        ----------
        centre, sigma : sequence of float, length n_values
        height : float
            [energy unit of the input]
        """
        self._append(centre, 1.0 / np.asarray(sigma), height)

    def changed(self) -> None:
        """Take note that hills may have been added."""

    def _append(self, centre: Sequence[float], over_sigma: np.ndarray, height: float) -> None:
        if self._size == len(self._heights):  # room for as many again
            self._centres = np.concatenate([self._centres, self._centres], axis=1)
            self._over_sigma = np.concatenate([self._over_sigma, self._over_sigma], axis=1)
            self._heights = np.concatenate([self._heights, self._heights])
        self._centres[:, self._size] = centre
        self._over_sigma[:, self._size] = over_sigma
        self._heights[self._size] = height
        self._size += 1

    def saved(self) -> dict[str, np.ndarray]:
        """For a checkpoint, in the units of the input.

        ``centres`` (n_values, n_hills), ``over_sigma`` (n_widths, n_hills), ``heights`` (n_hills,).
        """
        hills = slice(0, self._size)
        return {
            "centres": self._centres[:, hills],
            "over_sigma": self._over_sigma[:, hills],
            "heights": self._heights[hills],
        }

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over hills that `saved` gave, in the same shapes.

        Raises
        ------
        ValueError
            If they are of other values.
        """
        centres = saved_array(arrays, "centres", (len(self.values), None), finite=True)
        over_sigma = saved_array(
            arrays, "over_sigma", (self._n_widths, centres.shape[1]), finite=True
        )
        heights = saved_array(arrays, "heights", centres.shape[1:], finite=True)
        self._size = len(heights)
        self._make_room(max(64, self._size))
        hills = slice(0, self._size)
        self._centres[:, hills], self._over_sigma[:, hills] = centres, over_sigma
        self._heights[hills] = heights

    def at(self, arguments: Sequence[float]) -> float:
        """Bias at one point: arguments of length n_values [energy unit of the input]."""
        return self.value_and_slopes(arguments)[0]

    def value_and_slopes(self, arguments: Sequence[float]) -> tuple[float, list[float]]:
        """Bias at one point, and its slope along each value.

        Parameters
        ----------
        arguments : sequence of float, length n_values

        Returns
        -------
        float
            [energy unit of the input]
        list of float, length n_values
            [energy unit over units of the values]
        """
        return self._value_and_slopes(arguments, slice(0, self._size))

    def _value_and_slopes(
        self, arguments: Sequence[float], hills: slice | np.ndarray
    ) -> tuple[float, list[float]]:
        scaled, beyond = self._scaled(arguments, hills)
        half = 0.5 * np.einsum("ij,ij->j", scaled, scaled)
        inside = np.flatnonzero(half < CUTOFF)  # the others, most of many, add nothing
        heights = self._heights[hills][inside]
        bump = self.kernel.stretch * heights * np.exp(-half[inside])
        value = float(bump.sum()) + self.kernel.shift * float(heights.sum())
        if beyond:
            return value, [0.0] * len(self.values)
        ways = scaled[:, inside] * self._over_sigma[:, hills][:, inside]
        return value, (-(ways @ bump)).tolist()

    def value(self, arguments: Sequence[Any]) -> np.ndarray:
        """Bias at points.

        Parameters
        ----------
        arguments : sequence of ndarray, shape (...), length n_values

        Returns
        -------
        ndarray, shape (...)
            [energy unit of the input]
        """
        points = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in arguments))
        flat = [point.reshape(-1, 1) for point in points]
        total = np.zeros(len(flat[0]))
        stretch, shift = self.kernel
        count = max(1, BLOCK // max(1, len(total)))
        for start in range(0, self._size, count):
            hills = slice(start, min(start + count, self._size))
            half = self._half_squares(flat, hills)
            kernel = np.where(half < CUTOFF, stretch * np.exp(-half) + shift, 0.0)
            total += kernel @ self._heights[hills]
        return total.reshape(points[0].shape)

    def _half_squares(self, points: Sequence[Any], hills: slice) -> Any:
        """Half the squared distances of points, shape (n_points, 1) each value, from hills."""
        scaled, _ = self._scaled(points, hills)
        return 0.5 * sum(s * s for s in scaled)

    def _scaled(self, arguments: Sequence[Any], hills: slice | np.ndarray) -> tuple[Any, bool]:
        """Distances from the centres in sigmas, and whether a single point is off the interval."""
        beyond = False
        if self.interval is not None:
            lower, upper = self.interval
            if isinstance(arguments[0], float):
                beyond = not lower <= arguments[0] <= upper
            arguments = [np.clip(arguments[0], lower, upper)]
        scaled = [
            value.difference(self._centres[i, hills], s) * self._over_sigma[i, hills]
            for i, (value, s) in enumerate(zip(self.values, arguments, strict=True))
        ]
        return (np.array(scaled) if np.ndim(arguments[0]) == 0 else scaled), beyond
