"""Tables that a run reads or goes on in: damaged, cut short, of other arguments, compressed."""

import gzip
import logging
import shutil
import struct

import MDAnalysis
import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan.free_energy.hills import hills_bias
from openmm_cgan.free_energy.opes import read_opes
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.files.contents import rows_of
from openmm_cgan.plumed.files.dump_frames import cut_half_frame
from openmm_cgan.plumed.files.fields import read_fields, read_tables

RNG = np.random.default_rng(7)
FRAMES = [RNG.random((4, 3)) for _ in range(12)]
VALUES = "d: DISTANCE ATOMS=1,2\ne: DISTANCE ATOMS=3,4\n"
GRID = "GRID_MIN=0 GRID_MAX=3 GRID_BIN=60"
METAD = f"m: METAD ARG=d SIGMA=0.1 HEIGHT=1 PACE=2 {GRID} FILE=HILLS\n"
OPES = "o: OPES_METAD ARG=d SIGMA=0.1 BARRIER=10 PACE=2 FILE=KERNELS STATE_WFILE=STATE "
OPES += "STATE_WSTRIDE=4\n"
STATE_READ = OPES.replace("STATE_WFILE=STATE", "STATE_RFILE=OLD STATE_WFILE=STATE")
PRINT = "PRINT ARG=* FILE=COLVAR STRIDE=1\n"


def driven(text, folder, frames=FRAMES, first=0, backend="native", **more):
    settings = DriverSettings(
        directory=folder, kt=2.5, backend=backend, initial_step=first, timestep=0.5, **more
    )
    return run_driver(VALUES + text, iter([Frame(x) for x in frames]), settings)


# ---- numbers that are none, and what is missing

WRONG = [
    (METAD, "HILLS", "d", "nan"),
    (METAD, "HILLS", "d", "inf"),
    (METAD, "HILLS", "sigma_d", "0"),
    (METAD, "HILLS", "sigma_d", "-0.1"),
    (METAD, "HILLS", "sigma_d", "nan"),
    (METAD, "HILLS", "height", "inf"),
    (METAD, "HILLS", "height", "1e999"),
    (METAD, "HILLS", "height", "text"),
    (OPES, "KERNELS", "d", "nan"),
    (OPES, "KERNELS", "sigma_d", "0"),
    (OPES, "KERNELS", "height", "-inf"),
    (OPES, "KERNELS", "logweight", "nan"),
    (STATE_READ, "OLD", "d", "nan"),
    (STATE_READ, "OLD", "sigma_d", "0"),
    (STATE_READ, "OLD", "height", "nan"),
]


def written(text, folder):
    """The files of a first run."""
    driven(text.replace("STATE_RFILE=OLD ", ""), folder)
    if "OLD" in text:
        shutil.copy(folder / "STATE", folder / "OLD")


def spoilt(path, field, number):
    """Replace a number in the last row of a table; return its line."""
    lines = path.read_text().split("\n")
    fields = next(line for line in lines if line.startswith("#! FIELDS")).split()[2:]
    words = lines[-2].split()
    words[fields.index(field)] = number
    path.write_text("\n".join([*lines[:-2], " ".join(words), ""]))
    return len(lines) - 1


@pytest.mark.parametrize("backend", ["native", "kernel"])
@pytest.mark.parametrize(("text", "file", "field", "number"), WRONG)
def test_numbers_that_are_none_are_named_with_their_line(
    text, file, field, number, backend, tmp_path
):
    written(text, tmp_path)
    line = spoilt(tmp_path / file, field, number)
    expected = rf"{file}:{line}: .*" + ("text" if number == "text" else f"{field} is ")
    with pytest.raises(ValueError, match=expected):
        driven(text, tmp_path, restart=True, first=12, backend=backend)
    if file == "HILLS" and number != "text":
        with pytest.raises(ValueError, match=expected):
            hills_bias(read_fields(tmp_path / file), np.array([[0.5]]))
    elif number != "text":
        with pytest.raises(ValueError, match=expected):
            read_opes(read_tables(tmp_path / file)[-1])


