"""How far generated frames are from those of molecular dynamics (MD), and from a copy of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmm_cgan.metrics.coordinates import (
    Domain,
    coordinate_table,
    one_coordinate,
    require_same_coordinates,
    thinned,
)
from openmm_cgan.short_reprs import short_repr


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
    from scipy.spatial.distance import jensenshannon  # 0.4 s, here and below

    first, second = one_coordinate(first, "first"), one_coordinate(second, "second")
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


@dataclass(frozen=True, repr=False)
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

    __repr__ = short_repr


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
    generated, md = coordinate_table(generated, "generated"), coordinate_table(md, "md")
    require_same_coordinates(generated, md)
    half = len(md) // 2
    size = min(half, len(generated))
    if size == 0:
        raise ValueError(f"got {len(generated)} generated and {len(md)} MD frames: too few")
    early, late = thinned(md[:half], size), thinned(md[half : 2 * half], size)
    sample = thinned(generated, size)

    def distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array(
            [jensen_shannon_distance(x, y, domain, bins) for x, y in zip(a.T, b.T, strict=True)]
        )

    return MarginalDistances(
        distance=(distances(sample, early) + distances(sample, late)) / 2,
        floor=distances(early, late),
    )


@dataclass(frozen=True, repr=False)
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

    __repr__ = short_repr


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
    from scipy.spatial import cKDTree

    generated = coordinate_table(generated, "generated")
    training, held_out = (
        coordinate_table(training, "training"),
        coordinate_table(held_out, "held_out"),
    )
    require_same_coordinates(generated, training)
    require_same_coordinates(held_out, training)
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

    ``sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|)``, zero only for equal distributions [1]_. The means
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
    from scipy.spatial.distance import cdist

    rng = np.random.default_rng(seed)
    samples = []
    for table, name in (
        (coordinate_table(first, "first"), "first"),
        (coordinate_table(second, "second"), "second"),
    ):
        if len(table) < 2:
            raise ValueError(f"{name} has {len(table)} frames; at least 2 are needed")
        chosen = rng.choice(len(table), min(len(table), max_frames), replace=False)
        samples.append(table[chosen])
    x, y = samples
    require_same_coordinates(x, y)
    within = [cdist(s, s).sum() / (len(s) * (len(s) - 1)) for s in samples]
    square = 2 * cdist(x, y).mean() - within[0] - within[1]
    return float(np.sqrt(max(square, 0.0)))
