"""Actions of real inputs, driven over frames: forces, virials and files are PLUMED's."""

import shutil

import numpy as np
import openmm
import pytest
import torch
from MDAnalysis.lib.formats.libmdaxdr import XTCFile
from openmm import app
from openmm.app import Simulation

from benchmarks.eight_atoms import BOXES, make_system, random_frames, reference_pdbs
from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError, read_statements
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.driver_runs import compare, driven

pytestmark = pytest.mark.plumed

PRINTED = "PRINT ARG=* FILE=COLVAR FMT=%12.6f\n"
# fmt: off
# ruff: noqa: E501  one line of input each
MANY = "".join(
    [f"d{a}{b}: DISTANCE ATOMS={a},{b}\n" for a in range(1, 9) for b in range(1, a)]
    + [f"a{a}: ANGLE ATOMS={a},{a + 1},{a + 2}\n" for a in range(1, 7)]
)
MANY += "f: COMBINE ARG=(d.*),(a.) COEFFICIENTS={} PERIODIC=NO\n".format(
    ",".join(f"{k % 3 - 0.8:.1f}" for k in range(34))
)
RUNS = {
    "CONTACTMAP with one REFERENCE and WEIGHT": "c: CONTACTMAP ATOMS1=1,5 ATOMS2=2,7 "
    "SWITCH={RATIONAL R_0=0.3} REFERENCE=0.1 WEIGHT=0.5 CMDIST\nRESTRAINT ARG=c AT=0 KAPPA=2\n",
    "DEBUG and RANDOM_EXCHANGES": "DEBUG LOGACTIVITY STRIDE=5\nRANDOM_EXCHANGES SEED=3\n"
    "d: DISTANCE ATOMS=1,5\nRESTRAINT ARG=d AT=0 KAPPA=2\n",
    "PRINT with times": "d: DISTANCE ATOMS=1,5\n"
    "PRINT ARG=d FILE=MORE UPDATE_FROM=0.006 UPDATE_UNTIL=0.014 STRIDE=2 RESTART=YES\n",
    "DISTANCES": "UNITS LENGTH=A\nc: CENTER ATOMS=6-8\nd: DISTANCES GROUPA=1-3 GROUPB=4,5,c MIN={BETA=5} "
    "MAX={BETA=0.1} MEAN LESS_THAN1={RATIONAL R_0=2} LESS_THAN2={EXP R_0=3 D_MAX=6} LOWEST HIGHEST SUM "
    "MORE_THAN={RATIONAL R_0=2 D_0=1} ALT_MIN={BETA=10} BETWEEN={GAUSSIAN LOWER=1 UPPER=3}\n"
    "RESTRAINT ARG=d.* AT=1,1,1,1,1,1,1,1,1,1,1 KAPPA=1,2,3,4,5,6,7,8,9,8,7\nPRINT ARG=d.* FILE=COLVAR\n"
    "PRINT ARG=d.mean,d_min FILE=MORE\n",
    "DISTANCES of one group": "d: DISTANCES GROUP=1-4 MEAN\ne: DISTANCES ATOMS=2-8 ORIGIN=1 SUM NOPBC\n"
    "f: DISTANCES ATOMS1=1,2 ATOMS2=2,8 MIN={BETA=100}\nRESTRAINT ARG=d.mean,f.min AT=0,0 KAPPA=50,70\n"
    "PRINT ARG=d_mean,e.sum,f.min FILE=COLVAR\n",
    "ZDISTANCES": "d: XDISTANCES ATOMS1=1,2 ATOMS2=2,3 MEAN BETWEEN1={GAUSSIAN LOWER=0.1 "
    "UPPER=0.3 SMEAR=0.2}\ne: YDISTANCES ATOMS1=1,2 MEAN\nf: ZDISTANCES GROUP=1-3 SUM\n"
    "RESTRAINT ARG=d.mean,d.between-1,e.mean,f.sum AT=1,1,0,0 KAPPA=1,2,3,4\n"
    "PRINT ARG=d.*,e.mean,f.sum FILE=COLVAR\n",
    "ALPHABETA": "c: COM ATOMS=7,8\na: ALPHABETA ATOMS1=1,2,3,4 ATOMS2=2,3,4,c REFERENCE=1.2\n"
    "b: ALPHABETA ATOMS1=1,2,3,4 ATOMS2=2,3,4,5 REFERENCE1=1.2 REFERENCE2=-1 COEFFICIENT1=2 "
    "COEFFICIENT2=-0.5 NOPBC\nRESTRAINT ARG=a,b AT=1,1 KAPPA=30,40\nPRINT ARG=a,b FILE=COLVAR\n",
    "FIT_TO_TEMPLATE SIMPLE": "UNITS LENGTH=A\nFIT_TO_TEMPLATE REFERENCE={pdb} TYPE=SIMPLE\n"
    "p: POSITION ATOM=3 NOPBC\nf: FIXEDATOM AT=1,2,3\nd: DISTANCE ATOMS=f,5 NOPBC\nt: TORSION ATOMS=1,2,3,4\n"
    "r: RMSD REFERENCE={weighted} TYPE=SIMPLE\nRESTRAINT ARG=p.x,p.z,d,t,r AT=1,2,3,1,0 KAPPA=1,2,3,4,5\n",
    "FIT_TO_TEMPLATE OPTIMAL": "WHOLEMOLECULES ENTITY0=1-8\nw: FIT_TO_TEMPLATE REFERENCE={weighted} TYPE=OPTIMAL\n"
    "p: POSITION ATOM=1 NOPBC\ne: DISTANCE ATOMS=1,8 COMPONENTS\nc: COM ATOMS=5-7\nq: POSITION ATOM=c NOPBC\n"
    "s: DISTANCE ATOMS=1,c SCALED_COMPONENTS\nf: FIXEDATOM AT=0.1,0.2,0.3\nd: DISTANCE ATOMS=f,5 NOPBC\n"
    "r: RMSD REFERENCE={weighted} TYPE=SIMPLE\n"
    "RESTRAINT ARG=p.x,p.z,e.y,q.x,d,r AT=1,2,3,1,0,0 KAPPA=1,2,3,4,5,6\n",
    "WRAPAROUND": "WHOLEMOLECULES ENTITY0=2-4\nWRAPAROUND ATOMS=5-8 AROUND=2-4 GROUPBY=2\nWRAPAROUND ATOMS=1 AROUND=2-4\n"
    "FIT_TO_TEMPLATE REFERENCE={three} TYPE=OPTIMAL NOPBC\np: POSITION ATOM=5 NOPBC\nd: DISTANCE ATOMS=2,8 NOPBC\n"
    "RESTRAINT ARG=p.x,p.y,p.z,d AT=1,2,3,1 KAPPA=1,2,3,4\n",
    "SORT and ERMSD": "UNITS LENGTH=A\nd: DISTANCE ATOMS=1,2\ne: DISTANCE ATOMS=3,5\nSORT ARG=e,d\n"
    "m: ERMSD REFERENCE={pdb} ATOMS=2,4,3,5,7,8\nDUMPDERIVATIVES ARG=m FILE=b.gro FMT=%12.6f\n"
    "RESTRAINT ARG=@5.1,@5.2,m AT=0,0,0.1 KAPPA=2,5,30\n",
    "ABMD": "UNITS ENERGY=kcal/mol\nt: TORSION ATOMS=1,2,3,4\nd: DISTANCE ATOMS=1,5\n"
    "a: ABMD ARG=t,d TO=2.5,0.1 KAPPA=3,400 MIN=1e-12,1e-12\n",
    "ABMD with NOISE": "e: DISTANCE ATOMS=2,5\nd: DISTANCE ATOMS=1,5\n"
    "a: ABMD ARG=e,d TO=30,20 KAPPA=3e-5,4e-5 MIN=500,200 NOISE=9,2 SEED=12,7\n"
    "b: ABMD ARG=d TO=9 MIN=1 KAPPA=4e-4 NOISE=0.01 SEED=0\n",
    "CELL below FIT_TO_TEMPLATE": "FIT_TO_TEMPLATE REFERENCE={weighted} TYPE=OPTIMAL\nc: CELL\nv: VOLUME\n"
    "RESTRAINT ARG=c.ay,c.bx,c.cz,v AT=0.2,0.3,1,2 KAPPA=1,2,3,4\n",
    "a flat reference and an atom twice": "r: RMSD REFERENCE={flat} TYPE=OPTIMAL\nFIT_TO_TEMPLATE REFERENCE={flat} TYPE=OPTIMAL\n"
    "p: POSITION ATOM=8\nRESTRAINT ARG=r,p.x,p.z AT=0,0,0 KAPPA=30,4,5\n",
    "DUMPATOMS": "UNITS LENGTH=A\nc: COM ATOMS=1-4\nf: FIXEDATOM AT=1,2,3\nDUMPATOMS ATOMS=2,c,8,f FILE=MORE PRECISION=5 STRIDE=2\n"
    "WHOLEMOLECULES ENTITY0=1-8\nFIT_TO_TEMPLATE REFERENCE={pdb} TYPE=OPTIMAL\nDUMPATOMS ATOMS=1-3 FILE=b.gro\n"
    "DUMPATOMS ATOMS=1-8 FILE=c.xyz UNITS=nm UPDATE_FROM=0.004\nd: DISTANCE ATOMS=1,2\n",
    "DUMPDERIVATIVES": "d: DISTANCE ATOMS=1,5\na: ANGLE ATOMS=2,3,7\nt: TORSION ATOMS=1,2,3,4\ng: GYRATION ATOMS=1-4 NOPBC\n"
    "v: VOLUME\ne: CONTACTMAP ATOMS1=1,2 ATOMS2=2,7 SWITCH={RATIONAL R_0=0.3} SUM\nk: COORDINATION GROUPA=1,2 GROUPB=5,8 R_0=0.3\n"
    "c: CUSTOM ARG=d,a FUNC=x*sin(y) PERIODIC=NO\nDUMPDERIVATIVES ARG=d FILE=MORE STRIDE=2\nDUMPDERIVATIVES ARG=a FILE=b.gro FMT=%12.6f\n"
    "DUMPDERIVATIVES ARG=t FILE=c.xyz FMT=%12.6f\nDUMPDERIVATIVES ARG=g,e,k FILE=e.xyz FMT=%12.6f\nDUMPDERIVATIVES ARG=c FILE=f.xyz FMT=%12.6f\n"
    "DUMPDERIVATIVES ARG=v FILE=v.xyz FMT=%12.6f\n",
    "DUMPDERIVATIVES of CELL": "UNITS LENGTH=A\nc: CELL\nd: DISTANCE ATOMS=1,2\nDUMPDERIVATIVES ARG=c.* FILE=c.xyz FMT=%12.6f\n"
    "PRINT ARG=c.* FILE=COLVAR FMT=%12.6f\n",
    "UNITS NATURAL": "UNITS NATURAL LENGTH=A ENERGY=kcal/mol\nd: DISTANCE ATOMS=1,5 NOPBC\n"
    "m: METAD ARG=d SIGMA=9 HEIGHT=1 PACE=2 BIASFACTOR=5 TEMP=1.5\n"
    "n: METAD ARG=d SIGMA=9 HEIGHT=1 PACE=2 BIASFACTOR=5 FILE=MORE\n",
    "STRIDE of biases": "d: DISTANCE ATOMS=1,5\nt: TORSION ATOMS=1,2,3,4\nu: UPPER_WALLS ARG=d AT=0.1 KAPPA=70 STRIDE=2\n"
    "l: LOWER_WALLS ARG=d,t AT=1,3 KAPPA=70,4 EXP=2,4 STRIDE=3\nr: RESTRAINT ARG=t AT=1 KAPPA=3 STRIDE=2\n"
    "b: BIASVALUE ARG=d STRIDE=4\ne: EXTERNAL ARG=t,d FILE={grid} STRIDE=3\n",
    "STRIDE of MOVINGRESTRAINT": "d: DISTANCE ATOMS=1,5\nt: TORSION ATOMS=1,2,3,4\n"
    "m: MOVINGRESTRAINT ARG=d,t STEP0=1 AT0=0,1 KAPPA0=3,4 STEP1=5 AT1=1,2 KAPPA1=30,2 STRIDE=2\n"
    "PRINT ARG=d,m.* STRIDE=4 FILE=COLVAR FMT=%12.6f\nPRINT ARG=m.bias,m.d_cntr STRIDE=2 FILE=MORE\n",
    "virtual atoms of virtual atoms": "c: COM ATOMS=1-3\ne: CENTER ATOMS=5,6 SET_MASS=30\nm: COM ATOMS=c,4,e\n"
    "n: CENTER ATOMS=m,e,7,1 WEIGHTS=1,2,3,0.5\nd: DISTANCE ATOMS=m,8\nt: TORSION ATOMS=n,c,8,2\ng: GROUP ATOMS=m,n\n"
    "k: COORDINATION GROUPA=g GROUPB=2,6 R_0=0.3\nRESTRAINT ARG=d,t,k AT=0,1,0 KAPPA=30,4,5\n",
    "DUMPFORCES and others": "UNITS LENGTH=A ENERGY=kcal/mol MASS=2 CHARGE=0.5\nd: DISTANCE ATOMS=1,5\nt: TORSION ATOMS=1,2,3,4\ne: CENTER ATOMS=7,8\n"
    "f: CUSTOM ARG=d,t FUNC=select(step(y),x^2.5,sin(y)/x)+atan2(x,y)*exp(-x/4)+min(x,y)+tanh(y)-sqrt(x)+log(x)*abs(cos(y)) PERIODIC=NO\n"
    "g: COMBINE ARG=f,d COEFFICIENTS=2,-1 POWERS=2,3 PARAMETERS=0.1,0.3 PERIODIC=NO\ns: SORT ARG=d,f\n"
    "m: METAD ARG=t SIGMA=0.3 HEIGHT=2 PACE=1 GRID_MIN=-pi GRID_MAX=pi GRID_BIN=60 FILE=MORE\n"
    "RESTRAINT ARG=g,s.1,d AT=0,1,3 KAPPA=0.01,2,3\nu: UPPER_WALLS ARG=d,t AT=1,0 KAPPA=2,3 EXP=3,2 STRIDE=2\n"
    "DUMPFORCES ARG=d,t,f,g,s.1,m.bias FILE=b.gro FMT=%12.6f\nDUMPPROJECTIONS ARG=d,t,g FILE=c.xyz FMT=%12.6f STRIDE=2\n"
    "DUMPDERIVATIVES ARG=f,g FILE=d.xyz FMT=%12.6f\nDUMPDERIVATIVES ARG=u.bias FILE=e.xyz FMT=%12.6f\nDUMPDERIVATIVES ARG=m.bias FILE=f.xyz FMT=%12.6f\n"
    "DUMPMASSCHARGE ATOMS=1-3,e FILE=g.xyz\nDUMPMASSCHARGE FILE=h.xyz ONLY_MASSES\n",
    "STRIDE of OPES": "d: DISTANCE ATOMS=1,5\no: OPES_METAD ARG=d PACE=2 BARRIER=20 TEMP=300 STRIDE=2 ADAPTIVE_SIGMA_STRIDE=3 FILE=MORE\n"
    "p: OPES_METAD_EXPLORE ARG=d PACE=3 BARRIER=20 TEMP=300 STRIDE=3 SIGMA=0.05\nPRINT ARG=d,o.*,p.bias STRIDE=2 FILE=COLVAR\n",
    "HISTOGRAM of DISTANCES": "d: DISTANCES GROUP=1-4 HISTOGRAM={GAUSSIAN NBINS=3 LOWER=0.1 UPPER=0.7 SMEAR=0.4}\n"
    "RESTRAINT ARG=d.* AT=1,2,3 KAPPA=3,2,1\nPRINT ARG=d.*,d.between-2 FILE=COLVAR\n",
    "FUNCPATHMSD": "".join(
        f"c{k}: CONTACTMAP ATOMS1=1,5 ATOMS2=2,6 ATOMS3=3,8 SWITCH={{RATIONAL R_0=0.3}} CMDIST REFERENCE1=0.{k} REFERENCE2=0.5 REFERENCE3=0.{9 - k}\n"
        for k in range(1, 5)
    ) + "p: FUNCPATHMSD ARG=c1,c2,c3,c4 LAMBDA=4\nDUMPDERIVATIVES ARG=p.s,p.z FILE=c.xyz FMT=%12.6f\n"
    "RESTRAINT ARG=p.s,p.z AT=1,0 KAPPA=30,40\n",
    "FUNCPATHMSD with a list": "".join(
        f"c{k}: CONTACTMAP ATOMS1=1,5 ATOMS2=2,6 ATOMS3=3,8 SWITCH={{RATIONAL R_0=0.3}} CMDIST REFERENCE1=0.{k} REFERENCE2=0.5 REFERENCE3=0.{9 - k}\n"
        for k in range(1, 6)
    ) + "p: FUNCPATHMSD ARG=c1,c2,c3,c4,c5 LAMBDA=4 NEIGH_SIZE=2 NEIGH_STRIDE=0.0061\n"
    "DUMPDERIVATIVES ARG=p.s,p.z FILE=c.xyz FMT=%12.6f\nf: CUSTOM ARG=p.s,c1 FUNC=x*y PERIODIC=NO\n"
    "RESTRAINT ARG=c1 AT=1 KAPPA=3\nPRINT ARG=p.*,f FILE=COLVAR FMT=%12.6f\n",
    "more variables than a CustomCVForce holds": MANY + "RESTRAINT ARG=f AT=1 KAPPA=0.3\n"
    "METAD ARG=f,d21 SIGMA=0.5,0.1 HEIGHT=2 PACE=1 GRID_MIN=-90,-9 GRID_MAX=90,9 GRID_BIN=200,200 FILE=MORE\n"
    "PRINT ARG=f,*.bias FILE=COLVAR FMT=%12.6f\n",
    "METAD RECT": "d: DISTANCE ATOMS=1,5\nm: METAD ARG=d SIGMA=0.1 HEIGHT=1 PACE=2 RECT=5,2 TEMP=300 FILE=MORE\n",
    "a bias of a bias": "t: TORSION ATOMS=1,2,3,4\nm: METAD ARG=t SIGMA=0.3 HEIGHT=2 PACE=1 GRID_MIN=-pi GRID_MAX=pi\n"
    "b: BIASVALUE ARG=m.bias\n",
}

