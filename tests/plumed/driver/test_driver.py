"""Truth: real ``plumed driver`` on the same files, byte for byte where it prints few digits."""

import subprocess
from pathlib import Path

import MDAnalysis
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.eight_atoms import N_ATOMS
from openmm_cgan.cli import main
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings, read_masses
from openmm_cgan.plumed.driver.trajectories import Frame, read_trajectory
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases import ROOT
from tests.cases.driver_runs import compare, driven
from tests.cases.other_processes import PATIENCE
from tests.cases.plumed_command import plumed_command

INPUTS = ROOT / "plumed_inputs"
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


@pytest.mark.plumed
@pytest.mark.parametrize("name", ["alanine_phi_psi_metad", "alanine_hydrogen_bond_restraint"])
def test_files_are_those_of_plumed_driver(name: str, xyz: Path, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    options = ["--timestep", "0.002", "--trajectory-stride", "250", "--kt", str(KT)]
    command = [plumed_command(), "driver", "--plumed", str(INPUTS / f"{name}.dat"), "--ixyz"]
    subprocess.run(
        [*command, str(xyz), *options],
        cwd=theirs,
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
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


def test_a_box_that_is_lost_is_refused_where_coordinates_are_scaled(tmp_path: Path) -> None:
    path = tmp_path / "t.xyz"
    path.write_text("2\n1 1 1\nX 0.1 0 0\nX 0.9 0 0\n2\n0 0 0\nX 0.1 0 0\nX 0.9 0 0\n")
    settings = DriverSettings(directory=tmp_path, backend="native")
    text = "d: DISTANCE ATOMS=1,2{}\nPRINT ARG=d{} FILE=COLVAR\n"
    run_driver(text.format("", ""), read_trajectory(path, "ixyz"), settings)
    scaled = text.format(" SCALED_COMPONENTS", ".*")
    with pytest.raises(ValueError, match="step 1 has no box"):
        run_driver(scaled, read_trajectory(path, "ixyz"), settings)


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
    subprocess.run(
        [*command, option, str(masses)],
        cwd=theirs,
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
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


TRICLINIC = "2.6 0 0 0.8 2.4 0 -0.6 1.0 2.8"
ROTATED = "0.2 1.3 0.1 1.1 0.3 -0.2 0.1 -0.2 1.4"  # neither reduced nor lower triangular
INPUT = """p: TORSION ATOMS=5,7,9,15
d: DISTANCE ATOMS=1,20
g: GROUP NDX_FILE=index.ndx NDX_GROUP=heavy REMOVE=5
c: COORDINATION GROUPA=g GROUPB=@ndx:index.ndx SWITCH={CUSTOM R_0=0.3 D_MAX=0.6 FUNC=1/(1+x^6)}
v: CUSTOM ARG=(^[pd]$) FUNC=x+y PERIODIC=NO NUMERICAL_DERIVATIVES
RESTRAINT ARG=p,d AT=1,0.4 KAPPA=10,200
UPPER_WALLS ARG=c AT=1 KAPPA=3
METAD ARG=p SIGMA=0.3 HEIGHT=2 PACE=5 GRID_MIN=-pi GRID_MAX=pi FMT=%12.8f FILE=HILLS
PRINT ARG=* FILE=COLVAR STRIDE=5
PRINT ARG=c,@8.bias FILE=SECOND FMT=%9.4f
"""
CELLS = {"none": "0 0 0", "orthorhombic": "1.3 1.4 1.5", "triclinic": TRICLINIC}


def write_xyz(path: Path, frames: np.ndarray, cell: str) -> None:
    """Frames torn by the box: each atom moved by a random lattice vector."""
    box = np.array(cell.split(), dtype=float)
    box = np.diag(box) if len(box) == 3 else box.reshape(3, 3)
    shifts = np.random.default_rng(6).integers(-1, 2, size=frames.shape)
    frames = frames + shifts @ box
    with path.open("w") as file:
        for frame in frames:
            rows = "".join(f"X {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in frame)
            file.write(f"{len(frame)}\n{cell}\n{rows}")


def both_drivers(words: list[str], folder: Path, monkeypatch, backend: str = "native") -> None:
    """Run ``plumed driver`` in folder/theirs and ours in folder/ours."""
    for name in ("theirs", "ours"):
        (folder / name).mkdir(exist_ok=True)
    subprocess.run(
        [plumed_command(), "--no-mpi", "driver", *words],
        cwd=folder / "theirs", check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.chdir(folder / "ours")
    result = CliRunner().invoke(main, ["driver", *words, "--backend", backend])
    assert result.exit_code == 0, result.output


def assert_files_agree(folder: Path, names: tuple[str, ...]) -> None:
    """Every number within one unit of the last printed digit, all else equal."""
    for name in names:
        ours, theirs = ((folder / who / name).read_text() for who in ("ours", "theirs"))
        assert len(ours.splitlines()) == len(theirs.splitlines()) > 1
        for mine, plumeds in zip(ours.split(), theirs.split(), strict=True):
            if mine != plumeds.replace("-nan", "nan"):
                decimals = len(plumeds.partition(".")[2])
                assert float(mine) == pytest.approx(float(plumeds), abs=1.001 * 10**-decimals)


@pytest.fixture
def prepared(tmp_path: Path, positions: np.ndarray) -> Path:
    (tmp_path / "plumed.dat").write_text(INPUT)
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.ndx").write_text("[ heavy ]\n2 5 6\n7 9\n[ other ]\n1\n")
    write_xyz(tmp_path / "t.xyz", positions[:12], "0 0 0")
    return tmp_path


@pytest.mark.plumed
@pytest.mark.parametrize("backend", ["native", "kernel"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_forces_and_virial_are_those_of_plumed_driver(
    cell: str, backend: str, prepared: Path, positions: np.ndarray, monkeypatch
) -> None:
    write_xyz(prepared / "t.xyz", positions[:12], cell)
    words = ["--plumed", "../plumed.dat", "--ixyz", "../t.xyz", "--timestep", "0.5",
             "--trajectory-stride", "5", "--initial-step", "20", "--dump-forces", "forces",
             "--dump-forces-fmt", "%10.4f", "--dump-full-virial"]  # fmt: skip
    both_drivers(words, prepared, monkeypatch, backend)
    assert_files_agree(prepared, ("COLVAR", "SECOND", "HILLS", "forces"))


@pytest.mark.plumed
def test_values_in_any_box_are_plumeds(prepared: Path, positions: np.ndarray, monkeypatch) -> None:
    write_xyz(prepared / "t.xyz", positions[:12], ROTATED)
    both_drivers(["--plumed", "../plumed.dat", "--ixyz", "../t.xyz"], prepared, monkeypatch)
    assert_files_agree(prepared, ("COLVAR", "SECOND", "HILLS"))


@pytest.mark.plumed
@pytest.mark.parametrize("cell", ["0.8 2.4 0 -2.6 0 0.1 -0.6 1.0 2.8", "3 -3 0 0 3 -3 -3 3 3"])
def test_forces_in_a_turned_box_are_plumeds(
    cell: str, prepared: Path, positions: np.ndarray, monkeypatch
) -> None:
    """The rows of a box in another order and direction; a cube that is written sheared."""
    write_xyz(prepared / "t.xyz", positions[:12], cell)
    words = ["--plumed", "../plumed.dat", "--ixyz", "../t.xyz", "--dump-forces", "forces",
             "--dump-forces-fmt", "%10.4f"]  # fmt: skip
    both_drivers(words, prepared, monkeypatch)
    assert_files_agree(prepared, ("COLVAR", "SECOND", "HILLS", "forces"))


@pytest.mark.plumed
def test_forces_that_depend_on_how_a_box_is_turned_are_plumeds(
    prepared: Path, positions: np.ndarray, monkeypatch
) -> None:
    coinciding = np.concatenate([positions[:12, :10], positions[:12, 9:10]], axis=1)
    write_xyz(prepared / "t.xyz", coinciding, "0.8 2.4 0 -2.6 0 0.1 -0.6 1.0 2.8")
    text = (
        "f: FIXEDATOM AT=0.1,0.2,0.3\ng: FIXEDATOM AT=0.1,0.2,0.3 SCALED_COMPONENTS\n"
        "d: DISTANCE ATOMS=f,2 NOPBC\ne: DISTANCE ATOMS=g,5\ns: DISTANCE ATOMS=2,5 "
        "SCALED_COMPONENTS\nRESTRAINT ARG=d,e,s.a,s.c AT=1,1,0.1,0.2 KAPPA=20,30,4,5\n"
        "PRINT ARG=* FILE=COLVAR\n"
    )
    (prepared / "plumed.dat").write_text(text)
    words = ["--plumed", "../plumed.dat", "--ixyz", "../t.xyz", "--dump-forces", "forces",
             "--dump-forces-fmt", "%10.4f"]  # fmt: skip
    both_drivers(words, prepared, monkeypatch)
    assert_files_agree(prepared, ("COLVAR", "forces"))
    centre = "c: CENTER ATOMS=1,2 PHASES\nd: DISTANCE ATOMS=c,5\nRESTRAINT ARG=d AT=0 KAPPA=1\n"
    (prepared / "plumed.dat").write_text(centre)
    result = CliRunner().invoke(main, ["driver", *words, "--backend", "native"])
    assert result.exit_code
    assert "PHASES" in result.output


@pytest.mark.plumed
def test_forces_of_the_shortest_image_are_plumeds(tmp_path: Path, monkeypatch) -> None:
    box = "1 0 0 0.5 1 0 -0.5 0.5 1"  # the shortest image is one second vector less
    (tmp_path / "t.xyz").write_text(f"2\n{box}\nX 0 0 0\nX 0.45 0.49 0.49\n")
    (tmp_path / "plumed.dat").write_text("d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=0 KAPPA=1\n")
    words = ["--plumed", "../plumed.dat", "--ixyz", "../t.xyz", "--dump-forces", "f"]
    both_drivers(words, tmp_path, monkeypatch)
    assert_files_agree(tmp_path, ("f",))


@pytest.mark.plumed
def test_length_units_box_and_restart_are_plumeds(prepared: Path, monkeypatch) -> None:
    """The same numbers as Angstrom: tenfold crowded, so torn by a box of 1.1 A."""
    words = ["--plumed", "../plumed.dat", "--ixyz", "../t.xyz", "--length-units", "A",
             "--box", "1.1,1.2,1.3", "--dump-forces", "forces"]  # fmt: skip
    both_drivers(words, prepared, monkeypatch)
    assert_files_agree(prepared, ("COLVAR", "SECOND", "HILLS", "forces"))
    both_drivers([*words, "--restart"], prepared, monkeypatch)
    assert_files_agree(prepared, ("COLVAR", "SECOND", "HILLS", "forces"))
    assert (prepared / "ours" / "COLVAR").read_text().count("FIELDS") == 2


@pytest.mark.plumed
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_debugged_forces_are_plumeds(cell: str, tmp_path: Path, monkeypatch) -> None:
    frames = np.random.default_rng(8).normal(scale=0.2, size=(2, 4, 3))
    write_xyz(tmp_path / "t.xyz", frames, cell)
    (tmp_path / "plumed.dat").write_text(
        "t: TORSION ATOMS=1,2,3,4\nd: DISTANCE ATOMS=1,4\nRESTRAINT ARG=t,d AT=1,1 KAPPA=3,4\n"
    )
    words = [
        "--plumed",
        "../plumed.dat",
        "--ixyz",
        "../t.xyz",
        "--debug-forces",
        "compared",
        "--dump-forces-fmt",
        "%9.2f",
    ]  # fmt: skip  differences are no better
    both_drivers(words, tmp_path, monkeypatch)
    assert_files_agree(tmp_path, ("compared",))


def write_with_mdanalysis(path: Path, frames: np.ndarray, cell: list[float]) -> None:
    universe = MDAnalysis.Universe.empty(frames.shape[1], trajectory=True)
    with MDAnalysis.Writer(str(path), frames.shape[1], multiframe=True) as writer:
        for i, frame in enumerate(frames):
            universe.atoms.positions = 10 * frame
            universe.trajectory.ts.dimensions = cell
            universe.trajectory.ts.frame = 7 * i
            universe.trajectory.ts.data["step"] = 7 * i
            writer.write(universe.atoms)


@pytest.mark.plumed
@pytest.mark.parametrize("option", ["ixtc", "itrr", "mf_xtc", "mf_trr", "mf_dcd", "igro"])
def test_binary_formats_give_plumeds_numbers(
    option: str, tmp_path: Path, positions: np.ndarray, monkeypatch
) -> None:
    """Twelve digits: the last bit of what is read shows."""
    suffix = option.removeprefix("mf_").removeprefix("i")
    if suffix == "gro":
        atoms = "".join(
            f"{1:5d}ALA  {'C':>5s}{i + 1:5d}" + "".join(f"{x:10.5f}" for x in row) + "\n"
            for i, row in enumerate(positions[0])
        )
        box = "1.3 1.2 1.4 0 0 0.4 0 -0.3 0.5"
        (tmp_path / "t.gro").write_text(f"title\n{len(positions[0])}\n{atoms}{box}\n")
    else:
        cell = [13.0, 14.0, 15.0, 80.0, 75.0, 95.0]
        write_with_mdanalysis(tmp_path / f"t.{suffix}", positions[:5], cell)
    (tmp_path / "plumed.dat").write_text(
        "t: TORSION ATOMS=1,6,11,20\nd: DISTANCE ATOMS=1,20\nPRINT ARG=t,d FILE=COLVAR FMT=%.12f\n"
    )
    stride = "0" if option in ("ixtc", "itrr") else "10"
    words = ["--plumed", "../plumed.dat", f"--{option}", f"../t.{suffix}",
             "--trajectory-stride", stride]  # fmt: skip
    both_drivers(words, tmp_path, monkeypatch)
    times, *values = (numbers(tmp_path / who / "COLVAR").reshape(-1, 3) for who in ("ours", "ours"))
    theirs = numbers(tmp_path / "theirs" / "COLVAR").reshape(-1, 3)
    np.testing.assert_array_equal(times[:, 0], theirs[:, 0])
    np.testing.assert_allclose(values[0], theirs, atol=2e-8 if "mf_" in option else 2e-12)


def test_atoms_in_one_place_have_forces(tmp_path: Path, monkeypatch) -> None:
    rows = "X 0 0 0\nX 0.5 0 0\nX 1 1 1\nX 1 1 1\n"
    (tmp_path / "t.xyz").write_text(f"4\n3 3 3\n{rows}")
    (tmp_path / "plumed.dat").write_text("d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=0 KAPPA=2\n")
    monkeypatch.chdir(tmp_path)
    words = ["driver", "--ixyz", "t.xyz", "--dump-forces", "f", "--backend", "native"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "f").read_text().splitlines()[2].split()[1] == "1.000000"


@pytest.mark.plumed
def test_no_atoms_and_unknown_options(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "plumed.dat").write_text(
        "a: CONSTANT VALUE=2\nb: CUSTOM ARG=a FUNC=x^2 PERIODIC=NO\nPRINT ARG=a,b FILE=COLVAR\n"
    )
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["driver", "--noatoms"])
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(numbers(tmp_path / "COLVAR"), [0, 2, 4])
    for words in (["--nonsense", "1"], ["--mf_xtc"], ["--noatoms", "--mf_xtc", "t.xtc"]):
        assert CliRunner().invoke(main, ["driver", *words]).exit_code == 2
    result = CliRunner().invoke(main, ["driver", "--noatoms", "--box", "1,2"])
    assert "expected three or nine numbers" in result.output


def test_a_stop_ends_the_frames(tmp_path: Path, xyz: Path) -> None:
    text = (
        "p: TORSION ATOMS=5,7,9,15\nCOMMITTOR ARG=p STRIDE=1 BASIN_LL1=-4 BASIN_UL1=4\n"
        "PRINT ARG=p FILE=COLVAR\n"
    )
    settings = DriverSettings(directory=tmp_path)
    assert run_driver(text, read_trajectory(xyz, "ixyz"), settings) == 1


GEOM = (
    "d: DISTANCE ATOMS=1,12\nt: TORSION ATOMS=2,9,15,20\n"
    "m: METAD ARG=d,t ADAPTIVE=GEOM SIGMA=0.2 HEIGHT=1.2 PACE=5\nPRINT ARG=m.bias FILE=COLVAR\n"
)
REDUCED = np.array(TRICLINIC.split(), dtype=float).reshape(3, 3) / 2  # half as wide: images count
SKEW = REDUCED[:, [1, 2, 0]]


@pytest.mark.plumed
def test_hills_by_gradients_in_a_triclinic_box_are_plumeds(positions, tmp_path: Path) -> None:
    text = tmp_path / "plumed.dat"
    text.write_text(GEOM)
    found = []
    for backend in ("native", "kernel"):
        folder = tmp_path / backend
        settings = DriverSettings(backend=backend, directory=folder, kt=KT)
        frames = (Frame(3 * frame, REDUCED) for frame in positions)
        assert run_driver(text, frames, settings) == N_FRAMES
        found.append((numbers(folder / "HILLS"), numbers(folder / "COLVAR")))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_hills_by_gradients_are_refused_in_a_box_in_another_form(positions, tmp_path: Path) -> None:
    (tmp_path / "plumed.dat").write_text(GEOM)
    settings = DriverSettings(backend="native", directory=tmp_path, kt=KT)
    frames = (Frame(frame, SKEW) for frame in positions)
    with pytest.raises(ValueError, match="ADAPTIVE=GEOM in this box needs --backend kernel"):
        run_driver(tmp_path / "plumed.dat", frames, settings)


@pytest.mark.plumed
def test_forces_of_the_driver_and_of_an_action_in_one_file(xyz: Path, tmp_path: Path) -> None:
    """The action backs up the file that the driver has begun, which the driver goes on with."""
    text = (
        "d: DISTANCE ATOMS=1,5\nRESTRAINT ARG=d AT=0 KAPPA=2\nDUMPFORCES ARG=d FILE=f FMT=%9.4f\n"
    )
    for backend in ("native", "kernel"):
        folder = tmp_path / backend
        settings = DriverSettings(
            forces="f", forces_format="%9.4f", backend=backend, directory=folder
        )
        run_driver(text, read_trajectory(xyz, "ixyz"), settings)
    for name in ("f", "bck.0.f"):
        assert (tmp_path / "native" / name).read_text() == (tmp_path / "kernel" / name).read_text()


@pytest.mark.plumed
@pytest.mark.parametrize("kind", ["mf_crd", "mf_crdbox"])
def test_a_crd_file_of_one_frame_is_read_as_plumed_reads_it(kind: str, tmp_path: Path) -> None:
    numbers = np.random.default_rng(1).normal(scale=90, size=(7, 3)).round(3).ravel()
    texts = [f"{x:8.3f}" for x in numbers]
    rows = ["".join(texts[k : k + 10]) for k in range(0, 21, 10)]
    box = [] if kind == "mf_crd" else ["  90.000  91.500  92.250"]
    (tmp_path / "t.crd").write_text("\n".join(["title", *rows, *box, ""]))
    (tmp_path / "p.dat").write_text("DUMPATOMS ATOMS=1-7 FILE=a.xyz\n")
    command = [plumed_command(), "driver", "--plumed", "p.dat", f"--{kind}", "t.crd"]
    done = [*command, "--natoms", "7"]
    subprocess.run(done, cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE)
    frames = read_trajectory(tmp_path / "t.crd", kind, n_atoms=7)
    run_driver(tmp_path / "p.dat", frames, DriverSettings(directory=tmp_path / "ours"))
    assert (tmp_path / "ours" / "a.xyz").read_text() == (tmp_path / "a.xyz").read_text()


TORN = {
    "NOPBC below two entities": "WHOLEMOLECULES ENTITY0=1-4 ENTITY1=4,2,6\n"
    "d: DISTANCE ATOMS=1,4 NOPBC\nRESTRAINT ARG=d AT=0.1 KAPPA=100\nPRINT ARG=d FILE=COLVAR\n",
    "groups that share atoms": "c: CENTER ATOMS=1,3,4\ng: CENTER ATOMS=4,1,2,3\n"
    "d: DISTANCE ATOMS=c,5\ne: DISTANCE ATOMS=g,6\nr: GYRATION ATOMS=3,1,4,2\n"
    "RESTRAINT ARG=d,e,r AT=0.1,0.2,0.1 KAPPA=100,50,20\nPRINT ARG=d,e,r FILE=COLVAR\n",
    "NOPBC beside what is whole": "WHOLEMOLECULES ENTITY0=1-8\nd: DISTANCE ATOMS=1,7 NOPBC\n"
    "t: TORSION ATOMS=1,3,5,8 NOPBC\nr: GYRATION ATOMS=5,1,4,2\n"
    "RESTRAINT ARG=d,t,r AT=0.1,0.3,0.2 KAPPA=100,10,10\nPRINT ARG=d,t,r FILE=COLVAR\n",
}
TRICLINIC = np.array([[1.1, 0, 0], [0.4, 1.0, 0], [-0.3, 0.35, 1.05]])


@pytest.mark.parametrize("box", [np.diag([1.1, 1.0, 1.2]), TRICLINIC], ids=["brick", "triclinic"])
@pytest.mark.parametrize("text", TORN.values(), ids=TORN)
def test_forces_of_frames_that_the_box_has_torn_are_those_of_plumed(tmp_path, text, box) -> None:
    """Atoms anywhere in the box, as no molecule holds them: OpenMM takes other images."""
    frames = np.random.default_rng(3).uniform(0, 1, (3, N_ATOMS, 3)) @ box
    for backend in ("native", "kernel"):
        (tmp_path / backend).mkdir()
    driven(text, tmp_path, frames, box)
    compare(tmp_path, "forces", "COLVAR")
