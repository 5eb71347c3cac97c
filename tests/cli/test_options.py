"""What the commands read from the text of their options, and what the demo says of its stages."""

import os
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from openmm_cgan.cli import main
from openmm_cgan.cli.demo import STAGES, _Stages
from openmm_cgan.cli.driver import _molfiles
from openmm_cgan.cli.molecule_files import CONSTRAINTS
from openmm_cgan.cli.molecules import each_window, load_molecule
from openmm_cgan.cli.options import cv_values, interval, require_parent
from openmm_cgan.platforms import platform_named
from openmm_cgan.windows import read_windows

PDB = Path(__file__).parents[2] / "openmm_cgan" / "data" / "alanine_dipeptide.pdb"


def test_cv_values_come_in_the_order_of_the_names() -> None:
    assert cv_values("psi=-0.5, phi=1.0", ["phi", "psi"]) == [1.0, -0.5]


@pytest.mark.parametrize(
    "text",
    [
        "phi=1",
        "phi=1,psi=x",
        "phi=1,psi=2,chi=3",
        "phi=1,psi=-1,phi=2",
        "1.0,2.0",
        "phi=1=2,psi=1",
        "",
    ],
)
def test_cv_values_that_do_not_fit_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"--at .*such as phi=1.0,psi=1.0"):
        cv_values(text, ["phi", "psi"])


def test_an_interval_has_two_ends() -> None:
    assert interval("0,2.3") == (0.0, 2.3)
    for text in ("0", "0,1,2", "a,b", "2,1", "1,1", "0,nan"):
        with pytest.raises(ValueError, match="expected LOWER,UPPER"):
            interval(text)


def test_a_missing_folder_is_told_before_the_work(tmp_path: Path) -> None:
    require_parent(tmp_path / "new.csv", None)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        require_parent(tmp_path / "new.csv", tmp_path / "missing" / "plot.png")


def test_trajectories_are_read_from_the_words_left_over() -> None:
    words = ["--mf_xtc", "a.xtc", "--mf_dcd=b.dcd"]
    assert _molfiles(words) == [("mf_xtc", Path("a.xtc")), ("mf_dcd", Path("b.dcd"))]
    with pytest.raises(click.UsageError, match="--mf_xtc needs a file"):
        _molfiles(["--mf_xtc"])
    with pytest.raises(click.UsageError, match="no such option or argument: --x"):
        _molfiles(["--x"])


def test_constraints_are_named_as_openmms_and_others_refused() -> None:
    counts = {
        name: load_molecule(PDB, ["amber96.xml"], name).system.getNumConstraints()
        for name in CONSTRAINTS
    }
    assert counts["None"] == 0 < counts["HBonds"] < counts["AllBonds"] < counts["HAngles"]
    with pytest.raises(ValueError, match="expected one of None, HBonds, AllBonds, HAngles"):
        load_molecule(PDB, ["amber96.xml"], "Bonds")


def test_platforms_have_their_names_in_capitals_or_not() -> None:
    assert platform_named("reference").getName() == platform_named("REFERENCE").getName()
    with pytest.raises(ValueError, match=r"platform 'abacus': .*expected one of .*Reference"):
        platform_named("abacus")


def test_a_structure_file_needs_positions(tmp_path: Path) -> None:
    wrong = tmp_path / "plumed.dat"
    wrong.write_text("phi: TORSION ATOMS=5,7,9,15\n")
    with pytest.raises(ValueError, match=r"is no structure file: expected one that ends in \.pdb"):
        load_molecule(wrong, ["amber96.xml"])


def test_a_folder_that_is_no_window_is_told_with_one_that_is(tmp_path: Path) -> None:
    inner = tmp_path / "windows" / "window-000"
    inner.mkdir(parents=True)
    (inner / "window.json").write_text("{")
    with pytest.raises(FileNotFoundError, match=r"no umbrella window.*such as .*window-000"):
        read_windows([inner.parent])
    with pytest.raises(ValueError, match=r"window-000/window.json is .*damaged"):
        read_windows([inner])
    assert each_window([tmp_path, inner.parent]) == [tmp_path, inner]
    for twice in ([inner, inner.parent], [tmp_path, inner, tmp_path / "windows" / ".."]):
        with pytest.raises(ValueError, match=r"is given 2 times.*give each once"):
            each_window(twice)


