"""The judge command: what a model is worth, and what to use it for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from openmm_cgan.cli.options import (
    FILE,
    NEW,
    SEED,
    THERE,
    device_option,
    require_parent,
    set_threads,
)
from openmm_cgan.cli.stopping import writing

if TYPE_CHECKING:
    from openmm_cgan.metrics.judging import Judgement, SeedsWorth, WeightsWorth


@click.command()
@click.argument("model", type=FILE)
@click.argument("runs", type=THERE, nargs=-1, required=True)
@click.option("-n", "number", type=click.IntRange(min=100), default=4000, show_default=True,
              help="Configurations to weigh, each one energy.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(min=0), default=20, show_default=True,
              help="Seeds to heal.")  # fmt: skip
@click.option("--out", type=NEW, help="CSV file: worth by region of the CVs.")
@device_option("that its configurations and densities are computed on")
@click.option("--seed", type=SEED, default=0, show_default=True)
def judge(
    model: Path,
    runs: tuple[Path, ...],
    number: int,
    seeds: int,
    out: Path | None,
    device: str,
    seed: int,
) -> None:
    """Judge MODEL on the System and the frames of RUNS, and say what to use it for.

    \b
    Example:
        openmm-cgan judge model.npz run --out judged.csv

    RUNS are folders of `openmm-cgan run`, or `windows`, of the molecule. Printed are the effective
    number of samples by region of the CVs (Kish over n, Pareto k), the share of the run's frames
    that the model misses, what the screens refuse, how far healing takes seeds, what a sample costs
    each way, and how its configurations at given CVs differ from frames, beside the floor.
    """
    from openmm_cgan.cli.exports import write_table
    from openmm_cgan.cli.judging import judge_model
    from openmm_cgan.metrics.judging import advice

    require_parent(out)
    set_threads(1)
    with writing(out):
        found = judge_model(model, list(runs), n=number, seeds=seeds, seed=seed, device=device)
        for line in lines_of_judgement(found):
            click.echo(line)
        for sentence in advice(found):
            click.echo(f"-> {sentence}")
        if out is not None:
            if found.weights is None:
                raise ValueError(f"no worth by region: {found.why_not_exact}")
            worth = found.weights
            names = [variable.name for variable in found.variables]
            places = dict(zip(names, worth.at.T, strict=True))
            write_table(out, places | {
                "free_energy": worth.free_energy, "kish_share": worth.share, "k_hat": worth.k_hat,
            })  # fmt: skip
            click.echo(f"{out}: {len(worth.share)} regions")


def lines_of_judgement(found: Judgement) -> list[str]:
    """What was measured, in lines."""
    lines = []
    if found.screened:
        refused = _counts({k: v for k, v in found.screened.items() if k != "accepted"})
        lines.append(f"screens: {found.passed:.1%} pass{refused}")
    if found.consistency is not None:
        lines.append(f"consistency: {found.consistency}")
    if found.weights is not None:
        lines += _of_weights(found.weights, [v.name for v in found.variables])
    else:
        lines.append(f"weights: none, {found.why_not_exact}")
    if found.seeds is not None:
        lines += _of_seeds(found.seeds, [(v.name, v.unit) for v in found.variables])
    return lines


def _of_weights(worth: WeightsWorth, names: list[str]) -> list[str]:
    if not len(worth.share):
        return [f"weights: no region is known from {worth.n} configurations"]
    poorest = int(worth.share.argmin())
    at = ", ".join(f"{n}={x:.3g}" for n, x in zip(names, worth.at[poorest], strict=True))
    heavy = int((worth.k_hat > 0.7).sum())
    return [
        f"weights: Kish/n {worth.median:.3f} in the median of {len(worth.share)} regions below 60 "
        f"kJ/mol, {worth.tenth:.3f} in the tenth worst, {worth.share[poorest]:.3f} in the poorest "
        f"({at}); Pareto k above 0.7 in {heavy}",
        f"missed: {worth.missed:.2%} of the frames of the run are made 100 times too rarely; of "
        f"{worth.n} configurations without weight{_counts(worth.reasons) or ': none'}",
        f"exact: {1 / worth.median if worth.median else float('inf'):.1f} energies for each "
        "effective sample at given CVs",
    ]


def _of_seeds(seeds: SeedsWorth, names: list[tuple[str, str]]) -> list[str]:
    passed = f"seeds: {seeds.accepted} of {seeds.attempts} pass{_counts(seeds.reasons)}"
    if not seeds.accepted:
        return [passed]
    drift = ", ".join(
        f"{name} {x:.3g} {unit}".rstrip()
        for (name, unit), x in zip(names, seeds.drift, strict=True)
    )
    healed = f"{seeds.steps:.0f} steps of healing for each"
    return [f"{passed}; {healed}; CVs healed less those asked for: {drift}"]


def _counts(reasons: dict[str, int]) -> str:
    text = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return f" ({text})" if text else ""
