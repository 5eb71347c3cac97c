"""UNITS: the units that an input's numbers are in, as multiples of OpenMM's."""

from __future__ import annotations

from dataclasses import dataclass

LENGTHS = {"nm": 1.0, "A": 0.1, "um": 1000.0, "Bohr": 0.052917721067}
ENERGIES = {
    "kj/mol": 1.0,
    "kcal/mol": 4.184,
    "j/mol": 0.001,
    "eV": 96.48530749925792,
    "Ha": 2625.499638,
}
TIMES = {"ps": 1.0, "ns": 1000.0, "fs": 0.001, "atomic": 2.418884326509e-5}


MASSES = {"amu": 1.0}
CHARGES = {"e": 1.0}


@dataclass(frozen=True)
class UnitSystem:
    """Units of an input in OpenMM's (nm, kJ/mol, ps, dalton, e), and the name of the length unit.

    Where they are `natural`, TEMP is in the unit of energy, and PDB files are in that of length.
    """

    length: float = 1.0
    energy: float = 1.0
    time: float = 1.0
    length_name: str = "nm"
    natural: bool = False
    mass: float = 1.0
    charge: float = 1.0
