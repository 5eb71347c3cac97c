"""What the runs of solvent_free_energy.py say: free energies, and errors by steps.

Errors are seen, not estimated: how far a run is from the mean of the other runs of windows, of both
kinds and all repeats, at their full length; so one repeat of each kind tells no more than how far
they are from each other. Errors that MBAR's bootstrap gives stand beside them, and how far F(phi)
and F(psi) are from those of the metadynamics by both errors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.frames import read_frames
from openmm_cgan.free_energy import basin_difference, free_energy_profile, reweight_windows
from openmm_cgan.free_energy.biased_runs import BiasedRun, reweight_runs
from openmm_cgan.free_energy.hills import hills_free_energy
from openmm_cgan.free_energy.samples import BiasedFrames, WeightedSamples
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.windows import read_windows

RESULTS = Path(__file__).parent / "results" / "solvent_free_energy.json"
CVS = ("phi", "psi")
BASIN = (0.0, 2.3)  # rad, of phi
BINS = 36
HIGHEST = 30.0  # kJ/mol: where profiles are compared
FRACTIONS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
SHARES = (0.5, 0.75, 1.0)  # of a metadynamics: what its hills then say
KINDS = ("seeded", "dragged")


class Lengths(NamedTuple):
    """Steps: of a window, its settle window, between windows dragged, before, and of the METAD."""

    window: int
    settle: int
    drag: int
    alone: int
    metad: int


def steps_of(kind: str, window: int, settle: int) -> tuple[int, int]:
    """Steps of a run, and of its settle window: of "seeded-4" a quarter of those of a window."""
    return window // seeds_of(kind), settle // seeds_of(kind)


def seeds_of(kind: str) -> int:
    """Runs of a window."""
    return int(kind.partition("-")[2] or 1)


def in_basin(cvs: NDArray) -> NDArray[np.bool_]:
    """Whether phi is right of 0, (n, 2) to (n,)."""
    return (cvs[:, 0] > BASIN[0]) & (cvs[:, 0] < BASIN[1])


def report(folder: Path, lengths: Lengths, kT: float) -> dict[str, Any]:
    """Print and return what is there of all repeats."""
    repeats = sorted(folder.glob("repeat-*"))
    windows = {
        (kind, k): read_windows(sorted((repeat / kind).glob("window-*")))
        for k, repeat in enumerate(repeats)
        for kind in _kinds_in(repeat)
        if _is_whole(repeat, kind)
    }
    kinds = sorted({kind for kind, _ in windows}, key=lambda kind: (kind == "dragged", kind))
    found: dict[str, Any] = {"lengths": lengths._asdict()}
    over = [repeat for repeat in repeats if (repeat / "metad" / "state.xml").exists()]
    metad = [[_by_hills(repeat / "metad", share, kT) for share in SHARES] for repeat in over]
    found["metad"] = {
        "basin, by parts of the run": [[d for d, _ in one] for one in metad],
        "profiles": [one[-1][1].tolist() for one in metad],
    }
    print("free energy of 0 < phi < 2.3 over the rest [kJ/mol]")
    weighed = [_by_frames(repeat / "metad") for repeat in over]
    found["metad"]["by its frames"] = weighed
    for one, frames in zip(metad, weighed, strict=True):
        parts = ", ".join(f"{d:.2f} after {s:g}" for s, (d, _) in zip(SHARES, one, strict=True))
        print(f"  metadynamics, by its hills, {parts} of the run; by its frames", *frames["basin"])
    for kind in kinds:
        own = [w for (name, _), w in windows.items() if name == kind]
        found[kind] = [_whole(w) for w in own]
        print(f"  {kind}:", *(f"{r['basin'][0]:.2f} +- {r['basin'][1]:.2f}" for r in found[kind]))
        if len(own) > 1:
            both = found[f"{kind}, all"] = _whole([window for one in own for window in one])
            print(f"  all {kind}: {both['basin'][0]:.2f} +- {both['basin'][1]:.2f}")
            found[f"{kind}, all, by steps"] = _by_steps(kind, own, lengths)
        if own and weighed:
            _say_agreement(found[kind], weighed[0])
    if len(windows) > 1:
        found["errors"] = _errors_by_steps(windows, kinds, lengths)
    return found


def write_results(case: str, found: dict[str, Any]) -> None:
    """Keep what was found of a case, beside that of others."""
    there = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    text = json.dumps(there | {case: _known(found)}, allow_nan=False)
    write_atomically(RESULTS, text + "\n")


def _known(found: Any) -> Any:
    """The same with None in place of what is infinite or NaN, which JSON has no words for."""
    if isinstance(found, dict):
        return {name: _known(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [_known(value) for value in found]
    return found if not isinstance(found, float) or np.isfinite(found) else None


def _kinds_in(repeat: Path) -> list[str]:
    return [
        path.name for path in (*repeat.glob("seeded*"), *repeat.glob("dragged")) if path.is_dir()
    ]


def _is_whole(repeat: Path, kind: str) -> bool:
    """Whether all windows of a kind are finished."""
    paths = (repeat / kind).glob("window-*/window.json")
    records = [json.loads(path.read_text()) for path in paths]
    return (
        bool(records)
        and all(r["status"] != "prepared" for r in records)
        and all(r["step"] == r["steps"] or r["status"] == "failed" for r in records)
    )


def _by_hills(folder: Path, share: float, kT: float) -> tuple[float, NDArray[np.float64]]:
    """Free energy of the basin, and along phi (BINS,), by the first hills [kJ/mol]."""
    whole, plumed = read_fields(folder / "HILLS"), folder / "plumed.dat"
    hills = whole.first(round(share * len(whole)))
    fine = 8 * BINS
    axes = [-np.pi + 2 * np.pi * (np.arange(n) + 0.5) / n for n in (fine, 72)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    shares = np.exp(-hills_free_energy(hills, grid, plumed) / kT).reshape(fine, 72).sum(axis=1)
    inside = in_basin(axes[0][:, None])
    profile = -kT * np.log(shares.reshape(BINS, -1).sum(axis=1))
    basin = -kT * np.log(shares[inside].sum() / shares[~inside].sum())
    return float(basin), profile - profile.min()


def _weighed(windows: list[BiasedFrames], fraction: float, n_bootstrap: int) -> WeightedSamples:
    parts = [window.part(0.0, fraction) for window in windows]
    return reweight_windows(parts, n_bootstrap=n_bootstrap)


def _by_frames(folder: Path) -> dict[str, Any]:
    """The same of a metadynamics, its frames weighed."""
    run = BiasedRun.of(read_frames(folder / "frames"), folder / "plumed.dat", folder)
    return _found(reweight_runs([run]))


def _whole(windows: list[BiasedFrames]) -> dict[str, Any]:
    """The basin's free energy and the profiles of one run of windows, with MBAR's errors."""
    samples = _weighed(windows, 1.0, 100)
    overlap = samples.overlap - np.diag(np.diag(samples.overlap))
    return _found(samples) | {"smallest overlap with any other": float(overlap.max(axis=1).min())}


def _by_steps(kind: str, runs: list[list[BiasedFrames]], lengths: Lengths) -> list[list[float]]:
    """The basin's free energy by the beginning of all runs, repeats being runs of a window."""
    rows = []
    for fraction in (0.1, 0.35):
        joined = [window for one in runs for window in one]
        estimate = basin_difference(_weighed(joined, fraction, 100), in_basin)
        steps = sum(_steps(kind, lengths, fraction, len(one))[0] for one in runs)
        rows.append([steps, float(estimate.value), float(estimate.error)])
        print(f"    by their first {steps:,} steps: {estimate.value:.2f} +- {estimate.error:.2f}")
    return rows


