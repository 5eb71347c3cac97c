"""A molecule from a structure and a force field, as the commands take them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openmm
from openmm import unit

from openmm_cgan.cli.molecule_files import MoleculeFiles, molecule_of
from openmm_cgan.openmm_xml import from_xml
from openmm_cgan.run_folders import BONDS, SYSTEM, TOPOLOGY
from openmm_cgan.testsystems import Molecule
from openmm_cgan.topologies import read_configuration
from openmm_cgan.windows.run_files import read_topology


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
    positions = np.array(structure.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    known = (folder / BONDS).is_file()  # runs of earlier versions have none
    topology = read_topology(folder) if known else structure.topology
    return Molecule(topology, system, positions)


def load_molecule(
    structure: str | Path, forcefield: Sequence[str], constraints: str = "HBonds"
) -> Molecule:
    """Make a System from a PDB file and OpenMM force-field files.

    Parameters
    ----------
    structure : str or Path
        PDB file; with a cell the System is periodic (PME, cutoff 1 nm at most), else no cutoff.
    forcefield : sequence of str
        Files of OpenMM (``amber96.xml``) or paths.
    constraints : str
        "HBonds", "AllBonds", "HAngles" or "None".

    Raises
    ------
    FileNotFoundError
        If there is no structure file.
    ValueError
        If OpenMM cannot read a file, the force field does not cover the molecule, or there are no
        such constraints.
    """
    return molecule_of(
        MoleculeFiles(Path(structure), forcefield=forcefield, constraints=constraints)
    )
