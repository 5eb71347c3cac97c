"""From frames to what a generator is trained on: checked, scaled, blurred, weighted."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openmm_cgan.cgan.settings import TrainingSettings
from openmm_cgan.cgan.training_data import TrainingData, held_out
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import (
    AlignedFeatures,
    ConditionEncoding,
    Featurization,
    Featurize,
    PlainFeatures,
    ZMatrixFeatures,
)
from openmm_cgan.frames import Frames, are_of, topology_hash
from openmm_cgan.generators import KINDS
from openmm_cgan.internal_coordinates.molecule import MoleculeGraph
from openmm_cgan.large_arrays import forget, pieces, room
from openmm_cgan.radii import odd_unit
from openmm_cgan.rotors import Rotor, exchange_hydrogens, find_rotors
from openmm_cgan.short_reprs import short_repr
from openmm_cgan.topologies import NEVER_ALONE, bonds_of_atoms, openmm_topology

CHUNK = 2048  # frames turned into features at a time
LEAST_FRAMES = 20
# Atoms up to which a Z-matrix is taken where nothing is said: of 218 atoms half of what it made
# passed the screens and of 582 nothing, by aligned coordinates of 218 all; of helices of 102 and
# 152 atoms 0.79 and 0.65 by a Z-matrix, of 152 all by aligned coordinates. What unfolds has no mean
# structure, though: the Z-matrix is kept for what is small.
LARGE = 150
# Fewer frames are taken several times, each time with other hydrogens exchanged: of 13,500 frames
# of a peptide with 7 methyl groups a flow learned the pattern of their hydrogens by heart.
ENOUGH, MOST_COPIES = 100_000, 8

logger = logging.getLogger("openmm_cgan")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """The rows of a training, and how they were made.

    Attributes
    ----------
    features : Featurization
    conditions : ConditionEncoding
    rows : TrainingData
    condition_noise : ndarray, shape (n_cvs,)
        Standard deviation by which each condition was blurred [CV units].
    cv_range : ndarray, shape (n_cvs, 2)
        Lowest and highest CV values.
    folds : list of int
        Symmetry of each pair of features: 3 for rotors whose hydrogens were exchanged.
    frame : ndarray of int, shape (n_held + n,)
        Which of the frames each row is of: those held out, then the others.
    """

    features: Featurization
    conditions: ConditionEncoding
    rows: TrainingData
    condition_noise: np.ndarray
    cv_range: np.ndarray
    folds: list[int]
    frame: np.ndarray

    __repr__ = short_repr

    @classmethod
    def prepare(
        cls,
        frames: Frames,
        topology: Any,
        settings: TrainingSettings,
        featurize: Featurize | None = None,
    ) -> "Dataset":
        """Make the rows of frames.

        Parameters
        ----------
        frames : Frames
            positions (n_frames, n_atoms, 3) [nm], cvs (n_frames, n_cvs) [CV units].
        topology : openmm.app.Topology, or what `openmm_topology` finds one in, or None
        settings : TrainingSettings
        featurize : callable, optional
            Frames and topology to a fitted Featurization; if omitted `default_featurize`.

        Raises
        ------
        ValueError
            If there are too few frames or no CVs, or frames and topology do not belong together.
        """
        topology = None if topology is None else openmm_topology(topology)
        if featurize is None:
            _require_topology(frames, topology)
        _check_frames(frames, topology)
        if featurize is None:
            _require_nanometers(frames, topology)
        featurize = featurize or default_featurize(frames, topology, settings)
        if (narrowed := getattr(featurize, "narrowed", None)) is not None:  # to what it looks at
            frames = narrowed(frames, topology)
        rng, number = np.random.default_rng(settings.seed), np.arange(len(frames))
        if len(frames) > settings.max_frames:
            number = np.sort(rng.permutation(len(frames))[: settings.max_frames])
            frames = frames.select(number)
        rotors = _rotors(frames, topology, settings, featurize)
        copies = 1
        if rotors:
            copies = int(np.clip(ENOUGH // len(frames), 1, min(MOST_COPIES, 3 ** len(rotors))))
            frames = (
                frames.select(np.tile(np.arange(len(frames)), copies)) if copies > 1 else frames
            )
            exchanged = exchange_hydrogens(frames.positions, rotors, rng)
            frames = replace(frames, positions=exchanged)
        features = featurize(frames, topology)
        held, kept = held_out(len(frames), settings.seed, copies)
        order = torch.cat([held, kept])
        encoded = _encoded(features, frames, order)
        cvs = torch.from_numpy(frames.cvs)
        conditions = ConditionEncoding.fit(frames.variables, cvs)
        noise = _condition_noise(features, conditions, settings)
        blurred = frames.cvs + noise * rng.standard_normal(frames.cvs.shape)
        asked = torch.from_numpy(blurred)
        condition = conditions.encode(asked)
        weights = torch.from_numpy(flat_weights(frames.cvs, frames.variables, settings.flatten))
        cv_range = np.stack([frames.cvs.min(0), frames.cvs.max(0)], axis=1)
        rows = TrainingData.of_rows(encoded, condition, weights, asked, held, kept)
        folds, of_row = features.folds(rotors), number[order.numpy() % len(number)]
        return cls(features, conditions, rows, noise, cv_range, folds, of_row)


def default_featurize(frames: Frames, topology: Any, settings: TrainingSettings) -> Featurize:
    """How frames are featurized where nothing is said; the log tells it.

    Without topology by their plain coordinates. With a generator whose density is known by a
    Z-matrix, whose density is known, too. Else molecules of more than `LARGE` atoms, and several
    molecules together, by aligned coordinates, and smaller ones by a Z-matrix.

    Parameters
    ----------
    frames : Frames
    topology : openmm.app.Topology or None
    settings : TrainingSettings

    Raises
    ------
    ValueError
        If there is nothing to learn of two particles.
    """
    if topology is None:
        return PlainFeatures.fit
    atoms = frames.atoms.tolist()
    _say_cut_bonds(topology, set(atoms))
    _say_missing_bonds(topology, set(atoms))
    several = MoleculeGraph.from_topology(topology, atoms, None).components().max() > 0
    dense = KINDS[settings.generator].has_density
    if len(atoms) < 3 and several:
        raise ValueError(
            f"the atoms {atoms} to be learned are two particles that no bond joins: they have no "
            "shape but their distance. Choose more with atoms= (--atoms), or sample it by windows "
            "without a model; in a field their places are learned, featurize=PlainFeatures.fit"
        )
    if dense or (len(atoms) <= LARGE and not several):
        return ZMatrixFeatures.fit
    why = "several molecules" if several else f"more than {LARGE} atoms"
    logger.info("%s: aligned Cartesian coordinates are learned, AlignedFeatures", why)
    return AlignedFeatures.fit


def _say_cut_bonds(topology: Any, atoms: set[int]) -> None:
    """Warn where atoms are a part of a molecule: what holds them to the rest is not learned."""
    ends = ((bond[0].index, bond[1].index) for bond in openmm_topology(topology).bonds())
    if cut := sum((one in atoms) != (other in atoms) for one, other in ends):
        logger.warning(
            "%d bonds join the atoms that are learned to others of their molecule, and are not "
            "learned: for a part that fits among the rest give featurize=ZMatrixFeatures.of_part("
            "atoms) for exact moves where one bond holds it, else AlignedFeatures.of_part(atoms) "
            "for seeds, and frames of the part and what is around it", cut,
        )  # fmt: skip


def _say_missing_bonds(topology: Any, atoms: set[int]) -> None:
    """Warn where atoms that are never alone have no bonds: a ligand whose file tells none."""
    topology = openmm_topology(topology)
    bonded = {atom.index for bond in topology.bonds() for atom in bond}
    every = list(topology.atoms())
    sizes = Counter(atom.residue.index for atom in every)
    bare = [
        atom for atom in every
        if atom.index in atoms - bonded and sizes[atom.residue.index] > 1
        and atom.element is not None and atom.element.symbol in NEVER_ALONE
    ]  # fmt: skip
    if bare:
        logger.warning(
            "the topology has no bonds of %d atoms that are learned, first of %s (%s): each is "
            "taken for a molecule of its own, and no screen sees what is wrong between them. Give "
            "a topology with bonds (a PDB file with CONECT records, a prmtop)",
            len(bare), bare[0].name, bare[0].residue.name,
        )  # fmt: skip


def _condition_noise(
    features: Featurization, conditions: ConditionEncoding, settings: TrainingSettings
) -> np.ndarray:
    """Deviation of the conditions [CV units], shape (n_cvs,)."""
    noise = settings.condition_noise * conditions.scale.numpy()
    noise[list(features.placed_variables)] = 0.0
    return noise if KINDS[settings.generator].has_density else np.zeros_like(noise)


def flat_weights(
    cvs: np.ndarray, variables: Sequence[CollectiveVariable], power: float
) -> np.ndarray:
    """Weights of frames by the density of their CVs, density^-power.

    The density is a histogram with about 20 frames a cell. A tenth of the mean count is added, so
    that no single frame weighs more than ten usual ones.

    Parameters
    ----------
    cvs : ndarray, shape (n, n_cvs)
        [CV units]
    variables : sequence of CollectiveVariable
    power : float
        0 gives equal weights, 1 the same weight to all visited CV values.

    Returns
    -------
    ndarray, shape (n,)
        Up to a factor.
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


