"""Setups as people have them: force fields, boxes, constraints, integrators; of a few atoms."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import molecule_hash
from openmm_cgan.testsystems import PHI_ATOMS, alanine_dipeptide, torsion
from tests.cases import ROOT

ALANINE = np.arange(22)
BUTANE = np.arange(14)
BUTANE_TORSION = (0, 4, 7, 10)
# found without the seconds that it takes to import
OPENMMTOOLS = Path(find_spec("openmmtools").origin).parent
FILES = ROOT / "examples" / "data"
PME = {"nonbondedMethod": app.PME, "nonbondedCutoff": 0.7 * unit.nanometer}
VACUUM = {"nonbondedMethod": app.NoCutoff}
REFERENCE, CPU = "Reference", "CPU"


@dataclass(frozen=True)
class Setup:
    """A System with the integrator that goes with it; the CV is a torsion of the solute."""

    topology: Any
    system: openmm.System
    positions: Any
    integrator: openmm.Integrator
    solute: NDArray[np.int64] = field(default_factory=ALANINE.copy)
    torsion: tuple[int, ...] = PHI_ATOMS
    platform: str = REFERENCE

    def simulation(self) -> app.Simulation:
        platform = openmm.Platform.getPlatformByName(self.platform)
        properties = {"Threads": "1", "DeterministicForces": "true"} if self.platform == CPU else {}
        seeded(self.system, self.integrator)
        return app.Simulation(self.topology, self.system, self.integrator, platform, properties)


def seeded(system: openmm.System, integrator: openmm.Integrator) -> None:
    for part in (integrator, *system.getForces()):
        if hasattr(part, "setRandomNumberSeed"):
            part.setRandomNumberSeed(1)


def langevin(step: float = 0.002) -> openmm.Integrator:
    return openmm.LangevinMiddleIntegrator(300, 5, step)


# ---- systems


@cache
def in_water(model: str = "tip3p", shape: str = "cube") -> tuple[app.Topology, Any, app.ForceField]:
    """Alanine dipeptide in some hundred waters."""
    molecule = alanine_dipeptide("C7eq")
    water = {"tip3p": "amber14/tip3p.xml", "tip4pew": "amber14/tip4pew.xml"}[model]
    forcefield = app.ForceField("amber14/protein.ff14SB.xml", water)
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    size = {"boxSize": openmm.Vec3(1.6, 1.6, 1.6) * unit.nanometer}
    if shape == "octahedron":  # an octahedron of 1.55 nm between opposite faces
        third = np.sqrt(8) / 3 * 0.5
        rows = [(1, 0, 0), (1 / 3, 2 * third, 0), (-1 / 3, third, np.sqrt(6) / 3)]
        size = {"boxVectors": [openmm.Vec3(*row) * 1.9 * unit.nanometer for row in rows]}
    modeller.addSolvent(forcefield, model=model, **size)
    return modeller.topology, modeller.positions, forcefield


def water(
    step: float = 0.002,
    barostat: openmm.Force | None = None,
    model: str = "tip3p",
    shape: str = "cube",
    **options: Any,
) -> Setup:
    topology, positions, forcefield = in_water(model, shape)
    system = forcefield.createSystem(topology, **{**PME, "constraints": app.HBonds, **options})
    if barostat is not None:
        system.addForce(barostat)
    return Setup(topology, system, positions, langevin(step), platform=CPU)


def anisotropic() -> openmm.Force:
    return openmm.MonteCarloAnisotropicBarostat((1, 1, 1), 300, True, True, False, 25)


def membrane() -> openmm.Force:
    kind = openmm.MonteCarloMembraneBarostat
    return kind(1, 0, 300, kind.XYIsotropic, kind.ZFree, 25)


def vacuum(
    integrator: openmm.Integrator, andersen: bool = False, groups: bool = False, **options: Any
) -> Setup:
    molecule = alanine_dipeptide("C7eq", **options)
    if andersen:
        molecule.system.addForce(openmm.AndersenThermostat(300, 5))
    if groups:  # nonbonded forces at the long step
        for force in molecule.system.getForces():
            force.setForceGroup(int(not isinstance(force, openmm.NonbondedForce)))
    return Setup(molecule.topology, molecule.system, molecule.positions, integrator)


def amber() -> Setup:
    """openmmtools' files of alanine dipeptide, OBC2, heavy hydrogens and steps of 4 fs."""
    folder = OPENMMTOOLS / "data" / "alanine-dipeptide-gbsa"
    prmtop = app.AmberPrmtopFile(str(folder / "alanine-dipeptide.prmtop"))
    inpcrd = app.AmberInpcrdFile(str(folder / "alanine-dipeptide.crd"))
    system = prmtop.createSystem(
        implicitSolvent=app.OBC2, constraints=app.HBonds, hydrogenMass=3.0 * unit.dalton
    )
    return Setup(prmtop.topology, system, inpcrd.positions, langevin(0.004))


