"""One input, two backends: the native one against real PLUMED, action by action.

Each case of `CASES` is one action of the input language with its variants. Energies and forces
agree within 1e-6 (kJ/mol, kJ/mol/nm) relative to 1 + magnitude on 40 random frames, on the
Reference platform. benchmarks/plumed_backends.py prints the same table.
"""

import functools
import logging
from dataclasses import dataclass

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan.plumed.actions.variables.shapes import GYRATION_TYPES
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.testsystems import alanine_dipeptide

pytestmark = pytest.mark.plumed

N_ATOMS = 8
N_FRAMES = 40
TOLERANCE = 1e-6

BOXES = {
    "no box": None,
    "orthorhombic": np.diag([2.4, 2.9, 3.3]),
    "triclinic": np.array([[2.6, 0, 0], [0.8, 2.5, 0], [-0.9, 1.1, 2.7]]),
}

VARIABLES = "t: TORSION ATOMS=1,3,4,6\na: ANGLE ATOMS=2,4,7\nd: DISTANCE ATOMS=5,8\n"
PERIODIC_GRID = "GRID_MIN=-pi GRID_MAX=pi GRID_BIN=80"
GRID_2D = "GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=60,50"
# wide enough for NOPBC distances between images
MIXED_GRID = "GRID_MIN=-pi,0 GRID_MAX=pi,20 GRID_BIN=30,400"

