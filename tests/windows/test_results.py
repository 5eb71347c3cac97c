"""Windows read back from their folders: what is kept, what is left out, and under which bias."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames.h5md import SegmentHeader
from openmm_cgan.frames.segments import Row, SegmentWriter
from openmm_cgan.free_energy import BiasedFrames, reweight_windows
from openmm_cgan.windows import read_window_frames, read_windows
from openmm_cgan.windows.results import _warn_of_drift, unsettled_share

INPUT = "d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=0.3 KAPPA=100\n"
CVS = np.array([0.25, 0.3, 0.45, 0.35])
SETTLE_STEPS = 20


def a_window(
    folder: Path,
    cvs: np.ndarray = CVS,
    name: str = "d",
    status: str = "finished",
    system: str = "",
) -> Path:
    """A window's folder as its worker leaves it: a frame every 10 steps, the first one settling."""
    folder.mkdir()
    record = {"status": status, "error": "it blew up", "temperature": 310.0}
    (folder / "window.json").write_text(json.dumps(record))
    (folder / "plumed.dat").write_text(INPUT)
    variables, about = (CollectiveVariable(name, "nm"),), {"system_hash": system}
    header = SegmentHeader(variables, (0, 1), temperature=310.0, about=about)
    writer = SegmentWriter(folder / "frames", header)
    writer.start_segment(0, {"kind": "given"}, SETTLE_STEPS)
    for i, cv in enumerate(cvs):
        writer.append(Row(10 * (i + 1), 0.02 * (i + 1), np.zeros((2, 3)), None, np.array([cv])))
    writer.close()
    return folder


def test_a_window_is_its_settled_frames_under_its_own_restraint(tmp_path: Path) -> None:
    (window,) = read_windows([str(a_window(tmp_path / "window-000"))])
    assert isinstance(window, BiasedFrames)
    np.testing.assert_array_equal(window.cvs, CVS[1:, None])
    np.testing.assert_allclose(window.bias(window.cvs), 50.0 * (CVS[1:] - 0.3) ** 2, atol=1e-12)
    assert window.temperature == 310.0
    assert window.name == str(tmp_path / "window-000")
    assert [v.name for v in window.variables] == ["d"]


def test_a_window_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    """Its frames would count twice, by whatever name."""
    one = a_window(tmp_path / "one")
    (tmp_path / "link").symlink_to(one)
    for twice in ([one, one], [one, str(one)], [tmp_path / "link", one], [one / ".." / "one", one]):
        with pytest.raises(ValueError, match=r"one is given 2 times.*give each once"):
            read_windows(twice)
        with pytest.raises(ValueError, match=r"one is given 2 times.*give each once"):
            read_window_frames(twice)
    copied = shutil.copytree(one, tmp_path / "copied")
    with pytest.raises(ValueError, match=r"one' and '.*copied' are the same 3 frames"):
        reweight_windows(read_windows([one, copied]))


def test_windows_of_two_systems_are_not_joined_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, other = (a_window(tmp_path / f"{k}", system=own) for k, own in enumerate("AAB"))
    read_windows([one, two])
    assert not caplog.records
    read_windows([one, two, other])
    assert f"2 Systems are taken together (of {one}, {other})" in caplog.text


def test_failed_and_empty_windows_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = a_window(tmp_path / "good")
    failed = a_window(tmp_path / "failed", status="failed")
    settling = a_window(tmp_path / "settling", cvs=CVS[:1])
    begun = a_window(tmp_path / "begun", cvs=CVS[:0])
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        windows = read_windows([failed, good, settling, begun])
    assert [w.name for w in windows] == [str(good)]
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"{failed} is left out: it blew up",
        f"{settling} is left out: it has no frames after its settle window",
        f"{begun} is left out: it has no frames after its settle window",
    ]
    with pytest.raises(ValueError, match="no window with frames among 2 folders"):
        read_windows([failed, begun])


def test_a_folder_that_is_no_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"window\.json"):
        read_windows([tmp_path])


def test_frames_of_other_cvs_than_the_input_biases_are_refused(tmp_path: Path) -> None:
    folder = a_window(tmp_path / "window-000", name="other")
    with pytest.raises(ValueError, match=r"frames of \['other'\], but plumed.dat biases \['d'\]"):
        read_windows([folder])


def drifting(rng: np.random.Generator, n_windows: int, size: float) -> list[BiasedFrames]:
    """Windows along an angle that begin off by so much and forget it in eight frames."""
    angle = CollectiveVariable("phi", "rad", (-np.pi, np.pi))
    windows = []
    for centre in np.linspace(-3, 3, n_windows):
        off = size * np.exp(-np.arange(80) / 8)
        values = centre + 0.1 * rng.standard_normal(80) + off
        cvs = ((values + np.pi) % (2 * np.pi) - np.pi)[:, None]
        bias = lambda x, c=centre: 100 * (1 - np.cos(x[:, 0] - c))  # noqa: E731
        windows.append(BiasedFrames(cvs, bias, 300.0, (angle,), f"{centre:.1f}"))
    return windows


def test_a_drift_behind_the_settle_window_is_seen() -> None:
    rng = np.random.default_rng(1)
    assert [unsettled_share(drifting(rng, 24, 0.0)) for _ in range(20)].count(0.0) >= 14
    shares = [unsettled_share(drifting(rng, 24, 0.3)) for _ in range(20)]
    # 0.3 exp(-t/8) is three errors of the mean, 0.1 / sqrt(24), at t = 13 of 80, one at 22
    assert 13 / 80 <= np.median(shares) <= 22 / 80
    assert unsettled_share(drifting(rng, 9, 0.3)) == 0.0, "too few to tell"
    steady = [
        BiasedFrames(w.cvs + np.linspace(0.5, 0, 80)[:, None], w.bias, 300.0, w.variables)
        for w in drifting(rng, 24, 0.0)
    ]
    assert unsettled_share(steady) == 1.0


def test_a_drift_is_said(caplog: pytest.LogCaptureFixture) -> None:
    _warn_of_drift(drifting(np.random.default_rng(2), 24, 0.3))
    assert "of the frames of the 24 windows are not like the later ones" in caplog.text
    assert "was given (settle_steps), not measured" in caplog.text