# fmt: on


def frames_in(box, n=8, seed=2):
    """Whole molecules in any image, so that what OpenMM takes as it is, is."""
    rng = np.random.default_rng(seed)
    frames = random_frames(box, rng, n, torn=False)
    return frames if box is None else frames + rng.integers(-1, 2, size=(n, 1, 3)) @ box


def write_flat(path):
    """Atoms in a plane, one of them in two lines, and one that counts for the deviation only."""
    rows = ((1, 0, 0, 0, 1, 0), (2, 1, 0, 0, 1, 0), (3, 0, 1, 0, 0.5, 0), (3, 0, 1, 0, 0.5, 0))
    line = "ATOM  {:5d}  C   ALA     1    {:8.3f}{:8.3f}{:8.3f}{:6.2f}{:6.2f}\n"
    path.write_text("".join(line.format(*row) for row in (*rows, (8, 2, 3, 4, 0, 1))) + "END\n")
    return path


def write_grid(path):
    """A bias of a torsion t and a distance d."""
    t, d = np.linspace(-np.pi, np.pi, 30, endpoint=False), np.linspace(0, 3, 21)
    lines = ["#! FIELDS t d e.bias der_t der_d", "#! SET min_t -pi", "#! SET max_t pi"]
    lines += ["#! SET nbins_t 30", "#! SET periodic_t true", "#! SET min_d 0", "#! SET max_d 3"]
    lines += ["#! SET nbins_d 21", "#! SET periodic_d false"]
    for y in d:
        for x in t:
            bias, slopes = (
                3 + np.sin(x) * np.cos(y),
                (np.cos(x) * np.cos(y), -np.sin(x) * np.sin(y)),
            )
            lines.append(" ".join(f"{number:.9f}" for number in (x, y, bias, *slopes)))
    path.write_text("\n".join([*lines, ""]))
    return path


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", RUNS.values(), ids=RUNS.keys())
def test_forces_virials_and_files_are_plumeds(text, box, tmp_path):
    text = text if "FILE=COLVAR" in text else text + PRINTED
    files = reference_pdbs(tmp_path)
    lines = files["weighted"].read_text().splitlines()
    (tmp_path / "three.pdb").write_text("\n".join(sorted(lines[1:-1])[:3]) + "\nEND\n")
    files["flat"] = write_flat(tmp_path / "flat.pdb")
    files["three"], files["grid"] = tmp_path / "three.pdb", write_grid(tmp_path / "grid.dat")
    for name, path in files.items():
        text = text.replace(f"{{{name}}}", str(path))
    driven(text, tmp_path, frames_in(box), box, full_virial=True, masses=np.arange(8) + 1.0)
    more = ["MORE"] if "FILE=MORE" in text else []
    compare(tmp_path, "COLVAR", "forces", *more, tolerance=2e-6)
    for file in (path.name for path in (tmp_path / "kernel").glob("*.*") if path.suffix != ".pdb"):
        both = [
            (tmp_path / backend / file).read_text().splitlines() for backend in ("native", "kernel")
        ]
        for mine, plumeds in zip(*both, strict=True):
            assert same_words(mine, plumeds), (file, mine, plumeds)


