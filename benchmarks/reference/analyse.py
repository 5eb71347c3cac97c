"""Join the two reference methods into reference.json, with errors and where they disagree.

python benchmarks/reference/analyse.py METADYNAMICS_OUTPUT UMBRELLA_OUTPUT
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import alanine
import numpy as np
import umbrella
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import (
    BiasedFrames,
    Estimate,
    FreeEnergy,
    WeightedSamples,
    basin_difference,
    convergence,
    free_energy_profile,
    reweight,
    reweight_windows,
    start_disagreement,
)
from openmm_cgan.free_energy.samples import statistical_inefficiency, unbiased

BINS = 72
DISAGREE, INDEPENDENT = 5.0, 20  # standard errors; independent frames
TRANSIENT = 0.1  # of a metadynamics walker, left out: the first fill of the basins
# of each start: its windows, and what was left out and started again
Runs = dict[str, tuple[list[BiasedFrames], dict[str, int]]]
VARIABLES = tuple(CollectiveVariable(name, "rad", (-np.pi, np.pi)) for name in ("phi", "psi"))


def in_basin(cvs: NDArray) -> NDArray[np.bool_]:
    return alanine.in_basin(cvs[:, 0])


def walkers(folder: Path) -> tuple[list[WeightedSamples], int]:
    """Each metadynamics walker reweighted by (V - c(t)) / kT, and the number of flipped frames."""
    samples, flipped = [], 0
    for path in sorted(folder.glob("walker-[0-9].npz")):
        with np.load(path) as data:
            late = slice(int(TRANSIENT * len(data["phi"])), None)
            flipped += int((~data["trans_l"]).sum())
            cvs = np.stack([data["phi"], data["psi"]], axis=1).astype(float)[late]
            log_weights = (data["bias"] - data["offset"]).astype(float)[late] / alanine.KT
        run = BiasedFrames(cvs, unbiased, alanine.TEMPERATURE, VARIABLES, path.name)
        samples.append(reweight([run], [log_weights]))
    return samples, flipped


def windows(folder: Path, start: str) -> tuple[list[BiasedFrames], dict[str, int]]:
    """Umbrella windows from one start; what was left out and started again."""
    found, counts = [], {"windows": 0, "restarts": 0, "frames of another isomer": 0}
    for path in sorted(folder.glob(f"start-{start}-window-[0-9][0-9][0-9].npz")):
        with np.load(path) as data:
            centre, same = data["centre"], data["trans_l"]
            cvs = np.stack([data["phi"], data["psi"]], axis=1).astype(float)[same]
            counts["windows"] += 1
            counts["restarts"] += int(data["restarts"])
            counts["frames of another isomer"] += int((~same).sum())
        found.append(BiasedFrames(cvs, harmonic(centre), alanine.TEMPERATURE, VARIABLES, path.name))
    return found, counts


def two_state_windows(runs: list[list[BiasedFrames]]) -> list[int]:
    """Numbers of windows that hold two states: their starts disagree, or they hop."""
    hops = np.zeros(len(runs[0]), dtype=bool)
    for windows in runs:
        for i, window in enumerate(windows):
            inefficiency = statistical_inefficiency(window.cvs, VARIABLES)
            hops[i] |= len(window.cvs) < INDEPENDENT * inefficiency
    return np.flatnonzero(hops | (start_disagreement(*runs) > DISAGREE)).tolist()


def harmonic(centre: NDArray) -> Callable[[NDArray], NDArray]:
    """The restraint on a centre (2,) as a function of the CVs (n, 2) [kJ/mol]."""

    def bias(cvs: NDArray) -> NDArray[np.float64]:
        distance = (cvs - centre + np.pi) % (2 * np.pi) - np.pi
        return 0.5 * (distance**2) @ umbrella.KAPPA

    return bias


def joined_windows(runs: list[BiasedFrames]) -> WeightedSamples:
    return reweight_windows(runs, n_bootstrap=60, max_samples=500_000)


def joined(estimates: list[Estimate]) -> Estimate:
    """Weighted mean; its error grows where the estimates disagree (Birge's ratio)."""
    values, errors = np.array(estimates).T
    weights = errors**-2.0
    mean = float((weights * values).sum() / weights.sum())
    degrees = max(1, len(values) - 1)
    ratio = np.sqrt((weights * (values - mean) ** 2).sum() / degrees)
    return Estimate(mean, float(weights.sum() ** -0.5 * max(1.0, ratio)))


def over_walkers(samples: list[WeightedSamples]) -> Estimate:
    """Mean basin difference over independent walkers."""
    values, errors = np.array([basin_difference(s, in_basin) for s in samples]).T
    return Estimate(float(values.mean()), float(error_of_mean(values, errors)))


def error_of_mean(values: NDArray, errors: NDArray) -> NDArray[np.float64]:
    """The larger of two errors: by the spread of few walkers, and by the blocks within each.

    Both arrays are of shape (n_walkers, ...).
    """
    by_spread = values.std(axis=0, ddof=1) / len(values) ** 0.5
    by_blocks = np.sqrt((errors**2).sum(axis=0)) / len(values)
    return np.fmax(by_spread, by_blocks)


def mean_profile(samples: list[WeightedSamples], variable: str) -> FreeEnergy:
    """Profile of all walkers, -kT ln of a normalised density."""
    profiles = [absolute(free_energy_profile(s, variable, BINS)) for s in samples]
    values = np.array([p.free_energy for p in profiles])
    mean = -alanine.KT * np.log(np.exp(-values / alanine.KT).mean(axis=0))
    error = error_of_mean(values, np.array([p.error for p in profiles]))
    return FreeEnergy(profiles[0].variables, profiles[0].centres, mean, error)


def absolute(profile: FreeEnergy) -> FreeEnergy:
    """The profile shifted so that its probabilities add up to 1."""
    p = np.nansum(np.exp(-profile.free_energy / alanine.KT))
    shifted = profile.free_energy + alanine.KT * np.log(p)
    return FreeEnergy(profile.variables, profile.centres, shifted, profile.error)


def profile_record(first: FreeEnergy, second: FreeEnergy) -> dict[str, Any]:
    """Both profiles joined bin by bin, the minimum at zero."""
    bins = []
    for values in zip(
        first.free_energy, first.error, second.free_energy, second.error, strict=True
    ):
        pairs = [Estimate(*values[i : i + 2]) for i in (0, 2)]
        good = [pair for pair in pairs if np.isfinite(pair).all() and pair.error > 0]
        bins.append(joined(good) if good else Estimate(np.nan, np.nan))
    both = np.array(bins)
    zero = np.nanmin(both[:, 0])
    difference = np.abs(first.free_energy - second.free_energy)
    low = both[:, 0] - zero < 30.0
    return {
        "centres": [round(float(c), 6) for c in first.centres[0]],
        "free_energy": numbers(both[:, 0] - zero),
        "error": numbers(both[:, 1]),
        "metadynamics": numbers(first.free_energy - zero),
        "umbrella": numbers(second.free_energy - zero),
        "largest_disagreement_below_30": round(float(np.nanmax(difference[low])), 2),
    }


def numbers(values: NDArray) -> list[float | None]:
    return [round(float(v), 3) if np.isfinite(v) else None for v in values]


def record(estimate: Estimate) -> dict[str, float]:
    return {"value": round(estimate.value, 3), "error": round(estimate.error, 3)}


def usable_windows(folder: Path) -> tuple[Runs, list[int]]:
    """Windows of either start with their counts, and the numbers of those left out of both."""
    found = {name: windows(folder, name) for name in umbrella.STARTS}
    left_out = two_state_windows([runs for runs, _ in found.values()])
    usable = {
        name: ([w for i, w in enumerate(runs) if i not in left_out], counts)
        for name, (runs, counts) in found.items()
    }
    return usable, left_out


def umbrella_record(
    by_start: Runs, every: list[BiasedFrames], left_out: list[int]
) -> dict[str, Any]:
    """Halves of the windows, the basin from either start, and the centres left out [degrees]."""
    halves = convergence(
        every, lambda s: basin_difference(s, in_basin).value, (0.5,), max_samples=500_000
    )
    return {
        "centres_left_out": np.degrees(umbrella.centres()[left_out]).round().tolist(),
        "halves": [round(float(halves.forward[0]), 2), round(float(halves.backward[0]), 2)],
        **{
            f"from {name}": record(basin_difference(joined_windows(runs), in_basin)) | counts
            for name, (runs, counts) in by_start.items()
        },
    }


def reference_record(metadynamics: Path, umbrella_folder: Path) -> dict[str, Any]:
    """All of reference.json."""
    samples, flipped = walkers(metadynamics)
    by_start, left_out = usable_windows(umbrella_folder)
    every = [window for runs, _ in by_start.values() for window in runs]
    both = joined_windows(every)
    methods = {"metadynamics": over_walkers(samples), "umbrella": basin_difference(both, in_basin)}
    return {
        "system": "alanine dipeptide (ACE-ALA-NME) in vacuum, AMBER ff96, HBonds constraints, "
        "LangevinMiddle 300 K 1/ps 2 fs; L-alanine, trans amides",
        "temperature": alanine.TEMPERATURE,
        "basin": {"cv": "phi", "lower": alanine.BASIN[0], "upper": alanine.BASIN[1]},
        "delta_f": record(joined(list(methods.values()))),
        "methods": {name: record(estimate) for name, estimate in methods.items()},
        "metadynamics": {
            "walkers": [record(basin_difference(s, in_basin)) for s in samples],
            "flipped_frames": flipped,
        },
        "umbrella": umbrella_record(by_start, every, left_out),
        "profiles": {
            v.name: profile_record(
                mean_profile(samples, v.name), absolute(free_energy_profile(both, v.name, BINS))
            )
            for v in VARIABLES
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("metadynamics", type=Path)
    parser.add_argument("umbrella", type=Path)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("reference.json"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    result = reference_record(arguments.metadynamics, arguments.umbrella)
    arguments.json.write_text(json.dumps(result) + "\n")
    brief = {key: value for key, value in result.items() if key != "profiles"}
    logging.info("%s", json.dumps(brief, indent=1))


if __name__ == "__main__":
    main()
