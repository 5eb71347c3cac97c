"""One TOML file for all commands: its keys are their options, and what is wrong is told by line."""

import tomllib
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from openmm_cgan.cli import main
from openmm_cgan.cli.config_file import NOT_IN_FILES, key_of, line_of, read_tables, schema_of
from openmm_cgan.cli.init import text_of
from openmm_cgan.cli.molecule_files import IMPLICIT, MoleculeFiles
from openmm_cgan.cli.options import molecule_options
from openmm_cgan.frames import read_frames
from openmm_cgan.windows import Cluster
from tests.cases import ROOT

STRUCTURE = ROOT / "openmm_cgan" / "data" / "alanine_dipeptide.pdb"
PLUMED = ROOT / "plumed_inputs" / "alanine_phi_psi_metad.dat"
COMMANDS = [name for name in main.commands if name != "init"]


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


def test_examples_are_told_from_defaults() -> None:
    """Who takes the mark from before a line without a default has an example, not the usual."""
    lines = text_of(main.commands, {}).splitlines()
    of = {line.removeprefix("# ").partition(" = ")[0]: line for line in lines if " = " in line}
    assert "(an example) [amu]" in of["hydrogen-mass"]
    assert "(an example)" in of["switch-distance"]
    assert "(an example)" not in of["timestep"]
    assert "(an example)" not in of["frames-every"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_every_command_stands_in_a_file(command: str, tmp_path: Path) -> None:
    """A file with all that its own text offers as comments is taken, and nothing is missing."""
    names = [parameter.name for parameter in main.commands[command].params]
    assert names.count("config") == 1
    schema = schema_of({command: main.commands[command]})
    assert {p.name for p in schema.values()} == {
        p.name for p in main.commands[command].params
        if p.expose_value and p.name not in NOT_IN_FILES
    }  # fmt: skip
    flags = [key for key, p in schema.items() if isinstance(p, click.Option) and p.is_flag]
    for key in flags:
        path = written(tmp_path, f"[{key[0]}]\n{key[1]} = true\n")
        assert read_tables(path, schema)[0] == {key[0]: {key[1]: True}}
        with pytest.raises(click.UsageError, match="expected true or false"):
            read_tables(written(tmp_path, f'[{key[0]}]\n{key[1]} = "yes"\n'), schema)


def test_all_that_init_offers_is_taken(tmp_path: Path) -> None:
    text = text_of(main.commands, {})
    whole = "\n".join(
        line.removeprefix("# ") if " = " in line and line.startswith("# ") else line
        for line in text.splitlines()
    )
    schema = schema_of(main.commands)
    tables, _ = read_tables(written(tmp_path, whole), schema)
    offered = {(table, name) for table, entries in tables.items() for name in entries}
    flags = {key for key, p in schema.items() if isinstance(p, click.Option) and p.is_flag}
    assert offered == {key for key in schema if key[0] in tables} - flags


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run]\n# a comment\n\nstepz = 3",
         r"run.toml:4: stepz is no option of \[run\], did you mean steps"),
        ("[run]\nframes_every = 3", "run.toml:2: .*did you mean frames-every"),
        ("[rum]\nsteps = 3", r"run.toml:1: \[rum\] is unknown, did you mean run"),
        ("steps = 3", "run.toml:1: steps outside of a table"),
        ("[run]\npartition = 'gpu'", r"run.toml:2: .*it stands in \[cluster\]"),
        ("[run]\nsteps = '3'", r'run.toml:2: steps = "3": expected a whole number'),
        ("[run]\nsteps = true", "run.toml:2: .*expected a whole number"),
        ("[run]\nsteps = 1.5", "run.toml:2: .*expected a whole number"),
        ("[run]\nsteps = 0", "run.toml:2: .*not in the range"),
        ("[run]\ntemperature = '300'", "run.toml:2: .*expected a number"),
        ("[run]\nbackend = 'fast'", "run.toml:2: .*'fast' is not one of"),
        ("[windows]\nkappa = 100", "run.toml:2: .*expected a text in quotes"),
        ("[system]\nforcefield = 'a.xml'", "run.toml:2: .*expected an array"),
        ("[system]\nforcefield = ['a.xml', 3]", "run.toml:2: .*in each place"),
        ("[run]\nsteps = \n", "run.toml:2: not TOML"),
        ("[run]\nsteps = 3\nsteps = 4", "run.toml:3: not TOML"),
        ("[free-energy]\ncv = '''\n[run]\nsteps = 'x'\n'''\n[run]\nsteps = 'x'",
         "run.toml:7: steps"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_line(tmp_path: Path, text: str, message: str) -> None:
    result = call("run", "--config", written(tmp_path, text))
    assert result.exit_code == 2
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(result.output.replace("\n", " "))


def test_lines_are_those_of_statements() -> None:
    text = 'a.b = 1\n\n[t]\nx = """\ny = 1\n"""\n\n# y\ny = [\n 1,\n 2]\nz = {w = 3}\n'
    found = {key: line_of(text, key) for key in [("a", "b"), ("t",), ("t", "x"), ("t", "y"),
                                                 ("t", "z", "w")]}  # fmt: skip
    assert list(found.values()) == [1, 3, 4, 9, 12]


def test_a_run_is_what_its_file_says_and_flags_override_it(tmp_path: Path) -> None:
    """Paths are those of the file's folder, wherever it is called from."""
    (tmp_path / "mine.pdb").write_bytes(STRUCTURE.read_bytes())
    (tmp_path / "metad.dat").write_bytes(PLUMED.read_bytes())
    path = written(tmp_path, (
        '[system]\nstructure = "mine.pdb"\nforcefield = ["amber96.xml"]\n[run]\n'
        'plumed = "metad.dat"\nsteps = 300\nframes-every = 50\nplatform = "Reference"\n'
        'out = "frames of this"\n'
    ))  # fmt: skip
    result = call("run", "--config", path, "--steps", 100)
    assert result.exit_code == 0, result.output
    assert read_frames(tmp_path / "frames of this" / "frames").step.tolist() == [50, 100]
    (tmp_path / "mine.pdb").unlink()
    result = call("run", "--config", path, "--out", tmp_path / "other")
    assert result.exit_code == 2
    assert "run.toml:2: structure: File" in " ".join(result.output.split())
    assert call("run", STRUCTURE, "--config", path, "--steps", 0).output.count("run.toml") == 0


@pytest.mark.parametrize("place", ["windows", "~/windows"])
def test_patterns_stand_for_what_there_is(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a shell has them, home included; what the file's own folder is called is no pattern."""
    (tmp_path := tmp_path / "of [mine]*").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    path = written(tmp_path, f'[free-energy]\nfolders = ["{place}/window-*"]\ncv = "phi"\n')
    result = call("free-energy", "--config", path)
    assert result.exit_code == 2
    assert "run.toml:2: folders:" in " ".join(result.output.split())
    for name in ("window-1", "window-0"):
        (tmp_path / "windows" / name).mkdir(parents=True)
    result = call("free-energy", "--config", path)
    assert result.exit_code == 1
    assert "window-0 is no umbrella window" in result.output


def test_what_files_and_clusters_take_is_what_the_options_are() -> None:
    """Two lists that must agree: dataclasses for Python, options for the command line."""

    @click.command()
    @molecule_options
    def nothing(**_: object) -> None: ...

    assert {p.name for p in nothing.params} == {f.name for f in fields(MoleculeFiles)}
    [implicit] = [p for p in nothing.params if p.name == "implicit_solvent"]
    assert tuple(implicit.type.choices) == IMPLICIT
    shared = {p.name: p for p in main.commands["windows"].params
              if key_of(p, "windows")[0] == "cluster"}  # fmt: skip
    assert set(shared) == {f.name for f in fields(Cluster)}
    for name, default in vars(Cluster()).items():
        said = shared[name].to_info_dict()["default"]
        assert said == default or (not isinstance(said, str | int) and not default), name


DATA = ROOT / "examples" / "data"
OPENMMS = pytest.mark.filterwarnings(  # OpenMM leaves GROMACS files open
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@OPENMMS
@pytest.mark.parametrize(
    ("files", "table"),
    [
        ([STRUCTURE], {"structure": str(STRUCTURE)}),
        ([DATA / "butane.psf", DATA / "butane.pdb", DATA / "butane.prm"],
         {"psf": str(DATA / "butane.psf"), "crd": str(DATA / "butane.pdb"),
          "params": [str(DATA / "butane.prm")]}),
        ([DATA / "butane_water.top", DATA / "butane_water.gro"],
         {"top": str(DATA / "butane_water.top"), "gro": str(DATA / "butane_water.gro")}),
    ],
    ids=["pdb", "charmm", "gromacs"],
)  # fmt: skip
def test_init_writes_a_file_for_each_kind(files: list[Path], table: dict) -> None:
    result = call("init", *files, "--plumed", PLUMED)
    assert result.exit_code == 0, result.output
    found = tomllib.loads(result.output)
    assert found["system"] == table
    assert found["run"]["plumed"] == str(PLUMED)
    assert found["windows"]["cv"] == "phi"
    assert ("atoms" in found["run"]) == ("gro" in table)


@pytest.mark.filterwarnings("ignore")  # openmmtools'
@pytest.mark.parametrize("names", [("a.prmtop", "a.crd"), ("a.top", "a.rst7")], ids=str)
def test_endings_that_two_programs_use(tmp_path: Path, names: tuple[str, str]) -> None:
    from openmmtools.testsystems import get_data_filename

    name = "data/alanine-dipeptide-gbsa/alanine-dipeptide"
    files = [tmp_path / given for given in names]
    for file, ending in zip(files, (".prmtop", ".crd"), strict=True):
        file.write_bytes(Path(get_data_filename(f"{name}{ending}")).read_bytes())
    result = call("init", *files)
    assert result.exit_code == 0, result.output
    assert tomllib.loads(result.output)["system"] == {
        "prmtop": str(files[0]), "inpcrd": str(files[1])
    }  # fmt: skip


def test_init_refuses_what_makes_no_molecule(tmp_path: Path) -> None:
    for files, message in (
        ([DATA / "butane.psf"], "no molecule: got --psf, expected"),
        ([DATA / "butane.psf", STRUCTURE, DATA / "butane.prm"], "do not belong together|given"),
        ([STRUCTURE, DATA / "butane.pdb"], "which of them is it"),
        ([PLUMED], "ends in none of"),
    ):
        result = call("init", *files)
        assert result.exit_code in (1, 2)
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(" ".join(result.output.split()))
