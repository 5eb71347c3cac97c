"""How good a generator is: numbers between generated frames and those of molecular dynamics (MD).

Every distance means little alone. Each is therefore given with its floor, the same distance
between two halves of the MD itself: a generator at the floor cannot be told from more MD.
Coordinates here are plain arrays (n_frames, n_coordinates): torsions, bonds, pair distances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist, jensenshannon
from scipy.special import ndtri
from scipy.stats import rankdata

from openmm_cgan.proposals.weights import kish_effective_sample_size

Domain = tuple[float, float]


def jensen_shannon_distance(
    first: ArrayLike, second: ArrayLike, domain: Domain | None = None, bins: int = 100
) -> float:
    """Jensen-Shannon distance between the histograms of two samples of one coordinate.

    The square root of the divergence, natural logarithm: 0 for equal histograms,
    sqrt(ln 2) = 0.833 where they do not overlap [1]_.

    Parameters
    ----------
    first, second : array_like, shapes (n,) and (m,)
        The samples [any unit].
    domain : (float, float), optional
        Ends of the histogram, default the common range; give a periodic coordinate its domain.
    bins : int
        Number of equal bins.

    Returns
    -------
    float
        The distance, from 0 to 0.833.

    Raises
    ------
    ValueError
        If a sample is empty, not finite, or outside the domain.

    References
    ----------
    .. [1] D. M. Endres, J. E. Schindelin, IEEE Trans. Inf. Theory 49, 1858 (2003),
       doi 10.1109/TIT.2003.813506.

    Examples
    --------
    >>> jensen_shannon_distance([0.1, 0.2], [0.1, 0.2], bins=4)
    0.0
    >>> round(jensen_shannon_distance([0.1, 0.2], [0.8, 0.9], bins=4), 4)
    0.8326
    """
    first, second = _one_coordinate(first, "first"), _one_coordinate(second, "second")
    joined = np.concatenate([first, second])
    low, high = domain if domain is not None else (joined.min(), joined.max())
    if joined.min() < low or joined.max() > high:
        raise ValueError(
            f"values from {joined.min():.4g} to {joined.max():.4g} leave the domain "
            f"({low:.4g}, {high:.4g}): wrap a periodic coordinate into its domain first"
        )
    edges = np.linspace(low, high, bins + 1) if high > low else np.array([low - 0.5, low + 0.5])
    counts = [np.histogram(sample, edges)[0] for sample in (first, second)]
    # scipy takes the root of a divergence that rounding may have made -1e-17
    divergence_root = jensenshannon(counts[0], counts[1])
    return float(np.nan_to_num(divergence_root))


@dataclass(frozen=True)
class MarginalDistances:
    """Jensen-Shannon distances per coordinate.

    Attributes
    ----------
    distance : ndarray, shape (n_coordinates,)
        Generated frames against MD.
    floor : ndarray, shape (n_coordinates,)
        One half of the MD against the other, samples of the same size.
    """

    distance: NDArray[np.float64]
    floor: NDArray[np.float64]


def marginal_distances(
    generated: ArrayLike, md: ArrayLike, domain: Domain | None = None, bins: int = 100
) -> MarginalDistances:
    """Compare the distribution of each coordinate with MD, and MD with itself.

    The histogram of a small sample is noisy and noise counts as distance, so all samples are cut
    to one size: that of half of the MD, or of the generated frames where these are fewer. The
    halves are the first and the second in time, which also shows what the MD has not yet sampled.

    Parameters
    ----------
    generated : array_like, shape (n, n_coordinates)
        Coordinates of generated frames, asked for at the CV values of the MD frames.
    md : array_like, shape (m, n_coordinates)
        The same coordinates of MD frames, in their order in time.
    domain : (float, float), optional
        Common to all coordinates, (-pi, pi) for torsions; default: the range of each.
    bins : int
        Number of equal bins.

    Returns
    -------
    MarginalDistances
        Distances and their floors.

    Raises
    ------
    ValueError
        If the numbers of coordinates differ or there are fewer than two MD frames.
    """
    generated, md = _table(generated, "generated"), _table(md, "md")
    _same_coordinates(generated, md)
    half = len(md) // 2
    size = min(half, len(generated))
    if size == 0:
        raise ValueError(f"got {len(generated)} generated and {len(md)} MD frames: too few")
    early, late = _thinned(md[:half], size), _thinned(md[half : 2 * half], size)
    sample = _thinned(generated, size)

    def distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array(
            [jensen_shannon_distance(x, y, domain, bins) for x, y in zip(a.T, b.T, strict=True)]
        )

    return MarginalDistances(
        distance=(distances(sample, early) + distances(sample, late)) / 2,
        floor=distances(early, late),
    )


@dataclass(frozen=True)
class RegionSizes:
    """Effective sample sizes in the cells of a grid over CVs.

    Attributes
    ----------
    share : ndarray, shape (bins, bins, ...)
        Kish's effective sample size over the number of configurations, NaN where there are none.
    counts : ndarray of int, shape (bins, bins, ...)
        Configurations, those of weight zero included.
    edges : list of ndarray, shape (bins + 1,)
        Of the cells along each CV [CV units].
    """

    share: NDArray[np.float64]
    counts: NDArray[np.int64]
    edges: list[NDArray[np.float64]]


def effective_sample_sizes(
    cvs: ArrayLike, log_weights: ArrayLike, cv_range: ArrayLike, bins: int = 12
) -> RegionSizes:
    """Kish effective sample size per configuration, region by region of the CVs.

    Where it is small the generator is poor: train on frames from there.

    Parameters
    ----------
    cvs : array_like, shape (n, n_cvs)
        CVs of weighted configurations, for instance ``reporter.weighed_candidates()``; those
        outside the range are left out.
    log_weights : array_like, shape (n,)
        -inf is weight zero.
    cv_range : array_like, shape (n_cvs, 2)
    bins : int
        Cells along each CV.

    Returns
    -------
    RegionSizes

    Examples
    --------
    >>> sizes = effective_sample_sizes([[0.1], [0.2], [0.7]], [0.0, -np.inf, 3.0], [[0, 1]], bins=2)
    >>> sizes.share
    array([0.5, 1. ])
    """
    cvs, logs = _table(cvs, "cvs"), np.asarray(log_weights, dtype=float)
    if logs.shape != (len(cvs),):
        raise ValueError(f"log_weights has shape {logs.shape}, expected ({len(cvs)},)")
    low, high = np.asarray(cv_range, dtype=float).T
    edges = [np.linspace(a, b, bins + 1) for a, b in zip(low, high, strict=True)]
    inside = ((cvs >= low) & (cvs <= high)).all(axis=1)
    places = np.minimum((bins * (cvs[inside] - low) / (high - low)).astype(int), bins - 1)
    shape = (bins,) * len(low)
    cells = np.ravel_multi_index(tuple(places.T), shape)
    counts = np.bincount(cells, minlength=bins ** len(low))
    share = np.full(len(counts), np.nan)
    order = np.argsort(cells, kind="stable")
    for part in np.split(order, np.cumsum(counts)[:-1]):
        if len(part):
            size = kish_effective_sample_size(logs[inside][part])
            share[cells[part[0]]] = size / len(part)
    return RegionSizes(share.reshape(shape), counts.reshape(shape), edges)


def r_hat(runs: Sequence[ArrayLike], domain: Domain | None = None) -> float:
    """Rank-normalised split R-hat: whether runs from different starts have come together.

    The larger of R-hat of the values and of their distances from the median [1]_, each run split
    into halves. Below 1.01 the runs cannot be told apart; far above, they sample different places,
    and their averages are not yet those of the system.

    Parameters
    ----------
    runs : sequence of array_like, shapes (n_i,)
        One coordinate (a CV, say) in runs or segments started in different basins, in their order
        in time. Longer ones are thinned to the shortest.
    domain : (float, float), optional
        Of a periodic coordinate: the largest R-hat of its cosine and sine is given.

    Returns
    -------
    float
        1 for equal distributions; infinite where no run varies and they differ.

    Raises
    ------
    ValueError
        If there are fewer than 4 values in a run, or they are not finite.

    References
    ----------
    .. [1] A. Vehtari, A. Gelman, D. Simpson, B. Carpenter, P.-C. Buerkner, Bayesian Anal. 16, 667
       (2021), doi 10.1214/20-BA1221.

    Examples
    --------
    >>> left, right = np.sin(np.arange(200.0)), np.sin(np.arange(100.0)) + 9
    >>> bool(r_hat([left, left]) < 1.02), bool(r_hat([left, right]) > 1.5)
    (True, True)
    """
    samples = [_one_coordinate(run, f"run {k}") for k, run in enumerate(runs)]
    shortest = min((len(sample) for sample in samples), default=0)
    if shortest < 4:
        raise ValueError(f"the shortest of {len(samples)} runs has {shortest} values, 4 are needed")
    half = shortest // 2
    halves = np.stack([_thinned(s, 2 * half).reshape(2, half) for s in samples]).reshape(-1, half)
    if domain is not None:
        angles = 2 * np.pi * (halves - domain[0]) / (domain[1] - domain[0])
        return max(_largest_r_hat(np.cos(angles)), _largest_r_hat(np.sin(angles)))
    return _largest_r_hat(halves)


def _largest_r_hat(chains: NDArray[np.float64]) -> float:
    """R-hat of values and of distances from the median, ranks made normal; (n_chains, n)."""
    found = []
    for values in (chains, np.abs(chains - np.median(chains))):
        ranks = rankdata(values).reshape(values.shape)
        normal = ndtri((ranks - 3 / 8) / (values.size + 1 / 4))
        within, n = normal.var(axis=1, ddof=1).mean(), values.shape[1]
        between = normal.mean(axis=1).var(ddof=1)
        if within > 0:
            found.append(np.sqrt((n - 1) / n + between / within))
        else:
            found.append(np.inf if between > 0 else 1.0)
    return float(max(found))


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training frame.

    Attributes
    ----------
    generated, held_out : float
        Medians for generated frames and for MD frames left out of training.
    ratio : float
        generated / held_out: near 1 is right, far below 1 the generator copies, far above it errs.
    copies : float
        Share of generated frames nearer to a training frame than 99 % of the held-out frames are;
        0.01 is expected of more MD.
    """

    generated: float
    held_out: float
    ratio: float
    copies: float


