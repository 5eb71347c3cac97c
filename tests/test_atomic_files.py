"""Files replaced whole: what a kill, an error or a signal leaves."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from openmm_cgan.atomic_files import keep_older, replacing, require_writable, write_atomically
from tests.cases.full_disks import full_at
from tests.cases.other_processes import PATIENCE
from tests.cases.sources import tree_of

PACKAGE = Path(__file__).parent.parent / "openmm_cgan"


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "run.json"
    for content in ("one", "two, longer", "3"):
        write_atomically(path, content)
        assert path.read_text() == content
        assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    write_atomically(path, b"\x00\r\n\xff")
    assert path.read_bytes() == b"\x00\r\n\xff"
    write_atomically(str(path), memoryview(b"ab"))
    assert path.read_bytes() == b"ab"


def test_the_old_file_is_there_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with replacing(path) as unfinished:
        unfinished.write_text("new")
        assert unfinished.parent == tmp_path  # a rename does not cross file systems
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def write_half(path: Path, error: type[BaseException]) -> None:
    with replacing(path) as unfinished, unfinished.open("w") as file:
        file.write("half of")
        file.flush()
        raise error


def test_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "run.chk"
    path.write_text("old")
    with full_at(100), pytest.raises(OSError, match=str(path)):
        write_atomically(path, b"0" * 200)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"run.chk": "old"}


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "scratch").mkdir()
    there, link = tmp_path / "scratch" / "run.chk", tmp_path / "run.chk"
    link.symlink_to(there)  # nothing is there yet
    for content in ("one", "two", "three"):
        keep_older(link)
        write_atomically(link, content)
        assert link.is_symlink()
        assert there.read_text() == content
    assert (tmp_path / "run.chk.old").read_text() == "two"
    assert [path.name for path in there.parent.iterdir()] == ["run.chk"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("there", [True, False], ids=["replaced", "new"])
def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path, error, there):
    path = tmp_path / "model.npz"
    if there:
        path.write_text("old")
    with pytest.raises(error):
        write_half(path, error)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == (
        {"model.npz": "old"} if there else {}
    )


def test_an_error_before_anything_is_written_is_the_one_that_is_seen(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_atomically(tmp_path / "nowhere" / "a", "text")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "a", 3)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from openmm_cgan.atomic_files import replacing
with replacing(sys.argv[1]) as unfinished, unfinished.open("w") as file:
    file.write("half of")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "segment-00001.h5md"
    path.write_text("old")
    run = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=PATIENCE)
    assert run.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    # what is left is under a name that no pattern of a run's files finds
    assert list(tmp_path.glob("segment-*")) == [path]
    assert list(tmp_path.glob("*.h5md")) == [path]
    write_atomically(path, "new")  # and in nobody's way
    assert path.read_text() == "new"


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def synced(number: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{number}") else "file")
        fsync(number)

    def replaced(source: Path, target: Path) -> None:
        done.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_atomically(tmp_path / "a", "text")
    assert done[-2:] == ["name", "folder"]
    assert len(done) == 3
    if sys.platform == "linux":
        assert done[0] == "file"


def renames(tree: ast.AST) -> list[str]:
    """Source of the calls that rename a file; str.replace has two arguments or constants."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        called = ast.unparse(node.func)
        renamed = called in ("os.replace", "os.rename", "os.renames", "shutil.move")
        if renamed or node.func.attr in ("rename", "mkstemp", "NamedTemporaryFile"):
            found.append(ast.unparse(node))
        elif node.func.attr == "replace" and len(node.args) == 1 and not node.keywords:
            found.append(ast.unparse(node))  # Path.replace; str.replace takes two
    return found


def test_no_other_room_replaces_files_by_itself():
    """All others may set a file aside under the names ``bck.*`` that PLUMED gives."""
    others = []
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).as_posix()
        if room == "atomic_files.py":
            continue
        calls = renames(tree_of(path))
        others += [f"{room}: {call}" for call in calls if not ("bck." in call or "backup" in call)]
    assert not others


@pytest.mark.parametrize("name", [".", "new", "deep/in/new", "old.csv"])
def test_what_may_not_be_written_is_told_beforehand(tmp_path, monkeypatch, name):
    (tmp_path / "old.csv").write_text("kept")
    require_writable(tmp_path / name)
    require_writable(Path("/dev/null"))
    may = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, how: Path(path) != tmp_path and may(path, how))
    with pytest.raises(PermissionError, match=r"may not write to .*Give another place"):
        require_writable(tmp_path / name)
