"""Molecules, PLUMED inputs and runs whose speed is measured; by public names of the package alone.

So that old_and_new.py can run them with another checkout of it.
"""

from __future__ import annotations

import copy
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import app, unit

from openmm_cgan import PlumedBias
from openmm_cgan.testsystems import Molecule, alanine_dipeptide

TORSIONS = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
RESTRAINT = TORSIONS + "RESTRAINT ARG=phi,psi AT=-1.33,1.22 KAPPA=20,20\n"
METAD = (
    TORSIONS + "METAD ARG=phi,psi SIGMA=0.3,0.3 HEIGHT=1 BIASFACTOR=10 PACE={pace} "
    "GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=90,90\n"
)
MOVING = "m: MOVINGRESTRAINT ARG=phi,psi STEP0=0 AT0=-1,1 KAPPA0=50,50 STEP1=10000000 AT1=1,1\n"
# what Python works on at every step
CALLED_BACK = {
    "OPES_METAD": TORSIONS + "o: OPES_METAD ARG=phi,psi SIGMA=0.2,0.2 PACE=500 BARRIER=40\n",
    "OPES_METAD with adaptive SIGMA": TORSIONS + "o: OPES_METAD ARG=phi,psi PACE=500 BARRIER=40\n",
    "MOVINGRESTRAINT": TORSIONS + MOVING,
    "MOVINGRESTRAINT with its work printed": TORSIONS + MOVING
    + "PRINT ARG=m.work STRIDE=500 FILE=COLVAR\n",
}  # fmt: skip
PACE = 500
ENERGY = "e: ENERGY\nPRINT ARG=e FILE=COLVAR STRIDE=1000\n"
ON_ENERGY = {
    "RESTRAINT on ENERGY": ENERGY + "RESTRAINT ARG=e AT=0 KAPPA=1e-6\n",
    "OPES_EXPANDED of temperatures": ENERGY + "x: ECV_MULTITHERMAL ARG=e TEMP_MAX=310\n"
    "OPES_EXPANDED ARG=x.e PACE=50 OBSERVATION_STEPS=3\n",
    "PBMETAD of two torsions on grids": TORSIONS + "PBMETAD ARG=phi,psi SIGMA=0.3,0.3 HEIGHT=1 "
    f"BIASFACTOR=10 PACE={PACE} GRID_MIN=-pi,-pi GRID_MAX=pi,pi\n",
    "PBMETAD of two torsions without": TORSIONS + "PBMETAD ARG=phi,psi SIGMA=0.3,0.3 HEIGHT=1 "
    f"BIASFACTOR=10 PACE={PACE}\n",
}  # fmt: skip
SOLVATED = {
    "COORDINATION of the solute with 500 waters": "c: COORDINATION GROUPA=1-22 "
    "GROUPB=23-1522:3 R_0=0.3\nRESTRAINT ARG=c AT=10 KAPPA=1\n",
    "RMSD of the solute": "r: RMSD REFERENCE={pdb} TYPE=OPTIMAL\n"
    "RESTRAINT ARG=r AT=0.1 KAPPA=100\n",
    "RESTRAINT on two torsions": RESTRAINT,
    "METAD on two torsions": METAD.format(pace=PACE),
}

# actions that are native since, each alone; oxygens of 500 waters are 23-1522:3
LATER = {
    "COORDINATION of 500 oxygens, D_MAX, NLIST": "c: COORDINATION GROUPA=23-1522:3 "
    "SWITCH={{RATIONAL R_0=0.3 D_MAX=0.6}} NLIST NL_CUTOFF=0.8 NL_STRIDE=10\n"
    "RESTRAINT ARG=c AT=100 KAPPA=0.01\n",
    "COORDINATIONNUMBER of 500 oxygens": "c: COORDINATIONNUMBER SPECIES=23-1522:3 "
    "SWITCH={{RATIONAL R_0=0.3 D_MAX=0.6}} MEAN\nRESTRAINT ARG=c.mean AT=4 KAPPA=1\n",
    "DISTANCES of the solute to 100 oxygens": "d: DISTANCES GROUPA=1-22 GROUPB=23-322:3 "
    "MIN={{BETA=50}}\nRESTRAINT ARG=d.min AT=0.2 KAPPA=1\n",
    "CONTACTMAP": "c: CONTACTMAP ATOMS1=1,15 ATOMS2=5,19 SWITCH={{RATIONAL R_0=0.4}} SUM\n"
    "RESTRAINT ARG=c AT=1 KAPPA=1\n",
    "PATHMSD of 20 models of the solute": "p: PATHMSD REFERENCE={path} LAMBDA=500\n"
    "RESTRAINT ARG=p.sss,p.zzz AT=9,0 KAPPA=1,1\n",
    "FIT_TO_TEMPLATE and a POSITION": "FIT_TO_TEMPLATE REFERENCE={pdb} TYPE=OPTIMAL\n"
    "q: POSITION ATOM=23\nRESTRAINT ARG=q.x,q.y AT=1,1 KAPPA=1,1\n",
    "WRAPAROUND and a distance": "WRAPAROUND AROUND=9 ATOMS=23-322 GROUPBY=3\n"
    "d: DISTANCE ATOMS=9,23 NOPBC\nRESTRAINT ARG=d AT=1 KAPPA=1\n",
    "FUNNEL_PS": "f: FUNNEL_PS LIGAND=23 REFERENCE={pdb} ANCHOR=9 POINTS=0,0,0,1,1,1\n"
    "RESTRAINT ARG=f.lp,f.ld AT=1,1 KAPPA=1,1\n",
    "ALPHABETA": "a: ALPHABETA ATOMS1=5,7,9,15 ATOMS2=7,9,15,17 REFERENCE=1\n"
    "RESTRAINT ARG=a AT=1 KAPPA=1\n",
    "PUCKERING": "p: PUCKERING ATOMS=5,7,9,11,15\nRESTRAINT ARG=p.amp AT=0.04 KAPPA=1\n",
    "PROJECTION_ON_AXIS": "p: PROJECTION_ON_AXIS AXIS_ATOMS=5,15 ATOM=23\n"
    "RESTRAINT ARG=p.proj,p.ext AT=1,1 KAPPA=1,1\n",
    "ERMSD": "e: ERMSD REFERENCE={pdb} ATOMS=2,5,6,9,11,15\nRESTRAINT ARG=e AT=0.1 KAPPA=1\n",
    "SORT": "d: DISTANCE ATOMS=1,15\ne: DISTANCE ATOMS=5,19\ns: SORT ARG=d,e\n"
    "RESTRAINT ARG=s.1 AT=0.4 KAPPA=1\n",
    "ABMD": TORSIONS + "ABMD ARG=phi,psi TO=1,1 KAPPA=1,1\n",
    "PBMETAD on grids": TORSIONS + "PBMETAD ARG=phi,psi SIGMA=0.3,0.3 HEIGHT=1 BIASFACTOR=10 "
    f"PACE={PACE} GRID_MIN=-pi,-pi GRID_MAX=pi,pi\n",
    "OPES_EXPANDED of umbrellas": TORSIONS + "x: ECV_UMBRELLAS_LINE ARG=phi,psi SIGMA=0.3 "
    "CV_MIN=-2,-1 CV_MAX=-1,2\nOPES_EXPANDED ARG=x.phi,x.psi PACE=500\n",
}  # fmt: skip

