"""Truth: real ``plumed driver`` on the same files, byte for byte where it prints few digits."""

import shutil
import subprocess
import sys
from pathlib import Path

import MDAnalysis
import numpy as np
import pytest

from openmm_cgan.cli.driver import DriverSettings, read_masses, run_driver
from openmm_cgan.cli.trajectories import read_trajectory
from openmm_cgan.testsystems import alanine_dipeptide

INPUTS = Path(__file__).parent.parent / "plumed_inputs"
KT = 2.494339
N_FRAMES = 30


@pytest.fixture(scope="module")
def positions() -> np.ndarray:
    rng = np.random.default_rng(3)
    start = alanine_dipeptide("C7eq").positions
    return start + rng.normal(scale=0.02, size=(N_FRAMES, 22, 3))


@pytest.fixture
def xyz(tmp_path: Path, positions: np.ndarray) -> Path:
    path = tmp_path / "trajectory.xyz"
    with path.open("w") as file:
        for frame in positions:
            file.write("22\n0 0 0\n" + "".join(f"X {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in frame))
    return path


def numbers(path: Path) -> np.ndarray:
    return np.loadtxt(path, comments="#!")


def plumed_command() -> str:
    """The command that came with the installed PLUMED."""
    beside = Path(sys.executable).with_name("plumed")
    command = str(beside) if beside.exists() else shutil.which("plumed")
    assert command, "real PLUMED is not installed: see the README"
    return command


@pytest.mark.plumed
@pytest.mark.parametrize("name", ["alanine_phi_psi_metad", "alanine_hydrogen_bond_restraint"])
def test_files_are_those_of_plumed_driver(name: str, xyz: Path, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    options = ["--timestep", "0.002", "--trajectory-stride", "250", "--kt", str(KT)]
    command = [plumed_command(), "driver", "--plumed", str(INPUTS / f"{name}.dat"), "--ixyz"]
    subprocess.run([*command, str(xyz), *options], cwd=theirs, check=True, capture_output=True)
    settings = DriverSettings(timestep=0.002, trajectory_stride=250, kt=KT, directory=ours)
    assert run_driver(INPUTS / f"{name}.dat", read_trajectory(xyz, "ixyz"), settings) == N_FRAMES
    assert (ours / "COLVAR").read_text() == (theirs / "COLVAR").read_text()
    if "metad" in name:
        np.testing.assert_allclose(
            numbers(ours / "HILLS"), numbers(theirs / "HILLS"), rtol=1e-9, atol=1e-12
        )


@pytest.mark.filterwarnings("ignore:Found (no information|missing chainIDs)")
@pytest.mark.parametrize("kind", ["mf_xtc", "mf_trr", "mf_dcd", "mf_pdb"])
def test_formats_give_the_same_frames(kind: str, positions: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / f"trajectory.{kind.removeprefix('mf_')}"
    universe = MDAnalysis.Universe.empty(22, trajectory=True)
    universe.add_TopologyAttr("names", ["C"] * 22)
    cell = np.array([30.0, 31.0, 32.0, 90.0, 90.0, 90.0])
    with MDAnalysis.Writer(str(path), 22, multiframe=True) as writer:
        for frame in positions:
            universe.atoms.positions = 10 * frame
            universe.trajectory.ts.dimensions = cell
            writer.write(universe.atoms)
    frames = list(read_trajectory(path, kind))
    assert len(frames) == N_FRAMES
    # XTC and PDB keep three decimals of nm and of Angstrom
    np.testing.assert_allclose([frame.positions for frame in frames], positions, atol=6e-4)
    np.testing.assert_allclose(frames[0].box, np.diag(cell[:3]) / 10, atol=1e-6)


def test_xyz_comment_holds_the_box(tmp_path: Path) -> None:
    path = tmp_path / "t.xyz"
    path.write_text("1\n2 3 4\nX 0 0 0.5\n1\n1 0 0 0 1 0 0.1 0 1\nX 0 0 1\n1\n\nX 0 0 0\n")
    boxes = [frame.box for frame in read_trajectory(path, "ixyz")]
    np.testing.assert_array_equal(boxes[0], np.diag([2, 3, 4]))
    np.testing.assert_array_equal(boxes[1], [[1, 0, 0], [0, 1, 0], [0.1, 0, 1]])
    assert boxes[2] is None


def test_periodic_frames_use_the_minimum_image(tmp_path: Path) -> None:
    path = tmp_path / "t.xyz"
    path.write_text("2\n1 1 1\nX 0.1 0 0\nX 0.9 0 0\n2\n0.5 1 1\nX 0.1 0 0\nX 0.9 0 0\n")
    text = "d: DISTANCE ATOMS=1,2\nPRINT ARG=d FILE=COLVAR\n"
    run_driver(text, read_trajectory(path, "ixyz"), DriverSettings(directory=tmp_path))
    np.testing.assert_allclose(numbers(tmp_path / "COLVAR"), [[0, 0.2], [1, 0.2]], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "holds no frames"), ("two\n\nX 0 0 0\n", "no xyz file"), ("2\n\nX 0 0 0\n", "no xyz")],
)
def test_damaged_trajectories_are_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.xyz"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        run_driver("d: DISTANCE ATOMS=1,2\n", read_trajectory(path, "ixyz"), DriverSettings())


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.xyz"
    path.write_text("2\n\nX 0 0 0\nX 1 0 0\n1\n\nX 0 0 0\n")
    text = "d: DISTANCE ATOMS=1,2\nPRINT ARG=d FILE=COLVAR\n"
    with pytest.raises(ValueError, match="frame 1 has 1 atoms, the first has 2"):
        run_driver(text, read_trajectory(path, "ixyz"), DriverSettings(directory=tmp_path))


def test_missing_files_and_unknown_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such trajectory"):
        next(read_trajectory(tmp_path / "t.xtc", "mf_xtc"))
    (tmp_path / "t.gro").touch()
    with pytest.raises(ValueError, match="expected ixyz, igro"):
        next(read_trajectory(tmp_path / "t.gro", "gro"))


@pytest.mark.plumed
@pytest.mark.parametrize("option", ["--mc", "--pdb"])
def test_masses_are_read_as_plumed_driver_reads_them(
    option: str, xyz: Path, tmp_path: Path
) -> None:
    weights = np.random.default_rng(4).uniform(1, 16, 22).round(2)
    masses = tmp_path / ("masses.dat" if option == "--mc" else "masses.pdb")
    if option == "--mc":
        rows = [f"{i} {weight} 0.0" for i, weight in enumerate(weights)]
        masses.write_text("\n".join(["#! FIELDS index mass charge", *rows, ""]))
    else:
        line = "ATOM  {:5d}  C   UNK X   1       0.000   0.000   0.000{:6.2f}  0.00\n"
        masses.write_text("".join(line.format(i + 1, w) for i, w in enumerate(weights)) + "END\n")
    plumed = tmp_path / "plumed.dat"
    plumed.write_text("c: COM ATOMS=1-9\nd: DISTANCE ATOMS=c,20\nPRINT ARG=d FILE=COLVAR\n")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    command = [plumed_command(), "driver", "--plumed", str(plumed), "--ixyz", str(xyz)]
    subprocess.run([*command, option, str(masses)], cwd=theirs, check=True, capture_output=True)
    settings = DriverSettings(directory=tmp_path / "ours", masses=read_masses(masses)[0])
    run_driver(plumed, read_trajectory(xyz, "ixyz"), settings)
    assert (tmp_path / "ours" / "COLVAR").read_text() == (theirs / "COLVAR").read_text()


def test_masses_of_other_atoms_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.xyz"
    path.write_text("2\n\nX 0 0 0\nX 1 0 0\n")
    text = "d: DISTANCE ATOMS=1,2\nPRINT ARG=d FILE=COLVAR\n"
    settings = DriverSettings(directory=tmp_path, masses=np.ones(3))
    with pytest.raises(ValueError, match="masses of 3 atoms, the frames have 2"):
        run_driver(text, read_trajectory(path, "ixyz"), settings)
    (tmp_path / "mass").write_text("#! FIELDS a b\n1 2\n")
    with pytest.raises(ValueError, match="fields a, b, expected index and mass"):
        read_masses(tmp_path / "mass")