# {pbc} becomes "" or " NOPBC"
CASES = {
    "TORSION": "t: TORSION ATOMS=1,2,5,6{pbc}\nRESTRAINT ARG=t AT=2.5 KAPPA=30",
    "ANGLE": "a: ANGLE ATOMS=1,4,2{pbc}\nRESTRAINT ARG=a AT=1.1 KAPPA=40",
    "DISTANCE": "d: DISTANCE ATOMS=3,7{pbc}\nRESTRAINT ARG=d AT=0.25 KAPPA=300",
    "GROUP": "g: GROUP ATOMS=2-8:2\nh: GROUP ATOMS=g\nt: TORSION ATOMS=h{pbc}\n"
    "RESTRAINT ARG=t AT=-1 KAPPA=9",
    "COMBINE": "t: TORSION ATOMS=1,3,4,6{pbc}\nd: DISTANCE ATOMS=5,8{pbc}\n"
    "c: COMBINE ARG=t,d COEFFICIENTS=1.5,-2 PARAMETERS=2.9,0.1 POWERS=2,3 PERIODIC=NO\n"
    "RESTRAINT ARG=c AT=2 KAPPA=3",
    "COMBINE periodic": "t: TORSION ATOMS=1,3,4,6{pbc}\n"
    "c: COMBINE ARG=t COEFFICIENTS=2 PERIODIC=-pi,pi\nRESTRAINT ARG=c AT=3 KAPPA=3",
    "COMBINE normalized": "t: TORSION ATOMS=1,3,4,6{pbc}\na: ANGLE ATOMS=2,4,7{pbc}\n"
    "c: COMBINE ARG=t,a COEFFICIENTS=1,3 NORMALIZE PERIODIC=NO\nRESTRAINT ARG=c AT=1 KAPPA=5",
    "RESTRAINT": "t: TORSION ATOMS=1,3,4,6{pbc}\na: ANGLE ATOMS=2,4,7{pbc}\n"
    "d: DISTANCE ATOMS=5,8{pbc}\nRESTRAINT ARG=t,a,d AT=3,1,0.3 KAPPA=20,30,400 SLOPE=1,-2,30",
    "UPPER_WALLS": "t: TORSION ATOMS=1,3,4,6{pbc}\nd: DISTANCE ATOMS=5,8{pbc}\n"
    "UPPER_WALLS ARG=t,d AT=1,0.3 KAPPA=15,200 EXP=2,3 EPS=1,0.5 OFFSET=0,0.05",
    "LOWER_WALLS": "a: ANGLE ATOMS=2,4,7{pbc}\nd: DISTANCE ATOMS=5,8{pbc}\n"
    "LOWER_WALLS ARG=a,d AT=2,0.6 KAPPA=15,200 EXP=4,2 EPS=0.7,1 OFFSET=0.1,0",
    "METAD 1-D": "t: TORSION ATOMS=1,3,4,6{pbc}\n"
    f"METAD ARG=t SIGMA=0.35 HEIGHT=1.2 PACE=5 {PERIODIC_GRID}",
    "METAD 1-D not periodic": "d: DISTANCE ATOMS=5,8{pbc}\n"
    "METAD ARG=d SIGMA=0.07 HEIGHT=1.2 PACE=5 GRID_MIN=0 GRID_MAX=20 GRID_SPACING=0.02",
    "METAD 1-D well-tempered": "t: TORSION ATOMS=1,3,4,6{pbc}\n"
    f"METAD ARG=t SIGMA=0.35 HEIGHT=1.2 PACE=5 BIASFACTOR=6 {PERIODIC_GRID}",
    "METAD 2-D": "t: TORSION ATOMS=1,3,4,6{pbc}\nu: TORSION ATOMS=2,4,5,7{pbc}\n"
    f"METAD ARG=t,u SIGMA=0.35,0.3 HEIGHT=1.2 PACE=5 {GRID_2D}",
    "METAD 2-D well-tempered": "t: TORSION ATOMS=1,3,4,6{pbc}\nd: DISTANCE ATOMS=5,8{pbc}\n"
    f"METAD ARG=t,d SIGMA=0.35,0.1 HEIGHT=1.2 PACE=5 BIASFACTOR=6 TEMP=310 {MIXED_GRID}",
    "METAD 3-D": "t: TORSION ATOMS=1,3,4,6{pbc}\nd: DISTANCE ATOMS=5,8{pbc}\n"
    "a: ANGLE ATOMS=2,4,7{pbc}\nMETAD ARG=t,d,a SIGMA=0.35,0.3,0.2 HEIGHT=1.2 PACE=5 "
    "GRID_MIN=-pi,0,0 GRID_MAX=pi,20,3.2 GRID_BIN=20,100,20",
    "METAD without grid": "t: TORSION ATOMS=1,3,4,6{pbc}\nd: DISTANCE ATOMS=5,8{pbc}\n"
    "METAD ARG=t,d SIGMA=0.35,0.1 HEIGHT=1.2 PACE=5 BIASFACTOR=6",
    "METAD with RESTRAINT": "t: TORSION ATOMS=1,3,4,6{pbc}\n"
    f"METAD ARG=t SIGMA=0.35 TAU=4 PACE=5 BIASFACTOR=6 {PERIODIC_GRID}\n"
    "RESTRAINT ARG=t AT=0 KAPPA=1",
    "CUSTOM": "t: TORSION ATOMS=1,3,4,6{pbc}\nd: DISTANCE ATOMS=5,8{pbc}\n"
    "c: CUSTOM ARG=t,d FUNC=cos(x)*y^2+asinh(x)*step(y-0.2)+sqrt2*max(x,y) PERIODIC=NO\n"
    "m: MATHEVAL ARG=t VAR=a FUNC=2*a+b;b=pi PERIODIC=-pi,pi\nRESTRAINT ARG=c,m AT=1,2 KAPPA=3,4",
    "CONSTANT and BIASVALUE": "k: CONSTANT VALUE=2\nt: TORSION ATOMS=1,3,4,6{pbc}\n"
    "d: DISTANCE ATOMS=5,8{pbc}\nc: CUSTOM ARG=t,k FUNC=y*(1+cos(x)) PERIODIC=NO\n"
    "BIASVALUE ARG=c,d",
    "COORDINATION": "c: COORDINATION GROUPA=1-4 GROUPB=3-8 R_0=0.3{pbc}\n"
    "RESTRAINT ARG=c AT=1 KAPPA=3",
    "COORDINATION one group": "c: COORDINATION GROUPA=1-8 R_0=0.2 NN=8 MM=14 D_0=0.1{pbc}\n"
    "RESTRAINT ARG=c AT=1 KAPPA=3",
    "COORDINATION PAIR": "c: COORDINATION GROUPA=1-3 GROUPB=5-7 PAIR R_0=0.3{pbc}\n"
    "RESTRAINT ARG=c AT=1 KAPPA=3",
    "UNITS": "UNITS LENGTH=A ENERGY=kcal/mol TIME=fs\nt: TORSION ATOMS=1,3,4,6{pbc}\n"
    "d: DISTANCE ATOMS=5,8{pbc}\nRESTRAINT ARG=d AT=2.5 KAPPA=3\n"
    "UPPER_WALLS ARG=t AT=1 KAPPA=2\n"
    "METAD ARG=d SIGMA=0.5 HEIGHT=0.3 PACE=5 BIASFACTOR=8 GRID_MIN=0 GRID_MAX=200 GRID_BIN=1500",
}

