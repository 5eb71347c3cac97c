"""The explore command: from a structure and CVs to a free energy, or why there is none."""

from __future__ import annotations

import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openmm_cgan.cli.options import (
    FILE,
    NEW,
    SEED,
    device_option,
    molecule_options,
    require_parent,
    set_threads,
)
from openmm_cgan.cli.reports import recording
from openmm_cgan.cli.stopping import alone, stopping

if TYPE_CHECKING:
    from openmm_cgan.cli.exploration_folder import ExplorationFolder
    from openmm_cgan.explore.circle import Outcome
    from openmm_cgan.explore.settings import ExploreSettings

NOT_CONVERGED = 3  # exit code
NOWHERE = "none:0..1"  # where no difference is wanted


@click.command()
@molecule_options
@click.option("--plumed", "plumed_input", type=FILE,
              help="PLUMED input: CVs with a PRINT, or with a bias on them; with --cvs "
              "diffusion-map the CV of the difference, which is not biased.")  # fmt: skip
@click.option("--cvs", type=click.Choice(["given", "diffusion-map"]), default="given",
              show_default=True, help="Those of the input, or learned from the torsions that "
              "turn heavy atoms: hydroxyls and amines are not seen.")  # fmt: skip
@click.option("--difference", help="The free energy that is wanted: of the second "
              "interval of a CV less the first's, phi:-pi..0|0..pi, or of one, phi:0..2.3, less "
              "that of the rest.")  # fmt: skip
@click.option("--tolerance", default=0.5, show_default=True, help="Its standard error [kJ/mol].")
@click.option("--budget-steps", type=click.IntRange(min=1), default=5_000_000, show_default=True,
              help="Force evaluations of everything together.")  # fmt: skip
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=float("inf"),
              help="Of work, after which nothing new is begun.")  # fmt: skip
@click.option("--barrier", default=60.0, show_default=True,
              help="That an added bias is to get over [kJ/mol].")  # fmt: skip
@click.option("--biased-steps", type=click.IntRange(min=1000), default=150_000, show_default=True,
              help="Of the first biased run.")  # fmt: skip
@click.option("--temperature", default=300.0, show_default=True, help="[K]")
@click.option("--timestep", default=0.002, show_default=True, help="[ps]")
@click.option(
    "--platform",
    help="OpenMM platform, with properties CUDA:Precision=mixed; default: the quickest, by trying.",
)
@click.option("--workers", type=click.IntRange(min=0), help="Processes of windows; default: cores.")
@device_option("that generators are trained on")
@click.option("--seed", type=SEED, default=1, show_default=True)
@click.option("--resume", is_flag=True, help="Go on with the exploration in --out.")
@click.option("--out", type=NEW, default="explored", show_default=True, help="Folder.")
def explore(
    plumed_input: Path | None,
    cvs: str,
    difference: str | None,
    platform: str | None,
    workers: int | None,
    device: str,
    resume: bool,
    out: Path,
    **options: Any,
) -> None:
    """From a structure and CVs to a free-energy difference, or why there is none.

    The molecule is given as to `openmm-cgan run`.

    \b
    Example:
        openmm-cgan explore alanine.pdb --forcefield amber96.xml --plumed cvs.dat \\
            --difference "phi:0..2.3" --out explored

    No CVs are needed with --cvs diffusion-map: coordinates are learned in short biased rounds until
    the molecule shows nothing new; OUT/cvs.dat names them. With a --difference, whose CV --plumed
    defines, metadynamics along them goes on until it has gone between the states often enough; its
    bias is then held as it is, for frames under it alone have exact weights.

    \b
        openmm-cgan explore alanine.pdb --forcefield amber96.xml --cvs diffusion-map \\
            --plumed cvs.dat --difference "phi:0..2.3" --out explored

    With CVs: a biased run (metadynamics on them is added where the input has no bias); a generator
    trained on its frames, refined and judged; weights of what it makes where they are exact and
    good, else umbrella windows from two starts each; and again, until the error is below
    --tolerance, halves agree, and chains or windows from opposite starts have come together. Each
    decision is a line with its reason, and a row of OUT/decisions.csv. Killed at any moment, the
    same command with --resume goes on. The exit code is 3 where nothing can be claimed.
    """
    from openmm_cgan.cli.exploration import Workshop
    from openmm_cgan.cli.exploration_folder import ExplorationFolder
    from openmm_cgan.cli.explored_coordinates import find_coordinates, rounds_of
    from openmm_cgan.cli.explored_difference import explore_without_cvs
    from openmm_cgan.cli.molecule_files import MoleculeFiles, molecule_of
    from openmm_cgan.explore.circle import RECORD, TABLE
    from openmm_cgan.explore.circle import explore as explored
    from openmm_cgan.explore.settings import ExploreSettings

    require_parent(out)
    set_threads(1)
    files = MoleculeFiles(**{f.name: options.pop(f.name) for f in fields(MoleculeFiles)})
    learned = cvs != "given"
    _require_sense(learned, plumed_input, difference, platform)
    if plumed_input is None or difference is None:
        plumed_input, difference = Path(), NOWHERE
    settings = ExploreSettings(difference, **options)
    molecule = molecule_of(files)
    place = ExplorationFolder(molecule, plumed_input, out, settings, platform, workers, device)
    if difference != NOWHERE:
        place.check()
    if not resume:
        out.mkdir(exist_ok=True)
    with alone(out), stopping(out / RECORD), recording(out):
        _begin(out, settings, cvs, resume)
        if difference == NOWHERE:
            find_coordinates(molecule, out, rounds_of(place), click.echo)
            return
        if learned:
            outcome = explore_without_cvs(place, rounds_of(place), click.echo)
        else:
            outcome = explored(Workshop(place), settings, out, say=click.echo)
            _say_source(outcome, place)
    what = out if learned else out / TABLE
    click.echo(f"{outcome.evaluations:,} force evaluations; see {what}")
    if not outcome.converged:
        sys.exit(NOT_CONVERGED)


