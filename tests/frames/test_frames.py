"""Frames in memory, and reading them: from whole, foreign, damaged and living files."""

import shutil
import subprocess
import sys
import time
import warnings

import h5py
import numpy as np
import pytest
from openmm import app, unit

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames, read_frames, segments, topology_hash
from openmm_cgan.frames.h5md import OURS, POSITION, SegmentHeader
from openmm_cgan.frames.segments import Row, SegmentWriter
from openmm_cgan.frames.set_aside import PATTERN
from openmm_cgan.metrics import pair_distances
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.other_processes import PATIENCE

PHI = CollectiveVariable("phi", "rad", (-np.pi, np.pi), "TORSION", (4, 6, 8, 14))


def make_frames(n=5, seed=0, **changes):
    rng = np.random.default_rng(seed)
    columns = {
        "positions": rng.normal(size=(n, 3, 3)).astype(np.float32),
        "cvs": rng.normal(size=(n, 1)),
        "bias": rng.normal(size=n),
        "step": np.arange(n),
        "time": np.arange(n) * 0.1,
        "segment": np.ones(n, np.int64),
        "settling": np.zeros(n, bool),
        "variables": (PHI,),
        "atoms": np.arange(3),
    }
    return Frames(**(columns | changes))


def write_folder(folder, steps, header=None, settle=0, size=10**9, bias=1.0):
    header = header or SegmentHeader((PHI,), (0, 1), temperature=300.0)
    writer = SegmentWriter(folder, header)
    if settle:
        writer.start_segment(0, {}, settle)
    for step in steps:
        positions = np.full((len(header.atoms), 3), step, np.float32)
        cvs = np.full(len(header.variables), step / 10)
        writer.append(Row(step, step * 0.1, positions, None, cvs, bias))
        if step % size == 0:
            writer.flush()
    writer.close()
    return folder


# ---- in memory


def test_selecting_rows():
    frames = make_frames(box=np.zeros((5, 3, 3), np.float32))
    chosen = frames.select(frames.step % 2 == 1)
    assert chosen.step.tolist() == [1, 3]
    np.testing.assert_array_equal(chosen.positions, frames.positions[[1, 3]])
    assert chosen.box.shape == (2, 3, 3)
    assert len(frames.select(slice(0, 0))) == 0
    assert frames.select([4, 0]).step.tolist() == [4, 0]


def test_joining_what_was_parted():
    frames = make_frames(box=np.zeros((5, 3, 3), np.float32))
    joined = Frames.concatenate([frames.select(slice(2)), frames.select(slice(2, None))])
    for name in ("positions", "cvs", "bias", "step", "time", "segment", "settling", "box"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(frames, name))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"variables": (CollectiveVariable("psi"),)}, "CVs"),
        ({"atoms": np.array([0, 1, 4])}, "atoms"),
        ({"temperature": 310.0}, "temperature"),
        ({"topology_hash": "abc"}, "topology"),
        ({"box": np.zeros((5, 3, 3), np.float32)}, "periodicity"),
    ],
)
def test_unlike_frames_are_not_joined(changes, word):
    with pytest.raises(ValueError, match=f"differ in {word}"):
        Frames.concatenate([make_frames(), make_frames(**changes)])


def test_the_same_frames_are_not_joined_with_themselves():
    frames = make_frames()
    with pytest.raises(ValueError, match=r"parts\[0\] and parts\[2\] hold the same 5 frames"):
        Frames.concatenate([frames, make_frames(seed=1), make_frames()])
    twice = frames.select(np.tile(np.arange(5), 2))
    assert twice.step.tolist() == [0, 1, 2, 3, 4] * 2


def test_nothing_is_not_joined():
    with pytest.raises(ValueError, match="no frames"):
        Frames.concatenate([])


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match=r"bias has shape \(3,\), expected \(5,\)"):
        make_frames(bias=np.zeros(3))
    with pytest.raises(ValueError, match=r"cvs has shape \(5, 2\), expected \(5, 1\)"):
        make_frames(cvs=np.zeros((5, 2)))


# ---- topology_hash


