"""One command alone makes a file, however another one's beginning and end fall together."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openmm_cgan.claims import Claim
from openmm_cgan.cli import stopping
from openmm_cgan.cli.stopping import alone

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks")
ROUNDS = 100


def in_a_fork(work: Callable[[], None]) -> int:
    """Exit code of a forked child: 0, or 7 where it is refused."""
    return os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1])


def forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except RuntimeError:
            os._exit(7)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def enter(out: Path) -> None:
    with alone(out):
        pass


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openmm_cgan.claims.PATIENCE", 0.1)


@pytest.mark.parametrize("is_claimed", [False, True], ids=["before the claim", "after it"])
def test_a_lock_that_another_process_removes_meanwhile_is_made_again(
    is_claimed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []

    def claim(path: Path) -> Claim:
        """The first time the process that had it comes to its end, just now."""
        made = Claim(path) if is_claimed or removed else None
        if not removed:
            path.unlink()
            removed.append(path)
        return made or Claim(path)

    monkeypatch.setattr(stopping, "Claim", claim)
    out = tmp_path / "model.npz"
    with alone(out):
        assert removed
        assert in_a_fork(lambda: enter(out)) == 7
    assert in_a_fork(lambda: enter(out)) == 0
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    out = tmp_path / "model.npz"

    def die() -> None:
        with alone(out):
            os._exit(9)

    assert in_a_fork(die) == 9
    assert list(tmp_path.iterdir()) == [tmp_path / ".model.npz.lock"]
    with alone(out):
        assert in_a_fork(lambda: enter(out)) == 7
    assert not list(tmp_path.iterdir())


def test_of_many_that_come_and_go_one_at_a_time_is_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openmm_cgan.claims.PATIENCE", 60.0)
    monkeypatch.setattr("openmm_cgan.claims.time.sleep", lambda seconds: None)
    out, within = tmp_path / "model.npz", tmp_path / "within"

    @contextlib.contextmanager
    def marked() -> Iterator[None]:
        os.close(os.open(within, os.O_CREAT | os.O_EXCL))  # an error if another is within
        yield
        within.unlink()

    def come_and_go() -> None:
        for _ in range(ROUNDS):
            with alone(out), marked():
                pass

    children = [forked(come_and_go) for _ in range(4)]
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert ends == [0] * 4
