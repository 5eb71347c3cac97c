"""SegmentWriter: what it is given is on disk, whole, wherever the program stops."""

import contextlib
import json
import os
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from openmm import unit

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import read_frames, read_segments, segments
from openmm_cgan.frames.h5md import POSITION, SegmentHeader, open_segment, read_header
from openmm_cgan.frames.journal import JOURNAL
from openmm_cgan.frames.segments import Row, SegmentWriter
from openmm_cgan.frames.set_aside import PATTERN, RESTORED

PHI = CollectiveVariable("phi", "rad", (-np.pi, np.pi), "TORSION", (4, 6, 8, 14))
DISTANCE = CollectiveVariable("d", "nm")
HEADER = SegmentHeader(
    (PHI, DISTANCE), (0, 2, 5), "a" * 64, 300.0, False, "phi: TORSION ...\n", {"seeds": {"x": 1}}
)


@pytest.fixture
def slow(monkeypatch):
    """No timer: only what is asked for is written."""
    monkeypatch.setattr(segments, "FLUSH_SECONDS", 1e6)


def row_of(step, header=HEADER):
    """A frame whose every number follows from its step."""
    positions = (step + np.arange(18).reshape(6, 3) / 100).astype(np.float32)
    box = np.eye(3) * step if header.periodic else None
    return Row(step, step * 0.002, positions, box, np.array([step / 7, -step / 3]), step + 0.5)


def write(writer, steps):
    for step in steps:
        writer.append(row_of(step, writer.header))


def require_rows(frames, steps):
    """The frames are those of these steps and nothing else."""
    assert frames.step.tolist() == list(steps)
    for i, step in enumerate(steps):
        row = row_of(step)
        assert frames.time[i] == row.time
        assert frames.bias[i] == row.bias
        np.testing.assert_array_equal(frames.cvs[i], row.cvs)
        np.testing.assert_array_equal(frames.positions[i], row.positions[[0, 2, 5]])


def test_what_is_written_is_read(tmp_path):
    writer = SegmentWriter(tmp_path / "frames", HEADER)
    write(writer, range(100, 5100, 100))
    writer.flush()
    write(writer, range(5100, 8100, 100))
    writer.close()
    frames = read_frames(tmp_path / "frames")
    require_rows(frames, range(100, 8100, 100))
    assert frames.variables == (PHI, DISTANCE)
    assert frames.atoms.tolist() == [0, 2, 5]
    assert (frames.temperature, frames.topology_hash, frames.box) == (300.0, "a" * 64, None)
    assert frames.positions.dtype == np.float32
    assert sorted(os.listdir(tmp_path / "frames")) == ["segment-00001.h5md"]


def test_boxes_are_kept_where_there_are_any(tmp_path):
    header = SegmentHeader((), (0,), periodic=True)
    writer = SegmentWriter(tmp_path, header)
    for step in (1, 2, 3):
        writer.append(Row(step, 0.1 * step, np.zeros((1, 3)), np.eye(3) * step, np.empty(0)))
    writer.close()
    frames = read_frames(tmp_path)
    np.testing.assert_array_equal(frames.box, np.eye(3) * np.array([1, 2, 3])[:, None, None])
    assert frames.cvs.shape == (3, 0)
    assert frames.temperature is None


def test_the_file_is_h5md_1_1(tmp_path):
    writer = SegmentWriter(tmp_path, HEADER)
    write(writer, [10, 20])
    writer.close()
    with h5py.File(tmp_path / "segment-00001.h5md") as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        assert file["h5md/creator"].attrs["name"] == "openmm_cgan"
        assert "name" in file["h5md/author"].attrs
        trajectory = file["particles/trajectory"]
        assert trajectory["box"].attrs["dimension"] == 3
        assert list(trajectory["box"].attrs["boundary"]) == ["none"] * 3
        assert trajectory["position/value"].attrs["unit"] == "nm"
        assert trajectory["position/time"].attrs["unit"] == "ps"
        assert trajectory["id"][:].tolist() == [0, 2, 5]
        for name, unit in (("phi", "rad"), ("d", "nm"), ("bias", "kJ mol-1")):
            element = file["observables"][name]
            assert element["value"].attrs["unit"] == unit
            assert element["step"] == trajectory["position/step"]  # one dataset, many names
            assert element["time"][:].tolist() == [0.02, 0.04]


