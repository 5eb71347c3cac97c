"""What makes a free energy doubtful, in words: gaps, short windows, weights of a few frames."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.free_energy.bootstrap import BLOCK_INEFFICIENCIES, LEAST_BLOCKS
from openmm_cgan.free_energy.overlap import weakest_link
from openmm_cgan.free_energy.pareto import LARGEST_K, LIGHT_K
from openmm_cgan.free_energy.samples import BiasedFrames, WeightedSamples, titles_of

logger = logging.getLogger("openmm_cgan")

LEAST_OVERLAP = 0.03  # Klimovich, Shirts, Mobley, doi 10.1007/s10822-015-9840-9
LEAST_INDEPENDENT = 10  # frames of a window, below which its mean is hardly known
LEAST_EFFECTIVE = 100.0  # samples: fewer, and neither a free energy nor its error is trustworthy
LEAST_FORGOTTEN = LEAST_BLOCKS * BLOCK_INEFFICIENCIES  # fewer blocks tell no error
HALVES_AGREE = 2.0  # standard errors by which the halves of a run may differ
LARGEST_SHARE = 0.5  # of all weight, in one frame


def listed(names: Sequence[str]) -> str:
    """The first five of some names."""
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def warn_of_gaps(overlap: NDArray, parts: NDArray, names: list[str]) -> None:
    """Say which windows overlap little, or with no others.

    Parameters
    ----------
    overlap : ndarray, shape (n_states, n_states)
        From `overlap_matrix`.
    parts : ndarray of int, shape (n_states,)
        From `connected_parts`.
    names : list of str
        Of the states.
    """
    least, group = weakest_link(overlap)
    if least < LEAST_OVERLAP:
        logger.warning(
            "%d of %d windows (%s) overlap with the others by %.2g only, less than %g: the free "
            "energy between them is a guess; add windows there or soften the restraints",
            len(group), len(overlap), listed([names[i] for i in group]), least, LEAST_OVERLAP,
        )  # fmt: skip
    if parts.max() > 0:
        members = [[n for n, p in zip(names, parts, strict=True) if p == part]
                   for part in range(parts.max() + 1)]  # fmt: skip
        logger.warning(
            "nothing joins %d parts of the windows: %s. Free energies across these gaps have "
            "infinite errors; inside each part they hold",
            len(members), " | ".join(listed(part) for part in members[:5])
            + (" | ..." if len(members) > 5 else ""),
        )  # fmt: skip


def warn_of_slow_windows(
    windows: Sequence[BiasedFrames], inefficiencies: NDArray, states: NDArray[np.int64]
) -> None:
    """Say which windows are short for how slowly they move, runs of one state together."""
    independent = np.bincount(states, np.array([len(w.cvs) for w in windows]) / inefficiencies)
    slow = np.flatnonzero(independent[states] < LEAST_INDEPENDENT).tolist()
    if len(slow):
        titles = titles_of(windows)
        logger.warning(
            "%d of %d windows (%s) hold fewer than %d independent frames: they are short, or hop "
            "across a barrier that is steeper than the restraint; stiffen it or run longer",
            len(slow), len(windows), listed([titles[i] for i in slow]), LEAST_INDEPENDENT,
        )  # fmt: skip


def without_error(sizes: NDArray, parts: NDArray, names: Sequence[str]) -> NDArray[np.bool_]:
    """Which windows lie in a part where each has one frame: no bootstrap tells an error there.

    Parameters
    ----------
    sizes : ndarray of int, shape (n_windows,)
        Frames kept of each window.
    parts : ndarray of int, shape (n_windows,)
        Connected part of each.
    names : sequence of str
        Of the windows, for a warning.

    Returns
    -------
    ndarray of bool, shape (n_windows,)
    """
    most = np.array([sizes[parts == part].max() for part in range(parts.max() + 1)])
    alone = most[parts] < 2
    if alone.any():
        logger.warning(
            "%d of %d windows (%s) hold one frame each: there is no error bar; run them longer, "
            "or keep more of their frames",
            alone.sum(), len(sizes), listed([names[i] for i in np.flatnonzero(alone).tolist()]),
        )  # fmt: skip
    return alone


def warn_of_disagreement(names: Sequence[str]) -> None:
    """Say that runs do not tell the same, each of which should have reached everywhere."""
    logger.warning(
        "the %d runs (%s) differ by more than the error of each: not every one has reached "
        "everywhere, and how many frames each has decides what they tell together. Errors are of "
        "whole runs, and unknown where few of them say anything; run each longer",
        len(names), listed(names),
    )  # fmt: skip


def warn_of_one_frame(samples: WeightedSamples, names: Sequence[str]) -> None:
    """Say which frame carries most of the weight, where one does.

    Parameters
    ----------
    samples : WeightedSamples
    names : sequence of str
        Of the windows.
    """
    n = int(samples.log_weights.argmax())
    share = float(np.exp(samples.log_weights[n]))
    if share > LARGEST_SHARE and len(samples.log_weights) > 2:
        logger.warning(
            "frame %d (from 0) of %s carries %.0f %% of all weight: what is said of the whole is "
            "said by that frame; look at its energy and its CVs %s",
            samples.frame[n], names[samples.window[n]] or f"run {samples.window[n]}",
            100 * share, samples.cvs[n],
        )  # fmt: skip


def warn_of_heavy_weights(k_hat: float, what: str, remedy: str) -> None:
    """Say where the weights of what was weighed tell a number, but hardly its error."""
    if LIGHT_K < k_hat <= LARGEST_K:
        logger.warning(
            "the tail of the weights of %s has Pareto k %.2f, above %g: errors may be told too "
            "small. %s",
            what, k_hat, LIGHT_K, remedy,
        )  # fmt: skip


def why_unknown(
    k_hat: float, effective: float, what: str, independent: float = float("inf")
) -> str:
    """Why weights that differ tell no number, or nothing.

    Parameters
    ----------
    k_hat : float
        Pareto's k of the weights.
    effective : float
        Effective number of samples.
    what : str
        What was weighed, and how many.
    independent : float
        Where they are of runs in time, how often these have forgotten their CVs.
    """
    if np.isneginf(k_hat):
        return ""
    if k_hat > LARGEST_K or effective < LEAST_EFFECTIVE:
        return (
            f"the weights of {what} are dominated by a few: they are worth {effective:.0f} (at "
            f"least {LEAST_EFFECTIVE:.0f} are needed), and the tail of the weights has Pareto k "
            f"{k_hat:.2f} (at most {LARGEST_K})"
        )
    if independent < LEAST_FORGOTTEN:
        return (
            f"the CVs of {what} were forgotten {independent:.0f} times only in all that time (at "
            f"least {LEAST_FORGOTTEN} are needed for an error)"
        )
    return ""
