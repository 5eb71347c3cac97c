"""The whole job on alanine dipeptide in vacuum, as ``openmm-cgan demo`` runs it.

Metadynamics by a PLUMED input -> frames -> conditional GAN -> proposals at the centres of umbrella
windows -> windows -> MBAR -> free energy beside a reference made by other means.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.cgan import ConditionalGAN, TrainingSettings
from openmm_cgan.claims import Claim
from openmm_cgan.cli.demo_analysis import (
    TEMPERATURE,
    DemoResult,
    compare,
    draw,
    energy_record,
    free_energies,
    generate_like,
    proposal_record,
    shifted_onto,
    versions,
)
from openmm_cgan.cli.run_records import RunSettings, is_begun
from openmm_cgan.cli.shipped import plumed_input, read_reference
from openmm_cgan.cli.simulations import run_biased
from openmm_cgan.frames import read_frames
from openmm_cgan.molecules import Molecule
from openmm_cgan.proposals import Proposals, Screen, propose
from openmm_cgan.run_folders import COMMANDS
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.windows import Cluster, WindowSettings, executor_of, run_windows, umbrella_windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openmm_cgan.plumed.bias import PlumedBias

logger = logging.getLogger("openmm_cgan")

BIASFACTOR = 10.0  # of the metadynamics input
STAGES = ("metadynamics", "training", "proposals", "windows", "analysis")
RECORD = "demo.json"  # what the demo was asked for
TRAINING = "training.chk"
OUTPUTS = (RECORD, "md", "windows", TRAINING, "model.npz", "summary.json", "ramachandran.png",
           "free_energy.png", "training.png", "proposals.png", "report.html", COMMANDS)  # fmt: skip


@dataclass(frozen=True)
class DemoSettings:
    """How long each part is. The defaults take three to six minutes on two cores.

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


