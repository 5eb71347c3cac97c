"""Two alanine dipeptides turned into cysteines, with a bond between their sulphurs."""

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from openmm_cgan.states import positions_of
from openmm_cgan.testsystems import Molecule, alanine_dipeptide

SULPHURS = (13, 35)
LENGTH, ANGLE = 0.205, np.radians(104)  # nm, of a disulphide; C-S-S


def cystine() -> Molecule:
    """44 atoms, AMBER ff14SB in vacuum, minimised; one molecule, by its disulphide alone."""
    one = alanine_dipeptide("C7eq")
    atoms = list(one.topology.atoms())
    carbon, hydrogen = (next(a.index for a in atoms if a.name == n) for n in ("CB", "HB3"))
    x = one.positions.copy()
    arm = x[hydrogen] - x[carbon]
    arm /= np.linalg.norm(arm)
    x[hydrogen] = x[carbon] + 0.181 * arm
    other = _beside(x, x[hydrogen], arm)
    topology = app.Topology()
    chain, sulphurs = topology.addChain(), []
    for _ in range(2):
        made = {}
        for residue in one.topology.residues():
            name = "CYS" if residue.name == "ALA" else residue.name
            own = topology.addResidue(name, chain)
            for atom in residue.atoms():
                is_sulphur = atom.index == hydrogen
                element = app.Element.getBySymbol("S") if is_sulphur else atom.element
                called = {"HB1": "HB2", "HB2": "HB3", "HB3": "SG"}.get(atom.name, atom.name)
                made[atom] = topology.addAtom(called if name == "CYS" else atom.name, element, own)
        for bond in one.topology.bonds():
            topology.addBond(made[bond[0]], made[bond[1]])
        sulphurs.append(made[atoms[hydrogen]])
    topology.addBond(*sulphurs)
    system = app.ForceField("amber14/protein.ff14SB.xml").createSystem(
        topology, constraints=app.HBonds, hydrogenMass=3 * unit.dalton
    )
    reference = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), reference)
    context.setPositions(np.concatenate([x, other]))
    openmm.LocalEnergyMinimizer.minimize(context, 1.0)
    return Molecule(topology, system, positions_of(context.getState(positions=True)))


def _beside(x: NDArray, sulphur: NDArray, arm: NDArray) -> NDArray:
    """Positions turned by half about an axis across a disulphide: the one with most room."""
    first = np.cross(arm, [0.3, 0.5, 0.8])
    first /= np.linalg.norm(first)
    second, turned = np.cross(arm, first), []
    for around in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        across = np.cos(around) * first + np.sin(around) * second
        bond = np.cos(ANGLE) * -arm + np.sin(ANGLE) * across
        for angle in np.linspace(0, np.pi, 12, endpoint=False):
            one = np.cross(bond, arm) / np.sin(ANGLE)
            axis = np.cos(angle) * one + np.sin(angle) * np.cross(bond, one)
            away = x - (sulphur + 0.5 * LENGTH * bond)
            turned.append(x - 2 * away + 2 * np.outer(away @ axis, axis))
    room = [np.sort(np.linalg.norm(x[:, None] - y, axis=-1).ravel())[1] for y in turned]
    return turned[int(np.argmax(room))]
