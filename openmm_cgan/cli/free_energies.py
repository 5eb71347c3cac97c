"""The free-energy command: profiles and surfaces of runs, windows and models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openmm_cgan.cli.options import (
    CONSTRAINTS,
    FILE,
    NEW,
    SEED,
    THERE,
    ForceFieldFile,
    cv_names,
    device_option,
    interval,
    require_parent,
    set_threads,
)
from openmm_cgan.cli.stopping import writing

if TYPE_CHECKING:
    from openmm_cgan.free_energy import WeightedSamples
    from openmm_cgan.free_energy.biased_runs import BiasedRun
    from openmm_cgan.free_energy.differences import StateDifference

PROFILE_BINS, SURFACE_BINS = 72, 36


@click.command("free-energy")
@click.argument("folders", type=THERE, nargs=-1)
@click.option("--model", type=FILE, help="A FlowGenerator's model file: weigh what it makes.")
@click.option("--structure", type=FILE, help="With --model: PDB file of its molecule.")
@click.option(
    "--plumed",
    "plumed_input",
    type=FILE,
    help="PLUMED input that defines CVs which the frames did not record; with --model: its CVs.",
)
@click.option(
    "--forcefield", type=ForceFieldFile(), multiple=True, help="With --model: OpenMM force-field "
    "file; repeat it. Not needed where --structure is the topology.pdb of a run, with its System.",
)  # fmt: skip
@click.option("--constraints", type=CONSTRAINTS, default="HBonds", help="With --forcefield.")
@click.option("-n", "number", type=click.IntRange(min=2), default=40_000, show_default=True,
              help="With --model: configurations, each one energy.")  # fmt: skip
@device_option("that --model makes them on")
@click.option("--cv", required=True, help="Name of the CV of the profile; two, phi,psi: a surface.")
@click.option("--bins", type=click.IntRange(min=1), help="Default: 72, of a surface 36 x 36.")
@click.option("--basin", help="Also print the free energy of LOWER,UPPER of the CV over the rest.")
@click.option("--difference", "states", help="Also print the free energy of the second "
              "interval of a CV less the first's, phi:-pi..0|0..pi, or of one, phi:0..2.3, less "
              "that of the rest.")  # fmt: skip
@click.option("--skip", type=click.FloatRange(0, 1, max_open=True), default=0.2, show_default=True,
              help="Of runs: share at the beginning, while the bias grew, left out.")  # fmt: skip
@click.option("--temperature", type=click.FloatRange(min=0, min_open=True),
              help="[K] Of runs whose temperature changed: frames of this one alone.")  # fmt: skip
@click.option("--out", type=NEW, default="profile.csv", show_default=True, help="CSV file.")
@click.option("--plot", type=NEW, help="PNG file of the profile or surface.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the bootstrap.")
def free_energy(
    folders: tuple[Path, ...],
    cv: str,
    bins: int | None,
    basin: str | None,
    states: str | None,
    skip: float,
    temperature: float | None,
    out: Path,
    plot: Path | None,
    seed: int,
    **model: Any,
) -> None:
    """Free energy along one or two CVs, with error bars: of runs, windows, a model.

    \b
    Examples:
        openmm-cgan free-energy run --cv phi --basin 0,2.3 --plot profile.png
        openmm-cgan free-energy windows --cv phi,psi --plot surface.png

    FOLDERS are those of `openmm-cgan run` under METAD, OPES or a bias that does not change: their
    frames are weighed by the bias that acted on them, and what the hills or kernels themselves
    add up to stands beside it. Or they are those of umbrella windows, which MBAR joins; settle
    windows and failed windows are left out. A model needs neither: its configurations are weighed
    by their energies, each against the density that it was made with. With windows and a model,
    the model is one more state of MBAR. A CV that the frames did not record is computed from their
    positions, if the run's input or --plumed defines it.

    \b
        openmm-cgan free-energy --model model.npz --structure run/topology.pdb \\
            --plumed run/plumed.dat --cv phi --basin 0,2.3
    """
    from openmm_cgan.cli.exports import estimate_text
    from openmm_cgan.cli.importance import reweight_files
    from openmm_cgan.cli.molecules import each_window
    from openmm_cgan.cli.other_cvs import run_with, samples_with

    require_parent(out, plot)
    names = cv_names(cv)
    bounds = None if basin is None else interval(basin)
    differences = _differences(names, basin, states)
    set_threads(1)
    with writing(out, plot):
        runs = _runs(folders := tuple(each_window(folders)), temperature)
        if temperature is not None and not runs:
            raise click.UsageError("--temperature is for runs: windows and models are of one")
        if runs and (len(runs) < len(folders) or model["model"] is not None):
            raise ValueError(
                "give folders of runs, or windows and a model; runs are not joined to them"
            )
        if runs:
            runs = [run_with(run, names, model["plumed_input"]) for run in runs]
            samples, source = _weighed(runs, skip, seed)
        else:
            samples, source = reweight_files(folders, seed, **model)
            if model["model"] is None:
                samples = samples_with(samples, folders, names, model["plumed_input"])
        if samples.unknown and not _bias_tells(runs, names):
            raise ValueError(f"no free energy from {source}: {samples.unknown}")
        found = {}  # before anything is written
        for words, difference in differences.items():
            difference.sides(samples.cvs[:1], samples.variables)
            if not samples.unknown:
                found[words] = difference.estimate(samples)
        shape = bins or (PROFILE_BINS if len(names) == 1 else SURFACE_BINS)
        if len(names) == 2:
            _surface(samples, names, shape, out, plot)
        else:
            _profile(samples, names[0], shape, runs, source, bounds, out, plot)
        click.echo(f"{out}: free energy along {cv} from {source}")
        if samples.unknown:
            _say_unknown(samples.unknown, differences)
        for words, estimate in found.items():
            click.echo(f"{words}: {estimate_text(estimate)}")


def _say_unknown(why: str, differences: Iterable[str]) -> None:
    """That only the bias tells anything, and which numbers there are not."""
    click.echo(
        f"of the frames nothing is known ({why}): the column by_bias is what the bias alone adds "
        "up to, without an error"
    )
    for words in differences:
        click.echo(f"{words}: not known")


def _differences(
    names: Sequence[str], basin: str | None, states: str | None
) -> dict[str, StateDifference]:
    """The differences that are asked for, by what is to be said of them."""
    from openmm_cgan.free_energy.differences import StateDifference

    found = {}
    if basin is not None:
        if len(names) == 2:
            raise ValueError("--basin is an interval of one CV: give --cv with one name")
        text = f"--basin {basin}"
        found[text[2:]] = StateDifference(names[0], None, interval(basin), text)
    if states is not None:
        difference = StateDifference.of(states)
        if difference.name not in names:
            raise ValueError(
                f"--difference is of {difference.name}, --cv names {', '.join(names)}: name it "
                "there"
            )
        found[difference.words] = difference
    return found


def _runs(folders: Sequence[Path], temperature: float | None) -> list[BiasedRun]:
    """The folders that `openmm-cgan run` wrote."""
    from openmm_cgan.frames import read_frames
    from openmm_cgan.free_energy.biased_runs import BiasedRun
    from openmm_cgan.run_folders import FRAMES, INPUT, RECORD
    from openmm_cgan.windows.run_files import RECORD as WINDOW

    found = [f for f in folders if (f / RECORD).is_file() and not (f / WINDOW).exists()]
    frames = [read_frames(f / FRAMES, temperature=temperature) for f in found]
    return [BiasedRun.of(own, f / INPUT, f) for own, f in zip(frames, found, strict=True)]


def _bias_tells(runs: Sequence[BiasedRun], names: Sequence[str]) -> bool:
    """Whether what the bias of a run adds up to is a free energy along a CV by itself."""
    import numpy as np

    if len(runs) != 1 or len(names) != 1:
        return False
    return runs[0].free_energy_of_bias(names[0], np.zeros(1)) is not None


def _weighed(runs: Sequence[BiasedRun], skip: float, seed: int) -> tuple[WeightedSamples, str]:
    """The frames of runs with their weights, and in words what they were."""
    from openmm_cgan.free_energy.biased_runs import reweight_runs

    samples = reweight_runs(runs, skip, seed=seed)
    kinds = " and ".join(sorted({s.action for run in runs for s in run.growing})) or "a static bias"
    left = f", their first {skip:.0%} left out" if any(run.growing for run in runs) else ""
    effective = samples.effective_samples
    return samples, (
        f"{len(samples.cvs)} frames of {len(runs)} run{'s' * (len(runs) > 1)} under {kinds}{left} "
        f"(worth {effective:.0f} in all)"
    )


def _profile(
    samples: WeightedSamples,
    name: str,
    bins: int,
    runs: Sequence[BiasedRun],
    source: str,
    basin: tuple[float, float] | None,
    out: Path,
    plot: Path | None,
) -> None:
    """Write the table and the plot of a profile; of one run with what its bias adds up to."""
    from openmm_cgan.cli.exports import profile_columns, write_table
    from openmm_cgan.free_energy import free_energy_profile
    from openmm_cgan.report import Profile, plot_free_energy

    profile = free_energy_profile(samples, name, bins)
    points = profile.centres[0]
    alone = runs[0].free_energy_of_bias(name, points) if len(runs) == 1 else None
    beside = {} if alone is None else {"by_bias": alone}
    write_table(out, profile_columns(profile) | beside)
    if plot is None:
        return
    ours = Profile(points, profile.free_energy, profile.error, source.split(",")[0])
    other = None if alone is None else Profile(points, alone, 0 * alone, "sum of the bias")
    plot_free_energy(ours, plot, other, basin, variable=profile.variables[0])


def _surface(
    samples: WeightedSamples, names: Sequence[str], bins: int, out: Path, plot: Path | None
) -> None:
    """Write the table and the plot of a surface."""
    from openmm_cgan.cli.exports import surface_columns, write_table
    from openmm_cgan.free_energy import free_energy_surface
    from openmm_cgan.report import plot_surface

    surface = free_energy_surface(samples, names, bins)
    write_table(out, surface_columns(surface))
    if plot is not None:
        plot_surface(surface, plot)