@pytest.mark.parametrize("backend", ["native"])
@pytest.mark.parametrize(
    ("text", "file"), [(OPES, "KERNELS"), (STATE_READ, "OLD")], ids=["KERNELS", "STATE"]
)
@pytest.mark.parametrize("constant", ["biasfactor", "epsilon", "kernel_cutoff", "zed", "counter"])
def test_constants_that_are_missing_are_named(text, file, constant, backend, tmp_path):
    written(text, tmp_path)
    path = tmp_path / file
    lines = path.read_text().split("\n")
    kept = [line for line in lines if not line.startswith(f"#! SET {constant} ")]
    if len(kept) == len(lines):
        pytest.skip("KERNELS have none of these")
    path.write_text("\n".join(kept))
    with pytest.raises(ValueError, match=rf"{file} has no line '#! SET {constant}'"):
        driven(text, tmp_path, restart=True, first=12, backend=backend)
    path.write_text("\n".join([kept[0], f"#! SET {constant} nothing", *kept[1:]]))
    with pytest.raises(ValueError, match=f"{constant} nothing"):
        driven(text, tmp_path, restart=True, first=12, backend=backend)


def test_a_grid_with_a_number_that_is_none_is_refused(tmp_path):
    text = METAD.replace("FILE=HILLS", "FILE=HILLS GRID_WFILE=G GRID_WSTRIDE=4")
    driven(text, tmp_path)
    line = spoilt(tmp_path / "G", "m.bias", "nan")
    with pytest.raises(ValueError, match=rf"G:{line}: m.bias is nan"):
        driven(METAD.replace("FILE=HILLS", "FILE=H2 GRID_RFILE=G"), tmp_path)
    spoilt(tmp_path / "G", "m.bias", "1")
    spoilt(tmp_path / "G", "d", "99")
    with pytest.raises(ValueError, match="outside the grid"):
        driven(METAD.replace("FILE=HILLS", "FILE=H2 GRID_RFILE=G"), tmp_path)


@pytest.mark.parametrize("backend", ["native", "kernel"])
@pytest.mark.parametrize("grid", [GRID, ""])
def test_hills_of_more_arguments_are_refused_as_by_plumed(backend, grid, tmp_path):
    two = "m: METAD ARG=d,e SIGMA=0.1,0.1 HEIGHT=1 PACE=2 FILE=HILLS\n"
    driven(two, tmp_path)
    with pytest.raises((ValueError, RuntimeError), match=r"\be\b.*not (be )?read"):
        driven(METAD.replace(GRID, grid), tmp_path, restart=True, first=12, backend=backend)


# ---- half rows

FILES = {"HILLS": METAD + PRINT, "COLVAR": METAD + PRINT, "KERNELS": OPES + PRINT}


@pytest.mark.parametrize("cut", [1, 9, 30])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("file", FILES)
def test_a_half_row_is_cut_before_a_run_goes_on(file, packed, cut, tmp_path, caplog):
    text = FILES[file]
    if packed:
        for name in ("HILLS", "COLVAR", "KERNELS"):
            text = text.replace(f"FILE={name}", f"FILE={name}.gz")
    path = tmp_path / (file + ".gz" * packed)
    driven(text, tmp_path)
    whole = rows_of(path)
    for first in (12, 24):
        rows = rows_of(path)[:-cut]
        path.write_bytes(gzip.compress(rows) if packed else rows)
        with caplog.at_level(logging.WARNING):
            driven(text, tmp_path, restart=True, first=first)
        assert any(str(path) in record.message for record in caplog.records)
        caplog.clear()
        table = read_fields(path)
        assert len(table) > 5
        assert np.isfinite(table.columns["time"]).all()
    assert rows_of(path).startswith(whole[:200])


