"""Numbers of an exploration from its files: claims, and the profiles beside them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openmm_cgan.cli.exploration_folder import ExplorationFolder
from openmm_cgan.cli.exports import profile_columns, write_table
from openmm_cgan.cli.importance import weigher_of
from openmm_cgan.explore.claims import claim_by_runs, claim_by_weights, claim_by_windows
from openmm_cgan.explore.evidence import Claim
from openmm_cgan.frames import read_frames
from openmm_cgan.free_energy import WeightedSamples, free_energy_profile
from openmm_cgan.free_energy.biased_runs import BiasedRun
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.free_energy.rounds import generate_in_rounds
from openmm_cgan.molecules import Molecule
from openmm_cgan.proposals.targets import trained_range
from openmm_cgan.run_folders import FRAMES, INPUT
from openmm_cgan.windows import read_windows

PROFILE = "profile.csv"
BINS = 72


def claim_of_generated(
    model: Path,
    molecule: Molecule,
    plumed: Path,
    difference: StateDifference,
    n: int,
    seed: int,
    folder: Path,
    device: str,
) -> tuple[Claim, int]:
    """Weigh n configurations of a model; the profile is written to a folder.

    Returns
    -------
    Claim
    int
        Energies evaluated, of those that pass the screens.
    """
    weigher = weigher_of(model, molecule, plumed, device)
    variables = weigher.sampler.variables
    made = generate_in_rounds(
        weigher,
        n,
        trained_range(weigher.sampler),
        seed,
        lambda cvs: difference.sides(np.nan_to_num(cvs), variables),
    )
    claim, samples = claim_by_weights(made, difference, seed)
    _write_profile(samples, difference, folder)
    return claim, weigher.potential.evaluated


def claim_of_runs(
    folders: Sequence[Path], difference: StateDifference, seed: int, folder: Path
) -> Claim:
    """Weigh the frames of two biased runs; the profile is written to a folder."""
    runs = [BiasedRun.of(read_frames(f / FRAMES), f / INPUT, f) for f in folders]
    claim, samples = claim_by_runs(runs, difference, seed)
    _write_profile(samples, difference, folder)
    return claim


def claim_of_windows(
    folders: Sequence[tuple[Path, Path]], difference: StateDifference, seed: int, folder: Path
) -> Claim:
    """MBAR over windows from two starts; those of which one failed are no pair."""
    windows = read_windows([path for pair in folders for path in pair])
    place = {window.name: k for k, window in enumerate(windows)}
    pairs = [
        (place[str(a)], place[str(b)]) for a, b in folders if str(a) in place and str(b) in place
    ]
    claim, samples = claim_by_windows(windows, pairs, difference, seed)
    _write_profile(samples, difference, folder)
    return claim


def command_for(claim: Claim, number: int, place: ExplorationFolder) -> str:
    """The command that gives a claim again, from the frames or the model that it was made of.

    Parameters
    ----------
    claim : Claim
    number : int
        Of the last generator.
    place : ExplorationFolder
    """
    if claim.route == "generated":
        model = shlex.quote(str(place.model(number)))
        plumed, structure = (
            shlex.quote(str(p)) for p in (place.cvs_file(), place.structure_file())
        )
        source = f"--model {model} --plumed {plumed} --structure {structure}"
    else:
        kind, parts = ("windows", "*/window-*") if claim.route == "windows" else ("moves", "*")
        source = f"{shlex.quote(str(place.folder / f'{kind}-{number}'))}/{parts}"
    return free_energy_command(source, place.difference)


def free_energy_command(source: str, difference: StateDifference) -> str:
    """`openmm-cgan free-energy` for a difference; the source is as a shell takes it."""
    name, text = shlex.quote(difference.name), shlex.quote(difference.text)
    return f"openmm-cgan free-energy {source} --cv {name} --difference {text}"


def _write_profile(samples: WeightedSamples, difference: StateDifference, folder: Path) -> None:
    profile = free_energy_profile(samples, difference.name, BINS)
    write_table(folder / PROFILE, profile_columns(profile))
