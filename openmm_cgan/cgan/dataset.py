"""From frames to what a generator is trained on: checked, scaled, blurred, weighted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openmm_cgan.cgan.training import TrainingData, TrainingSettings
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import Features
from openmm_cgan.frames import Frames, topology_hash
from openmm_cgan.generators import KINDS
from openmm_cgan.internal_coordinates import Internal, ZMatrix
from openmm_cgan.rotors import Rotor, exchange_hydrogens, find_rotors

CHUNK = 2048  # frames turned into internal coordinates at a time
LEAST_FRAMES = 20
# Fewer frames are taken several times, each time with other hydrogens exchanged: of 13,500 frames
# of a peptide with 7 methyl groups a flow learned the pattern of their hydrogens by heart.
ENOUGH, MOST_COPIES = 100_000, 8
BROKEN = 0.6  # nm: a longer bond means a molecule cut by the periodic boundary
DISAGREE = 1e-3  # rad or nm: between a CV of the frames and the same one of their positions


@dataclass(frozen=True, eq=False)
class Dataset:
    """The rows of a training, and how they were made.

    Attributes
    ----------
    features : Features
        Scaling of the internal coordinates.
    rows : TrainingData
    condition_noise : ndarray, shape (n_cvs,)
        Standard deviation by which each condition was blurred [CV units].
    cv_range : ndarray, shape (n_cvs, 2)
        Lowest and highest CV values.
    folds : list of int
        Symmetry of each torsion that turns: 3 for rotors whose hydrogens were exchanged.
    """

    features: Features
    rows: TrainingData
    condition_noise: np.ndarray
    cv_range: np.ndarray
    folds: list[int]

    @classmethod
    def prepare(cls, frames: Frames, topology: Any, settings: TrainingSettings) -> "Dataset":
        """Make the rows of frames.

        Raises
        ------
        ValueError
            If there are too few frames or no CVs, or frames and topology do not belong together.
        """
        _check_frames(frames, topology_hash(topology))
        rng = np.random.default_rng(settings.seed)
        if len(frames) > settings.max_frames:
            frames = frames.select(np.sort(rng.permutation(len(frames))[: settings.max_frames]))
        rotors: list[Rotor] = []
        copies = 1
        if settings.symmetrise:
            told_apart = {a for variable in frames.variables for a in variable.atoms}
            rotors = find_rotors(topology, frames.atoms.tolist(), told_apart)
            if rotors:
                copies = int(np.clip(ENOUGH // len(frames), 1, min(MOST_COPIES, 3 ** len(rotors))))
            frames = Frames.concatenate([frames] * copies)
            exchanged = exchange_hydrogens(frames.positions, rotors, rng)
            frames = replace(frames, positions=exchanged)
        features, encoded = _features_of(frames, topology)
        noise = _condition_noise(features, settings)
        blurred = frames.cvs + noise * rng.standard_normal(frames.cvs.shape)
        condition = features.condition(torch.from_numpy(blurred))
        weights = torch.from_numpy(flat_weights(frames.cvs, frames.variables, settings.flatten))
        cv_range = np.stack([frames.cvs.min(0), frames.cvs.max(0)], axis=1)
        cvs = torch.from_numpy(blurred)
        rows = TrainingData.split(encoded, condition, weights, settings.seed, cvs, copies)
        return cls(features, rows, noise, cv_range, _folds(features, rotors))


def _folds(features: Features, rotors: Sequence[Rotor]) -> list[int]:
    """3 for each torsion by which a rotor turns, 1 for the other torsions that turn."""
    rows, first = features.z_matrix.rows, sum(features.widths[:2])
    wide = [rows[column - first + 3].tolist() for column in features.wide.tolist()]
    turning = [{*rotor} for rotor in rotors]
    return [
        3 if any(row[0] in rotor and row[3] not in rotor for rotor in turning) else 1
        for row in wide
    ]


def _condition_noise(features: Features, settings: TrainingSettings) -> np.ndarray:
    """Deviation of the conditions [CV units], shape (n_cvs,)."""
    noise = settings.condition_noise * features.cv_scale.numpy()
    noise[list(features.placed_variables)] = 0.0
    return noise if hasattr(KINDS[settings.generator], "log_prob") else np.zeros_like(noise)


def flat_weights(
    cvs: np.ndarray, variables: Sequence[CollectiveVariable], power: float
) -> np.ndarray:
    """Weights density^-power (n,) of frames, density being that of their CVs (n, n_cvs).

    The density is a histogram with about 20 frames a cell. A tenth of the mean count is added, so
    that no single frame weighs more than ten usual ones.
    """
    n, n_cvs = cvs.shape
    bins = int(np.clip((n / 20) ** (1 / n_cvs), 1, 48))
    cell = np.zeros(n, dtype=np.int64)
    for k, variable in enumerate(variables):
        low, high = variable.domain or (cvs[:, k].min(), cvs[:, k].max())
        place = (cvs[:, k] - low) / max(high - low, np.finfo(float).tiny)
        cell = cell * bins + np.clip((bins * place).astype(np.int64), 0, bins - 1)
    _, which, counts = np.unique(cell, return_inverse=True, return_counts=True)
    return (counts[which] + 0.1 * counts.mean()) ** -power


def _check_frames(frames: Frames, topology: str) -> None:
    """Refuse frames that cannot be trained on."""
    if not frames.variables:
        raise ValueError("the frames hold no CVs: a conditional generator needs at least one")
    if len(frames) < LEAST_FRAMES:
        raise ValueError(f"there are {len(frames)} frames, expected at least {LEAST_FRAMES}")
    if frames.topology_hash not in ("", topology):
        raise ValueError(
            f"the frames belong to another topology: their hash is {frames.topology_hash[:12]}...,"
            f" that of the topology given is {topology[:12]}..."
        )
    for name in ("positions", "cvs"):
        bad = ~np.isfinite(getattr(frames, name)).reshape(len(frames), -1).all(axis=1)
        if bad.any():
            raise ValueError(f"{bad.sum()} frames have {name} that are not finite: leave them out")


def _features_of(frames: Frames, topology: Any) -> tuple[Features, Tensor]:
    """Fitted scaling and the features (n_frames, n_features) of frames."""
    reference = np.zeros((1 + int(frames.atoms.max()), 3))
    reference[frames.atoms] = frames.positions[0]
    z_matrix = ZMatrix.from_topology(topology, frames.atoms, frames.variables, reference)
    parts = [
        z_matrix.to_internal(torch.from_numpy(frames.positions[i : i + CHUNK]).double())
        for i in range(0, len(frames), CHUNK)
    ]
    internal = Internal(*(torch.cat(c) for c in zip(*parts, strict=True)))
    longest = float(internal.bonds.max()) if z_matrix.n_atoms > 1 else 0.0
    if longest > BROKEN:
        raise ValueError(
            f"a bond is {longest:.3g} nm long: the molecule is cut by the periodic boundary. Write"
            " frames with whole molecules"
        )
    cvs = torch.from_numpy(frames.cvs)
    features = Features.fit(z_matrix, frames.variables, internal, cvs)
    for k, scale, value in features.placed_values(internal):
        variable = frames.variables[k]
        off = np.abs(variable.difference(frames.cvs[:, k], value.numpy())).max()
        if off > DISAGREE * max(1.0, abs(scale)):
            raise ValueError(
                f"{variable.name} of the frames differs from the {variable.action} of their"
                f" positions by up to {off:.3g} {variable.unit}: CVs and positions do not belong"
                " together"
            )
    encoded = features.encode(internal).float()
    if not encoded.shape[1]:
        raise ValueError("no coordinate of the frames varies but the CVs: nothing to generate")
    return features, encoded
