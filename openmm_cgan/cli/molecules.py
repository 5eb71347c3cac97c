"""A molecule from a structure and a force field, as the commands take them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from openmm import app, unit

from openmm_cgan.testsystems import Molecule
from openmm_cgan.topologies import read_configuration

CONSTRAINTS = {
    "None": None, "HBonds": app.HBonds, "AllBonds": app.AllBonds, "HAngles": app.HAngles,
}  # fmt: skip


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
    if constraints not in CONSTRAINTS:
        raise ValueError(f"constraints {constraints!r}: expected one of {', '.join(CONSTRAINTS)}")
    pdb = read_configuration(structure)
    positions = np.array(pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    options: dict[str, Any] = {"nonbondedMethod": app.NoCutoff}
    if (box := pdb.topology.getUnitCellDimensions()) is not None:
        shortest = min(box.value_in_unit(unit.nanometer))
        options = {"nonbondedMethod": app.PME, "nonbondedCutoff": min(1.0, 0.45 * shortest)}
    options["constraints"] = CONSTRAINTS[constraints]
    system = app.ForceField(*forcefield).createSystem(pdb.topology, **options)
    return Molecule(pdb.topology, system, positions)