def test_the_header_is_kept(tmp_path):
    writer = SegmentWriter(tmp_path, HEADER)
    write(writer, [10])
    writer.close()
    with open_segment(tmp_path / "segment-00001.h5md") as file:
        assert read_header(file) == HEADER


def test_a_frame_comes_to_disk_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "FLUSH_SECONDS", 0.05)
    writer = SegmentWriter(tmp_path, HEADER)
    write(writer, [10, 20])
    writer._timer.join(20)
    assert len(h5py.File(tmp_path / "segment-00001.h5md")["observables/phi/value"]) == 2
    write(writer, [30])
    writer._timer.join(20)
    assert len(h5py.File(tmp_path / "segment-00001.h5md")["observables/phi/value"]) == 3
    writer.close()


def test_a_full_buffer_is_written_at_once(tmp_path, slow, monkeypatch):
    monkeypatch.setattr(segments, "BUFFER_BYTES", 1000)
    writer = SegmentWriter(tmp_path, HEADER)
    write(writer, range(1, 9))
    assert len(h5py.File(tmp_path / "segment-00001.h5md")["observables/phi/value"]) == 8
    writer.close()


def test_reading_in_the_same_program_misses_nothing(tmp_path, slow):
    writer = SegmentWriter(tmp_path, HEADER)
    write(writer, [10, 20])
    require_rows(read_frames(tmp_path), [10, 20])
    write(writer, [30])
    require_rows(read_frames(tmp_path / "segment-00001.h5md"), [10, 20, 30])
    writer.close()


def test_a_new_file_begins_at_the_size_limit(tmp_path, slow, monkeypatch):
    monkeypatch.setattr(segments, "FILE_BYTES", 1)
    writer = SegmentWriter(tmp_path, HEADER)
    for step in (10, 20, 30):
        write(writer, [step])
        writer.start_segment(step, {"n": step})
        writer.flush()
    writer.close()
    assert len(list(tmp_path.glob(PATTERN))) == 3
    frames = read_frames(tmp_path)
    require_rows(frames, [10, 20, 30])
    assert frames.segment.tolist() == [1, 2, 3]
    origins = {row["segment"]: row["origin"] for row in read_segments(tmp_path)}
    assert origins == {1: {"kind": "initial"}, 2: {"n": 10}, 3: {"n": 20}, 4: {"n": 30}}


def test_segments_and_settle_windows(tmp_path):
    writer = SegmentWriter(tmp_path, HEADER)
    write(writer, [100, 200])
    assert writer.segment == 1
    assert writer.start_segment(200, {"kind": "proposal", "n": np.int64(7)}, settle_steps=200) == 2
    write(writer, [300, 400, 500])
    writer.start_segment(500, {"kind": "proposal", "n": 8})
    write(writer, [600])
    writer.close()
    everything = read_frames(tmp_path, settling=True)
    assert everything.segment.tolist() == [1, 1, 2, 2, 2, 3]
    # the window ends where settle_steps have passed: step 400 is the first settled frame
    assert everything.settling.tolist() == [False, False, True, False, False, False]
    require_rows(read_frames(tmp_path), [100, 200, 400, 500, 600])
    assert [row["settled"] for row in read_segments(tmp_path)] == [0, 400, 500]
    assert read_segments(tmp_path)[1]["origin"] == {"kind": "proposal", "n": 7}


def test_a_frame_taken_at_the_step_of_an_injection_is_marked(tmp_path):
    writer = SegmentWriter(tmp_path, HEADER)
    writer.start_segment(100, {}, settle_steps=50)
    write(writer, [100, 200])
    writer.start_segment(200, {})  # an exact move needs no settling: either side is right
    writer.start_segment(250, {})
    writer.start_segment(300, {})
    write(writer, [300, 400])
    writer.close()
    frames = read_frames(tmp_path, settling=True)
    assert frames.settling.tolist() == [True, False, False, False]
    assert frames.segment.tolist() == [1, 2, 4, 5]


