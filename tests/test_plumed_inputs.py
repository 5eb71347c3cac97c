"""Every file of plumed_inputs/ says what it is and runs, natively and by real PLUMED."""

import re
from pathlib import Path
from string import Template

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import PHI_ATOMS, PSI_ATOMS, alanine_dipeptide, torsion
from tests.cases import ROOT

INPUTS = sorted((ROOT / "plumed_inputs").glob("*.dat"))
CENTRE = {"phi": "-1.2", "psi": "1.0"}


def test_there_are_inputs() -> None:
    assert len(INPUTS) >= 6


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.stem)
def test_header_says_system_atoms_units_reference(path: Path) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)+_(restraint|metad|umbrella|walls)", path.stem)
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    keys = [match[1] for line in header if (match := re.match(r"# (\w+): +\S", line))]
    assert keys == ["System", "Atoms", "Units", "Reference"]


@pytest.mark.parametrize("backend", ["native", pytest.param("kernel", marks=pytest.mark.plumed)])
@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.stem)
def test_input_runs_ten_steps(path: Path, backend: str, tmp_path: Path) -> None:
    molecule = alanine_dipeptide("C7eq")
    text = Template(path.read_text()).substitute(CENTRE)
    bias = PlumedBias(
        text, molecule.topology, temperature=300.0, backend=backend, directory=tmp_path
    )
    bias.add_to(molecule.system)
    simulation = app.Simulation(
        molecule.topology,
        molecule.system,
        openmm.LangevinMiddleIntegrator(300, 1, 0.002),
        openmm.Platform.getPlatformByName("Reference"),
    )
    simulation.context.setPositions(molecule.positions)
    bias.attach(simulation)
    simulation.step(10)
    state = simulation.context.getState(positions=True)
    cvs, energy = bias.values(simulation, state)
    assert np.isfinite([*cvs, energy]).all()
    assert (tmp_path / "COLVAR").read_text().startswith("#! FIELDS time ")
    positions = state.getPositions(asNumpy=True)._value
    for variable, value in zip(bias.variables, cvs, strict=True):
        if variable.name in ("phi", "psi"):
            atoms = {"phi": PHI_ATOMS, "psi": PSI_ATOMS}[variable.name]
            assert value == pytest.approx(torsion(positions, atoms), abs=1e-6)
