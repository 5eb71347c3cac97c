"""A change to a file happens whole or not at all, wherever the program is stopped."""

import os
import shutil
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest

from openmm_cgan.frames import journal
from openmm_cgan.frames.journal import JOURNAL, Change, Journal, open_snapshot, read_change, redo
from tests.cases.other_processes import PATIENCE, next_line


@pytest.fixture
def folder(tmp_path, request):
    oldest = getattr(request, "param", "v110")
    with h5py.File(tmp_path / "a.h5", "w", libver=(oldest, "v110")) as file:
        file.create_dataset("x", data=np.arange(10.0), maxshape=(None,), chunks=(4,))
        file.create_dataset("y", data=np.arange(10), maxshape=(None,), chunks=(64,))
    return tmp_path


def grow(file, n):
    for name in ("x", "y"):
        start = len(file[name])
        file[name].resize(start + n, axis=0)
        file[name][start:] = np.arange(start, start + n)


def require_even(file):
    if len(file["x"]) != len(file["y"]):
        raise OSError("uneven")


def plain_contents(path):
    """What a program sees that knows nothing of the journal; None where it is refused."""
    try:
        with h5py.File(path) as file:
            return file["x"][:].tolist(), file["y"][:].tolist()
    except OSError:
        return None


def contents(path):
    with open_snapshot(path, require_even) as file:
        return file["x"][:].tolist(), file["y"][:].tolist()


def stop_at_every_write(monkeypatch, folder, snapshots):
    """Keep the folder as it is before, in the middle of and after each write of a change."""
    plain = journal._write_all

    def write(raw, data):
        half = len(data) // 2
        for part in (data[:half], data[half:]):
            shutil.copytree(folder, snapshots / f"{len(list(snapshots.iterdir())):04d}")
            at = raw.tell()
            plain(raw, part)
            if "a" not in raw.mode:
                raw.seek(at + len(part))

    monkeypatch.setattr(journal, "_write_all", write)


@pytest.mark.parametrize("folder", ["earliest", "v110"], indirect=True)  # two superblocks
def test_a_stop_at_any_write_leaves_the_file_before_or_after(folder, tmp_path_factory, monkeypatch):
    snapshots = tmp_path_factory.mktemp("stopped")
    before = contents(folder / "a.h5")
    held = Journal(folder)
    with monkeypatch.context() as patch:
        stop_at_every_write(patch, folder, snapshots)
        with held.changing(folder / "a.h5") as file:
            grow(file, 500)  # more chunks than one node of the tree takes: it splits
    held.close()
    after = contents(folder / "a.h5")
    assert [len(column) for column in after] == [510, 510]
    states = sorted(snapshots.iterdir())
    assert len(states) > 40
    monkeypatch.setattr(journal, "SNAPSHOT_TRIES", 1)
    for state in states:
        found = contents(state / "a.h5")
        assert found in (before, after), state
        assert plain_contents(state / "a.h5") in (before, after, None), state
        # whoever writes next finishes it for good: plain readers see it whole
        mended = Journal(state)
        mended.finish()
        mended.close()
        with h5py.File(state / "a.h5") as file:
            assert file["x"][:].tolist() == found[0]


def test_without_the_journal_such_a_stop_does_harm(folder, tmp_path_factory, monkeypatch):
    """The test above can fail: some of the same files are broken when the journal is ignored."""
    snapshots = tmp_path_factory.mktemp("stopped")
    before = contents(folder / "a.h5")
    version = (folder / "a.h5").read_bytes()[8:9]
    held = Journal(folder)
    with monkeypatch.context() as patch:
        stop_at_every_write(patch, folder, snapshots)
        with held.changing(folder / "a.h5") as file:
            grow(file, 500)
    held.close()
    after = contents(folder / "a.h5")
    broken, refused = 0, 0
    for state in snapshots.iterdir():
        (state / JOURNAL).unlink()
        refused += plain_contents(state / "a.h5") is None
        with (state / "a.h5").open("r+b") as file:  # the mark of a change that has not ended
            file.seek(8)
            file.write(version)
        try:
            broken += contents(state / "a.h5") not in (before, after)
        except (OSError, RuntimeError, KeyError):
            broken += 1
    assert broken
    assert 0 < refused < len(list(snapshots.iterdir()))


