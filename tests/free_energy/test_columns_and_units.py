"""HILLS, KERNELS and STATE of CVs with any names, and in any units, against the runs' own bias."""

import logging

import numpy as np
import pytest

from openmm_cgan.free_energy.growth import metad_log_weights
from openmm_cgan.free_energy.hills import (
    hill_variables,
    hills_bias,
    hills_free_energy,
)
from openmm_cgan.free_energy.opes import opes_bias, read_opes
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.files.fields import read_fields, read_tables
from openmm_cgan.plumed.files.tables import FieldTable, places_of
from tests.cases.biased_runs import biased_alanine

CVS = "{0}: TORSION ATOMS=5,7,9,15\n{1}: TORSION ATOMS=7,9,15,17\n"
METAD = CVS + "m: METAD ARG={0},{1} SIGMA=0.3,0.2 HEIGHT=1.2 PACE=20 BIASFACTOR=8\n"
GRID = METAD[:-1] + " GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=100,100\n"
ADAPTIVE = METAD.replace("SIGMA=0.3,0.2", "SIGMA=10 ADAPTIVE=DIFF")
OPES = CVS + "o: OPES_METAD ARG={0},{1} SIGMA=0.3,0.2 PACE=20 BARRIER=30 STATE_WFILE=STATE "
OPES += "STATE_WSTRIDE=200\n"
NAMES = [
    ("sigma_1", "height"),
    ("x", "sigma_x"),
    ("sigma_x", "x"),
    ("time", "biasf"),
    ("clock", "logweight"),
    ("sigma_x_x", "sigma_y_y"),
]
POINTS = np.random.default_rng(0).uniform(-np.pi, np.pi, (200, 2))


def run(text, folder, steps=400, backend="native", **how):
    bias, simulation = biased_alanine(text, folder, backend, **how)
    simulation.step(steps)
    bias.close()
    return bias


@pytest.mark.parametrize("names", NAMES, ids="-".join)
def test_hills_of_cvs_with_any_names(names, tmp_path):
    expected = run(METAD.format(*names), tmp_path).bias_of_cvs(POINTS)
    assert np.ptp(expected) > 1.0
    hills = read_fields(tmp_path / "HILLS")
    assert hill_variables(hills) == list(names)
    np.testing.assert_allclose(hills_bias(hills, POINTS, UnitSystem()), expected, atol=1e-6)


# columns are found before a grid is filled: its names are those of the sum
@pytest.mark.parametrize(
    ("text", "names"),
    [(text, names) for text in (METAD, ADAPTIVE) for names in NAMES] + [(GRID, NAMES[0])],
)
def test_a_restart_reads_the_hills_of_cvs_with_any_names(text, names, tmp_path):
    expected = run(text.format(*names), tmp_path).bias_of_cvs(POINTS)
    assert np.ptp(expected) > 0.5
    again, _ = biased_alanine(text.format(*names), tmp_path, restart=True)
    # as far as the digits of the file go
    np.testing.assert_allclose(again.bias_of_cvs(POINTS), expected, atol=1e-5)


@pytest.mark.parametrize("names", NAMES, ids="-".join)
def test_kernels_and_states_of_cvs_with_any_names(names, tmp_path):
    text = OPES.format(*names)
    expected = run(text, tmp_path).bias_of_cvs(POINTS)
    for table in (read_tables(tmp_path / "STATE")[-1], read_fields(tmp_path / "KERNELS")):
        assert read_opes(table).names == list(names)
        np.testing.assert_allclose(opes_bias(table, POINTS, 300.0), expected, atol=1e-5)
    norms = [read_opes(t).norm for t in (table, read_tables(tmp_path / "STATE")[-1])]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    for source in ("", " STATE_RFILE=STATE"):
        again, _ = biased_alanine(text[:-1] + source + "\n", tmp_path, restart=True)
        np.testing.assert_allclose(again.bias_of_cvs(POINTS), expected, atol=1e-4)


def test_a_column_that_is_missing_is_named(tmp_path):
    run(METAD.format("phi", "psi"), tmp_path)
    with pytest.raises(ValueError, match="no column theta, sigma_theta; its columns are time, phi"):
        biased_alanine(METAD.format("phi", "theta"), tmp_path, restart=True)
    with pytest.raises(ValueError, match="no column x"):
        places_of(["time", "x"], ["x", "x"])


UNITS = "UNITS ENERGY=kcal/mol TIME=fs\n"


@pytest.mark.parametrize("backend", ["native", pytest.param("kernel", marks=pytest.mark.plumed)])
def test_hills_in_the_units_of_their_input(backend, tmp_path):
    text = UNITS + METAD.format("phi", "psi") + "PRINT ARG=phi,psi,m.bias STRIDE=20 FILE=COLVAR\n"
    run(text, tmp_path, 610, backend)
    colvar = read_fields(tmp_path / "COLVAR").columns
    hills = read_fields(tmp_path / "HILLS")
    row = len(colvar["phi"]) - 1  # the bias there is that of the hills before
    before = FieldTable.from_values(hills.fields, hills.constants, hills.values[: row - 1])
    point = np.array([[colvar["phi"][row], colvar["psi"][row]]])
    expected = 4.184 * colvar["m.bias"][row]
    assert expected > 4.0
    (tmp_path / "plumed.dat").write_text(text)
    for units in (text, tmp_path / "plumed.dat", UnitSystem(energy=4.184)):
        found = hills_bias(before, point, units)
        np.testing.assert_allclose(found, expected, rtol=2e-4)
        scaled = hills_free_energy(before, point, units)
        np.testing.assert_allclose(scaled, -found * 8.0 / 7.0)


def test_log_weights_do_not_depend_on_the_units_of_the_file():
    rng = np.random.default_rng(1)
    n, fields = 30, ("time", "s", "sigma_s", "height", "biasf")
    values = np.stack(
        [np.arange(1.0, n + 1), rng.uniform(-3, 3, n), np.full(n, 0.3), rng.uniform(0.5, 1.5, n),
         np.full(n, 8.0)], axis=1,
    )  # fmt: skip
    constants = {"min_s": "-pi", "max_s": "pi"}
    times, bias = rng.uniform(0, n + 2, 100), rng.uniform(0, 10, 100)
    s = rng.uniform(-3, 3, (100, 1))

    def weights(units, scale):
        columns = dict(zip(fields, (values * scale).T, strict=True))
        table = FieldTable(columns, constants, fields, values * scale)
        return metad_log_weights(times, bias, s, table, 300.0, units)

    ours = weights("UNITS ENERGY=kj/mol\n", np.ones(5))
    theirs = weights(UNITS, np.array([1000.0, 1.0, 1.0, 1 / 4.184, 1.0]))
    np.testing.assert_allclose(theirs, ours, atol=1e-9)


def test_units_that_are_not_said_are_warned_of(tmp_path, caplog):
    run(METAD.format("phi", "psi"), tmp_path, 100)
    hills = read_fields(tmp_path / "HILLS")
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        quiet = hills_bias(hills, POINTS, "phi: TORSION ATOMS=5,7,9,15\n")
        assert not caplog.records
        np.testing.assert_array_equal(hills_bias(hills, POINTS), quiet)
    assert "does not say its units" in caplog.text