def charmm() -> Setup:
    psf = app.CharmmPsfFile(str(FILES / "butane.psf"))
    parameters = app.CharmmParameterSet(str(FILES / "butane.prm"))
    system = psf.createSystem(parameters, constraints=app.HBonds)
    positions = app.PDBFile(str(FILES / "butane.pdb")).positions
    return Setup(psf.topology, system, positions, langevin(), BUTANE, BUTANE_TORSION)


def gromacs() -> Setup:
    gro = app.GromacsGroFile(str(FILES / "butane_water.gro"))
    top = app.GromacsTopFile(
        str(FILES / "butane_water.top"), periodicBoxVectors=gro.getPeriodicBoxVectors()
    )
    system = top.createSystem(**PME, constraints=app.HBonds)
    return Setup(
        top.topology, system, gro.positions, langevin(), BUTANE, BUTANE_TORSION, platform=CPU
    )


def amoeba() -> Setup:
    molecule = alanine_dipeptide("C7eq")
    forcefield = app.ForceField("amoeba2018.xml")
    system = forcefield.createSystem(molecule.topology, **VACUUM, polarization="direct")
    # two terms of planar centres, of which the Reference platform needs 7 s each in every Context
    slow = ("AmoebaOutOfPlaneBendForce", "AmoebaInPlaneAngleForce")
    for number in reversed(range(system.getNumForces())):
        if system.getForce(number).getName() in slow:
            system.removeForce(number)
    return Setup(molecule.topology, system, molecule.positions, langevin(0.001))


def drude() -> Setup:
    molecule = alanine_dipeptide("C7eq")
    forcefield = app.ForceField("charmm_polar_2019.xml")
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    modeller.addExtraParticles(forcefield)
    system = forcefield.createSystem(modeller.topology, **VACUUM, constraints=app.HBonds)
    integrator = openmm.DrudeLangevinIntegrator(300, 5, 1, 20, 0.0005)
    atoms = [a.index for a in modeller.topology.atoms() if a.element is not None]
    phi = tuple(atoms[i] for i in PHI_ATOMS)
    return Setup(modeller.topology, system, modeller.positions, integrator, np.array(atoms), phi)


# ---- integrators


def quantum_bath() -> openmm.Integrator:
    integrator = openmm.QTBIntegrator(300, 5, 0.0005)
    integrator.setSegmentLength(0.05)
    return integrator


def compound() -> openmm.Integrator:
    integrator = openmm.CompoundIntegrator()
    integrator.addIntegrator(openmm.LangevinMiddleIntegrator(300, 5, 0.002))
    integrator.addIntegrator(openmm.VerletIntegrator(0.001))
    return integrator


def of_openmmtools(name: str, **options: Any) -> openmm.Integrator:
    from openmmtools import integrators

    kind = getattr(integrators, name)
    return kind(temperature=300 * unit.kelvin, timestep=2 * unit.femtosecond, **options)


GROUPS = [(0, 1), (1, 2), (31, 2)]  # the last is the bias's

