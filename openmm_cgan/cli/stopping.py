"""How a long command ends when it is told to, with a line on how to go on; and that it is alone."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from openmm_cgan.claims import Claim


def checkpoint_for(out: Path, named: Path | None, resume: bool) -> Path:
    """The checkpoint of what is to be written to `out`: as it is named, or beside it.

    Raises
    ------
    FileNotFoundError
        If it is not there to go on from.
    FileExistsError
        If one that nobody named is there, and is not gone on from.
    """
    kept = named or out.with_suffix(".chk")
    if resume and not kept.exists():
        raise FileNotFoundError(f"{kept} is not there: nothing to go on with")
    if not resume and named is None and kept.exists():
        raise FileExistsError(f"{kept} is of a command that was stopped: --resume, or remove it")
    return kept


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """See that no other process makes the same file, or works in the same folder.

    A file is replaced as a whole, so what is locked lies beside it, and goes at the end.

    Raises
    ------
    RuntimeError
        If one does.
    """
    beside = None if out.is_dir() else out.with_name(f".{out.name}.lock")
    try:
        claim = Claim(out) if beside is None else _claim_of_made(beside)
    except RuntimeError:
        raise RuntimeError(
            f"another process is making {out}: wait until it has ended, or name another --out"
        ) from None
    try:
        yield
    finally:
        if beside is not None and claim.is_of(beside):
            beside.unlink(missing_ok=True)  # while it is still claimed
        claim.release()


def _claim_of_made(path: Path) -> Claim:
    """Claim a file that is made if it is not there, and that who had it removes at its end.

    That may be between any two lines here: what was claimed then is no longer what others see.
    """
    while True:
        path.touch()
        claim = Claim(path)
        if claim.is_of(path):
            return claim
        claim.release()


@contextlib.contextmanager
def stopping(*kept: Path, how: str = "the same command with --resume") -> Iterator[None]:
    """SIGTERM and SIGINT end a command with a line on how to go on, and exit code 143 or 130.

    There is something to go on from once one of the files or folders `kept` exists.
    """
    from openmm_cgan.signals import StoppedBySignalError, at_once

    try:
        with at_once():
            yield
    except StoppedBySignalError as stopped:
        there = next((path for path in kept if path.exists()), None)
        nothing = f"{stopped}; nothing was saved yet"
        click.echo(nothing if there is None else stopped.told(there, how), err=True)
        sys.exit(128 + stopped.number)