SWITCHES = (
    "RATIONAL R_0=0.3",
    "RATIONAL R_0=0.3 NN=8 MM=12 D_0=0.1 D_MAX=1.0",
    "RATIONAL R_0=0.3 NN=6 MM=10 D_MAX=0.8 NOSTRETCH",
    "EXP R_0=0.3 D_0=0.1 D_MAX=1",
    "GAUSSIAN R_0=0.2 D_0=0.1",
    "CUBIC D_0=0.1 D_MAX=0.6",
    "TANH R_0=0.3",
    "COSINUS R_0=0.5 D_0=0.1",
    "SMAP R_0=0.3 A=10 B=5 D_0=0.1",
    "Q R_0=0.3 REF=0.2 LAMBDA=1.5 BETA=30 D_MAX=0.9",
    "CUSTOM R_0=0.3 D_0=0.1 D_MAX=1.1 FUNC=1/(1+x^6)",
    "MATHEVAL R_0=0.3 D_MAX=1.1 FUNC=exp(-x2)+0.1/(1+x2^3)",
)
CASES |= {
    f"COORDINATION {switch.split()[0]} {i}": "c: COORDINATION GROUPA=1-4 GROUPB=3-8 "
    f"SWITCH={{{{{switch}}}}}{{pbc}}\nRESTRAINT ARG=c AT=1 KAPPA=3"
    for i, switch in enumerate(SWITCHES)
}

CASES |= {
    "CONTACTMAP SUM": "c: CONTACTMAP ATOMS1=1,5 ATOMS2=2,7 ATOMS3=3,8 SWITCH={{RATIONAL R_0=0.4}} "
    "WEIGHT1=1 WEIGHT2=2 WEIGHT3=-1 SUM{pbc}\nRESTRAINT ARG=c AT=1 KAPPA=3",
    "CONTACTMAP CMDIST": "c: CONTACTMAP ATOMS1=1,5 ATOMS2=2,7 SWITCH1={{EXP R_0=0.4}} "
    "SWITCH2={{Q R_0=0.1 REF=0.3 D_MAX=2}} REFERENCE1=0.5 REFERENCE2=0.2 CMDIST{pbc}\n"
    "RESTRAINT ARG=c AT=1 KAPPA=3",
    "CONTACTMAP components": "UNITS LENGTH=A\nf: FIXEDATOM AT=1,2,3\n"
    "c: CONTACTMAP ATOMS1=1,5 ATOMS2=2,7 ATOMS3=f,8 SWITCH1={{EXP R_0=4}} "
    "SWITCH2={{Q R_0=1 REF=3}} SWITCH3={{RATIONAL R_0=4 D_MAX=9}} REFERENCE1=0.5 "
    "REFERENCE2=0.2 REFERENCE3=0 WEIGHT1=1 WEIGHT2=-2 WEIGHT3=3\n"
    "RESTRAINT ARG=c.contact-1,c.contact-3 AT=1,0 KAPPA=3,2\n"
    "s: COMBINE ARG=c.* PERIODIC=NO\nUPPER_WALLS ARG=s AT=0 KAPPA=4",
    "WHOLEMOLECULES": "WHOLEMOLECULES ENTITY0=1-4 ENTITY1=5-8 STRIDE=10\n"
    "t: TORSION ATOMS=1,3,4,6\nRESTRAINT ARG=t AT=1 KAPPA=3",
}