def _require_topology(frames: Frames, topology: Any) -> None:
    """Refuse to take a molecule for particles that are held in space."""
    if topology is None and frames.topology_hash:
        raise ValueError(
            "no topology is given, but the frames were written of one: give it, as in"
            " fit(frames, topology), or say that their coordinates are meant as they stand,"
            " fit(frames, topology, featurize=PlainFeatures.fit)"
        )


def _check_frames(frames: Frames, topology: Any) -> None:
    """Refuse frames that cannot be trained on, or not with the topology given, if one is."""
    if not frames.variables:
        raise ValueError("the frames hold no CVs: a conditional generator needs at least one")
    if len(frames) < LEAST_FRAMES:
        raise ValueError(f"there are {len(frames)} frames, expected at least {LEAST_FRAMES}")
    if topology is not None and not are_of(frames, topology):
        raise ValueError(
            f"the frames belong to another topology: their hash is {frames.topology_hash[:12]}...,"
            f" that of the topology given is {topology_hash(topology)[:12]}...: its atoms, elements"
            f" or bonds are others; it has {_number_of(topology)}. Give that of the run: of its "
            "folder the path of topology.pdb, beside which all bonds are kept; a PDB file alone"
            " tells bonds of other than standard residues by CONECT records only"
        )
    for name, values in (("positions", frames.positions), ("cvs", frames.cvs)):
        finite = [np.isfinite(values[p]).reshape(len(values[p]), -1).all(1) for p in pieces(values)]
        bad = ~np.concatenate(finite)
        if bad.any():
            raise ValueError(f"{bad.sum()} frames have {name} that are not finite: leave them out")
    for variable, width in zip(frames.variables, np.ptp(frames.cvs, axis=0), strict=True):
        if width == 0:
            logger.warning("%s is the same in all frames: nothing is learned of it", variable.name)


