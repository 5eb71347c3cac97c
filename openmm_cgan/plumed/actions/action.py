"""What all actions share: keywords with their types, the values they give, and how one is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from openmm_cgan.plumed.input.expressions import namespace
from openmm_cgan.plumed.input.index_files import read_index_file
from openmm_cgan.plumed.input.language import (
    PlumedInputError,
    Problem,
    Statement,
    read_integer,
    read_real,
    read_serials,
    split_vector,
    unbrace,
)
from openmm_cgan.plumed.input.pdb import MolInfo

REMEDY = "use backend='kernel' (real PLUMED)"

# Flags that tell PLUMED how to compute, not what: nothing changes natively
IGNORED_FLAGS = frozenset({"NUMERICAL_DERIVATIVES", "SERIAL", "TIMINGS", "LOWMEM"})
# Actions that are two in PLUMED, which shows in the names @0, @1 ... of those without a label
SHORTCUTS = frozenset(
    """DISTANCE ANGLE TORSION POSITION CENTER GYRATION RMSD COMBINE CUSTOM MATHEVAL RESTRAINT
    UPPER_WALLS LOWER_WALLS""".split()  # noqa: SIM905  readable
)

MAX_PATTERN_LENGTH = 200

LENGTHS = {"nm": 1.0, "A": 0.1, "um": 1000.0, "Bohr": 0.052917721067}
ENERGIES = {
    "kj/mol": 1.0,
    "kcal/mol": 4.184,
    "j/mol": 0.001,
    "eV": 96.48530749925792,
    "Ha": 2625.499638,
}
TIMES = {"ps": 1.0, "ns": 1000.0, "fs": 0.001, "atomic": 2.418884326509e-5}


@dataclass(frozen=True)
class UnitSystem:
    """Units of an input in OpenMM's (nm, kJ/mol, ps), with the name of the length unit."""

    length: float = 1.0
    energy: float = 1.0
    time: float = 1.0
    length_name: str = "nm"


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
        """``value - reference``, the shortest way round; numpy or torch."""
        delta = value - reference
        if self.period is None:
            return delta
        return delta - self.period * namespace(delta).floor(delta / self.period + 0.5)

    def wrap(self, value: Any) -> Any:
        """Bring a value into its domain; numpy or torch."""
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
        "atoms", "arguments", "real", "reals" (one for each argument), "integer", "integers",
        "texts", "numbers" (any count), "text", "domain" (``NO`` or ``min,max``) or "flag".
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
    """A statement whose words are understood, ready to become an action."""

    label: str
    statement: Statement
    units: UnitSystem
    folder: Path
    options: dict[str, Any]


class Action:
    """One PLUMED action.

    The subclasses declare `name`, `summary` and `keywords`, from which errors, help and the
    coverage table are made, and take what was given in ``__init__``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    keywords: ClassVar[tuple[Keyword, ...]] = ()
    calculates: ClassVar[bool] = True  # something that has derivatives
    makes_whole: ClassVar[bool] = False  # its atoms first, unless NOPBC
    made_whole: tuple[tuple[int, ...], ...] = ()  # by WHOLEMOLECULES above, if of use here

    def __init__(self, given: Given) -> None:
        self.label = given.label
        self.statement = given.statement
        self.units = given.units
        self.arguments: tuple[Value, ...] = given.options.get("ARG", ())

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The values it gives, in PLUMED's order."""
        return ()

    def error(self, word: str, message: str) -> PlumedInputError:
        """Build the error for something wrong with a word of this action."""
        return PlumedInputError([Problem(self.statement.location, word, message)])


class _BrokenAboveError(ValueError):
    """A word that is only wrong because a statement above it is."""


