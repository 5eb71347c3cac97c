"""What is written besides rows of values: atoms, derivatives, forces, masses, projections."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Action, Given, Keyword, Scope
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.run_keywords import RESTART, check_format, read_restart
from openmm_cgan.plumed.actions.units import LENGTHS
from openmm_cgan.plumed.actions.update_window import WINDOW_KEYWORDS, read_window
from openmm_cgan.plumed.actions.variables.variable import Variable
from openmm_cgan.plumed.input.pdb import PdbAtom
from openmm_cgan.plumed.input.words import read_real

log = logging.getLogger("openmm_cgan")

_FILE = Keyword("FILE", "text", "file name", compulsory=True)
_STRIDE = Keyword("STRIDE", "integer", "steps between them", default=1)


class Dump(Action):
    """Something that goes to a file every STRIDE steps."""

    calculates = False

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.file: str = options["FILE"]
        self.stride: int = options["STRIDE"]
        if self.stride <= 0:
            raise self.error("STRIDE", "must be positive")
        self.restarts = read_restart(given)
        self.window = read_window(given) or (-math.inf, math.inf)


class DumpAtoms(Dump):
    """Positions, as the statements above it have moved atoms."""

    name = "DUMPATOMS"
    summary = "positions of atoms in an xyz, gro, xtc or trr file"
    keywords = (
        Keyword("ATOMS", "atoms", "atoms and virtual atoms"),
        _FILE,
        _STRIDE,
        Keyword("UNITS", "text", "of length; those of the input if PLUMED", default="PLUMED"),
        Keyword("PRECISION", "integer", "digits behind the point"),
        Keyword("TYPE", "text", "xyz, gro, xtc or trr, if not as the name of the file ends"),
        RESTART,
        *WINDOW_KEYWORDS,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.sites: tuple[Any, ...] = options["ATOMS"] or ()
        if not self.sites:  # of which PLUMED makes a file of no atoms
            where = given.statement.location
            log.warning("%s: DUMPATOMS without ATOMS: its frames have no atoms", where)
        known = ("xyz", "gro", "xtc", "trr")
        ending = Path(self.file).suffix.lstrip(".")
        self.type: str = options["TYPE"] or (ending if ending in known else "xyz")
        if self.type not in known:
            raise self.error(f"TYPE={self.type}", "expected xyz, gro, xtc or trr")
        if self.type == "trr" and not self.sites:
            raise self.not_native("ATOMS", "natively it must be given for trr files")
        if self.type in ("xtc", "trr") and self.file.endswith(".gz"):  # PLUMED does not pack it
            raise self.not_native("FILE", f"natively {self.type} files are not compressed")
        digits = options["PRECISION"]
        self.digits: int | None = digits
        if digits is not None and not 0 <= digits <= 20:
            raise self.error("PRECISION", "expected 0 to 20 digits")
        self.unit = self._unit(options["UNITS"])  # [nm]
        self.movers: tuple[Any, ...] = ()
        self.named: dict[int, PdbAtom] = {}  # by atom, where MOLINFO has it
        self.virtual: dict[Any, int] = {}

    def _unit(self, text: str) -> float:
        if text == "PLUMED":
            return self.units.length if self.type == "xyz" else 1.0
        try:
            unit = LENGTHS[text] if text in LENGTHS else read_real(text)
        except ValueError:
            raise self.error(f"UNITS={text}", f"expected one of {', '.join(LENGTHS)}") from None
        if self.type != "xyz" and unit != 1.0:
            raise self.error(f"UNITS={text}", f"{self.type} files are in nm")
        return unit

    def enter(self, scope: Scope) -> None:
        self.movers = scope.movers
        known = [] if scope.molinfo is None else scope.molinfo.atoms
        self.named = {atom.serial - 1: atom for atom in reversed(known)}
        self.virtual = {atom: k for k, atom in enumerate(scope.virtual_atoms.values())}
        named = [site for site in self.sites if not isinstance(site, int)]
        if any(getattr(site, "movers_above", ()) != self.movers for site in named):
            raise self.not_native("ATOMS", "a virtual atom from above what moves atoms")
        super().enter(scope)


class DumpRows(Dump):
    """Something of some values, in rows."""

    keywords = (
        Keyword("ARG", "arguments", "the values", compulsory=True),
        _FILE,
        _STRIDE,
        Keyword("FMT", "text", "number format", default="%15.10f"),
        RESTART,
        *WINDOW_KEYWORDS,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.fmt: str = given.options["FMT"]
        check_format(given, self.fmt, "%15.10f")


class DumpDerivatives(DumpRows):
    """Derivatives of values, by the positions and the box or by their arguments."""

    name = "DUMPDERIVATIVES"
    summary = "derivatives of values by positions and box, or by their arguments"

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.owners: tuple[Variable | Function | Bias, ...] = ()

    def enter(self, scope: Scope) -> None:
        by_name = {v.name: action for action in scope.actions.values() for v in action.outputs}
        owners = []
        for value in self.arguments:
            owner = by_name[value.name]
            if not isinstance(owner, Variable | Function | Bias):
                message = "natively the derivatives of variables, functions and biases"
                raise self.not_native(value.name, message)
            if getattr(owner, "has_repeats", False):
                raise self.not_native(value.name, "its reference has an atom twice")
            owners.append(owner)
        self.owners = tuple(owners)
        super().enter(scope)


class DumpForces(DumpRows):
    """How hard the biases pull at values."""

    name = "DUMPFORCES"
    summary = "forces of the biases on values"
    takes_vectors = True


class DumpProjections(DumpRows):
    """Products of the gradients of values."""

    name = "DUMPPROJECTIONS"
    summary = "scalar products of the gradients of values by the positions"


class DumpMassCharge(Action):
    """Masses and charges of atoms, once."""

    calculates = False
    name = "DUMPMASSCHARGE"
    summary = "masses and charges of atoms, at the first step"
    keywords = (
        Keyword("ATOMS", "atoms", "atoms and virtual atoms; all atoms if absent"),
        _FILE,
        Keyword("STRIDE", "integer", "accepted: it is written once", default=1),
        Keyword("ONLY_MASSES", "flag", "no charges"),
        Keyword("ONLY_CHARGES", "flag", "no masses"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.file: str = options["FILE"]
        self.sites: tuple[Any, ...] = options["ATOMS"] or ()
        if options["ONLY_MASSES"] and options["ONLY_CHARGES"]:
            raise self.error("ONLY_CHARGES", "leaves nothing beside ONLY_MASSES")
        self.shows_masses = not options["ONLY_CHARGES"]
        self.shows_charges = not options["ONLY_MASSES"]
        self.virtual: dict[Any, int] = {}
        self.masses = self.charges = np.empty(0)

    def enter(self, scope: Scope) -> None:
        self.virtual = {atom: k for k, atom in enumerate(scope.virtual_atoms.values())}
        super().enter(scope)

    def set_masses(self, masses: np.ndarray, charges: np.ndarray) -> None:
        """Take masses [dalton] and charges [e] of all atoms of the system, shape (n_atoms,)."""
        self.masses, self.charges = np.asarray(masses, float), np.asarray(charges, float)

    def rows(self) -> list[tuple[int, float, float]]:
        """For each atom its number from 0, mass and charge [units of the input]."""
        found, unit = [], (self.units.mass, self.units.charge)
        for site in self.sites or range(len(self.masses)):
            if isinstance(site, int):
                own = (site, self.masses[site], self.charges[site])
            else:
                place = len(self.masses) + self.virtual[site]
                own = (place, site.mass, site.charge(self.charges))
            found.append((own[0], own[1] / unit[0], own[2] / unit[1]))
        return found
