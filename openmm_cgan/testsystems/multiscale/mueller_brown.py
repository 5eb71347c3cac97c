"""RotatedMuellerBrown: a rugged landscape with stiff dimensions beside, turned out of sight."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from openmm_cgan.testsystems.multiscale.quadrature import draw
from openmm_cgan.testsystems.multiscale.reversible import ReversibleDiffusion

if TYPE_CHECKING:
    import openmm
    from numpy.typing import NDArray

# K. Mueller, L. D. Brown, Theor. Chim. Acta 53, 75 (1979): height, a, b, c, x0, y0 of each term.
TERMS = (
    (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
    (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
    (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
    (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
)
ACROSS = np.linspace(-3.0, 3.0, 601)  # nm: grid of w, on which integrals are exact to 1e-12
FINE = np.linspace(-3.0, 3.0, 1201)  # nm: w drawn by inversion
ALONG = np.linspace(-6.0, 4.0, 501)  # nm: v, where the range is looked for
CHUNK = 200  # values of v at a time


@dataclass(frozen=True)
class RotatedMuellerBrown(ReversibleDiffusion):
    r"""Mueller-Brown along v = (p - q)/sqrt 2 and w = (p + q)/sqrt 2, rotated with stiff springs.

    .. math::

        U = s V_{MB}(p, q) + \gamma \sin(2 \pi k p) \sin(2 \pi k q)
            + \tfrac{\kappa}{2} \sum_i y_i^2, \qquad M_v = m, \; M_w = M_{y_i} = m/\epsilon

    The hidden coordinates (v, w, y_1, ...) are seen as x = Q (v, w, y) with an orthogonal Q drawn
    from ``seed``: no coordinate that is seen is the slow one. v leads through all three minima in
    turn. Its conditional density, A and b are integrals over w. The full dynamics becomes the
    reduced one in the limit of eps = 0.

    The rugged form, with gamma = 9 and k = 5 at s = 1, is that of works on committors (Q. Li,
    B. Lin, W. Ren, J. Chem. Phys. 151, 054112 (2019)).

    Parameters
    ----------
    eps : float
        Inverse of the scale separation.
    kT : float
        [kJ/mol]
    scale : float
        s [kJ/mol].
    ruggedness : float
        gamma [kJ/mol].
    wave_number : float
        k [1/nm].
    stiffness : float
        kappa [kJ/mol/nm^2].
    n_dims : int
        Of what is seen, at least 2.
    slow_mobility : float
        m [nm^2/ps/(kJ/mol)].
    seed : int
        Of Q.

    Raises
    ------
    ValueError
        If there are fewer than two dimensions, or the landscape is too flat to hold w.
    """

    eps: float = 0.01
    kT: float = 1.0
    scale: float = 0.05
    ruggedness: float = 0.45
    wave_number: float = 5.0
    stiffness: float = 100.0
    n_dims: int = 10
    slow_mobility: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_dims < 2:
            raise ValueError(f"n_dims is {self.n_dims}, expected 2 or more")
        rim = self._planar(ALONG[:, None], ACROSS[[0, -1]]).min()
        if rim < self._planar(ALONG[:, None], ACROSS[::20]).min() + 30 * self.kT:
            raise ValueError(
                f"scale {self.scale} kJ/mol at kT {self.kT} lets w leave {ACROSS[0]} to"
                f" {ACROSS[-1]} nm, over which it is integrated: raise scale, or lower kT"
            )

    @cached_property
    def rotation(self) -> NDArray[np.float64]:
        """Q (d, d); its first column is the direction of v."""
        normal = np.random.default_rng(self.seed).normal(size=(self.n_dims, self.n_dims))
        q, r = np.linalg.qr(normal)
        return q * np.sign(np.diag(r))

    @cached_property
    def slow_range(self) -> tuple[float, float]:
        """Where the lowest energy across is below 40 kT."""
        lowest = self._planar(ALONG[:, None], ACROSS).min(axis=1)
        inside = ALONG[lowest < lowest.min() + 40 * self.kT]
        return float(inside[0]), float(inside[-1])

    def hidden(self, x: Tensor) -> Tensor:
        """(v, w, y) of x."""
        return x @ torch.from_numpy(self.rotation)

    def observed(self, u: Tensor) -> Tensor:
        """Q (v, w, y)."""
        return u @ torch.from_numpy(self.rotation.T)

    def jacobian(self, u: Tensor) -> Tensor:
        """Q."""
        return torch.from_numpy(self.rotation).expand(len(u), -1, -1)

    def curvature(self, u: Tensor) -> Tensor:
        """Zero."""
        return u.new_zeros(len(u), self.n_dims, self.n_dims)

    def _planar(self, v: Any, w: Any, module: Any = np) -> Any:
        """Energy [kJ/mol] of arrays, or tensors, of v and w."""
        p, q = (w + v) / np.sqrt(2), (w - v) / np.sqrt(2)
        k = 2 * np.pi * self.wave_number
        energy = self.ruggedness * module.sin(k * p) * module.sin(k * q)
        for height, a, b, c, p0, q0 in TERMS:
            dp, dq = p - p0, q - q0
            exponent = a * dp**2 + b * dp * dq + c * dq**2
            energy = energy + self.scale * height * module.exp(exponent)
        return energy

    def _slopes(self, v: Any, w: Any, module: Any = np) -> tuple[Any, Any]:
        """Derivatives [kJ/mol/nm] of that by v and by w."""
        p, q = (w + v) / np.sqrt(2), (w - v) / np.sqrt(2)
        k = 2 * np.pi * self.wave_number
        by_p = self.ruggedness * k * module.cos(k * p) * module.sin(k * q)
        by_q = self.ruggedness * k * module.sin(k * p) * module.cos(k * q)
        for height, a, b, c, p0, q0 in TERMS:
            dp, dq = p - p0, q - q0
            exponent = a * dp**2 + b * dp * dq + c * dq**2
            term = self.scale * height * module.exp(exponent)
            by_p = by_p + term * (2 * a * dp + b * dq)
            by_q = by_q + term * (b * dp + 2 * c * dq)
        return (by_p - by_q) / np.sqrt(2), (by_p + by_q) / np.sqrt(2)

    def hidden_potential(self, u: Tensor) -> Tensor:
        """U (n,)."""
        planar = self._planar(u[:, 0], u[:, 1], torch)
        return planar + 0.5 * self.stiffness * (u[:, 2:] ** 2).sum(1)

    def hidden_gradient(self, u: Tensor) -> Tensor:
        """Gradient (n, d) of U."""
        by_v, by_w = self._slopes(u[:, 0], u[:, 1], torch)
        return torch.cat([by_v[:, None], by_w[:, None], self.stiffness * u[:, 2:]], dim=1)

    def sample_hidden(
        self, z: NDArray[np.float64], n: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """w by inversion on a grid of 5e-3 nm, normal y."""
        u = np.empty((len(z), n, self.n_dims))
        u[..., 0] = z[:, None]
        reduced = self._planar(z[:, None], FINE) / self.kT
        density = np.exp(reduced.min(axis=1, keepdims=True) - reduced)
        u[..., 1] = draw(FINE, density, n, rng)
        deviation = np.sqrt(self.kT / self.stiffness)
        u[..., 2:] = deviation * rng.normal(size=(len(z), n, self.n_dims - 2))
        return u

    def free_energy(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """-kT log of the integral over w (m,)."""
        return self._integrals(np.asarray(z, dtype=float)[:, 0])[0]

    def effective_drift(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """-m A' (m, 1), A' the mean of dU/dv over w."""
        return -self.slow_mobility * self._integrals(np.asarray(z, dtype=float)[:, 0])[1][:, None]

    def effective_diffusion(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """2 kT m (m, 1, 1)."""
        return np.full((len(z), 1, 1), 2 * self.kT * self.slow_mobility)

    def _integrals(self, v: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A and A' (m,) at v (m,): integrals over w, which converge beyond all powers."""
        free, slope = [], []
        for start in range(0, len(v), CHUNK):
            part = v[start : start + CHUNK, None]
            energy = self._planar(part, ACROSS)
            lowest = energy.min(axis=1)
            density = np.exp((lowest[:, None] - energy) / self.kT)
            norm = density.sum(axis=1)
            free.append(lowest - self.kT * np.log(norm * (ACROSS[1] - ACROSS[0])))
            slope.append((density * self._slopes(part, ACROSS)[0]).sum(axis=1) / norm)
        return np.concatenate(free), np.concatenate(slope)

    def system(self) -> openmm.System:
        """As many particles as hold the coordinates; the rest is held at 0."""
        from openmm_cgan.testsystems.multiscale.openmm_forms import coordinate_names, particles_in

        names = coordinate_names(self.n_dims)
        hidden = [
            " + ".join(f"{float(q)!r}*{name}" for q, name in zip(column, names, strict=True))
            for column in self.rotation.T
        ]
        terms = [
            f"{self.scale * height}*exp({a}*(p - {p0})^2 + {b}*(p - {p0})*(q - {q0})"
            f" + {c}*(q - {q0})^2)"
            for height, a, b, c, p0, q0 in TERMS
        ]
        k = 2 * float(np.pi) * self.wave_number
        terms.append(f"{self.ruggedness}*sin({k!r}*p)*sin({k!r}*q)")
        terms += [f"{self.stiffness / 2}*({y})^2" for y in hidden[2:]]
        half = float(np.sqrt(0.5))
        definitions = (
            f"; p = {half!r}*(w + v); q = {half!r}*(w - v); v = {hidden[0]}; w = {hidden[1]}"
        )
        return particles_in(" + ".join(terms) + definitions, self.n_dims)

    def integrator(self, dt: float) -> openmm.CustomIntegrator:
        """The dynamics in steps of dt [ps]: M is m/eps in all directions but that of v."""
        from openmm_cgan.testsystems.multiscale import openmm_forms

        mobility = [self.slow_mobility / self.eps] * self.n_dims
        integrator = openmm_forms.overdamped(dt, self.kT, mobility)
        integrator.addPerDofVariable("along", 0)
        integrator.setPerDofVariableByName(
            "along", openmm_forms.vectors(self.rotation[:, 0].tolist())
        )
        integrator.addGlobalVariable("slow", 0)
        openmm_forms.draw_noise(integrator)
        root = float(np.sqrt(self.eps))
        integrator.addComputeSum("slow", "along*noise")
        integrator.addComputePerDof("noise", f"noise + {root - 1!r}*along*slow")
        integrator.addComputeSum("slow", "along*f")
        push = f"f + {self.eps - 1!r}*along*slow"
        integrator.addComputePerDof("x", f"x + dt*mobility*({push}) + before + noise")
        return integrator
