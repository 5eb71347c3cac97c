"""What a command reads it does not write over: files of the user, and those of a run."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

# Of what lies in a folder that is read, only what commands make from it is replaced.
MADE = {".csv", ".png", ".pdf", ".svg", ".html", ".npz", ".pdb", ".dcd", ".xtc"}
OF_RUNS = {"topology.pdb", "atoms.pdb", "proposals.csv", "decisions.csv"}


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
    """
    inputs = dict(_paths(context, exist=True))
    written: dict[Path, str] = {}
    for path, option in _paths(context, exist=False):
        if path.is_dir():
            continue
        if path in inputs or any(_is_kept(path, folder) for folder in inputs):
            raise click.UsageError(
                f"{option} {path} is what this command reads: it would be lost; give another file",
                context,
            )
        if path in written:
            raise click.UsageError(
                f"{written[path]} and {option} both name {path}: give each its own file", context
            )
        written[path] = option


def _is_kept(path: Path, folder: Path) -> bool:
    """Whether a path is a file of a run, in its folder."""
    if not (folder.is_dir() and path.is_file() and path.is_relative_to(folder)):
        return False
    return path.suffix.lower() not in MADE or path.name in OF_RUNS


def _paths(context: click.Context, exist: bool) -> Iterator[tuple[Path, str]]:
    """Paths that options and arguments name, links followed, with the name of each."""
    for parameter in context.command.params:
        if not isinstance(parameter.type, click.Path) or parameter.type.exists is not exist:
            continue
        given = context.params.get(parameter.name or "")
        for path in given if isinstance(given, tuple) else (given,):
            if path is not None:
                yield Path(path).resolve(), max(parameter.opts, key=len)
