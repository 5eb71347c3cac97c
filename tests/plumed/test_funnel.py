"""FUNNEL_PS and FUNNEL, which the libplumed at hand lacks, against what it has in their place.

FUNNEL_PS is FIT_TO_TEMPLATE with the position of the ligand below it; FUNNEL, EXTERNAL of its file.
"""

import numpy as np
import openmm
import pytest
import torch

from benchmarks.eight_atoms import BOXES, make_system, random_frames
from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError, read_statements
from tests.cases.driver_runs import compare

A, B = np.array([0.2, 0.1, 0.4]), np.array([0.9, 1.0, 0.3])
POINTS = ",".join(map(str, (*A, *B)))
MASSES = np.arange(8) + 1.0


def write_reference(path):
    """Atoms 1 to 5, with weights that FUNNEL_PS does not look at."""
    [frame] = random_frames(None, np.random.default_rng(9), 1)
    line = "ATOM  {:5d}  C   MOL A   1    {:8.3f}{:8.3f}{:8.3f}  1.00{:6.2f}\n"
    rows = (line.format(i + 1, *(10 * frame[i]), 0.3 * i) for i in range(5))
    path.write_text("".join(rows) + "END\n")


def place_by_plumed():
    """What FUNNEL_PS gives, from other actions of PLUMED's."""
    axis = (B - A) / np.linalg.norm(B - A)
    along = "+".join(
        f"({n!r})*({c}-({a!r}))" for c, n, a in zip("xyz", axis.tolist(), A.tolist(), strict=True)
    )
    square = "+".join(f"({c}-({a!r}))^2" for c, a in zip("xyz", A.tolist(), strict=True))
    return (
        "WHOLEMOLECULES ENTITY0=1-5,3,6\nWHOLEMOLECULES ENTITY0=6-8\n"
        "FIT_TO_TEMPLATE REFERENCE=r.pdb TYPE=OPTIMAL\nl: COM ATOMS=6-8 NOPBC\n"
        f"p: POSITION ATOM=l NOPBC\nlp: CUSTOM ARG=p.x,p.y,p.z FUNC={along} PERIODIC=NO\n"
        f"s: CUSTOM ARG=p.x,p.y,p.z FUNC={square} PERIODIC=NO\n"
        "ld: CUSTOM ARG=s,lp FUNC=sqrt(x-y*y) PERIODIC=NO\n"
        "RESTRAINT ARG=lp,ld AT=0.3,0.1 KAPPA=20,30\nPRINT ARG=lp,ld FILE=COLVAR\n"
    )


def driven(texts, folder, frames, box):
    for backend, text in texts.items():
        (folder / backend).mkdir(exist_ok=True)
        write_reference(folder / backend / "r.pdb")
        settings = DriverSettings(
            kt=2.5, forces="forces", forces_format="%14.7f", backend=backend, masses=MASSES,
            directory=folder / backend, full_virial=True,
        )  # fmt: skip
        run_driver(text, iter([Frame(x, box) for x in frames]), settings)


@pytest.mark.plumed
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
def test_place_in_a_funnel_is_that_of_other_actions(box, tmp_path):
    frames = random_frames(box, np.random.default_rng(3), 6)
    text = (
        f"l: COM ATOMS=6-8\nf: FUNNEL_PS REFERENCE=r.pdb LIGAND=l ANCHOR=3 POINTS={POINTS}\n"
        "RESTRAINT ARG=f.lp,f.ld AT=0.3,0.1 KAPPA=20,30\nPRINT ARG=f.lp,f.ld FILE=COLVAR\n"
    )
    driven({"native": text, "kernel": place_by_plumed()}, tmp_path, frames, box)
    compare(tmp_path, "forces")
    ours, plumeds = (read_fields(tmp_path / b / "COLVAR").columns for b in ("native", "kernel"))
    for name in ("lp", "ld"):
        np.testing.assert_allclose(ours[f"f.{name}"], plumeds[name], atol=2e-6)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
def test_gradients_of_the_torch_values_are_the_forces(box, tmp_path):
    write_reference(tmp_path / "r.pdb")
    text = (
        f"l: CENTER ATOMS=6-8\nf: FUNNEL_PS REFERENCE={tmp_path}/r.pdb LIGAND=l ANCHOR=8 "
        f"POINTS={POINTS}\nRESTRAINT ARG=f.lp,f.ld AT=0.3,0.1 KAPPA=20,30\n"
    )
    bias, system = PlumedBias(text, backend="native"), make_system(box)
    bias.add_to(system)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    frames = random_frames(box, np.random.default_rng(7), 3)
    x = torch.tensor(frames, requires_grad=True)
    edges = None if box is None else torch.tensor(box).expand(3, 3, 3)
    energy = bias._engine.total_bias(bias._engine.values(x, edges))
    (gradient,) = torch.autograd.grad(energy.sum(), x)
    for frame, slope in zip(frames, gradient, strict=True):
        context.setPositions(frame)
        state = context.getState(forces=True, groups=bias.force_groups())
        forces = state.getForces(asNumpy=True)._value
        scale = 1 + np.abs(forces).max()
        np.testing.assert_allclose(forces / scale, -slope.numpy() / scale, atol=1e-7)


