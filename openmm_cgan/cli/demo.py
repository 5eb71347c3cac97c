"""The whole job on alanine dipeptide in vacuum, as ``openmm-cgan demo`` runs it.

Metadynamics by a PLUMED input -> frames -> conditional GAN -> proposals at the centres of umbrella
windows -> windows -> MBAR -> free energy beside a reference made by other means.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openmm_cgan import GAS_CONSTANT, __version__
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.cgan import ConditionalGAN, TrainingSettings
from openmm_cgan.cli.shipped import plumed_input, read_reference
from openmm_cgan.cli.simulations import RunSettings, run_biased
from openmm_cgan.frames import Frames, read_frames
from openmm_cgan.free_energy import (
    Estimate,
    FreeEnergy,
    basin_difference,
    free_energy_profile,
    read_windows,
    reweight_windows,
)
from openmm_cgan.metrics import energy_distance, marginal_distances, pair_distances
from openmm_cgan.proposals import Proposals, Screen, propose
from openmm_cgan.report import (
    Profile,
    plot_free_energy,
    plot_proposals,
    plot_ramachandran,
    plot_training,
)
from openmm_cgan.testsystems import Molecule, alanine_dipeptide
from openmm_cgan.windows import WindowSettings, run_windows, umbrella_windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openmm_cgan.plumed.bias import PlumedBias

logger = logging.getLogger("openmm_cgan")

TEMPERATURE = 300.0  # K
BASIN = (0.0, 2.3)  # rad of phi: the C7ax side
BIASFACTOR = 10.0  # of the metadynamics input
N_STRETCHES = 40
N_BOOTSTRAP = 50
CONSTRAINED = 1e-4  # nm: distances that spread less are held by constraints
STAGES = ("metadynamics", "training", "proposals", "windows", "analysis")
OUTPUTS = ("md", "windows", "model.pt", "summary.json", "ramachandran.png", "free_energy.png",
           "training.png", "proposals.png")  # fmt: skip


@dataclass(frozen=True)
class DemoSettings:
    """How long each part is. The defaults take under five minutes on two cores.

    Attributes
    ----------
    md_steps : int
        Of the metadynamics.
    training : TrainingSettings
    grid : (int, int)
        Windows along phi and psi.
    highest : float
        Windows stand where the metadynamics finds a free energy below this [kJ/mol]: the two
        barriers between the basins are 31 and 34 high, and what is higher is not needed.
    proposals_per_window : int
        Asked for at the centre of each window; one of those that pass is the seed.
    window_steps, settle_steps : int
        Of each window, and of its settle window.
    max_samples : int
        Frames of all windows that MBAR takes.
    generated : int
        Frames generated for the comparison with the MD.
    """

    md_steps: int = 1_200_000
    training: TrainingSettings = field(default_factory=TrainingSettings)
    grid: tuple[int, int] = (18, 12)
    highest: float = 45.0
    proposals_per_window: int = 50
    window_steps: int = 45_000
    settle_steps: int = 1_500
    max_samples: int = 40_000
    generated: int = 10_000

    @classmethod
    def quick(cls) -> DemoSettings:
        """Everything short: shows the steps and the files, not the numbers."""
        return cls(
            md_steps=150_000,
            training=TrainingSettings(steps=200),
            grid=(6, 6),
            highest=1000.0,
            window_steps=600,
            settle_steps=100,
            generated=200,
        )


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Attributes
    ----------
    summary : dict
        As in summary.json.
    profile, reference : FreeEnergy
        Free energy along phi, ours and the reference's.
    folder : Path
    """

    summary: dict[str, Any]
    profile: FreeEnergy
    reference: FreeEnergy
    folder: Path

    def text(self) -> str:
        """What the demo prints at its end: free energy along phi and the basin difference."""
        lines = ["", "free energy along phi [kJ/mol]", "   phi    seeded windows     reference"]
        ours, theirs = self.profile, self.reference
        for i in range(1, len(ours.centres[0]), 3):
            degrees = np.degrees(ours.centres[0][i])
            pair = (_plus_minus(f.free_energy[i], f.error[i]) for f in (ours, theirs))
            lines.append(f"{degrees:6.1f}  " + "  ".join(pair))
        s = self.summary
        off = abs(s["delta_f"] - s["reference"])
        sigma = np.hypot(s["delta_f_error"], s["reference_error"])
        lines += [
            "",
            f"free energy of 0 < phi < 2.3 rad over the rest: {s['delta_f']:.2f} +- "
            f"{s['delta_f_error']:.2f} kJ/mol",
            f"reference:                                      {s['reference']:.2f} +- "
            f"{s['reference_error']:.2f} kJ/mol",
            f"they differ by {off:.2f} kJ/mol, {off / sigma:.1f} standard errors",
            f"proposals: {s['proposals']}, accepted {s['accepted']}, refused "
            f"{json.dumps(s['refused'])}",
            f"{s['md_steps']:,} steps of MD, {s['seconds']:.0f} s; plots and summary.json in "
            f"{self.folder}",
        ]
        return "\n".join(lines)