def test_a_gzip_file_cut_in_its_middle_goes_on(tmp_path, caplog):
    text = METAD.replace("FILE=HILLS", "FILE=HILLS.gz")
    driven(text, tmp_path)
    path = tmp_path / "HILLS.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with caplog.at_level(logging.WARNING):
        driven(text, tmp_path, restart=True, first=12)
    assert "cut off" in caplog.text
    assert np.all(np.diff(read_fields(path).columns["time"]) > 0)
    path.write_bytes(b"no gzip at all")
    with pytest.raises(ValueError, match="no gzip file"):
        driven(text, tmp_path, restart=True, first=12)


@pytest.mark.parametrize("name", ["d.xyz", "d.xyz.gz", "d.gro", "d.xtc", "few.xtc", "d.trr"])
def test_a_dump_is_cut_to_whole_frames_wherever_it_ended(name, tmp_path, caplog):
    frames = [RNG.random((12, 3)) for _ in range(5)]
    text = f"DUMPATOMS ATOMS=1-{4 if name == 'few.xtc' else 12} FILE={name} STRIDE=1\n"
    ends = [0]
    for n in (1, 2, 3):
        driven(text, tmp_path / str(n), frames[:n])
        ends.append(len(rows_of(tmp_path / str(n) / name)))
    path = tmp_path / "3" / name
    whole, pack = rows_of(path), gzip.compress if name.endswith("gz") else bytes
    for cut in range(ends[2] - 40, ends[3] + 1):
        path.write_bytes(pack(whole[:cut]))
        cut_half_frame(path, name.split(".")[1])
        assert len(rows_of(path)) == max(end for end in ends if end <= cut)
    path.write_bytes(pack(whole[:-5]))
    caplog.clear()
    driven(text, tmp_path / "3", frames[2:], first=2, restart=True)
    assert "cut off" in caplog.text
    driven(text, tmp_path / "5", frames)
    assert rows_of(path) == rows_of(tmp_path / "5" / name)
    if name[-3:] in ("xyz", "xtc", "trr"):  # of a gro file it reads one frame
        assert len(MDAnalysis.coordinates.core.reader(str(path))) == 5


def test_what_is_no_dump_loses_half_a_row_at_most(tmp_path):
    path = tmp_path / "notes.xyz"
    path.write_text("not a frame\nnor this\nhalf a row")
    cut_half_frame(path, "xyz")
    assert path.read_text() == "not a frame\nnor this\n"
    backwards = struct.pack(">i20x10i", 1993, 0, 0, 36, *[-99] * 7)  # sizes that are none
    damaged = [(b"-3\nX 1 2 3\n", "xyz"), (bytes(range(100)), "xtc"), (bytes(range(100)), "trr")]
    damaged += [(struct.pack(">2i44xi", 1995, 1, -1) + bytes(40), "xtc")]
    damaged += [(backwards + bytes(40), "trr")]
    for content, kind in damaged:
        path.write_bytes(content)
        cut_half_frame(path, kind)
        assert path.read_bytes() == content


# ---- gzip


def test_all_files_are_gzip_where_their_names_say_so_and_plumed_reads_them(tmp_path):
    plain = METAD.replace("FILE=HILLS", "FILE=HILLS GRID_WFILE=G GRID_WSTRIDE=4") + OPES + PRINT
    packed = plain
    for name in ("HILLS", "G ", "KERNELS", "STATE ", "COLVAR"):
        packed = packed.replace(
            f"FILE={name}", f"FILE={name.strip()}.gz" + " " * name.endswith(" ")
        )
    ours, theirs, unpacked = (tmp_path / name for name in ("native", "kernel", "plain"))
    driven(plain, unpacked)
    driven(packed, ours)
    driven(packed, theirs, backend="kernel")
    for name in ("HILLS", "G", "KERNELS", "STATE", "COLVAR"):
        assert (ours / f"{name}.gz").read_bytes()[:2] == b"\x1f\x8b"
        assert gzip.decompress((ours / f"{name}.gz").read_bytes()) == (unpacked / name).read_bytes()
        for folder in (ours, theirs):
            table, other = read_fields(folder / f"{name}.gz"), read_fields(unpacked / name)
            assert list(table.columns) == list(other.columns)
            for field, column in other.columns.items():
                np.testing.assert_allclose(table.columns[field], column, rtol=1e-6, atol=1e-6)
    for backend, folder in (("kernel", ours), ("native", theirs), ("native", ours)):
        driven(packed, folder, restart=True, first=12, backend=backend)
    driven(plain, unpacked, restart=True, first=12)
    for name in ("HILLS", "KERNELS", "COLVAR"):
        table, other = read_fields(theirs / f"{name}.gz"), read_fields(unpacked / name)
        assert len(table) == len(other)
        for field, column in other.columns.items():
            np.testing.assert_allclose(table.columns[field], column, rtol=1e-6, atol=1e-6)