def _found(samples: WeightedSamples) -> dict[str, Any]:
    """The basin's free energy and F(phi), F(psi) with their errors [kJ/mol]."""
    profiles = {name: free_energy_profile(samples, name, BINS) for name in CVS}
    return {
        "basin": [float(number) for number in basin_difference(samples, in_basin)],
        "profile": {name: p.free_energy.tolist() for name, p in profiles.items()},
        "error": {name: p.error.tolist() for name, p in profiles.items()},
    }


def _say_agreement(runs: list[dict[str, Any]], metad: dict[str, Any]) -> None:
    """Print how many bins lie within two errors of the metadynamics, of the low ones.

    Profiles are known up to a constant: both are taken from their weighted mean.
    """
    for name in CVS:
        for k, run in enumerate(runs):
            profiles = np.array([run["profile"][name], metad["profile"][name]])
            errors = np.array([run["error"][name], metad["error"][name]])
            low = np.isfinite(profiles).all(axis=0) & np.isfinite(errors).all(axis=0)
            low &= (profiles < HIGHEST).all(axis=0)
            if not low.any():
                print(f"    F({name}), run {k}: the metadynamics knows none of it by its frames")
                continue
            off, error = (profiles[0] - profiles[1])[low], np.hypot(*errors)[low]
            z = (off - np.average(off, weights=1 / error**2)) / error
            share, middle = (np.abs(z) < 2).mean(), np.median(error)
            print(f"    F({name}), run {k}: {share:.0%} of {low.sum()} bins within two errors of"
                  f" the metadynamics, median error {middle:.2f}")  # fmt: skip


