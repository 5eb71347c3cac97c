"""Diffusion maps of frames, with the weights of a biased run in the kernel.

With the kernel G_ij = exp(-d_ij^2 / 4 eps) and weights w_i of the frames (biased frames stand for
the unbiased ones by them, Rydzewski, Chen, Ghosh, Valsson, arXiv 2207.14554):

    q_i = sum_j G_ij w_j,    P_ij = G_ij w_j q_j^-alpha / sum_l G_il w_l q_l^-alpha

whose right eigenvectors psi_k are the coordinates. alpha = 1/2 gives those of overdamped Langevin
dynamics on the free energy, alpha = 1 those of the shape of the data alone, 0 those of the graph.
A further frame x is placed by Nystroem's formula, psi_k(x) = sum_j P_xj psi_kj / lambda_k, in which
the q of x itself cancels: a mean over the frames with weights that are a softmax.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import eigsh

from openmm_cgan.diffusion_maps.distances import SquareDistances, feature_distances
from openmm_cgan.diffusion_maps.groups import groups_of, joining_kernel, with_outliers
from openmm_cgan.diffusion_maps.kernels import Bandwidth, choose_bandwidth, gaussian_kernel
from openmm_cgan.diffusion_maps.landmarks import BLOCK, farthest_landmarks, weighted_landmarks
from openmm_cgan.plumed.input.expressions import namespace
from openmm_cgan.quantities import nanometers, number_of_steps
from openmm_cgan.short_reprs import short_repr

ROUNDING = 1e-12  # eigenvalues below are not known
FEW_EFFECTIVE = 10  # frames that weights are worth
LANDMARKS = ("farthest", "weighted")

log = logging.getLogger("openmm_cgan")


@dataclass(frozen=True)
class DiffusionMapSettings:
    """How a map is made.

    Attributes
    ----------
    n_coordinates : int
    alpha : float
        0 to 1: how much of the density is taken out.
    bandwidth : float, optional
        eps of exp(-d^2 / 4 eps) [unit of the distances squared]; by default `choose_bandwidth`,
        or what it takes to join all groups of frames, where that is more.
    max_landmarks : int
        Of more frames than these, so many stand for all.
    landmarks : {"farthest", "weighted"}
        Far from each other, so that rare frames count; or drawn by weight.
    seed : int
    """

    n_coordinates: int = 4
    alpha: float = 0.5
    bandwidth: float | None = None
    max_landmarks: int = 3000
    landmarks: str = "farthest"
    seed: int = 0

    def __post_init__(self) -> None:
        count = number_of_steps(self.n_coordinates, "n_coordinates", what="a whole number")
        object.__setattr__(self, "n_coordinates", count)
        least = count + 2
        number_of_steps(self.max_landmarks, "max_landmarks", least, "n_coordinates + 2 or more,")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; expected 0 to 1")
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise ValueError(f"the bandwidth is {self.bandwidth}; it must be positive")
        if self.landmarks not in LANDMARKS:
            raise ValueError(f"landmarks is '{self.landmarks}'; expected one of {LANDMARKS}")


@dataclass(frozen=True)
class DiffusionMap:
    """Coordinates of landmarks, and of any frame by Nystroem's formula.

    Attributes
    ----------
    landmarks : ndarray, shape (m, ...)
        Frames that stand for all.
    index : ndarray, shape (m,)
        Which frames they are.
    weights, counts : ndarray, shape (m,)
        The weight of the frames that each stands for, summing to 1, and how many they are.
    bandwidth : Bandwidth
    eigenvalues : ndarray, shape (n_coordinates,)
        Without the first, which is 1; descending.
    coordinates : ndarray, shape (m, n_coordinates)
        Of mean 0 and variance 1 over the stationary distribution of the diffusion; the largest of
        each in size is positive.
    log_masses : ndarray, shape (m,)
        log of w q^-alpha, up to a constant.
    square_distances : callable
    """

    landmarks: NDArray[np.float64]
    index: NDArray[np.int64]
    weights: NDArray[np.float64]
    counts: NDArray[np.int64]
    bandwidth: Bandwidth
    eigenvalues: NDArray[np.float64]
    coordinates: NDArray[np.float64]
    log_masses: NDArray[np.float64]
    square_distances: SquareDistances = feature_distances

    __repr__ = short_repr

    @property
    def gap(self) -> int:
        """Coordinates above the largest gap of the spectrum, in time scales -1/log lambda."""
        rates = -np.log(self.eigenvalues.clip(1e-300, 1 - 1e-15))
        return int(np.argmax(rates[1:] / rates[:-1])) + 1 if len(rates) > 1 else 1

    def extend(self, frames: Any) -> Any:
        """Coordinates of frames by Nystroem's formula.

        Parameters
        ----------
        frames : ndarray or tensor, shape (n, ...)
            As the landmarks; of tensors, differentiable.

        Returns
        -------
        ndarray or tensor, shape (n, n_coordinates)

        Raises
        ------
        ValueError
            If the frames have another shape than the landmarks.
        """
        frames = frames if namespace(frames) is not np else np.asarray(frames, dtype=float)
        if frames.shape[1:] != self.landmarks.shape[1:] or frames.ndim != self.landmarks.ndim:
            wanted = ("n", *self.landmarks.shape[1:])
            raise ValueError(
                f"frames of shape {tuple(frames.shape)}; expected ({', '.join(map(str, wanted))}) "
                "as those of the map"
            )
        if namespace(frames) is not np or len(frames) == 0:
            return self._extend(frames)
        step = max(1, BLOCK // len(self.landmarks))
        parts = [self._extend(frames[i : i + step]) for i in range(0, len(frames), step)]
        return np.concatenate(parts)

    def _extend(self, frames: Any) -> Any:
        xp = namespace(frames)
        square = self.square_distances(frames, xp.asarray(self.landmarks))
        exponents = xp.asarray(self.log_masses) - square / (4 * self.bandwidth.chosen)
        shares = xp.exp(exponents - xp.amax(exponents, -1)[:, None])
        steps = xp.asarray(self.coordinates / self.eigenvalues)
        return shares @ steps / shares.sum(-1)[:, None]

    def log_density(self, frames: Any) -> Any:
        """log of the kernel density of the frames that the map was made of, up to a constant.

        Parameters
        ----------
        frames : ndarray or tensor, shape (n, ...)

        Returns
        -------
        ndarray or tensor, shape (n,)
        """
        xp = namespace(frames)
        square = self.square_distances(frames, xp.asarray(self.landmarks))
        shares = xp.asarray(np.log(self.counts / self.counts.sum()))
        exponents = shares - square / (4 * self.bandwidth.chosen)
        largest = xp.amax(exponents, -1)
        return largest + xp.log(xp.exp(exponents - largest[:, None]).sum(-1))


def diffusion_map(
    frames: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
    settings: DiffusionMapSettings | None = None,
    *,
    square_distances: SquareDistances = feature_distances,
) -> DiffusionMap:
    """The diffusion map of some frames.

    Parameters
    ----------
    frames : ndarray, shape (n, n_features) or (n, n_atoms, 3)
        A table of features, each of a scale that is its own importance; or positions [nm].
    weights : ndarray, shape (n,), optional
        Of the frames of a biased run, exp(V / kT) up to a factor; by default equal.
    settings : DiffusionMapSettings, optional
    square_distances : callable
        `superposed_distances` for positions.

    Raises
    ------
    ValueError
        If frames or weights are not finite or do not fit, or there are too few frames.
    """
    settings = settings or DiffusionMapSettings()
    frames = nanometers(frames)
    if square_distances is feature_distances and frames.ndim != 2 and frames.size:
        raise ValueError(
            f"frames of shape {frames.shape}: feature_distances takes a table (n, n_features); of "
            "positions (n, n_atoms, 3) give square_distances=superposed_distances"
        )
    weights = _checked_weights(frames, weights)
    index, owner = _landmarks(frames, weights, settings, square_distances)
    if len(index) < settings.n_coordinates + 2:
        n = settings.n_coordinates
        raise ValueError(f"{len(index)} different frames are too few for {n} coordinates")
    landmarks = frames[index]
    shares = np.asarray(np.bincount(owner, weights, len(index)), dtype=float)
    counts: NDArray[np.int64] = np.bincount(owner, minlength=len(index))
    if settings.bandwidth is None:
        bandwidth = choose_bandwidth(landmarks, square_distances, seed=settings.seed)
    else:
        nothing = np.zeros(0)
        bandwidth = Bandwidth(settings.bandwidth, nothing, nothing, nothing)
    kernel = gaussian_kernel(landmarks, bandwidth.chosen, square_distances)
    if settings.bandwidth is None and groups_of(kernel) > 1:  # each would have its own map
        chosen, kernel = joining_kernel(landmarks, bandwidth.chosen, square_distances)
        bandwidth = replace(bandwidth, chosen=chosen)
    density = kernel @ shares
    masses = shares * density**-settings.alpha
    kernel, masses = with_outliers(kernel, masses, landmarks, square_distances)
    values, vectors = _slowest(kernel, masses, settings)
    if values[-1] < ROUNDING:
        raise ValueError(
            f"{int((values >= ROUNDING).sum())} coordinates are told from rounding, not "
            f"{settings.n_coordinates}: ask for fewer, give more different frames, or take a "
            f"smaller bandwidth than {bandwidth.chosen:.3g}"
        )
    return DiffusionMap(
        landmarks, index, shares, counts, bandwidth, values, vectors, np.log(masses),
        square_distances,
    )  # fmt: skip


def _checked_weights(
    frames: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Weights of the frames that sum to 1, none of them zero."""
    if frames.ndim < 2 or 0 in frames.shape:
        raise ValueError(f"frames of shape {frames.shape}; expected (n, n_features) or positions")
    bad = np.flatnonzero(~np.isfinite(frames.reshape(len(frames), -1)).all(axis=1))
    if len(bad):
        raise ValueError(f"frame {bad[0]} has numbers that are not finite ({len(bad)} have)")
    if weights is None:
        return np.full(len(frames), 1 / len(frames))
    weights = np.asarray(weights, dtype=float)
    if weights.shape != (len(frames),):
        raise ValueError(f"weights of shape {weights.shape} for {len(frames)} frames")
    if not np.isfinite(weights).all() or np.any(weights < 0) or not np.any(weights > 0):
        raise ValueError("weights must be finite and not negative, and not all zero")
    effective = weights.sum() ** 2 / (weights**2).sum()
    if effective < FEW_EFFECTIVE:
        log.warning(
            "the weights of %d frames are worth %.1f frames: the coordinates are those of a few",
            *(len(frames), effective),
        )
    # a landmark without weight has no coordinate: none is lighter than rounding leaves it
    return np.maximum(weights / weights.sum(), np.finfo(float).tiny ** 0.25 / len(weights))