def run_demo(
    folder: str | Path,
    settings: DemoSettings | None = None,
    *,
    seed: int = 1,
    workers: int | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = logger.info,
) -> DemoResult:
    """Run the whole job.

    Parameters
    ----------
    folder : str or Path
        Where everything is written.
    settings : DemoSettings
    seed : int
        Of every random draw.
    workers : int, optional
        Processes that run the windows; by default one for each core. 0: this process itself.
    overwrite : bool
        Remove the results of an earlier demo in the folder first.
    say : callable
        Told what is being done.

    Raises
    ------
    FileExistsError
        If the folder holds an earlier demo and ``overwrite`` is False.
    RuntimeError
        If no proposal passes, or MBAR does not converge.
    """
    begun = [time.monotonic()]
    settings = settings or DemoSettings()
    folder = Path(folder)
    reference = read_reference()  # rather now than after five minutes
    _clear(folder, overwrite)

    say(f"1/5 metadynamics on phi and psi, {settings.md_steps:,} steps")
    bias = run_metadynamics(folder / "md", settings, seed)
    frames = read_frames(folder / "md" / "frames")

    begun.append(time.monotonic())
    say(f"2/5 conditional GAN on {len(frames):,} frames")
    molecule = alanine_dipeptide("C7eq")
    gan = ConditionalGAN.fit(frames, molecule.topology, settings.training)
    gan.save(folder / "model.pt")

    begun.append(time.monotonic())
    say("3/5 proposals at the centres of the windows")
    screen = Screen(molecule.topology, molecule.positions, bias)
    centres = window_centres(bias, settings)
    targets = np.repeat(centres, settings.proposals_per_window, axis=0)
    proposals = propose(gan, targets, screen, seed=seed)
    seeds = choose_seeds(proposals, centres, seed)

    begun.append(time.monotonic())
    say(f"4/5 {len(seeds.centres)} seeded windows of {settings.window_steps:,} steps")
    run_seeded_windows(folder / "windows", molecule, seeds, settings, seed, workers)

    begun.append(time.monotonic())
    say("5/5 MBAR, plots")
    profile, difference = free_energies(folder / "windows", settings, seed)
    profile = _onto(profile, reference.profile)
    generated = generate_like(frames, gan, settings.generated, seed)
    torsions = frames.cvs, bias.cv_values(generated)
    draw(folder, (profile, reference.profile), gan.history, proposals.counts(), torsions)
    summary = {
        **_energies(difference, reference.difference),
        "seconds": time.monotonic() - begun[0],
        "seconds_of_stages": dict(zip(STAGES, np.diff([*begun, time.monotonic()]), strict=True)),
        "md_steps": settings.md_steps + len(seeds.centres) * settings.window_steps,
        **_counts(proposals),
        "windows": len(seeds.centres),
        "backend": bias.backend,
        "generator": compare(frames, generated),
        "seed": seed,
        "versions": _versions(),
    }
    _write_json(folder / "summary.json", summary)
    return DemoResult(summary, profile, reference.profile, folder)


