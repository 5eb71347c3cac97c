"""One process alone writes to a file: a second one is refused before it changes anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openmm_cgan.claims import Claim
from openmm_cgan.plumed.files.fields import FieldWriter
from tests.cases import ROOT
from tests.cases.biased_runs import biased_alanine, refused_alanine
from tests.cases.other_processes import PATIENCE, in_another_process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks")

TEXT = """phi: TORSION ATOMS=5,7,9,15
METAD ARG=phi SIGMA=0.3 HEIGHT=1.2 PACE=20
PRINT ARG=phi STRIDE=10 FILE=COLVAR
"""


def test_a_claim_is_the_process_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openmm_cgan.claims.PATIENCE", 0.1)
    path = tmp_path / "a"
    path.write_text("rows")
    first, second = Claim(path), Claim(path)
    first.release()
    first.release()
    child = os.fork()
    if child == 0:
        try:
            Claim(path)
        except RuntimeError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    second.release()
    child = os.fork()
    if child == 0:
        Claim(path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    Claim(tmp_path / "not there").release()
    Claim(Path("/dev/null")).release()


def test_a_closed_writer_has_no_claim(tmp_path: Path) -> None:
    writer = FieldWriter(tmp_path / "a", ["time"])
    assert refused(tmp_path / "a")
    writer.close()
    assert not refused(tmp_path / "a")


def refused(path: Path) -> bool:
    code = "from pathlib import Path; from openmm_cgan import claims; claims.PATIENCE = 0.1; "
    code += f"claims.Claim(Path({str(path)!r}))"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT, timeout=PATIENCE
    )
    return b"another process is writing" in ran.stderr


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_second_process_changes_nothing_of_a_living_run(goes_on: bool, tmp_path: Path) -> None:
    bias, simulation = biased_alanine(TEXT, tmp_path)
    simulation.step(100)
    bias.save_checkpoint(tmp_path / "run.chk")
    simulation.step(100)
    bias.saved()  # all rows are on the disk
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    checkpoint = tmp_path / "run.chk" if goes_on else None
    said = tmp_path.with_name(f"{tmp_path.name}-said")
    in_another_process(refused_alanine, TEXT, tmp_path, checkpoint, said)
    assert "another process is writing to" in said.read_text()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    bias.close()
