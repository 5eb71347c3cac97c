"""Runs that are killed go on as if they had never stopped; signals save and say how to go on."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kill_resume import contents, differences, ended
from tests.cases import ROOT
from tests.cases.other_processes import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
SCRIPT = ROOT / "benchmarks" / "kill_resume.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
PROGRAM = "from openmm_cgan.cli import main; main()"


def test_a_killed_run_ends_as_the_one_that_was_left_alone(tmp_path: Path) -> None:
    """Each kind once; benchmarks/kill_resume.py does it fifty times, and others beside."""
    kinds = ["metad", "seeds", "windows", "run", "train"]
    command = [sys.executable, SCRIPT, "--repeats", "1", "--kills", "1"]
    command += ["--json", tmp_path / "rows.json", "--kind", *kinds]
    ran = subprocess.run(
        command, capture_output=True, text=True, env=ENVIRONMENT, timeout=2 * PATIENCE
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["kind"] for row in rows] == kinds
    assert all(row["equal"] == row["runs"] == row["kills"] == 1 for row in rows)


def test_a_run_that_hangs_is_an_error_and_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.kill_resume.PATIENCE", 0.05)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(RuntimeError, match="has not ended"):
        ended(child.pid)
    assert child.poll() is not None


def test_the_comparison_sees_what_is_lost(tmp_path: Path) -> None:
    for name, rows in (("a", "1\n2\n"), ("b", "1\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "COLVAR").write_text(rows)
        (tmp_path / name / "same").write_text("x")
    (tmp_path / "a" / "HILLS").write_text("")
    whole, cut = (contents(tmp_path / name) for name in "ab")
    assert differences(cut, whole) == ["COLVAR", "HILLS"]


def test_sigterm_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    """SIGINT does it in test_explore.py; both come by one handler."""
    arguments = ["demo", "--quick", "--out", str(tmp_path / "demo"), "--workers", "0"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    checkpoint = tmp_path / "demo" / "md" / "run.chk"
    wait_until(checkpoint.exists, process, "a checkpoint")
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    last = told.strip().splitlines()[-1]
    assert re.fullmatch(r"stopped by SIGTERM; all is saved in .*--resume goes on", last)