def memorisation(generated: ArrayLike, training: ArrayLike, held_out: ArrayLike) -> Memorisation:
    """Check whether a generator repeats its training frames.

    Parameters
    ----------
    generated, training, held_out : array_like, shapes (n, d), (m, d), (k, d)
        Coordinates without periodicity: pair distances, or cosines and sines of torsions.
        Held-out frames must be independent of the training frames: another stretch of time.

    Returns
    -------
    Memorisation
        Medians, their ratio and the share of copies.

    Raises
    ------
    ValueError
        If an array is empty or the numbers of coordinates differ.
    """
    generated = _table(generated, "generated")
    training, held_out = _table(training, "training"), _table(held_out, "held_out")
    _same_coordinates(generated, training)
    _same_coordinates(held_out, training)
    tree = cKDTree(training)
    from_generated, from_held_out = tree.query(generated)[0], tree.query(held_out)[0]
    medians = float(np.median(from_generated)), float(np.median(from_held_out))
    return Memorisation(
        generated=medians[0],
        held_out=medians[1],
        ratio=medians[0] / medians[1] if medians[1] > 0 else np.inf,
        copies=float(np.mean(from_generated < np.quantile(from_held_out, 0.01))),
    )


def energy_distance(
    first: ArrayLike, second: ArrayLike, max_frames: int = 2000, seed: int = 0
) -> float:
    """Energy distance between two samples in many dimensions.

    sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|), zero only for equal distributions [1]_. The means
    are over distinct frames, so that the square is zero on average for equal distributions; a
    negative square is given as 0.

    Parameters
    ----------
    first, second : array_like, shapes (n, d) and (m, d)
        The samples [one unit for all coordinates].
    max_frames : int
        Larger samples are cut to this many frames, drawn at random: the cost is quadratic.
    seed : int
        Of that draw.

    Returns
    -------
    float
        The distance [square root of the unit].

    Raises
    ------
    ValueError
        If a sample has fewer than two frames or the numbers of coordinates differ.

    References
    ----------
    .. [1] G. J. Székely, M. L. Rizzo, J. Stat. Plan. Inference 143, 1249 (2013),
       doi 10.1016/j.jspi.2013.03.018.
    """
    rng = np.random.default_rng(seed)
    samples = []
    for table, name in ((_table(first, "first"), "first"), (_table(second, "second"), "second")):
        if len(table) < 2:
            raise ValueError(f"{name} has {len(table)} frames; at least 2 are needed")
        chosen = rng.choice(len(table), min(len(table), max_frames), replace=False)
        samples.append(table[chosen])
    x, y = samples
    _same_coordinates(x, y)
    within = [cdist(s, s).sum() / (len(s) * (len(s) - 1)) for s in samples]
    square = 2 * cdist(x, y).mean() - within[0] - within[1]
    return float(np.sqrt(max(square, 0.0)))