def same_words(one, other):
    """Whether two lines have the same words, and numbers but for their last digit."""
    pairs = list(zip(one.split(), other.split(), strict=True))
    return all(a == b or abs(float(a) - float(b)) <= 2e-6 * max(1, abs(float(b))) for a, b in pairs)


def test_a_smooth_minimum_does_not_overflow(tmp_path):
    """PLUMED's exp(BETA / x) is infinite below x = BETA / 709.8, and its minimum 0 there."""
    text = "d: DISTANCES GROUP=1-3 MIN={BETA=500}\nPRINT ARG=d.min FILE=COLVAR FMT=%.9f\n"
    *_, action, _ = read_actions(read_statements(text, "<input>"))
    for frame in frames_in(None):
        gaps = frame[[0, 0, 1]] - frame[[1, 2, 2]]
        smallest = np.sort(np.sqrt((gaps * gaps).sum(-1)))
        ratio = np.exp(500 / smallest[1] - 500 / smallest[0])
        assert ratio < 1e-12 or np.isclose(smallest[0], smallest[1], rtol=0.1)
        found = action.value(frame)
        assert 0.9 * smallest[0] < found <= smallest[0] * (1 + 1e-12)


GRIDDED = (
    "t: TORSION ATOMS=1,3,4,6\nd: DISTANCE ATOMS=5,8\n{bias}"
    "PRINT ARG=t,d,{label}.bias FILE=COLVAR FMT=%12.8f\n"
)