PLACES = "d: DISTANCE ATOMS=1,2\ns: COMBINE ARG=d COEFFICIENTS=2 PARAMETERS=0.6 PERIODIC=NO\n"
PLACES += "z: DISTANCE ATOMS=3,4\n"
WALL = "ARG=s,z ZCC=0.6 RCYL=0.1 MINS=-1.2 MAXS=2 KAPPA=350 NBINS=40 NBINZ=30 FILE=BIAS"
SHAPES = {
    "cone": "ALPHA=0.55",
    "sphere": "SPHERE SAFETY=0.6 SLOPE=0.7",
    "without interpolation": "ALPHA=1 NOSPLINE SCALE=0.5",
}


@pytest.mark.plumed
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_funnel_is_what_plumed_makes_of_its_file(shape, tmp_path):
    rest = " ".join(w for w in shape.split() if w.startswith(("NOSPLINE", "SCALE")))
    given = {
        "native": f"f: FUNNEL {WALL} {shape}\n",
        "kernel": f"f: EXTERNAL ARG=s,z FILE=../native/BIAS {rest}\n",
    }
    ending = "PRINT ARG=s,z,f.bias FILE=COLVAR\n"
    rng = np.random.default_rng(2)
    frames = np.zeros((12, 8, 3))
    frames[:, 1, 0], frames[:, 3, 1] = rng.uniform(0.1, 1.2, 12), rng.uniform(0.02, 0.55, 12)
    texts = {backend: PLACES + line + ending for backend, line in given.items()}
    driven(texts, tmp_path, frames, None)
    compare(tmp_path, "COLVAR", "forces")
    assert np.any(read_fields(tmp_path / "native" / "COLVAR").columns["f.bias"] > 1)
    begun = (tmp_path / "native" / "BIAS").read_text()
    driven({"native": texts["native"]}, tmp_path, frames, None)  # the file is there now
    assert (tmp_path / "native" / "BIAS").read_text() == begun
    assert (tmp_path / "native" / "COLVAR").read_text() == (tmp_path / "kernel/COLVAR").read_text()


def test_nodes_of_a_funnel_are_its_walls(tmp_path):
    """By the formulas of doi 10.1073/pnas.1303186110, node by node."""
    text = PLACES + f"f: FUNNEL {WALL} ALPHA=0.55\n"
    action = read_actions(read_statements(text), folder=tmp_path)[-1]
    (tmp_path / "written").write_text(action.text)
    table = read_fields(tmp_path / "written")
    for s, z, wall, along, across in table.values:
        radius = 0.1 + (max(0.6 - s, 0.0)) * np.tan(0.55)
        deep = max(z - radius, 0.0)
        steep = np.tan(0.55) if s <= 0.6 else 0.0
        expected = 175 * deep**2, -350 * deep * steep, -350 * deep
        np.testing.assert_allclose((wall, along, across), expected, atol=4e-4)  # 6 decimals of s, z
    assert len(table.values) == 41 * 31
    assert table.constants["nbins_s"] == "40.000000"


WRONG = {
    f"f: FUNNEL_PS REFERENCE=r.pdb LIGAND=6,7 ANCHOR=3 POINTS={POINTS}": "LIGAND",
    "f: FUNNEL_PS REFERENCE=r.pdb LIGAND=6 ANCHOR=3 POINTS=1,2,3": "POINTS",
    f"f: FUNNEL {WALL.replace('NBINS=40', 'NBINS=0')}": "at least two bins",
    f"f: FUNNEL {WALL.replace('ARG=s,z', 'ARG=s')}": "of two values",
    f"f: FUNNEL {WALL.replace('MAXS=2', 'MAXS=-2')}": "goes from",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_with_a_funnel_is_said(line, tmp_path):
    write_reference(tmp_path / "r.pdb")
    with pytest.raises(PlumedInputError, match=WRONG[line]):
        read_actions(read_statements(PLACES + line + "\n"), folder=tmp_path)
    assert not (tmp_path / "BIAS").exists()
