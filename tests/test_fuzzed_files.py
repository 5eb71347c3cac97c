"""Changed files of every kind give their data or an error that names them: few of each.

The short form of benchmarks/fuzz_files.py.
"""

import logging

import pytest

from benchmarks.file_kinds import KINDS
from benchmarks.fuzz_files import fuzz

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