def _landmarks(
    frames: NDArray[np.float64],
    weights: NDArray[np.float64],
    settings: DiffusionMapSettings,
    square_distances: SquareDistances,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the frames that stand for all, and for each frame which of them it is with."""
    if len(frames) <= settings.max_landmarks:
        return np.arange(len(frames)), np.arange(len(frames))
    if settings.landmarks == "weighted":
        return weighted_landmarks(
            frames, weights, settings.max_landmarks, square_distances, settings.seed
        )
    first = int(np.argmax(weights))
    return farthest_landmarks(frames, settings.max_landmarks, square_distances, first)


def _slowest(
    kernel: Any, masses: NDArray[np.float64], settings: DiffusionMapSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues and right eigenvectors of the diffusion, the constant one left out.

    Parameters
    ----------
    kernel : ndarray or csr_array, shape (m, m)
    masses : ndarray, shape (m,)
        w q^-alpha
    settings : DiffusionMapSettings
    """
    if (n_groups := groups_of(kernel)) > 1:
        log.warning(
            "the frames fall into %d groups with no neighbours between them: the first %d "
            "coordinates tell the groups apart and no more; take a larger bandwidth or more frames",
            *(n_groups, n_groups - 1),
        )
    degrees = kernel @ masses  # rows of the kernel times masses sum to these
    scale = np.sqrt(masses / degrees)
    if sparse.issparse(kernel):
        symmetric = sparse.diags_array(scale) @ kernel @ sparse.diags_array(scale)
    else:
        symmetric = scale[:, None] * kernel * scale
    start = np.random.default_rng(settings.seed).normal(size=len(masses))
    n = min(settings.n_coordinates + 1, len(masses) - 1)
    values, vectors = eigsh(symmetric, k=n, which="LA", v0=start)
    values, vectors = values[::-1][1:], vectors[:, ::-1][:, 1:]
    right = vectors / np.sqrt(masses * degrees)[:, None]
    stationary = masses * degrees / np.sum(masses * degrees)
    right = right - stationary @ right
    right = right / np.sqrt(stationary @ right**2)
    largest = np.abs(right).argmax(axis=0)
    return values, right * np.sign(right[largest, np.arange(right.shape[1])])


def independent_coordinates(coordinates: NDArray[np.float64], n_frames: int = 1000) -> NDArray:
    """How much of each coordinate is no function of those before it, shape (n_coordinates,).

    The residual of a local linear regression (Dsilva, Talmon, Coifman, Kevrekidis, doi
    10.1016/j.acha.2015.06.008), 1 for the first; it is small for a harmonic of an earlier one.

    Parameters
    ----------
    coordinates : ndarray, shape (n, n_coordinates)
    n_frames : int
        Of which at most so many are looked at, evenly spread.
    """
    some = coordinates[:: max(1, -(-len(coordinates) // n_frames))]
    found = np.ones(coordinates.shape[1])
    for k in range(1, coordinates.shape[1]):
        before, target = some[:, :k], some[:, k]
        square = feature_distances(before, before)
        scale = (np.median(np.sqrt(square)) / 3) ** 2
        left = np.ones(len(some))
        design = np.column_stack([np.ones(len(some)), before])
        for i in range(len(some)):
            near = np.exp(-square[i] / scale)
            near[i] = 0.0
            normal = (design * near[:, None]).T @ design
            fit = np.linalg.lstsq(normal, (design * near[:, None]).T @ target, rcond=None)[0]
            left[i] = target[i] - design[i] @ fit
        found[k] = np.sqrt(np.sum(left**2) / np.sum(target**2))
    return found
