r"""What the dynamics does to the CVs at each configuration: the quantities that closures average.

Overdamped dynamics of mobilities mu_i (1 / (gamma m_i) for Langevin dynamics of friction gamma)
under a potential V moves CVs xi by

    d xi_a = L xi_a dt + noise,   <d xi_a d xi_b> = 2 kT G_ab dt,   G_ab = grad xi_a . grad xi_b,

with gradients by y_i = x_i / sqrt(mu_i), L xi = -grad V . grad xi + kT lap xi, and where there are
constraints, gradients and Laplacian along the manifold: grad f -> P grad f, lap f -> tr(P D(P grad
f)), P the projector onto what the constraints leave free. The latter is tr(P D D f) - sum_k c_k
tr(P D D r_k), D D second derivatives and sum_k c_k grad r_k what P takes off grad f, r_k the
constrained distances: P grad r_k = 0. That is the generator of constrained
overdamped dynamics, whose invariant measure is that of constrained molecular dynamics (T. Lelievre,
M. Rousset and G. Stoltz, Math. Comput. 81, 2071 (2012), doi 10.1090/S0025-5718-2012-02594-4).
Averaged at xi = z these are the drift and the diffusion of the reduced dynamics (F. Legoll and T.
Lelievre, Nonlinearity 23, 2131 (2010), doi 10.1088/0951-7715/23/9/006). The local mean force

    F_a = -sum_b (G^-1)_ab L xi_b - kT sum_b grad xi_b . grad (G^-1)_ab

averages to the slope of the free energy (E. Darve and A. Pohorille, J. Chem. Phys. 115, 9169
(2001), doi 10.1063/1.1410978, whose grad V . w - kT div w, w = G^-1 grad xi, it equals).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from tqdm.auto import tqdm

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.closures.constraint_manifold import (
    along_constraints,
    constraint_gradients,
    curvatures,
    tangent,
)
from openmm_cgan.closures.local_quantities import (
    CvFunction,
    LocalDynamics,
    completed,
    joined_dynamics,
    require_independent,
    require_moving,
    slope_of,
)
from openmm_cgan.plumed.native.forces.system_box import MARKER, MEASURES
from openmm_cgan.quantities import nanometers, positive

if TYPE_CHECKING:
    from openmm_cgan.potentials import Potential

BATCH = 4096  # frames at once: bounds memory
NUDGE = 1e-6  # by which coordinates are moved to see whether a CV depends on them

logger = logging.getLogger("openmm_cgan")


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
        If shapes do not fit, a mobility is not positive, or which frame: where a result is not
        finite, a CV stands still (its gradient is zero, or constraints hold it), or two CVs move
        as one.
    """
    x = torch.from_numpy(nanometers(positions))
    slopes = torch.from_numpy(np.asarray(gradients, dtype=float))
    if x.ndim < 2 or len(x) == 0 or slopes.shape != x.shape:
        raise ValueError(
            f"positions have shape {tuple(x.shape)}, gradients {tuple(slopes.shape)}; expected one "
            "shape, (n, ...), of a configuration or more"
        )
    kT = positive(kT, "kJ/mol", "kT")
    if probes is not None and probes < 2:
        raise ValueError(f"probes is {probes}; expected 2 or more, or None for exact Laplacians")
    scale = torch.from_numpy(np.sqrt(_mobilities(mobility, tuple(x.shape[1:]))))
    pairs = torch.from_numpy(np.asarray(constraints, dtype=np.int64).reshape(-1, 2))
    if len(pairs) and (x.ndim != 3 or not bool(((pairs >= 0) & (pairs < x.shape[1])).all())):
        raise ValueError(
            f"constraints between atoms up to {int(pairs.max())} of positions of shape "
            f"{tuple(x.shape)}; expected (n, n_atoms, 3), atoms from 0"
        )
    projection = _Projection(cvs, scale, pairs, kT, probes, torch.Generator().manual_seed(seed))
    starts = tqdm(range(0, len(x), BATCH), desc="local dynamics", disable=None, leave=False)
    parts = [projection(x[i : i + BATCH], slopes[i : i + BATCH], i) for i in starts]
    return joined_dynamics(parts, kT)


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
    rows = torch.from_numpy(np.asarray(x, dtype=float))
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"configurations have shape {tuple(rows.shape)}; expected (n, d)")
    kT = positive(kT, "kJ/mol", "kT")
    parts = []
    for first in range(0, len(rows), BATCH):
        y = rows[first : first + BATCH].clone().requires_grad_()
        matrices = noise(y)
        squared = matrices @ matrices.transpose(1, 2)
        values = cvs(y)
        slopes = torch.stack([slope_of(v, y) for v in values.unbind(1)], 1)
        moved = (slopes.detach() @ drift(y).detach()[..., None])[..., 0]
        for column in matrices.detach().unbind(2):
            for a, slope in enumerate(slopes.unbind(1)):
                bent = slope_of((slope * column).sum(1), y, again=False)
                moved[:, a] += 0.5 * (bent * column).sum(1)
        metric = slopes @ squared @ slopes.transpose(1, 2) / (2.0 * kT)
        fields = slopes @ squared / (2.0 * kT)
        error = torch.zeros_like(moved)
        require_moving(fields, slopes, first)
        parts.append(completed(values, moved, metric, fields, y, kT, error, first))
    return joined_dynamics(parts, kT)


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
    if not (masses > 0).all():
        atom = int(np.flatnonzero(~(masses > 0))[0])
        raise ValueError(
            f"the mass of atom {atom} is {masses[atom]:g}; expected positive masses: held "
            "atoms and virtual sites have no mobility"
        )
    return np.asarray(1.0 / (positive(friction, "1/ps", "friction") * masses[:, None]))


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
        Of the System *without* the bias: ``Potential(system, leave_out=bias.force_groups())``.
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
    x = nanometers(positions)
    if potential.periodic:
        logger.warning(
            "the local dynamics knows one box for all frames, that of the Potential, and the CVs "
            "know none: right at constant volume and with molecules that are whole"
        )
    biases = [f for f in potential.forces if f.startswith("PLUMED") and f not in (MARKER, MEASURES)]
    if biases:
        logger.warning(
            "the Potential has the forces of a bias (%s): drift and mean force are those of the "
            "biased dynamics; leave them out by Potential(system, leave_out=bias.force_groups())",
            ", ".join(biases),
        )
    energies, gradients = potential.energies_and_gradients(x)
    if not np.isfinite(energies).all():
        frame = int(np.flatnonzero(~np.isfinite(energies))[0])
        raise ValueError(f"the potential energy of frame {frame} is not finite; leave it out")
    return local_dynamics(
        cvs,
        x,
        gradients,
        GAS_CONSTANT * positive(temperature, "K", "temperature"),
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
        moved, own, pairs = self._moved(x)
        flat, scale = x.flatten(1), self.scale.flatten()[moved]
        y = (flat[:, moved] / scale).requires_grad_()
        full = flat.clone().index_copy(1, moved, y * scale).view(x.shape)
        values = self.cvs(full)
        bare = torch.stack([slope_of(v, y) for v in values.unbind(1)], 1)
        bonds, fields = None, bare
        if len(pairs):
            bonds = constraint_gradients(full, moved, pairs, self.scale)
            products = bonds @ bonds.transpose(1, 2)
            require_independent(products, "constraints, or their gradients,", first)
            fields = torch.stack([tangent(slope, bonds) for slope in bare.unbind(1)], 1)
        require_moving(fields, bare, first)
        divergence, error = self._laplacians(bare, y, bonds, own)
        if bonds is not None:
            fixed = bonds.detach()
            bends = curvatures(full.detach(), moved, pairs, self.scale, fixed)
            divergence -= (along_constraints(bare.detach(), fixed) * bends[:, None]).sum(-1)
        force = slopes.flatten(1)[:, moved, None] * scale[:, None]
        drift = self.kT * divergence - (fields.detach() @ force)[..., 0]
        metric = fields @ fields.transpose(1, 2)
        return completed(values, drift, metric, fields, y, self.kT, self.kT * error, first)

    def _moved(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates that move the CVs, which of them CVs depend on, and constraints among them.

        The others are those that constraints tie to those.
        """
        touched = torch.zeros_like(x[0], dtype=torch.bool)
        # A slope may vanish where a curvature does not, as that of a distance sideways does:
        # nudged, it does not vanish.
        rng = torch.Generator().manual_seed(0)
        nudges = torch.randn(x.shape, generator=rng, dtype=x.dtype, device=rng.device)
        for near in (x, x + NUDGE * (1.0 + x.abs()) * nudges):
            probe = near.clone().requires_grad_()
            values = self.cvs(probe)
            if values.ndim != 2 or len(values) != len(x):
                raise ValueError(
                    f"CVs have shape {tuple(values.shape)}; expected ({len(x)}, n_cvs)"
                )
            for value in values.unbind(1):
                touched |= (slope_of(value, probe, again=False) != 0).any(0)
        if len(self.pairs) == 0:
            moved = touched.flatten().nonzero()[:, 0]
            return moved, torch.arange(len(moved), device=x.device), self.pairs
        atoms = touched.any(-1)
        while True:
            tied = atoms[self.pairs].any(1)
            grown = atoms.clone()
            grown[self.pairs[tied].flatten()] = True
            if bool((grown == atoms).all()):
                moved = atoms[:, None].expand_as(touched).flatten().nonzero()[:, 0]
                return moved, touched.flatten()[moved].nonzero()[:, 0], self.pairs[tied]
            atoms = grown

    def _laplacians(
        self, bare: Tensor, y: Tensor, bonds: Tensor | None, own: Tensor
    ) -> tuple[Tensor, Any]:
        """tr(P D D xi) of CVs with gradients (n, k, d), and its standard error."""
        fixed = None if bonds is None else bonds.detach()
        found = y.new_zeros(bare.shape[:2])
        if self.probes is None:
            for i in own.tolist():
                unit = torch.zeros_like(y)
                unit[:, i] = 1.0
                along = tangent(unit, fixed)
                for a in range(bare.shape[1]):
                    found[:, a] += slope_of((bare[:, a] * along).sum(1), y, again=False)[:, i]
            return found, torch.zeros_like(found)
        rows = []
        for _ in range(self.probes):
            where = self.generator.device
            drawn = torch.randint(0, 2, y.shape, generator=self.generator, device=where)
            signs = drawn.to(y) * 2.0 - 1.0
            along = tangent(signs, fixed)
            products = [(slope * along).sum(1) for slope in bare.unbind(1)]
            rows.append(
                torch.stack([(slope_of(p, y, again=False) * along).sum(1) for p in products], 1)
            )
        estimates = torch.stack(rows)
        return estimates.mean(0), estimates.std(0) / self.probes**0.5


def _mobilities(given: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Mobility of each coordinate, of the shape of a configuration."""
    mobility = np.asarray(given, dtype=float)
    try:
        found = np.broadcast_to(mobility, shape)
    except ValueError:
        raise ValueError(
            f"mobilities have shape {mobility.shape}; expected one for each coordinate of a "
            f"configuration {shape}, such as (n_atoms, 1)"
        ) from None
    if not (np.isfinite(found) & (found > 0)).all():
        raise ValueError("mobilities must be positive: hold no atom of the CVs, or leave it out")
    return found
