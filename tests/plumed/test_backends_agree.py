"""One input, two backends: the native one against real PLUMED, action by action.

Each case of `CASES` is one action of the input language with its variants. Energies and forces
agree within 1e-6 (kJ/mol, kJ/mol/nm) relative to 1 + magnitude on random frames, which are others
in each box and with each treatment of images, 75 of an action in all, on the Reference platform.
benchmarks/plumed_backends.py prints the same table.
"""

import functools
import logging

import numpy as np
import openmm
import pytest
from openmm import app

from benchmarks.eight_atoms import (
    BOXES,
    TOLERANCE,
    deviation,
    made,
    make_system,
    random_frames,
    reference_pdbs,
)
from benchmarks.plumed_cases import CASES, GRID_2D, MOLECULES
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.eight_atoms import compare_tables, header

pytestmark = pytest.mark.plumed
N_FRAMES = 15


def treatments(box):
    """Seed of the frames and keyword of each treatment of images that there is in a box."""
    if box is None:
        return [(0, "")]
    first = 1 + 2 * int(np.any(box != np.diag(np.diag(box))))
    return [(first, ""), (first + 1, " NOPBC")]


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", CASES.values(), ids=CASES.keys())
def test_energies_and_forces_are_plumeds(text, box, tmp_path):
    for seed, pbc in treatments(box):
        found = deviation(text.format(pbc=pbc), box, tmp_path / pbc.strip(), seed, n=N_FRAMES)
        assert max(found.values, found.energy, found.forces) < TOLERANCE, found


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", MOLECULES.values(), ids=MOLECULES.keys())
def test_groups_of_one_molecule_are_plumeds(text, box, tmp_path):
    files = reference_pdbs(tmp_path)
    for seed, pbc in treatments(box):
        made_text = text.format(pbc=pbc, **files)
        folder = tmp_path / pbc.strip()
        found = deviation(made_text, box, folder, seed, bonded=True, n=N_FRAMES)
        assert max(found.values, found.energy, found.forces) < TOLERANCE, found


@pytest.mark.parametrize("text", MOLECULES.values(), ids=MOLECULES.keys())
def test_groups_of_several_molecules_in_a_box_are_plumeds(text, tmp_path):
    text = text.format(pbc="", **reference_pdbs(tmp_path))
    found = deviation(text, BOXES["triclinic"], tmp_path, n=N_FRAMES)
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
