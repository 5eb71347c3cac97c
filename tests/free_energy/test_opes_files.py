"""Bias and free energy from the files of OPES, against the bias that wrote them and real PLUMED."""

import numpy as np
import pytest

from openmm_cgan.free_energy.opes import opes_bias, opes_free_energy, read_opes
from openmm_cgan.plumed.files.fields import read_fields, read_tables
from openmm_cgan.plumed.files.tables import FieldTable
from tests.cases.biased_runs import biased_alanine

INPUT = (
    "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
    "o: {kind} ARG=phi,psi SIGMA=0.3,0.3 PACE=20 BARRIER=30 STATE_WFILE=STATE STATE_WSTRIDE=200 "
    "STORE_STATES\nPRINT ARG=phi,psi,o.bias STRIDE=20 FILE=COLVAR FMT=%14.8f\n"
)


def run(kind, folder, backend="native"):
    bias, simulation = biased_alanine(INPUT.format(kind=kind), folder, backend)
    simulation.step(2000)
    bias.close()
    return bias


@pytest.mark.parametrize("kind", ["OPES_METAD", "OPES_METAD_EXPLORE"])
def test_the_bias_read_is_the_bias_of_the_run(kind, tmp_path):
    bias = run(kind, tmp_path)
    points = np.random.default_rng(0).uniform(-np.pi, np.pi, (500, 2))
    expected = bias.bias_of_cvs(points)
    assert np.ptp(expected) > 5
    states = read_tables(tmp_path / "STATE")
    assert len(states) == 10
    for table in (states[-1], read_fields(tmp_path / "KERNELS")):
        np.testing.assert_allclose(opes_bias(table, points, 300.0), expected, atol=1e-6)
        factor = float(table.constants["biasfactor"])
        scale = factor / (factor - 1)  # a well-tempered bias is -(1 - 1/factor) F
        free_energy = opes_free_energy(table, points, 300.0)
        np.testing.assert_allclose(free_energy, -scale * expected, atol=1e-5)


@pytest.mark.plumed
def test_the_bias_read_is_the_one_that_plumed_printed(tmp_path):
    run("OPES_METAD", tmp_path, "kernel")
    colvar = read_fields(tmp_path / "COLVAR").columns
    points = np.stack([colvar["phi"], colvar["psi"]], axis=-1)
    kernels = read_fields(tmp_path / "KERNELS")
    for row in (20, 60, 100):  # the bias there is that of the kernels before
        before = FieldTable(
            {name: column[: row - 1] for name, column in kernels.columns.items()},
            kernels.constants,
        )
        found = opes_bias(before, points[row : row + 1], 300.0)
        np.testing.assert_allclose(found, colvar["o.bias"][row : row + 1], atol=1e-5)


def test_another_file_or_other_cvs_are_refused(tmp_path):
    run("OPES_METAD", tmp_path)
    with pytest.raises(ValueError, match="no STATE or KERNELS"):
        read_opes(read_fields(tmp_path / "COLVAR"))
    with pytest.raises(ValueError, match="expected"):
        opes_bias(read_fields(tmp_path / "KERNELS"), np.zeros((3, 1)), 300.0)