CASES |= {
    "DISTANCE COMPONENTS": "d: DISTANCE ATOMS=3,7 COMPONENTS{pbc}\n"
    "RESTRAINT ARG=d.x,d.z AT=0.25,0.1 KAPPA=300,200\nUPPER_WALLS ARG=d.y AT=0 KAPPA=40",
    "DISTANCE all components": "UNITS LENGTH=A\nd: DISTANCE ATOMS=1,8 COMPONENTS{pbc}\n"
    "RESTRAINT ARG=d.* AT=1,2,3 KAPPA=3,2,1",
    "DISTANCE SCALED_COMPONENTS": "d: DISTANCE ATOMS=3,7 SCALED_COMPONENTS{pbc}\n"
    "RESTRAINT ARG=d.a,d.b,d.c AT=0.2,-0.1,0.49 KAPPA=300,200,90",
    "POSITION": "p: POSITION ATOM=3\nRESTRAINT ARG=p.x,p.y,p.z AT=0.2,-0.1,0.5 KAPPA=30,20,9",
    "POSITION SCALED_COMPONENTS": "p: POSITION ATOM=3 SCALED_COMPONENTS{pbc}\n"
    "RESTRAINT ARG=p.a,p.b,p.c AT=0.2,-0.1,0.49 KAPPA=30,20,9",
    "functions of components": "d: DISTANCE ATOMS=3,7 COMPONENTS{pbc}\n"
    "r: CUSTOM ARG=d.x,d.y,d.z FUNC=sqrt(x*x+y*y)+0.3*z PERIODIC=NO\n"
    "c: COMBINE ARG=*.z POWERS=2 PERIODIC=NO\nRESTRAINT ARG=r,c AT=0.25,0.1 KAPPA=300,20",
    "METAD of components": "d: DISTANCE ATOMS=5,8 COMPONENTS{pbc}\n"
    "METAD ARG=d.x,d.z SIGMA=0.1,0.1 HEIGHT=1.2 PACE=5 GRID_MIN=-12,-12 GRID_MAX=12,12 "
    "GRID_BIN=240,240",
    "TORSION of vectors": "t: TORSION VECTORA=2,1 AXIS=3,5 VECTORB=7,8{pbc}\n"
    "RESTRAINT ARG=t AT=2.5 KAPPA=30",
    "TORSION of vectors, older names": "t: TORSION VECTOR1=2,1 AXIS=2,3 VECTOR2=3,4 COSINE{pbc}\n"
    "RESTRAINT ARG=t AT=0.5 KAPPA=30",
    "TORSION COSINE": "t: TORSION ATOMS=1,2,5,6 COSINE{pbc}\nRESTRAINT ARG=t AT=0.5 KAPPA=30",
    "ANGLE of lines": "a: ANGLE ATOMS=1,4,2,7{pbc}\nRESTRAINT ARG=a AT=1.1 KAPPA=40",
    "FIXEDATOM": "UNITS LENGTH=A\nf: FIXEDATOM AT=1,2,3\ng: FIXEDATOM AT=2,0,4 SET_MASS=2\n"
    "d: DISTANCE ATOMS=f,2\na: ANGLE ATOMS=1,f,g\nt: TORSION ATOMS=f,1,2,g\n"
    "v: TORSION VECTORA=1,f AXIS=f,g VECTORB=3,4\ne: DISTANCE ATOMS=f,3 COMPONENTS\n"
    "RESTRAINT ARG=d,a,t,v,e.x,e.z AT=2,1,1,2,1,2 KAPPA=3,40,30,20,5,6",
    "FIXEDATOM in contacts": "f: FIXEDATOM AT=0.1,0.2,0.3\n"
    "c: COORDINATION GROUPA=f,1 GROUPB=3-6 R_0=0.4\n"
    "m: CONTACTMAP ATOMS1=1,f ATOMS2=2,7 SWITCH={{RATIONAL R_0=0.4}} WEIGHT1=2 WEIGHT2=1 SUM\n"
    "RESTRAINT ARG=c,m AT=1,2 KAPPA=3,4",
    "VOLUME and CELL": "v: VOLUME\nc: CELL\nd: DISTANCE ATOMS=3,7{pbc}\n"
    "r: CUSTOM ARG=d,c.ax,v FUNC=x*y+0.1*z PERIODIC=NO\nRESTRAINT ARG=r,v AT=1,2 KAPPA=2,3",
    "CONSTANT of several numbers": "k: CONSTANT VALUES=1,2,3 SCALARS\nj: CONSTANT VALUES=4\n"
    "d: DISTANCE ATOMS=3,7{pbc}\nr: CUSTOM ARG=d,k.v-0,k.v-2,j VAR=a,b,c,d FUNC=a*b+c*d^a "
    "PERIODIC=NO\nRESTRAINT ARG=r AT=1 KAPPA=2",
}