@pytest.mark.parametrize("extra", ["", " SCALE=-2.5", " NOSPLINE"])
@pytest.mark.parametrize("box", [None, BOXES["triclinic"]], ids=["no box", "triclinic"])
def test_a_bias_from_a_grid_file_is_plumeds(box, extra, tmp_path):
    """A grid that METAD has written: with its label, for it is in the names of columns."""
    rng = np.random.default_rng(4)
    metad = (
        "m: METAD ARG=t,d SIGMA=0.5,0.1 HEIGHT=2 PACE=1 GRID_MIN=-pi,0 GRID_MAX=pi,4 "
        "GRID_BIN=30,60 GRID_WFILE=grid GRID_WSTRIDE=20 FILE=HILLS\n"
    )
    laid = random_frames(None, rng, 21)
    driven(GRIDDED.format(bias=metad, label="m"), tmp_path, laid)
    for backend in ("native", "kernel"):
        shutil.copy(tmp_path / "kernel" / "grid", tmp_path / backend / "read")
    external = f"m: EXTERNAL ARG=t,d FILE=read{extra}\n"
    frames = frames_in(box)
    driven(GRIDDED.format(bias=external, label="m"), tmp_path, frames, box, full_virial=True)
    compare(tmp_path, "COLVAR", tolerance=2e-8)
    if not extra.endswith("NOSPLINE"):  # of which PLUMED's forces are not the slope
        compare(tmp_path, "forces", tolerance=2e-6)