def test_a_settle_window_outlives_the_next_injection(tmp_path):
    writer = SegmentWriter(tmp_path, HEADER)
    writer.start_segment(0, {}, settle_steps=300)
    writer.start_segment(100, {})
    write(writer, [200, 300])
    writer.close()
    assert read_frames(tmp_path, settling=True).settling.tolist() == [True, False]


def test_an_origin_that_json_does_not_know_is_refused(tmp_path):
    writer = SegmentWriter(tmp_path, HEADER)
    with pytest.raises((TypeError, AttributeError)):
        writer.start_segment(1, {"model": object()})
    assert writer.segment == 1
    writer.close()


def test_a_restart_sets_later_frames_aside_and_goes_on(tmp_path):
    first = SegmentWriter(tmp_path, HEADER)
    write(first, range(100, 1100, 100))
    first.close()
    second = SegmentWriter(tmp_path, HEADER, step=700, time=1.4)
    assert second.last == (700, 700 * 0.002)
    write(second, range(800, 1500, 100))
    second.close()
    require_rows(read_frames(tmp_path, settling=True), range(100, 1500, 100))
    assert sorted(os.listdir(tmp_path)) == [
        "bck.0.segment-00001.h5md",
        "segment-00001.h5md",
        "segment-00002.h5md",
    ]
    require_rows(
        read_frames(tmp_path / "bck.0.segment-00001.h5md", settling=True), range(100, 1100, 100)
    )


def test_a_restart_knows_its_segment_and_settle_window(tmp_path):
    first = SegmentWriter(tmp_path, HEADER)
    write(first, [100])
    first.start_segment(100, {"n": 1})
    write(first, [200])
    first.start_segment(200, {"n": 2}, settle_steps=250)
    write(first, [300])
    first.start_segment(310, {"n": 3}, settle_steps=250)  # after the checkpoint: never happened
    first.close()
    second = SegmentWriter(tmp_path, HEADER, step=300, time=0.6)
    assert second.segment == 3
    write(second, [400, 500])
    second.close()
    frames = read_frames(tmp_path, settling=True)
    assert frames.segment.tolist() == [1, 2, 3, 3, 3]
    assert frames.settling.tolist() == [False, False, True, True, False]


def test_a_settle_window_without_frames_yet_survives_a_kill(tmp_path, slow):
    writer = SegmentWriter(tmp_path, HEADER)
    write(writer, [100])
    writer.start_segment(100, {"n": 1}, settle_steps=250)
    copy = shutil.copytree(tmp_path, tmp_path.parent / "killed")
    writer.close()
    restarted = SegmentWriter(copy, HEADER, step=100, time=0.2)
    write(restarted, [200, 400])
    restarted.close()
    assert read_frames(copy, settling=True).settling.tolist() == [False, True, False]


def test_a_restart_from_the_beginning_sets_everything_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "FILE_BYTES", 1)
    first = SegmentWriter(tmp_path, HEADER)
    for step in (100, 200):
        write(first, [step])
        first.flush()
    first.close()
    second = SegmentWriter(tmp_path, HEADER)
    write(second, [50])
    second.close()
    require_rows(read_frames(tmp_path), [50])
    assert len(list(tmp_path.glob("bck.*"))) == 2


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"variables": (DISTANCE, PHI)}, "other CVs"),
        ({"atoms": (0, 1, 2)}, "atoms"),
        ({"topology_hash": "b" * 64}, "topology_hash"),
        ({"temperature": None}, "temperature"),
        ({"periodic": True}, "periodic"),
    ],
)
def test_a_folder_of_another_run_is_refused_and_left_alone(tmp_path, change, word):
    first = SegmentWriter(tmp_path, HEADER)
    write(first, [100, 200])
    first.close()
    other = SegmentHeader(**{**HEADER.__dict__, **change})
    with pytest.raises(ValueError, match=rf"segment-00001.*{word}.*new folder"):
        SegmentWriter(tmp_path, other, step=100, time=0.2)
    assert os.listdir(tmp_path) == ["segment-00001.h5md"]
    require_rows(read_frames(tmp_path), [100, 200])


