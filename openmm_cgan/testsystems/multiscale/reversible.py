"""ReversibleDiffusion: what the multiscale systems share.

A reversible diffusion is written down in hidden coordinates u, one of which is slow,

    du = (-M grad U) dt + sqrt(2 kT M) dW,    M diagonal,

and is seen as x = T(u). M of a coordinate may depend on the other coordinates, not on itself, so
that the equation is the same in Ito's and in Stratonovich's sense. What is seen has the density
exp(-V/kT) with V = U + kT log|det dT/du|, and by Ito's formula the drift and noise

    drift_i = sum_k dT_i/du_k (-M_k dU/du_k) + kT sum_k M_k d^2 T_i/du_k^2,
    noise = dT/du sqrt(2 kT M).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.testsystems.multiscale.multiscale_system import Bias
from openmm_cgan.testsystems.multiscale.quadrature import mean_passage_time

if TYPE_CHECKING:
    import openmm
    from numpy.typing import NDArray
    from openmm import app

GRID = 2001  # points of the quadrature over a slow variable
# An absorbing wall that is looked at every dt acts as one that lies this far behind, in units of
# sigma sqrt(dt): -zeta(1/2)/sqrt(2 pi), M. Broadie, P. Glasserman, S. Kou, Math. Finance 7, 325
# (1997).
OVERSHOOT = 0.5826


class ReversibleDiffusion(ABC):
    """A `MultiscaleSystem` by its hidden coordinates, of which the first is the slow variable.

    Every subclass is a frozen dataclass with ``eps`` and ``kT`` among its fields.

    Raises
    ------
    ValueError
        If one of them is not positive.
    """

    n_slow: ClassVar[int] = 1
    period: ClassVar[float | None] = None
    is_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value in (("eps", self.eps), ("kT", self.kT)):
            if not (math.isfinite(value) and value > 0):
                kind = type(self).__name__
                raise ValueError(f"{kind}({name}={value}): expected a positive number")

    @property
    @abstractmethod
    def eps(self) -> float: ...

    @property
    @abstractmethod
    def kT(self) -> float: ...

    @property
    @abstractmethod
    def slow_mobility(self) -> float: ...

    @property
    @abstractmethod
    def n_dims(self) -> int: ...

    @property
    @abstractmethod
    def slow_range(self) -> tuple[float, float]: ...

    @abstractmethod
    def hidden(self, x: Tensor) -> Tensor:
        """Hidden coordinates u (n, d) of configurations (n, d)."""

    @abstractmethod
    def observed(self, u: Tensor) -> Tensor:
        """Configurations T(u) (n, d) of hidden coordinates (n, d)."""

    @abstractmethod
    def hidden_potential(self, u: Tensor) -> Tensor:
        """U (n,) [kJ/mol] at hidden coordinates (n, d)."""

    @abstractmethod
    def hidden_gradient(self, u: Tensor) -> Tensor:
        """Gradient (n, d) of U [kJ/mol/nm] at hidden coordinates (n, d)."""

    @abstractmethod
    def jacobian(self, u: Tensor) -> Tensor:
        """dT_i/du_k (n, d, d) at hidden coordinates (n, d)."""

    @abstractmethod
    def curvature(self, u: Tensor) -> Tensor:
        """d^2 T_i/du_k^2 (n, d, d) at hidden coordinates (n, d)."""

    @abstractmethod
    def sample_hidden(
        self, z: NDArray[np.float64], n: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Exact hidden coordinates (m, n, d) with slow variable z (m,)."""

    @abstractmethod
    def free_energy(self, z: NDArray[np.float64]) -> NDArray[np.float64]: ...

    @abstractmethod
    def effective_drift(self, z: NDArray[np.float64]) -> NDArray[np.float64]: ...

    @abstractmethod
    def effective_diffusion(self, z: NDArray[np.float64]) -> NDArray[np.float64]: ...

    @abstractmethod
    def system(self) -> openmm.System: ...

    @abstractmethod
    def integrator(self, dt: float) -> openmm.CustomIntegrator: ...

    @property
    def temperature(self) -> float:
        """Of kT [K]."""
        return self.kT / GAS_CONSTANT

    @property
    def n_particles(self) -> int:
        """Of the OpenMM System: as many as hold n_dims coordinates."""
        return math.ceil(self.n_dims / 3)

    def slow(self, x: Tensor) -> Tensor:
        """Slow variables (n, 1) of configurations (n, d)."""
        return self.hidden(x)[:, :1]

    def mobility(self, u: Tensor) -> Tensor:
        """M (n, d) [nm^2/ps/(kJ/mol)] at hidden coordinates (n, d): m, and m/eps of the fast."""
        fast = torch.full_like(u[:, 1:], self.slow_mobility / self.eps)
        return torch.cat([torch.full_like(u[:, :1], self.slow_mobility), fast], dim=1)

    def drift(self, x: Tensor) -> Tensor:
        """Ito drift (n, d) of configurations (n, d)."""
        u = self.hidden(x)
        mobility = self.mobility(u)
        along = -mobility * self.hidden_gradient(u)
        bent = self.kT * mobility
        return (self.jacobian(u) @ along[..., None] + self.curvature(u) @ bent[..., None])[..., 0]

    def noise(self, x: Tensor) -> Tensor:
        """Matrices (n, d, d) before dW at configurations (n, d)."""
        u = self.hidden(x)
        return self.jacobian(u) * (2 * self.kT * self.mobility(u)).sqrt()[:, None, :]

    def potential(self, x: Tensor) -> Tensor:
        """V (n,) [kJ/mol] of configurations (n, d)."""
        u = self.hidden(x)
        return self.hidden_potential(u) + self.kT * torch.linalg.slogdet(self.jacobian(u))[1]

    def sample_conditional(
        self, z: NDArray[np.float64], n: int, seed: int | np.random.Generator
    ) -> NDArray[np.float64]:
        """Exact configurations (m, n, d) with slow variables z (m, 1)."""
        values = np.asarray(z, dtype=float)
        if values.ndim != 2 or values.shape[1] != 1:
            raise ValueError(f"z has shape {values.shape}, expected (m, 1): one slow variable")
        u = self.sample_hidden(values[:, 0], n, np.random.default_rng(seed))
        flat = torch.from_numpy(u.reshape(-1, self.n_dims))
        return self.observed(flat).numpy().reshape(u.shape)

    def sample(self, n: int, seed: int | np.random.Generator) -> NDArray[np.float64]:
        """Independent equilibrium configurations (n, d): z by its density on a grid."""
        rng = np.random.default_rng(seed)
        grid = np.linspace(*self.slow_range, GRID)
        reduced = self.free_energy(grid[:, None]) / self.kT
        density = np.exp(reduced.min() - reduced)
        cumulative = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
        z = np.interp(rng.random(n), cumulative / cumulative[-1], grid)
        return self.sample_conditional(z[:, None], 1, rng)[:, 0]

    def mean_first_passage_time(self, start: float, end: float) -> float:
        """From one value of the slow variable to another in the reduced dynamics [ps].

        Between reflecting ends far out; round the circle either way where it is periodic. The
        reduced dynamics is that of the limit of infinite separation, where the fast coordinates
        are in equilibrium at each z; what a finite separation adds is of order eps.
        """
        low, high = self.slow_range
        ends = (low, end) if end > start else (end, high)
        if self.period is not None:
            turns = math.floor((start - end) / self.period)
            ends = (end + turns * self.period, end + (turns + 1) * self.period)
        grid = np.linspace(*ends, GRID)
        sigma2 = self.effective_diffusion(grid[:, None])[:, 0, 0]
        reduced = self.free_energy(grid[:, None]) / self.kT
        absorbing = (self.period is not None or end < start, self.period is not None or end > start)
        return mean_passage_time(grid, reduced, sigma2, start, absorbing)

    def simulate(
        self,
        x0: Tensor | NDArray[np.float64],
        n_steps: int,
        dt: float,
        every: int,
        seed: int,
        bias: Bias | None = None,
    ) -> NDArray[np.float64]:
        """Trajectories of many walkers at once.

        In hidden coordinates, with noise averaged over two steps, which is exact for the variance
        of a harmonic coordinate and of second order else (B. Leimkuhler, C. Matthews, Appl. Math.
        Res. Express 2013, 34). The step must be below that of stability, 2/(M k) of the stiffest.

        Parameters
        ----------
        x0 : Tensor or ndarray, shape (n, d)
            Where they start [nm].
        n_steps : int
        dt : float
            [ps]
        every : int
            Steps between frames.
        seed : int
        bias : callable, optional
            Slow variables (n, k) to energies (n,) [kJ/mol], differentiable by torch.

        Returns
        -------
        ndarray, shape (n_steps // every, n, d)
            Frames [nm].
        """
        rng = torch.Generator().manual_seed(seed)
        u = self.hidden(torch.from_numpy(np.asarray(x0, dtype=float).copy()))
        frames = np.empty((n_steps // every, *u.shape))
        half = self._half_noise(u, dt, rng)
        for step in range(n_steps):
            middle = u + self._push(u, bias) * dt + half
            half = self._half_noise(u, dt, rng)
            u = middle + half
            if (step + 1) % every == 0:
                frames[(step + 1) // every - 1] = self.observed(u).numpy()
        return frames

    def simulate_first_passage(
        self, start: float, end: float, n: int, dt: float, seed: int, max_steps: int = 10**7
    ) -> NDArray[np.float64]:
        """First-passage times (n,) [ps] of walkers in the full dynamics.

        They start from the conditional density at ``start``; the wall is moved towards them by
        what they overshoot it between two steps.

        Raises
        ------
        RuntimeError
            If some have not arrived after ``max_steps``.
        """
        rng = torch.Generator().manual_seed(seed)
        x0 = self.sample_conditional(np.array([[start]]), n, seed)[0]
        u = self.hidden(torch.from_numpy(x0))
        u[:, 0] = start  # not its image in another period
        times, walker = np.full(n, np.nan), np.arange(n)
        half = self._half_noise(u, dt, rng)
        for step in range(max_steps):
            # What walks with independent noise is the middle point, between halves of the noise.
            middle = u + self._push(u, None) * dt + half
            half = self._half_noise(u, dt, rng)
            u = middle + half
            reach = OVERSHOOT * (2 * self.kT * dt * self.mobility(u)[:, 0]).sqrt()
            ahead = np.sign(end - start) * (end - middle[:, 0])
            arrived = ahead < reach
            if self.period is not None:
                arrived |= self.period - ahead < reach
            if arrived.any():
                times[walker[arrived.numpy()]] = (step + 1) * dt
                walker, u, half = walker[~arrived.numpy()], u[~arrived], half[~arrived]
            if not len(walker):
                return times
        raise RuntimeError(
            f"{len(walker)} of {n} walkers have not come from {start} to {end} in {max_steps} steps"
            f" of {dt} ps: raise max_steps"
        )

    def _push(self, u: Tensor, bias: Bias | None) -> Tensor:
        """Drift (n, d) of hidden coordinates, with a bias on the slow variables."""
        gradient = self.hidden_gradient(u)
        if bias is not None:
            with torch.enable_grad():
                slow = u[:, :1].detach()
                if self.period is not None:  # walkers go round; a bias knows one period
                    slow = slow - self.period * torch.round(slow / self.period)
                slow.requires_grad_()
                (slope,) = torch.autograd.grad(bias(slow).sum(), slow)
            gradient = torch.cat([gradient[:, :1] + slope, gradient[:, 1:]], dim=1)
        return -self.mobility(u) * gradient

    def _half_noise(self, u: Tensor, dt: float, rng: torch.Generator) -> Tensor:
        normal = torch.randn(u.shape, generator=rng, dtype=u.dtype, device=u.device)
        return (0.5 * self.kT * dt * self.mobility(u)).sqrt() * normal

    def topology(self) -> app.Topology:
        """Argon atoms, as many as hold a configuration, for reporters and files."""
        from openmm_cgan.testsystems.multiscale.openmm_forms import argon_atoms

        return argon_atoms(self.n_particles)

    def positions(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions (..., n_particles, 3) [nm] of configurations (..., d), filled up with 0."""
        filled = np.zeros((*x.shape[:-1], 3 * self.n_particles))
        filled[..., : self.n_dims] = x
        return filled.reshape(*x.shape[:-1], self.n_particles, 3)

    def coordinates(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Configurations (..., d) of positions (..., n_particles, 3) [nm]."""
        return positions.reshape(*positions.shape[:-2], -1)[..., : self.n_dims]
