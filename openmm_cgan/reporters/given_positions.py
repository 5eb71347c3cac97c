"""Whether the positions that a Simulation was given can be what they are taken for."""

from __future__ import annotations

import logging

import numpy as np
from openmm import app

from openmm_cgan.radii import odd_unit
from openmm_cgan.topologies import bonds_of_atoms

log = logging.getLogger("openmm_cgan")


def warn_of_unit(simulation: app.Simulation) -> None:
    """Say where positions of a Simulation seem to be in another unit than nm, by its bonds."""
    bonds = bonds_of_atoms(simulation.topology, range(simulation.topology.getNumAtoms()))
    x = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
    if bonds and (odd := odd_unit(np.array(bonds), x)):
        log.warning("%s: give setPositions nm, or a Quantity, and minimise", odd)
