"""Frames as a generator that is trained already sees them."""

from dataclasses import replace
from typing import Any

from openmm_cgan.cgan.conditional_generator import ConditionalGenerator
from openmm_cgan.cgan.dataset import Dataset
from openmm_cgan.cgan.training_data import TrainingData
from openmm_cgan.frames import Frames, require_molecule
from openmm_cgan.topologies import openmm_topology


def rows_for(gan: ConditionalGenerator, frames: Frames, topology: Any) -> TrainingData:
    """Rows of frames, of its training or later ones, in the features of a generator.

    Parameters
    ----------
    gan : ConditionalGenerator
    frames : Frames
        With its CVs, and its atoms in the same order.
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
    if ours != theirs or frames.atoms.tolist() != gan.atoms.tolist():
        raise ValueError(
            f"the frames hold {len(frames.atoms)} atoms and the CVs {', '.join(theirs) or 'none'};"
            f" the generator makes {gan.n_atoms} atoms given {', '.join(ours)}"
        )
    gan = gan.to("cpu")  # where rows are kept, from which batches are taken
    rows = Dataset.prepare(frames, topology, gan.settings, lambda *_: gan.features).rows
    conditions = (gan.conditions.encode(cvs).float() for cvs in (rows.cvs, rows.held_cvs))
    condition, held_condition = conditions
    return replace(rows, condition=condition, held_condition=held_condition)