def test_a_run_stops_outside_the_grid_of_external_and_files_are_checked(tmp_path):
    rows = "".join(f"{0.1 + 0.1 * k:.2f} {k} 1\n" for k in range(4))
    head = "#! FIELDS d e.bias der_d\n#! SET min_d 0.1\n#! SET max_d 0.4\n#! SET nbins_d 4\n"
    (tmp_path / "grid").write_text(head + "#! SET periodic_d false\n" + rows)
    (tmp_path / "short").write_text(head + rows)
    (tmp_path / "turning").write_text(head + "#! SET periodic_d true\n" + rows)
    text = "d: DISTANCE ATOMS=1,2\ne: EXTERNAL ARG=d FILE={}\nPRINT ARG=d STRIDE=1000\n"
    for name, message in (
        ("nothing", "nothing"), ("short", "periodic_d"), ("turning", "periodic_d is true"),
    ):  # fmt: skip
        with pytest.raises(PlumedInputError, match=rf"<input>:2: .*{message}"):
            PlumedBias(text.format(name), directory=tmp_path)
    bias = PlumedBias(text.format("grid"), directory=tmp_path)
    system = make_system(None)
    bias.add_to(system)
    simulation = Simulation(app.Topology(), system, openmm.VerletIntegrator(0.001))
    positions = np.zeros((8, 3))
    positions[:, 0] = np.arange(8) * 0.3
    simulation.context.setPositions(positions)
    velocities = np.zeros((8, 3))
    velocities[1, 0] = 10.0  # nm/ps: it leaves the grid, and a step more of it, in 20 steps
    simulation.context.setVelocities(velocities)
    bias.attach(simulation)
    with pytest.raises(RuntimeError, match=r"EXTERNAL e: d = .* outside the grid"):
        simulation.step(40)
    assert simulation.currentStep <= 40
    bias.close()


