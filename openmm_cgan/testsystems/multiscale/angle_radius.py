"""AngleRadius: a slow angle and a fast radius, seen in the plane."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from openmm_cgan.testsystems.multiscale.reversible import ReversibleDiffusion

if TYPE_CHECKING:
    import openmm
    from numpy.typing import NDArray

NARROW = 0.12  # nm: a radius that stays eight standard deviations from 0, where the plane folds


@dataclass(frozen=True)
class AngleRadius(ReversibleDiffusion):
    r"""Slow angle u, fast radius r around 1 nm, seen as r (cos w, sin w) with w = u + (r - 1).

    After the examples of A. Singer, R. Erban, I. G. Kevrekidis, R. R. Coifman, PNAS 106, 16090
    (2009), whose angle drifts; here it has two wells round the circle:

    .. math::

        du &= -m A'(u) dt + \sqrt{2 kT m}\, dW_1, \qquad
            A = \tfrac{h}{2} (1 + \cos 2u) + t \sin u \\
        dr &= -(m \kappa / \epsilon) (r - 1) dt + \sqrt{2 kT m / \epsilon}\, dW_2

    The slow variable is periodic, w - r + 1, and its reduced dynamics is exact at every eps. The
    level sets of u are spirals.

    Parameters
    ----------
    eps : float
        Inverse of the scale separation.
    kT : float
        [kJ/mol]
    barrier, tilt : float
        h and t [kJ/mol]: the well at u = pi/2 lies 2 t above that at -pi/2.
    fast_stiffness : float
        kappa [kJ/mol/nm^2]. The radius varies by sqrt(kT/kappa), at most 0.12 nm.
    slow_mobility : float
        m of the angle [rad^2/ps/(kJ/mol)], and of the radius [nm^2/ps/(kJ/mol)] times eps.

    Raises
    ------
    ValueError
        If the radius would come near 0.

    Examples
    --------
    >>> AngleRadius().free_energy([[0.0], [1.5707963267948966]]).round(9)
    array([3., 0.])
    """

    period: ClassVar[float | None] = 2 * math.pi

    eps: float = 0.01
    kT: float = 1.0
    barrier: float = 3.0
    tilt: float = 0.0
    fast_stiffness: float = 100.0
    slow_mobility: float = 0.5
    n_dims: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kT / self.fast_stiffness > NARROW**2:
            raise ValueError(
                f"the radius varies by {math.sqrt(self.kT / self.fast_stiffness):.3g} nm around 1,"
                f" expected at most {NARROW}: raise fast_stiffness"
            )

    @property
    def slow_range(self) -> tuple[float, float]:
        """The circle."""
        return -math.pi, math.pi

    def hidden(self, x: Tensor) -> Tensor:
        """(u, r) of (x, y), u in [-pi, pi)."""
        r = torch.hypot(x[:, 0], x[:, 1])
        u = torch.atan2(x[:, 1], x[:, 0]) - r + 1
        return torch.stack([torch.remainder(u + math.pi, 2 * math.pi) - math.pi, r], dim=1)

    def observed(self, u: Tensor) -> Tensor:
        """(x, y) of (u, r)."""
        w = u[:, 0] + u[:, 1] - 1
        return u[:, 1:] * torch.stack([w.cos(), w.sin()], dim=1)

    def jacobian(self, u: Tensor) -> Tensor:
        """By u: r times the tangent; by r: the radial direction and that."""
        w, r = u[:, 0] + u[:, 1] - 1, u[:, 1:]
        radial, tangent = torch.stack([w.cos(), w.sin()], 1), torch.stack([-w.sin(), w.cos()], 1)
        return torch.stack([r * tangent, radial + r * tangent], dim=2)

    def curvature(self, u: Tensor) -> Tensor:
        """By u: -r radial; by r: 2 tangent - r radial."""
        w, r = u[:, 0] + u[:, 1] - 1, u[:, 1:]
        radial, tangent = torch.stack([w.cos(), w.sin()], 1), torch.stack([-w.sin(), w.cos()], 1)
        return torch.stack([-r * radial, 2 * tangent - r * radial], dim=2)

    def hidden_potential(self, u: Tensor) -> Tensor:
        """A + kappa (r - 1)^2/2 (n,)."""
        slow = 0.5 * self.barrier * (1 + torch.cos(2 * u[:, 0])) + self.tilt * torch.sin(u[:, 0])
        return slow + 0.5 * self.fast_stiffness * (u[:, 1] - 1) ** 2

    def hidden_gradient(self, u: Tensor) -> Tensor:
        """(A', kappa (r - 1)) (n, 2)."""
        slow = -self.barrier * torch.sin(2 * u[:, 0]) + self.tilt * torch.cos(u[:, 0])
        return torch.stack([slow, self.fast_stiffness * (u[:, 1] - 1)], dim=1)

    def sample_hidden(
        self, z: NDArray[np.float64], n: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Normal r around 1."""
        u = np.broadcast_to(z[:, None], (len(z), n))
        r = rng.normal(1.0, np.sqrt(self.kT / self.fast_stiffness), size=u.shape)
        return np.stack([u, r], axis=2)

    def free_energy(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """A (m,)."""
        u = np.asarray(z, dtype=float)[:, 0]
        return 0.5 * self.barrier * (1 + np.cos(2 * u)) + self.tilt * np.sin(u)

    def effective_drift(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """-m A' (m, 1)."""
        u = np.asarray(z, dtype=float)
        return self.slow_mobility * (self.barrier * np.sin(2 * u) - self.tilt * np.cos(u))

    def effective_diffusion(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """2 kT m (m, 1, 1)."""
        return np.full((len(z), 1, 1), 2 * self.kT * self.slow_mobility)

    def system(self) -> openmm.System:
        """One particle; z is held at 0."""
        from openmm_cgan.testsystems.multiscale.openmm_forms import particles_in

        energy = (
            f"{self.barrier / 2}*(1 + cos(2*u)) + {self.tilt}*sin(u)"
            f" + {self.fast_stiffness / 2}*(r - 1)^2 + {self.kT}*log(r)"
            "; u = atan2(y1, x1) - r + 1; r = sqrt(x1^2 + y1^2)"
        )
        return particles_in(energy, self.n_dims)

    def integrator(self, dt: float) -> openmm.CustomIntegrator:
        """The dynamics in steps of dt [ps]."""
        from openmm_cgan.testsystems.multiscale import openmm_forms

        r, w = "sqrt(_x(x)^2 + _y(x)^2)", "atan2(_y(x), _x(x))"
        turning = "(_x(x)*_y(f) - _y(x)*_x(f))"
        outward = f"((_x(x)*_x(f) + _y(x)*_y(f))/{r})"
        phase = "(_x(u) + _y(u) - 1)"
        return openmm_forms.transformed(
            dt,
            self.kT,
            [self.slow_mobility, self.slow_mobility / self.eps],
            hidden=f"vector({w} - {r} + 1, {r}, _z(x))",
            # V holds kT log r, which is no force in hidden coordinates
            push=f"vector({turning}, {outward} + {turning} + kT/{r}, _z(f))",
            observed=f"vector(_y(u)*cos{phase}, _y(u)*sin{phase}, _z(u))",
        )
