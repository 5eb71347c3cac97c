"""Variables learned from tables of PLUMED values: run natively by their file, held by a wall."""

import logging

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from benchmarks.eight_atoms import N_ATOMS, made, random_frames
from openmm_cgan.diffusion_maps import DiffusionMapSettings
from openmm_cgan.learned_variable import Inputs, learn_variable
from openmm_cgan.plumed.bias import PlumedBias

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
LINES = "t: TORSION ATOMS=2,4,5,8\nd: DISTANCE ATOMS=1,5\ne: DISTANCE ATOMS=2,7\n"
INPUTS = Inputs(LINES, ("t", "d", "e"), (2 * np.pi, None, None))
SETTINGS = DiffusionMapSettings(n_coordinates=2, max_landmarks=80)


def table_of(frames, folder):
    """The values of the inputs, shape (n, 3)."""
    bias = PlumedBias(LINES, cvs=INPUTS.names, backend="native", directory=folder)
    return bias._engine.cv_values(frames, None)


@pytest.fixture(scope="module")
def frames():
    return random_frames(None, np.random.default_rng(0), 400)


@pytest.mark.parametrize("surrogate", ["nystroem", "ridge"])
def test_the_file_is_run_natively_with_its_forces_and_its_wall(surrogate, frames, tmp_path, caplog):
    table = table_of(frames, tmp_path)
    learned = learn_variable(INPUTS, table, settings=SETTINGS, surrogate=surrogate)
    assert np.all(learned.deviation < (1e-9 if surrogate == "nystroem" else 0.2))
    path = learned.save(tmp_path / "learned.ptc")
    with caplog.at_level(logging.INFO, "openmm_cgan"):
        text = learned.plumed_lines(path)
    assert "a wall of KAPPA=100" in caplog.text
    text += "RESTRAINT ARG=learned.node-0,learned.node-1 AT=0.5,0 KAPPA=3,4\n"
    bias, context = made(text, "native", None, tmp_path, [])
    rng = np.random.default_rng(1)
    outside = 0
    for frame in [*frames[:3], *random_frames(None, rng, 3)]:
        values = bias._engine.values(frame, None)
        found = [values[f"learned.node-{k}"] for k in range(3)]
        expected = learned(np.array([[values[name] for name in INPUTS.names]]))[0]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        below = max(learned.low_density - found[2], 0)
        assert values["learned_wall.bias"] == pytest.approx(100 * below**2)
        outside += below > 0
        context.setPositions(frame)
        state = context.getState(forces=True, energy=True, groups=bias.force_groups())
        forces = state.getForces(asNumpy=True)._value
        move = rng.normal(size=(N_ATOMS, 3))
        ends = [bias._engine.evaluate(frame + s * move, None, 5)[1] for s in (1e-6, -1e-6)]
        slope = (ends[1] - ends[0]) / 2e-6
        assert np.sum(forces * move) == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_the_last_output_is_the_log_of_the_density_of_the_frames(frames, tmp_path):
    table = table_of(frames, tmp_path)
    learned = learn_variable(INPUTS, table, settings=SETTINGS)
    features = learned.model.encoding(torch.from_numpy(table)).numpy()
    expected = learned.found.log_density(features)
    off = learned(table)[:, -1] - expected
    np.testing.assert_allclose(off, off[0], atol=1e-9)  # up to a constant


def test_a_file_is_known_by_what_it_says_not_by_its_bytes(frames, tmp_path):
    table = table_of(frames, tmp_path)
    learned = learn_variable(INPUTS, table, settings=SETTINGS)
    other = learn_variable(INPUTS, table[::2], settings=SETTINGS)
    path = tmp_path / "learned.ptc"
    assert not learned.is_in(path), "there is none"
    torch.jit.load(learned.save(path)).save(path, _extra_files={"made_by": "another version"})
    assert learned.is_in(path)
    assert not other.is_in(path)
    path.write_bytes(path.read_bytes()[:-2000])
    assert not learned.is_in(path), "it is damaged"


def test_far_from_all_frames_the_wall_pushes_back(frames, tmp_path):
    learned = learn_variable(INPUTS, table_of(frames, tmp_path), settings=SETTINGS)
    path = learned.save(tmp_path / "learned.ptc")
    text = learned.plumed_lines(path)
    bias, context = made(text, "native", None, tmp_path, [])
    frame = frames[0].copy()
    frame[0] = frame[4] + [3.0, 0, 0]  # d is 3 nm
    context.setPositions(frame)
    forces = context.getState(forces=True, groups=bias.force_groups()).getForces(asNumpy=True)
    assert forces._value[0, 0] < -1
    assert "learned_wall" not in learned.plumed_lines(path, wall=None)