# Groups of one molecule: its atoms are bonded, and stay together in OpenMM
GROUPS = {
    "COM and CENTER": "c: COM ATOMS=1-4{pbc}\ne: CENTER ATOMS=5-8{pbc}\nd: DISTANCE ATOMS=c,e\n"
    "RESTRAINT ARG=d AT=0.2 KAPPA=90",
    "CENTER with weights": "e: CENTER ATOMS=5-8 WEIGHTS=1,2,3,4{pbc}\n"
    "c: CENTER MASS ATOMS=1,2{pbc}\nt: TORSION ATOMS=c,3,4,e\na: ANGLE ATOMS=1,e,c\n"
    "RESTRAINT ARG=t,a AT=0.2,1 KAPPA=90,10",
    "COORDINATION of a COM": "g: COM ATOMS=1,2\n"
    "c: COORDINATION GROUPA=g,3 GROUPB=5-7 R_0=0.3{pbc}\nRESTRAINT ARG=c AT=1 KAPPA=3",
    "GYRATION": "g: GYRATION ATOMS=1-6{pbc}\nRESTRAINT ARG=g AT=0.1 KAPPA=300",
    "RMSD": "r: RMSD REFERENCE={pdb} TYPE=OPTIMAL{pbc}\nRESTRAINT ARG=r AT=0.05 KAPPA=300",
    "RMSD SQUARED": "UNITS LENGTH=A\nr: RMSD REFERENCE={pdb} TYPE=OPTIMAL SQUARED{pbc}\n"
    "RESTRAINT ARG=r AT=0.5 KAPPA=3",
    "RMSD SIMPLE": "r: RMSD REFERENCE={pdb} TYPE=SIMPLE{pbc}\nRESTRAINT ARG=r AT=0.05 KAPPA=300",
    "components of COM": "c: COM ATOMS=1-4{pbc}\nd: DISTANCE ATOMS=c,8 COMPONENTS{pbc}\n"
    "s: DISTANCE ATOMS=c,7 SCALED_COMPONENTS{pbc}\np: POSITION ATOM=c\n"
    "RESTRAINT ARG=d.x,d.y,s.b,p.x,p.z AT=0.1,0,0.2,0,0.4 KAPPA=30,20,10,5,6",
    "TORSION of vectors of COM": "c: COM ATOMS=1-3\nt: TORSION VECTORA=c,4 AXIS=4,5 VECTORB=c,8\n"
    "a: ANGLE ATOMS=c,4,6,7\nf: FIXEDATOM AT=0.1,0.2,0.3\nd: DISTANCE ATOMS=c,f\n"
    "RESTRAINT ARG=t,a,d AT=0.2,1,0.3 KAPPA=30,20,50",
    "GYRATION by mass": "UNITS LENGTH=A\ng: GYRATION ATOMS=1-6 MASS_WEIGHTED{pbc}\n"
    "RESTRAINT ARG=g AT=1 KAPPA=3",
}

# The same, with other reference files
REFERENCES = {
    "RMSD SIMPLE with weights": "r: RMSD REFERENCE={weighted} SQUARED{pbc}\n"
    "RESTRAINT ARG=r AT=0.05 KAPPA=300",
    "RMSD with weights": "UNITS LENGTH=A\nr: RMSD REFERENCE={weighted} TYPE=OPTIMAL{pbc}\n"
    "RESTRAINT ARG=r AT=0.5 KAPPA=3",
    "RMSD with equal columns of weights": "r: RMSD REFERENCE={alike} TYPE=OPTIMAL SQUARED{pbc}\n"
    "RESTRAINT ARG=r AT=0.05 KAPPA=300",
    "PATHMSD": "p: PATHMSD REFERENCE={path} LAMBDA=60{pbc}\n"
    "RESTRAINT ARG=p.sss,p.zzz AT=2,0 KAPPA=3,100",
    "PROPERTYMAP": "p: PROPERTYMAP REFERENCE={path} LAMBDA=60 PROPERTY=Y,X{pbc}\n"
    "RESTRAINT ARG=p.X,p.Y,p.zzz AT=2,0,0 KAPPA=3,4,100",
    "PATHMSD with METAD": "UNITS LENGTH=A\np: PATHMSD REFERENCE={path} LAMBDA=0.6 NEIGH_SIZE=5 "
    "NEIGH_STRIDE=3{pbc}\nt: TORSION ATOMS=1,3,4,6\n"
    "METAD ARG=p.sss,t SIGMA=0.2,0.3 HEIGHT=1.2 PACE=5 GRID_MIN=0,-pi GRID_MAX=6,pi "
    "GRID_BIN=60,50",
    "Python and others in one input": "r: RMSD REFERENCE={weighted} TYPE=OPTIMAL{pbc}\n"
    "g: GYRATION TYPE=KAPPA2 ATOMS=1-6{pbc}\nc: COM ATOMS=1-3\nd: DISTANCE ATOMS=c,8\n"
    "t: TORSION ATOMS=1,3,4,6\nf: CUSTOM ARG=r,g,d,t FUNC=10*a*b+c*cos(d) VAR=a,b,c,d "
    "PERIODIC=NO\nRESTRAINT ARG=f,t,d AT=1,1,0.3 KAPPA=3,4,5",
}