def run_metadynamics(folder: Path, settings: DemoSettings, seed: int) -> PlumedBias:
    """Well-tempered metadynamics on phi and psi; its bias as it stands at the end."""
    run = RunSettings(temperature=TEMPERATURE, platform="Reference", seed=seed)
    plumed = plumed_input("alanine_phi_psi_metad.dat")
    return run_biased(alanine_dipeptide("C7eq"), plumed, settings.md_steps, folder, run)


def window_centres(bias: PlumedBias, settings: DemoSettings) -> NDArray[np.float64]:
    """Centres of the windows over phi and psi, shape (n, 2) [rad].

    Those of a grid where the free energy is low enough by the metadynamics' own estimate,
    -V gamma / (gamma - 1).
    """
    axes = [-np.pi + 2 * np.pi * (np.arange(n) + 0.5) / n for n in settings.grid]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    free_energy = -bias.bias_of_cvs(grid) * BIASFACTOR / (BIASFACTOR - 1)
    return grid[free_energy - free_energy.min() < settings.highest]


@dataclass(frozen=True)
class Seeds:
    """Where windows stand, shape (n, 2) [rad], and start from, shape (n, n_atoms, 3) [nm]."""

    centres: NDArray[np.float64]
    positions: NDArray[np.float64]


def choose_seeds(proposals: Proposals, centres: NDArray, seed: int) -> Seeds:
    """One accepted proposal for each window, drawn at random.

    Windows at whose centre no proposal passed are left out, with a warning.

    Raises
    ------
    RuntimeError
        If no proposal passed at all.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for rows in np.array_split(np.arange(len(proposals)), len(centres)):
        passed = rows[proposals.accepted[rows]]
        chosen.append(int(rng.choice(passed)) if len(passed) else -1)
    kept = np.array(chosen) >= 0
    if not kept.any():
        raise RuntimeError(f"no proposal passed the screen: {proposals.counts()}; train longer")
    if not kept.all():
        logger.warning("%d windows have no proposal and are left out", int((~kept).sum()))
    return Seeds(centres[kept], proposals.positions[np.array(chosen)[kept]])


def run_seeded_windows(
    folder: Path,
    molecule: Molecule,
    seeds: Seeds,
    settings: DemoSettings,
    seed: int,
    workers: int | None,
) -> None:
    """Run the umbrella windows on a pool of processes, one thread each."""
    window = WindowSettings(
        temperature=TEMPERATURE,
        steps=settings.window_steps,
        settle_steps=settings.settle_steps,
        checkpoint_interval=settings.window_steps,
        seed=seed,
    )
    template = plumed_input("alanine_phi_psi_umbrella.dat")
    windows = umbrella_windows(template, seeds.centres, seeds.positions, window, folder, "seeded")
    workers = (os.cpu_count() or 1) if workers is None else workers
    # spawn: a fork would copy torch's threads, one of which may hold a lock for ever
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn) if workers else nullcontext() as pool:
        run_windows(windows, molecule.system, molecule.topology, pool, platform="Reference")


def free_energies(folder: Path, settings: DemoSettings, seed: int) -> tuple[FreeEnergy, Estimate]:
    """Free energy along phi and of the basin, from the windows in a folder."""
    windows = read_windows(sorted(folder.glob("window-*")))
    samples = reweight_windows(
        windows, n_bootstrap=N_BOOTSTRAP, max_samples=settings.max_samples, seed=seed
    )
    phi = samples.cvs[:, samples.column("phi")]
    difference = basin_difference(samples, (phi > BASIN[0]) & (phi < BASIN[1]))
    return free_energy_profile(samples, "phi"), difference


def generate_like(frames: Frames, gan: ConditionalGAN, n: int, seed: int) -> NDArray[np.float64]:
    """Configurations generated at the CV values of frames drawn at random."""
    rows = np.random.default_rng(seed).choice(len(frames), min(n, len(frames)), replace=False)
    return gan.sample(frames.cvs[rows], seed=seed)


def draw(
    folder: Path,
    profiles: tuple[FreeEnergy, FreeEnergy],
    history: Sequence[Mapping[str, float]],
    counts: Mapping[str, int],
    torsions: tuple[NDArray, NDArray],
) -> None:
    """Write the plots: profiles ours and reference, torsions of MD and of generated frames."""
    curves = [
        Profile(f.centres[0], f.free_energy, f.error, label)
        for f, label in zip(profiles, ("seeded windows", "reference"), strict=True)
    ]
    plot_free_energy(curves[0], folder / "free_energy.png", curves[1], BASIN)
    plot_training(history, folder / "training.png")
    plot_proposals(counts, folder / "proposals.png")
    plot_ramachandran(*torsions, folder / "ramachandran.png")


def compare(frames: Frames, generated: NDArray) -> dict[str, float]:
    """How generated configurations differ from the MD frames at the same CV values.

    Jensen-Shannon distance, the mean over all distances between two atoms that are not
    constrained, and energy distance over all of them, each with its floor: one half of the MD
    against the other, in alternate stretches so that both halves have the same CV values.
    """
    stretch = np.arange(len(frames)) * N_STRETCHES // len(frames) % 2
    md = pair_distances(frames.positions[np.argsort(stretch, kind="stable")])
    free = md.std(axis=0) > CONSTRAINED
    md, made = md[:, free], pair_distances(generated)[:, free]
    marginals = marginal_distances(made, md)
    half = len(md) // 2
    return {
        "jensen_shannon": float(marginals.distance.mean()),
        "jensen_shannon_floor": float(marginals.floor.mean()),
        "energy_distance": energy_distance(made, md),
        "energy_distance_floor": energy_distance(md[:half], md[half:]),
    }


def _onto(profile: FreeEnergy, other: FreeEnergy) -> FreeEnergy:
    """The profile shifted to the same total probability as the other one."""
    kT = GAS_CONSTANT * TEMPERATURE
    totals = [np.log(np.nansum(np.exp(-f.free_energy / kT))) for f in (profile, other)]
    return replace(profile, free_energy=profile.free_energy + kT * (totals[0] - totals[1]))


def _energies(ours: Estimate, reference: Estimate) -> dict[str, float]:
    return {
        "delta_f": ours.value,
        "delta_f_error": ours.error,
        "reference": reference.value,
        "reference_error": reference.error,
    }


def _counts(proposals: Proposals) -> dict[str, Any]:
    refused = proposals.counts()
    accepted = refused.pop("accepted")
    return {"proposals": len(proposals), "accepted": accepted, "refused": refused}


def _plus_minus(value: float, error: float) -> str:
    known = f"{error:4.1f}" if np.isfinite(error) else "   ?"
    return f"{value:6.1f} +- {known}" if np.isfinite(value) else f"{'-':^14}"


def _clear(folder: Path, overwrite: bool) -> None:
    """Make the folder; of an earlier demo remove what demos write, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    there = [folder / name for name in OUTPUTS if (folder / name).exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"{folder} holds an earlier demo ({there[0].name}): use --overwrite or another --out"
        )
    for path in there:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _versions() -> dict[str, str]:
    names = ("openmm", "torch", "numpy", "pymbar", "MDAnalysis", "h5py")
    found = {name: version(name) for name in names}
    return {"openmm_cgan": __version__, "python": platform.python_version(), **found}


def _write_json(path: Path, record: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(record, indent=1) + "\n")
