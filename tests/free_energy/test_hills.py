import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.hills import (
    GAS_CONSTANT,
    hill_variables,
    hills_bias,
    hills_free_energy,
    tiwary_log_weights,
)
from openmm_cgan.free_energy.reweighting import reweight
from openmm_cgan.free_energy.samples import BiasedFrames, unbiased
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.files.tables import FieldTable
from tests.cases.other_processes import PATIENCE

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE
BIASFACTOR = 8.0


def hills_file(path: Path, kernel: str = "stretched-gaussian", n: int = 40) -> Path:
    """HILLS of a well-tempered run on two torsions, as PLUMED prints them."""
    rng = np.random.default_rng(0)
    lines = [
        "#! FIELDS time phi psi sigma_phi sigma_psi height biasf",
        "#! SET multivariate false",
        f"#! SET kerneltype {kernel}",
        *(
            f"#! SET {m}_{cv} {v}"
            for cv in ("phi", "psi")
            for m, v in (("min", "-pi"), ("max", "pi"))
        ),
    ]
    for i in range(n):
        phi, psi = rng.uniform(-np.pi, np.pi, 2)
        height = rng.uniform(0.2, 1.2)
        lines.append(f"{i + 1} {phi:.9f} {psi:.9f} 0.35 0.25 {height:.9f} {BIASFACTOR:g}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.plumed
def test_the_sum_of_hills_is_that_of_plumed(tmp_path: Path) -> None:
    program = shutil.which("plumed", path=str(Path(sys.executable).parent))
    assert program is not None, "real PLUMED (wheel hillclimber) is not installed"
    hills = hills_file(tmp_path / "HILLS")
    command = [program, "sum_hills", "--hills", "HILLS", "--bin", "20,20",
               "--min", "-pi,-pi", "--max", "pi,pi"]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE)
    reference = read_fields(tmp_path / "fes.dat").columns
    points = np.stack([reference["phi"], reference["psi"]], axis=1)
    free_energy = hills_free_energy(read_fields(hills), points)
    np.testing.assert_allclose(free_energy, reference["file.free"], atol=1e-6)


def test_the_bias_is_the_tempered_part_of_the_heights_printed(tmp_path: Path) -> None:
    hills = read_fields(hills_file(tmp_path / "HILLS"))
    points = np.random.default_rng(1).uniform(-np.pi, np.pi, (30, 2))
    bias, free_energy = hills_bias(hills, points), hills_free_energy(hills, points)
    np.testing.assert_allclose(bias, -free_energy * (BIASFACTOR - 1.0) / BIASFACTOR)


def test_a_plain_gaussian_hill_is_its_formula(tmp_path: Path) -> None:
    hills = read_fields(hills_file(tmp_path / "HILLS", "gaussian", n=1))
    centre = np.array([hills.columns["phi"][0], hills.columns["psi"][0]])
    points = centre + np.array(
        [[0.0, 0.0], [0.35, 0.0], [0.0, -0.25], [2 * np.pi, 0.0], [2.0, 2.0]]
    )
    expected = hills.columns["height"][0] * np.exp([0.0, -0.5, -0.5, 0.0, -np.inf])
    np.testing.assert_allclose(hills_free_energy(hills, points), -expected, atol=1e-12)


@pytest.mark.plumed
def test_hills_of_an_interval_are_flat_outside_of_it(tmp_path: Path) -> None:
    """PLUMED's own bias at each frame is the sum of the hills before it."""
    values = np.random.default_rng(2).uniform(0.2, 0.9, 40)
    frames = (Frame(np.array([[0.0, 0, 0], [d, 0, 0]])) for d in values)
    text = "METAD LABEL=m ARG=d SIGMA=0.05 HEIGHT=1 PACE=1 INTERVAL=0.4,0.6\n"
    text = f"d: DISTANCE ATOMS=1,2\n{text}PRINT ARG=m.bias FILE=COLVAR FMT=%12.8f\n"
    run_driver(text, frames, DriverSettings(backend="kernel", directory=tmp_path))
    hills, biases = (read_fields(tmp_path / name) for name in ("HILLS", "COLVAR"))
    for i in range(2, 40):  # none is laid at the first
        found = hills_bias(hills.first(i - 1), values[i : i + 1, None], "UNITS TIME=ps\n")
        assert found[0] == pytest.approx(biases.columns["m.bias"][i], abs=1e-6)


def test_hills_whose_time_goes_back_weigh_no_frames() -> None:
    hills = one_variable_hills(np.zeros(3), np.ones(3))
    hills.columns["time"][2] = 1.0
    with pytest.raises(ValueError, match="row 3 of the hills: the time goes back from 2 to 1"):
        tiwary_log_weights([0.5, 1.5], [0.0, 0.0], hills, TEMPERATURE)


def test_hills_that_end_before_the_frames_do_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """Lost rows, as of a copy of half a file: c(t) stayed what it was there, and nobody said so."""
    hills = one_variable_hills(np.zeros(10), np.ones(10))
    laid = hills.columns["time"]
    tiwary_log_weights([laid[0], laid[-1] + 1.0], [0.0, 0.0], hills, TEMPERATURE, "UNITS TIME=ps\n")
    assert not caplog.records
    late = [laid[0], laid[-1] + 10 * (laid[1] - laid[0])]
    tiwary_log_weights(late, [0.0, 0.0], hills, TEMPERATURE, "UNITS TIME=ps\n")
    assert f"ends at {laid[-1]:g} ps, and frames at {late[1]:g} ps" in caplog.text


