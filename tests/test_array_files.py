"""Arrays in zips: what numpy.savez writes is read whole, or refused."""

import io
import zipfile

import numpy as np
import pytest

from openmm_cgan.array_files import read_array, read_arrays

ARRAYS = {
    "a": np.arange(6000.0).reshape(2000, 3),  # more than zipfile reads at once
    "fortran": np.asfortranarray(np.arange(12, dtype=np.int32).reshape(3, 4)),
    "text": np.array("a header"),
    "none": np.zeros((0, 3), np.float32),
    "truth": np.array([True, False]),
    "one": np.array(7, np.uint8),
}


@pytest.fixture
def content():
    buffer = io.BytesIO()
    np.savez(buffer, **ARRAYS)
    return buffer.getvalue()


def test_arrays_are_read_as_numpy_wrote_them(content):
    found = read_arrays(io.BytesIO(content), 10**6)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        found[name][...] = array  # they can be written to


def test_a_header_that_claims_fewer_rows_is_refused_where_numpy_reads_it(content):
    damaged = content.replace(b"'shape': (2000, 3)", b"'shape': (1000, 3)")
    with np.load(io.BytesIO(damaged), allow_pickle=False) as file:
        assert file["a"].shape == (1000, 3)
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        read_arrays(io.BytesIO(damaged), 10**6)


def test_no_changed_byte_alters_an_array(content):
    rng = np.random.default_rng(2)
    inside = np.arange(len(content))  # most of it is the one large array
    inside = inside[(inside < 400) | (inside > len(content) - 2200)]
    for at in rng.choice(inside, 300, replace=False):
        damaged = bytearray(content)
        damaged[at] ^= 1 << rng.integers(8)
        try:
            found = read_arrays(io.BytesIO(damaged), 10**6)
        except (ValueError, zipfile.BadZipFile, OSError, EOFError, RuntimeError):
            continue
        for name in ARRAYS.keys() & found.keys():
            np.testing.assert_array_equal(found[name], ARRAYS[name])


@pytest.mark.parametrize(
    "header",
    ["'shape': (10000000000000, 3)", "'shape': (-22, -3)", "'shape': (22, 2)", "'shape': (22, 33)"],
)
def test_sizes_that_are_not_there_are_refused_before_anything_is_allocated(header, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((22, 3)))
    content = (tmp_path / "a.npy").read_bytes()
    head, body = content[:128].replace(b"'shape': (22, 3)", header.encode()), content[128:]
    (tmp_path / "a.npy").write_bytes(head.rstrip(b" \n")[:127].ljust(127) + b"\n" + body)
    with pytest.raises(ValueError, match=r"a\.npy is no \.npy file"):
        read_array(tmp_path / "a.npy")


def test_objects_two_of_a_name_and_too_much_are_refused(content, tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="expected numbers or text"):
        read_array(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="unpacks to"):
        read_arrays(io.BytesIO(content), 100)
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.npy", archive.read("one.npy"))
    with pytest.raises(ValueError, match="two arrays called a"):
        read_arrays(buffer, 10**6)
