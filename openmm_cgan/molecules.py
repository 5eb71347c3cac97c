"""A molecule ready to simulate, and that of a run, which knows the masses of its atoms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import openmm
from openmm import app

from openmm_cgan.openmm_xml import from_xml
from openmm_cgan.quantities import nanometers
from openmm_cgan.run_folders import BONDS, SYSTEM, TOPOLOGY
from openmm_cgan.short_reprs import short_repr
from openmm_cgan.topologies import read_configuration
from openmm_cgan.topology_records import read_topology

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, repr=False)
class Molecule:
    """A molecule ready to simulate.

    Attributes
    ----------
    topology : openmm.app.Topology
    system : openmm.System
    positions : ndarray, shape (n_atoms, 3)
        Start coordinates [nm].
    """

    topology: app.Topology
    system: openmm.System
    positions: NDArray[np.float64]

    __repr__ = short_repr


def read_molecule(folder: Path) -> Molecule:
    """The molecule of a run, from its folder: its System is without the bias.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or damaged.
    """
    for name in (TOPOLOGY, SYSTEM):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is not there: give the folder of a run")
    structure = read_configuration(folder / TOPOLOGY)
    system = from_xml((folder / SYSTEM).read_text(), openmm.System, folder / SYSTEM)
    known = (folder / BONDS).is_file()  # runs of earlier versions have none
    topology = read_topology(folder) if known else structure.topology
    return Molecule(topology, system, nanometers(structure.getPositions(asNumpy=True)))


def molecule_beside(structure: Path) -> Molecule | None:
    """The molecule whose file a structure is in the folder of a run; None where it is no such file.

    Raises
    ------
    ValueError
        If a file is damaged.
    """
    folder = structure.parent
    if structure.name != TOPOLOGY or not (folder / SYSTEM).is_file():
        return None
    return read_molecule(folder)
