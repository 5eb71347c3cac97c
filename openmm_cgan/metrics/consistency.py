"""Micro-macro consistency: is restriction(lifting(z)) z, and is the law that of p(x | z)?

Of a generator's configurations at xi = z, the CVs must be z, and everything else must be
distributed as biased simulation has it there. Frames near z are not at z; so the generator is asked
at the CVs of the frames themselves, one configuration for each, and what is compared has the same
CVs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from openmm_cgan.frames import Frames
from openmm_cgan.metrics.coordinates import pair_distances
from openmm_cgan.metrics.distances import energy_distance

Lifting = Callable[[NDArray, int], NDArray]  # CVs (n, k) and a seed to positions (n, n_atoms, 3)
Function = Callable[[NDArray], NDArray]  # of positions (n, n_atoms, 3)


@dataclass(frozen=True)
class MicroMacroConsistency:
    """How a generator's configurations agree with frames, at values of the CVs.

    Attributes
    ----------
    at : ndarray, shape (m, k)
        Values of the CVs [CV unit].
    offset : ndarray, shape (m, k)
        Root mean square of restriction(lifting(z)) - z [CV unit].
    distance : ndarray, shape (m,)
        Energy distance of generated configurations to as many frames of the same CVs.
    floor : ndarray, shape (m,)
        The same between two halves of these frames; 0 as often as not.
    n_frames : int
        In each half.
    """

    at: NDArray[np.float64]
    offset: NDArray[np.float64]
    distance: NDArray[np.float64]
    floor: NDArray[np.float64]
    n_frames: int

    @property
    def ratio(self) -> float:
        """Root mean square distance over that of the floor: 1 where nothing tells them apart."""
        floor = np.sqrt((self.floor**2).mean())
        return float(np.sqrt((self.distance**2).mean()) / floor) if floor > 0 else float("inf")

    def __str__(self) -> str:
        offsets = ", ".join(f"{x:.3g}" for x in np.sqrt((self.offset**2).mean(0)))
        return (
            f"restriction(lifting(z)) - z: {offsets} root mean square; law of generated "
            f"configurations {self.ratio:.2f} times its floor over {len(self.at)} values of the CVs"
        )


def micro_macro_consistency(
    lifting: Lifting,
    restriction: Function,
    frames: Frames,
    at: ArrayLike,
    *,
    n_frames: int = 500,
    coordinates: Function | None = None,
    seed: int = 0,
) -> MicroMacroConsistency:
    """Compare what a generator makes with frames near values of the CVs.

    Parameters
    ----------
    lifting : callable
        CVs (n, k) and a seed to positions (n, n_atoms, 3) [nm], such as
        ``lambda z, seed: generator.sample(z, seed=seed)``.
    restriction : callable
        Positions (n, n_atoms, 3) to CVs (n, k), such as `PlumedBias.cv_values`.
    frames : Frames
        Of biased runs: the bias acts on the CVs alone, which does not change p(x | z).
    at : array_like, shape (m, k) or (m,)
        Values of the CVs [CV unit].
    n_frames : int
        In each half: twice as many frames nearest to each value are taken.
    coordinates : callable, optional
        Positions to what is compared (n, d) [one unit]; distances of all pairs of atoms if omitted.
    seed : int

    Returns
    -------
    MicroMacroConsistency

    Raises
    ------
    ValueError
        If shapes do not fit, or there are too few frames.
    """
    at = np.asarray(at, dtype=float)
    at = at[:, None] if at.ndim == 1 else at
    if at.ndim != 2 or at.shape[1] != len(frames.variables) or len(at) == 0:
        raise ValueError(
            f"values of the CVs have shape {at.shape}; expected (m, {len(frames.variables)})"
        )
    if n_frames < 2 or len(frames) < 2 * n_frames:
        raise ValueError(f"{len(frames)} frames; expected two halves of {n_frames}, 2 or more each")
    described = coordinates or pair_distances
    rng = np.random.default_rng(seed)
    rows = []
    for z in tqdm(at, desc="laws at CV values", disable=None, leave=False):
        near = rng.permutation(_nearest(frames, z, 2 * n_frames))
        rows.append(_at_one(lifting, restriction, frames.select(near), described, rng))
    offset, distance, floor = (np.array(column) for column in zip(*rows, strict=True))
    return MicroMacroConsistency(at, offset, distance, floor, n_frames)


def _at_one(
    lifting: Lifting,
    restriction: Function,
    near: Frames,
    described: Function,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], float, float]:
    first, second = np.arange(len(near)).reshape(2, -1)
    asked = near.cvs[first]
    made = np.asarray(lifting(asked, int(rng.integers(1, 2**31 - 1))), dtype=float)
    if made.shape != near.positions[first].shape:
        raise ValueError(
            f"lifting gives positions of shape {made.shape}; expected "
            f"{near.positions[first].shape}, the atoms of the frames"
        )
    got = np.asarray(restriction(made), dtype=float).reshape(asked.shape)
    off = np.column_stack(
        [v.difference(asked[:, i], got[:, i]) for i, v in enumerate(near.variables)]
    )
    ours = described(made)
    halves = [described(near.positions[half].astype(float)) for half in (first, second)]
    return (
        np.sqrt((off**2).mean(0)),
        energy_distance(ours, halves[0]),
        energy_distance(halves[1], halves[0]),
    )


def _nearest(frames: Frames, z: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Numbers of the frames nearest to a value, in standard deviations of each CV."""
    off = np.column_stack(
        [v.difference(z[i], frames.cvs[:, i]) for i, v in enumerate(frames.variables)]
    )
    scale = np.maximum(off.std(0), 1e-12)
    return np.argpartition(((off / scale) ** 2).sum(1), n - 1)[:n]
