"""How a statement becomes an action: words matched with keywords, and read by their kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from openmm_cgan.plumed.actions.action import (
    Action,
    BrokenAboveError,
    Given,
    Keyword,
    Scope,
    uncovered,
)
from openmm_cgan.plumed.actions.names import told
from openmm_cgan.plumed.actions.values import Value, spans_of
from openmm_cgan.plumed.input.language import PlumedInputError, Problem, Statement
from openmm_cgan.plumed.input.words import (
    MAX_ATOMS_IN_LIST,
    NotNativeError,
    read_integer,
    read_real,
    read_serials,
    split_vector,
    unbrace,
)

# Flags that tell PLUMED how to compute, not what: nothing changes natively
IGNORED_FLAGS = frozenset({"NUMERICAL_DERIVATIVES", "SERIAL", "TIMINGS", "LOWMEM"})


def read_action(cls: type[Action], statement: Statement, scope: Scope) -> Action:
    """Turn a statement into an action, not yet entered in the scope.

    Parameters
    ----------
    cls : type of Action
        What the name of the statement stands for.
    statement : Statement
    scope : Scope

    Returns
    -------
    Action

    Raises
    ------
    PlumedInputError
        With all problems of the statement.
    """
    problems: list[Problem] = []
    broken = False

    def complain(word: str, message: str, native: bool = True) -> None:
        made = Problem(statement.location, word, message)
        problems.append(made if native else uncovered(statement, word, message))

    label = statement.label or f"@{scope.count}"
    if statement.label in scope.actions:
        complain(statement.label, "this label is already used above")
    raw = _match_words(cls, statement, complain)
    options: dict[str, Any] = {}
    for keyword in sorted(cls.keywords, key=lambda k: k.kind != "arguments"):
        if keyword.key not in raw:
            if keyword.compulsory:
                understood = all(problem.is_mistake for problem in problems)
                message = f"the keyword {keyword.key}= is missing ({keyword.help})"
                complain(cls.name, message, native=understood)
            options[keyword.key] = _default(keyword, options)
            continue
        try:
            options[keyword.key] = _read_option(keyword, raw, scope, options)
            if keyword.kind == "arguments":
                found = options[keyword.key]
                _check_ranks(cls, found if keyword.first is None else sum(found, ()))
        except BrokenAboveError:
            broken = True
        except ValueError as error:
            word = f"{keyword.key}={raw[keyword.key]}"
            complain(word, str(error), native=not isinstance(error, NotNativeError))
    if problems or broken:
        raise PlumedInputError(problems)
    return cls.made(Given(label, statement, scope.units, scope.folder, options))


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
    numbered: list[Any] = []
    while (name := f"{keyword.name}{keyword.first + len(numbered)}") in raw:
        numbered.append(read(raw[name], scope, options))
    return tuple(numbered)


def _check_ranks(cls: type[Action], arguments: tuple[Value, ...]) -> None:
    """Raise ValueError where vectors are not taken natively."""
    vectors = dict.fromkeys(value.vector for value in arguments if value.vector)
    if vectors and not cls.takes_vectors:
        raise NotNativeError(f"{told(vectors)}: {cls.name} takes no vectors natively")


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
    cls: type[Action], statement: Statement, complain: Callable[..., None]
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
            message = f"not understood natively by {cls.name} (it has: {known})"
            if hint := _forgotten_comma(cls, word, raw):
                complain(word, f"stands alone; {hint}")
            else:
                complain(word, message, native=False)
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


def _forgotten_comma(cls: type[Action], word: str, raw: dict[str, str]) -> str:
    """What was expected where numbers stand alone behind a list; empty where they do not."""
    given = [key for key, value in raw.items() if value != "..."]
    if not given or not re.fullmatch(r"[\d.,-]+", word) or not re.search(r"[,\d]$", raw[given[-1]]):
        return ""
    keyword, _ = _find_keyword(cls, given[-1])
    assert keyword is not None
    return (
        f"expected {keyword.help}, with commas and no blanks: {given[-1]}={raw[given[-1]]},{word}"
    )


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
    atoms: list[Any] = []
    for element in elements:
        atoms += scope.atoms(element)
        if len(atoms) > MAX_ATOMS_IN_LIST:
            raise ValueError(f"the list has more than {MAX_ATOMS_IN_LIST} atoms")
    return tuple(atoms)


def _read_backbone(text: str, scope: Scope, _: dict[str, Any]) -> tuple[tuple[int, ...], ...]:
    if scope.molinfo_broken:
        raise BrokenAboveError
    if scope.molinfo is None:
        raise ValueError("needs a MOLINFO above this line")
    words = split_vector(text)
    if words[:1] and "all" in words[0].lower():
        if len(words) > 1 or words[0].lower() != "all":
            raise NotNativeError("expected all, or numbers of residues")
        pieces = scope.molinfo.backbone(None)
    else:
        numbers = [number for word in words for number in read_serials(word)]
        pieces = scope.molinfo.backbone(numbers)
    return tuple(tuple(scope.present(list(piece), text)) for piece in pieces)


def _read_vector(read: Callable[[str], Any]) -> Callable[[str, Scope, dict[str, Any]], Any]:
    def read_vector(text: str, _: Scope, options: dict[str, Any]) -> tuple[Any, ...]:
        numbers = tuple(read(element) for element in split_vector(text))
        if "ARG" not in options:  # it has a problem of its own
            return numbers
        spans = spans_of(options["ARG"])
        if len(numbers) != len(spans):
            raise ValueError(f"{len(numbers)} numbers for {len(spans)} arguments in ARG")
        return tuple(x for x, span in zip(numbers, spans, strict=True) for _ in span)

    return read_vector


def _number_or_label(text: str) -> float:
    try:
        return read_real(text)
    except ValueError as error:
        if text.isidentifier():  # PLUMED takes labels for some of them
            raise NotNativeError(str(error)) from None
        raise


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
    "backbone": _read_backbone,
    "real": lambda text, *_: read_real(unbrace(text)),
    "integer": lambda text, *_: read_integer(unbrace(text)),
    "text": lambda text, *_: unbrace(text),
    "domain": _read_domain,
    "reals": _read_vector(read_real),
    "integers": _read_vector(read_integer),
    "texts": _read_vector(str),
    "numbers": lambda text, *_: tuple(map(_number_or_label, split_vector(text))),
    "flag": lambda *_: True,
}
