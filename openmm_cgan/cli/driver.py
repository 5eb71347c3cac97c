"""The driver command: PLUMED's driver by its own options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openmm_cgan.cli.options import FILE, NEW
from openmm_cgan.cli.stopping import leaving

if TYPE_CHECKING:
    from openmm_cgan.plumed.driver.trajectories import Frame

DRIVER_BACKENDS = click.Choice(["auto", "native", "kernel"])


def _print_actions(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from openmm_cgan.plumed.actions import actions_help

    click.echo(actions_help())
    context.exit()


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--actions",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_actions,
    help="List the actions that are known natively, with their keywords, and exit.",
)
@click.option("--plumed", "plumed_input", type=FILE, default="plumed.dat", show_default=True)
@click.option("--ixyz", type=FILE, help="Trajectory in xyz format [nm], box in the comment line.")
@click.option("--igro", type=FILE, help="Trajectory in gro format.")
@click.option("--ixtc", type=FILE, help="Trajectory in xtc format, with its steps.")
@click.option("--itrr", type=FILE, help="Trajectory in trr format, with its steps.")
@click.argument("molfile", nargs=-1, type=click.UNPROCESSED, metavar="[--mf_SUFFIX FILE]")
@click.option("--noatoms", is_flag=True, help="No trajectory.")
@click.option("--natoms", type=int, help="Atoms, for formats that do not say.")
@click.option("--length-units", default="nm", show_default=True, help="nm, A, Bohr or a number.")
@click.option("--box", help="Three or nine numbers with commas, in place of the trajectory's box.")
@click.option("--pdb", type=FILE, help="PDB file with masses as occupancy, charges as beta.")
@click.option("--mc", type=FILE, help="File of masses and charges as DUMPMASSCHARGE writes it.")
@click.option("--timestep", default=1.0, show_default=True, help="Of the run [ps].")
@click.option(
    "--trajectory-stride",
    default=1,
    show_default=True,
    help="Steps between frames; 0: the steps that --ixtc and --itrr read.",
)
@click.option("--initial-step", default=0, show_default=True, help="Step of the first frame.")
@click.option("--kt", type=float, help="kT [kJ/mol], for inputs that need a temperature.")
@click.option("--restart", is_flag=True, help="Append to the files and read the hills.")
@click.option("--dump-forces", type=NEW, help="File for the forces of the bias on the atoms.")
@click.option("--dump-forces-fmt", default="%f", show_default=True, help="Format of its numbers.")
@click.option("--debug-forces", type=NEW, help="File that compares them with differences.")
@click.option("--dump-full-virial", is_flag=True, help="Nine numbers of the virial in that file.")
@click.option("--backend", type=DRIVER_BACKENDS, default="auto", show_default=True)
@click.option("--out", type=NEW, default=".", show_default=True, help="Folder for its files.")
def driver(plumed_input: Path, **options: Any) -> None:
    """Run a PLUMED input over a trajectory, as ``plumed driver`` does.

    \b
    Example:
        openmm-cgan driver --plumed plumed.dat --mf_xtc run.xtc --timestep 0.002 \\
            --trajectory-stride 500

    Writes COLVAR, HILLS and whatever else the input asks for. Options are named as PLUMED's; the
    SUFFIX of --mf_SUFFIX is that of any format that MDAnalysis reads without a topology.
    """
    from openmm_cgan.plumed.driver.driver import run_driver
    from openmm_cgan.plumed.driver.settings import driver_settings
    from openmm_cgan.plumed.driver.trajectories import OWN_FORMATS, read_trajectory

    given = [(kind, options[kind]) for kind in OWN_FORMATS if options[kind] is not None]
    given += _molfiles(options["molfile"])
    if len(given) != (0 if options["noatoms"] else 1):
        names = ", ".join(f"--{kind}" for kind in OWN_FORMATS)
        raise click.UsageError(f"give one of {names}, --mf_SUFFIX, --noatoms; got {len(given)}")
    settings = driver_settings(**options)
    frames = None
    for kind, path in given:
        boxless = options["box"] is not None
        frames = read_trajectory(path, kind, options["natoms"], boxless)
    with leaving(f"its files hold the frames before: {_how_again(settings.restart)}"):
        count = run_driver(plumed_input, _counted(frames), settings)
    click.echo(f"{count} frames of {given[0][1] if given else 'no atoms'}")


def _counted(frames: Iterator[Frame] | None) -> Iterator[Frame] | None:
    """The same frames, with a count of them on a terminal."""
    from tqdm import tqdm

    if frames is None:
        return None
    return iter(tqdm(frames, desc="driver", unit=" frames", disable=None, leave=False))


def _how_again(restart: bool) -> str:
    if restart:
        return "remove what was appended, and give the same command"
    return "the same command begins anew, and keeps them as bck.*"


def _molfiles(words: Sequence[str]) -> list[tuple[str, Path]]:
    """Read ``--mf_SUFFIX FILE`` and ``--mf_SUFFIX=FILE`` from the words that are left over."""
    found, left = [], list(words)
    while left:
        key, equals, name = left.pop(0).partition("=")
        if not key.startswith("--mf_"):
            raise click.UsageError(f"no such option or argument: {key}")
        if not equals and not left:
            raise click.UsageError(f"{key} needs a file")
        found.append((key.removeprefix("--"), Path(name if equals else left.pop(0))))
    return found
