"""Small systems with known answers, to test and to show the package on.

`alanine_dipeptide` is a real molecule with a hidden barrier, `alanine_pentapeptide` a larger one;
`DoubleWell2D` has everything in closed form: its free energy along x, the conditional density of y
given x, and exact samples.
`Chain` is a molecule whose internal coordinates have known densities, also with constraints.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm
from openmm import app, unit
from openmm.app.internal.customgbforces import GBSAOBC2Force

from openmm_cgan import GAS_CONSTANT

if TYPE_CHECKING:
    from numpy.typing import NDArray


PHI_ATOMS = (4, 6, 8, 14)
PSI_ATOMS = (6, 8, 14, 16)
# phi and psi of the middle residue of alanine_pentapeptide.
MIDDLE_ATOMS = ((24, 26, 28, 34), (26, 28, 34, 36))
# Where minimisation starts, as (phi, psi) [rad]; both lie inside the basin that they are named for.
BASINS = {"C7eq": (-1.4, 1.2), "C7ax": (1.22, -1.22)}
# Atoms behind the bond N-CA (all from HA on) and behind CA-C, in the order of the PDB file.
_BEHIND_PHI = slice(9, 22)
_BEHIND_PSI = slice(15, 22)


@dataclass(frozen=True)
class Molecule:
    """A molecule ready to simulate.

    Attributes
    ----------
    topology : openmm.app.Topology
    system : openmm.System
    positions : ndarray, shape (n_atoms, 3)
        Start coordinates [nm].
    """

    topology: app.Topology
    system: openmm.System
    positions: NDArray[np.float64]


def alanine_dipeptide(basin: str | None = None, constraints: Any = app.HBonds) -> Molecule:
    """Alanine dipeptide (ACE-ALA-NME) in vacuum, AMBER ff96.

    The same 22 atoms in the same order, with the same energy, as openmmtools'
    AlanineDipeptideVacuum, from OpenMM's own force-field file. phi is the torsion of the
    zero-based atoms 4, 6, 8, 14 and psi of 6, 8, 14, 16.

    Parameters
    ----------
    basin : {None, "C7eq", "C7ax"}
        Start coordinates: the extended molecule of the PDB file (None), or the minimum of the
        basin left (C7eq, phi near -75 degrees) or right (C7ax, phi near +60 degrees) of phi = 0.
        Each is turned about N-CA and CA-C from the PDB coordinates and minimised, so that
        L-alanine and the trans amides are kept.
    constraints : optional
        As in ``ForceField.createSystem``.

    Returns
    -------
    Molecule

    Raises
    ------
    ValueError
        If ``basin`` is unknown.

    Examples
    --------
    >>> alanine_dipeptide().system.getNumParticles()
    22
    """
    if basin is not None and basin not in BASINS:
        raise ValueError(f"basin is {basin!r}, expected one of {', '.join(BASINS)} or None")
    with files("openmm_cgan").joinpath("data/alanine_dipeptide.pdb").open() as file:
        pdb = app.PDBFile(file)
    system = app.ForceField("amber96.xml").createSystem(
        pdb.topology, nonbondedMethod=app.NoCutoff, constraints=constraints
    )
    positions = np.array(pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    if basin is not None:
        positions = _minimised(system, _turned(positions, *BASINS[basin]))
    return Molecule(pdb.topology, system, positions)


def alanine_pentapeptide(constraints: Any = app.HBonds, hydrogen_mass: float = 2.0) -> Molecule:
    """Five alanines with capped ends (ACE-ALA5-NME) in implicit solvent: AMBER ff14SB with OBC2.

    62 atoms. OpenMM's implicit/obc2.xml makes a CustomGBForce; the GBSAOBCForce made here has the
    same parameters and the same energy, and runs four to nine times faster on small molecules. The
    start is an alpha helix, minimised from ideal internal coordinates.

    Parameters
    ----------
    constraints : optional
        As in ``ForceField.createSystem``.
    hydrogen_mass : float
        [dalton]; what is more than hydrogen's is taken from the heavy atom, for steps of 4 fs.

    Returns
    -------
    Molecule

    Examples
    --------
    >>> alanine_pentapeptide().topology
    <Topology; 1 chains, 7 residues, 62 atoms, 61 bonds>
    """
    with files("openmm_cgan").joinpath("data/alanine_pentapeptide.pdb").open() as file:
        pdb = app.PDBFile(file)
    system = app.ForceField("amber14/protein.ff14SB.xml").createSystem(
        pdb.topology,
        nonbondedMethod=app.NoCutoff,
        constraints=constraints,
        hydrogenMass=hydrogen_mass * unit.dalton,
    )
    charges = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    solvent = openmm.GBSAOBCForce()
    solvent.setSolventDielectric(78.5)
    for i, (radius, scale) in enumerate(GBSAOBC2Force.getStandardParameters(pdb.topology)):
        solvent.addParticle(charges.getParticleParameters(i)[0], radius, scale)
    system.addForce(solvent)
    positions = np.array(pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    return Molecule(pdb.topology, system, positions)


def torsion(positions: NDArray[np.float64], atoms: tuple[int, ...]) -> float:
    """Torsion angle of four atoms, IUPAC sign.

    Parameters
    ----------
    positions : ndarray, shape (n_atoms, 3)
        Coordinates [nm].
    atoms : tuple of int
        Four zero-based atoms.

    Returns
    -------
    float
        Angle in (-pi, pi] [rad].

    Examples
    --------
    >>> float(torsion(np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1]]), (0, 1, 2, 3)))
    1.5707963267948966
    """
    first, second, third = np.diff(positions[list(atoms)], axis=0)
    left, right = np.cross(first, second), np.cross(second, third)
    return np.arctan2(np.linalg.norm(second) * (first @ right), left @ right)


def _turned(positions: NDArray[np.float64], phi: float, psi: float) -> NDArray[np.float64]:
    """Rigid rotations about N-CA and CA-C to the wanted torsions."""
    turned = positions.copy()
    for atoms, behind, target in ((PHI_ATOMS, _BEHIND_PHI, phi), (PSI_ATOMS, _BEHIND_PSI, psi)):
        angle = target - torsion(turned, atoms)
        origin = turned[atoms[2]]
        axis = origin - turned[atoms[1]]
        axis /= np.linalg.norm(axis)
        arms = turned[behind] - origin
        along = np.outer(arms @ axis, axis)
        turned[behind] = (
            origin + along + np.cos(angle) * (arms - along) + np.sin(angle) * np.cross(axis, arms)
        )
    return turned


def _minimised(system: openmm.System, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    integrator = openmm.VerletIntegrator(0.001)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, integrator, platform)
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, 0.1)
    minimised = context.getState(positions=True).getPositions(asNumpy=True)
    return np.array(minimised.value_in_unit(unit.nanometer))


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
        """Potential energy [kJ/mol] at coordinates [nm]; arrays broadcast."""
        off_axis = (np.asarray(y) - self.slope * np.asarray(x)) ** 2 + np.asarray(z) ** 2
        return self.free_energy(x) + 0.5 * self.stiffness * off_axis

    def free_energy(self, x: Any) -> NDArray[np.float64]:
        """Free energy along x [kJ/mol], up to a constant that does not depend on x."""
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
        for name in ("barrier", "well", "tilt", "stiffness", "slope"):
            force.addGlobalParameter(name, getattr(self, name))
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
        """Density of a bond that is not constrained, up to a factor."""
        r, kT = np.asarray(r, dtype=float), GAS_CONSTANT * temperature
        return r**2 * np.exp(-0.5 * (self.bond_stiffness or 0.0) * (r - self.bond) ** 2 / kT)

    def angle_density(self, theta: Any, temperature: float) -> NDArray[np.float64]:
        """Density of an angle, up to a factor; times `fixman` where bonds are constrained."""
        theta, kT = np.asarray(theta, dtype=float), GAS_CONSTANT * temperature
        return np.sin(theta) * np.exp(-0.5 * self.angle_stiffness * (theta - self.angle) ** 2 / kT)

    def torsion_density(self, phi: Any, temperature: float) -> NDArray[np.float64]:
        """Density of the torsion, up to a factor."""
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
