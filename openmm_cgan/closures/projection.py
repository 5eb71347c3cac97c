r"""What the dynamics does to the CVs at each configuration: the quantities that closures average.

Overdamped dynamics of mobilities mu_i (1 / (gamma m_i) for Langevin dynamics of friction gamma)
under a potential V moves CVs xi by

    d xi_a = L xi_a dt + noise,   <d xi_a d xi_b> = 2 kT G_ab dt,   G_ab = grad xi_a . grad xi_b,

with gradients by y_i = x_i / sqrt(mu_i), L xi = -grad V . grad xi + kT lap xi, and where there are
constraints, gradients and Laplacian along the manifold: grad f -> P grad f, lap f -> tr(P D(P grad
f)), P the projector onto what the constraints leave free. That is the generator of constrained
overdamped dynamics, whose invariant measure is that of constrained molecular dynamics (T. Lelievre,
M. Rousset and G. Stoltz, Math. Comput. 81, 2071 (2012), doi 10.1090/S0025-5718-2012-02594-4).
Averaged at xi = z these are the drift and the diffusion of the reduced dynamics (F. Legoll and T.
Lelievre, Nonlinearity 23, 2131 (2010), doi 10.1088/0951-7715/23/9/006). The local mean force

    F_a = -sum_b (G^-1)_ab L xi_b - kT sum_b grad xi_b . grad (G^-1)_ab

averages to the slope of the free energy (E. Darve and A. Pohorille, J. Chem. Phys. 115, 9169
(2001), doi 10.1063/1.1410978, whose grad V . w - kT div w, w = G^-1 grad xi, it equals).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from tqdm.auto import tqdm

from openmm_cgan import GAS_CONSTANT

if TYPE_CHECKING:
    from openmm_cgan.potentials import Potential

CvFunction = Callable[[Tensor], Tensor]  # positions (n, ...) to CVs (n, k), differentiable twice
BATCH = 4096  # frames at once: bounds memory


@dataclass(frozen=True)
class LocalDynamics:
    """Drift, diffusion and mean force of each configuration, to be averaged at values of the CVs.

    Attributes
    ----------
    cvs : ndarray, shape (n, k)
        Values of the CVs [CV unit].
    drift : ndarray, shape (n, k)
        L xi [CV unit/ps].
    diffusion : ndarray, shape (n, k, k)
        Growth of the covariance of xi, twice the diffusion coefficient [CV unit^2/ps].
    mean_force : ndarray, shape (n, k)
        Averages to the slope of the free energy [kJ/mol/CV unit].
    laplacian_error : ndarray, shape (n, k)
        Standard error of the drift by Hutchinson's estimate of the Laplacian; zero if exact.
    """

    cvs: NDArray[np.float64]
    drift: NDArray[np.float64]
    diffusion: NDArray[np.float64]
    mean_force: NDArray[np.float64]
    laplacian_error: NDArray[np.float64]


def local_dynamics(
    cvs: CvFunction,
    positions: ArrayLike,
    gradients: ArrayLike,
    kT: float,
    *,
    mobility: ArrayLike = 1.0,
    constraints: ArrayLike = (),
    probes: int | None = None,
    seed: int = 0,
) -> LocalDynamics:
    """Drift, diffusion and mean force of CVs at each configuration.

    Parameters
    ----------
    cvs : callable
        Positions, a float64 tensor (n, ...), to CVs (n, k), twice differentiable and each row by
        itself, such as `PlumedBias.differentiable_cvs`.
    positions : array_like, shape (n, ...)
        Configurations, (n, n_atoms, 3) for molecules [nm].
    gradients : array_like, shape (n, ...)
        Of the potential energy without any bias [kJ/mol/nm], see `Potential`.
    kT : float
        Thermal energy [kJ/mol].
    mobility : array_like
        Of each coordinate; broadcasts to a configuration [nm^2 mol/kJ/ps], see `md_mobility`.
    constraints : array_like of int, shape (n_constraints, 2)
        Atoms held at a distance from each other.
    probes : int, optional
        Random vectors for Hutchinson's estimate of the Laplacians, 2 or more; exact if omitted,
        which costs as many gradients as the CVs have coordinates.
    seed : int
        Of the probes.

    Returns
    -------
    LocalDynamics

    Raises
    ------
    ValueError
        If shapes do not fit, a mobility is not positive, or a result is not finite: which frame.
    """
    x = torch.as_tensor(np.asarray(positions, dtype=float))
    slopes = torch.as_tensor(np.asarray(gradients, dtype=float))
    if x.ndim < 2 or slopes.shape != x.shape:
        raise ValueError(
            f"positions have shape {tuple(x.shape)}, gradients {tuple(slopes.shape)}; expected one "
            "shape, (n, ...)"
        )
    if probes is not None and probes < 2:
        raise ValueError(f"probes is {probes}; expected 2 or more, or None for exact Laplacians")
    scale = torch.as_tensor(np.sqrt(np.broadcast_to(np.asarray(mobility, float), x.shape[1:])))
    if not bool((scale > 0).all()):
        raise ValueError("mobilities must be positive: hold no atom of the CVs, or leave it out")
    pairs = torch.as_tensor(np.asarray(constraints, dtype=np.int64).reshape(-1, 2))
    if len(pairs) and x.ndim != 3:
        raise ValueError("constraints need positions of shape (n, n_atoms, 3)")
    projection = _Projection(cvs, scale, pairs, kT, probes, torch.Generator().manual_seed(seed))
    starts = tqdm(range(0, len(x), BATCH), desc="local dynamics", disable=None, leave=False)
    parts = [projection(x[i : i + BATCH], slopes[i : i + BATCH], i) for i in starts]
    return LocalDynamics(*(np.concatenate(rows) for rows in zip(*parts, strict=True)))


def local_dynamics_of_sde(
    cvs: CvFunction, drift: CvFunction, noise: CvFunction, x: ArrayLike, kT: float
) -> LocalDynamics:
    """The same for a reversible diffusion dX = drift dt + noise dW (Ito) in any coordinates.

    Parameters
    ----------
    cvs : callable
        Coordinates, a float64 tensor (n, d), to CVs (n, k), as of `local_dynamics`.
    drift, noise : callable
        To tensors (n, d) and (n, d, d), the noise differentiable.
    x : array_like, shape (n, d)
        Configurations.
    kT : float
        Thermal energy, of which the mean force has the unit; exp(-V / kT) is left as it is.

    Returns
    -------
    LocalDynamics

    Raises
    ------
    ValueError
        As of `local_dynamics`.
    """
    rows = torch.as_tensor(np.asarray(x, dtype=float))
    parts = []
    for first in range(0, len(rows), BATCH):
        y = rows[first : first + BATCH].clone().requires_grad_()
        matrices = noise(y)
        squared = matrices @ matrices.transpose(1, 2)
        values = cvs(y)
        slopes = torch.stack([_slope(v, y) for v in values.unbind(1)], 1)
        moved = (slopes.detach() @ drift(y).detach()[..., None])[..., 0]
        for column in matrices.detach().unbind(2):
            for a, slope in enumerate(slopes.unbind(1)):
                bent = _slope((slope * column).sum(1), y, again=False)
                moved[:, a] += 0.5 * (bent * column).sum(1)
        metric = slopes @ squared @ slopes.transpose(1, 2) / (2.0 * kT)
        fields = slopes @ squared / (2.0 * kT)
        error = torch.zeros_like(moved)
        parts.append(_checked(values, moved, metric, fields, y, kT, error, first))
    return LocalDynamics(*(np.concatenate(own) for own in zip(*parts, strict=True)))


def md_mobility(masses: ArrayLike, friction: float) -> NDArray[np.float64]:
    """Mobility 1 / (gamma m) of Langevin dynamics, overdamped.

    The drift and the diffusion of molecular dynamics have these units only where friction is
    high; everywhere they are right up to one factor, which times of the reduced dynamics share.

    Parameters
    ----------
    masses : array_like, shape (n_atoms,)
        [dalton]; the mobility of an atom that is held (mass 0) is infinite here, and refused.
    friction : float
        [1/ps]

    Returns
    -------
    ndarray, shape (n_atoms, 1)
        [nm^2 mol/kJ/ps], for `local_dynamics`.

    Raises
    ------
    ValueError
        If friction or a mass is not positive.
    """
    masses = np.asarray(masses, dtype=float)
    if not friction > 0 or not (masses > 0).all():
        raise ValueError("friction and masses must be positive")
    return 1.0 / (friction * masses[:, None])


def local_dynamics_of_frames(
    cvs: CvFunction,
    positions: ArrayLike,
    potential: Potential,
    temperature: float,
    friction: float,
    *,
    probes: int | None = None,
) -> LocalDynamics:
    """`local_dynamics` of molecular dynamics: forces, masses and constraints from a Potential.

    Parameters
    ----------
    cvs : callable
        As of `local_dynamics`.
    positions : array_like, shape (n, n_atoms, 3)
        Of all atoms of the System [nm].
    potential : Potential
        Of the System *without* the bias: ``Potential(system, leave_out=bias.force_groups)``.
    temperature : float
        [K]
    friction : float
        Of the Langevin integrator [1/ps].
    probes : int, optional
        As of `local_dynamics`.

    Raises
    ------
    ValueError
        As of `local_dynamics`; if an energy is not finite, which frame.
    """
    x = np.asarray(positions, dtype=float)
    energies, gradients = potential.energies_and_gradients(x)
    if not np.isfinite(energies).all():
        frame = int(np.flatnonzero(~np.isfinite(energies))[0])
        raise ValueError(f"the potential energy of frame {frame} is not finite; leave it out")
    return local_dynamics(
        cvs,
        x,
        gradients,
        GAS_CONSTANT * temperature,
        mobility=md_mobility(potential.masses, friction),
        constraints=potential.constraints,
        probes=probes,
    )


@dataclass(frozen=True)
class _Projection:
    """The dynamics projected on CVs, batch by batch, on the coordinates that matter."""

    cvs: CvFunction
    scale: Tensor  # square roots of mobilities, shape of a configuration
    pairs: Tensor
    kT: float
    probes: int | None
    generator: torch.Generator

    def __call__(self, x: Tensor, slopes: Tensor, first: int) -> tuple[NDArray[np.float64], ...]:
        moved, pairs = self._moved(x)
        flat, scale = x.flatten(1), self.scale.flatten()[moved]
        y = (flat[:, moved] / scale).requires_grad_()
        full = flat.clone().index_copy(1, moved, y * scale).view(x.shape)
        values = self.cvs(full)
        bonds = self._constraint_gradients(full, y, pairs)
        fields = torch.stack([_tangent(_slope(v, y), bonds) for v in values.unbind(1)], 1)
        divergence, error = self._divergences(fields, y, bonds)
        force = slopes.flatten(1)[:, moved, None] * scale[:, None]
        drift = self.kT * divergence - (fields.detach() @ force)[..., 0]
        metric = fields @ fields.transpose(1, 2)
        return _checked(values, drift, metric, fields, y, self.kT, self.kT * error, first)

    def _moved(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates that the CVs depend on or constraints tie to those, and such constraints."""
        probe = x.clone().requires_grad_()
        values = self.cvs(probe)
        if values.ndim != 2 or len(values) != len(x):
            raise ValueError(f"CVs have shape {tuple(values.shape)}; expected ({len(x)}, n_cvs)")
        slopes = torch.stack([_slope(v, probe).detach() for v in values.unbind(1)])
        touched = (slopes != 0).any(0).any(0)
        if len(self.pairs) == 0:
            return touched.flatten().nonzero()[:, 0], self.pairs
        atoms = touched.any(-1)
        while True:
            tied = atoms[self.pairs].any(1)
            grown = atoms.clone()
            grown[self.pairs[tied].flatten()] = True
            if bool((grown == atoms).all()):
                return atoms[:, None].expand_as(touched).flatten().nonzero()[:, 0], self.pairs[tied]
            atoms = grown

    def _constraint_gradients(self, full: Tensor, y: Tensor, pairs: Tensor) -> Tensor | None:
        """Gradients by y of the constrained distances, shape (n, n_constraints, n_moved)."""
        if len(pairs) == 0:
            return None
        lengths = (full[:, pairs[:, 0]] - full[:, pairs[:, 1]]).norm(dim=-1)
        return torch.stack([_slope(length, y) for length in lengths.unbind(1)], 1)

    def _divergences(self, fields: Tensor, y: Tensor, bonds: Tensor | None) -> tuple[Tensor, Any]:
        """Divergence along the manifold of tangent fields (n, k, d), and its standard error."""
        found = torch.zeros(fields.shape[:2], dtype=y.dtype)
        if self.probes is None:
            for i in range(y.shape[1]):
                unit = torch.zeros_like(y)
                unit[:, i] = 1.0
                along = _tangent(unit, bonds).detach()
                for a in range(fields.shape[1]):
                    found[:, a] += _slope((fields[:, a] * along).sum(1), y, again=False)[:, i]
            return found, torch.zeros_like(found)
        rows = []
        for _ in range(self.probes):
            signs = torch.randint(0, 2, y.shape, generator=self.generator).to(y) * 2.0 - 1.0
            along = _tangent(signs, bonds).detach()
            products = [(fields[:, a] * along).sum(1) for a in range(fields.shape[1])]
            rows.append(
                torch.stack([(_slope(p, y, again=False) * along).sum(1) for p in products], 1)
            )
        estimates = torch.stack(rows)
        return estimates.mean(0), estimates.std(0) / self.probes**0.5


