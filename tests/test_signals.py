"""Signals are kept until a step is made; who sends a third does not wait, and is told the truth."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from openmm_cgan.cli import simulations
from openmm_cgan.cli.commands import run
from openmm_cgan.signals import StoppedBySignalError, at_once, between_steps
from openmm_cgan.windows import worker
from tests.cases import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")


def ask_to_stop(times: int) -> None:
    for _ in range(times):
        signal.raise_signal(signal.SIGTERM)


def test_two_signals_wait_for_the_step() -> None:
    with pytest.raises(StoppedBySignalError) as stopped, between_steps() as raise_what_came:  # noqa: PT012
        raise_what_came()
        ask_to_stop(2)
        raise_what_came()
    assert stopped.value.saved
    assert stopped.value.told("a", "b") == "stopped by SIGTERM; all is saved in a: b goes on"


def test_a_third_signal_ends_the_step() -> None:
    with pytest.raises(StoppedBySignalError) as stopped, between_steps():
        ask_to_stop(3)
    assert not stopped.value.saved
    assert "last saved is in a: b goes on from there" in stopped.value.told("a", "b")


def test_what_openmm_makes_of_a_third_signal_is_still_a_signal() -> None:
    with pytest.raises(StoppedBySignalError) as stopped, between_steps():  # noqa: PT012
        try:
            ask_to_stop(3)
        except StoppedBySignalError as error:
            raise ValueError("OpenMM's") from error
    assert not stopped.value.saved


def test_errors_stay_errors_where_no_third_signal_came() -> None:
    with pytest.raises(ValueError, match="an error"), between_steps():  # noqa: PT012
        ask_to_stop(2)
        raise ValueError("an error")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("hearing", [between_steps, at_once])
def test_a_signal_that_is_ignored_stays_ignored(number: Any, hearing: Any) -> None:
    """As in the background of a shell, whose Ctrl-C is for another."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with hearing() as raise_what_came:
            signal.raise_signal(number)
            if raise_what_came is not None:
                raise_what_came()
            assert signal.getsignal(number) is signal.SIG_IGN
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_without_anything_to_save_signals_are_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with between_steps(keep=False) as raise_what_came:
        assert signal.getsignal(signal.SIGTERM) is before
        raise_what_came()


def stepping(times: int) -> Callable[..., None]:
    """What runs steps, and in the midst of one has so many signals."""

    def step_and_look(simulation: Any, steps: int, look: Callable[[int], None]) -> None:
        simulation.step(20)
        look(20)
        simulation.integrator.step(1)  # the reporters have not seen it
        ask_to_stop(times)
        look(1)

    return step_and_look


@pytest.mark.parametrize(("times", "saved"), [(1, 1), (3, 0)])
def test_a_window_is_not_saved_in_the_midst_of_a_step(
    times: int, saved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Simulated:
        currentStep = 0  # noqa: N815
        integrator = property(lambda self: self)

        def step(self, n: int) -> None:
            self.currentStep += n

    saves: list[Any] = []
    monkeypatch.setattr(worker, "_save", lambda *arguments: saves.append(arguments))
    monkeypatch.setattr(worker, "step_and_look", stepping(times))
    record = {"steps": 100, "checkpoint_interval": 100}
    with pytest.raises(StoppedBySignalError):
        worker._advance_finite(Simulated(), Path(), record, {})  # type: ignore[arg-type]
    assert len(saves) == saved


@pytest.mark.parametrize(
    ("backend", "times", "told"),
    [
        ("native", 1, "all is saved in"),
        ("native", 3, "in the midst of a step; what was last saved is in"),
        ("kernel", 1, "all is saved in"),
    ],
)
def test_a_run_says_what_it_has_saved(
    backend: str, times: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulations, "step_and_look", stepping(times))
    (tmp_path / "plumed.dat").write_text("d: DISTANCE ATOMS=2,19\nRESTRAINT ARG=d AT=0.5 KAPPA=9\n")
    pdb = ROOT / "openmm_cgan" / "data" / "alanine_dipeptide.pdb"
    arguments = [str(pdb), "--forcefield", "amber96.xml", "--plumed", str(tmp_path / "plumed.dat")]
    arguments += ["--steps", "100", "--platform", "Reference", "--frames-every", "10"]
    arguments += ["--out", str(tmp_path / "run"), "--backend", backend, "--no-report"]
    result = CliRunner().invoke(run, arguments)
    assert result.exit_code == 128 + signal.SIGTERM, result.output
    file = "run.chk" if backend == "native" else "state.xml"
    assert f"stopped by SIGTERM{'' if times > 1 else ';'} {told} {tmp_path / 'run' / file}" in (
        result.output
    )
