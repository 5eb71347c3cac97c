"""Inputs that harm: refused before any library reads them, whichever backend is asked for."""

import os
import stat
import time

import numpy as np
import pytest

from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.files.fields import FieldWriter, back_up, keep_last
from openmm_cgan.plumed.input.expressions import read_expression
from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.plumed.input.limits import MAX_DEPTH, require_bounded

FRAMES = [np.arange(24.0).reshape(8, 3) * k for k in (0.1, 0.11, 0.12)]
DISTANCE = "d: DISTANCE ATOMS=1,2\n"


def driven(text, folder, backend):
    settings = DriverSettings(backend=backend, directory=folder, kt=2.5)
    return run_driver(text, iter([Frame(x) for x in FRAMES]), settings)


# ---- what is no regular file


@pytest.fixture
def device(tmp_path):
    """A device of one's own, which takes everything: to rename it would harm nobody."""
    path = tmp_path / "device"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        path.write_text("")
    except OSError:
        pytest.skip("only root makes devices, and not everywhere")
    return path


def test_a_device_is_written_to_and_stays(device):
    before = device.stat()
    writer = FieldWriter(device, ["time"])
    writer.write([" 1.0"])
    writer.close()
    back_up(device)
    keep_last(device)
    write_atomically(device, "all")
    assert device.stat().st_ino == before.st_ino
    assert device.is_char_device()
    assert [path.name for path in device.parent.iterdir()] == ["device"]


FILES = [
    "PRINT ARG=d FILE={}\n",
    "METAD ARG=d SIGMA=0.1 HEIGHT=1 PACE=1 FILE={}\n",
    "METAD ARG=d SIGMA=0.5 HEIGHT=1 PACE=1 GRID_MIN=0 GRID_MAX=9 GRID_WFILE={} GRID_WSTRIDE=1\n",
    "OPES_METAD ARG=d SIGMA=0.1 BARRIER=10 PACE=1 FILE={}\n",
    "OPES_METAD ARG=d SIGMA=0.1 BARRIER=10 PACE=1 STATE_WFILE={} STATE_WSTRIDE=1\n",
]


@pytest.mark.parametrize("line", FILES)
def test_every_file_of_an_input_may_be_a_device(line, device):
    assert driven(DISTANCE + line.format(device), device.parent, "native") == len(FRAMES)
    assert device.is_char_device()
    assert not list(device.parent.glob("bck.*"))


@pytest.mark.parametrize("line", FILES)
@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_folders_are_refused_and_stay(line, backend, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises((OSError, PlumedInputError), match=r"folder"):
        driven(DISTANCE + line.format("folder"), tmp_path, backend)
    assert (tmp_path / "folder").is_dir()
    assert not list(tmp_path.glob("bck.*"))


def test_libplumed_gets_no_name_of_a_device(device):
    with pytest.raises(PlumedInputError, match=r":2: FILE=.*no regular file"):
        driven(DISTANCE + FILES[0].format(device), device.parent, "kernel")
    assert device.is_char_device()
    assert driven(DISTANCE + FILES[0].format(os.devnull), device.parent, "kernel") == len(FRAMES)


@pytest.mark.parametrize("line", FILES[:3])
def test_a_pipe_is_written_to_where_somebody_reads(line, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="nobody reads"):
        driven(DISTANCE + line.format("pipe"), tmp_path, "native")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    driven(DISTANCE + line.format("pipe"), tmp_path, "native")
    found = os.read(reader, 1 << 20).decode()
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert found.startswith("#! FIELDS")
    assert len(found.splitlines()) >= 4
    assert not list(tmp_path.glob("bck.*pipe"))


def test_a_pipe_gets_whole_files(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="nobody reads"):
        write_atomically(pipe, "all")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, "all")
    assert os.read(reader, 100) == b"all"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


# ---- budgets


@pytest.mark.parametrize("backend", ["auto", "kernel", "native"])
def test_includes_that_double_are_refused_at_once(backend, tmp_path):
    for k in range(20):
        (tmp_path / f"{k}.dat").write_text(f"INCLUDE FILE={k + 1}.dat\n" * 2)
    (tmp_path / "20.dat").write_text("d: DISTANCE ATOMS=1,2\n")
    began = time.monotonic()
    with pytest.raises(PlumedInputError, match="more than 1000 files") as caught:
        PlumedBias("INCLUDE FILE=0.dat\nPRINT ARG=d\n", backend=backend, directory=tmp_path)
    assert len(caught.value.problems) < 30
    assert time.monotonic() - began < 10