def test_each_temperature_has_its_file_and_a_restart_sets_aside_in_all(tmp_path, caplog):
    first = SegmentWriter(tmp_path, HEADER)
    write(first, [100, 200])
    for kelvins, steps in ((350.0, [300]), (300.0, [400]), (350.0, [500, 600]), (300.0, [700])):
        first.at_temperature(kelvins)
        write(first, steps)
    first.start_segment(700, {"kind": "proposal"})
    first.close()
    assert len(first.files) == 2
    with pytest.raises(ValueError, match=r"read_frames\(..., temperature=300\)"):
        read_frames(tmp_path)
    require_rows(read_frames(tmp_path, temperature=300.1), [100, 200, 400, 700])
    require_rows(read_frames(tmp_path, temperature=350 * unit.kelvin), [300, 500, 600])
    with pytest.raises(ValueError, match="no frames are at 400 K; there are some at 300, 350 K"):
        read_frames(tmp_path, temperature=400)

    second = SegmentWriter(tmp_path, replace(HEADER, temperature=400.0), step=550, time=1.1)
    assert "frames at 400.0 K follow those at 350.0 K" in caplog.text
    write(second, [600])
    second.close()
    require_rows(read_frames(tmp_path, temperature=300), [100, 200, 400])
    require_rows(read_frames(tmp_path, temperature=350), [300, 500])
    require_rows(read_frames(tmp_path, temperature=400), [600])
    assert set(read_frames(tmp_path, temperature=400).segment) == {1}


def test_a_restart_finds_its_segment_in_the_file_of_another_temperature(tmp_path):
    first = SegmentWriter(tmp_path, HEADER)
    write(first, [100])
    first.start_segment(100, {"n": 1}, settle_steps=350)
    write(first, [200])
    first.at_temperature(350.0)
    write(first, [300])
    first.close()
    hot = replace(HEADER, temperature=350.0)
    second = SegmentWriter(tmp_path, hot, step=300, time=0.6)
    assert second.segment == 2
    write(second, [400, 500])
    second.close()
    found = read_frames(tmp_path, temperature=350, settling=True)
    assert found.segment.tolist() == [2, 2, 2]
    assert found.settling.tolist() == [True, True, False]


def test_frames_that_do_not_say_their_temperature_may_be_of_any(tmp_path):
    writer = SegmentWriter(tmp_path, replace(HEADER, temperature=None))
    write(writer, [100, 200])
    writer.close()
    require_rows(read_frames(tmp_path, temperature=350), [100, 200])


def test_a_saved_run_goes_on_at_a_temperature_that_has_no_frame_yet(tmp_path):
    first = SegmentWriter(tmp_path, HEADER)
    write(first, [100])
    first.close()
    header = replace(HEADER, temperature=350.0, about={RESTORED: True})
    second = SegmentWriter(tmp_path, header, step=150, time=0.3)
    write(second, [200])
    second.close()
    require_rows(read_frames(tmp_path, temperature=350), [200])


def test_a_restart_whose_clock_was_not_restored_is_refused(tmp_path):
    first = SegmentWriter(tmp_path, HEADER)
    write(first, [100, 200])
    first.close()
    with pytest.raises(ValueError, match=r"step 200 and 0 ps.*0\.4 ps.*setTime"):
        SegmentWriter(tmp_path, HEADER, step=200)
    require_rows(read_frames(tmp_path), [100, 200])


def test_going_back_without_a_restart_is_refused(tmp_path):
    writer = SegmentWriter(tmp_path, HEADER)
    write(writer, [100, 200])
    with pytest.raises(ValueError, match=r"step 200 cannot follow.*append=True"):
        write(writer, [200])
    writer.close()
    require_rows(read_frames(tmp_path), [100, 200])


def test_a_second_writer_in_the_same_program_takes_over(tmp_path):
    first = SegmentWriter(tmp_path, HEADER)
    write(first, [100])
    second = SegmentWriter(tmp_path, HEADER, step=100, time=0.2)
    with pytest.raises(RuntimeError, match="closed"):
        write(first, [200])
    write(second, [200])
    second.close()
    require_rows(read_frames(tmp_path), [100, 200])