def test_the_hash_of_a_topology_follows_the_molecule_and_not_its_file(tmp_path):
    topology = alanine_dipeptide().topology
    with (tmp_path / "a.cif").open("w") as file:
        app.PDBxFile.writeFile(topology, alanine_dipeptide().positions * 10, file)
    again = app.PDBxFile(str(tmp_path / "a.cif")).topology
    assert topology_hash(again) == topology_hash(topology)
    assert len(topology_hash(topology)) == 64


@pytest.mark.parametrize("change", ["name", "element", "residue", "bond", "atom"])
def test_the_hash_sees_every_change(change):
    topology = alanine_dipeptide().topology
    before = topology_hash(topology)
    atoms = list(topology.atoms())
    if change == "name":
        atoms[3].name = "X"
    elif change == "element":
        atoms[3].element = app.element.carbon
    elif change == "residue":
        atoms[3].residue.name = "GLY"
    elif change == "bond":
        topology.addBond(atoms[0], atoms[21])
    else:
        topology.addAtom("Q", None, atoms[21].residue)
    assert topology_hash(topology) != before


# ---- reading


def test_a_stride_and_the_settle_window(tmp_path):
    folder = write_folder(tmp_path / "frames", range(1, 11), settle=4)
    assert read_frames(folder).step.tolist() == [4, 5, 6, 7, 8, 9, 10]
    assert read_frames(folder, settling=True, stride=3).step.tolist() == [1, 4, 7, 10]
    assert read_frames(folder, stride=3).step.tolist() == [4, 7, 10]
    with pytest.raises(ValueError, match="stride is 0"):
        read_frames(folder, stride=0)


def test_a_run_that_never_settled_gives_no_frames(tmp_path):
    frames = read_frames(write_folder(tmp_path / "frames", [1, 2], settle=100))
    assert len(frames) == 0
    assert frames.positions.shape == (0, 2, 3)
    assert frames.cvs.shape == (0, 1)


def test_positions_read_piece_by_piece_are_the_same(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "frames", range(1, 51), settle=17)
    whole = read_frames(folder, stride=3)
    monkeypatch.setattr("openmm_cgan.frames.frames.READ_BYTES", 100)
    pieces = read_frames(folder, stride=3)
    np.testing.assert_array_equal(pieces.positions, whole.positions)
    np.testing.assert_array_equal(whole.positions[:, 0, 0], whole.step)


def test_frames_are_read_without_positions(tmp_path):
    """Of several files too, and of a box."""
    header = SegmentHeader((PHI,), (0, 1), periodic=True, temperature=300.0)
    writer = SegmentWriter(tmp_path / "run", header)
    for step in range(4):
        row = Row(step, 0.1 * step, np.full((2, 3), step, np.float32), np.eye(3), [step], 1.0)
        writer.append(row)
    writer.close()
    others = [write_folder(tmp_path / f"other-{k}", range(4), bias=k) for k in range(2)]
    for folders in ([tmp_path / "run"], others):
        copies = len(folders)
        whole, bare = read_frames(folders), read_frames(folders, positions=False)
        assert bare.positions.shape == (4 * copies, 0, 3)
        assert len(bare.atoms) == 0
        for column in ("cvs", "bias", "step", "time", "segment", "settling"):
            np.testing.assert_array_equal(getattr(bare, column), getattr(whole, column))


def test_segments_of_two_runs_stay_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "FILE_BYTES", 1)
    one = write_folder(tmp_path / "one", [1, 2], settle=1, size=1)
    two = write_folder(tmp_path / "two", [1, 2], settle=1, size=1)
    assert len(list(one.glob(PATTERN))) == 2
    frames = read_frames([one, two])
    assert frames.segment.tolist() == [2, 2, 4, 4]
    files = [*sorted(one.glob(PATTERN)), *sorted(map(str, two.glob(PATTERN)))]
    assert read_frames(files).segment.tolist() == [2, 2, 4, 4]


def test_what_is_given_twice_is_refused(tmp_path, monkeypatch):
    """Its frames would count twice, and errors come out too small."""
    monkeypatch.chdir(tmp_path)
    one = write_folder(tmp_path / "one", [1, 2])
    first = next(iter(sorted(one.glob(PATTERN))))
    for paths in ([one, one], [one, first], ["one", str(one)], [first, one / ".." / "one"]):
        with pytest.raises(ValueError, match=r"segment-\d+\.h5md is given 2 times.*give each once"):
            read_frames(paths)