def test_an_exception_takes_the_change_back(folder):
    before = contents(folder / "a.h5")
    held = Journal(folder)

    def fail():
        with held.changing(folder / "a.h5") as file:
            grow(file, 100)
            file.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert contents(folder / "a.h5") == before
    held.close()
    assert not (folder / JOURNAL).exists()


@pytest.mark.parametrize("place", range(1, 12))
def test_where_the_disk_is_full_a_change_fails_whole_or_is_made(folder, monkeypatch, place):
    before = contents(folder / "a.h5")
    held = Journal(folder)
    written = []

    def write(raw, data, plain=journal._write_all):
        written.append(len(data))
        if len(written) == place:
            plain(raw, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        plain(raw, data)

    monkeypatch.setattr(journal, "_write_all", write)
    raised = False
    try:
        with held.changing(folder / "a.h5") as file:
            grow(file, 500)
    except OSError:
        raised = True
    monkeypatch.undo()
    monkeypatch.setattr(journal, "SNAPSHOT_TRIES", 1)
    n = len(contents(folder / "a.h5")[0])
    assert n == (10 if raised else 510)
    assert not raised or contents(folder / "a.h5") == before
    with held.changing(folder / "a.h5") as file:
        grow(file, 1)
    assert contents(folder / "a.h5")[0] == list(map(float, range(n + 1)))
    held.close()


def test_what_could_not_be_finished_is_finished_before_the_next_change(folder, monkeypatch):
    held = Journal(folder)
    with monkeypatch.context() as patch:
        patch.setattr(journal, "redo", lambda *_: (_ for _ in ()).throw(OSError("unplugged")))
        with held.changing(folder / "a.h5") as file:
            grow(file, 5)
    assert (folder / JOURNAL).stat().st_size > 0
    with held.changing(folder / "a.h5") as file:
        assert len(file["x"]) == 15
        grow(file, 5)
    assert contents(folder / "a.h5")[0] == list(map(float, range(20)))
    held.close()


def test_a_journal_cut_short_is_of_a_change_not_begun(tmp_path):
    change = Change("f", 6, [(0, b"ab"), (5, b"c"), (1, b"B")])
    packed = journal._packed(change)
    assert read_change(packed) == change
    for length in range(len(packed)):
        assert read_change(packed[:length]) is None
    assert read_change(packed[:-1] + b"?") is None
    assert read_change(b"something else, longer than a header of this journal") is None
    path = tmp_path / "f"
    path.write_bytes(b"123456789")
    for _ in range(2):
        with path.open("r+b") as file:
            redo(file, change)
        assert path.read_bytes() == b"aB345c"


def test_readers_beside_a_writer_see_whole_changes(folder):
    """Another thread stands for another process: they share nothing but the files."""
    held = Journal(folder)

    def change():
        for _ in range(40):
            with held.changing(folder / "a.h5") as file:
                grow(file, 50)

    writer = threading.Thread(target=change)
    writer.start()
    lengths = []
    while writer.is_alive():
        x, y = contents(folder / "a.h5")
        assert x == y == list(range(len(x)))
        lengths.append(len(x))
    assert lengths == sorted(lengths)
    assert len(contents(folder / "a.h5")[0]) == 2010
    held.close()


needs_locks = pytest.mark.skipif(journal.fcntl is None, reason="needs POSIX locks")


@needs_locks
def test_a_plain_reader_keeps_the_state_that_it_has_opened(folder):
    before = contents(folder / "a.h5")
    held = Journal(folder)
    with h5py.File(folder / "a.h5") as reader:
        x = reader["x"]
        for n in (500, 3):
            with held.changing(folder / "a.h5") as file:
                grow(file, n)
        assert (len(x), len(reader["y"])) == (10, 10)
        assert (x[:].tolist(), reader["y"][:].tolist()) == before
        assert len(plain_contents(folder / "a.h5")[0]) == 513
    held.close()
    assert sorted(file.name for file in folder.iterdir()) == ["a.h5"]


@needs_locks
def test_a_file_is_copied_only_where_somebody_reads_it(folder):
    held = Journal(folder)
    place = (folder / "a.h5").stat().st_ino
    with held.changing(folder / "a.h5") as file:
        grow(file, 5)
    assert (folder / "a.h5").stat().st_ino == place
    with h5py.File(folder / "a.h5"), held.changing(folder / "a.h5") as file:
        grow(file, 5)
    assert (folder / "a.h5").stat().st_ino != place
    held.close()


@needs_locks
def test_a_plain_reader_is_refused_while_bytes_change(folder, monkeypatch):
    before = contents(folder / "a.h5")
    held, seen = Journal(folder), []

    def write(raw, data, plain=journal._write_all):
        seen.append(plain_contents(folder / "a.h5"))
        plain(raw, data)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_write_all", write)
        with held.changing(folder / "a.h5") as file:
            grow(file, 500)
    held.close()
    assert len(seen) > 20
    assert seen == [None] * len(seen)
    assert plain_contents(folder / "a.h5") == contents(folder / "a.h5") != before


@needs_locks
def test_a_change_left_by_a_killed_writer_is_finished_beside_a_reader(folder):
    held = Journal(folder)
    with held.changing(folder / "a.h5") as file:
        grow(file, 5)
    whole = (folder / "a.h5").read_bytes()
    change = Change("a.h5", len(whole) + 2, [(len(whole), b"ab")])
    held._file.write(journal._packed(change))
    with h5py.File(folder / "a.h5") as reader:
        held.finish()
        assert len(reader["x"]) == 15
    assert (folder / "a.h5").read_bytes() == whole + b"ab"
    held.close()


@needs_locks
def test_plain_readers_beside_a_writer_see_whole_changes_or_are_refused(folder):
    """The short form of benchmarks/live_reads.py."""
    held, ended = Journal(folder), threading.Event()

    def change():
        while not ended.is_set():
            with held.changing(folder / "a.h5") as file:
                grow(file, 7)

    writer = threading.Thread(target=change)
    writer.start()
    whole = 0
    for _ in range(60):
        try:
            with h5py.File(folder / "a.h5") as file:
                x = file["x"][:].tolist()
                time.sleep(0.002)
                y = file["y"][:].tolist()
        except OSError:
            continue
        assert x == y == list(range(len(x)))
        whole += 1
    ended.set()
    writer.join(PATIENCE)
    assert not writer.is_alive()
    held.close()
    assert whole


def test_a_damaged_file_is_refused_at_once(folder):
    (folder / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    with pytest.raises(OSError, match=r"open"):
        contents(folder / "a.h5")


@needs_locks
def test_a_second_process_is_refused_until_the_first_has_ended(folder):
    code = (
        "import sys; from pathlib import Path; from openmm_cgan.frames.journal import Journal;"
        f"held = Journal(Path({str(folder)!r})); print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert next_line(child) == "held\n"
    with pytest.raises(RuntimeError, match="another process is writing"):
        Journal(folder)
    child.kill()
    child.communicate(timeout=PATIENCE)
    Journal(folder).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_neither_writes_nor_removes(folder):
    held = Journal(folder)
    code = 0 if held.ours else 1
    assert code == 0
    held._pid += 1  # what a child sees: the journal of another process
    assert not held.ours
    held.close()
    assert (folder / JOURNAL).exists()
