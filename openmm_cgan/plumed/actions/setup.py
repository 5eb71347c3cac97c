"""Statements that define no value: UNITS and GROUP."""

from __future__ import annotations

from openmm_cgan.plumed.actions.action import (
    ENERGIES,
    LENGTHS,
    TIMES,
    Action,
    Given,
    Keyword,
    UnitSystem,
)
from openmm_cgan.plumed.language import read_real


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