def test_a_full_disk_keeps_what_was_written_and_what_was_not(tmp_path, slow, monkeypatch):
    writer = SegmentWriter(tmp_path, HEADER)
    write(writer, [100])
    writer.flush()
    write(writer, [200])

    def full(raw, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("openmm_cgan.frames.journal._write_all", full)
        with pytest.raises(OSError, match=r"segment-00001.*1 frames could not be written.*space"):
            writer.flush()
        assert len(h5py.File(tmp_path / "segment-00001.h5md")["observables/phi/value"]) == 1
    write(writer, [300])
    writer.close()
    require_rows(read_frames(tmp_path), [100, 200, 300])


def test_what_the_timer_could_not_write_is_raised_at_the_next_frame(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "FLUSH_SECONDS", 0.01)
    writer = SegmentWriter(tmp_path, HEADER)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("read-only")))
        write(writer, [100])
        writer._timer.join(20)
        with pytest.raises(OSError, match="read-only"):
            write(writer, [200])
    assert os.listdir(tmp_path) == [JOURNAL]
    writer.close()
    require_rows(read_frames(tmp_path), [100, 200])


@pytest.mark.parametrize("label", ["bias", "time", "a/b"])
def test_labels_that_cannot_name_a_column_are_refused(label):
    with pytest.raises(ValueError, match="another label in the PLUMED input"):
        SegmentHeader((CollectiveVariable(label),), (0,))


def test_numpy_values_in_the_header_become_plain(tmp_path):
    header = SegmentHeader((), (0,), about={"seed": np.int32(4), "x": np.array([1.0])})
    writer = SegmentWriter(tmp_path, header)
    writer.append(Row(1, 0.1, np.zeros((1, 3)), None, np.empty(0)))
    writer.close()
    with h5py.File(tmp_path / "segment-00001.h5md") as file:
        about = json.loads(file["parameters/openmm_cgan"].attrs["about"])
    assert about == {"seed": 4, "x": [1.0]}


# ---- files that were damaged, or that somebody made to do harm


def test_a_changed_byte_is_noticed_or_changes_nothing(tmp_path):
    """Checksums of HDF5's chunks and structures, and of our header."""
    with contextlib.closing(SegmentWriter(tmp_path / "whole", HEADER)) as writer:
        write(writer, range(1, 400))
    expected = read_frames(tmp_path / "whole")
    [path] = (tmp_path / "whole").glob(PATTERN)
    data, rng, refusals = path.read_bytes(), np.random.default_rng(5), []
    for k in range(60):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        folder = tmp_path / str(k)
        folder.mkdir()
        (folder / path.name).write_bytes(damaged)
        try:
            found = read_frames(folder)
        except ValueError as error:
            refusals.append(str(error))
            continue
        np.testing.assert_array_equal(found.positions, expected.positions)
        np.testing.assert_array_equal(found.cvs, expected.cvs)
        np.testing.assert_array_equal(found.step, expected.step)
        assert found.variables == expected.variables
    assert len(refusals) > 20
    assert all(path.name in refusal for refusal in refusals)


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual"])
def test_what_leads_out_of_the_file_is_refused(kind, tmp_path):
    """Else any file of the user would be read as positions."""
    with contextlib.closing(SegmentWriter(tmp_path / "run", HEADER)) as writer:
        write(writer, range(1, 9))
    [path] = (tmp_path / "run").glob(PATTERN)
    (tmp_path / "secret").write_bytes(bytes(10_000))
    with h5py.File(path, "r+") as file:
        name = f"{POSITION}/value"
        shape = file[name].shape
        if kind != "soft link":
            del file[name]
        if kind == "external link":
            file[name] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
        elif kind == "soft link":
            file["observables/other"] = h5py.SoftLink(f"/{name}")
        elif kind == "external storage":
            outside = [(str(tmp_path / "secret"), 0, 10_000)]
            file.create_dataset(name, shape, "f4", external=outside)
        else:
            layout = h5py.VirtualLayout(shape, "f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", shape=shape)
            file.create_virtual_dataset(name, layout)
    with pytest.raises(ValueError, match=r"is a link|is kept in another file"):
        read_frames(tmp_path / "run")
