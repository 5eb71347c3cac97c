"""Lists of a path's models, which depend on earlier steps, against real PLUMED."""

import numpy as np
import pytest

from benchmarks.eight_atoms import BOXES, random_frames, reference_pdbs
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError
from tests.cases.biased_runs import phase_point
from tests.cases.driver_runs import compare, driven, walk
from tests.cases.eight_atoms import chain_simulation

plumed = pytest.mark.plumed


# ---- models

LISTED = "p: PATHMSD REFERENCE={path} LAMBDA=60 NEIGH_SIZE=2 NEIGH_STRIDE=5{pbc}\n"
PATHS = {
    "restrained": "RESTRAINT ARG=p.sss,p.zzz AT=2,0 KAPPA=3,100\n",
    "on a grid": "METAD ARG=p.sss SIGMA=0.2 HEIGHT=1.2 PACE=6 GRID_MIN=0 GRID_MAX=6 GRID_BIN=60\n",
    "under OPES": "OPES_METAD ARG=p.zzz SIGMA=0.02 PACE=6 BARRIER=30\n",
    "in a function": "c: CUSTOM ARG=p.sss,p.zzz FUNC=x*x+10*y PERIODIC=NO\n"
    "UPPER_WALLS ARG=c AT=2 KAPPA=1\n",
    "printed only": "PRINT ARG=p.zzz STRIDE=4 FILE=OTHER\n",
    "in another unit": "UNITS LENGTH=A\n" + LISTED.replace("60", "0.6").replace("p:", "q:")
    + "RESTRAINT ARG=q.sss AT=3 KAPPA=2\n",
    "of any place": "RESTRAINT ARG=p.sss AT=3 KAPPA=2\n",
}  # fmt: skip


def path_input(kind, folder, pbc="", stride=3):
    text = LISTED + PATHS[kind] + f"PRINT ARG=*.sss,*.zzz STRIDE={stride} FILE=COLVAR FMT=%14.8f\n"
    if "UNITS" in text:  # must stand first
        text = "UNITS LENGTH=A\n" + text.replace("UNITS LENGTH=A\n", "").replace("=60 ", "=0.6 ")
    return text.format(pbc=pbc, **reference_pdbs(folder))


@plumed
@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize("kind", PATHS)
def test_a_list_of_models_is_plumeds(kind, first, tmp_path):
    frames = random_frames(None, np.random.default_rng(9), 5)[0] + walk(60, 0.01) - walk(60)[0]
    box = BOXES["triclinic"] if kind == "of any place" else None
    pbc = " NOPBC" if kind == "of any place" else ""
    text = path_input(kind, tmp_path, pbc)
    driven(text, tmp_path, frames, box, initial_step=first)
    compare(tmp_path, "COLVAR", "forces")
    ours = read_fields(tmp_path / "native" / "COLVAR").columns["p.zzz"]
    driven(
        text.replace("NEIGH_SIZE=2 NEIGH_STRIDE=5", ""),
        tmp_path / "all",
        frames,
        box,
        initial_step=first,
    )
    every = read_fields(tmp_path / "all" / "native" / "COLVAR").columns["p.zzz"]
    assert len(set(np.abs(ours - every) > 1e-6)) == 2  # the list shows, not always


@plumed
@pytest.mark.parametrize("stride", [1, 3, 10])
@pytest.mark.parametrize("kind", ["restrained", "on a grid", "printed only"])
def test_rows_of_a_run_are_those_of_its_frames_in_plumed(kind, stride, tmp_path):
    """PLUMED is given every step; natively only those are asked for that renew the list."""
    text = path_input(kind, tmp_path, stride=stride)
    bias, simulation = chain_simulation(text, tmp_path / "native")
    frames = []
    for _ in range(60):
        frames.append(phase_point(simulation)[0])
        simulation.step(1)
    frames.append(phase_point(simulation)[0])
    bias.close()
    rows = (tmp_path / "native" / "COLVAR").read_text()
    driven(text, tmp_path, frames, initial_step=0, timestep=0.001)
    (tmp_path / "native" / "COLVAR").write_text(rows)
    compare(tmp_path, "COLVAR", tolerance=2e-6)


