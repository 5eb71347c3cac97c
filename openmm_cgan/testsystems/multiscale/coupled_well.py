"""CoupledDoubleWell: a slow double well whose fast coordinates widen and narrow along it."""

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
class CoupledDoubleWell(ReversibleDiffusion):
    r"""A slow x in a double well, and n fast y whose variance depends on x.

    .. math::

        V &= A(x) - \tfrac{n}{2} kT g x + \tfrac{\kappa}{2} e^{g x} \sum_i y_i^2 \\
        M_x &= m (1 + \alpha \kappa \overline{y^2} / kT), \qquad M_{y_i} = m / \epsilon

    y given x is normal with variance kT exp(-g x)/kappa, and A is the free energy. No closure is
    constant: with e = exp(-g z)

    .. math::

        \sigma^2 = 2 kT m (1 + \alpha e), \qquad
        b = -m [(1 + \alpha e) A' + \alpha g kT e]

    where b is E[-M_x dV/dx] of chi^2 variables, and the identity b = -sigma^2 A'/2kT +
    (sigma^2)'/2 holds. The full dynamics becomes the reduced one in the limit of eps = 0.

    Parameters
    ----------
    eps : float
        Inverse of the scale separation.
    kT : float
        [kJ/mol]
    well : QuarticWell
        A.
    n_fast : int
        n.
    fast_stiffness : float
        kappa [kJ/mol/nm^2].
    growth : float
        g [1/nm].
    relief : float
        alpha: how much faster x moves where y is wide.
    slow_mobility : float
        m [nm^2/ps/(kJ/mol)].

    Examples
    --------
    >>> CoupledDoubleWell().effective_diffusion([[0.0]])
    array([[[1.5]]])
    """

    eps: float = 0.01
    kT: float = 1.0
    well: QuarticWell = field(default_factory=QuarticWell)
    n_fast: int = 10
    fast_stiffness: float = 2.0
    growth: float = 0.5
    relief: float = 0.5
    slow_mobility: float = 0.5

    @property
    def n_dims(self) -> int:
        """x and all y."""
        return 1 + self.n_fast

    @property
    def slow_range(self) -> tuple[float, float]:
        """Where the well is below 40 kT."""
        return -self.well.reach(self.kT), self.well.reach(self.kT)

    def hidden(self, x: Tensor) -> Tensor:
        """The coordinates themselves."""
        return x

    def observed(self, u: Tensor) -> Tensor:
        """The coordinates themselves."""
        return u

    def jacobian(self, u: Tensor) -> Tensor:
        """The identity."""
        return torch.eye(self.n_dims, dtype=u.dtype, device=u.device).expand(len(u), -1, -1)

    def curvature(self, u: Tensor) -> Tensor:
        """Zero."""
        return u.new_zeros(len(u), self.n_dims, self.n_dims)

    def hidden_potential(self, u: Tensor) -> Tensor:
        """V (n,)."""
        x, squares = u[:, 0], (u[:, 1:] ** 2).sum(1)
        entropy = 0.5 * self.n_fast * self.kT * self.growth * x
        springs = 0.5 * self.fast_stiffness * torch.exp(self.growth * x) * squares
        return self.well.energy(x) - entropy + springs

    def hidden_gradient(self, u: Tensor) -> Tensor:
        """Gradient (n, d) of V."""
        stiffness = self.fast_stiffness * torch.exp(self.growth * u[:, :1])
        y = u[:, 1:]
        springs = 0.5 * self.growth * stiffness * (y**2).sum(1, keepdim=True)
        entropy = 0.5 * self.n_fast * self.kT * self.growth
        return torch.cat([self.well.slope(u[:, :1]) - entropy + springs, stiffness * y], dim=1)

    def mobility(self, u: Tensor) -> Tensor:
        """(M_x, m/eps, ...) (n, d)."""
        y = u[:, 1:]
        width = self.fast_stiffness / self.kT * (y**2).mean(1, keepdim=True)
        slow = self.slow_mobility * (1 + self.relief * width)
        return torch.cat([slow, torch.full_like(y, self.slow_mobility / self.eps)], dim=1)

    def sample_hidden(
        self, z: NDArray[np.float64], n: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Normal y of the variance at z."""
        u = np.empty((len(z), n, self.n_dims))
        u[..., 0] = z[:, None]
        deviation = np.sqrt(self.kT / self.fast_stiffness) * np.exp(-0.5 * self.growth * z)
        u[..., 1:] = deviation[:, None, None] * rng.normal(size=(len(z), n, self.n_fast))
        return u

    def free_energy(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """A (m,)."""
        return self.well.energy(np.asarray(z, dtype=float)[:, 0])

    def effective_drift(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """-m ((1 + alpha e) A' + alpha g kT e) (m, 1)."""
        x = np.asarray(z, dtype=float)
        relieved = self.relief * np.exp(-self.growth * x)
        entropy = self.growth * self.kT * relieved
        return -self.slow_mobility * ((1 + relieved) * self.well.slope(x) + entropy)

    def effective_diffusion(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """2 kT m (1 + alpha e) (m, 1, 1)."""
        relieved = self.relief * np.exp(-self.growth * np.asarray(z, dtype=float))
        return (2 * self.kT * self.slow_mobility * (1 + relieved))[..., None]

    def system(self) -> openmm.System:
        """As many particles as hold the coordinates, x first; the rest is held at 0."""
        from openmm_cgan.testsystems.multiscale.openmm_forms import coordinate_names, particles_in

        squares = " + ".join(f"{name}^2" for name in coordinate_names(self.n_dims)[1:])
        energy = (
            f"{self.well.expression('x1')} - {0.5 * self.n_fast * self.kT * self.growth}*x1"
            f" + {0.5 * self.fast_stiffness}*exp({self.growth}*x1)*({squares})"
        )
        return particles_in(energy, self.n_dims)

    def integrator(self, dt: float) -> openmm.CustomIntegrator:
        """The dynamics in steps of dt [ps]."""
        from openmm_cgan.testsystems.multiscale import openmm_forms

        slow, fast = [1.0, *[0.0] * self.n_fast], [0.0, *[1.0] * self.n_fast]
        integrator = openmm_forms.overdamped(dt, self.kT, [0.0] * self.n_dims)
        for name, values in (("slow", slow), ("fast", fast)):
            integrator.addPerDofVariable(name, 0)
            integrator.setPerDofVariableByName(name, openmm_forms.vectors(values))
        integrator.addGlobalVariable("squares", 0)
        relief = self.relief * self.fast_stiffness / self.kT / self.n_fast
        slow_mobility = f"{self.slow_mobility}*(1 + {relief}*squares)"
        integrator.addComputeSum("squares", "fast*x*x")
        integrator.addComputePerDof(
            "mobility", f"slow*{slow_mobility} + fast*{self.slow_mobility / self.eps}"
        )
        openmm_forms.draw_noise(integrator)
        integrator.addComputePerDof("x", "x + dt*mobility*f + before + noise")
        return integrator
