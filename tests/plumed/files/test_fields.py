"""Files of fields: COLVAR, HILLS and their kind."""

import gzip
import math

import pytest

from openmm_cgan.plumed.files.contents import append_rows, open_rows, text_of_rows
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


@pytest.mark.parametrize("name", ["HILLS", "HILLS.gz"])
def test_rows_that_a_full_disk_refuses_are_whole_and_there_when_it_has_room(name, tmp_path):
    path = tmp_path / name
    writer = FieldWriter(path, ("time", "x"))
    for step in range(10):
        writer.write((f" {step}", f" {step / 7:.15f}"))
    writer.flush()
    whole = path.read_bytes()
    for step in range(10, 20):
        writer.write((f" {step}", f" {step / 7:.15f}"))
    with full_at(len(whole) + 50), pytest.raises(OSError, match=str(path)):
        writer.flush()
    assert path.read_bytes() == whole
    assert len(read_fields(path)) == 10
    writer.write((" 20", " 0.5"))
    writer.close()
    assert read_fields(path).values[:, 0].tolist() == list(range(21))


def test_a_gzip_file_whose_end_a_full_disk_refuses_goes_on(tmp_path, caplog):
    """Its rows are there; what is missing is written later, or the file is mended by a restart."""
    path = tmp_path / "COLVAR.gz"
    writer = FieldWriter(path, ("time",))
    writer.write((" 0",))
    writer.flush()
    whole = path.read_bytes()
    with full_at(len(whole) + 3), pytest.raises(OSError, match=str(path)):
        writer.complete()
    assert path.read_bytes() == whole
    writer.write((" 1",))
    writer.complete()
    ended = path.stat().st_size
    writer.complete()  # nothing new: no member of nothing
    assert path.stat().st_size == ended
    assert gzip.decompress(path.read_bytes()) == b"#! FIELDS time\n 0\n 1\n"
    writer.write((" 2",))
    writer.flush()
    with full_at(path.stat().st_size + 3), pytest.raises(OSError, match=str(path)):
        writer.close()
    assert not caplog.records
    writer = FieldWriter(path, ("time",), append=True, header=False)
    assert "ended too early" in caplog.text
    writer.write((" 3",))
    writer.close()
    assert gzip.decompress(path.read_bytes()) == b"#! FIELDS time\n 0\n 1\n 2\n 3\n"


@pytest.mark.parametrize("name", ["dump.xyz", "dump.xyz.gz"])
def test_what_is_appended_at_once_is_in_a_file_whole_or_not_at_all(name, tmp_path):
    path, rows = tmp_path / name, "".join(f"C {x / 7}\n" for x in range(2000))
    append_rows(path, rows)
    whole = path.read_bytes()
    for room in (5, len(whole) - 4):
        with full_at(len(whole) + room), pytest.raises(OSError, match=str(path)):
            append_rows(path, rows)
        assert path.read_bytes() == whole
    append_rows(path, rows)
    assert text_of_rows(path) == 2 * rows


def test_a_gzip_file_that_nothing_is_written_to_is_whole_and_stays_as_it_is(tmp_path):
    """An empty file would be none that gzip reads; a member of no rows each time would pile up."""
    path = tmp_path / "COLVAR.gz"
    open_rows(path).close()
    empty = path.read_bytes()
    assert empty.startswith(b"\x1f\x8b"), "gzip's own first bytes"
    assert gzip.decompress(empty) == b""
    with open_rows(path) as file:
        file.write("0 1.5\n")
    written = path.read_bytes()
    assert gzip.decompress(written) == b"0 1.5\n"
    open_rows(path).close()
    assert path.read_bytes() == written