Step = Callable[[int], Any]


def vacuum() -> Molecule:
    return alanine_dipeptide("C7eq")


@functools.cache
def _solvated() -> Molecule:
    molecule = alanine_dipeptide("C7eq")
    field = app.ForceField("amber96.xml", "tip3p.xml")
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    modeller.addSolvent(field, boxSize=openmm.Vec3(2.9, 2.9, 2.9) * unit.nanometer)
    system = field.createSystem(
        modeller.topology, nonbondedMethod=app.PME, constraints=app.HBonds, nonbondedCutoff=0.9
    )
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform_of("CPU"))
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, 10, 100)
    settled = context.getState(positions=True).getPositions(asNumpy=True)._value
    return Molecule(modeller.topology, system, np.array(settled))


def solvated() -> Molecule:
    made = _solvated()
    return Molecule(made.topology, copy.deepcopy(made.system), made.positions)


def platform_of(name: str) -> openmm.Platform:
    return openmm.Platform.getPlatformByName(name)


def make_simulation(molecule: Molecule, platform: str) -> app.Simulation:
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.002)
    threads = {"Threads": "1"} if platform == "CPU" else {}
    made = platform_of(platform)
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, made, threads)
    simulation.context.setPositions(molecule.positions)
    return simulation


def plain(molecule: Molecule, platform: str) -> Step:
    return make_simulation(molecule, platform).step


def biased(text: str, backend: str, molecule: Molecule, platform: str) -> Step:
    """Dynamics under an input on one of our backends."""
    return _biased_simulation(text, backend, molecule, platform)[0].step


def evaluated(text: str, backend: str, molecule: Molecule, platform: str) -> Step:
    """So many evaluations of the bias alone, energy and forces."""
    simulation, bias = _biased_simulation(text, backend, molecule, platform)
    ask = functools.partial(
        simulation.context.getState, energy=True, forces=True, groups=bias.force_groups()
    )

    def repeat(times: int) -> None:
        for _ in range(times):
            ask()

    return repeat


def write_path(folder: Path) -> Path:
    """The PDB file of 20 models of the solute, each a little farther from it."""
    path, rng = folder / "path.pdb", np.random.default_rng(0)
    model, lines = 10 * vacuum().positions, []
    for _ in range(20):
        for serial, (x, y, z) in enumerate(model, start=1):
            place = f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  1.00"
            lines.append(f"ATOM  {serial:5d}  C   ALA A   1    {place}")
        lines.append("END")
        model = model + 0.1 * rng.normal(size=model.shape)
    path.write_text("\n".join([*lines, ""]))
    return path


def write_solute(folder: Path) -> Path:
    """The PDB file of the solute that inputs in `SOLVATED` refer to."""
    path = folder / "solute.pdb"
    with path.open("w") as file:
        app.PDBFile.writeFile(vacuum().topology, vacuum().positions * 10, file)
    return path


def _biased_simulation(
    text: str, backend: str, molecule: Molecule, platform: str
) -> tuple[app.Simulation, PlumedBias]:
    bias = PlumedBias(
        text,
        molecule.topology,
        temperature=300.0,
        backend=backend,
        directory="." if backend == "plugin" else tempfile.mkdtemp(),
    )
    bias.add_to(molecule.system)
    simulation = make_simulation(molecule, platform)
    bias.attach(simulation)
    return simulation, bias


def microseconds(step: Step, steps: int) -> float:
    """CPU time of a step in one block [us]; one thread works, and others may use the machine."""
    start = time.process_time()
    step(steps)
    return (time.process_time() - start) / steps * 1e6