def test_the_record_of_a_ratchet_is_plumeds(tmp_path):
    text = (
        "t: TORSION ATOMS=1,2,3,4\nd: DISTANCE ATOMS=1,5\na: ABMD ARG=t,d TO=2.5,0.1 KAPPA=3,400\n"
    )
    driven(text + PRINTED, tmp_path, frames_in(None, 40), forces=None)
    compare(tmp_path, "COLVAR", tolerance=2e-6)
    refused = PlumedInputError, "NOISE: natively with SEED="
    with pytest.raises(refused[0], match=refused[1]):
        read_actions(read_statements("d: DISTANCE ATOMS=1,5\nABMD ARG=d TO=1 KAPPA=1 NOISE=1", "x"))


def test_a_ratchet_goes_on_from_a_checkpoint_and_holds_in_a_run(tmp_path):
    """The same bitwise in one piece and in two, and never farther from the target than thermal."""
    text = "phi: TORSION ATOMS=5,7,9,15\na: ABMD ARG=phi TO=1.2 KAPPA=300\nPRINT ARG=* FILE=COLVAR STRIDE=5\n"

    def started(folder, checkpoint=None):
        molecule = alanine_dipeptide("C7eq")
        bias = PlumedBias(text, directory=folder)
        assert bias.backend == "native"
        bias.add_to(molecule.system)
        integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
        integrator.setRandomNumberSeed(3)
        platform = openmm.Platform.getPlatformByName("Reference")
        simulation = Simulation(molecule.topology, molecule.system, integrator, platform)
        simulation.context.setPositions(molecule.positions)
        simulation.context.setVelocitiesToTemperature(300, 5)
        bias.attach(simulation, checkpoint=checkpoint)
        return bias, simulation

    bias, simulation = started(tmp_path / "one")
    simulation.step(100)
    bias.save_checkpoint(tmp_path / "saved")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    simulation.step(100)
    bias.close()
    bias, simulation = started(tmp_path / "two", tmp_path / "saved")
    simulation.step(100)
    bias.close()
    one, two = ((tmp_path / name / "COLVAR").read_text() for name in ("one", "two"))
    assert one == two
    least = read_fields(tmp_path / "one" / "COLVAR").columns["a.phi_min"]
    assert np.all(np.diff(least) <= 0)
    assert least[-1] < least[0]


