"""PRINT with _ROTATE, rows of one value at a time, against real PLUMED."""

import functools

import openmm
import pytest
from openmm import app

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.driver_runs import driven, walk

plumed = pytest.mark.plumed
VARIABLES = "t: TORSION ATOMS=1,3,4,6\nd: DISTANCE ATOMS=5,8\n"


@plumed
@pytest.mark.parametrize("rotate", [1, 2, 3])
def test_a_print_that_rotates_is_plumeds(rotate, tmp_path):
    text = f"{VARIABLES}u: TORSION ATOMS=2,4,5,7\nr: RESTRAINT ARG=t AT=0 KAPPA=1\n"
    text += f"PRINT ARG=t,d,u,r.bias STRIDE=2 _ROTATE={rotate} FILE=COLVAR\n"
    driven(text, tmp_path, walk(40))
    ours, plumeds = ((tmp_path / b / "COLVAR").read_text() for b in ("native", "kernel"))
    assert ours == plumeds


def test_rows_that_rotate_go_on_from_a_checkpoint(tmp_path):
    text = "phi: TORSION ATOMS=5,7,9,15\nd: DISTANCE ATOMS=5,7\n"
    text += "PRINT ARG=phi,d STRIDE=2 _ROTATE=3 FILE=COLVAR\n"

    def run(folder, parts):
        for i, n_steps in enumerate(parts):
            molecule = alanine_dipeptide("C7eq")
            bias = PlumedBias(text, directory=tmp_path / folder)
            bias.add_to(molecule.system)
            make = functools.partial(app.Simulation, molecule.topology, molecule.system)
            simulation = make(
                openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
            )
            simulation.context.setPositions(molecule.positions)
            bias.attach(simulation, checkpoint=tmp_path / "run.chk" if i else None)
            simulation.step(n_steps)
            bias.save_checkpoint(tmp_path / "run.chk")
            bias.close()
        return (tmp_path / folder / "COLVAR").read_text()

    assert run("one", [40]) == run("two", [18, 22])