def test_a_periodic_value_goes_round_without_a_jump(frames, tmp_path, caplog):
    table = table_of(frames, tmp_path)
    learned = learn_variable(INPUTS, table, settings=SETTINGS)
    ends = np.repeat(table[:1], 2, axis=0)
    ends[:, 0] = -np.pi, np.pi
    np.testing.assert_allclose(*learned(ends), atol=1e-9)
    path = learned.save(tmp_path / "learned.ptc")
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        PlumedBias(learned.plumed_lines(path) + "PRINT ARG=learned.*\n", backend="native")
    assert "jumps" not in caplog.text


def test_the_slow_value_is_learned_from_biased_frames(tmp_path):
    rng = np.random.default_rng(2)
    slow = rng.uniform(-2, 2, 500)
    table = np.stack([0.1 * rng.normal(size=500), slow, slow**2 + 0.05 * rng.normal(size=500)], 1)
    weights = np.exp(-(slow**2))
    learned = learn_variable(INPUTS, table, weights, DiffusionMapSettings(n_coordinates=1))
    assert abs(spearmanr(learned(table)[:, 0], slow).statistic) > 0.99
    assert learned.n_coordinates == 1


def test_rounding_of_a_constant_is_no_feature(frames, tmp_path):
    """A constrained distance in single precision tells nothing, whatever it is scaled to."""
    table = table_of(frames, tmp_path)
    table[:, 2] = 0.109
    noisy = table + [0, 0, 1] * np.random.default_rng(3).normal(scale=5e-9, size=table.shape)
    plain, rounded = (learn_variable(INPUTS, t, settings=SETTINGS)(table) for t in (table, noisy))
    np.testing.assert_allclose(rounded, plain, atol=1e-4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="the lines do not make b"):
        Inputs("a: DISTANCE ATOMS=1,2", ("a", "b"), (None, None))
    with pytest.raises(ValueError, match="periods for"):
        Inputs("a: DISTANCE ATOMS=1,2", ("a",), ())
    with pytest.raises(ValueError, match="expected \\(n, 3\\)"):
        learn_variable(INPUTS, np.ones((10, 2)))
    with pytest.raises(ValueError, match="expected one of"):
        learn_variable(INPUTS, np.ones((10, 3)), surrogate="network")


def test_a_folder_may_have_a_blank_in_its_name(frames, tmp_path):
    (tmp_path / "my runs").mkdir()
    learned = learn_variable(INPUTS, table_of(frames, tmp_path), settings=SETTINGS)
    text = learned.plumed_lines(learned.save(tmp_path / "my runs" / "learned.ptc"))
    bias = PlumedBias(text, cvs=("learned.node-0",), backend="native")
    assert np.isfinite(bias._engine.cv_values(frames[:1], None)).all()


@pytest.mark.parametrize(
    ("names", "periods", "message"),
    [
        (("d", "d"), (None, None), "named twice"),
        (("t",), (0.0,), "period of t is 0"),
        (("t",), (-2 * np.pi,), "expected a positive"),
    ],
)
def test_inputs_without_a_meaning_are_refused(names, periods, message):
    with pytest.raises(ValueError, match=message):
        Inputs(LINES, names, periods)


def test_what_does_not_fit_a_variable_is_told(frames, tmp_path):
    table = table_of(frames, tmp_path)
    learned = learn_variable(INPUTS, table, settings=SETTINGS)
    torn = table.copy()
    torn[5, 1] = np.nan
    for call in (learned, lambda t: learn_variable(INPUTS, t)):
        with pytest.raises(ValueError, match=r"d is nan in frame 5 \(1 frames"):
            call(torn)
    with pytest.raises(ValueError, match=r"expected \(n, 3\)"):
        learned(table[:, :2])
    assert learned(table[:0]).shape == (0, 3)
    for wall in (0.0, -5.0, np.nan):
        with pytest.raises(ValueError, match="expected a positive KAPPA"):
            learned.plumed_lines("learned.ptc", wall=wall)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        learned.save(tmp_path / "no" / "learned.ptc")
    assert len(repr(learned)) < 400
