"""How a long command ends when it is told to, with a line on how to go on; and that it is alone."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from openmm_cgan.claims import Claim
from openmm_cgan.signals import StoppedBySignalError, at_once


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


def stopping(
    *kept: Path, how: str = "the same command with --resume"
) -> contextlib.AbstractContextManager[None]:
    """SIGTERM and SIGINT end a command with a line on how to go on, and exit code 143 or 130.

    There is something to go on from once one of the files or folders `kept` exists.
    """

    def told(stopped: StoppedBySignalError) -> str:
        there = next((path for path in kept if path.exists()), None)
        return f"{stopped}; nothing was saved yet" if there is None else stopped.told(there, how)

    return _ending(told)


def writing(
    *files: Path | None, how: str = "the same command begins anew"
) -> contextlib.AbstractContextManager[None]:
    """The same of a command that goes on from nothing, with a line on which files it has written.

    Each of them is replaced as a whole, when the work for it is done.
    """
    before = {path: _stamp(path) for path in files if path is not None}

    def told(stopped: StoppedBySignalError) -> str:
        written = [str(path) for path in before if _stamp(path) != before[path]]
        saved = f"{', '.join(written)} written, no more" if written else "nothing was saved"
        return f"{stopped}; {saved}: {how}"

    return _ending(told)


def leaving(text: str) -> contextlib.AbstractContextManager[None]:
    """The same of a command that leaves what the text says."""
    return _ending(lambda stopped: f"{stopped}; {text}")


@contextlib.contextmanager
def _ending(told: Callable[[StoppedBySignalError], str]) -> Iterator[None]:
    try:
        with at_once():
            yield
    except StoppedBySignalError as stopped:
        click.echo(told(stopped), err=True)
        sys.exit(128 + stopped.number)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
