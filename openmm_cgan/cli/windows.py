"""The windows command: umbrella windows from a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openmm_cgan.cli.options import (
    ATOMS,
    FILE,
    NEW,
    SEED,
    THERE,
    cluster_options,
    cv_names,
    device_option,
    require_parent,
    set_threads,
)
from openmm_cgan.cli.reports import leave_report, leaves_report, recording
from openmm_cgan.cli.stopping import stopping
from openmm_cgan.json_files import read_json
from openmm_cgan.run_folders import RECORD

if TYPE_CHECKING:
    from openmm_cgan.cli.window_places import Run
    from openmm_cgan.windows import Cluster, Window, WindowResult

NUMBERS = 24, 12  # windows along one CV, along each of two
TIMESTEP = 0.002  # ps, where nothing tells that of the run


@click.command()
@click.argument("run", type=THERE, required=False)
@click.option("--cv", help="CV that windows restrain; two: phi,psi.")
@click.option("--model", type=FILE, help="Makes where windows start; else the nearest frames do.")
@click.option(
    "--seeds-per-window", type=click.IntRange(min=1), default=1, show_default=True,
    help="Runs of each window, of --steps each, from draws of what it is to sample.",
)  # fmt: skip
@device_option("that --model makes them on; where windows run: --platform")
@click.option(
    "--number", type=click.IntRange(min=2), help="Of windows along each CV over the run's range "
    "(the period of a torsion); default: 24, over two CVs 12 x 12, more where it takes more.",
)  # fmt: skip
@click.option("--kappa", help="One number for each CV [kJ/mol per CV unit squared]; default: so "
              "that neighbours overlap and none falls into two wells.")  # fmt: skip
@click.option(
    "--below", default=60.0, show_default=True,
    type=click.FloatRange(min=0, min_open=True), help="The run's own free energy [kJ/mol].",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(min=2), help="Of each run of a window.")
@click.option("--settle-steps", type=click.IntRange(min=0), help="Left out of each run; default: "
              "a tenth of all steps of its window, half of its own at most. Not measured: "
              "free-energy says where windows still drift behind it.")  # fmt: skip
@click.option("--plumed", type=FILE, help="The run's input, where it names files beside it.")
@click.option("--temperature", type=click.FloatRange(min=0, min_open=True),
              help="[K] Of a run whose temperature changed: that of the windows.")  # fmt: skip
@click.option("--timestep", type=float, help="[ps] Default: that of the run.")
@click.option("--frames-every", default=100, show_default=True, help="Steps between frames.")
@click.option("--atoms", help=f"{ATOMS} keep; default: the solute where there is a box.")
@click.option(
    "--platform",
    help="OpenMM platform, with properties CUDA:Precision=mixed; default: the quickest, by trying.",
)
@click.option("--seed", type=SEED, default=1, show_default=True)
@click.option("--checkpoint-every", default=50_000, show_default=True,
              help="Steps between checkpoints: what a lost worker costs at most.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say where windows would stand, and what would be "
              "submitted; run none.")  # fmt: skip
@click.option("--collect", is_flag=True, help="Go on with the windows in --out, lost ones anew, "
              "until all have ended; RUN is not needed.")  # fmt: skip
@click.option("--out", type=NEW, default="windows", show_default=True)
@cluster_options
@leaves_report
def windows(
    run: Path | None,
    cv: str | None,
    steps: int | None,
    platform: str | None,
    dry_run: bool,
    collect: bool,
    out: Path,
    with_report: bool,
    **options: Any,
) -> None:
    """Umbrella windows along one or two CVs of RUN, the folder of `openmm-cgan run`.

    \b
    Example:
        openmm-cgan windows run --cv phi --model model.npz --steps 50000 --out windows
        openmm-cgan free-energy windows/window-* --cv phi --plot profile.png

    They stand where the run's own free energy is low, as stiff as neighbours allow, and start from
    what MODEL makes at their centres. The run's other CVs are columns of their frames. Killed at
    any moment, the same command goes on.

    Where something beside the CVs is slower than a window is long, each window keeps what it began
    with, and its error does not tell. Give several short runs instead, of the same steps together:

    \b
        openmm-cgan windows run --cv phi --model model.npz --seeds-per-window 5 --steps 10000

    Frames of its runs are taken together, and the error is by how far they are apart.

    \b
    On a cluster with Slurm:
        openmm-cgan windows run --cv phi --steps 5000000 --platform CUDA --out windows \\
            --executor slurm-array --partition gpu --gpus-per-node 1 --walltime 12:00:00
        openmm-cgan windows --collect --out windows --executor slurm-array --partition gpu ...
    """
    if options["model"] is None and options["device"] != "cpu":
        raise click.UsageError("--device is that of --model; windows run on --platform")
    require_parent(out)
    set_threads(1)
    cluster = _cluster(options)
    with stopping(out, how="the same command"), nullcontext() if dry_run else recording(out):
        if collect:
            results = _collected(out, cluster, platform, dry_run)
        elif run is None or cv is None or steps is None:
            raise click.UsageError("give RUN, --cv and --steps, or --collect")
        else:
            found, made = _placed(run, cv, steps, out, dry_run, options)
            results = _run(found, made, cluster, platform, dry_run)
    if results is None:
        return
    failed = [result for result in results if result.status != "finished"]
    click.echo(f"{len(results) - len(failed)} of {_in_words(results)} finished in {out}")
    if len(failed) == len(results):
        raise RuntimeError(f"all windows failed; the first: {failed[0].error}")
    if with_report:
        leave_report(out)


def _in_words(results: list[WindowResult]) -> str:
    """So many windows, or runs of so many."""
    from openmm_cgan.windows.run_files import number_of_windows, read_record, windows_in_words

    records = [read_record(result.folder) for result in results]
    return windows_in_words(len(records), number_of_windows(records))


def _collected(
    out: Path, cluster: Cluster, platform: str | None, dry_run: bool
) -> list[WindowResult] | None:
    """Go on with windows that were prepared; in a dry run only say how far they are."""
    from openmm_cgan.cli.window_runs import go_on, states

    if dry_run:
        click.echo(f"{out}: {states(out)}")
        return None
    return go_on(out, cluster, platform)


def _run(
    found: Run, made: list[Window], cluster: Cluster, platform: str | None, dry_run: bool
) -> list[WindowResult] | None:
    """Run windows, or have Slurm run them; in a dry run only say what would be submitted."""
    from openmm_cgan.cli.window_runs import run_all, submit_all, what_is_submitted

    out = made[0].folder.parent
    _require_no_others(out, made)
    if dry_run:
        click.echo(what_is_submitted(cluster, out, len(made)), nl=False)
        return None
    if cluster.executor != "slurm-array":
        return run_all(made, found.molecule, cluster, platform)
    number = submit_all(made, found.molecule, cluster, platform)
    click.echo(f"{number} windows submitted; with --collect in place of RUN the same waits for all")
    return None


def _require_no_others(out: Path, made: list[Window]) -> None:
    """Refuse a folder that holds other windows, which free energies would join to these."""
    from openmm_cgan.windows.run_files import RECORD as WINDOW

    ours = {window.folder.resolve() for window in made}
    others = [found.parent for found in sorted(out.glob(f"*/{WINDOW}"))]
    if strange := [folder for folder in others if folder.resolve() not in ours]:
        raise ValueError(
            f"{out} holds {len(strange)} windows that are none of these {len(made)}, such as "
            f"{strange[0].name}: was it begun with another --number, --below or "
            "--seeds-per-window? Give the same ones, or another --out"
        )


def _cluster(options: dict[str, Any]) -> Cluster:
    """Where windows are to be run; what was not said is as `Cluster` has it."""
    from openmm_cgan.windows import Cluster

    given = {f.name: options.pop(f.name) for f in fields(Cluster)}
    if given["devices"] is not None:
        given["devices"] = tuple(given["devices"].split(","))
    return Cluster(**{name: value for name, value in given.items() if value is not None})


def _placed(
    run: Path, cv: str, steps: int, out: Path, dry_run: bool, options: dict[str, Any]
) -> tuple[Run, list[Window]]:
    """The windows of a run, and a word on where they are."""
    from openmm_cgan.cli.window_places import (
        enough_windows,
        read_run,
        rough_free_energy,
        samples_of,
    )
    from openmm_cgan.cli.window_starts import windows_of
    from openmm_cgan.windows.placement import place_windows

    names = cv_names(cv)
    number, below, kappa = (options.pop(name) for name in ("number", "below", "kappa"))
    model, plumed, device = (options.pop(name) for name in ("model", "plumed", "device"))
    each = options.pop("seeds_per_window")
    found = read_run(run, plumed, options.pop("temperature"))
    temperature = found.frames.temperature
    assert temperature is not None, "looked at when the run was read"
    rough = (
        enough_windows(found, names, below, NUMBERS[len(names) - 1])
        if number is None
        else rough_free_energy(found, samples_of(found), names, number)
    )
    placement = place_windows(rough, temperature, below, _numbers(kappa, names))
    stiff = ", ".join(f"{k:.4g}" for k in placement.kappa)
    runs = "" if each == 1 else f" of {each} runs each"
    click.echo(f"{len(placement.centres)} windows along {cv}{runs}, KAPPA={stiff}")
    timestep = options.pop("timestep") or _timestep_of(run)
    settings = _settings(temperature, steps, each, timestep=timestep, **options)
    made = windows_of(found, placement, None if dry_run else model, settings, out, device, each)
    if not dry_run:
        seeded = sum(window.origin == "seeded" for window in made)
        click.echo(f"{seeded} start from the model, {len(made) - seeded} from frames")
    return found, made


def _timestep_of(run: Path) -> float:
    """The time step of a run [ps]: what it was made for, a longer one may be too long."""
    path = run / RECORD
    return float(read_json(path).get("timestep", TIMESTEP)) if path.exists() else TIMESTEP


def _numbers(text: str | None, names: Sequence[str]) -> list[float] | None:
    """Read ``--kappa 100`` or ``100,200``: one for each CV."""
    if text is None:
        return None
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != len(names) or not all(0 < number < float("inf") for number in numbers):
        raise ValueError(f"--kappa {text!r}: expected one positive number for each of {names}")
    return numbers


def _settings(
    temperature: float,
    steps: int,
    each: int,
    settle_steps: int | None,
    timestep: float,
    frames_every: int,
    checkpoint_every: int,
    seed: int,
    atoms: str | None,
) -> Any:
    from openmm_cgan.windows import WindowSettings

    # what begins a run takes as long to settle however short it is
    settle = min(each * steps // 10, steps // 2) if settle_steps is None else settle_steps
    return WindowSettings(
        temperature, steps, settle, frames_every, checkpoint_every,
        timestep=timestep, seed=seed, atoms=atoms,
    )  # fmt: skip