@pytest.mark.parametrize("kind", ["restrained", "on a grid", "under OPES"])
@pytest.mark.parametrize("at", [100, 101, 103])
def test_a_run_goes_on_bitwise_with_its_list(kind, at, tmp_path):
    text = path_input(kind, tmp_path)
    bias, simulation = chain_simulation(text, tmp_path / "one")
    simulation.step(200)
    bias.close()
    expected = phase_point(simulation)
    bias, simulation = chain_simulation(text, tmp_path / "two")
    simulation.step(at)
    bias.save_checkpoint(tmp_path / "run.chk")
    simulation.step(33)  # lost
    bias.close()
    bias, simulation = chain_simulation(text, tmp_path / "two", tmp_path / "run.chk")
    simulation.step(200 - at)
    bias.close()
    np.testing.assert_array_equal(phase_point(simulation), expected)
    one, two = ((tmp_path / f / "COLVAR").read_bytes() for f in ("one", "two"))
    assert one == two


@plumed
@pytest.mark.parametrize("at", [20, 21, 23])
def test_a_restart_makes_its_list_where_plumed_does(at, tmp_path):
    text = path_input("restrained", tmp_path, stride=1)
    bias, simulation = chain_simulation(text, tmp_path / "first")
    simulation.step(at)
    state = simulation.context.createCheckpoint()
    bias.close()
    bias, simulation = chain_simulation(text, tmp_path / "again", state, restart=True)
    frames = [phase_point(simulation)[0]]
    for _ in range(20):
        simulation.step(1)
        frames.append(phase_point(simulation)[0])
    bias.close()
    driven(text, tmp_path, frames, initial_step=at, timestep=0.001)
    ours, plumeds = (read_fields(tmp_path / f / "COLVAR") for f in ("again", "kernel"))
    for name, column in plumeds.columns.items():  # the first row is of the run before
        np.testing.assert_allclose(ours.columns[name], column[1:], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("kind", PATHS)
def test_a_bias_on_listed_models_is_no_function_of_the_positions(kind, tmp_path):
    """Exact proposals must not be made under it."""
    text = path_input(kind, tmp_path)
    assert PlumedBias(text, directory=tmp_path).remembers == (kind != "printed only")
    everything = text.replace("NEIGH_SIZE=2 NEIGH_STRIDE=5", "")
    assert not PlumedBias(everything, directory=tmp_path).remembers


def test_single_frames_are_seen_by_all_models_and_leave_the_list_as_it_is(tmp_path):
    text = path_input("restrained", tmp_path)
    bias, simulation = chain_simulation(text, tmp_path / "run")
    simulation.step(23)
    path = bias._engine.actions[0]
    before = path.nearest.index
    assert len(before) == 2
    [x, _] = phase_point(simulation)
    without = PlumedBias(text.replace("NEIGH_SIZE=2", "NEIGH_SIZE=5"), directory=tmp_path / "all")
    np.testing.assert_array_equal(bias.cv_values(x), without.cv_values(x))
    state = simulation.context.getState(positions=True, energy=True, groups=bias.force_groups())
    values, energy = bias.values(simulation, state)
    assert state.getPotentialEnergy()._value == pytest.approx(energy, rel=1e-9)
    assert not np.allclose(values, bias.cv_values(x), rtol=1e-7)
    simulation.context.setPositions(x + np.random.default_rng(1).normal(scale=0.02, size=x.shape))
    simulation.context.getState(energy=True, forces=True)
    assert path.nearest.index is before
    bias.close()


def test_lists_that_can_not_be_are_refused(tmp_path):
    files = reference_pdbs(tmp_path)
    for words, message in (
        ("NEIGH_SIZE=2 NEIGH_STRIDE=0", "must be positive"),
        ("NEIGH_SIZE=2 NEIGH_STRIDE=5\nPRINT ARG=p.sss,p.zzz _ROTATE=2", "not always used"),
    ):
        text = f"p: PATHMSD REFERENCE={files['path']} LAMBDA=60 {words}\n"
        with pytest.raises(PlumedInputError, match=message):
            PlumedBias(text, backend="native", directory=tmp_path)
