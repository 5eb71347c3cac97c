"""What is written besides rows of values: DUMPATOMS and DUMPDERIVATIVES."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from openmm_cgan.plumed.actions.action import Action, Given, Keyword, Scope
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.run_keywords import RESTART, check_format, read_restart
from openmm_cgan.plumed.actions.units import LENGTHS
from openmm_cgan.plumed.actions.update_window import WINDOW_KEYWORDS, read_window
from openmm_cgan.plumed.actions.variables.variable import Variable
from openmm_cgan.plumed.input.pdb import PdbAtom
from openmm_cgan.plumed.input.words import read_real

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
            raise self.not_native("ATOMS", "natively it must be given")
        known = ("xyz", "gro", "xtc", "trr")
        ending = Path(self.file).suffix.lstrip(".")
        self.type: str = options["TYPE"] or (ending if ending in known else "xyz")
        if self.type not in known:
            raise self.error(f"TYPE={self.type}", "expected xyz, gro, xtc or trr")
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


class DumpDerivatives(Dump):
    """Derivatives of values, by the positions and the box or by their arguments."""

    name = "DUMPDERIVATIVES"
    summary = "derivatives of values by positions and box, or by their arguments"
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
        self.owners: tuple[Variable | Function, ...] = ()

    def enter(self, scope: Scope) -> None:
        by_name = {v.name: action for action in scope.actions.values() for v in action.outputs}
        owners = []
        for value in self.arguments:
            owner = by_name[value.name]
            if not isinstance(owner, Variable | Function):
                message = "natively the derivatives of variables and functions"
                raise self.not_native(value.name, message)
            owners.append(owner)
        self.owners = tuple(owners)
        super().enter(scope)