def test_the_offset_of_one_hill_is_its_integral(tmp_path: Path) -> None:
    table = one_variable_hills(np.array([0.3]), np.array([1.1]))

    def integral(factor: float) -> float:
        def exponential(s: float) -> float:
            return float(np.exp(factor * hills_bias(table, np.array([[s]]))[0] / KT))

        return quad(exponential, -np.pi, np.pi, points=[0.3], limit=200)[0]

    expected = KT * np.log(
        integral(BIASFACTOR / (BIASFACTOR - 1.0)) / integral(1.0 / (BIASFACTOR - 1.0))
    )
    before, at_it, after = -KT * tiwary_log_weights(
        [0.5, 1.0, 1.5], np.zeros(3), table, TEMPERATURE
    )
    assert before == at_it == 0.0  # a hill is laid behind the frame of its step
    assert after == pytest.approx(expected, rel=1e-4)


def one_variable_hills(centres: np.ndarray, heights: np.ndarray) -> FieldTable:
    n = len(centres)
    columns = {
        "time": np.arange(1.0, n + 1.0),
        "s": centres,
        "sigma_s": np.full(n, 0.3),
        "height": heights * BIASFACTOR / (BIASFACTOR - 1.0),
        "biasf": np.full(n, BIASFACTOR),
    }
    return FieldTable(columns, {"min_s": "-pi", "max_s": "pi"})


def metadynamics(n_hills: int, seed: int) -> tuple[FieldTable, np.ndarray, np.ndarray, np.ndarray]:
    """Well-tempered metadynamics on F(s) = 6 cos(2 s) + cos(s), fully relaxed between hills.

    Returns the hills, and the CV values, biases and times of 20 frames drawn between hills.
    """
    rng = np.random.default_rng(seed)
    grid = np.linspace(-np.pi, np.pi, 181)[:-1] + np.pi / 180
    true = 6.0 * np.cos(2 * grid) + np.cos(grid)
    bias = np.zeros(180)
    centres, heights, values, biases = np.empty(n_hills), np.empty(n_hills), [], []
    for i in range(n_hills):
        p = np.exp(-(true + bias) / KT)
        drawn = rng.choice(180, 21, p=p / p.sum())
        values.append(grid[drawn[:-1]])
        biases.append(bias[drawn[:-1]])
        centres[i] = grid[drawn[-1]]
        heights[i] = 1.0 * np.exp(-bias[drawn[-1]] / (KT * (BIASFACTOR - 1.0)))
        last = one_variable_hills(centres[i : i + 1], heights[i : i + 1])
        bias += hills_bias(last, grid[:, None])
    times = np.repeat(np.arange(n_hills) + 0.5, 20)
    table = one_variable_hills(centres, heights)
    return table, np.concatenate(values), np.concatenate(biases), times


PERIODIC = (CollectiveVariable("s", "rad", (-np.pi, np.pi)),)


def true_average() -> float:
    """Average of cos(s) over s > 0, zero elsewhere, on the free energy of `metadynamics`."""
    grid = np.linspace(-np.pi, np.pi, 721)
    p = np.exp(-(6.0 * np.cos(2 * grid) + np.cos(grid)) / KT)
    return np.trapezoid(p * (grid > 0.0) * np.cos(grid), grid) / np.trapezoid(p, grid)


def test_frames_weighed_while_the_bias_grows_give_the_true_average() -> None:
    table, s, bias, times = metadynamics(400, seed=1)
    late = slice(len(s) // 4, None)
    run = BiasedFrames(s[late, None], unbiased, TEMPERATURE, PERIODIC)
    samples = reweight([run], [tiwary_log_weights(times[late], bias[late], table, TEMPERATURE)])
    got = samples.average((samples.cvs[:, 0] > 0.0) * np.cos(samples.cvs[:, 0]))
    assert abs(got.value - true_average()) < 3.5 * got.error
    assert got.error < 0.01


def test_frames_under_the_final_bias_give_the_true_average() -> None:
    table = metadynamics(200, seed=2)[0]
    grid = np.linspace(-np.pi, np.pi, 1801)[:-1]
    p = np.exp(-(6.0 * np.cos(2 * grid) + np.cos(grid) + hills_bias(table, grid[:, None])) / KT)
    s = np.random.default_rng(3).choice(grid, 8000, p=p / p.sum())
    run = BiasedFrames(s[:, None], lambda cvs: hills_bias(table, cvs), TEMPERATURE, PERIODIC)
    samples = reweight([run])
    got = samples.average((samples.cvs[:, 0] > 0.0) * np.cos(samples.cvs[:, 0]))
    assert abs(got.value - true_average()) < 3.5 * got.error
    assert got.error < 0.01


def test_files_that_are_no_hills_are_refused() -> None:
    with pytest.raises(ValueError, match="not those of a HILLS file"):
        hill_variables(FieldTable({"time": np.zeros(1), "phi": np.zeros(1)}, {}))
    with pytest.raises(ValueError, match=r"expected \(n, 1\) for \['s'\]"):
        hills_bias(one_variable_hills(np.zeros(1), np.ones(1)), np.zeros((3, 2)))
