"""Frames as a generator that is trained already sees them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openmm_cgan.attached_parts import attachments
from openmm_cgan.cgan.conditional_generator import ConditionalGenerator
from openmm_cgan.cgan.dataset import Dataset
from openmm_cgan.cgan.part_targets import Rests
from openmm_cgan.cgan.training_data import TrainingData
from openmm_cgan.collective_variable import why_other_cvs
from openmm_cgan.devices import own_defaults
from openmm_cgan.features.scaling import internals_of, require_whole
from openmm_cgan.frames import (
    Frames,
    frames_of_atoms,
    frames_to_learn,
    require_molecule,
    topology_hash,
)
from openmm_cgan.topologies import openmm_topology


@own_defaults()
def rows_for(gan: ConditionalGenerator, frames: Frames, topology: Any) -> TrainingData:
    """Rows of frames, of its training or later ones, in the features of a generator.

    Parameters
    ----------
    gan : ConditionalGenerator
    frames : Frames
        With its CVs, and its atoms in the same order; for a part that hangs on the rest with all
        atoms of the topology, for they stand around it.
    topology : openmm.app.Topology, or what `openmm_topology` finds one in
        Of the whole system.

    Raises
    ------
    ValueError
        If frames, topology and generator do not belong together.
    """
    topology = openmm_topology(topology)
    require_molecule(topology, gan.atoms, gan.molecule_hash, gan.topology_hash, "the generator")
    ours, theirs = ([v.name for v in one.variables] for one in (gan, frames))
    is_part = len(gan.rest) > 0
    if ours != theirs or not (is_part or frames.atoms.tolist() == gan.atoms.tolist()):
        raise ValueError(
            f"the frames hold {len(frames.atoms)} atoms and the CVs {', '.join(theirs) or 'none'};"
            f" the generator makes {gan.n_atoms} atoms given {', '.join(ours)}"
        )
    if why := why_other_cvs(gan.variables, frames.variables):
        raise ValueError(f"the frames hold another CV than the generator was trained on: {why}")
    gan = gan.to("cpu")  # where rows are kept, from which batches are taken
    if is_part:
        rows = _rows_of_part(gan, frames, topology)
    else:
        rows = Dataset.prepare(frames, topology, gan.settings, lambda *_: gan.features).rows
    conditions = (gan.conditions.encode(cvs).float() for cvs in (rows.cvs, rows.held_cvs))
    condition, held_condition = conditions
    return replace(rows, condition=condition, held_condition=held_condition)


@dataclass(frozen=True)
class _Known:
    """Featurizes frames of a part by features that are known."""

    features: Any

    def __call__(self, frames: Frames, topology: Any) -> Any:
        """The features."""
        for internal, _ in internals_of(self.features.z_matrix, frames):
            require_whole(internal)
        return self.features

    def held(self, frames: Frames, topology: Any) -> NDArray[np.int64]:
        """Atoms that are not of the part, whose hydrogens stay as they are."""
        return np.asarray(self.features.rest)


def _rows_of_part(gan: ConditionalGenerator, frames: Frames, topology: Any) -> TrainingData:
    """Rows of a part, each with the frame around it, at CVs that are not blurred."""
    _require_attached(gan, topology)
    n_atoms = sum(1 for _ in topology.atoms())
    if len(missing := np.setdiff1d(np.arange(n_atoms), frames.atoms)):
        raise ValueError(
            f"the frames lack {len(missing)} of the {n_atoms} atoms, the first number {missing[0]},"
            " and the energy of a part depends on all that stands around it: refine on frames of"
            ' all atoms, FrameReporter(..., atoms="all")'
        )
    whole = frames_of_atoms(frames, np.arange(n_atoms))
    narrow = frames_to_learn(frames, topology, sorted(gan.features.encoded_atoms.tolist()))
    dataset = Dataset.prepare(narrow, topology, gan.settings, _Known(gan.features))
    held, kept = np.split(dataset.frame, [len(dataset.rows.held_features)])
    cvs, held_cvs = (torch.from_numpy(frames.cvs[of]) for of in (kept, held))
    rests = Rests(whole.positions, whole.box, kept, held)
    return replace(dataset.rows, cvs=cvs, held_cvs=held_cvs, rests=rests)


def _require_attached(gan: ConditionalGenerator, topology: Any) -> None:
    """Check that a part hangs in a topology on what it hung on where it was trained."""
    ends = attachments(topology, gan.atoms.tolist())
    strange = sorted({other for _, other in ends} - set(gan.rest.tolist()))
    is_elsewhere = gan.topology_hash not in ("", topology_hash(topology))
    if strange or max(gan.rest) >= sum(1 for _ in topology.atoms()):
        raise ValueError(
            f"the part hangs on the atoms {strange} here, and on others where it was trained"
        )
    if not ends and is_elsewhere:
        raise ValueError(
            "the part is a molecule by itself, and was trained among others than are here"
        )
