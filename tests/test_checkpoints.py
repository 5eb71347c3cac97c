"""The file of a saved run: what is written is read, and what is no such file is refused."""

import json
import zipfile

import numpy as np
import pytest

from openmm_cgan.checkpoints import SavedRun, SavedState, read_run, saved_array, write_run
from tests.cases.checkpoints import write_version_1

STATES = {
    "bias": SavedState(3, 2, {"HILLS": 7}, {"b/x": np.arange(3.0), "b/n": np.array(4)}, "abc"),
    "1/b": SavedState(3, -1, {}, {"x": np.array([[True, False]]), "rng": np.full(2, 2**64 - 1)}),
    "b": SavedState(3, 3, {"rows": 0, "a/b": 1}, {}, "def"),
}


def arrays_of(state):
    return {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in state.arrays.items()
    }


def test_what_is_written_is_read(tmp_path):
    write_run(tmp_path / "a", SavedRun(3, b"chk", STATES))
    found = read_run(tmp_path / "a")
    assert (found.step, found.checkpoint, [*found.keepers]) == (3, b"chk", [*STATES])
    for name, state in STATES.items():
        again = found.keepers[name]
        assert vars(again) | {"arrays": 0} == vars(state) | {"arrays": 0}
        assert arrays_of(again) == arrays_of(state)
    np.testing.assert_array_equal(found.keepers["bias"].of("b")["x"], [0, 1, 2])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_version_1_is_a_run_with_one_bias(tmp_path):
    run = SavedRun(3, b"chk", {"bias": STATES["bias"]})
    write_version_1(tmp_path / "a", run)
    found = read_run(tmp_path / "a")
    assert (found.step, found.checkpoint, [*found.keepers]) == (3, b"chk", ["bias"])
    again = found.keepers["bias"]
    assert vars(again) | {"arrays": 0} == vars(STATES["bias"]) | {"arrays": 0}
    assert arrays_of(again) == arrays_of(STATES["bias"])


def record(**changes):
    return {"name": "bias", "updated": 3, "files": {}, "saved_by": ""} | changes


HEADERS = {
    "another version": {"version": 99},
    "no object": [2],
    "no keepers": {"version": 2, "step": 3},
    "keepers that are none": {"version": 2, "step": 3, "keepers": 7},
    "endless": {"version": 2, "step": float("inf"), "keepers": []},
    "no number": {"version": 2, "step": float("nan"), "keepers": []},
    "twins": {"version": 2, "step": 3, "keepers": [record(), record()]},
    "a negative length": {"version": 2, "step": 3, "keepers": [record(files={"HILLS": -1})]},
    "files in a list": {"version": 2, "step": 3, "keepers": [record(files=["HILLS"])]},
    "no step": {"version": 1, "input": "", "files": {}, "updated": 0},
}
ARRAYS = {
    "objects": {"0/b/x": np.array([{}], dtype=object)},
    "text": {"0/b/x": np.array("text")},
    "complex numbers": {"0/b/x": np.array(1j)},
    "no JSON": {"header": np.array("no JSON")},
    "deep JSON": {"header": np.array("[" * 100_000)},
    "no bytes": {"checkpoint": np.arange(3.0)},
    **{name: {"header": np.array(json.dumps(header))} for name, header in HEADERS.items()},
}


@pytest.mark.parametrize("arrays", ARRAYS.values(), ids=ARRAYS.keys())
def test_only_numbers_and_whole_headers_are_read(arrays, tmp_path):
    write_run(tmp_path / "a", SavedRun(3, b"chk", STATES))
    with np.load(tmp_path / "a") as archive:
        good = {key: archive[key] for key in archive.files}
    np.savez(tmp_path / "bad.npz", **good | arrays)
    with pytest.raises(ValueError, match="no saved state"):
        read_run(tmp_path / "bad.npz")


def test_a_damaged_file_names_the_one_before(tmp_path):
    (tmp_path / "run.chk").write_bytes(b"PK")
    (tmp_path / "run.chk.old").touch()
    with pytest.raises(ValueError, match=r"no saved state.*before it is .*run\.chk\.old"):
        read_run(tmp_path / "run.chk")


def test_sizes_that_no_file_has_are_refused(tmp_path):
    """An array that says to be of 8 TB, in a file of a kilobyte."""
    write_run(tmp_path / "a", SavedRun(3, b"chk", STATES))
    with zipfile.ZipFile(tmp_path / "a") as good, zipfile.ZipFile(tmp_path / "b", "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name == "0/b/x.npy":
                content = content.replace(b"(3,), }" + b" " * 12, b"(1000000000000,), }")
                assert b"1000000000000" in content
            bad.writestr(name, content)
    with pytest.raises(ValueError, match="no saved state"):
        read_run(tmp_path / "b")


def test_broken_files_are_refused_and_no_other_error_comes(tmp_path):
    write_run(tmp_path / "a", SavedRun(3, bytes(range(256)), STATES))
    whole = (tmp_path / "a").read_bytes()
    rng = np.random.default_rng(2)
    refused = []
    for _ in range(400):
        broken = np.frombuffer(whole, dtype=np.uint8).copy()
        places = rng.integers(len(broken), size=rng.integers(1, 4))
        broken[places] = rng.integers(256, size=len(places))
        length = len(broken) if rng.random() < 0.7 else rng.integers(len(broken))
        (tmp_path / "b").write_bytes(broken[:length].tobytes())
        try:
            read_run(tmp_path / "b")
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert all("no saved state" in message for message in refused)


def test_arrays_are_asked_for_by_name_and_shape():
    arrays = {"x": np.zeros((2, 3))}
    assert saved_array(arrays, "x", (None, 3)).shape == (2, 3)
    with pytest.raises(ValueError, match="lacks 'y'"):
        saved_array(arrays, "y", ())
    with pytest.raises(ValueError, match=r"shape \(2, 3\); expected \(3, 3\)"):
        saved_array(arrays, "x", (3, 3))