def _say_source(outcome: Outcome, place: ExplorationFolder) -> None:
    """Say how a claim is made again by hand."""
    from openmm_cgan.cli.explored_numbers import command_for

    known = outcome.steps[-1].known
    if outcome.converged and known.claim is not None:
        click.echo(f"the same by hand: {command_for(known.claim, known.trainings, place)}")


def _require_sense(
    learned: bool, plumed_input: Path | None, difference: str | None, platform: str | None
) -> None:
    """Refuse options that do not go together, and a platform that is not here."""
    from openmm_cgan.platforms import platform_named

    if learned and (typed := _typed("hours", "workers", "device")):
        raise click.UsageError(
            f"{' and '.join(typed)}: for windows, generators and decisions, which --cvs "
            "diffusion-map has none of; limit it by --budget-steps"
        )
    given = {plumed_input is not None, difference is not None}
    if given != {True} and not (learned and given == {False}):
        raise click.UsageError("give --plumed and --difference, or --cvs diffusion-map alone")
    if platform is not None:
        platform_named(platform)


def _typed(*names: str) -> list[str]:
    """Those of some options that somebody has given."""
    context = click.get_current_context()
    source = click.core.ParameterSource.DEFAULT
    return [f"--{name}" for name in names if context.get_parameter_source(name) != source]


def _begin(out: Path, settings: ExploreSettings, cvs: str, resume: bool) -> None:
    """Take the folder: a new one, or one that was begun with the same settings.

    The budget may be another: what was decided before is decided again, and goes on.
    """
    from openmm_cgan.explore.circle import RECORD
    from openmm_cgan.json_files import read_json, write_json

    path, asked = out / RECORD, {**asdict(settings), "cvs": cvs}
    asked["hours"] = min(asked["hours"], 1e9)  # JSON has no infinity
    if not resume:
        if any(out.iterdir()):
            raise FileExistsError(f"{out} holds something already: --resume, or another --out")
    elif not path.exists():
        raise FileNotFoundError(f"{path} is not there: no exploration to go on with")
    else:
        before = read_json(path)
        free = ("budget_steps", "hours")
        if other := [k for k in asked if k not in free and before.get(k) != asked[k]]:
            raise ValueError(
                f"the exploration in {out} has other {', '.join(other)}: go on with the options "
                "that it was begun with (only --budget-steps and --hours may be others)"
            )
    write_json(path, asked)