def pair_distances(positions: ArrayLike) -> NDArray[np.float64]:
    """Distances between all pairs of atoms: coordinates that do not turn with the molecule.

    Parameters
    ----------
    positions : array_like, shape (n_frames, n_atoms, 3)
        Positions of one whole molecule [nm].

    Returns
    -------
    ndarray, shape (n_frames, n_atoms (n_atoms - 1) / 2)
        Distances [nm].
    """
    positions = np.asarray(positions, dtype=float)
    first, second = np.triu_indices(positions.shape[1], k=1)
    return np.linalg.norm(positions[:, first] - positions[:, second], axis=-1)


def _thinned(frames: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Exactly ``size`` frames, evenly spaced in time."""
    return frames[np.arange(size) * len(frames) // size]


def _one_coordinate(sample: ArrayLike, name: str) -> NDArray[np.float64]:
    sample = np.asarray(sample, dtype=float)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"{name} has shape {sample.shape}: expected (n,) finite values, n > 0")
    return sample


def _table(frames: ArrayLike, name: str) -> NDArray[np.float64]:
    frames = np.asarray(frames, dtype=float)
    if frames.ndim != 2 or len(frames) == 0 or not np.isfinite(frames).all():
        raise ValueError(
            f"{name} has shape {frames.shape}: expected (n_frames, n_coordinates) finite values"
        )
    return frames


def _same_coordinates(first: NDArray[np.float64], second: NDArray[np.float64]) -> None:
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{first.shape[1]} coordinates cannot be compared with {second.shape[1]}")
