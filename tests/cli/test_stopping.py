"""How commands end by a signal; and that one alone makes a file, whenever another comes or ends."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from openmm_cgan.claims import Claim
from openmm_cgan.cli import main, stopping
from openmm_cgan.cli.stopping import alone, leaving, writing

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals, no locks")
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


# ---- signals


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_says_that_nothing_was_saved(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object, **more: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(main.commands[name], "make_context", interrupted)
    told = CliRunner().invoke(main, [name])
    assert told.exit_code == 128 + signal.SIGINT
    assert told.output == "stopped by SIGINT; nothing was saved: the same command begins anew\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_files_that_were_written_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, structures = tmp_path / "p.csv", tmp_path / "p.xtc"
    for path in (table, structures):
        path.write_text("of an earlier time")

    @writing(table, structures, None)
    def stopped() -> None:
        table.write_text("of now")
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        stopped()
    assert ended.value.code == 128 + signal.SIGTERM
    told = f"stopped by SIGTERM; {table} written, no more: the same command begins anew\n"
    assert capsys.readouterr().err == told


def test_of_a_page_and_a_trajectory_it_is_said_what_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plumed.dat").write_text("d: DISTANCE ATOMS=1,2\nPRINT ARG=d FILE=COLVAR\n")
    frame = "2\n9 9 9\nX 0 0 0\nX 0 0 1\n"
    Path("t.xyz").write_text(3 * frame)
    monkeypatch.setattr(
        "openmm_cgan.plumed.driver.driver._NativeEngine.update",
        lambda engine: signal.raise_signal(signal.SIGINT),
    )
    told = CliRunner().invoke(main, ["driver", "--ixyz", "t.xyz"])
    assert told.exit_code == 128 + signal.SIGINT
    assert "its files hold the frames before: the same command begins anew" in told.output
    told = CliRunner().invoke(main, ["driver", "--ixyz", "t.xyz", "--restart"])
    assert "remove what was appended" in told.output
    monkeypatch.setattr(
        "openmm_cgan.report.page.write_report",
        lambda *given, **more: signal.raise_signal(signal.SIGINT),
    )
    told = CliRunner().invoke(main, ["report", "."])
    assert "the page stays as it was last written, if it was" in told.output


def test_what_a_signal_breaks_off_leaves_the_handlers_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="another"), leaving("nothing"):
        raise ValueError("another")
    assert signal.getsignal(signal.SIGTERM) is before