def _estimates(windows: list[BiasedFrames], fraction: float) -> tuple[float, NDArray[np.float64]]:
    samples = _weighed(windows, fraction, 0)
    profile = free_energy_profile(samples, "phi", BINS).free_energy
    return basin_difference(samples, in_basin).value, profile


def _errors_by_steps(
    windows: dict[tuple[str, int], list[BiasedFrames]], kinds: list[str], lengths: Lengths
) -> dict[str, Any]:
    """Root mean square errors of each kind by the steps of one run, printed and returned."""
    estimates = {
        key: [_estimates(own, fraction) for fraction in FRACTIONS] for key, own in windows.items()
    }
    found: dict[str, Any] = {}
    print("      steps   with training   off: basin   profile [kJ/mol], by the other runs")
    for kind in kinds:
        keys = [key for key in windows if key[0] == kind]
        rows = []
        for k, fraction in enumerate(FRACTIONS):
            off = np.array([_off(estimates, key, k) for key in keys])
            errors = np.sqrt((off**2).mean(axis=0))
            steps = _steps(kind, lengths, fraction, len(windows[keys[0]]))
            rows.append([*steps, *errors.tolist()])
            print(f"{kind:8s}{steps[0]:11,d}{steps[1]:12,d}{errors[0]:12.2f}{errors[1]:12.2f}")
        found[kind] = rows
    return found


def _off(
    estimates: dict[tuple[str, int], list[tuple[float, NDArray]]], key: tuple[str, int], k: int
) -> tuple[float, float]:
    """How far an estimate is from the mean of the others: basin, profile (root mean square)."""
    others = [own[-1] for other, own in estimates.items() if other != key]
    basin, profile = estimates[key][k]
    mean = np.mean([p - np.nanmin(p) for _, p in others], axis=0)
    where = np.isfinite(mean) & np.isfinite(profile) & (mean < HIGHEST)
    difference = (profile - mean)[where]
    return (
        basin - float(np.mean([b for b, _ in others])),
        float((difference - difference.mean()).std()),
    )


def _steps(kind: str, lengths: Lengths, fraction: float, n_windows: int) -> tuple[int, int]:
    """Steps of one run, without and with the metadynamics that the model was trained on."""
    window, settle = steps_of(kind, lengths.window, lengths.settle)
    steps = n_windows * (settle + round(fraction * (window - settle)))
    if kind == "dragged":
        steps += n_windows * lengths.drag + lengths.alone
        return steps, steps
    return steps, steps + lengths.metad