def _number_of(topology: Any) -> str:
    topology = openmm_topology(topology)
    n_atoms, n_bonds = (sum(1 for _ in each) for each in (topology.atoms(), topology.bonds()))
    return f"{n_atoms} atoms and {n_bonds} bonds"


def _require_nanometers(frames: Frames, topology: Any) -> None:
    """Refuse positions whose bonds are those of another unit."""
    bonds = [] if topology is None else bonds_of_atoms(topology, frames.atoms.tolist())
    few = frames.positions[:: max(1, len(frames) // 10)]
    if odd := odd_unit(np.array(bonds, dtype=int).reshape(-1, 2), few):
        raise ValueError(f"of the frames {odd}: give positions in nm")


def _rotors(
    frames: Frames, topology: Any, settings: TrainingSettings, featurize: Featurize
) -> list[Rotor]:
    """Hydrogens to be exchanged; none where the features call them alike anyway."""
    alike = getattr(getattr(featurize, "__self__", featurize), "calls_rotors_alike", False)
    if not settings.symmetrise or topology is None or alike:
        return []
    told_apart = {a for variable in frames.variables for a in variable.atoms}
    if (held := getattr(featurize, "held", None)) is not None:  # what a part hangs on
        told_apart |= set(held(frames, topology).tolist())
    return find_rotors(topology, frames.atoms.tolist(), told_apart)


def _encoded(features: Featurization, frames: Frames, order: Tensor) -> Tensor:
    """Features (n, n_features) of frames in an order (n,), float32; in a file if they are many."""
    place = {atom: i for i, atom in enumerate(frames.atoms.tolist())}
    seen = np.array([place[atom] for atom in features.encoded_atoms.tolist()])
    target = np.full(len(frames), -1)  # held-out frames are left out of all copies but the first
    target[order.numpy()] = np.arange(len(order))
    encoded = room((len(order), features.n_linear + 2 * features.n_pairs), np.float32)
    if not encoded.shape[1]:
        raise ValueError("no coordinate of the frames varies but the CVs: nothing to generate")
    for piece in pieces(frames.positions):
        for start in range(piece.start, min(piece.stop, len(frames)), CHUNK):
            rows = np.arange(start, min(start + CHUNK, piece.stop, len(frames)))
            rows = rows[target[rows] >= 0]
            some = torch.from_numpy(frames.positions[rows][:, seen])
            encoded[target[rows]] = features.encode(some.double()).numpy()
        forget(encoded)
    return torch.from_numpy(encoded)
