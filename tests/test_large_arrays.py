"""Arrays in temporary files hold what those in memory hold, and a training on them is the same."""

from pathlib import Path

import numpy as np
import pytest

from openmm_cgan.cgan import ConditionalGenerator, TrainingSettings
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames, read_frames
from openmm_cgan.frames.h5md import SegmentHeader
from openmm_cgan.frames.segments import Row, SegmentWriter
from openmm_cgan.large_arrays import forget, joined_rows, pieces, room, some_columns
from openmm_cgan.testsystems import alanine_dipeptide

FEW = TrainingSettings(steps=6, batch=32, width=8, report_every=3)


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openmm_cgan.large_arrays.IN_MEMORY", 1000)
    monkeypatch.setattr("openmm_cgan.large_arrays.PIECE", 4096)


def test_large_arrays_lie_in_files_and_keep_their_numbers(in_files: None) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((n, 7, 3)).astype(np.float32) for n in (50, 1, 80)]
    whole = joined_rows(parts)
    assert isinstance(whole, np.memmap)
    forget(whole)
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    columns = np.array([4, 0, 6])
    some = some_columns(whole, columns)
    assert isinstance(some, np.memmap)
    np.testing.assert_array_equal(some, whole[:, columns])
    covered = np.concatenate([np.arange(131)[piece] for piece in pieces(whole)])
    np.testing.assert_array_equal(covered, np.arange(131))
    assert not isinstance(room((10, 3), np.float64), np.memmap)


def test_the_environment_says_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENMM_CGAN_MEMORY", str(800 / 2**30))
    assert not isinstance(room((100,), np.float64), np.memmap)
    assert isinstance(room((101,), np.float64), np.memmap)
    assert isinstance(joined_rows([np.zeros(60), np.zeros(60)]), np.memmap)
    for wrong in ("1 GiB", "-1", "nan", "inf", ""):
        monkeypatch.setenv("OPENMM_CGAN_MEMORY", wrong)
        with pytest.raises(ValueError, match=r"OPENMM_CGAN_MEMORY=.*expected a number of GiB"):
            room((100,), np.float64)


def test_frames_are_read_into_files_where_the_environment_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = SegmentHeader((CollectiveVariable("x", "nm"),), tuple(range(5)), "")
    writer, x = SegmentWriter(tmp_path, header), np.random.default_rng(2).random((30, 5, 3))
    for k, frame in enumerate(x):
        writer.append(Row(k + 1, 0.1 * k, frame, None, frame[0, :1]))
    writer.close()
    plain = read_frames(tmp_path)
    monkeypatch.setenv("OPENMM_CGAN_MEMORY", "0")
    frames = read_frames(tmp_path)
    assert isinstance(frames.positions, np.memmap)
    assert not isinstance(plain.positions, np.memmap)
    np.testing.assert_array_equal(frames.positions, plain.positions)


def test_the_file_goes_with_the_array(
    in_files: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    array = room((1000,), np.float64)
    array[:] = 1.0
    assert array.sum() == 1000
    assert list(tmp_path.iterdir()) == []


def test_a_training_is_the_same_with_rows_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    molecule = alanine_dipeptide("C7eq")
    rng = np.random.default_rng(1)
    x = molecule.positions + 0.005 * rng.standard_normal((120, 22, 3))
    frames = Frames.of_arrays(x, x[:, 3, 0], ["x"])
    ours = ConditionalGenerator.fit(frames, molecule.topology, FEW)
    monkeypatch.setattr("openmm_cgan.large_arrays.IN_MEMORY", 1000)
    theirs = ConditionalGenerator.fit(frames, molecule.topology, FEW)
    asked = frames.cvs[:5]
    np.testing.assert_array_equal(theirs.sample(asked, seed=3), ours.sample(asked, seed=3))
