"""What all actions share: keywords with their types, the values they give, what is above them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.names import regular_expression, told
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.input.expressions import namespace
from openmm_cgan.plumed.input.index_files import read_index_file
from openmm_cgan.plumed.input.language import PlumedInputError, Problem, Statement
from openmm_cgan.plumed.input.pdb import MolInfo
from openmm_cgan.plumed.input.words import (
    NotNativeError,
    SerialError,
    read_real,
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
class Value:
    """One number that an action gives: its full name, unit and periodic domain.

    `domain_text` is the domain as it was written, which is how PLUMED prints it.
    """

    name: str
    unit: str = ""
    domain: tuple[float, float] | None = None
    domain_text: tuple[str, str] | None = None

    @property
    def period(self) -> float | None:
        """Length of the periodic domain, or None."""
        return None if self.domain is None else self.domain[1] - self.domain[0]

    def difference(self, reference: Any, value: Any) -> Any:
        """``value - reference``, the shortest way round.

        Parameters
        ----------
        reference, value : float, ndarray or tensor, shapes that broadcast
            [unit of the value]

        Returns
        -------
        float, ndarray or tensor
            Of the broadcast shape [unit of the value].
        """
        delta = value - reference
        if self.period is None:
            return delta
        return delta - self.period * namespace(delta).floor(delta / self.period + 0.5)

    def wrap(self, value: Any) -> Any:
        """Bring a float, ndarray or tensor of any shape into the domain [unit of the value]."""
        if self.domain is None:
            return value
        lower, period = self.domain[0], self.domain[1] - self.domain[0]
        return value - period * namespace(value).floor((value - lower) / period)

    def difference_text(self, reference: str, value: str) -> str:
        """The same difference as an expression of OpenMM's."""
        delta = f"({value}-{reference})"
        if self.period is None:
            return delta
        return f"({delta}-{self.period!r}*floor({delta}/{self.period!r}+0.5))"


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
        scope.count += 2 if self.name in SHORTCUTS else 1

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The values it gives, in PLUMED's order."""
        return ()

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
    vectors : set of str
        Labels whose values, or those of what PLUMED makes of them, are vectors: not native.
    count : int
        How many actions they are in PLUMED.
    groups : dict of str to tuple of int or VirtualAtom
    virtual_atoms : dict of str to VirtualAtom
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
    vectors: set[str] = field(default_factory=set)
    count: int = 0
    groups: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    virtual_atoms: dict[str, Action] = field(default_factory=dict)
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
            owner = self.actions.get(element[:-2])
            named = list(owner.outputs) if owner else []
        else:
            value = self.named.get(element) or self.other_names.get(element)
            named = [] if value is None else [value]
        if self.vectors and (element.startswith(("*", "(")) or not named):
            self._refuse_vectors(element)
        if self._may_be_broken(element, bool(named)):
            raise BrokenAboveError
        if not named:
            known = told(self.named)
            raise ValueError(f"no value '{element}' above this line; there are: {known}")
        return named

    def _refuse_vectors(self, element: str) -> None:
        """Refuse what may name vectors, or what PLUMED makes of a shortcut on the way."""
        if element.startswith(("*", "(")):
            raise NotNativeError(f"'{element}' names vectors of {told(self.vectors)} in PLUMED")
        if element in self.vectors or element.startswith(tuple(f"{x}_" for x in self.vectors)):
            raise NotNativeError(f"'{element}' is a vector, or a part of what PLUMED makes of it")

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


def domain_value(name: str, unit: str, limits: tuple[str, str] | None) -> Value:
    """Build the value with the domain that a PERIODIC keyword declares."""
    value = Value(name, unit)
    if limits is None:
        return value
    return replace(value, domain=(read_real(limits[0]), read_real(limits[1])), domain_text=limits)
