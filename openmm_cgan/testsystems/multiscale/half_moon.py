"""HalfMoon: a double well and a fast Gaussian, bent so that the slow variable is not linear."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from openmm_cgan.testsystems.multiscale.reversible import ReversibleDiffusion
from openmm_cgan.testsystems.multiscale.wells import QuarticWell

if TYPE_CHECKING:
    import openmm
    from numpy.typing import NDArray


@dataclass(frozen=True)
class HalfMoon(ReversibleDiffusion):
    r"""Slow u in a double well, fast v, seen as (u + c v^2, v).

    The half-moon of C. J. Dsilva et al., SIAM J. Appl. Dyn. Syst. 15, 1327 (2016),
    arXiv 1501.05195, has a constant drift in u; here a double well confines it:

    .. math::

        du &= -m A'(u) dt + \sqrt{2 kT m}\, dW_1 \\
        dv &= -(m \kappa / \epsilon) v\, dt + \sqrt{2 kT m / \epsilon}\, dW_2

    With kT = 1, m = 1/2 and kappa = 2, as by default, these are du = a dt + dW_1 and
    dv = -(v/eps) dt + eps^-1/2 dW_2. The slow variable is x - c y^2, and its reduced dynamics is
    exact at every eps.

    Parameters
    ----------
    eps : float
        Inverse of the scale separation.
    kT : float
        [kJ/mol]
    well : QuarticWell
        A.
    fast_stiffness : float
        kappa [kJ/mol/nm^2].
    bend : float
        c [1/nm].
    slow_mobility : float
        m [nm^2/ps/(kJ/mol)].

    Examples
    --------
    >>> HalfMoon().free_energy([[0.0], [1.5]])
    array([3., 0.])
    """

    eps: float = 0.01
    kT: float = 1.0
    well: QuarticWell = field(default_factory=QuarticWell)
    fast_stiffness: float = 2.0
    bend: float = 1.0
    slow_mobility: float = 0.5
    n_dims: int = 2

    @property
    def slow_range(self) -> tuple[float, float]:
        """Where the well is below 40 kT."""
        return -self.well.reach(self.kT), self.well.reach(self.kT)

    def hidden(self, x: Tensor) -> Tensor:
        """(u, v) of (x, y)."""
        return torch.stack([x[:, 0] - self.bend * x[:, 1] ** 2, x[:, 1]], dim=1)

    def observed(self, u: Tensor) -> Tensor:
        """(x, y) of (u, v)."""
        return torch.stack([u[:, 0] + self.bend * u[:, 1] ** 2, u[:, 1]], dim=1)

    def jacobian(self, u: Tensor) -> Tensor:
        """((1, 2 c v), (0, 1))."""
        bent = u.new_tensor([[0.0, 2 * self.bend], [0.0, 0.0]]) * u[:, 1, None, None]
        return torch.eye(2, dtype=u.dtype, device=u.device) + bent

    def curvature(self, u: Tensor) -> Tensor:
        """2 c for x twice by v."""
        return u.new_tensor([[0.0, 2 * self.bend], [0.0, 0.0]]).expand(len(u), 2, 2)

    def hidden_potential(self, u: Tensor) -> Tensor:
        """A + kappa v^2/2 (n,)."""
        return self.well.energy(u[:, 0]) + 0.5 * self.fast_stiffness * u[:, 1] ** 2

    def hidden_gradient(self, u: Tensor) -> Tensor:
        """(A', kappa v) (n, 2)."""
        return torch.stack([self.well.slope(u[:, 0]), self.fast_stiffness * u[:, 1]], dim=1)

    def sample_hidden(
        self, z: NDArray[np.float64], n: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Normal v."""
        u = np.broadcast_to(z[:, None], (len(z), n))
        v = rng.normal(0.0, np.sqrt(self.kT / self.fast_stiffness), size=u.shape)
        return np.stack([u, v], axis=2)

    def free_energy(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """A (m,)."""
        return self.well.energy(np.asarray(z, dtype=float)[:, 0])

    def effective_drift(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """-m A' (m, 1)."""
        return -self.slow_mobility * self.well.slope(np.asarray(z, dtype=float))

    def effective_diffusion(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """2 kT m (m, 1, 1)."""
        return np.full((len(z), 1, 1), 2 * self.kT * self.slow_mobility)

    def system(self) -> openmm.System:
        """One particle; z is held at 0."""
        from openmm_cgan.testsystems.multiscale.openmm_forms import particles_in

        slow = self.well.expression(f"x1 - {self.bend}*y1^2")
        return particles_in(f"{slow} + {self.fast_stiffness / 2}*y1^2", self.n_dims)

    def integrator(self, dt: float) -> openmm.CustomIntegrator:
        """The dynamics in steps of dt [ps]."""
        from openmm_cgan.testsystems.multiscale import openmm_forms

        c = self.bend
        mobility = [self.slow_mobility, self.slow_mobility / self.eps]
        return openmm_forms.transformed(
            dt,
            self.kT,
            mobility,
            hidden=f"vector(_x(x) - {c}*_y(x)^2, _y(x), _z(x))",
            push=f"vector(_x(f), _y(f) + {2 * c}*_y(x)*_x(f), _z(f))",
            observed=f"vector(_x(u) + {c}*_y(u)^2, _y(u), _z(u))",
        )