def test_stages_are_numbered_and_timed() -> None:
    said: list[str] = []
    stages = _Stages(said.append)
    for name in STAGES:
        stages.begin(name)
    record = stages.seconds()
    assert said == [f"{i}/5 {name}" for i, name in enumerate(STAGES, start=1)]
    assert list(record["seconds_of_stages"]) == list(STAGES)
    assert sum(record["seconds_of_stages"].values()) == pytest.approx(record["seconds"])


def refused(*words: object) -> str:
    """What a command says at once, which reads and writes nothing then."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 2
    return " ".join(result.output.split())


LOST = "is what this command reads: it would be lost"


def kept(folder: Path, *names: str) -> list[Path]:
    """Files that hold their own names."""
    paths = [folder / name for name in names]
    for path in paths:
        path.write_text(f"{path.name}\n")
    return paths


def test_the_driver_keeps_what_it_and_its_input_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PLUMED begins the file of forces anew, without a backup; its name begins in --out."""
    files = kept(tmp_path, "t.xyz", "t.dcd", "ref.pdb", "HILLS", "i.ndx", "mc")
    (tmp_path / "more.dat").write_text("# more\n")
    words = [
        "r: RMSD REFERENCE=ref.pdb", "INCLUDE FILE=more.dat", "g: GROUP ATOMS=@ndx:i.ndx",
        "METAD ARG=r SIGMA=1 PACE=1 HEIGHT=1 FILE=HILLS",
    ]  # fmt: skip
    (tmp_path / "in.dat").write_text("\n".join(words) + "\n")
    monkeypatch.chdir(tmp_path)
    common = ("driver", "--plumed", "in.dat", "--mc", "mc", "--restart")
    for option in ("--dump-forces", "--debug-forces"):
        for name in ("t.xyz", "ref.pdb", "more.dat", "HILLS", "i.ndx", "mc", "in.dat"):
            assert LOST in refused(*common, "--ixyz", "t.xyz", option, name), name
        for given in (("--mf_dcd", "t.dcd"), ("--mf_dcd=t.dcd",)):
            assert LOST in refused(*common, *given, option, "t.dcd")
        (tmp_path / "deep").mkdir(exist_ok=True)
        assert LOST in refused(*common, "--ixyz", "t.xyz", "--out", "deep", option, "../t.xyz")
    assert [p.read_text() for p in files] == [f"{p.name}\n" for p in files]
    assert (tmp_path / "more.dat").read_text() == "# more\n"


def test_files_that_an_option_does_not_name_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept(tmp_path, "ref.pdb", "my.xml", "mol.pdb", "model.npz")
    (tmp_path / "run.toml").write_text('[propose]\nat = ["phi=1"]\n')
    (tmp_path / "in.dat").write_text("r: RMSD REFERENCE=ref.pdb\n")
    words = ("propose", "model.npz", "--topology", "mol.pdb", "--plumed", "in.dat", "--at", "phi=1")
    assert LOST in refused(*words, "--out", "ref.pdb")
    assert LOST in refused(*words, "--config", "run.toml", "--csv", "run.toml")
    assert LOST in refused("free-energy", "--model", "model.npz", "--cv", "r", "--structure",
                           "mol.pdb", "--forcefield", "my.xml", "--out", "my.xml")  # fmt: skip
    (tmp_path / "run").mkdir()
    kept(tmp_path / "run", "run.json", "topology.pdb", "proposals.csv", "seeds.csv")
    words = ("propose", "model.npz", "--topology", "run/topology.pdb", "--plumed", "in.dat",
             "--at", "phi=1")  # fmt: skip
    assert LOST in refused(*words, "--out", "run/proposals.pdb"), "its table is that of the run"
    said = CliRunner().invoke(main, [*words, "--out", "run/seeds.pdb"]).output
    assert LOST not in said, "that of an earlier proposal"


