"""MultiscaleSystem: what every multiscale system offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    import openmm
    from numpy.typing import NDArray
    from openmm import app

Bias = Callable[[Tensor], Tensor]  # slow variables (n, k) to energies (n,) [kJ/mol]


class MultiscaleSystem(Protocol):
    """dX = drift dt + noise dW (Ito) with known slow variables, and what is exact of it.

    Lengths in nm, times in ps, energies in kJ/mol; a slow variable may be an angle [rad]. What
    depends on configurations x is torch and differentiable, float64; what depends on values z of
    the slow variables is numpy.

    Attributes
    ----------
    eps : float
        Time of the fast coordinates over that of the slow one: 1/eps is the scale separation.
    kT : float
        [kJ/mol]
    n_dims, n_slow : int
        Lengths d of a configuration and k of its slow variables.
    period : float or None
        Of the slow variable.
    is_gradient : bool
        Whether `potential` is known, and its Boltzmann density is what the dynamics leaves as it
        is.
    """

    @property
    def eps(self) -> float: ...

    @property
    def kT(self) -> float: ...

    @property
    def n_dims(self) -> int: ...

    @property
    def n_slow(self) -> int: ...

    @property
    def period(self) -> float | None: ...

    @property
    def is_gradient(self) -> bool: ...

    @property
    def slow_range(self) -> tuple[float, float]:
        """Ends of the slow variable, outside of which less than exp(-30) of the density lies."""
        ...

    def drift(self, x: Tensor) -> Tensor:
        """Drift (n, d) [nm/ps] at configurations (n, d) [nm]."""
        ...

    def noise(self, x: Tensor) -> Tensor:
        """Matrices (n, d, d) [nm/ps^0.5] before dW at configurations (n, d) [nm]."""
        ...

    def slow(self, x: Tensor) -> Tensor:
        """Slow variables (n, k) of configurations (n, d) [nm]."""
        ...

    def potential(self, x: Tensor) -> Tensor:
        """Energies (n,) [kJ/mol] of configurations (n, d) [nm], for which exp(-V/kT) is left."""
        ...

    def sample_conditional(
        self, z: NDArray[np.float64], n: int, seed: int | np.random.Generator
    ) -> NDArray[np.float64]:
        """Exact configurations (m, n, d) [nm] with slow variables z (m, k)."""
        ...

    def free_energy(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """A(z) (m,) [kJ/mol] at slow variables (m, k), up to a constant."""
        ...

    def effective_drift(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """b(z) = E[L slow | z] (m, k) [1/ps] of dz = b dt + sigma dW."""
        ...

    def effective_diffusion(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """sigma^2(z) (m, k, k) [1/ps] of dz = b dt + sigma dW, <dz dz> = sigma^2 dt."""
        ...

    def mean_first_passage_time(self, start: float, end: float) -> float:
        """Of the reduced dynamics, by quadrature [ps]."""
        ...

    def simulate(
        self,
        x0: Tensor | NDArray[np.float64],
        n_steps: int,
        dt: float,
        every: int,
        seed: int,
        bias: Bias | None = None,
    ) -> NDArray[np.float64]:
        """Frames (n_steps // every, n, d) [nm] of n walkers that start at x0 (n, d) [nm]."""
        ...

    def positions(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions (..., n_particles, 3) [nm] of configurations (..., d), filled up with 0."""
        ...

    def coordinates(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Configurations (..., d) of positions (..., n_particles, 3) [nm]."""
        ...

    def system(self) -> openmm.System:
        """Particles in `potential`."""
        ...

    def topology(self) -> app.Topology:
        """Argon atoms for them, without bonds."""
        ...

    def integrator(self, dt: float) -> openmm.CustomIntegrator:
        """The dynamics in steps of dt [ps], for `system`, with whatever forces are added to it."""
        ...
