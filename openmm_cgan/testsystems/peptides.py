"""Alanine and valine dipeptide, with their hidden barriers, and a peptide of five residues."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm
from openmm import app, unit
from openmm.app.internal.customgbforces import GBSAOBC2Force

from openmm_cgan.molecules import Molecule
from openmm_cgan.states import positions_of

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
    made = _in_vacuum("alanine_dipeptide", constraints)
    if basin is None:
        return made
    turned = _turned(made.positions, *BASINS[basin])
    return Molecule(made.topology, made.system, _minimised(made.system, turned))


def valine_dipeptide(constraints: Any = app.HBonds) -> Molecule:
    """Valine dipeptide (ACE-VAL-NME) in vacuum, AMBER ff96: chi1 hides behind phi and psi.

    28 atoms. phi is the torsion of the zero-based atoms 4, 6, 8, 12, psi of 6, 8, 12, 22 and chi1
    of 6, 8, 10, 14. The start is alanine dipeptide's PDB structure with the other side chain,
    minimised.

    Parameters
    ----------
    constraints : optional
        As in ``ForceField.createSystem``.

    Returns
    -------
    Molecule

    Examples
    --------
    >>> valine_dipeptide().topology
    <Topology; 1 chains, 3 residues, 28 atoms, 27 bonds>
    """
    return _in_vacuum("valine_dipeptide", constraints)


@cache
def _force_field(name: str) -> app.ForceField:
    """Read once: that takes longer than all else here."""
    return app.ForceField(name)


def _in_vacuum(name: str, constraints: Any) -> Molecule:
    """The molecule of a PDB file of ours under AMBER ff96."""
    with files("openmm_cgan").joinpath(f"data/{name}.pdb").open() as file:
        pdb = app.PDBFile(file)
    system = _force_field("amber96.xml").createSystem(
        pdb.topology, nonbondedMethod=app.NoCutoff, constraints=constraints
    )
    positions = np.array(pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    return Molecule(pdb.topology, system, positions)


def alanine_pentapeptide(constraints: Any = app.HBonds, hydrogen_mass: float = 2.0) -> Molecule:
    """Five alanines with capped ends (ACE-ALA5-NME) in implicit solvent: AMBER ff14SB with OBC2.

    62 atoms, the solvent by `add_obc2`. The start is an alpha helix, minimised from ideal internal
    coordinates.

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
    system = _force_field("amber14/protein.ff14SB.xml").createSystem(
        pdb.topology,
        nonbondedMethod=app.NoCutoff,
        constraints=constraints,
        hydrogenMass=hydrogen_mass * unit.dalton,
    )
    add_obc2(system, pdb.topology)
    positions = np.array(pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    return Molecule(pdb.topology, system, positions)


def add_obc2(system: openmm.System, topology: app.Topology) -> None:
    """Add the implicit solvent OBC2 to a System, as OpenMM's own force.

    OpenMM's implicit/obc2.xml makes a CustomGBForce; the GBSAOBCForce made here has the same
    parameters and the same energy, and runs four to nine times faster on small molecules.

    Parameters
    ----------
    system : openmm.System
        With a NonbondedForce, whose charges are taken.
    topology : openmm.app.Topology
        Its elements and bonds tell the radii.

    Raises
    ------
    ValueError
        If the System has no NonbondedForce.
    """
    charges = next((f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)), None)
    if charges is None:
        raise ValueError("the System has no NonbondedForce: OBC2 takes the charges of one")
    solvent = openmm.GBSAOBCForce()
    solvent.setSolventDielectric(78.5)
    for i, (radius, scale) in enumerate(GBSAOBC2Force.getStandardParameters(topology)):
        solvent.addParticle(charges.getParticleParameters(i)[0], radius, scale)
    system.addForce(solvent)


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
    return positions_of(context.getState(positions=True))