GROUPS |= {
    f"GYRATION {', '.join(kinds)}": "UNITS LENGTH=A\n"
    + "".join(
        f"g{i}: GYRATION ATOMS=2-7 TYPE={kind}{{pbc}}\nh{i}: GYRATION ATOMS=2-8 TYPE={kind} "
        f"MASS_WEIGHTED\nRESTRAINT ARG=g{i},h{i} AT=1,0.5 KAPPA=3,0.001\n"
        for i, kind in enumerate(kinds)
    )
    for kinds in (GYRATION_TYPES[:4], GYRATION_TYPES[4:8], GYRATION_TYPES[8:])
}


MOLECULES = GROUPS | REFERENCES


@dataclass(frozen=True)
class Deviation:
    """Largest disagreement over frames, relative to 1 + magnitude."""

    values: float
    energy: float
    forces: float


def random_frames(box, rng, n=N_FRAMES, torn=True):
    """Compact molecules, each atom moved by a random lattice vector where there is a box."""
    steps = rng.normal(size=(n, N_ATOMS, 3))
    steps *= 0.15 / np.linalg.norm(steps, axis=-1, keepdims=True)
    frames = np.cumsum(steps, axis=1) + rng.random((n, 1, 3))
    if box is not None and torn:
        frames += rng.integers(-1, 2, size=(n, N_ATOMS, 3)) @ box
    return frames


def make_system(box, bonded=False):
    system = openmm.System()
    for i in range(N_ATOMS):
        system.addParticle(12.0 + i)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
        nonbonded = openmm.NonbondedForce()
        nonbonded.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        for _ in range(N_ATOMS):
            nonbonded.addParticle(0, 1, 0)
        system.addForce(nonbonded)
    if bonded:
        bonds = openmm.HarmonicBondForce()
        for i in range(N_ATOMS - 1):
            bonds.addBond(i, i + 1, 0.15, 0.0)
        system.addForce(bonds)
    return system


def made(text, backend, box, folder, frames, bonded=False):
    """A bias in a Context, with a hill laid at each of the frames where the input lays hills."""
    bias = PlumedBias(text + "\n", temperature=300.0, backend=backend, directory=folder / backend)
    system = make_system(box, bonded)
    bias.add_to(system)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    engine = bias._engine
    engine.start(0.002)
    for i, frame in enumerate(frames):
        engine.update(frame, box, 5 * i)
        engine.upload(context)
    return bias, context


def deviation(text, box, folder, seed=0, bonded=False):
    """Compare the two backends; run by benchmarks/plumed_backends.py too."""
    rng = np.random.default_rng(seed)
    laid, frames = random_frames(box, rng, 40), random_frames(box, rng, torn=not bonded)
    laid = laid if "METAD" in text else laid[:0]
    both = [made(text, backend, box, folder, laid, bonded) for backend in ("native", "kernel")]
    worst = np.zeros(3)
    for frame in frames:
        found = []
        for bias, context in both:
            context.setPositions(frame)
            groups = bias.force_groups()
            state = context.getState(energy=True, forces=True, groups=groups)
            values, energy = bias._engine.evaluate(frame, box, 5)
            assert energy == pytest.approx(state.getPotentialEnergy()._value, rel=1e-9, abs=1e-9)
            found.append((values, energy, state.getForces(asNumpy=True)._value))
        for i, (ours, plumeds) in enumerate(zip(*found, strict=True)):
            error = np.max(np.abs(ours - plumeds) / (1 + np.abs(plumeds)))
            worst[i] = max(worst[i], error)
    for bias, _ in both:
        bias.close()
    return Deviation(*worst)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", CASES.values(), ids=CASES.keys())
def test_energies_and_forces_are_plumeds(text, box, tmp_path):
    for pbc in ("",) if box is None else ("", " NOPBC"):
        found = deviation(text.format(pbc=pbc), box, tmp_path / pbc.strip())
        assert max(found.values, found.energy, found.forces) < TOLERANCE, found


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", MOLECULES.values(), ids=MOLECULES.keys())
def test_groups_of_one_molecule_are_plumeds(text, box, tmp_path):
    files = reference_pdbs(tmp_path)
    for pbc in ("",) if box is None else ("", " NOPBC"):
        made_text = text.format(pbc=pbc, **files)
        found = deviation(made_text, box, tmp_path / pbc.strip(), bonded=True)
        assert max(found.values, found.energy, found.forces) < TOLERANCE, found


def reference_pdb(folder):
    """The file of the cases in `GROUPS`."""
    return reference_pdbs(folder)["pdb"]