def _checked(
    values: Tensor,
    drift: Tensor,
    metric: Tensor,
    fields: Tensor,
    y: Tensor,
    kT: float,
    error: Tensor,
    first: int,
) -> tuple[NDArray[np.float64], ...]:
    """The arrays of `LocalDynamics` for frames from the first on, the mean force added."""
    inverse = torch.linalg.inv(metric)
    mean_force = -(inverse.detach() @ drift[..., None])[..., 0]
    for a in range(values.shape[1]):
        for b in range(values.shape[1]):
            steepness = _slope(inverse[:, a, b], y, again=False)
            mean_force[:, a] -= kT * (fields[:, b].detach() * steepness).sum(1)
    results = (values, drift, 2.0 * kT * metric, mean_force, error)
    arrays = tuple(r.detach().numpy() for r in results)
    finite = np.all([np.isfinite(a.reshape(len(a), -1)).all(1) for a in arrays], axis=0)
    if not finite.all():
        raise ValueError(
            f"frame {first + int(np.flatnonzero(~finite)[0])}: a CV or a derivative of it is not "
            "finite, or its gradient is zero; leave such frames out"
        )
    return arrays


def _slope(values: Tensor, y: Tensor, again: bool = True) -> Tensor:
    """Gradient (n, d) of each row's value (n,) by its own coordinates, itself differentiable."""
    if not values.requires_grad:
        return torch.zeros_like(y)
    [slope] = torch.autograd.grad(
        values.sum(), y, create_graph=again, retain_graph=True, allow_unused=True
    )
    return torch.zeros_like(y) if slope is None else slope


def _tangent(vectors: Tensor, bonds: Tensor | None) -> Tensor:
    """What constraints of gradients (n, c, d) leave of vectors (n, d)."""
    if bonds is None:
        return vectors
    along = (bonds @ vectors[..., None])[..., 0]
    strengths = torch.linalg.solve(bonds @ bonds.transpose(1, 2), along)
    return vectors - (strengths[:, None] @ bonds)[:, 0]
