"""Windows of an exploration: each twice, from starts as unlike as the frames have them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openmm_cgan.cli.window_places import (
    Run,
    enough_windows,
    read_run,
    rough_free_energy,
    samples_of,
)
from openmm_cgan.cli.window_runs import run_all
from openmm_cgan.cli.window_starts import Starts, starts, windows_from
from openmm_cgan.explore.allocation import between, error_of_windows, longer_windows
from openmm_cgan.explore.passes import height_of_pass
from openmm_cgan.explore.settings import ExploreSettings
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.json_files import read_json, write_json
from openmm_cgan.proposals import cv_differences
from openmm_cgan.windows import (
    Cluster,
    WindowSettings,
    read_windows,
)
from openmm_cgan.windows.placement import Placement, place_windows
from openmm_cgan.windows.run_files import RECORD, read_record

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger("openmm_cgan")

PLACES, LENGTHS = "placement.json", "lengths.json"
EVERY = 50  # steps between frames
SETTLING = 20  # a part of the first length
ABOVE = 5.0  # kJ/mol over the pass between the states: it is known roughly
NEAR = 100  # frames nearest to a centre: the most unlike of them is the second start


def run_explored_windows(
    run: Path,
    folder: Path,
    model: Path | None,
    hidden: Sequence[Any],
    steps: int,
    settings: ExploreSettings,
    machine: tuple[str | None, int | None],
    device: str = "cpu",
) -> tuple[list[tuple[Path, Path]], int]:
    """Run windows along the CV of the difference, or run them longer.

    Parameters
    ----------
    run : Path
        The biased run that they are placed by.
    folder : Path
        Of the windows.
    model : Path or None
        Makes the first starts; else frames.
    hidden : sequence of TurningTorsion
        What the two starts are to differ in, beside the other CVs.
    steps : int
        Of each window in all, where there are as many as the settings say; in the mean, for they
        are longer where the error comes from.
    settings : ExploreSettings
    machine : (str or None, int or None)
        Platform, and processes.
    device : str
        Of torch, for the model.

    Returns
    -------
    list of (Path, Path)
        Folders of each pair.
    int
        Steps of all windows together.

    Raises
    ------
    ValueError
        If there are windows already, of which both of a pair have one seed.
    """
    _require_own_seeds(folder)
    found = read_run(run)
    placement = _placed(found, run, folder, settings)
    number, total = len(placement.centres), 2 * len(placement.centres)
    # more windows than were meant are shorter, so that all together cost what was meant
    steps = int(steps * min(1.0, 2 * settings.windows / total))
    lengths = _lengths(found, placement, folder, steps, settings)
    first = starts(found, placement, model, settings.seed, device)
    second = _unlike(found, placement, first, hidden)
    base = WindowSettings(
        settings.temperature, steps, settings.window_steps // SETTLING, EVERY,
        timestep=settings.timestep, seed=settings.seed, retries=2,
    )  # fmt: skip
    pairs = []
    for part, begun, long in (("a", first, lengths[:number]), ("b", second, lengths[number:])):
        # another seed: where one frame is all that there is both starts are that
        base = replace(base, seed=settings.seed + (part == "b"))
        made = windows_from(begun, found.bias, placement, base, folder / part)
        made = [
            replace(w, settings=replace(base, steps=n)) for w, n in zip(made, long, strict=True)
        ]
        results = run_all(made, found.molecule, Cluster(workers=machine[1]), machine[0])
        pairs.append([result.folder for result in results])
    return list(zip(*pairs, strict=True)), sum(lengths)


def _require_own_seeds(folder: Path) -> None:
    """Refuse pairs of one seed, as earlier versions made them: of one start both are one run."""
    for record in sorted(folder.glob(f"a/*/{RECORD}")):
        first, second = record.parent, folder / "b" / record.parent.name
        if not (second / RECORD).exists():
            continue
        if read_record(first)["seed"] == read_record(second)["seed"]:
            raise ValueError(
                f"{first} and {second} have one seed, as an earlier version gave both windows of a "
                f"pair: where one frame began both they are the same run. Remove {folder}, and the "
                "same command runs its windows anew and goes on from there"
            )


def _lengths(
    found: Run, placement: Placement, folder: Path, steps: int, settings: ExploreSettings
) -> list[int]:
    """Steps of each window, first those of the first start; the mean of them is ``steps``.

    Equal at first, later longer where the error comes from. Decided once, and kept: a killed
    attempt goes on to the same ends.
    """
    path, number = folder / LENGTHS, 2 * len(placement.centres)
    kept = read_json(path) if path.exists() else {}
    if str(steps) not in kept:
        before = max((int(name) for name in kept), default=0)
        if not before:
            lengths = [steps] * number
        else:
            old = np.array(kept[str(before)])
            error = _errors(found, placement, folder, settings)
            more = steps * number - int(old.sum())
            lengths = longer_windows(old, error, more).tolist() if more > 0 else old.tolist()
            longest = np.argsort(lengths)[-3:][::-1]
            logger.info("longest windows: %s", ", ".join(
                f"{placement.centres[k % len(placement.centres), 0]:.3g} ({lengths[k]:,} steps)"
                for k in longest))  # fmt: skip
        write_json(path, kept | {str(steps): lengths})
        kept = read_json(path)
    return [int(n) for n in kept[str(steps)]]


def _errors(
    found: Run, placement: Placement, folder: Path, settings: ExploreSettings
) -> NDArray[np.float64]:
    """What each window adds to the variance of the difference; the mean where it has failed."""
    difference = StateDifference.of(settings.difference)
    rough = rough_free_energy(found, samples_of(found), [difference.name], 2 * settings.windows)
    sides = difference.sides(rough.centres[0][:, None], rough.variables)
    depth = np.where(np.isfinite(rough.free_energy), rough.free_energy, np.inf)
    ends = [float(rough.centres[0][np.where(sides == k, depth, np.inf).argmin()]) for k in (0, 1)]
    period = rough.variables[0].period
    way = between(placement.centres[:, 0], (ends[0], ends[1]), period)
    paths = [p for part in ("a", "b") for p in sorted((folder / part).glob("window-*"))]
    windows = {window.name: window for window in read_windows(paths)}
    there = np.array([str(path) in windows for path in paths])
    errors = np.zeros(len(paths))
    found_windows = [windows[str(path)] for path in paths if str(path) in windows]
    errors[there] = error_of_windows(found_windows, 0, np.tile(way, 2)[there])
    errors[~there] = errors[there].mean()
    return errors


def _placed(found: Run, run: Path, folder: Path, settings: ExploreSettings) -> Placement:
    """Where windows stand: decided once, for the run may be longer when they are.

    Below the barrier of the settings, and on the way between the states whatever its height.
    """
    path, difference = folder / PLACES, StateDifference.of(settings.difference)
    name = difference.name
    if path.exists():
        record = read_json(path)
        return Placement((name,), np.array(record["centres"]), np.array(record["kappa"]))
    highest = settings.barrier
    for _ in range(2):  # finer bins may see a higher pass
        rough = enough_windows(found, [name], highest, settings.windows)
        highest = max(highest, height_of_pass(rough, difference) + ABOVE)
    if not np.isfinite(highest):
        raise ValueError(
            f"the run in {run} knows of no way between the two states of {difference.text}: run "
            "it longer, or over a higher barrier (--barrier)"
        )
    placement = place_windows(rough, settings.temperature, highest)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, {"centres": placement.centres.tolist(), "kappa": placement.kappa.tolist()})
    return placement


def _unlike(found: Run, placement: Placement, first: Starts, hidden: Sequence[Any]) -> Starts:
    """Of the frames near each centre the one most unlike the first start."""
    frames, chosen = found.frames, []
    column = [v.name for v in frames.variables].index(placement.names[0])
    others = [k for k in range(len(frames.variables)) if k != column]
    variables = [frames.variables[k] for k in others]
    spread = np.maximum(frames.cvs[:, others].std(axis=0), 1e-12)
    for k, (centre, start) in enumerate(zip(placement.centres, first.positions, strict=True)):
        away = np.abs(frames.variables[column].difference(centre[0], frames.cvs[:, column]))
        near = np.argsort(away, kind="stable")[:NEAR]
        apart = np.zeros(len(near))
        for torsion in hidden:
            here = torsion.values(start[None])[0]
            apart += 1 - np.cos(torsion.values(frames.positions[near]) - here)
        if others:
            own = found.bias.cv_values(start, first.box(k))[others]
            off = cv_differences(variables, own, frames.cvs[near][:, others]) / spread
            apart += np.linalg.norm(off, axis=1)
        chosen.append(near[int(apart.argmax())])
    return Starts.of_frames(frames, np.array(chosen))
