"""How a long command ends when it is told to: with a line on how to go on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import click


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
