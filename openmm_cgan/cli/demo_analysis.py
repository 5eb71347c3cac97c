"""What the demo finds: free energies, the generator beside the MD, plots and summary."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openmm_cgan import GAS_CONSTANT, __version__
from openmm_cgan.cgan import ConditionalGAN
from openmm_cgan.cli.exports import estimate_text
from openmm_cgan.frames import Frames
from openmm_cgan.free_energy import (
    Estimate,
    FreeEnergy,
    basin_difference,
    free_energy_profile,
    reweight_windows,
)
from openmm_cgan.metrics import energy_distance, marginal_distances, pair_distances
from openmm_cgan.proposals import Proposals
from openmm_cgan.report import (
    Profile,
    plot_free_energy,
    plot_proposals,
    plot_ramachandran,
    plot_training,
)
from openmm_cgan.windows import read_windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEMPERATURE = 300.0  # K
BASIN = (0.0, 2.3)  # rad of phi: the C7ax side
N_STRETCHES = 40
N_BOOTSTRAP = 50
CONSTRAINED = 1e-4  # nm: distances that spread less are held by constraints


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
        found = [Estimate(s[name], s[f"{name}_error"]) for name in ("delta_f", "reference")]
        off = abs(found[0].value - found[1].value)
        sigma = np.hypot(found[0].error, found[1].error)
        known = bool(np.isfinite([off, sigma]).all())
        lines += [
            "",
            f"free energy of 0 < phi < 2.3 rad over the rest: {estimate_text(found[0])}",
            f"reference:                                      {estimate_text(found[1])}",
            *([f"they differ by {off:.2f} kJ/mol, {off / sigma:.1f} standard errors"] * known),
            f"proposals: {s['proposals']}, accepted {s['accepted']}, refused "
            f"{json.dumps(s['refused'])}",
            f"{s['md_steps']:,} steps of MD, {s['seconds']:.0f} s; plots and summary.json in "
            f"{self.folder}",
        ]
        return "\n".join(lines)


def free_energies(folder: Path, max_samples: int, seed: int) -> tuple[FreeEnergy, Estimate]:
    """Free energy along phi and of the basin, from the windows in a folder.

    Parameters
    ----------
    folder : Path
        Holds ``window-*``.
    max_samples : int
        Frames of all windows that MBAR takes.
    seed : int
        Of the bootstrap.
    """
    windows = read_windows(sorted(folder.glob("window-*")))
    samples = reweight_windows(windows, n_bootstrap=N_BOOTSTRAP, max_samples=max_samples, seed=seed)
    phi = samples.cvs[:, samples.column("phi")]
    difference = basin_difference(samples, (phi > BASIN[0]) & (phi < BASIN[1]))
    return free_energy_profile(samples, "phi"), difference


def generate_like(frames: Frames, gan: ConditionalGAN, n: int, seed: int) -> NDArray[np.float64]:
    """Configurations generated at the CV values of frames drawn at random.

    Parameters
    ----------
    frames : Frames
    gan : ConditionalGAN
    n : int
        How many, the number of frames at most.
    seed : int
        Of the frames drawn and of the configurations.

    Returns
    -------
    ndarray, shape (min(n, n_frames), n_atoms, 3)
        [nm]
    """
    rows = np.random.default_rng(seed).choice(len(frames), min(n, len(frames)), replace=False)
    return gan.sample(frames.cvs[rows], seed=seed)


def draw(
    folder: Path,
    profiles: tuple[FreeEnergy, FreeEnergy],
    history: Sequence[Mapping[str, float]],
    counts: Mapping[str, int],
    torsions: tuple[NDArray, NDArray],
) -> None:
    """Write the plots.

    Parameters
    ----------
    folder : Path
    profiles : (FreeEnergy, FreeEnergy)
        Ours and the reference's.
    history : sequence of mappings
        Of the training, as `plot_training` takes it.
    counts : mapping of str to int
        Of the proposals, as `plot_proposals` takes them.
    torsions : (ndarray, ndarray), shapes (n, 2) and (m, 2)
        phi and psi of MD frames and of generated ones [rad].
    """
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

    Parameters
    ----------
    frames : Frames
        Of the MD.
    generated : ndarray, shape (n, n_atoms, 3)
        Configurations at the CV values of some of these frames [nm].

    Returns
    -------
    dict of str to float
        Distances [of the Jensen-Shannon kind: none; of energy: square root of nm].
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


def shifted_onto(profile: FreeEnergy, other: FreeEnergy) -> FreeEnergy:
    """The profile shifted to the same total probability as the other one."""
    kT = GAS_CONSTANT * TEMPERATURE
    totals = [np.log(np.nansum(np.exp(-f.free_energy / kT))) for f in (profile, other)]
    return replace(profile, free_energy=profile.free_energy + kT * (totals[0] - totals[1]))


def energy_record(ours: Estimate, reference: Estimate) -> dict[str, float]:
    """Both free energies of the basin, as summary.json has them [kJ/mol]."""
    return {
        "delta_f": ours.value,
        "delta_f_error": ours.error,
        "reference": reference.value,
        "reference_error": reference.error,
    }


def proposal_record(proposals: Proposals) -> dict[str, Any]:
    """How many proposals there were, passed and were refused, as summary.json has them."""
    refused = proposals.counts()
    accepted = refused.pop("accepted")
    return {"proposals": len(proposals), "accepted": accepted, "refused": refused}


def _plus_minus(value: float, error: float) -> str:
    if not np.isfinite(value):
        return f"{'-':^14}"
    return f"{value:6.1f} +- {error:4.1f}" if np.isfinite(error) else f"{'unknown':^14}"


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of what the numbers depend on."""
    names = ("openmm", "torch", "numpy", "pymbar", "MDAnalysis", "h5py")
    found = {name: version(name) for name in names}
    return {"openmm_cgan": __version__, "python": platform.python_version(), **found}
