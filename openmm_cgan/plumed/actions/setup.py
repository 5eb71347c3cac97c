"""Statements that define no value: UNITS, RESTART, MOLINFO, WHOLEMOLECULES and GROUP."""

from __future__ import annotations

from openmm_cgan.plumed.actions.action import (
    ENERGIES,
    LENGTHS,
    REMEDY,
    TIMES,
    Action,
    Given,
    Keyword,
    UnitSystem,
)
from openmm_cgan.plumed.language import read_real
from openmm_cgan.plumed.pdb import MolInfo


class Units(Action):
    """The units of all numbers in the file; angles stay in radians."""

    name = "UNITS"
    summary = "units of the numbers in the file"
    keywords = (
        Keyword("LENGTH", "text", "nm, A, um, Bohr, or a number of nm", default="nm"),
        Keyword("ENERGY", "text", "kj/mol, kcal/mol, j/mol, eV, Ha, or a number", default="kj/mol"),
        Keyword("TIME", "text", "ps, ns, fs, atomic, or a number of ps", default="ps"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.system = UnitSystem(
            length=self._factor("LENGTH", options["LENGTH"], LENGTHS),
            energy=self._factor("ENERGY", options["ENERGY"], ENERGIES),
            time=self._factor("TIME", options["TIME"], TIMES),
            length_name=options["LENGTH"],
        )

    def _factor(self, keyword: str, text: str, known: dict[str, float]) -> float:
        if text in known:
            return known[text]
        try:
            factor = read_real(text)
        except ValueError:
            factor = 0.0
        if factor > 0:
            return factor
        names = ", ".join(known)
        raise self.error(f"{keyword}={text}", f"expected one of {names}, or a positive number")


class Restart(Action):
    """Continue an earlier run: append to the files, read the hills."""

    name = "RESTART"
    summary = "continue an earlier run"
    keywords = (Keyword("NO", "flag", "do not"),)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.wanted: bool = not given.options["NO"]


class MolInfoAction(Action):
    """A PDB file that gives the atoms names, for selectors such as ``@phi-2``."""

    name = "MOLINFO"
    summary = "selectors @phi-2, @CA-A12 and others of proteins"
    keywords = (
        Keyword("STRUCTURE", "text", "a PDB file", compulsory=True),
        Keyword("MOLTYPE", "text", "protein", default="protein"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        if given.options["MOLTYPE"] != "protein":
            raise self.error("MOLTYPE", f"natively protein only; {REMEDY}")
        try:
            self.info = MolInfo(given.folder / given.options["STRUCTURE"])
        except ValueError as error:
            raise self.error("STRUCTURE", str(error)) from None


class WholeMolecules(Action):
    """Make molecules whole: every variable does so by itself here."""

    name = "WHOLEMOLECULES"
    summary = "accepted: each variable makes its own atoms whole"
    keywords = (
        Keyword("ENTITY", "atoms", "a molecule", first=0),
        Keyword("STRIDE", "integer", "accepted"),
    )


class Group(Action):
    """A list of atoms under a label."""

    name = "GROUP"
    summary = "a list of atoms under a label"
    keywords = (Keyword("ATOMS", "atoms", "the atoms", compulsory=True),)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        if not given.statement.label:
            raise self.error("GROUP", "a group needs a label, or nothing can use it")
        self.atoms: tuple[int, ...] = given.options["ATOMS"]
