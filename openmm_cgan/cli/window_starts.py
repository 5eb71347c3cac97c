"""Where umbrella windows of a run start: what a model makes, or its frames.

A window that is begun once starts at its centre. One that is begun several times starts from draws
of what it is to sample: CV values of frames of the run, drawn by what they weigh under the window's
restraint, and at these what a model makes, drawn by weight.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.cgan import ConditionalGAN, ConditionalGenerator
from openmm_cgan.cli.importance import weigher_by
from openmm_cgan.cli.molecules import require_whole
from openmm_cgan.cli.window_places import Run
from openmm_cgan.frames import Frames
from openmm_cgan.metrics import kish_effective_sample_size
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import Proposals, Screen, cv_differences, propose
from openmm_cgan.proposals.selection import NONE, drawn
from openmm_cgan.windows import Window, WindowSettings, umbrella_windows
from openmm_cgan.windows.placement import Placement, window_template

logger = logging.getLogger("openmm_cgan")

TRIES = 20  # configurations generated for each start


@dataclass(frozen=True)
class Starts:
    """Where n runs of windows start.

    Attributes
    ----------
    positions : ndarray, shape (n, n_atoms, 3)
        [nm]
    boxes : ndarray, shape (n, 3, 3), or None
        Box vectors [nm]: under a barostat each frame has its own.
    seeded : ndarray of bool, shape (n,)
        Which are of a model.
    heal : ndarray of bool, shape (n,)
        Which are neither frames nor drawn by weight: they may be strained.
    """

    positions: NDArray[np.float64]
    boxes: NDArray[np.float64] | None
    seeded: NDArray[np.bool_]
    heal: NDArray[np.bool_]

    @classmethod
    def of_frames(cls, frames: Frames, rows: NDArray[np.int64]) -> Starts:
        """Frames of a run."""
        boxes = None if frames.box is None else frames.box[rows].astype(float)
        no = np.zeros(len(rows), dtype=bool)
        return cls(frames.positions[rows].astype(float), boxes, no, no.copy())

    def box(self, k: int) -> NDArray[np.float64] | None:
        """Of one."""
        return None if self.boxes is None else self.boxes[k]


def starts(
    run: Run,
    placement: Placement,
    model: Path | None,
    seed: int,
    device: str = "cpu",
    per_window: int = 1,
) -> Starts:
    """Where windows start: from what a model makes, else from frames of the run.

    Parameters
    ----------
    run : Run
    placement : Placement
        n windows.
    model : Path or None
        Makes starts at the centres of the windows; else the frames nearest to them are taken.
    seed : int
        Of the model's noise, and of which of its configurations is taken: where its density is
        known, by weight.
    device : str
        Of torch, for the model.
    per_window : int
        Starts of each window. Several are independent draws of what the window is to sample, not
        of its centre: frames by what they weigh under its restraint, or what the model makes at
        the CV values of these.

    Returns
    -------
    Starts
        n * per_window, those of a window one after another.

    Raises
    ------
    ValueError
        If the model is of other CVs or makes a part of the atoms.
    """
    columns = [v.name for v in run.frames.variables]
    chosen = [columns.index(name) for name in placement.names]
    rows = (
        _nearest_frames(run, placement, chosen)
        if per_window == 1
        else _drawn_frames(run, placement, chosen, per_window, seed)
    )
    found = Starts.of_frames(run.frames, rows)
    if model is None:
        return found
    gan = ConditionalGAN.load(model, run.molecule.topology, device)
    require_whole(
        model, gan, len(run.frames.atoms),
        "windows of a solvated system start from frames here, leave --model out",
    )  # fmt: skip
    known = [v.name for v in gan.variables]
    if known != columns:
        raise ValueError(f"{model} is of the CVs {', '.join(known)}, the run has {columns}")
    targets = run.frames.cvs[rows]  # what a window does not restrain is as in a frame
    if per_window == 1:
        targets[:, chosen] = placement.centres
    screen = Screen(run.molecule, run.molecule.positions, run.bias)
    made = propose(gan, np.repeat(targets, TRIES, axis=0), screen, seed=seed)
    logger.info("proposals: %s", made.counts())
    # a model that is not quite right makes what is beside the CVs in wrong proportions, and what is
    # slow there stays as a window begins
    log_weights, weighed = _log_weights(run, gan, model, made)
    taken = drawn(log_weights.reshape(-1, TRIES), np.random.default_rng(seed))
    found.seeded[:] = taken != NONE
    found.heal[:] = found.seeded & (not weighed)
    rows = TRIES * np.arange(len(taken)) + taken
    found.positions[found.seeded] = made.positions[rows[found.seeded]]
    return found


def _log_weights(
    run: Run, gan: ConditionalGenerator, model: Path, made: Proposals
) -> tuple[NDArray[np.float64], bool]:
    """What configurations (n,) of a model weigh where they were made; -inf if they are refused.

    All the same, and False, where no weights are known: of a GAN, or of a model of a part.
    """
    found = np.full(len(made), -np.inf)
    passed = made.accepted
    found[passed] = 0.0
    if not passed.any():
        return found, False
    try:
        weigher = weigher_by(gan, model, run.molecule, run.biased.plumed)
    except ValueError as why:
        logger.info("which of them start windows is drawn without weights: %s", why)
        return found, False
    x, cvs = made.positions[passed], made.targets[passed]
    found[passed] = weigher.weigh(x, cvs, weigher.sampler.log_prob(x, cvs)).log_weights
    each = [logs for logs in found.reshape(-1, TRIES) if np.isfinite(logs).any()]
    if each:
        logger.info(
            "of %d configurations made for each start one is drawn by weight; they are worth %.1f "
            "in the median",
            TRIES, np.median([kish_effective_sample_size(logs) for logs in each]),
        )  # fmt: skip
    return found, True


def _nearest_frames(run: Run, placement: Placement, columns: Sequence[int]) -> NDArray[np.int64]:
    """The frame nearest to the centre of each window, (n,), each CV in its spread over frames."""
    variables = [run.frames.variables[k] for k in columns]
    values = run.frames.cvs[:, columns]
    spread = values.std(axis=0)
    away = [
        np.linalg.norm(cv_differences(variables, centre, values) / spread, axis=1)
        for centre in placement.centres
    ]
    return np.array([distances.argmin() for distances in away])


def _drawn_frames(
    run: Run, placement: Placement, columns: Sequence[int], per_window: int, seed: int
) -> NDArray[np.int64]:
    """Frames drawn by what they weigh under the restraint of each window, (n * per_window,).

    Without the first ones of a bias that grows. A frame may be drawn twice where few have come
    near: it then starts two runs, with other velocities.
    """
    late = run.biased.late()
    variables = [run.frames.variables[k] for k in columns]
    values, logs = run.frames.cvs[late][:, columns], run.biased.log_weights()[late]
    assert run.frames.temperature is not None, "looked at when the run was read"
    # another stream than that of which configuration of the model is taken
    kT, rng, rows = GAS_CONSTANT * run.frames.temperature, np.random.default_rng([seed, 1]), []
    for centre in placement.centres:
        restraint = 0.5 * cv_differences(variables, centre, values) ** 2 @ placement.kappa
        held = logs - restraint / kT
        rows.append(drawn(np.broadcast_to(held, (per_window, len(held))), rng))
    return np.concatenate(rows) + (len(run.frames) - len(values))


def windows_of(
    run: Run, placement: Placement, model: Path | None, settings: WindowSettings, folder: Path,
    device: str = "cpu", per_window: int = 1,
) -> list[Window]:  # fmt: skip
    """The windows, ready to be run; see `starts`."""
    begun = starts(run, placement, model, settings.seed, device, per_window)
    return windows_from(begun, run.bias, placement, settings, folder)


def windows_from(
    begun: Starts, bias: PlumedBias, placement: Placement, settings: WindowSettings, folder: Path
) -> list[Window]:
    """Windows at given starts, as many of each as there are, each in the box of its own."""
    kappa = dict(zip(placement.names, placement.kappa.tolist(), strict=True))
    number = len(placement.centres)
    positions = begun.positions
    if len(positions) > number:
        positions = positions.reshape(number, -1, *positions.shape[1:])
    windows = umbrella_windows(
        window_template(bias, kappa), placement.centres, positions, settings, folder, "frame"
    )
    return [
        replace(
            window,
            origin="seeded" if begun.seeded[k] else "frame",
            box=begun.box(k),
            heal=bool(begun.heal[k]),
        )
        for k, window in enumerate(windows)
    ]