@pytest.mark.parametrize("name", ["topology.pdb", "system.xml", "plumed.dat"])
def test_a_folder_where_a_file_that_is_read_would_be_replaced(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run topology.pdb --out .` put the start of the run in place of the structure."""
    monkeypatch.chdir(tmp_path)
    kept(tmp_path, "topology.pdb", "system.xml", "plumed.dat", "mol.pdb", "s.xml", "p.dat")
    files = {"topology.pdb": "mol.pdb", "system.xml": "s.xml", "plumed.dat": "p.dat"}
    structure, system, plumed = (key if key == name else files[key] for key in files)
    words = ["run", structure, "--system", system, "--plumed", plumed, "--out", "."]
    assert "it would be lost; give another folder" in refused(*words, "--steps", 1)
    said = CliRunner().invoke(main, [*words, "--resume"]).output
    assert "it would be lost" not in said, "its own files"


def test_no_command_writes_over_what_it_reads(tmp_path: Path) -> None:
    run, frames = tmp_path / "run", tmp_path / "run" / "frames" / "segment-00001.h5md"
    frames.parent.mkdir(parents=True)
    link = tmp_path / "link.pdb"
    structure, hills = tmp_path / "mol.pdb", run / "HILLS"
    for path in (frames, structure, hills, run / "topology.pdb", run / "profile.csv"):
        path.write_text("kept")
    link.symlink_to(structure)
    for out in (frames, hills, run / "topology.pdb"):
        assert LOST in refused("free-energy", run, "--cv", "phi", "--out", out)
    words = ("propose", hills, "--topology", structure, "--plumed", hills, "--at", "phi=1")
    for named in (("--out", structure), ("--out", link), ("--csv", hills)):
        assert LOST in refused(*words, *named)
    both = ("--out", tmp_path / "x.pdb", "--csv", tmp_path / "x.pdb")
    assert "both name" in refused(*words, *both)
    assert all(p.read_text() == "kept" for p in (frames, structure, hills, run / "topology.pdb"))
    # what was made from a run is made again
    result = CliRunner().invoke(
        main, ["free-energy", str(run), "--cv", "phi", "--out", str(run / "profile.csv")]
    )
    assert LOST not in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["run", str(PDB), "--plumed", "p.dat", "--steps", "100", "--out", "locked/run"],
        ["free-energy", ".", "--cv", "phi", "--out", "locked/profile.csv"],
        ["driver", "--plumed", "p.dat", "--noatoms", "--out", "locked"],
        ["train", ".", "--topology", str(PDB), "--out", "locked/model.npz"],
        ["windows", ".", "--cv", "phi", "--steps", "100", "--out", "locked/windows"],
    ],
    ids=lambda words: words[0],
)
def test_a_folder_that_may_not_be_written_is_told_before_anything_is_done(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    locked, may = tmp_path / "locked", os.access  # root may write everywhere
    locked.mkdir()
    (tmp_path / "p.dat").write_text("phi: TORSION ATOMS=5,7,9,15\n")
    monkeypatch.setattr(os, "access", lambda path, how: Path(path) != locked and may(path, how))
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert f"this user may not write to {locked}. Give another place" in result.output
    assert list(locked.iterdir()) == []


ONE_VALUE = [
    (name, option)
    for name, command in main.commands.items()
    for option in command.params
    if isinstance(option, click.Option) and not option.is_flag and not option.multiple
]


@pytest.mark.parametrize(
    ("command", "option"), ONE_VALUE, ids=lambda one: getattr(one, "name", one)
)
def test_an_option_given_twice_is_refused_with_both_values(
    command: str, option: click.Option
) -> None:
    word = max(option.opts, key=len)
    result = CliRunner().invoke(main, [command, word, "first", word, "second"])
    assert result.exit_code == 2
    assert f"{word} is given 2 times, as first and second: it takes one value" in result.output


def test_a_shell_completes_words_where_an_option_has_no_value_yet() -> None:
    completion = ShellComplete(main, {}, "openmm-cgan", "_OPENMM_CGAN_COMPLETE")
    words = ["windows", "run", "--cv", "phi", "--executor"]
    assert "local" in {item.value for item in completion.get_completions(words, "")}


def test_what_may_be_given_twice_is_not_refused(tmp_path: Path) -> None:
    words = ["run", "--overwrite", "--plumed", str(tmp_path / "no.dat"), "--forcefield", "a.xml"]
    result = CliRunner().invoke(main, [*words, "--forcefield", "b.xml"])
    assert "times" not in result.output
    result = CliRunner().invoke(main, ["demo", "--quick", "--quick", "--report", "--no-report"])
    assert "--report and --no-report together are given 2 times: give one" in result.output


def test_a_seed_that_none_can_take_is_refused_by_its_name() -> None:
    for command in main.commands.values():
        for option in command.params:
            if option.name != "seed":
                continue
            for seed in (-1, 2**31):
                with pytest.raises(click.BadParameter, match="not in the range"):
                    option.type_cast_value(click.Context(command), str(seed))