WRONG = {
    "d: TORSION ATOMS=1,2,3,4\nSORT ARG=d": "d: a periodic value can not be sorted",
    "ERMSD REFERENCE={pdb} ATOMS=2-6": "5 atoms; expected three of each base",
    "ERMSD REFERENCE={pdb} ATOMS=1-6": "has no atom 1, which ATOMS names",
    "ERMSD REFERENCE={pdb} ATOMS=2-7 PAIRS=1,2,1": "3 numbers; expected two for each pair",
    "ERMSD REFERENCE={pdb} ATOMS=2-7 PAIRS=1,3": "not one of the 2 bases",
    "ERMSD REFERENCE={pdb} ATOMS=2-7 CUTOFF=0": "CUTOFF: must be positive",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_can_not_be_sorted_or_compared_is_refused(line, tmp_path):
    text = line.format(**reference_pdbs(tmp_path)) + "\n"
    with pytest.raises(PlumedInputError, match=WRONG[line]):
        read_actions(read_statements(text, "<input>"), 8, tmp_path)


def slopes_in_openmm(expression, at):
    """Derivatives of an expression in x, y and z, from the force on one particle."""
    system = openmm.System()
    system.addParticle(1.0)
    force = openmm.CustomExternalForce(expression)
    force.addParticle(0)
    system.addForce(force)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions([at])
    forces = context.getState(forces=True).getForces(asNumpy=True)._value
    return (-forces[0]).tolist()


def test_of_equal_values_the_first_comes_first():
    """As in PLUMED: whichever is first has the derivative. So in OpenMM's expression."""
    text = (
        "d: DISTANCE ATOMS=1,2\ne: DISTANCE ATOMS=1,3\nf: DISTANCE ATOMS=1,4\ns: SORT ARG=d,e,f\n"
    )
    *_, action = read_actions(read_statements(text, "<input>"))
    for values in ([2.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 2.0, 2.0], [3.0, 2.0, 1.0]):
        x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        places = sorted(range(3), key=lambda i, values=values: (values[i], i))
        for k, output in enumerate(action.values(list(x))):
            [slope] = torch.autograd.grad(output, x, retain_graph=True)
            assert float(output.detach()) == values[places[k]]
            assert slope.tolist() == np.eye(3)[places[k]].tolist()
            assert slopes_in_openmm(action.expression(["x", "y", "z"], k), values) == slope.tolist()


BINARY = (
    "UNITS LENGTH=A\nc: COM ATOMS=1-4\nf: FIXEDATOM AT=1,-2,3\ng: FIXEDATOM AT=9,2,3\n"
    "DUMPATOMS ATOMS=1-8,c,f,g FILE=a.xtc STRIDE=2\nDUMPATOMS ATOMS=1-8,c,f,g FILE=b.dat TYPE=xtc "
    "PRECISION=5 RESTART=YES\nDUMPATOMS ATOMS=1-3 FILE=c.xtc\nDUMPATOMS ATOMS=1-8,c FILE=d.trr "
    "UNITS=nm\nDUMPATOMS ATOMS=2,c FILE=e.trr UPDATE_FROM=0.004\n"
)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
def test_binary_trajectories_are_plumeds_to_the_last_byte(box, tmp_path):
    """Ten atoms or more are packed in xtc files, fewer are not. A second run appends, or not."""
    for seed in (1, 2):
        frames = frames_in(box, 5, seed)
        driven(BINARY, tmp_path, frames, box, masses=np.arange(8) + 1.0)
    names = ["a.xtc", "b.dat", "c.xtc", "d.trr", "e.trr", "bck.0.a.xtc", "bck.0.d.trr"]
    for name in names:
        mine, plumeds = ((tmp_path / b / name).read_bytes() for b in ("native", "kernel"))
        assert mine == plumeds, name
    with XTCFile(str(tmp_path / "native" / "a.xtc")) as file:
        found = [(frame.step, frame.x[:8]) for frame in file]
    assert [step for step, _ in found] == [0, 2, 4]
    for (_, points), frame in zip(found, frames[::2], strict=True):
        np.testing.assert_allclose(points, frame, atol=0.6e-3)  # three digits, in single precision


TOO_MUCH = {
    "DUMPATOMS ATOMS=1-8 FILE=a.xtc UNITS=A": "xtc files are in nm",
    "DUMPATOMS ATOMS=1-8 FILE=a.trr UNITS=A": "trr files are in nm",
    "DUMPATOMS ATOMS=1-8 FILE=a.gz TYPE=xtc": "xtc files are not compressed",
}


@pytest.mark.parametrize("line", TOO_MUCH)
def test_binary_trajectories_that_would_be_others_than_plumeds_are_refused(line):
    with pytest.raises(PlumedInputError, match=TOO_MUCH[line]):
        read_actions(read_statements(f"{line}\n", "<input>"), 8)


def test_positions_too_large_for_their_digits_are_refused(tmp_path):
    """PLUMED goes on, with half a frame in the file."""
    text = "g: FIXEDATOM AT=30,0,0\nDUMPATOMS ATOMS=1-8,g,g FILE=a.xtc PRECISION=8\n"
    with pytest.raises(ValueError, match=r"30\.0 nm with 8 digits is too large for an xtc file"):
        driven(text, tmp_path, frames_in(None, 1))
