"""What all actions share: keywords with their types, the values they give, what is above them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.names import regular_expression, told
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.input.index_files import read_index_file
from openmm_cgan.plumed.input.language import PlumedInputError, Problem, Statement
from openmm_cgan.plumed.input.pdb import MolInfo
from openmm_cgan.plumed.input.words import (
    NotNativeError,
    SerialError,
    read_serials,
    unbrace,
)

REMEDY = "use backend='kernel' (real PLUMED)"

# Actions that are two in PLUMED, which shows in the names @0, @1 ... of those without a label
SHORTCUTS = frozenset(
    """DISTANCE ANGLE TORSION POSITION CENTER GYRATION RMSD COMBINE CUSTOM MATHEVAL SORT
    RESTRAINT UPPER_WALLS LOWER_WALLS""".split()  # noqa: SIM905  readable
)


@dataclass(frozen=True)
class Keyword:
    """One keyword of an action.

    Parameters
    ----------
    name : str
        In upper case.
    kind : str
        "atoms", "backbone", "arguments", "real", "reals" (one for each argument), "integer",
        "integers", "texts", "numbers" (any count), "text", "domain" (``NO`` or ``min,max``) or
        "flag".
    help : str
        One line for the user.
    default : optional
        Value if absent; for "reals" and "integers" a single number repeated.
    compulsory : bool
    first : int, optional
        For a keyword with numbers, ``ATOMS1=``, ``ATOMS2=`` ...: where they begin. Its value is
        the tuple of what stands at each number, up to the first that is missing.
    sparse : bool
        Numbers may be missing: its value is a dict by number.
    """

    name: str
    kind: str
    help: str
    default: Any = None
    compulsory: bool = False
    first: int | None = None
    sparse: bool = False

    @property
    def key(self) -> str:
        """Its name, with an ``i`` in place of numbers; what options are filed under."""
        return self.name if self.first is None else f"{self.name}i"


@dataclass(frozen=True)
class Given:
    """A statement whose words are understood, ready to become an action.

    Attributes
    ----------
    label : str
    statement : Statement
    units : UnitSystem
    folder : Path
        The working folder of the input.
    options : dict of str to object
        What each keyword says, by `Keyword.key`; its default where it is absent.
    """

    label: str
    statement: Statement
    units: UnitSystem
    folder: Path
    options: dict[str, Any]

    @property
    def arguments(self) -> tuple[Value, ...]:
        """The values that ARG names."""
        return self.options.get("ARG", ())

    def error(self, word: str, message: str) -> PlumedInputError:
        """Build the error for something wrong with a word of the statement."""
        return PlumedInputError([Problem(self.statement.location, word, message)])

    def not_native(self, word: str, message: str) -> PlumedInputError:
        """Build the error for a word that only PLUMED itself understands."""
        return not_native(self.statement, word, message)


def not_native(statement: Statement, word: str, message: str) -> PlumedInputError:
    """The error for a word that only PLUMED itself understands."""
    return PlumedInputError([uncovered(statement, word, message)])


def uncovered(statement: Statement, word: str, message: str) -> Problem:
    """The problem with a word that only PLUMED itself understands."""
    return Problem(statement.location, word, f"{message}; {REMEDY}", is_mistake=False)


class Action:
    """One PLUMED action.

    The subclasses declare `name`, `summary` and `keywords`, from which errors, help and the
    coverage table are made, and take what was given in ``__init__``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    keywords: ClassVar[tuple[Keyword, ...]] = ()
    calculates: ClassVar[bool] = True  # something that has derivatives
    sets_up: ClassVar[bool] = False  # a setting, which UNITS and RESTART may stand below
    takes_vectors: ClassVar[bool] = False  # whether elements of vectors may be its arguments

    def __init__(self, given: Given) -> None:
        self.label = given.label
        self.statement = given.statement
        self.units = given.units
        self.arguments = given.arguments

    @classmethod
    def made(cls, given: Given) -> Action:
        """Make the action of a statement: where its keywords choose a class, one of that."""
        return cls(given)

    def enter(self, scope: Scope) -> None:
        """Take its place among what the statements below may use.

        Raises
        ------
        PlumedInputError
            If it may not stand here, below what the scope has.
        """
        scope.actions[self.label] = self
        scope.named.update((value.name, value) for value in self.outputs)
        scope.count += self.count_in_plumed

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The values it gives, in PLUMED's order."""
        return ()

    @property
    def vectors_in_star(self) -> tuple[str, ...]:
        """Names of vectors that ``label.*`` means besides its values."""
        return ()

    @property
    def count_in_plumed(self) -> int:
        """How many actions PLUMED makes of it, those counted that have entered a scope."""
        return 2 if self.name in SHORTCUTS else 1

    def vector(self, name: str) -> tuple[Value, ...]:
        """The elements of a vector that it gives, which are among its outputs from now on.

        Parameters
        ----------
        name : str
            One that it has told `Scope.vectors`.
        """
        raise NotImplementedError

    def saved(self) -> dict[str, np.ndarray]:
        """What it has gathered during a run, for a checkpoint: arrays of any shapes by name."""
        return {}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `saved` gave, in the same shapes.

        Raises
        ------
        ValueError
            If it is of another input.
        """

    def error(self, word: str, message: str) -> PlumedInputError:
        """Build the error for something wrong with a word of this action."""
        return PlumedInputError([Problem(self.statement.location, word, message)])

    def not_native(self, word: str, message: str) -> PlumedInputError:
        """Build the error for a word that only PLUMED itself understands."""
        return not_native(self.statement, word, message)


class BrokenAboveError(ValueError):
    """A word that is only wrong because a statement above it is."""


@dataclass
class Scope:
    """What the statements above the present one have defined.

    Attributes
    ----------
    units : UnitSystem
    n_atoms : int, optional
        Atoms of the system; any serial is taken where they are not known.
    folder : Path
        The working folder of the input.
    actions : dict of str to Action
        By label.
    named : dict of str to Value
        Their values, by name.
    other_names : dict of str to Value
        By which some of them are known too.
    vectors : dict of str to Action
        By the names of vectors, what gives them.
    shortcuts : dict of str to set of str
        Labels of what PLUMED makes several actions of, whose names are not known natively; and the
        components that some of these have.
    count : int
        How many actions they are in PLUMED.
    groups : dict of str to tuple of int or VirtualAtom
    virtual_atoms : dict of str to VirtualAtom
    unplaced : set of str
        Labels of what PLUMED makes virtual atoms for that are not native.
    molinfo : MolInfo, optional
    molinfo_whole, molinfo_broken : bool
        Whether it has WHOLE; whether one has problems, and nothing is known of selectors.
    entities : tuple of Entity
        What is made whole.
    movers : tuple of Mover
        What moves atoms for all below: WHOLEMOLECULES, WRAPAROUND, FIT_TO_TEMPLATE.
    broken : set of str
        Labels whose statements have problems.
    """

    units: UnitSystem = field(default_factory=UnitSystem)
    n_atoms: int | None = None
    folder: Path = field(default_factory=Path)
    actions: dict[str, Action] = field(default_factory=dict)
    named: dict[str, Value] = field(default_factory=dict)
    other_names: dict[str, Value] = field(default_factory=dict)
    vectors: dict[str, Action] = field(default_factory=dict)
    shortcuts: dict[str, set[str]] = field(default_factory=dict)
    count: int = 0
    groups: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    virtual_atoms: dict[str, Action] = field(default_factory=dict)
    unplaced: set[str] = field(default_factory=set)
    molinfo: MolInfo | None = None
    molinfo_whole: bool = False
    molinfo_broken: bool = False
    entities: tuple[Any, ...] = ()
    movers: tuple[Any, ...] = ()
    broken: set[str] = field(default_factory=set)

    def values(self, element: str) -> list[Value]:
        """Values that one element of an ARG list names.

        Raises
        ------
        ValueError
            If there are none.
        """
        everything = self.named.values()
        if element in ("*", "*.*"):
            named = list(everything)
        elif element.startswith("*."):
            named = [value for value in everything if value.name.endswith(element[1:])]
        elif element.startswith("(") and element.endswith(")"):
            pattern = regular_expression(element)
            named = [value for value in everything if pattern.fullmatch(value.name)]
        elif element.endswith(".*"):
            if "*" in self.shortcuts.get(element[:-2], ()):
                raise NotNativeError(f"'{element}' names values inside {element[:-2]} in PLUMED")
            owner = self.actions.get(element[:-2])
            named = [v for v in owner.outputs if not v.vector] if owner else []
            meant = [element[:-2]] if not named else owner.vectors_in_star if owner else ()
            for name in meant:
                named += self.vectors[name].vector(name) if name in self.vectors else ()
        elif element in self.vectors:
            named = list(self.vectors[element].vector(element))
        else:
            value = self.named.get(element) or self.other_names.get(element)
            named = [] if value is None else [value]
        if element.startswith(("*", "(")) or not named:
            self._refuse_unknown(element)
        if self._may_be_broken(element, bool(named)):
            raise BrokenAboveError
        if not named:
            known = told(self.named)
            raise ValueError(f"no value '{element}' above this line; there are: {known}")
        return named

    def _refuse_unknown(self, element: str) -> None:
        """Refuse what may name vectors, or what PLUMED makes of a shortcut on the way."""
        if element.startswith("*.") and element != "*.*":
            hidden = [x for x, parts in self.shortcuts.items() if element[2:] in parts]
        else:
            hidden = list(dict.fromkeys([*self.vectors, *self.shortcuts]))
        if element.startswith(("*", "(")) and hidden:
            raise NotNativeError(f"'{element}' names values inside {told(hidden)} in PLUMED")
        for label in self.shortcuts:
            if element.startswith(f"{label}_"):
                raise NotNativeError(f"'{element}' is a part of what PLUMED makes of {label}")

    def _may_be_broken(self, element: str, is_named: bool) -> bool:
        """Whether what an element of ARG names may come from a statement with problems."""
        if element.startswith(("*", "(")):
            return bool(self.broken)
        if element.split(".")[0] in self.broken:
            return True
        # PLUMED's shortcuts make others whose labels begin with theirs
        labels = [label or "@" for label in self.broken]
        return not is_named and element.startswith(tuple(labels))

    def atoms(self, element: str) -> list[Any]:
        """Zero-based atoms, and virtual atoms, that one element of an atom list names.

        Raises
        ------
        ValueError
            If it names none, or some that are not there.
        """
        if element in self.groups:
            return list(self.groups[element])
        if element in self.virtual_atoms:
            return [self.virtual_atoms[element]]
        if element in self.broken:
            raise BrokenAboveError
        if element in self.unplaced or (element == "@allatoms" and self.unplaced):
            raise NotNativeError(
                f"the centres of the pairs of {told(self.unplaced)} are not native"
            )
        if element in ("@mdatoms", "@allatoms") and self.n_atoms is not None:
            virtual = self.virtual_atoms.values() if element == "@allatoms" else ()
            return [*range(self.n_atoms), *virtual]
        if element.startswith("@ndx:"):
            name, _, group = unbrace(element.removeprefix("@ndx:")).partition(" ")
            return self.present(read_index_file(self.folder / name, group.strip()), element)
        if element in ("@mdatoms", "@allatoms"):
            raise NotNativeError(f"'{element}' needs the number of atoms: give the topology")
        if element.startswith("@"):
            return self._select(element[1:])
        try:
            serials = read_serials(element)
        except SerialError:
            raise
        except ValueError as error:
            known = told([*self.groups, *self.virtual_atoms])
            message = f"{error}, nor the label of a group or virtual atom (there are: {known})"
            raise ValueError(message) from None
        return self.present([serial - 1 for serial in serials], element)

    def present(self, atoms: list[int], element: str) -> list[int]:
        """The atoms, all of which the system has."""
        last = max(atoms, default=-1) + 1
        if self.n_atoms is not None and last > self.n_atoms:
            named = f"'{element}': " if element.startswith("@") else ""
            raise ValueError(f"{named}atom {last} is beyond the last atom {self.n_atoms}")
        return atoms

    def _select(self, selector: str) -> list[int]:
        if self.molinfo_broken:
            raise BrokenAboveError
        if self.molinfo is None:
            raise ValueError(f"the selector '@{selector}' needs a MOLINFO above this line")
        return self.present(self.molinfo.select(selector), f"@{selector}")
