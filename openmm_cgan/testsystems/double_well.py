"""A double well times a Gaussian: everything in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm
from openmm import app

from openmm_cgan import GAS_CONSTANT

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class DoubleWell2D:
    r"""One particle in a double well along x, with a harmonic y whose centre moves with x.

    .. math:: V(x, y, z) = h ((x/a)^2 - 1)^2 + t x/a + \tfrac{k}{2} (y - s x)^2 + \tfrac{k}{2} z^2

    The integral over y and z is Gaussian and the same at every x, so that the free energy along x
    is the x part of V, and y given x is normal with mean s x and variance kT/k.

    Parameters
    ----------
    barrier : float
        h [kJ/mol].
    well : float
        a, the distance of the wells from x = 0 [nm].
    tilt : float
        t [kJ/mol]: the right well lies about 2 t above the left one.
    stiffness : float
        k [kJ/mol/nm^2].
    slope : float
        s: how far y follows x.
    mass : float
        Mass of the particle [dalton].

    Examples
    --------
    >>> DoubleWell2D(barrier=10.0).free_energy([0.0, 0.3])
    array([10.,  0.])
    """

    barrier: float = 10.0
    well: float = 0.3
    tilt: float = 0.0
    stiffness: float = 1000.0
    slope: float = 0.5
    mass: float = 40.0

    def potential(self, x: Any, y: Any, z: Any = 0.0) -> NDArray[np.float64]:
        """Potential energy [kJ/mol] at coordinates [nm]; arrays of any shapes broadcast."""
        off_axis = (np.asarray(y) - self.slope * np.asarray(x)) ** 2 + np.asarray(z) ** 2
        return self.free_energy(x) + 0.5 * self.stiffness * off_axis

    def free_energy(self, x: Any) -> NDArray[np.float64]:
        """Free energy along x [kJ/mol], the shape of ``x`` [nm], up to a constant."""
        scaled = np.asarray(x, dtype=float) / self.well
        return self.barrier * (scaled**2 - 1) ** 2 + self.tilt * scaled

    def well_difference(self, temperature: float) -> float:
        """Free energy of the half x > 0 minus that of x < 0 [kJ/mol], by quadrature."""
        density = self._density(temperature)[1]
        middle = len(density) // 2  # x = 0
        left, right = np.trapezoid(density[: middle + 1]), np.trapezoid(density[middle:])
        return -GAS_CONSTANT * temperature * float(np.log(right / left))

    def conditional(self, x: Any, temperature: float) -> tuple[NDArray[np.float64], float]:
        """Mean (shape of ``x``) and standard deviation of y given x [nm]."""
        deviation = np.sqrt(GAS_CONSTANT * temperature / self.stiffness)
        return self.slope * np.asarray(x, dtype=float), float(deviation)

    def sample(
        self, n: int, temperature: float, seed: int | np.random.Generator
    ) -> NDArray[np.float64]:
        """Independent Boltzmann samples.

        x by inversion of its cumulative distribution on a grid of 20001 points, y and z exactly.

        Parameters
        ----------
        n : int
            Number of samples.
        temperature : float
            Temperature [K].
        seed : int or numpy.random.Generator

        Returns
        -------
        ndarray, shape (n, 3)
            Coordinates [nm].
        """
        rng = np.random.default_rng(seed)
        grid, density = self._density(temperature)
        cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
        x = np.interp(rng.random(n), cumulative / cumulative[-1], grid)
        mean, deviation = self.conditional(x, temperature)
        return np.stack(
            [x, rng.normal(mean, deviation), rng.normal(0.0, deviation, size=n)], axis=1
        )

    def system(self, anchor: bool = False) -> openmm.System:
        """OpenMM System of the particle.

        Parameters
        ----------
        anchor : bool
            Add a second, massless particle that belongs at the origin and feels no force, so that
            a PLUMED input can speak of x as ``DISTANCE ATOMS=2,1 COMPONENTS`` (component ``x``).
        """
        force = openmm.CustomExternalForce(
            "barrier*((x/well)^2 - 1)^2 + tilt*x/well + 0.5*stiffness*((y - slope*x)^2 + z^2)"
        )
        parameters = {
            "barrier": self.barrier,
            "well": self.well,
            "tilt": self.tilt,
            "stiffness": self.stiffness,
            "slope": self.slope,
        }
        for name, value in parameters.items():
            force.addGlobalParameter(name, value)
        system = openmm.System()
        system.addParticle(self.mass)
        force.addParticle(0)
        system.addForce(force)
        if anchor:
            system.addParticle(0.0)
        return system

    def topology(self, anchor: bool = False) -> app.Topology:
        """Topology of one argon atom (and the anchor), for reporters and files."""
        topology = app.Topology()
        chain = topology.addChain()
        for name in ("AR", "X")[: 1 + anchor]:
            element = app.element.argon if name == "AR" else None
            topology.addAtom(name, element, topology.addResidue(name, chain))
        return topology

    def _density(self, temperature: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Unnormalised density of x on a grid that leaves out less than exp(-70) of it."""
        kT = GAS_CONSTANT * temperature
        # beyond this x the barrier term alone exceeds any tilt by more than 70 kT
        reach = self.well * np.sqrt(1 + np.sqrt((70 * kT + 8 * abs(self.tilt)) / self.barrier))
        grid = np.linspace(-reach, reach, 20001)
        energy = self.free_energy(grid)
        return grid, np.exp(-(energy - energy.min()) / kT)
