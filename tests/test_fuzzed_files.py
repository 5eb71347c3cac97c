"""Changed files of every kind give their data or an error that names them: few of each.

The short form of benchmarks/fuzz_files.py.
"""

import logging
import os

import pytest

from benchmarks.file_kinds import KINDS
from benchmarks.fuzz_files import fuzz
from openmm_cgan.cgan.artefact import read_artefact
from openmm_cgan.checkpoints import read_run
from openmm_cgan.frames import read_frames
from openmm_cgan.json_files import read_json
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.index_files import read_index_file
from openmm_cgan.plumed.input.pdb import read_pdb, read_remarks

NUMBERS = {
    "H5MD": 20, "tables": 50, "models": 10, "checkpoints": 9, "PDB files": 20,
    "index files": 30, "records": 20,
}  # fmt: skip


@pytest.mark.parametrize("group", NUMBERS)
def test_they_are_refused_by_name_or_read(group, caplog):
    caplog.set_level(logging.ERROR, logger="openmm_cgan")
    assert {kind.group for kind in KINDS} == NUMBERS.keys()
    counts, faults = fuzz({group: NUMBERS[group]}, seed=3)
    assert not faults, faults[0].told
    assert counts[group]["refused"] > 0
    assert sum(counts[group].values()) == NUMBERS[group]


READERS = (
    *(read_artefact, read_frames, read_run, read_json),
    *(read_fields, read_index_file, read_pdb, read_remarks),
)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("read", READERS)
def test_devices_and_pipes_are_refused_before_they_are_read(read, tmp_path):
    """They need not end: a pipe that nobody writes to would be waited for, for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        with pytest.raises(ValueError, match=r"a device or a pipe|no PDB file"):
            read(tmp_path / name)