def test_frames_of_a_copied_run_are_not_read_beside_it(tmp_path):
    """It has another name, and goes on by itself; what was copied would count twice."""
    one = write_folder(tmp_path / "one", range(1, 7))
    two = shutil.copytree(one, tmp_path / "two")
    last = sorted(two.glob(PATTERN))[-1]
    for paths in ([one, two], [two, one], [one, last]):
        with pytest.raises(ValueError, match=r"hold the same 6 frames.*count twice"):
            read_frames(paths)
        with pytest.raises(ValueError, match=r"hold the same 6 frames.*count twice"):
            read_frames(paths, positions=False)


def test_runs_of_different_systems_are_not_read_together(tmp_path):
    one = write_folder(tmp_path / "one", [1])
    two = write_folder(tmp_path / "two", [1], SegmentHeader((PHI,), (0, 1), temperature=310.0))
    with pytest.raises(ValueError, match=r"two.segment-00001.*temperature: 300.0 and 310.0"):
        read_frames([one, two])


def test_frames_of_several_systems_are_read_together_with_a_word(tmp_path, caplog):
    headers = [
        SegmentHeader((PHI,), (0, 1), temperature=300.0, about={"system_hash": own})
        for own in ("ff96", "", "ff96", "ff14SB", "new:ff96", "new:ff14SB")
    ]
    folders = [write_folder(tmp_path / f"{k}", [1], header) for k, header in enumerate(headers)]
    assert read_frames(folders[:3]).system_hash == ""
    assert read_frames([folders[0], folders[4]]).system_hash == ""  # of one run, by two versions
    assert not caplog.records
    for several in ([0, 1, 2, 3], [0, 4, 5]):
        caplog.clear()
        read_frames([folders[k] for k in several])
        assert "2 Systems are taken together" in caplog.text
        assert str(folders[several[-1]] / "segment-00001.h5md") in caplog.text


def test_plumed_counts_steps_and_not_the_clock(tmp_path):
    folders = []
    for k, own in enumerate((0.002, 0.002, 0.004)):
        header = SegmentHeader((PHI,), (0, 1), temperature=300.0, about={"time_step": own})
        folders.append(write_folder(tmp_path / f"{k}", [10, 20], header, bias=k))
    assert read_frames(folders[:2]).plumed_time.tolist() == [0.02, 0.04] * 2
    folders.append(write_folder(tmp_path / "unknown", [10, 20], bias=3.0))
    several = read_frames(folders)
    assert several.time.tolist() == [1.0, 2.0] * 4
    assert several.plumed_time.tolist() == [0.02, 0.04] * 2 + [0.04, 0.08] + [1.0, 2.0]
    assert several.select(slice(3, 7)).plumed_time.tolist() == [0.04, 0.04, 0.08, 1.0]
    again = Frames.concatenate([several, read_frames(folders[:1])])
    assert again.plumed_time.tolist() == [*several.plumed_time, 0.02, 0.04]


