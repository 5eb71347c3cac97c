"""The report command, and the page that other commands leave at their end."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import click

from openmm_cgan.cli.options import FILE, NEW, THERE, require_parent, set_threads
from openmm_cgan.cli.stopping import leaving
from openmm_cgan.run_folders import record_command

logger = logging.getLogger("openmm_cgan")


@click.command()
@click.argument("folder", type=THERE)
@click.option("--out", type=NEW, help="The page; default: FOLDER/report.html.")
@click.option("--model", type=FILE, help="A model that lies outside FOLDER.")
@click.option("--every", type=click.IntRange(min=1),
              help="Write it again after so many seconds, until this is stopped.")  # fmt: skip
def report(folder: Path, out: Path | None, model: Path | None, every: int | None) -> None:
    """Show what FOLDER holds on one page, report.html, that opens offline.

    \b
    Examples:
        openmm-cgan report demo
        openmm-cgan report run --model model.npz
        openmm-cgan report run --every 60        # while the run goes on; the page loads itself anew

    FOLDER is of a run, of windows, of a demo or an exploration, finished or not; or a model file.
    The page has a verdict in words, free energies with errors and in time, overlap, proposals with
    structures, training, costs, the input with what ran each line, and what to type to do it again.
    """
    from openmm_cgan.report.page import write_report

    require_parent(out)
    set_threads(1)
    with leaving("the page stays as it was last written, if it was"):
        while True:
            written = write_report(folder, out, model=model, refresh=every or 0)
            click.echo(f"{written}: {written.stat().st_size / 1e6:.1f} MB")
            if every is None:
                return
            time.sleep(every)


leaves_report = click.option(
    "--report/--no-report", "with_report", default=True, show_default=True,
    help="Leave report.html in the folder at the end.",
)  # fmt: skip
WORDS = "openmm_cgan.words"  # of the command line, in the meta of contexts


@contextlib.contextmanager
def recording(folder: Path) -> Iterator[None]:
    """Write down what was typed in the folder that a command has worked in.

    A command that is stopped by a signal, or whose run becomes infinite, is written down too; one
    that is refused is not.
    """
    words = ["openmm-cgan", *click.get_current_context().meta.get(WORDS, [])]
    worked = True
    try:
        yield
    except Exception as error:
        from openmm_cgan.states import NotFiniteError  # OpenMM is loaded then anyway

        worked = isinstance(error, NotFiniteError)
        raise
    finally:
        if worked and folder.is_dir():
            record_command(folder, words)


def leave_report(folder: Path) -> None:
    """Write the page of a command that has ended; that it can not be made spoils nothing."""
    from openmm_cgan.report.page import write_report

    try:
        with leaving(f"all but the page is done: openmm-cgan report {folder} makes it"):
            click.echo(f"report: {write_report(folder)}")
    except (ValueError, OSError, RuntimeError) as error:
        logger.warning("%s has no report.html: %s", folder, error)
