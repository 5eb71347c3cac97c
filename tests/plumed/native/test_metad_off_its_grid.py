"""A METAD whose value leaves the grid: no force there, PLUMED's error where it is asked for."""

import logging

import numpy as np
import openmm
import pytest
from openmm import unit

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame

GRIDS = {
    "d": "ARG=d SIGMA=0.05 GRID_MIN=0.2 GRID_MAX=0.62",
    "nodes": "ARG=d SIGMA=0.05 GRID_MIN=0.2 GRID_MAX=0.62 GRID_NOSPLINE",
    "d,t": "ARG=d,t SIGMA=0.05,0.3 GRID_MIN=0.2,-pi GRID_MAX=0.62,pi",
    "d,e": "ARG=d,e SIGMA=0.05,0.05 GRID_MIN=0.2,0.1 GRID_MAX=0.62,0.9",
}
VALUES = "d: DISTANCE ATOMS=1,2\ne: DISTANCE ATOMS=2,3\nt: TORSION ATOMS=1,2,3,4\n"


def frame(distance):
    """Four atoms, the first two at a distance [nm]."""
    x = np.array([[0, 0, 0], [1, 0, 0], [1, 0.5, 0], [1.2, 0.6, 0.4]], dtype=float)
    x[0, 0] = 1 - distance
    return x


def hills(grid, folder):
    """A HILLS file with one hill at d = 0.60."""
    names = GRIDS[grid].split()[0].removeprefix("ARG=").split(",")
    centre = {"d": "0.60", "e": "0.5", "t": "-2.0"}
    width = {"d": "0.05", "e": "0.05", "t": "0.3"}
    sigmas = [f"sigma_{name}" for name in names]
    lines = [f"#! FIELDS time {' '.join(names + sigmas)} height biasf", "#! SET multivariate false"]
    lines.append("#! SET kerneltype stretched-gaussian")
    lines += ["#! SET min_t -pi", "#! SET max_t pi"] if "t" in names else []
    row = ["1", *(centre[n] for n in names), *(width[n] for n in names), "20", "-1"]
    (folder / "HILLS").write_text("\n".join([*lines, " ".join(row), ""]))


def text_of(grid):
    return f"RESTART\n{VALUES}m: METAD {GRIDS[grid]} HEIGHT=20 PACE=400\n"


@pytest.mark.parametrize("grid", GRIDS)
def test_no_force_acts_off_the_grid(grid, tmp_path, caplog):
    hills(grid, tmp_path)
    bias = PlumedBias(text_of(grid), directory=tmp_path, backend="native")
    system = openmm.System()
    for _ in range(4):
        system.addParticle(12.0)
    bias.add_to(system)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = openmm.app.Simulation(
        openmm.app.Topology(), system, openmm.VerletIntegrator(0.001), platform
    )
    bias.attach(simulation)
    cell = (0.62 - 0.2) / 42
    for distance, is_inside in (
        (0.55, True),
        (0.6199, True),
        (0.62 + 0.9 * cell, True),  # PLUMED goes on for a cell
        (0.62 + 1.1 * cell, False),
        (0.70, False),
        (1.5, False),
        (0.19, False),
    ):
        simulation.context.setPositions(frame(distance))
        state = simulation.context.getState(energy=True, forces=True, positions=True)
        energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        forces = state.getForces(asNumpy=True)._value
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            values, evaluated = bias.values(simulation, state)
            of_cvs = bias.bias_of_cvs(values[None])[0]
        assert evaluated == pytest.approx(of_cvs, abs=1e-9)
        assert energy == pytest.approx(of_cvs, abs=1e-6)
        if not is_inside:
            assert of_cvs == 0.0
            assert np.all(forces == 0.0)
        elif distance < 0.62 and grid == "d":
            assert energy > 5.0


@pytest.mark.parametrize("backend", ["native", "kernel"])
@pytest.mark.parametrize("grid", GRIDS)
def test_the_driver_stops_where_plumed_does(grid, backend, tmp_path):
    hills(grid, tmp_path)
    frames = [frame(d) for d in (0.5, 0.6, 0.61, 0.7, 0.5)]
    text = text_of(grid) + "PRINT ARG=d FILE=COLVAR STRIDE=1\n"
    settings = DriverSettings(backend=backend, directory=tmp_path, initial_step=1)
    with pytest.raises(RuntimeError, match=r"grid|d"):
        run_driver(text, iter([Frame(x) for x in frames]), settings)
    rows = [r for r in (tmp_path / "COLVAR").read_text().splitlines() if not r.startswith("#")]
    assert len(rows) == 3
    (tmp_path / "COLVAR").unlink()
    sparse = text.replace("STRIDE=1\n", "STRIDE=1000\n")  # nothing is due off the grid
    with pytest.raises(RuntimeError, match=r"grid|d"):
        run_driver(sparse, iter([Frame(x) for x in frames]), settings)


def test_what_is_asked_off_the_grid_is_said_once(tmp_path, caplog):
    hills("d", tmp_path)
    bias = PlumedBias(text_of("d"), directory=tmp_path, backend="native")
    bias._engine.start(0.002)  # the hills are read
    with caplog.at_level(logging.WARNING):
        assert list(bias.bias_of_cvs([[0.7], [0.75]])) == [0.0, 0.0]
        bias.bias_of_cvs([[0.7]])
    [record] = caplog.records
    assert "outside the grid from 0.2 to 0.62" in record.message
    assert "no bias acts there" in record.message
