"""The bias that metadynamics along learned coordinates has left, held: its grid and its forces."""

from pathlib import Path

import numpy as np
import openmm
import pytest

from openmm_cgan.diffusion_maps import DiffusionMapSettings
from openmm_cgan.explore.coordinate_bias import (
    LABEL,
    coordinate_names,
    held_along,
    metadynamics_along,
    write_held,
)
from openmm_cgan.free_energy.hills import hills_bias
from openmm_cgan.learned_variable import Inputs, LearnedVariable, learn_variable
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.files.tables import FieldTable
from openmm_cgan.testsystems import Molecule, alanine_dipeptide

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
LINES = "t1: TORSION ATOMS=5,7,9,15\nt2: TORSION ATOMS=7,9,15,17\n"


@pytest.fixture(scope="module")
def learned() -> LearnedVariable:
    # turning of t1 is the slow one: few nodes between what outputs may be
    table = np.random.default_rng(0).uniform(-np.pi, np.pi, (300, 2)) * [1.0, 0.2]
    inputs = Inputs(LINES, ("t1", "t2"), (2 * np.pi, 2 * np.pi))
    return learn_variable(inputs, table, None, DiffusionMapSettings(2, 1.0, 0.1, 60))


def context_of(text: str, folder: Path, molecule: Molecule) -> tuple[PlumedBias, openmm.Context]:
    system = openmm.XmlSerializer.clone(molecule.system)
    bias = PlumedBias(text, molecule.topology, temperature=300.0, directory=folder)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.002)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, integrator, platform)
    context.setPositions(molecule.positions)
    return bias, context


def hills_file(path: Path, names: list[str], centres: np.ndarray) -> FieldTable:
    """Hills at some points, as HILLS of a run has them."""
    fields = ["time", *names, *(f"sigma_{n}" for n in names), "height", "biasf"]
    rows = [[k, *x, 0.3, 0.2, 5.0, 10.0] for k, x in enumerate(centres)]
    lines = [f"#! FIELDS {' '.join(fields)}", "#! SET multivariate false"]
    lines += ["#! SET kerneltype stretched-gaussian"]
    lines += [" ".join(f"{value:.9g}" for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return read_fields(path)


@pytest.fixture(scope="module")
def hills(learned: LearnedVariable, tmp_path_factory: pytest.TempPathFactory) -> FieldTable:
    points = learned(np.random.default_rng(1).uniform(-np.pi, np.pi, (30, 2)))[:, :2]
    path = tmp_path_factory.mktemp("hills") / "HILLS"
    return hills_file(path, coordinate_names(learned), points)


def test_the_bias_that_is_held_is_the_sum_of_the_hills_and_its_forces_are_its_slopes(
    learned: LearnedVariable, hills: FieldTable, tmp_path: Path
) -> None:
    folder = tmp_path / "my runs"  # a blank must not end a word of the input
    folder.mkdir()
    grid = folder / "held.grid"
    write_held(grid, learned, hills)
    path = learned.save(folder / "learned.ptc")
    text = learned.variable_lines(path, LABEL) + held_along(learned, grid)
    molecule = alanine_dipeptide()
    bias, context = context_of(text, tmp_path, molecule)
    rng = np.random.default_rng(2)
    for _ in range(3):
        x = molecule.positions + rng.normal(scale=0.02, size=molecule.positions.shape)
        values = bias.cv_values(x)[[v.name.startswith(LABEL) for v in bias.variables]][:2]
        context.setPositions(x)
        state = context.getState(energy=True, forces=True, groups=bias.force_groups())
        energy = state.getPotentialEnergy()._value
        expected = hills_bias(hills, values[None], UnitSystem())[0]
        # a spline on five nodes to a width is off by some thousandths of a hill
        assert energy == pytest.approx(expected, abs=0.1)
        move = rng.normal(size=x.shape)
        ends = []
        for step in (1e-5, -1e-5):
            context.setPositions(x + step * move)
            moved = context.getState(energy=True, groups=bias.force_groups())
            ends.append(moved.getPotentialEnergy()._value)
        slope = (ends[1] - ends[0]) / 2e-5
        assert np.sum(state.getForces(asNumpy=True)._value * move) == pytest.approx(
            slope, rel=1e-4, abs=1e-3
        )


def test_slopes_in_the_file_are_those_of_the_hills(
    learned: LearnedVariable, hills: FieldTable, tmp_path: Path
) -> None:
    write_held(tmp_path / "held.grid", learned, hills)
    held, names = read_fields(tmp_path / "held.grid"), coordinate_names(learned)
    nodes = np.stack([held.columns[name] for name in names], axis=1)
    inside = np.flatnonzero(((nodes > nodes.min(0)) & (nodes < nodes.max(0))).all(axis=1))
    some = np.random.default_rng(5).choice(inside, 300)
    for k, name in enumerate(names):
        move = 1e-5 * np.eye(len(names))[k]
        ends = [hills_bias(hills, nodes[some] + s * move, UnitSystem()) for s in (1, -1)]
        slopes = (ends[0] - ends[1]) / 2e-5
        # differences over a fifth of a width to either side: off by (1/5)^2 / 6, three times that
        # where a hill's third derivative is largest
        told = held.columns[f"der_{name}"][some]
        np.testing.assert_allclose(told, slopes, atol=0.03 * np.abs(slopes).max())


def test_no_value_is_beyond_the_grid(learned: LearnedVariable, hills: FieldTable, tmp_path) -> None:
    """Neither of metadynamics nor of the bias that is held: a run would stop there."""
    write_held(tmp_path / "held.grid", learned, hills)
    held = read_fields(tmp_path / "held.grid")
    constants = held.constants
    line = metadynamics_along(learned, 1.0, 20, 10.0)
    words = dict(word.split("=") for word in line.split()[1:])
    table = np.random.default_rng(3).uniform(-np.pi, np.pi, (2000, 2))
    for k, name in enumerate(coordinate_names(learned)):
        values = learned(table)[:, k]
        nodes = np.unique(held.columns[name])
        assert nodes[0] == pytest.approx(float(constants[f"min_{name}"]))
        assert nodes[-1] == pytest.approx(float(constants[f"max_{name}"]))
        for lower, upper in (
            (constants[f"min_{name}"], constants[f"max_{name}"]),
            (words["GRID_MIN"].split(",")[k], words["GRID_MAX"].split(",")[k]),
        ):
            assert float(lower) < values.min() < values.max() < float(upper)


def test_hills_of_other_values_are_refused(learned: LearnedVariable, tmp_path: Path) -> None:
    other = hills_file(tmp_path / "HILLS", ["phi", "cv.node-1"], np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"hills of \['phi', 'cv.node-1'\], expected"):
        write_held(tmp_path / "held.grid", learned, other)
    assert not (tmp_path / "held.grid").exists()
