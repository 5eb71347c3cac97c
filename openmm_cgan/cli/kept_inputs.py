"""What a command reads it does not write over: files of the user, and those of a run."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from openmm_cgan.atomic_files import require_writable
from openmm_cgan.cli.config_file import FOUND
from openmm_cgan.cli.options import ForceFieldFile
from openmm_cgan.run_folders import (
    BONDS,
    COMMANDS,
    INPUT,
    PROPOSALS,
    RECORD,
    SYSTEM,
    TOPOLOGY,
)

# Of what lies in a folder that is read, only what commands make from it is replaced.
MADE = {".csv", ".png", ".pdf", ".svg", ".html", ".npz", ".chk", ".pdb", ".dcd", ".xtc"}
OF_RUNS = {TOPOLOGY, "atoms.pdb", PROPOSALS, "decisions.csv", "run.chk"}
# Of what lies beside a file that is read, in the folder of a run.
RECORDS = OF_RUNS | {SYSTEM, BONDS, INPUT, RECORD, COMMANDS, "state.xml", "COLVAR", "HILLS"}
LEFT_BY_RUN = (TOPOLOGY, SYSTEM, BONDS, INPUT)  # under names that what is read may have as well
IN_FOLDER = {"run", "driver"}  # whose PLUMED inputs name files in --out


def keep_inputs(command: click.Command) -> None:
    """Have a command refuse, before it does anything, to write over what it reads."""
    if (work := command.callback) is None:
        return

    @functools.wraps(work)
    def checked(*args: Any, **options: Any) -> Any:
        require_inputs_kept(click.get_current_context())
        return work(*args, **options)

    command.callback = checked


def require_inputs_kept(context: click.Context) -> None:
    """Check the paths of a command.

    Raises
    ------
    click.UsageError
        If it is to write to a file that it reads, in place of a run's own file in a folder that it
        reads, or two things to one file.
    PermissionError
        If this user may not write where it is to.
    """
    written: dict[Path, str] = {}
    for path, option in _paths(context, exist=False):
        if path in written:
            raise click.UsageError(
                f"{written[path]} and {option} both name {path}: give each its own file", context
            )
        require_writable(path)
        if not path.is_dir():
            written[path] = option
    require_kept(context, written)
    _require_room(context)


def require_kept(context: click.Context, written: Mapping[Path, str]) -> None:
    """Check files that a command is to write, under names that nobody gave as well.

    Parameters
    ----------
    context : click.Context
    written : mapping of Path to str
        The option that names each, or could.

    Raises
    ------
    click.UsageError
        If it reads one, or one is a run's own.
    """
    there = {path.resolve(): option for path, option in written.items() if path.exists()}
    inputs = _inputs(context) if there else set()  # what is not there can not be lost
    for path, option in there.items():
        if path in inputs or any(_is_kept(path, source) for source in inputs):
            raise click.UsageError(
                f"{option} {path} is what this command reads: it would be lost; give another file",
                context,
            )


def _require_room(context: click.Context) -> None:
    """Refuse to run in a folder where a file that is read has the name of one of the run's own."""
    goes_on = context.params.get("restart") or context.params.get("resume")  # its own files
    if context.command.name != "run" or goes_on:
        return
    folder = Path(context.params["out"]).resolve()
    for path in {folder / name for name in LEFT_BY_RUN} & _inputs(context):
        raise click.UsageError(
            f"--out {folder} is where this command leaves its own {path.name}, and {path} is what "
            "it reads: it would be lost; give another folder",
            context,
        )


def _is_kept(path: Path, source: Path) -> bool:
    """Whether a path is a file of the run that is read, or that something read belongs to."""
    if source.is_dir():
        inside = path.is_file() and path.is_relative_to(source)
        return inside and (path.suffix.lower() not in MADE or path.name in OF_RUNS)
    beside = path.parent == source.parent and (source.parent / RECORD).is_file()
    return beside and path.name in RECORDS


def _inputs(context: click.Context) -> set[Path]:
    """All that a command reads: what its options name, and files that those name in turn."""
    inputs = {path for path, _ in _paths(context, exist=True)}
    if FOUND in context.meta:
        inputs.add(Path(context.meta[FOUND][0]).resolve())
    for parameter in context.command.params:
        if isinstance(parameter.type, ForceFieldFile | click.types.UnprocessedParamType):
            words = context.params.get(parameter.name or "") or ()  # some are names of files
            paths = [Path(str(word).rpartition("=")[2]) for word in words]
            inputs |= {path.resolve() for path in paths if path.is_file()}
    plumed = context.params.get("plumed_input") or context.params.get("plumed")
    return inputs | (_named_in(Path(plumed), context) if plumed is not None else set())


def _named_in(plumed: Path, context: click.Context) -> set[Path]:
    """The files that a PLUMED input reads."""
    from openmm_cgan.plumed.input.language import PlumedInput, read_text
    from openmm_cgan.plumed.input.named_files import names_of_read

    folder = _folder(context)
    try:
        read = PlumedInput.read(*read_text(plumed), folder)
    except (ValueError, OSError):  # the command says what is wrong
        return set()
    restarts = bool(context.params.get("restart")) if read.restarts is None else read.restarts
    names = {s.location.file for s in read.followed}
    for statement in (*read.statements, *read.followed):  # INCLUDE itself is not followed
        names |= set(names_of_read(statement.action, statement.words, restarts))
    return {(folder / name).resolve() for name in names}


def _folder(context: click.Context) -> Path:
    """Where names of files begin that stand in a PLUMED input, or are told to its driver."""
    ours = context.command.name in IN_FOLDER
    return Path(context.params["out"] if ours else ".").absolute()


def _paths(context: click.Context, exist: bool) -> Iterator[tuple[Path, str]]:
    """Paths that options and arguments name, links followed, with the name of each."""
    for parameter in context.command.params:
        if not isinstance(parameter.type, click.Path) or parameter.type.exists is not exist:
            continue
        given = context.params.get(parameter.name or "")
        in_folder = context.command.name == "driver" and not exist and parameter.name != "out"
        place = _folder(context) if in_folder else Path()
        for path in given if isinstance(given, tuple) else (given,):
            if path is not None:
                yield (place / path).resolve(), max(parameter.opts, key=len)