@dataclass
class Scope:
    """What the statements above the present one have defined."""

    units: UnitSystem = field(default_factory=UnitSystem)
    n_atoms: int | None = None
    folder: Path = field(default_factory=Path)
    actions: dict[str, Action] = field(default_factory=dict)
    groups: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    virtual_atoms: dict[str, Action] = field(default_factory=dict)
    molinfo: MolInfo | None = None
    molinfo_whole: bool = False
    whole: tuple[Any, ...] = ()  # the WHOLEMOLECULES
    broken: set[str] = field(default_factory=set)  # labels whose statements have problems

    def values(self, element: str) -> list[Value]:
        """Values that one element of an ARG list names.

        Raises
        ------
        ValueError
            If there are none.
        """
        everything = [value for action in self.actions.values() for value in action.outputs]
        if element in ("*", "*.*"):
            found = everything
        elif element.startswith("*."):
            found = [value for value in everything if value.name.endswith(element[1:])]
        elif element.startswith("(") and element.endswith(")"):
            pattern = _regular_expression(element)
            found = [value for value in everything if pattern.fullmatch(value.name)]
        elif element.endswith(".*"):
            owner = self.actions.get(element[:-2])
            found = list(owner.outputs) if owner else []
        else:
            found = [value for value in everything if value.name == element]
        if not found and element.split(".")[0] in self.broken:
            raise _BrokenAboveError
        if not found:
            known = ", ".join(value.name for value in everything) or "none"
            raise ValueError(f"no value '{element}' above this line; there are: {known}")
        return found

    def atoms(self, element: str) -> list[Any]:
        """Zero-based atoms, and virtual atoms, that one element of an atom list names."""
        if element in self.groups:
            return list(self.groups[element])
        if element in self.virtual_atoms:
            return [self.virtual_atoms[element]]
        if element in self.broken:
            raise _BrokenAboveError
        if element in ("@mdatoms", "@allatoms") and self.n_atoms is not None:
            virtual = self.virtual_atoms.values() if element == "@allatoms" else ()
            return [*range(self.n_atoms), *virtual]
        if element.startswith("@ndx:"):
            name, _, group = unbrace(element.removeprefix("@ndx:")).partition(" ")
            return read_index_file(self.folder / name, group.strip())
        if element.startswith("@"):
            return self._select(element[1:])
        try:
            serials = read_serials(element)
        except ValueError as error:
            known = ", ".join([*self.groups, *self.virtual_atoms]) or "none"
            message = f"{error}, nor the label of a group or virtual atom (there are: {known})"
            raise ValueError(message) from None
        if self.n_atoms is not None and max(serials) > self.n_atoms:
            raise ValueError(f"atom {max(serials)} is beyond the last atom {self.n_atoms}")
        return [serial - 1 for serial in serials]

    def _select(self, selector: str) -> list[int]:
        if self.molinfo is None:
            raise ValueError(f"the selector '@{selector}' needs a MOLINFO above this line")
        try:
            return self.molinfo.select(selector)
        except ValueError as error:
            raise ValueError(f"{error}; {REMEDY}") from None


def _regular_expression(text: str) -> re.Pattern[str]:
    if len(text) > MAX_PATTERN_LENGTH:
        raise ValueError(f"a regular expression of more than {MAX_PATTERN_LENGTH} characters")
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"'{text}' is not a regular expression: {error}") from None


def read_action(cls: type[Action], statement: Statement, scope: Scope) -> Action:
    """Turn a statement into an action.

    Raises
    ------
    PlumedInputError
        With all problems of the statement.
    """
    problems: list[Problem] = []
    broken = False

    def complain(word: str, message: str) -> None:
        problems.append(Problem(statement.location, word, message))

    above = scope.actions.values()
    label = statement.label or f"@{len(above) + sum(a.name in SHORTCUTS for a in above)}"
    if statement.label in scope.actions:
        complain(statement.label, "this label is already used above")
    raw = _match_words(cls, statement, complain)
    options: dict[str, Any] = {}
    for keyword in sorted(cls.keywords, key=lambda k: k.kind != "arguments"):
        if keyword.key not in raw:
            if keyword.compulsory:
                complain(cls.name, f"the keyword {keyword.key}= is missing ({keyword.help})")
            options[keyword.key] = _default(keyword, options)
            continue
        try:
            options[keyword.key] = _read_option(keyword, raw, scope, options)
        except _BrokenAboveError:
            broken = True
        except ValueError as error:
            complain(f"{keyword.key}={raw[keyword.key]}", str(error))
    if problems or broken:
        raise PlumedInputError(problems)
    return cls(Given(label, statement, scope.units, scope.folder, options))


def _read_option(
    keyword: Keyword, raw: dict[str, str], scope: Scope, options: dict[str, Any]
) -> Any:
    read = _READERS[keyword.kind]
    if keyword.first is None:
        return read(raw[keyword.name], scope, options)
    if keyword.sparse:
        named = {k: k.removeprefix(keyword.name) for k in raw}
        return {
            int(number): read(raw[k], scope, options)
            for k, number in named.items()
            if number != k and number.isdigit()
        }
    found: list[Any] = []
    while (name := f"{keyword.name}{keyword.first + len(found)}") in raw:
        found.append(read(raw[name], scope, options))
    return tuple(found)


