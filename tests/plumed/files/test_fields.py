"""Files of fields: COLVAR, HILLS and their kind."""

import math

import pytest

from openmm_cgan.plumed.files.fields import FieldWriter, read_fields
from tests.cases.full_disks import full_at


def test_field_files_are_backed_up_appended_and_read(tmp_path):
    path = tmp_path / "COLVAR"
    for value in ("1.0", "2.0"):
        writer = FieldWriter(path, ["time", "phi"], [("min_phi", "-pi"), ("max_phi", "pi")])
        writer.write([" 0.0", f" {value}"])
        writer.close()
    FieldWriter(path, ["time", "phi"], append=True).close()
    with open(path, "a") as file:
        file.write(" 1.0 0.")  # cut short by a killed run
    table = read_fields(path)
    assert table.columns["phi"].tolist() == [2.0]
    assert table.domain("phi") == (-math.pi, math.pi)
    assert read_fields(tmp_path / "bck.0.COLVAR").columns["phi"].tolist() == [1.0]


@pytest.mark.parametrize("content", ["", "1 2\n", "#! FIELDS a b\n1\n", "#! FIELDS a\nx\n"])
def test_files_that_are_no_field_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "COLVAR"
    path.write_text(content)
    with pytest.raises(ValueError, match="COLVAR"):
        read_fields(path)


def test_rows_that_a_full_disk_refuses_are_whole_and_there_when_it_has_room(tmp_path):
    path = tmp_path / "HILLS"
    writer = FieldWriter(path, ("time", "x"))
    for step in range(10):
        writer.write((f" {step}", f" {step / 7:.15f}"))
    writer.flush()
    whole = path.read_text()
    for step in range(10, 20):
        writer.write((f" {step}", f" {step / 7:.15f}"))
    with full_at(len(whole) + 50), pytest.raises(OSError, match=str(path)):
        writer.flush()
    assert path.read_text() == whole
    writer.write((" 20", " 0.5"))
    writer.close()
    assert read_fields(path).values[:, 0].tolist() == list(range(21))
