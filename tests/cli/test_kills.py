"""A run of the command line that is killed goes on as if it had never stopped."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kill_resume import differences, kill_until_it_ends, prepare

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
STEPS = 40_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The command, and the folder of a run that is left alone."""
    folder = tmp_path_factory.mktemp("kills")
    command = prepare(folder)
    out = folder / "whole"
    subprocess.run(
        [*command, "--out", str(out), "--steps", str(STEPS)], check=True, capture_output=True
    )
    return command, out


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_ends_as_the_one_that_was_left_alone(
    number: int, whole: tuple[list[str], Path], tmp_path: Path
) -> None:
    command, left_alone = whole
    rng = np.random.default_rng(number)
    kills = kill_until_it_ends(command, tmp_path / "run", STEPS, rng, number)
    assert kills > 0
    assert differences(tmp_path / "run", left_alone) == []
