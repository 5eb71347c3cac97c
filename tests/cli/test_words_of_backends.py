"""What a run says of who runs its input."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openmm_cgan.cli import simulations
from openmm_cgan.cli.run_records import RunSettings
from openmm_cgan.cli.simulations import _bias_of, _Job
from openmm_cgan.testsystems import alanine_dipeptide


@pytest.mark.parametrize(
    ("asked", "taken", "warned"),
    [("auto", "kernel", True), ("auto", "native", False), ("kernel", "kernel", False)],
)
def test_that_plumed_itself_runs_an_input_is_said_when_it_begins(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch,
    asked: str, taken: str, warned: bool,
) -> None:  # fmt: skip
    """It was said at the end, of runs ten times as slow."""
    made = SimpleNamespace(backend=taken, source="p.dat")
    monkeypatch.setattr(simulations, "PlumedBias", lambda *_, **__: made)
    job = _Job(alanine_dipeptide(), "p.dat", tmp_path, RunSettings(backend=asked))
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        assert _bias_of(job, restart=False) is made
    assert ("p.dat is run by PLUMED itself" in caplog.text) == warned
