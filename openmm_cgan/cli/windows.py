"""The windows command: umbrella windows from a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from openmm_cgan.cli.options import ATOMS, FILE, NEW, THERE, cv_names, require_parent, set_threads
from openmm_cgan.cli.reports import leave_report, leaves_report, recording
from openmm_cgan.cli.stopping import stopping

NUMBERS = 24, 12  # windows along one CV, along each of two


@click.command()
@click.argument("run", type=THERE)
@click.option("--cv", required=True, help="CV that windows restrain; two: phi,psi.")
@click.option("--model", type=FILE, help="Makes where windows start; else the nearest frames do.")
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
@click.option("--steps", type=click.IntRange(min=2), required=True, help="Of each window.")
@click.option("--settle-steps", type=click.IntRange(min=0), help="Left out; default: a tenth.")
@click.option("--plumed", type=FILE, help="The run's input, where it names files beside it.")
@click.option("--timestep", default=0.002, show_default=True, help="[ps]")
@click.option("--frames-every", default=100, show_default=True, help="Steps between frames.")
@click.option("--atoms", help=f"{ATOMS} keep; default: the solute where there is a box.")
@click.option("--platform", help="OpenMM platform; default: the quickest, by trying.")
@click.option("--workers", type=click.IntRange(min=0), help="Processes; default: the cores.")
@click.option("--seed", default=1, show_default=True)
@click.option("--dry-run", is_flag=True, help="Say where windows would stand; run none.")
@click.option("--out", type=NEW, default="windows", show_default=True)
@leaves_report
def windows(
    run: Path,
    cv: str,
    model: Path | None,
    number: int | None,
    kappa: str | None,
    below: float,
    plumed: Path | None,
    platform: str | None,
    workers: int | None,
    dry_run: bool,
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
    """
    from openmm_cgan.cli.window_runs import (
        enough_windows,
        read_run,
        rough_free_energy,
        run_all,
        samples_of,
        windows_of,
    )
    from openmm_cgan.windows.placement import place_windows

    require_parent(out)
    set_threads(1)
    names = cv_names(cv)
    with stopping(out, "the same command"):
        found = read_run(run, plumed)
        temperature = found.frames.temperature
        assert temperature is not None, "looked at when the run was read"
        rough = (
            enough_windows(found, names, below, NUMBERS[len(names) - 1])
            if number is None
            else rough_free_energy(found, samples_of(found), names, number)
        )
        placement = place_windows(rough, temperature, below, _numbers(kappa, names))
        stiff = ", ".join(f"{k:.4g}" for k in placement.kappa)
        click.echo(f"{len(placement.centres)} windows along {cv}, KAPPA={stiff}")
        if dry_run:
            return
        settings = _settings(temperature, **options)
        made = windows_of(found, placement, model, settings, out)
        seeded = sum(window.origin == "seeded" for window in made)
        click.echo(f"{seeded} start from the model, {len(made) - seeded} from frames")
        with recording(out):
            results = run_all(made, found.molecule, platform, workers)
    failed = [result for result in results if result.status != "finished"]
    click.echo(f"{len(results) - len(failed)} of {len(results)} windows finished in {out}")
    if len(failed) == len(results):
        raise RuntimeError(f"all windows failed; the first: {failed[0].error}")
    if with_report:
        leave_report(out)


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
    settle_steps: int | None,
    timestep: float,
    frames_every: int,
    seed: int,
    atoms: str | None,
) -> Any:
    from openmm_cgan.windows import WindowSettings

    settle = steps // 10 if settle_steps is None else settle_steps
    return WindowSettings(
        temperature, steps, settle, frames_every, timestep=timestep, seed=seed, atoms=atoms
    )