SETUPS: dict[str, Callable[[], Setup]] = {
    "PDB, ForceField": lambda: vacuum(langevin()),
    "AMBER prmtop, OBC2, HMR 4 fs": amber,
    "CHARMM psf": charmm,
    "GROMACS top, water": gromacs,
    "AMOEBA": amoeba,
    "no constraints": lambda: vacuum(langevin(0.001), constraints=None),
    "AllBonds": lambda: vacuum(langevin(), constraints=app.AllBonds),
    "HAngles": lambda: vacuum(langevin(), constraints=app.HAngles),
    "TIP3P, PME": water,
    "MonteCarloBarostat": lambda: water(barostat=openmm.MonteCarloBarostat(1, 300, 25)),
    "anisotropic barostat": lambda: water(barostat=anisotropic()),
    "membrane barostat": lambda: water(barostat=membrane()),
    "flexible barostat": lambda: water(barostat=openmm.MonteCarloFlexibleBarostat(1, 300, 25)),
    "octahedron": lambda: water(shape="octahedron"),
    "flexible water": lambda: water(0.0005, constraints=None, rigidWater=False),
    "HMR 4 fs, water": lambda: water(0.004, hydrogenMass=3.0 * unit.dalton),
    "TIP4P-Ew": lambda: water(model="tip4pew"),
    "LangevinIntegrator": lambda: vacuum(openmm.LangevinIntegrator(300, 5, 0.002)),
    "VariableLangevin": lambda: vacuum(openmm.VariableLangevinIntegrator(300, 5, 0.001)),
    "NoseHoover": lambda: vacuum(openmm.NoseHooverIntegrator(300, 5, 0.002)),
    "Verlet, Andersen": lambda: vacuum(openmm.VerletIntegrator(0.002), andersen=True),
    "VariableVerlet, Andersen": lambda: vacuum(
        openmm.VariableVerletIntegrator(0.001), andersen=True
    ),
    "MTS, Andersen": lambda: vacuum(
        openmm.MTSIntegrator(0.002, GROUPS), andersen=True, groups=True
    ),
    "MTSLangevin": lambda: vacuum(openmm.MTSLangevinIntegrator(300, 5, 0.002, GROUPS), groups=True),
    "Brownian": lambda: vacuum(openmm.BrownianIntegrator(300, 500, 0.0005), constraints=None),
    "Compound": lambda: vacuum(compound()),
    "openmmtools Langevin": lambda: vacuum(
        of_openmmtools("LangevinIntegrator", splitting="V R O R V")
    ),
    "openmmtools GHMC": lambda: vacuum(of_openmmtools("GHMCIntegrator")),
    "QTB": lambda: vacuum(quantum_bath(), constraints=None),
    "DPD": lambda: vacuum(openmm.DPDIntegrator(300, 5, 1.0, 0.002)),
}


# ---- a sampler that needs no training


class Library:
    """Gives frames of a run of the solute in vacuum, those whose torsions are nearest."""

    has_density, cv_range, system_hash, temperature = False, None, "", None

    def __init__(self, setup: Setup, frames: NDArray, variables: Any) -> None:
        self.variables: tuple[CollectiveVariable, ...] = tuple(variables)
        self.atoms, self.n_atoms = setup.solute, len(setup.solute)
        self.topology_hash = ""
        self.molecule_hash = molecule_hash(setup.topology, setup.solute)
        place = {int(atom): i for i, atom in enumerate(setup.solute)}
        inside = tuple(place[atom] for atom in setup.torsion)
        self.frames = frames
        self.cvs = np.array([torsion(frame, inside) for frame in frames])

    def sample(self, cvs: NDArray, n: int | None = None, seed: int = 0) -> NDArray:
        away = np.abs((np.asarray(cvs)[:, :1] - self.cvs + np.pi) % (2 * np.pi) - np.pi)
        return self.frames[away.argmin(axis=1)]


@cache
def library_frames(solute: str) -> NDArray:
    """Frames of the solute in vacuum, steered along its torsion (n, n_atoms, 3) [nm]."""
    made = vacuum(langevin()) if solute == "alanine" else charmm()
    force = openmm.CustomTorsionForce("200*(1 - cos(theta - at))")
    force.addGlobalParameter("at", 0.0)
    force.addTorsion(*made.torsion)
    made.system.addForce(force)
    simulation = made.simulation()
    simulation.context.setPositions(made.positions)
    frames = []
    for at in np.linspace(-2.6, -0.8, 7):
        simulation.context.setParameter("at", at)
        simulation.minimizeEnergy(maxIterations=50)
        simulation.step(20)
        state = simulation.context.getState(positions=True)
        frames.append(state.getPositions(asNumpy=True)._value)
    return np.array(frames)