def reference_pdbs(folder):
    """Atoms 2 to 8 of random frames, in another order, with and without weights."""
    frames = random_frames(None, np.random.default_rng(9), 5)
    frames = frames[0] + 0.3 * (frames - frames[0])  # a path begins and goes on from there
    rows = (1, 3, 2, 4, 5, 6, 7)
    columns = {
        "pdb": [(1.0, 1.0)] * 7,
        "weighted": [(0.5 + i, 3.0 - 0.4 * i) for i in range(7)],
        "alike": [(0.5 + i, 0.5 + i) for i in range(7)],
        "path": [(1.0 + i % 2, 1.0) for i in range(7)],
    }
    for name, weights in columns.items():
        text = ""
        for k, frame in enumerate(frames if name == "path" else frames[:1]):
            text += f"REMARK X={k * k} Y={0.5 - k} X=9\n"
            for i, (occupancy, beta) in zip(rows, weights, strict=True):
                x, y, z = 10 * frame[i]
                text += f"ATOM  {i + 1:5d}  C   MOL A   1    {x:8.3f}{y:8.3f}{z:8.3f}"
                text += f"{occupancy:6.2f}{beta:6.2f}\n"
            text += "END\n"
        (folder / f"{name}.pdb").write_text(text)
    return {name: folder / f"{name}.pdb" for name in columns}


@pytest.mark.parametrize("text", MOLECULES.values(), ids=MOLECULES.keys())
def test_groups_of_several_molecules_in_a_box_are_plumeds(text, tmp_path):
    text = text.format(pbc="", **reference_pdbs(tmp_path))
    found = deviation(text, BOXES["triclinic"], tmp_path)
    assert max(found.values, found.energy, found.forces) < TOLERANCE, found


WANDERING = {
    "CENTER": "c: CENTER ATOMS=1-4 NOPBC\nd: DISTANCE ATOMS=c,8",
    "CENTER, DISTANCE": "c: CENTER ATOMS=1-4\nd: DISTANCE ATOMS=c,8 NOPBC",
    "COORDINATION": "c: CENTER ATOMS=1-4 NOPBC\nd: COORDINATION GROUPA=c GROUPB=8 R_0=0.3",
    "GYRATION": "d: GYRATION ATOMS=1-4 NOPBC",
    "POSITION": "p: POSITION ATOM=1 NOPBC\nd: COMBINE ARG=p.x PERIODIC=NO",
    "FIXEDATOM": "f: FIXEDATOM AT=0,0,1\nd: DISTANCE ATOMS=f,8 NOPBC",
}


@pytest.mark.parametrize("text", WANDERING.values(), ids=WANDERING.keys())
def test_what_depends_on_the_image_of_a_molecule_goes_to_plumed(text, tmp_path):
    text += "\nRESTRAINT ARG=d AT=1 KAPPA=3\n"
    refused = PlumedBias(text, backend="native")
    with pytest.raises(PlumedInputError, match="image"):
        refused.add_to(make_system(BOXES["triclinic"]))
    bias = PlumedBias(text, directory=tmp_path)
    assert bias.backend == "native"
    bias.add_to(make_system(BOXES["triclinic"]))
    assert bias.backend == "kernel"


PRINTED = (
    "UNITS ENERGY=kcal/mol TIME=fs\nt: TORSION ATOMS=1,3,4,6\nu: TORSION ATOMS=2,4,5,7\n"
    "d: DISTANCE ATOMS=5,8\nc: COMBINE ARG=t COEFFICIENTS=2 PERIODIC=-pi,pi\n"
    "r: RESTRAINT ARG=d AT=0.3 KAPPA=50\nw: UPPER_WALLS ARG=t AT=1 KAPPA=2\n"
    "m: METAD ARG=t,u SIGMA=0.35,0.3 HEIGHT=1.2 PACE=5 BIASFACTOR=6 "
    f"{GRID_2D} FILE=HILLS\n"
    "n: METAD ARG=d SIGMA=0.1 HEIGHT=0.2 PACE=10 GRID_MIN=0 GRID_MAX=3 GRID_BIN=100 FMT=%10.6f "
    "FILE=HILLS.d\n"
    "PRINT ARG=t,d,c,r.bias,w.bias,m.bias STRIDE=5 FILE=COLVAR\n"
    "PRINT ARG=r.*,w.*,m.* STRIDE=10 FMT=%14.8f FILE=ALL\nFLUSH STRIDE=20\n"
)
FILES = ("COLVAR", "ALL", "HILLS", "HILLS.d")


