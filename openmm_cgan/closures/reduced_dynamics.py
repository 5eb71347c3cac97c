r"""The reduced dynamics dz = b dt + sigma dW on a grid: densities, first-passage times, rates.

Finite volumes in the form of Scharfetter and Gummel: neighbouring cells i and j exchange by rates

    k_ij = (sigma^2 / 2 h^2) B((A_j - A_i) / kT),     B(x) = x / (e^x - 1),

which keep detailed balance with exp(-A / kT) exactly and are of second order in the width h (D. L.
Scharfetter and H. K. Gummel, IEEE Trans. Electron Devices 16, 64 (1969), doi
10.1109/T-ED.1969.16566). Where sigma^2 mixes two CVs, cells exchange over corners as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.sparse import coo_matrix, csc_matrix, diags
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.special import exprel

from openmm_cgan.closures.grid import Grid
from openmm_cgan.quantities import number_of_steps, positive
from openmm_cgan.short_reprs import short_repr

logger = logging.getLogger("openmm_cgan")


@dataclass(frozen=True)
class ReducedDynamics:
    """Dynamics of one or two CVs, reflected where the grid ends or nothing is known.

    Attributes
    ----------
    grid : Grid
    free_energy : ndarray, shape ``grid.shape``
        A [kJ/mol]; not finite in cells that do not take part.
    diffusion : ndarray, shape (n_cells, ..., k, k)
        sigma^2 [CV unit^2/ps]; NaN in cells that do not take part.
    kT : float
        Thermal energy [kJ/mol].

    Raises
    ------
    ValueError
        If shapes do not fit, nothing is known, or a diffusion is not positive: in which cell.
    """

    grid: Grid
    free_energy: NDArray[np.float64]
    diffusion: NDArray[np.float64]
    kT: float

    __repr__ = short_repr

    def __post_init__(self) -> None:
        k = len(self.grid.shape)
        shapes = self.free_energy.shape, self.diffusion.shape
        if shapes != (self.grid.shape, (*self.grid.shape, k, k)):
            raise ValueError(
                f"free energy and diffusion have shapes {shapes[0]} and {shapes[1]}; expected "
                f"{self.grid.shape} and {(*self.grid.shape, k, k)}"
            )
        object.__setattr__(self, "kT", positive(self.kT, "kJ/mol", "kT"))
        known = self._known
        if not known.any():
            raise ValueError("free energy and diffusion are known in no cell: give more frames")
        eigenvalues = np.linalg.eigvalsh(self.diffusion[known])
        if not (eigenvalues > 0).all():
            cell = self.grid.points[known.ravel()][int(eigenvalues[:, 0].argmin())]
            raise ValueError(
                f"the diffusion is not positive in {int((eigenvalues[:, 0] <= 0).sum())} cells, "
                f"that of {cell.round(4).tolist()} among them: give more frames, or a wider "
                "bandwidth"
            )

    @property
    def _known(self) -> NDArray[np.bool_]:
        return np.isfinite(self.free_energy) & np.isfinite(self.diffusion).all((-1, -2))

    @cached_property
    def cells(self) -> NDArray[np.bool_]:
        """The cells that take part: the largest connected part, shape ``grid.shape``."""
        known = self._known.ravel()
        faces = [self.grid.edges(axis) for axis in range(len(self.grid.shape))]
        left, right = (np.concatenate(side) for side in zip(*faces, strict=True))
        both = known[left] & known[right]
        links = coo_matrix((np.ones(both.sum()), (left[both], right[both])), (len(known),) * 2)
        labels = connected_components(links, directed=False)[1]
        largest = np.bincount(labels[known]).argmax()
        return (known & (labels == largest)).reshape(self.grid.shape)

    @cached_property
    def density(self) -> NDArray[np.float64]:
        """Equilibrium density, shape ``grid.shape`` [1/CV unit^k], zero outside `cells`."""
        reduced = np.where(self.cells, self.free_energy, np.inf) / self.kT
        weights = np.exp(-(reduced - reduced.min()))
        return np.asarray(weights / (weights.sum() * self.grid.widths.prod()))

    @cached_property
    def rates(self) -> csc_matrix:
        """Generator, shape (m, m) [1/ps]: from the row's cell to the column's; rows add up to 0."""
        return self._generator(np.zeros(self.grid.shape, dtype=bool))

    def _generator(self, held: NDArray[np.bool_]) -> csc_matrix:
        """`rates`, but to cells that are held from their faces on: half as far, half as steep."""
        m = int(np.prod(self.grid.shape))
        reduced = np.where(self.cells, self.free_energy, 0.0).ravel() / self.kT
        inside, held = self.cells.ravel(), held.ravel()
        rows, columns, values = [], [], []
        for left, right, strength in self._exchanges():
            both = inside[left] & inside[right]
            i, j, s = left[both], right[both], strength[both]
            half = np.where(held[i] != held[j], 0.5, 1.0)
            for a, b in ((i, j), (j, i)):
                rows.append(a)
                columns.append(b)
                values.append(s / half / exprel((reduced[b] - reduced[a]) * half))
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        moves = csc_matrix(coo_matrix(entries, (m, m)))
        return csc_matrix(moves - diags(np.asarray(moves.sum(1)).ravel()))

    def mean_first_passage_time(self, target: ArrayLike) -> NDArray[np.float64]:
        """Mean time to the faces of a target from each cell.

        Parameters
        ----------
        target : array_like of bool, shape ``grid.shape``

        Returns
        -------
        ndarray, shape ``grid.shape``
            [ps]; 0 in the target, NaN where no path leads to it.

        Raises
        ------
        ValueError
            If no cell that takes part is in the target.
        """
        return self._solved({0.0: self._part(target, "target")}, -1.0)

    def committor(self, start: ArrayLike, end: ArrayLike) -> NDArray[np.float64]:
        """Probability to come to `end` before `start` from each cell, shape ``grid.shape``.

        Parameters
        ----------
        start, end : array_like of bool, shape ``grid.shape``

        Raises
        ------
        ValueError
            If one is empty or they overlap.
        """
        a, b = self._part(start, "start"), self._part(end, "end")
        if (a & b).any():
            raise ValueError("start and end overlap")
        return self._solved({0.0: a, 1.0: b}, 0.0)

    def rate(self, start: ArrayLike, end: ArrayLike) -> float:
        """Rate of going over from `start` to `end` [1/ps], by transition-path theory.

        The number of reactive paths a unit time over the probability of having last been in
        `start` (W. E and E. Vanden-Eijnden, Annu. Rev. Phys. Chem. 61, 391 (2010), doi
        10.1146/annurev.physchem.040808.090412).

        Parameters
        ----------
        start, end : array_like of bool, shape ``grid.shape``

        Raises
        ------
        ValueError
            As of `committor`.
        """
        a, b = self._part(start, "start"), self._part(end, "end")
        q = np.nan_to_num(self.committor(a, b)).ravel()
        probabilities = self.density.ravel() * self.grid.widths.prod()
        last_in_start = probabilities * (1.0 - q)
        arriving = np.asarray(self._generator(a | b)[:, np.flatnonzero(b)].sum(1)).ravel()
        arriving[b.ravel()] = 0.0
        return float((last_in_start * arriving).sum() / last_in_start.sum())

    def drift(self) -> NDArray[np.float64]:
        """b, shape (n_cells, ..., k) [CV unit/ps], by the identity from A and sigma^2."""
        k = len(self.grid.shape)
        found = np.zeros((*self.grid.shape, k))
        for a, b in product(range(k), range(k)):
            own = self.diffusion[..., a, b]
            found[..., a] += 0.5 * self._slope(own, b)
            found[..., a] -= 0.5 * own * self._slope(self.free_energy, b) / self.kT
        return found

    def simulate(
        self, start: ArrayLike, n_steps: int, dt: float, seed: int, every: int = 1
    ) -> NDArray[np.float64]:
        """Trajectories by Euler and Maruyama's scheme.

        Parameters
        ----------
        start : array_like, shape (n, k)
            Within the grid [CV unit].
        n_steps : int
        dt : float
            [ps]; a step should move less than a cell, and a warning says where it does not.
        seed : int
        every : int
            Steps between what is kept.

        Returns
        -------
        ndarray, shape (n, n_steps // every + 1, k)
            [CV unit]; periodic CVs stay in their domain, others are reflected at the grid's ends.

        Raises
        ------
        ValueError
            If some cells do not take part (fill them, or take a smaller grid), or a start is not
            within the grid.
        """
        if not self.cells.all():
            raise ValueError(
                f"{(~self.cells).sum()} cells of the grid are unknown: trajectories need them all"
            )
        n_steps, every = number_of_steps(n_steps, "n_steps", 0), number_of_steps(every, "every")
        rng = np.random.default_rng(seed)
        z = self._placed(start)
        dt = positive(dt, "ps", "dt")
        steps = np.sqrt(self.diffusion.diagonal(axis1=-2, axis2=-1) * dt) / self.grid.widths
        if (steps > 1).any():
            logger.warning(
                "a step of %g ps moves by up to %.2g cells of the grid; take a shorter one",
                dt, steps.max(),
            )  # fmt: skip
        roots = np.linalg.cholesky(self.diffusion)
        drift, noise = self._interpolated(self.drift()), self._interpolated(roots)
        kept = [z.copy()]
        for step in range(1, n_steps + 1):
            kicks = rng.normal(size=(*z.shape, 1)) * np.sqrt(dt)
            z = self._folded(z + drift(z) * dt + (noise(z) @ kicks)[..., 0])
            if step % every == 0:
                kept.append(z.copy())
        return np.stack(kept, 1)

    def _exchanges(self) -> list[tuple[NDArray, NDArray, NDArray]]:
        """Cells i, cells j and sigma^2 / 2 h^2 of their faces (and corners)."""
        widths = self.grid.widths
        flat = self.diffusion.reshape(-1, len(widths), len(widths))
        found = []
        for axis, h in enumerate(widths):
            left, right = self.grid.edges(axis)
            strength = 0.25 * (flat[left, axis, axis] + flat[right, axis, axis]) / h**2
            if len(widths) == 2:
                mixed = 0.25 * np.abs(flat[left, 0, 1] + flat[right, 0, 1]) / widths.prod()
                strength = strength - mixed
            found.append((left, right, strength))
        if len(widths) == 2 and np.nanmax(np.abs(flat[:, 0, 1])) > 0:
            found += self._corners(flat)
        inside = self.cells.ravel()
        if any((s[inside[i] & inside[j]] <= 0).any() for i, j, s in found[: len(widths)]):
            ratio = np.sqrt(np.nanmedian(flat[:, 0, 0] / flat[:, 1, 1]))
            raise ValueError(
                f"cells of {widths[0]:.3g} by {widths[1]:.3g} are too oblong for a diffusion that "
                f"mixes the CVs this much; take cells about {ratio:.3g} times as long along "
                f"{self.grid.variables[0].name} as along {self.grid.variables[1].name}"
            )
        return found

    def _corners(self, flat: NDArray) -> list[tuple[NDArray, NDArray, NDArray]]:
        numbers = np.arange(len(flat)).reshape(self.grid.shape)
        found = []
        for sign in (1, -1):
            partner = np.roll(numbers, (-1, -sign), (0, 1))
            here = np.ones(self.grid.shape, dtype=bool)
            if not self.grid.periodic[0]:
                here[-1] = False
            if not self.grid.periodic[1]:
                here[:, -1 if sign == 1 else 0] = False
            i, j = numbers[here], partner[here]
            mixed = 0.5 * sign * (flat[i, 0, 1] + flat[j, 0, 1])
            found.append((i, j, 0.5 * np.maximum(mixed, 0.0) / self.grid.widths.prod()))
        return found

    def _part(self, mask: ArrayLike, what: str) -> NDArray[np.bool_]:
        part = np.asarray(mask, dtype=bool)
        if part.shape != self.grid.shape:
            raise ValueError(f"{what} has shape {part.shape}; expected {self.grid.shape}")
        if not (part & self.cells).any():
            if (part & self._known).any():
                raise ValueError(
                    f"{what} lies beyond cells where nothing is known, apart from the "
                    f"{self.cells.sum()} cells of the dynamics: sample what lies between, or take "
                    "a grid of that part"
                )
            raise ValueError(f"{what} has no cell where the reduced dynamics is known")
        return part & self.cells

    def _solved(self, held: dict[float, NDArray[np.bool_]], right: float) -> NDArray[np.float64]:
        """Solve generator f = right outside of what is held at given values."""
        values = np.full(self.grid.shape, np.nan).ravel()
        fixed = np.zeros(len(values), dtype=bool)
        for value, mask in held.items():
            values[mask.ravel()] = value
            fixed |= mask.ravel()
        free = self.cells.ravel() & ~fixed
        if free.any():
            rows = self._generator(fixed.reshape(self.grid.shape))[np.flatnonzero(free)]
            known = rows[:, np.flatnonzero(fixed)] @ values[fixed]
            values[free] = splu(csc_matrix(rows[:, np.flatnonzero(free)])).solve(right - known)
        return values.reshape(self.grid.shape)

    def _slope(self, field: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        if not self.grid.periodic[axis]:
            return np.asarray(np.gradient(field, self.grid.widths[axis], axis=axis))
        rise = np.roll(field, -1, axis) - np.roll(field, 1, axis)
        return np.asarray(rise / (2.0 * self.grid.widths[axis]))

    def _interpolated(self, field: NDArray) -> Callable[[NDArray], NDArray]:
        axes, field = list(self.grid.axes), field
        for axis, periodic in enumerate(self.grid.periodic):
            if periodic:
                first, last = (np.take(field, [i], axis) for i in (0, -1))
                field = np.concatenate([last, field, first], axis)
                own, h = axes[axis], self.grid.widths[axis]
                axes[axis] = np.concatenate([[own[0] - h], own, [own[-1] + h]])
        found = RegularGridInterpolator(axes, field, bounds_error=False, fill_value=None)
        ends = np.array([(axis[0], axis[-1]) for axis in axes]).T
        return lambda z: found(np.clip(z, *ends))

    def _placed(self, start: ArrayLike) -> NDArray[np.float64]:
        z = np.array(start, dtype=float)
        if z.ndim != 2 or z.shape[1] != len(self.grid.shape):
            raise ValueError(f"starts have shape {z.shape}; expected (n, {len(self.grid.shape)})")
        for column, (axis, h) in enumerate(zip(self.grid.axes, self.grid.widths, strict=True)):
            off = np.abs(z[:, column] - 0.5 * (axis[0] + axis[-1])) / (h * len(axis))
            if not (self.grid.periodic[column] or (off <= 0.5 + 1e-9).all()):
                raise ValueError(
                    f"a start of {self.grid.variables[column].name} is "
                    f"{z[int(off.argmax()), column]:g}; expected {axis[0] - 0.5 * h:g} to "
                    f"{axis[-1] + 0.5 * h:g}"
                )
        return self._folded(z)

    def _folded(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        for column, (axis, h) in enumerate(zip(self.grid.axes, self.grid.widths, strict=True)):
            lower, length = axis[0] - 0.5 * h, h * len(axis)
            if self.grid.periodic[column]:
                z[:, column] = lower + np.mod(z[:, column] - lower, length)
            else:
                beyond = np.mod(z[:, column] - lower, 2.0 * length)
                z[:, column] = lower + length - np.abs(length - beyond)
        return z
