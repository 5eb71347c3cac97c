"""Molecules that the recipe is tried on, each built from the templates of its force field.

Capped amino acids ACE-X-NME and small organic molecules, AMBER ff14SB, in vacuum or OBC2. The start
needs no file: atoms at random, drawn together by the bonded forces and then by all, several times;
what is right (L, trans amides) and lowest in energy is kept. (The pentapeptide's is that of
openmm_cgan.testsystems.) Bonds to hydrogen are constrained.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from openmm_cgan.states import positions_of
from openmm_cgan.testsystems import Molecule, add_obc2, alanine_pentapeptide, torsion

SMALL = Path(__file__).parent / "small_molecules.xml"
TRIES = 30
HYDROGEN = 2.0  # dalton, what is more being taken from the heavy atom: steps of 4 fs
TRANS = 2.6  # rad, least size of the torsion of an amide

Torsion = tuple[str, str, str, str]  # names of atoms, with the residue's number before a colon


@dataclass(frozen=True)
class Recipe:
    """What is to be built and known of one molecule.

    Attributes
    ----------
    residues : tuple of str
        Templates of the force field.
    cvs : dict of str to Torsion
        Collective variables.
    hidden : dict of str to Torsion
        Torsions beside them that turn over barriers, of which populations are asked.
    """

    residues: tuple[str, ...]
    cvs: dict[str, Torsion]
    hidden: dict[str, Torsion]


PHI_PSI: dict[str, Torsion] = {
    "phi": ("0:C", "1:N", "1:CA", "1:C"),
    "psi": ("1:N", "1:CA", "1:C", "2:N"),
}


def _capped(name: str, **hidden: Torsion) -> Recipe:
    return Recipe(("ACE", name, "NME"), PHI_PSI, hidden)


def _chi(*names: str) -> dict[str, Torsion]:
    """chi1, chi2 ... along a chain of atoms of residue 1."""
    atoms = ["1:" + name for name in ("N", "CA", "CB", *names)]
    return {
        f"chi{k + 1}": (atoms[k], atoms[k + 1], atoms[k + 2], atoms[k + 3])
        for k in range(len(names))
    }


def _alanines(n: int) -> Recipe:
    """ACE-ALAn-NME; phi and psi of the middle one are CVs."""
    middle = (n + 1) // 2
    torsions = {
        k: {
            "phi": (f"{k - 1}:C", f"{k}:N", f"{k}:CA", f"{k}:C"),
            "psi": (f"{k}:N", f"{k}:CA", f"{k}:C", f"{k + 1}:N"),
        }
        for k in range(1, n + 1)
    }
    hidden = {
        f"{name}{k}": atoms
        for k, both in torsions.items()
        if k != middle
        for name, atoms in both.items()
    }
    return Recipe(("ACE", *["ALA"] * n, "NME"), torsions[middle], hidden)


RECIPES: dict[str, Recipe] = {
    "GLY": _capped("GLY"),
    "ALA": _capped("ALA"),
    "SER": _capped("SER", **_chi("OG", "HG")),
    "VAL": _capped("VAL", **_chi("CG1")),
    "ASN": _capped("ASN", **_chi("CG", "OD1")),
    "LEU": _capped("LEU", **_chi("CG", "CD1")),
    "PHE": _capped("PHE", **_chi("CG", "CD1")),
    "TRP": _capped("TRP", **_chi("CG", "CD1")),
    "LYS": _capped("LYS", **_chi("CG", "CD", "CE", "NZ")),
    "PRO": Recipe(
        ("ACE", "PRO", "NME"), {"psi": PHI_PSI["psi"]}, {"chi1": ("1:N", "1:CA", "1:CB", "1:CG")}
    ),
    "ALA3": _alanines(3),
    "butane": Recipe(("BUT",), {"phi": ("0:C1", "0:C2", "0:C3", "0:C4")}, {}),
    "ethanediol": Recipe(
        ("EDO",),
        {"phi": ("0:O1", "0:C1", "0:C2", "0:O2")},
        {
            "oh1": ("0:C2", "0:C1", "0:O1", "0:HO1"),
            "oh2": ("0:C1", "0:C2", "0:O2", "0:HO2"),
        },
    ),
    "cyclohexane": Recipe(
        ("CHX",),
        {"ring": ("0:C1", "0:C2", "0:C3", "0:C4")},
        {"opposite": ("0:C4", "0:C5", "0:C6", "0:C1")},
    ),
    "toluene": Recipe(("TOL",), {"methyl": ("0:C2", "0:C1", "0:C7", "0:HC71")}, {}),
    "phenylpropanol": Recipe(
        ("PPO",),
        {
            "inner": ("0:C1", "0:C7", "0:C8", "0:C9"),
            "outer": ("0:C7", "0:C8", "0:C9", "0:O1"),
        },
        {
            "aryl": ("0:C2", "0:C1", "0:C7", "0:C8"),
            "oh": ("0:C8", "0:C9", "0:O1", "0:HO1"),
        },
    ),
}
UNSEEN = {  # no recipe was tried on them while it was made
    "MET": _capped("MET", **_chi("CG", "SD", "CE")),
    "GLU": _capped("GLU", **_chi("CG", "CD", "OE1")),
    "ILE": _capped("ILE", **_chi("CG1", "CD1")),
}
LARGER = {"ALA5": _alanines(5)}


@dataclass(frozen=True)
class Built:
    """A molecule with its torsions by number.

    Attributes
    ----------
    molecule : Molecule
    cvs, hidden : dict of str to tuple of int
        Zero-based atoms.
    """

    molecule: Molecule
    cvs: dict[str, tuple[int, ...]]
    hidden: dict[str, tuple[int, ...]]


@cache
def build(name: str, solvent: str = "vacuum") -> Built:
    """One of `RECIPES`, `UNSEEN` or `LARGER`, in "vacuum" or "obc2"."""
    recipe = (RECIPES | UNSEEN | LARGER)[name]
    field = app.ForceField("amber14/protein.ff14SB.xml", str(SMALL))
    there = alanine_pentapeptide() if name in LARGER else None
    topology = there.topology if there else _topology(field, recipe.residues)
    system = field.createSystem(
        topology,
        nonbondedMethod=app.NoCutoff,
        constraints=app.HBonds,
        hydrogenMass=HYDROGEN * unit.dalton,
    )
    loose = field.createSystem(topology, nonbondedMethod=app.NoCutoff)
    positions = there.positions if there else _start(topology, loose, system, recipe.residues)
    if solvent == "obc2":
        add_obc2(system, topology)
    numbers = {f"{a.residue.index}:{a.name}": a.index for a in topology.atoms()}
    named = [
        {key: tuple(numbers[a] for a in atoms) for key, atoms in group.items()}
        for group in (recipe.cvs, recipe.hidden)
    ]
    return Built(Molecule(topology, system, positions), *named)


def _topology(field: app.ForceField, residues: tuple[str, ...]) -> app.Topology:
    """Atoms and bonds of templates, peptide bonds between neighbours."""
    topology = app.Topology()
    chain = topology.addChain()
    before = None
    for number, name in enumerate(residues, 1):
        template = field._templates[name]
        residue = topology.addResidue(name, chain, str(number))
        atoms = [topology.addAtom(a.name, a.element, residue) for a in template.atoms]
        for one, other in template.bonds:
            topology.addBond(atoms[one], atoms[other])
        named = {a.name: a for a in atoms}
        if before is not None:
            topology.addBond(before["C"], named["N"])
        before = named
    return topology


def _start(
    topology: app.Topology, loose: openmm.System, held: openmm.System, residues: tuple[str, ...]
) -> NDArray[np.float64]:
    """The lowest of the right ones among many tries [nm]."""
    bonded = openmm.System()
    for i in range(loose.getNumParticles()):
        bonded.addParticle(loose.getParticleMass(i))
    for force in loose.getForces():
        if isinstance(force, openmm.HarmonicBondForce | openmm.HarmonicAngleForce):
            bonded.addForce(openmm.XmlSerializer.clone(force))
    bonded.addForce(_repulsion(topology))
    rng = np.random.default_rng(0)
    lowest, best = np.inf, None
    for _ in range(TRIES):
        x = rng.normal(scale=0.3, size=(loose.getNumParticles(), 3))
        for system in (bonded, loose):
            x, _ = _minimised(system, x)
        x = _mirrored(topology, x)
        x, energy = _minimised(held, x)
        if energy < lowest and _is_right(topology, x):
            lowest, best = energy, x
    if best is None:
        raise RuntimeError(f"no start of {'-'.join(residues)} in {TRIES} tries")
    return best - best.mean(axis=0)


def _repulsion(topology: app.Topology) -> openmm.CustomNonbondedForce:
    """Soft spheres between atoms three bonds or more apart, which a bond may pass through."""
    force = openmm.CustomNonbondedForce("200*max(0, 1-r/0.25)^2")
    for _ in topology.atoms():
        force.addParticle([])
    bonds = [(a.index, b.index) for a, b in topology.bonds()]
    force.createExclusionsFromBonds(bonds, 2)
    return force


def _minimised(system: openmm.System, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(x)
    openmm.LocalEnergyMinimizer.minimize(context, 1.0, 2000)
    state = context.getState(positions=True, energy=True)
    return positions_of(state), state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def _handedness(topology: app.Topology, x: NDArray[np.float64]) -> list[float]:
    """Of each residue with a CB: positive for L (seen from H: CO, R, N clockwise)."""
    found = []
    for residue in topology.residues():
        a = {atom.name: x[atom.index] for atom in residue.atoms()}
        if {"N", "CA", "C", "CB"} <= a.keys():
            n, c, cb = (a[k] - a["CA"] for k in ("N", "C", "CB"))
            found.append(float(np.dot(np.cross(n, c), cb)))
    return found


def _mirrored(topology: app.Topology, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mirror image if that has more residues right."""
    hands = _handedness(topology, x)
    return x * [1.0, 1.0, -1.0] if sum(np.sign(hands)) < 0 else x


def _is_right(topology: app.Topology, x: NDArray[np.float64]) -> bool:
    """All residues L, all amides trans."""
    residues = [{a.name: a.index for a in r.atoms()} for r in topology.residues()]
    for one, other in pairwise(residues):
        atoms = (one.get("CA", one.get("CH3")), one["C"], other["N"])
        last = other.get("CA", other.get("C", other.get("CH3")))
        if abs(torsion(x, (*atoms, last))) < TRANS:
            return False
    return all(hand > 0 for hand in _handedness(topology, x))