# ---- RESTART NO


@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_restart_no_begins_anew_whatever_the_driver_is_told(backend, tmp_path):
    text = "RESTART NO\n" + VALUES + METAD + PRINT
    settings = {"directory": tmp_path, "backend": backend, "restart": True}
    for _ in range(2):
        frames = iter([Frame(x) for x in FRAMES])
        assert run_driver(text, frames, DriverSettings(**settings)) == len(FRAMES)
    assert len(read_fields(tmp_path / "COLVAR")) == len(FRAMES)
    assert (tmp_path / "bck.0.COLVAR").exists()
    assert (tmp_path / "bck.0.HILLS").exists()


def test_a_checkpoint_cuts_gzip_files_to_its_step(tmp_path, caplog):
    """What an unkilled run writes, though the killed one had written on behind its checkpoint."""
    text = (VALUES + METAD + OPES + PRINT).replace("STATE_WFILE=STATE STATE_WSTRIDE=4", "")
    for name in ("HILLS", "KERNELS", "COLVAR"):
        text = text.replace(f"FILE={name}", f"FILE={name}.gz")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder, runs in ((whole, [(None, 24)]), (killed, [(None, 15), ("at", 16)])):
        folder.mkdir()
        for start, steps in runs:
            simulation, bias = _simulation(text, folder)
            bias.attach(simulation, checkpoint=None if start is None else folder / start)
            for _ in range(steps):
                simulation.step(1)
                if simulation.currentStep == 8:
                    bias.save_checkpoint(folder / "at")
            bias.close()
    for name in ("HILLS.gz", "KERNELS.gz", "COLVAR.gz"):
        assert rows_of(killed / name) == rows_of(whole / name)
        assert gzip.decompress((killed / name).read_bytes()) == rows_of(whole / name)
    assert "cut off" not in caplog.text  # each checkpoint ends what gzip calls a member


def _simulation(text, folder):
    system = openmm.System()
    for _ in range(4):
        system.addParticle(12.0)
    bias = PlumedBias(text, temperature=300, directory=folder, backend="native")
    bias.add_to(system)
    integrator = openmm.VerletIntegrator(0.001)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(app.Topology(), system, integrator, platform)
    simulation.context.setPositions(FRAMES[0])
    return simulation, bias


# ---- a run that ended before its first row


@pytest.mark.plumed
@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_metadynamics_goes_on_from_hills_without_a_hill(backend, tmp_path):
    driven(METAD + PRINT, tmp_path, FRAMES[:1], backend=backend)
    assert (tmp_path / "HILLS").read_text() == ""
    driven(METAD + PRINT, tmp_path, FRAMES[1:6], first=1, backend=backend, restart=True)
    assert len(read_fields(tmp_path / "HILLS")) == 2


@pytest.mark.parametrize(("text", "name"), [(OPES, "KERNELS"), (STATE_READ, "OLD")])
def test_opes_says_that_there_is_nothing_to_go_on_from(text, name, tmp_path):
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=f"restart: .*{name} of OPES_METAD o is empty: .*without"):
        driven(text, tmp_path, restart=True)
    with pytest.raises(ValueError, match=f"{name} is empty: the run that began it has written no"):
        read_fields(tmp_path / name)