def test_files_are_plumeds(tmp_path):
    frames = random_frames(None, np.random.default_rng(4), 30)
    for backend in ("native", "kernel"):
        bias, _ = made(PRINTED, backend, None, tmp_path, frames)
        bias.close()
    for file in FILES:
        ours, plumeds = ((tmp_path / b / file).read_text() for b in ("native", "kernel"))
        if file == "HILLS":  # 16 digits: rounding shows
            assert header(ours) == header(plumeds)
            compare_tables(tmp_path, file, 1e-9)
        else:
            assert ours == plumeds
        assert len(set(map(len, ours.splitlines()))) == len(set(map(len, plumeds.splitlines())))


def header(text):
    return [line for line in text.splitlines() if line.startswith("#")]


def compare_tables(folder, file, tolerance):
    ours, plumeds = (read_fields(folder / b / file) for b in ("native", "kernel"))
    assert list(ours.columns) == list(plumeds.columns)
    assert ours.constants == plumeds.constants
    for name, column in plumeds.columns.items():
        np.testing.assert_allclose(ours.columns[name], column, atol=tolerance, rtol=tolerance)


RUN = (
    "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
    "m: METAD ARG=phi,psi SIGMA=0.3,0.3 HEIGHT=1.2 PACE=20 BIASFACTOR=10 "
    "GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=100,100\n"
    "PRINT ARG=phi,psi,m.bias STRIDE=10 FILE=COLVAR\n"
)


def simulate(backend, folder, parts, platform="Reference"):
    """Alanine dipeptide under RUN in parts, each its own process as far as PLUMED knows."""
    state = None
    for i, n_steps in enumerate(parts):
        molecule = alanine_dipeptide("C7eq")
        bias = PlumedBias(
            RUN, temperature=300.0, backend=backend, directory=folder / backend, restart=i > 0
        )
        bias.add_to(molecule.system)
        integrator = openmm.VerletIntegrator(0.001)
        simulation = app.Simulation(
            molecule.topology,
            molecule.system,
            integrator,
            openmm.Platform.getPlatformByName(platform),
        )
        if state is None:
            simulation.context.setPositions(molecule.positions)
            simulation.context.setVelocitiesToTemperature(300, 5)
        else:
            simulation.context.loadCheckpoint(state)
        bias.attach(simulation)
        simulation.step(n_steps)
        state = simulation.context.createCheckpoint()
        bias.close()
    return simulation.context.getState(positions=True).getPositions(asNumpy=True)._value


def test_runs_and_their_files_are_plumeds(tmp_path):
    positions = [simulate(backend, tmp_path, [300]) for backend in ("native", "kernel")]
    np.testing.assert_allclose(positions[0], positions[1], atol=1e-6)
    for file in ("COLVAR", "HILLS"):
        compare_tables(tmp_path, file, 2e-6)
    assert len(read_fields(tmp_path / "native" / "HILLS")) == 15
    assert len(read_fields(tmp_path / "native" / "COLVAR")) == 31


@pytest.mark.parametrize("first", [140, 150])
@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_a_run_in_two_parts_is_the_run_in_one(backend, first, tmp_path):
    """Cut at a step where a hill is laid (140) and where none is (150)."""
    for name, parts in (("one", [300]), ("two", [first, 300 - first])):
        simulate(backend, tmp_path / name, parts)
    for file in ("COLVAR", "HILLS"):
        one, two = (read_fields(tmp_path / name / backend / file) for name in ("one", "two"))
        assert two.columns["time"] == pytest.approx(one.columns["time"])
        for name, column in one.columns.items():
            np.testing.assert_allclose(two.columns[name], column, atol=1e-5)


def test_auto_takes_the_kernel_where_native_refuses_and_says_so(tmp_path, caplog):
    text = RUN + "r: GYRATION PHASES ATOMS=1-22\nRESTRAINT ARG=r AT=0.25 KAPPA=10\n"
    with caplog.at_level(logging.INFO, logger="openmm_cgan"):
        bias = PlumedBias(text, temperature=300.0, directory=tmp_path)
    assert bias.backend == "kernel"
    assert bias.backend in caplog.text
    assert [variable.name for variable in bias.variables] == ["phi", "psi", "r"]


def test_the_same_is_known_of_the_variables(tmp_path):
    make = functools.partial(PlumedBias, RUN, temperature=300.0, directory=tmp_path)
    assert make(backend="native").variables == make(backend="kernel").variables
