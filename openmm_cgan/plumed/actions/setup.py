"""Statements that define no value: UNITS, RESTART, MOLINFO, WHOLEMOLECULES and GROUP."""

from __future__ import annotations

from typing import Any

from openmm_cgan.plumed.actions.action import Action, Given, Keyword, Scope
from openmm_cgan.plumed.actions.units import CHARGES, ENERGIES, LENGTHS, MASSES, TIMES, UnitSystem
from openmm_cgan.plumed.geometry.molecules import Entity, entities_made_whole
from openmm_cgan.plumed.geometry.trees import spanning_tree
from openmm_cgan.plumed.input.index_files import read_index_file
from openmm_cgan.plumed.input.pdb import MolInfo
from openmm_cgan.plumed.input.words import NotNativeError, read_real


def _stand_first(action: Action, scope: Scope) -> None:
    """Refuse UNITS and RESTART below anything that is no setting."""
    if not all(above.sets_up for above in scope.actions.values()):
        raise action.error(action.name, "must stand before all other actions")


class Units(Action):
    """The units of all numbers in the file; angles stay in radians."""

    calculates = False
    sets_up = True
    name = "UNITS"
    summary = "units of the numbers in the file"
    keywords = (
        Keyword("LENGTH", "text", "nm, A, um, Bohr, or a number of nm", default="nm"),
        Keyword("ENERGY", "text", "kj/mol, kcal/mol, j/mol, eV, Ha, or a number", default="kj/mol"),
        Keyword("TIME", "text", "ps, ns, fs, atomic, or a number of ps", default="ps"),
        Keyword("MASS", "text", "amu, or a number of them", default="amu"),
        Keyword("CHARGE", "text", "e, or a number of them", default="e"),
        Keyword("NATURAL", "flag", "TEMP is in the unit of energy: Boltzmann's constant is 1"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.system = UnitSystem(
            length=self._factor("LENGTH", options["LENGTH"], LENGTHS),
            energy=self._factor("ENERGY", options["ENERGY"], ENERGIES),
            time=self._factor("TIME", options["TIME"], TIMES),
            length_name=options["LENGTH"],
            natural=options["NATURAL"],
            mass=self._factor("MASS", options["MASS"], MASSES),
            charge=self._factor("CHARGE", options["CHARGE"], CHARGES),
        )

    def enter(self, scope: Scope) -> None:
        _stand_first(self, scope)
        scope.units = self.system
        super().enter(scope)

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

    calculates = False
    sets_up = True
    name = "RESTART"
    summary = "continue an earlier run"
    keywords = (Keyword("NO", "flag", "do not"),)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.wanted: bool = not given.options["NO"]

    def enter(self, scope: Scope) -> None:
        _stand_first(self, scope)
        super().enter(scope)


class MolInfoAction(Action):
    """A PDB file that gives the atoms names, for selectors such as ``@phi-2``."""

    calculates = False
    sets_up = True
    name = "MOLINFO"
    summary = "selectors @phi-2, @CA-A12 and others of proteins and nucleic acids"
    keywords = (
        Keyword("STRUCTURE", "text", "a PDB file", compulsory=True),
        Keyword("MOLTYPE", "text", "protein, rna or dna", default="protein"),
        Keyword("WHOLE", "flag", "the file is not broken; WHOLEMOLECULES below is guided by it"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        if given.options["MOLTYPE"] not in ("protein", "rna", "dna"):
            raise self.not_native("MOLTYPE", "natively protein, rna and dna")
        self.whole: bool = given.options["WHOLE"]
        if self.whole and given.units.natural:
            raise self.not_native("WHOLE", "a PDB file in natural units is not native")
        try:
            self.info = MolInfo(given.folder / given.options["STRUCTURE"])
        except NotNativeError as error:
            raise self.not_native("STRUCTURE", str(error)) from None
        except ValueError as error:
            raise self.error("STRUCTURE", str(error)) from None

    def enter(self, scope: Scope) -> None:
        scope.molinfo, scope.molinfo_whole = self.info, self.whole
        super().enter(scope)


class WholeMolecules(Action):
    """Make molecules whole, which only tells where NOPBC stands below."""

    calculates = False
    name = "WHOLEMOLECULES"
    summary = "molecules made whole for what has NOPBC below"
    keywords = (
        Keyword("ENTITY", "atoms", "a molecule", first=0),
        Keyword("STRIDE", "integer", "1 where anything has NOPBC below", default=1),
        Keyword("EMST", "flag", "along a spanning tree, as always below MOLINFO WHOLE"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._lists: tuple[tuple[Any, ...], ...] = given.options["ENTITYi"]
        self.entities = tuple(map(Entity, self._lists))
        self.stride: int = given.options["STRIDE"]
        if not self.entities:
            raise self.error("ENTITY", "expected ENTITY0= or ENTITY1=")
        self._emst: bool = given.options["EMST"]

    def enter(self, scope: Scope) -> None:
        if scope.molinfo is not None and scope.molinfo_whole:
            self._follow_tree(scope.molinfo)
        elif self._emst:
            raise self.error("EMST", "needs a MOLINFO with WHOLE above this line")
        scope.entities += self.entities
        scope.movers += (self,)
        super().enter(scope)

    @property
    def atoms(self) -> tuple[Any, ...]:
        """All atoms of its entities."""
        return tuple(atom for entity in self.entities for atom in entity.atoms)

    def moved(self, positions: Any, box: Any) -> tuple[Any, Any]:
        """Positions and box as they are below it.

        Parameters
        ----------
        positions, box : ndarray or tensor, shapes (..., n_atoms, 3), (..., 3, 3) or None
            [nm]
        """
        whole = positions if box is None else entities_made_whole(self.entities, positions, box)
        return whole, box

    def _follow_tree(self, info: MolInfo) -> None:
        """Take the atoms along a tree through the file of the MOLINFO WHOLE above."""
        if any(not isinstance(atom, int) for atoms in self._lists for atom in atoms):
            raise self.not_native("ENTITY", "virtual atoms are not in a PDB file")
        try:
            self.entities = tuple(spanning_tree(atoms, info) for atoms in self._lists)
        except ValueError as error:
            raise self.error("ENTITY", str(error)) from None


class Group(Action):
    """A list of atoms under a label."""

    calculates = False
    name = "GROUP"
    summary = "a list of atoms under a label"
    keywords = (
        Keyword("ATOMS", "atoms", "the atoms"),
        Keyword("NDX_FILE", "text", "a GROMACS index file, in place of ATOMS"),
        Keyword("NDX_GROUP", "text", "the group of that file; the first if absent"),
        Keyword("REMOVE", "atoms", "left out, the first occurrence of each"),
        Keyword("SORT", "flag", "in ascending order"),
        Keyword("UNIQUE", "flag", "in ascending order, each once"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        if not given.statement.label:
            raise self.not_native("GROUP", "a group needs a label, or nothing can use it")
        listed, file = options["ATOMS"], options["NDX_FILE"]
        if (listed is None) == (file is None):
            raise self.error("GROUP", "give either ATOMS= or NDX_FILE=")
        if options["NDX_GROUP"] is not None and file is None:
            raise self.error("NDX_GROUP", "belongs to NDX_FILE")
        if file is not None:
            try:
                listed = read_index_file(given.folder / file, options["NDX_GROUP"] or "")
            except ValueError as error:
                raise self.error(f"NDX_FILE={file}", str(error)) from None
        atoms = list(listed)
        for atom in options["REMOVE"] or ():
            if atom in atoms:
                atoms.remove(atom)
        if options["SORT"] or options["UNIQUE"]:
            if not all(isinstance(atom, int) for atom in atoms):
                raise self.not_native("SORT", "virtual atoms have no order natively")
            atoms = sorted(set(atoms) if options["UNIQUE"] else atoms)
        self.atoms: tuple[Any, ...] = tuple(atoms)

    def enter(self, scope: Scope) -> None:
        try:
            scope.present([atom for atom in self.atoms if isinstance(atom, int)], self.label)
        except ValueError as error:
            raise self.error("NDX_FILE", str(error)) from None
        scope.groups[self.label] = self.atoms
        super().enter(scope)