def run_demo(
    folder: str | Path,
    settings: DemoSettings | None = None,
    *,
    seed: int = 1,
    workers: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
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
    resume : bool
        Go on with the demo in the folder where it was stopped.
    say : callable
        Told what is being done.

    Raises
    ------
    FileExistsError
        If the folder holds an earlier demo, and neither is asked for.
    FileNotFoundError
        If it holds none to go on with.
    ValueError
        If the one that is to go on has other settings or another seed.
    RuntimeError
        If no proposal passes, or MBAR does not converge.
    StoppedBySignalError
        If SIGTERM or SIGINT came; all is saved.
    """
    settings = settings or DemoSettings()
    folder = Path(folder)
    stages = _Stages(say)
    reference = read_reference()  # rather now than after five minutes
    asked = json.loads(json.dumps(asdict(settings) | {"seed": seed}))
    claims = [Claim(folder)]  # before anything is removed
    (_require_same if resume else _replace if overwrite else _begin)(folder, asked)
    claims.append(Claim(folder))  # which it has made

    stages.begin(f"metadynamics on phi and psi, {settings.md_steps:,} steps")
    bias = run_metadynamics(folder / "md", settings, seed)
    frames = read_frames(folder / "md" / "frames")

    stages.begin(f"conditional GAN on {len(frames):,} frames")
    molecule = alanine_dipeptide("C7eq")
    training = folder / TRAINING  # without it the model would have to be read back
    gan = ConditionalGAN.fit(frames, molecule.topology, settings.training, checkpoint=training)
    gan.save(folder / "model.npz")

    stages.begin("proposals at the centres of the windows")
    proposals, seeds = propose_seeds(gan, molecule, bias, settings, seed)

    stages.begin(f"{len(seeds.centres)} seeded windows of {settings.window_steps:,} steps")
    run_seeded_windows(folder / "windows", molecule, seeds, settings, seed, workers)

    stages.begin("MBAR, plots")
    profile, difference = free_energies(folder / "windows", settings.max_samples, seed)
    profile = shifted_onto(profile, reference.profile)
    generated = generate_like(frames, gan, settings.generated, seed)
    torsions = frames.cvs, bias.cv_values(generated)
    draw(folder, (profile, reference.profile), gan.history, proposals.counts(), torsions)
    summary = {
        **energy_record(difference, reference.difference),
        **stages.seconds(),
        "md_steps": settings.md_steps + len(seeds.centres) * settings.window_steps,
        **proposal_record(proposals),
        "windows": len(seeds.centres),
        "backend": bias.backend,
        "generator": compare(frames, generated),
        "seed": seed,
        "versions": versions(),
    }
    _write_json(folder / "summary.json", summary)
    return DemoResult(summary, profile, reference.profile, folder)


class _Stages:
    """Says which stage begins, and keeps how long each took."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._begun = say, list[float]()

    def begin(self, what: str) -> None:
        """Begin the next stage."""
        self._begun.append(time.monotonic())
        self._say(f"{len(self._begun)}/{len(STAGES)} {what}")

    def seconds(self) -> dict[str, Any]:
        """How long all stages took until now, and each, as summary.json has them."""
        times = np.array([*self._begun, time.monotonic()])
        return {
            "seconds": float(times[-1] - times[0]),
            "seconds_of_stages": dict(zip(STAGES, np.diff(times).tolist(), strict=True)),
        }


def run_metadynamics(folder: Path, settings: DemoSettings, seed: int) -> PlumedBias:
    """Well-tempered metadynamics on phi and psi; its bias as it stands at the end."""
    run = RunSettings(temperature=TEMPERATURE, platform="Reference", seed=seed)
    plumed = plumed_input("alanine_phi_psi_metad.dat")
    goes_on = is_begun(folder)
    steps = None if goes_on else settings.md_steps
    return run_biased(alanine_dipeptide("C7eq"), plumed, steps, folder, run, goes_on)


def window_centres(bias: PlumedBias, settings: DemoSettings) -> NDArray[np.float64]:
    """Centres of the windows over phi and psi.

    Those of a grid where the free energy is low enough by the metadynamics' own estimate,
    -V gamma / (gamma - 1) of A. Barducci, G. Bussi, M. Parrinello, doi
    10.1103/PhysRevLett.100.020603.

    Returns
    -------
    ndarray, shape (n, 2)
        [rad]
    """
    axes = [-np.pi + 2 * np.pi * (np.arange(n) + 0.5) / n for n in settings.grid]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    free_energy = -bias.bias_of_cvs(grid) * BIASFACTOR / (BIASFACTOR - 1)
    return grid[free_energy - free_energy.min() < settings.highest]


@dataclass(frozen=True)
class Seeds:
    """Where windows stand and start.

    Attributes
    ----------
    centres : ndarray, shape (n, 2)
        phi and psi [rad].
    positions : ndarray, shape (n, n_atoms, 3)
        [nm]
    """

    centres: NDArray[np.float64]
    positions: NDArray[np.float64]


def propose_seeds(
    gan: ConditionalGAN, molecule: Molecule, bias: PlumedBias, settings: DemoSettings, seed: int
) -> tuple[Proposals, Seeds]:
    """Proposals at the centres of the windows, and those from which the windows start."""
    screen = Screen(molecule, molecule.positions, bias)
    centres = window_centres(bias, settings)
    targets = np.repeat(centres, settings.proposals_per_window, axis=0)
    proposals = propose(gan, targets, screen, seed=seed)
    return proposals, choose_seeds(proposals, centres, seed)


def choose_seeds(proposals: Proposals, centres: NDArray, seed: int) -> Seeds:
    """One accepted proposal for each window, drawn at random.

    Windows at whose centre no proposal passed are left out, with a warning.

    Parameters
    ----------
    proposals : Proposals
        As many at each centre, in the order of the centres.
    centres : ndarray, shape (n, 2)
        phi and psi of the windows [rad].
    seed : int

    Returns
    -------
    Seeds
        Of the windows that have one.

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
    with executor_of(Cluster(workers=workers), folder) as pool:
        run_windows(windows, molecule.system, molecule.topology, pool, platform="Reference")


def _require_same(folder: Path, asked: dict[str, Any]) -> None:
    """See that the demo in a folder is the one that is to go on."""
    record = folder / RECORD
    if not record.exists():
        raise FileNotFoundError(f"{record} is not there: no demo to go on with")
    before = json.loads(record.read_text())
    if other := [name for name in asked if before.get(name) != asked[name]]:
        raise ValueError(
            f"the demo in {folder} has other {', '.join(other)}: go on with the options that it "
            "was begun with"
        )


def _begin(folder: Path, asked: dict[str, Any]) -> None:
    """Make the folder, which must hold no earlier demo."""
    if there := _outputs(folder):
        raise FileExistsError(
            f"{folder} holds an earlier demo ({there[0].name}): use --resume, --overwrite or "
            "another --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / RECORD, asked)


def _replace(folder: Path, asked: dict[str, Any]) -> None:
    """Of an earlier demo remove what demos write, and nothing else."""
    for path in _outputs(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    _begin(folder, asked)


def _outputs(folder: Path) -> list[Path]:
    return [folder / name for name in OUTPUTS if (folder / name).exists()]


def _write_json(path: Path, record: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(record, indent=1) + "\n")
