"""LinearPair: a slow and a fast Ornstein-Uhlenbeck coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from openmm_cgan.testsystems.multiscale.reversible import ReversibleDiffusion

if TYPE_CHECKING:
    import openmm
    from numpy.typing import NDArray


@dataclass(frozen=True)
class LinearPair(ReversibleDiffusion):
    r"""A slow x and a fast y that follows it: all is Gaussian.

    .. math:: V = \tfrac{k}{2} x^2 + \tfrac{\kappa}{2} (y - s x)^2, \qquad M = (m, m/\epsilon)

    y given x is normal with mean s x and variance kT/kappa; A = k x^2/2, b = -m k x,
    sigma^2 = 2 kT m.

    Parameters
    ----------
    eps : float
        Inverse of the scale separation.
    kT : float
        [kJ/mol]
    stiffness, fast_stiffness : float
        k and kappa [kJ/mol/nm^2].
    slope : float
        s.
    slow_mobility : float
        m [nm^2/ps/(kJ/mol)].

    Examples
    --------
    >>> LinearPair().effective_drift([[0.5]])
    array([[-0.5]])
    """

    eps: float = 0.01
    kT: float = 1.0
    stiffness: float = 1.0
    fast_stiffness: float = 1.0
    slope: float = 1.0
    slow_mobility: float = 1.0
    n_dims: int = 2

    @property
    def slow_range(self) -> tuple[float, float]:
        """Nine standard deviations."""
        reach = 9 * float(np.sqrt(self.kT / self.stiffness))
        return -reach, reach

    def hidden(self, x: Tensor) -> Tensor:
        """The coordinates themselves."""
        return x

    def observed(self, u: Tensor) -> Tensor:
        """The coordinates themselves."""
        return u

    def jacobian(self, u: Tensor) -> Tensor:
        """The identity."""
        return torch.eye(2, dtype=u.dtype, device=u.device).expand(len(u), 2, 2)

    def curvature(self, u: Tensor) -> Tensor:
        """Zero."""
        return u.new_zeros(len(u), 2, 2)

    def hidden_potential(self, u: Tensor) -> Tensor:
        """V (n,)."""
        off = u[:, 1] - self.slope * u[:, 0]
        return 0.5 * self.stiffness * u[:, 0] ** 2 + 0.5 * self.fast_stiffness * off**2

    def hidden_gradient(self, u: Tensor) -> Tensor:
        """Gradient (n, 2) of V."""
        pull = self.fast_stiffness * (u[:, 1] - self.slope * u[:, 0])
        return torch.stack([self.stiffness * u[:, 0] - self.slope * pull, pull], dim=1)

    def sample_hidden(
        self, z: NDArray[np.float64], n: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Normal y around s z."""
        x = np.broadcast_to(z[:, None], (len(z), n))
        y = rng.normal(self.slope * x, np.sqrt(self.kT / self.fast_stiffness))
        return np.stack([x, y], axis=2)

    def free_energy(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """k z^2/2 (m,)."""
        return 0.5 * self.stiffness * np.asarray(z)[:, 0] ** 2

    def effective_drift(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """-m k z (m, 1)."""
        return -self.slow_mobility * self.stiffness * np.asarray(z)

    def effective_diffusion(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """2 kT m (m, 1, 1)."""
        return np.full((len(z), 1, 1), 2 * self.kT * self.slow_mobility)

    def relaxation_rates(self) -> NDArray[np.float64]:
        """Exact rates (2,) of the two modes of the full dynamics [1/ps], slow first.

        The slow one is m k in the limit of infinite separation.
        """
        u = torch.eye(2, dtype=torch.float64, device="cpu")
        matrix = (self.mobility(u) * self.hidden_gradient(u)).numpy().T
        return np.sort(np.linalg.eigvals(matrix).real)

    def system(self) -> openmm.System:
        """One particle; z is held at 0."""
        from openmm_cgan.testsystems.multiscale.openmm_forms import particles_in

        k, kappa = self.stiffness / 2, self.fast_stiffness / 2
        return particles_in(f"{k}*x1^2 + {kappa}*(y1 - {self.slope}*x1)^2", self.n_dims)

    def integrator(self, dt: float) -> openmm.CustomIntegrator:
        """The dynamics in steps of dt [ps]."""
        from openmm_cgan.testsystems.multiscale import openmm_forms

        mobility = [self.slow_mobility, self.slow_mobility / self.eps]
        return openmm_forms.diagonal(dt, self.kT, mobility)