DEEP = {
    "brackets": "(" * 9000 + "x" + ")" * 9000,
    "a sum": "+".join(["x"] * 5000),
    "sines": "+".join(["sin(x)"] * 500),
    "signs": "-" * 3000 + "x",
    "powers": "^".join(["x"] * 300),
    "blanks": " + ".join(["x"] * 5000),
    "definitions": "a0;" + ";".join(f"a{k}=a{k + 1}+a{k + 1}" for k in range(60)) + ";a60=x",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize("backend", ["auto", "kernel", "native"])
def test_expressions_without_bound_are_refused_at_once(text, backend, tmp_path):
    began = time.monotonic()
    for line in (
        f"c: CUSTOM ARG=d FUNC={{{text}}} PERIODIC=NO\nPRINT ARG=c\n",
        f"c: CONTACTMAP ATOMS1=1,2 SWITCH={{CUSTOM R_0=1 FUNC={text.replace(' ', '')}}} SUM\n",
        f"RESTRAINT ARG=d AT=0 KAPPA={text.replace(' ', '').replace('x', '1')}\n",
    ):
        with pytest.raises(PlumedInputError, match=r":2: .*expression"):
            PlumedBias(DISTANCE + line, backend=backend, directory=tmp_path, cvs=["d"])
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_a_sum_of_a_hundred_sines_is_none_of_them(backend, tmp_path):
    text = "+".join(f"sin({k}*x)" for k in range(100))
    line = f"c: CUSTOM ARG=d FUNC={text} PERIODIC=NO\nPRINT ARG=c\n"
    bias = PlumedBias(DISTANCE + line, backend=backend, directory=tmp_path, cvs=["c", "d"])
    c, d = bias.cv_values(FRAMES[0])
    assert c == pytest.approx(sum(np.sin(k * d) for k in range(100)), abs=1e-9)


def test_what_is_within_the_bound_is_read(tmp_path):
    for text in ("+".join(["x"] * MAX_DEPTH), "(" * 90 + "x" + ")" * 90):
        require_bounded(text)
        assert read_expression(text, ("x",)).value({"x": 1.0}) in (1.0, MAX_DEPTH)
    require_bounded(",".join(f"{k}-{k + 1}" for k in range(1, 9000, 3)))  # a list of atoms
    require_bounded(" ".join(f"{k}-{k + 1}" for k in range(1, 9000, 3)))


@pytest.mark.parametrize("backend", ["auto", "kernel", "native", "plugin"])
@pytest.mark.parametrize("action", ["LOAD FILE=evil.so", "a: PYCVINTERFACE ATOMS=1 IMPORT=evil"])
def test_code_from_files_is_not_run(backend, action, tmp_path, monkeypatch):
    text = f"{action}\n{DISTANCE}PRINT ARG=d\n"
    with pytest.raises(PlumedInputError, match=r":1: .*OPENMM_CGAN_ALLOW_LOAD"):
        PlumedBias(text, backend=backend, directory=tmp_path)
    (tmp_path / "inner.dat").write_text(text)
    with pytest.raises(PlumedInputError, match=r"inner\.dat:1: .*OPENMM_CGAN_ALLOW_LOAD"):
        PlumedBias("INCLUDE FILE=inner.dat\nPRINT ARG=d\n", backend=backend, directory=tmp_path)
    with pytest.raises(PlumedInputError, match="OPENMM_CGAN_ALLOW_LOAD"):
        driven(text, tmp_path, "auto")
    monkeypatch.setenv("OPENMM_CGAN_ALLOW_LOAD", "1")
    with pytest.raises((PlumedInputError, RuntimeError)) as caught:  # there is no such file
        PlumedBias(text, backend=backend, directory=tmp_path).cv_values(FRAMES[0])
    assert "ALLOW_LOAD" not in str(caught.value)


@pytest.mark.parametrize("backend", ["auto", "kernel", "native"])
@pytest.mark.parametrize("fmt", ["%n", "%f%n", "%*f", "%s", "%1$f", "%f%f", "%d"])
def test_number_formats_are_of_one_number_before_printf_sees_them(backend, fmt, tmp_path):
    """%n writes to memory, and %* takes a width from wherever the next argument would be."""
    with pytest.raises(PlumedInputError, match=r":2: FMT.*expected a format"):
        PlumedBias(f"{DISTANCE}PRINT ARG=d FMT={fmt}\n", backend=backend, directory=tmp_path)


def test_numbers_that_are_infinite_are_refused_in_expressions(tmp_path):
    text = f"{DISTANCE}f: CUSTOM ARG=d FUNC=1e999*x PERIODIC=NO\nRESTRAINT ARG=f AT=0 KAPPA=1\n"
    with pytest.raises(PlumedInputError, match=r":2: FUNC=.*1e999|:2: FUNC.*too large"):
        PlumedBias(text, directory=tmp_path)


@pytest.mark.parametrize("backend", ["auto", "kernel", "native"])
@pytest.mark.parametrize("fmt", ["%999999999f", "%.999999999f", "%99999999.3f"])
def test_number_formats_have_a_bounded_width(backend, fmt, tmp_path):
    with pytest.raises(PlumedInputError, match=r":2: FMT="):
        PlumedBias(f"{DISTANCE}PRINT ARG=d FMT={fmt}\n", backend=backend, directory=tmp_path)


@pytest.mark.parametrize("backend", ["auto", "kernel", "native"])
@pytest.mark.parametrize("label", ["=1+1", "+a", "-a", "@SUM(1)"])
def test_labels_that_a_spreadsheet_would_run_are_refused(backend, label, tmp_path):
    for text in (f"{label}: DISTANCE ATOMS=1,2\n", f"DISTANCE ATOMS=1,2 LABEL={label}\n"):
        with pytest.raises(PlumedInputError, match="spreadsheet"):
            PlumedBias(f"{text}PRINT ARG=*\n", backend=backend, directory=tmp_path)


def test_functions_of_functions_are_not_written_out_without_end():
    """Each of forty names the one above it twice: a terabyte of expression."""
    lines = ["c0: DISTANCE ATOMS=1,2"]
    lines += [f"c{i}: CUSTOM ARG=c{i - 1} FUNC=x*x PERIODIC=NO" for i in range(1, 40)]
    text = "\n".join([*lines, "RESTRAINT ARG=c39 AT=1 KAPPA=1", ""])
    with pytest.raises(PlumedInputError, match=r":41: c39: .*written out.*characters"):
        PlumedBias(text, backend="native")
    shorter = "\n".join([*lines[:6], "RESTRAINT ARG=c5 AT=1 KAPPA=1", ""])
    assert PlumedBias(shorter, backend="native").backend == "native"
