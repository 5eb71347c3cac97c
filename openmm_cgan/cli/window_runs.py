"""Umbrella windows of a run: placed by what it found, started from a model or from its frames."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.array_files import read_array
from openmm_cgan.cgan import ConditionalGAN
from openmm_cgan.cli.importance import weigher_of
from openmm_cgan.cli.molecules import require_whole
from openmm_cgan.frames import Frames, read_frames
from openmm_cgan.free_energy import (
    FreeEnergy,
    WeightedSamples,
    free_energy_profile,
    free_energy_surface,
)
from openmm_cgan.free_energy.biased_runs import BiasedRun, reweight_runs
from openmm_cgan.metrics import kish_effective_sample_size
from openmm_cgan.molecules import Molecule, read_molecule
from openmm_cgan.platforms import platform_name_anywhere
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import Proposals, Screen, cv_differences, propose
from openmm_cgan.proposals.selection import NONE, drawn
from openmm_cgan.run_folders import FRAMES, INPUT
from openmm_cgan.windows import (
    Cluster,
    Window,
    WindowResult,
    WindowSettings,
    executor_of,
    run_prepared,
    run_windows,
    umbrella_windows,
)
from openmm_cgan.windows.parsl_workers import parsl_config
from openmm_cgan.windows.placement import Placement, window_template, windows_needed
from openmm_cgan.windows.platforms import fastest_platform
from openmm_cgan.windows.run_files import START, is_finished, read_record, read_system
from openmm_cgan.windows.runs import ANY, folders_of, prepare_windows
from openmm_cgan.windows.slurm_array import job_script, submit_windows

logger = logging.getLogger("openmm_cgan")

LOOKS = 4  # at how many windows it takes
TRIES = 20  # configurations generated for each window


@dataclass(frozen=True)
class Run:
    """What a run has left in its folder.

    Attributes
    ----------
    molecule : Molecule
        Its System is without the bias.
    biased : BiasedRun
    bias : PlumedBias
        For its CVs.
    """

    molecule: Molecule
    biased: BiasedRun
    bias: PlumedBias

    @property
    def frames(self) -> Frames:
        """Its frames."""
        return self.biased.frames


def read_run(folder: Path, plumed: Path | None = None, temperature: float | None = None) -> Run:
    """Read a run.

    Parameters
    ----------
    folder : Path
        As `run_biased` leaves it.
    plumed : Path, optional
        Its input where that names files that do not lie beside the copy in the folder.
    temperature : float, optional
        Its frames at this one alone [K], where it changed.

    Raises
    ------
    FileNotFoundError, ValueError
        If something is missing or damaged, or the frames are of a part of the atoms.
    """
    molecule = read_molecule(folder)
    frames = read_frames(folder / FRAMES, temperature=temperature)
    n_atoms = molecule.system.getNumParticles()
    if len(frames.atoms) != n_atoms:
        raise ValueError(
            f"the frames of {folder} hold {len(frames.atoms)} of {n_atoms} atoms: "
            "no window can start from them; run with --atoms all"
        )
    biased = BiasedRun.of(frames, folder / INPUT, folder)
    names = tuple(variable.name for variable in frames.variables)
    given = plumed or folder / INPUT
    bias = PlumedBias(given, molecule, temperature=frames.temperature, cvs=names)
    return Run(molecule, biased, bias)


def enough_windows(run: Run, names: Sequence[str], highest: float, number: int) -> FreeEnergy:
    """A rough free energy with as many bins as it takes windows, ``number`` at least.

    Finer bins see sharper bends: it is looked at again until it is enough.
    """
    temperature = run.frames.temperature
    assert temperature is not None, "looked at when the run was read"
    samples = samples_of(run)
    for _ in range(LOOKS):
        rough = rough_free_energy(run, samples, names, number)
        needed = windows_needed(rough, temperature, highest)
        if needed <= number:
            break
        logger.info("%d windows along each CV, for %d would not overlap", needed, number)
        number = needed
    return rough


def samples_of(run: Run) -> WeightedSamples:
    """Frames of a run with their weights, however few they are worth: a rough look is enough."""
    return replace(reweight_runs([run.biased], n_bootstrap=0), unknown="")


def rough_free_energy(
    run: Run, samples: WeightedSamples, names: Sequence[str], number: int
) -> FreeEnergy:
    """Free energy along one CV or over two as the run knows it, bins as many as windows.

    Of metadynamics and OPES what the bias adds up to, where frames have been; else the frames
    weighed.
    """
    found = (
        free_energy_profile(samples, names[0], number)
        if len(names) == 1
        else free_energy_surface(samples, names, number)
    )
    alone = (
        run.biased.free_energy_of_bias(names[0], found.centres[0])
        if len(names) == 1
        else run.biased.surface_of_bias(names, found.centres)
    )
    if alone is None:
        return found
    return replace(found, free_energy=np.where(np.isfinite(found.free_energy), alone, np.nan))


@dataclass(frozen=True)
class Starts:
    """Where n windows start.

    Attributes
    ----------
    positions : ndarray, shape (n, n_atoms, 3)
        [nm]
    boxes : ndarray, shape (n, 3, 3), or None
        Box vectors [nm]: under a barostat each frame has its own.
    seeded : ndarray of bool, shape (n,)
        Which are of a model.
    """

    positions: NDArray[np.float64]
    boxes: NDArray[np.float64] | None
    seeded: NDArray[np.bool_]

    @classmethod
    def of_frames(cls, frames: Frames, rows: NDArray[np.int64]) -> Starts:
        """Frames of a run."""
        boxes = None if frames.box is None else frames.box[rows].astype(float)
        return cls(frames.positions[rows].astype(float), boxes, np.zeros(len(rows), dtype=bool))

    def box(self, k: int) -> NDArray[np.float64] | None:
        """Of one."""
        return None if self.boxes is None else self.boxes[k]


def starts(
    run: Run, placement: Placement, model: Path | None, seed: int, device: str = "cpu"
) -> Starts:
    """Where windows start: from what a model makes at their centres, else from the nearest frame.

    Parameters
    ----------
    run : Run
    placement : Placement
        n windows.
    model : Path or None
    seed : int
        Of the model's noise, and of which of its configurations is taken: where its density is
        known, by weight.
    device : str
        Of torch, for the model.

    Returns
    -------
    Starts

    Raises
    ------
    ValueError
        If the model is of other CVs or makes a part of the atoms.
    """
    columns = [v.name for v in run.frames.variables]
    chosen = [columns.index(name) for name in placement.names]
    variables = [run.frames.variables[k] for k in chosen]
    nearest = np.array([
        _distances(run, variables, chosen, centre).argmin() for centre in placement.centres
    ])  # fmt: skip
    found = Starts.of_frames(run.frames, nearest)
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
    targets = run.frames.cvs[nearest]  # what a window does not restrain is as in a frame near it
    targets[:, chosen] = placement.centres
    screen = Screen(run.molecule, run.molecule.positions, run.bias)
    made = propose(gan, np.repeat(targets, TRIES, axis=0), screen, seed=seed)
    logger.info("proposals: %s", made.counts())
    # a model that is not quite right makes what is beside the CVs in wrong proportions, and what is
    # slow there stays as a window begins
    log_weights = _log_weights(run, model, made, device).reshape(-1, TRIES)
    taken = drawn(log_weights, np.random.default_rng(seed))
    found.seeded[:] = taken != NONE
    rows = TRIES * np.arange(len(taken)) + taken
    found.positions[found.seeded] = made.positions[rows[found.seeded]]
    return found


def _log_weights(run: Run, model: Path, made: Proposals, device: str) -> NDArray[np.float64]:
    """What configurations (n,) of a model weigh where they were made; -inf if they are refused.

    All the same where no weights are known: of a GAN, or of a model of a part.
    """
    found = np.full(len(made), -np.inf)
    passed = made.accepted
    found[passed] = 0.0
    if not passed.any():
        return found
    try:
        weigher = weigher_of(model, run.molecule, run.biased.plumed, device)
    except ValueError as why:
        logger.info("which of them start windows is drawn without weights: %s", why)
        return found
    x, cvs = made.positions[passed], made.targets[passed]
    found[passed] = weigher.weigh(x, cvs, weigher.sampler.log_prob(x, cvs)).log_weights
    each = [logs for logs in found.reshape(-1, TRIES) if np.isfinite(logs).any()]
    if each:
        logger.info(
            "of %d configurations made for each window those that start one are drawn by weight; "
            "they are worth %.1f in the median window",
            TRIES, np.median([kish_effective_sample_size(logs) for logs in each]),
        )  # fmt: skip
    return found


def _distances(
    run: Run, variables: Sequence, columns: Sequence[int], centre: NDArray
) -> NDArray[np.float64]:
    """How far frames are from a centre, (n_frames,), each CV in its spread over the frames."""
    values = run.frames.cvs[:, columns]
    return np.linalg.norm(cv_differences(variables, centre, values) / values.std(axis=0), axis=1)


def windows_of(
    run: Run, placement: Placement, model: Path | None, settings: WindowSettings, folder: Path,
    device: str = "cpu",
) -> list[Window]:  # fmt: skip
    """The windows, ready to be run."""
    begun = starts(run, placement, model, settings.seed, device)
    return windows_from(begun, run.bias, placement, settings, folder)


def windows_from(
    begun: Starts, bias: PlumedBias, placement: Placement, settings: WindowSettings, folder: Path
) -> list[Window]:
    """Windows at given starts, each in the box of its own."""
    kappa = dict(zip(placement.names, placement.kappa.tolist(), strict=True))
    windows = umbrella_windows(
        window_template(bias, kappa), placement.centres, begun.positions, settings, folder, "frame"
    )
    return [
        replace(window, origin="seeded" if begun.seeded[k] else "frame", box=begun.box(k))
        for k, window in enumerate(windows)
    ]


def run_all(
    windows: Sequence[Window], molecule: Molecule, cluster: Cluster, platform: str | None
) -> list[WindowResult]:
    """Run windows where a cluster says, until all have ended."""
    root = windows[0].folder.parent
    with executor_of(cluster, root) as workers:
        return run_windows(
            windows, molecule.system, molecule.topology, workers,
            platform=platform or (None if cluster.is_here else ANY), reference=molecule.positions,
            threads=cluster.cpus, max_losses=cluster.max_losses,
        )  # fmt: skip


def submit_all(
    windows: Sequence[Window], molecule: Molecule, cluster: Cluster, platform: str | None
) -> int:
    """Submit windows as arrays of Slurm jobs; how many were not done or in the queue before."""
    # of a node: the machine that submits may have no GPU
    name = None if platform in (None, ANY) else platform_name_anywhere(str(platform))
    root = prepare_windows(
        windows, molecule.system, molecule.topology, reference=molecule.positions
    )
    folders = [window.folder for window in windows]
    return submit_windows(cluster, root, folders, (name, cluster.cpus))


def go_on(root: Path, cluster: Cluster, platform: str | None) -> list[WindowResult]:
    """Go on with all windows in a folder until they have ended."""
    folders = folders_of(root)
    if platform is None and cluster.is_here:
        platform = fastest_platform(read_system(root), read_array(folders[0] / START))
    with executor_of(cluster, root) as workers:
        return run_prepared(
            folders, root, workers, platform=platform or ANY,
            threads=cluster.cpus, max_losses=cluster.max_losses,
        )  # fmt: skip


def states(root: Path) -> str:
    """How many windows of a folder are in which state, in words."""
    records = [read_record(folder) for folder in folders_of(root)]
    words = ["finished" if is_finished(r) else f"not finished ({r['status']})" for r in records]
    return ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))


def what_is_submitted(cluster: Cluster, root: Path, number: int) -> str:
    """What a batch system would be given for so many windows."""
    if cluster.executor == "slurm-array":
        return job_script(cluster, root.resolve() / "slurm" / "cgan.sh", number)
    return str(parsl_config(cluster, root)) if cluster.executor == "parsl" else ""
