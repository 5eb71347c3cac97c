"""A chain of atoms whose bonds, angles and torsion have known densities."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm
from openmm import app

from openmm_cgan import GAS_CONSTANT

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Chain:
    r"""Three or four atoms in a row with bonded forces only: every density is known.

    .. math:: U = \sum \tfrac{k_r}{2} (r - r_0)^2 + \sum \tfrac{k_a}{2} (\theta - \theta_0)^2
       + b \cos^2\varphi + t \sin\varphi

    Bonds are distributed as r^2 exp(-U/kT), angles as sin(theta) exp(-U/kT), the torsion as
    exp(-U/kT), independently. With all bonds constrained the angles get the Fixman factor
    \|H\|^(1/2) in common, M. Fixman, Proc. Natl. Acad. Sci. USA 71, 3050 (1974), doi
    10.1073/pnas.71.8.3050. The torsion has wells at +-pi/2 and a barrier b between them.

    Parameters
    ----------
    masses : tuple of float
        Of three or four atoms [dalton].
    bond : float
        r_0 [nm].
    bond_stiffness : float or None
        k_r [kJ/mol/nm^2]; None constrains the bonds.
    angle, angle_stiffness : float
        theta_0 [rad] and k_a [kJ/mol/rad^2].
    barrier, tilt : float
        b and t [kJ/mol]: the well at +pi/2 lies 2 t above the other.

    Examples
    --------
    >>> round(Chain(tilt=0.0).share_positive(300.0), 6)
    0.5
    """

    masses: tuple[float, ...] = (15.0, 14.0, 14.0, 15.0)
    bond: float = 0.15
    bond_stiffness: float | None = 20_000.0
    angle: float = 1.9
    angle_stiffness: float = 60.0
    barrier: float = 80.0
    tilt: float = 1.0

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.masses)

    def bond_density(self, r: Any, temperature: float) -> NDArray[np.float64]:
        """Density of a bond that is not constrained, the shape of ``r`` [nm], up to a factor."""
        r, kT = np.asarray(r, dtype=float), GAS_CONSTANT * temperature
        return r**2 * np.exp(-0.5 * (self.bond_stiffness or 0.0) * (r - self.bond) ** 2 / kT)

    def angle_density(self, theta: Any, temperature: float) -> NDArray[np.float64]:
        """Density of an angle, the shape of ``theta`` [rad], up to a factor.

        Where bonds are constrained, `fixman` of all angles is another factor.
        """
        theta, kT = np.asarray(theta, dtype=float), GAS_CONSTANT * temperature
        return np.sin(theta) * np.exp(-0.5 * self.angle_stiffness * (theta - self.angle) ** 2 / kT)

    def torsion_density(self, phi: Any, temperature: float) -> NDArray[np.float64]:
        """Density of the torsion, the shape of ``phi`` [rad], up to a factor."""
        phi, kT = np.asarray(phi, dtype=float), GAS_CONSTANT * temperature
        return np.exp(-(self.barrier * np.cos(phi) ** 2 + self.tilt * np.sin(phi)) / kT)

    def share_positive(self, temperature: float) -> float:
        """Probability of a positive torsion."""
        half = np.linspace(0.0, np.pi, 20001)
        right, left = (self.torsion_density(s * half, temperature).sum() for s in (1, -1))
        return float(right / (right + left))

    def fixman(self, angles: Any) -> NDArray[np.float64]:
        r"""\|H\|^(1/2) (n,) of the angles (n, n_atoms - 2) when all bonds are constrained.

        H is tridiagonal, 1/m_i + 1/m_(i+1) on its diagonal and cos(theta)/m beside it.
        """
        inverse = 1 / np.asarray(self.masses)
        diagonal, cosines = inverse[:-1] + inverse[1:], np.cos(np.asarray(angles, dtype=float))
        before, now = np.ones(len(cosines)), np.full(len(cosines), diagonal[0])
        for k in range(1, len(diagonal)):
            beside = (cosines[:, k - 1] * inverse[k]) ** 2
            before, now = now, diagonal[k] * now - beside * before
        return np.sqrt(now)

    def sample(
        self, n: int, temperature: float, seed: int | np.random.Generator
    ) -> NDArray[np.float64]:
        """Independent Boltzmann samples (n, n_atoms, 3) [nm], first atom at the origin.

        Each coordinate by inversion of its cumulative distribution; with constraints the angles are
        then rejected by the Fixman factor.
        """
        rng = np.random.default_rng(seed)
        bonds = np.full((n, self.n_atoms - 1), self.bond)
        if self.bond_stiffness is not None:
            reach = 10 * np.sqrt(GAS_CONSTANT * temperature / self.bond_stiffness)
            grid = np.linspace(max(self.bond - reach, 0.0), self.bond + reach, 20001)
            bonds = _inverted(
                grid, self.bond_density(grid, temperature), (n, self.n_atoms - 1), rng
            )
        grid = np.linspace(0.0, np.pi, 20001)
        angles = np.zeros((0, self.n_atoms - 2))
        while len(angles) < n:
            drawn = _inverted(
                grid, self.angle_density(grid, temperature), (n, angles.shape[1]), rng
            )
            if self.bond_stiffness is None:
                right = np.full((1, self.n_atoms - 2), np.pi / 2)  # where the factor is largest
                drawn = drawn[rng.random(n) * self.fixman(right) < self.fixman(drawn)]
            angles = np.concatenate([angles, drawn])
        grid = np.linspace(-np.pi, np.pi, 40001)
        torsions = _inverted(grid, self.torsion_density(grid, temperature), (n,), rng)
        return _placed(bonds, angles[:n], torsions)

    def system(self) -> openmm.System:
        """OpenMM System of the chain."""
        system = openmm.System()
        bonds, angles = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
        torsions = openmm.PeriodicTorsionForce()
        for mass in self.masses:
            system.addParticle(mass)
        for i in range(self.n_atoms - 1):
            if self.bond_stiffness is None:
                system.addConstraint(i, i + 1, self.bond)
            else:
                bonds.addBond(i, i + 1, self.bond, self.bond_stiffness)
        for i in range(self.n_atoms - 2):
            angles.addAngle(i, i + 1, i + 2, self.angle, self.angle_stiffness)
        if self.n_atoms == 4:
            torsions.addTorsion(0, 1, 2, 3, 2, 0.0, self.barrier / 2)
            torsions.addTorsion(0, 1, 2, 3, 1, np.pi / 2, self.tilt)
        for force in (bonds, angles, torsions):
            system.addForce(force)
        return system

    def topology(self) -> app.Topology:
        """Topology of carbon atoms in a row."""
        topology = app.Topology()
        residue = topology.addResidue("CHN", topology.addChain())
        carbon = app.element.carbon
        atoms = [topology.addAtom(f"C{i + 1}", carbon, residue) for i in range(self.n_atoms)]
        for first, second in pairwise(atoms):
            topology.addBond(first, second)
        return topology


def _inverted(
    grid: NDArray, density: NDArray, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draws from a density known on a grid."""
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return np.interp(rng.random(shape), cumulative / cumulative[-1], grid)


def _placed(bonds: NDArray, angles: NDArray, torsions: NDArray) -> NDArray[np.float64]:
    """Positions (n, 3 or 4, 3): the first three atoms in the xy plane, the second bond along x."""
    zero = np.zeros(len(bonds))
    second = np.stack([zero, zero, zero], axis=1)
    first = second + bonds[:, :1] * np.stack([np.cos(angles[:, 0]), np.sin(angles[:, 0]), zero], 1)
    third = second + bonds[:, 1:2] * [1.0, 0.0, 0.0]
    placed = [first, second, third]
    if bonds.shape[1] == 3:
        along, off = -np.cos(angles[:, 1]), np.sin(angles[:, 1])
        arm = np.stack([along, off * np.cos(torsions), off * np.sin(torsions)], axis=1)
        placed.append(third + bonds[:, 2:] * arm)
    x = np.stack(placed, axis=1)
    return x - x[:, :1]