def test_missing_paths_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read_frames(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no segment-"):
        read_frames(tmp_path)
    with pytest.raises(ValueError, match="no paths"):
        read_frames([])


def test_a_text_file_is_no_segment(tmp_path):
    path = tmp_path / "COLVAR"
    path.write_text("#! FIELDS time phi\n")
    with pytest.raises(ValueError, match=r"COLVAR is damaged or no segment file.*move it away"):
        read_frames(path)


def test_h5md_of_another_program_is_sent_to_mdanalysis(tmp_path):
    with h5py.File(tmp_path / "a.h5md", "w") as file:
        file.create_group("h5md").attrs["version"] = [1, 1]
    with pytest.raises(ValueError, match=r"a.h5md was not written by openmm_cgan.*MDAnalysis"):
        read_frames(tmp_path / "a.h5md")


def test_a_newer_format_asks_for_a_newer_package(tmp_path):
    path = write_folder(tmp_path, [1]) / "segment-00001.h5md"
    with h5py.File(path, "r+") as file:
        file[OURS].attrs["format_version"] = 99
    with pytest.raises(ValueError, match=r"00001.h5md has format version 99.*newer openmm_cgan"):
        read_frames(path)


def damage_length(file):
    file["observables/phi/value"].resize(3, axis=0)


def damage_steps(file):
    file[f"{POSITION}/step"][2] = 0


def damage_column(file):
    del file["observables/bias"]


def damage_json(file):
    file[OURS].attrs["variables"] = "{not json"


def damage_claim(file):
    """Rows that no byte of the file holds: reading them would fill the memory with zeros."""
    for name in (f"{POSITION}/value", f"{POSITION}/step", f"{POSITION}/time"):
        file[name].resize(10**12, axis=0)
    for name in ("phi", "bias", "settling", "segment"):
        file[f"observables/{name}/value"].resize(10**12, axis=0)


def damage_atoms(file):
    del file["particles/trajectory/id"]
    file["particles/trajectory"].create_dataset("id", (10**12,), "i8", chunks=(100,))


@pytest.mark.parametrize(
    "damage",
    [damage_length, damage_steps, damage_column, damage_json, damage_claim, damage_atoms],
)
def test_damage_is_one_clear_error(tmp_path, damage):
    path = write_folder(tmp_path, range(1, 6)) / "segment-00001.h5md"
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(ValueError, match=r"segment-00001.h5md is damaged"):
        read_frames(tmp_path)


def test_no_cut_or_changed_byte_crashes_the_reader(tmp_path):
    """Files cut short or scribbled into give frames or a ValueError that names them."""
    path = write_folder(tmp_path, range(1, 6)) / "segment-00001.h5md"
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    changed = [good[: rng.integers(1, len(good))] for _ in range(20)]
    for _ in range(60):
        bad = bytearray(good)
        at = int(rng.integers(0, 16_000))
        bad[at : at + 8] = rng.bytes(8)
        changed.append(bytes(bad))
    refused = []
    for content in changed:
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # h5py's, on types that make no sense
                read_frames(tmp_path)
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert all("segment-00001" in message for message in refused)


def test_a_living_run_is_read_from_another_process(tmp_path):
    """The frames seen are always whole and never fewer than before; the writer does not notice."""
    code = f"""
import numpy as np
from pathlib import Path
from openmm_cgan.frames import segments
from openmm_cgan.frames.h5md import SegmentHeader
segments.FLUSH_SECONDS = 0.02
writer = segments.SegmentWriter(Path({str(tmp_path)!r}), SegmentHeader((), (0, 1)))
for step in range(1, 10**9):
    positions = np.full((2, 3), step, np.float32)
    writer.append(segments.Row(step, step * 0.1, positions, None, np.empty(0), float(step)))
    if step % 50 == 0:
        segments.threading.Event().wait(0.002)
"""
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        seen = 0
        reads = 0
        deadline = time.monotonic() + PATIENCE
        while reads < 40 and time.monotonic() < deadline:
            assert child.poll() is None
            if not next(tmp_path.glob(PATTERN), None):
                time.sleep(0.02)
                continue
            frames = read_frames(tmp_path)
            assert len(frames) >= seen
            assert frames.step.tolist() == list(range(1, len(frames) + 1))
            np.testing.assert_array_equal(frames.positions[:, 1, 2], frames.step)
            np.testing.assert_array_equal(frames.bias, frames.step)
            seen = len(frames)
            reads += 1
        assert reads == 40
    finally:
        child.kill()
        child.wait(PATIENCE)
    # and after the kill nothing of it is lost
    assert len(read_frames(tmp_path)) >= seen


def test_plain_arrays_with_units():
    x = np.arange(12.0).reshape(2, 2, 3)
    made = Frames.of_arrays(
        x * unit.angstrom,
        [1.0, 2.0],
        bias=[1.0, 2.0] * unit.kilocalorie_per_mole,
        temperature=300 * unit.kelvin,
    )
    np.testing.assert_allclose(made.positions, x / 10, rtol=1e-6)
    np.testing.assert_allclose(made.bias, [4.184, 8.368])
    assert made.temperature == 300.0
    with pytest.raises(ValueError, match="CV units"):
        Frames.of_arrays(x, [1.0, 2.0] * unit.angstrom)
    with pytest.raises(ValueError, match=r"bias: expected energies \[kJ/mol\]"):
        Frames.of_arrays(x, [1.0, 2.0], bias=[1.0, 2.0] * unit.kelvin)
    np.testing.assert_allclose(pair_distances(x * unit.angstrom), pair_distances(x) / 10)
    assert len(Frames.of_arrays(np.zeros((0, 4)), np.zeros(0))) == 0