def _find_keyword(cls: type[Action], key: str) -> tuple[Keyword | None, int]:
    """The keyword that a word names, and its number (0 for one without)."""
    for keyword in cls.keywords:
        number = key.removeprefix(keyword.name)
        if keyword.first is None and key == keyword.name:
            return keyword, 0
        if keyword.first is not None and number.isdigit() and key == f"{keyword.name}{number}":
            return keyword, int(number)
    return None, 0


def _match_words(
    cls: type[Action], statement: Statement, complain: Callable[[str, str], None]
) -> dict[str, str]:
    """Values by word; complains about words that the action does not have."""
    raw: dict[str, str] = {}
    numbers: dict[str, set[int]] = {}
    for word in statement.words:
        key, equals, value = word.partition("=")
        keyword, number = _find_keyword(cls, key.upper())
        if keyword is None and not equals and cls.calculates and key.upper() in IGNORED_FLAGS:
            continue
        if keyword is None or (keyword.kind == "flag") == bool(equals):
            known = ", ".join(k.key for k in cls.keywords) or "none"
            complain(word, f"not understood natively by {cls.name} (it has: {known}); {REMEDY}")
        elif key.upper() in raw:
            complain(word, f"{key.upper()} is given twice")
        elif equals and not value:
            complain(word, "no value after '='")
        else:
            raw[key.upper()] = value
            raw.setdefault(keyword.key, "...")  # some number of it is given
            numbers.setdefault(keyword.key, set()).add(number)
    for keyword in cls.keywords:
        given = numbers.get(keyword.key, set())
        if keyword.first is not None and given and not keyword.sparse:
            expected = set(range(keyword.first, keyword.first + len(given)))
            if given != expected:
                complain(keyword.key, f"numbers are missing; expected {sorted(expected)}")
    return raw


def _default(keyword: Keyword, options: dict[str, Any]) -> Any:
    if keyword.kind == "flag":
        return False
    if keyword.sparse:
        return {}
    if keyword.kind == "arguments" or keyword.first is not None:
        return ()
    if keyword.kind in ("reals", "integers") and keyword.default is not None:
        return (keyword.default,) * len(options.get("ARG", ()))
    return keyword.default


def _read_arguments(text: str, scope: Scope, _: dict[str, Any]) -> tuple[Value, ...]:
    elements = split_vector(text)
    if not elements:
        raise ValueError("names no values")
    return tuple(value for element in elements for value in scope.values(element))


def _read_atoms(text: str, scope: Scope, _: dict[str, Any]) -> tuple[Any, ...]:
    elements = split_vector(text)
    if not elements:
        raise ValueError("names no atoms")
    return tuple(atom for element in elements for atom in scope.atoms(element))


def _read_vector(read: Callable[[str], Any]) -> Callable[[str, Scope, dict[str, Any]], Any]:
    def read_vector(text: str, _: Scope, options: dict[str, Any]) -> tuple[Any, ...]:
        numbers = tuple(read(element) for element in split_vector(text))
        expected = len(options.get("ARG", numbers))  # no ARG here: it has a problem of its own
        if len(numbers) != expected:
            raise ValueError(f"{len(numbers)} numbers for {expected} arguments in ARG")
        return numbers

    return read_vector


def _read_domain(text: str, *_: Any) -> tuple[str, str] | None:
    if unbrace(text).upper() == "NO":
        return None
    limits = split_vector(text)
    if len(limits) != 2 or read_real(limits[0]) >= read_real(limits[1]):
        raise ValueError("expected NO or min,max with min below max")
    return limits[0], limits[1]


_READERS: dict[str, Callable[..., Any]] = {
    "arguments": _read_arguments,
    "atoms": _read_atoms,
    "real": lambda text, *_: read_real(unbrace(text)),
    "integer": lambda text, *_: read_integer(unbrace(text)),
    "text": lambda text, *_: unbrace(text),
    "domain": _read_domain,
    "reals": _read_vector(read_real),
    "integers": _read_vector(read_integer),
    "texts": _read_vector(str),
    "numbers": lambda text, *_: tuple(map(read_real, split_vector(text))),
    "flag": lambda *_: True,
}


def domain_value(name: str, unit: str, limits: tuple[str, str] | None) -> Value:
    """Build the value with the domain that a PERIODIC keyword declares."""
    value = Value(name, unit)
    if limits is None:
        return value
    return replace(value, domain=(read_real(limits[0]), read_real(limits[1])), domain_text=limits)
