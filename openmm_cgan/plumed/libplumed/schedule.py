"""At which steps PLUMED's actions do something between the calculations."""

from __future__ import annotations

import logging
from pathlib import Path

from openmm_cgan.plumed.input.language import Statement, read_statements, read_text
from openmm_cgan.plumed.input.words import keywords_of, read_integer, unbrace
from openmm_cgan.plumed.libplumed.statements import BIASES

log = logging.getLogger("openmm_cgan")

# Keywords that say at which steps `update` of an action does something
_METAD_STRIDES = ("PACE", "GRID_WSTRIDE", "WALKERS_RSTRIDE")
_OPES_STRIDES = ("PACE", "STATE_WSTRIDE")
UPDATE_STRIDES = {
    "PRINT": ("STRIDE",),
    "FLUSH": ("STRIDE",),
    "COMMITTOR": ("STRIDE",),
    "DUMPATOMS": ("STRIDE",),
    "DUMPFORCES": ("STRIDE",),
    "DUMPDERIVATIVES": ("STRIDE",),
    "METAD": _METAD_STRIDES,
    "PBMETAD": _METAD_STRIDES,
    "OPES_METAD": _OPES_STRIDES,
    "OPES_METAD_EXPLORE": _OPES_STRIDES,
}
# ... keywords of those that make `update` act at every step all the same
EVERY_STEP = {"ADAPTIVE", "FREQUENCY_ADAPTIVE", "CALC_WORK"}
# ... and actions that do nothing between steps. Any action not named is updated at every step.
NEVER_UPDATED = frozenset(
    """UNITS RESTART MOLINFO WHOLEMOLECULES GROUP COM CENTER FIXEDATOM GHOST DISTANCE TORSION
    ANGLE POSITION COORDINATION GYRATION RMSD DRMSD COMBINE CUSTOM MATHEVAL CONSTANT RESTRAINT
    MOVINGRESTRAINT UPPER_WALLS LOWER_WALLS BIASVALUE EXTERNAL TIME VOLUME CELL CONTACTMAP PATHMSD
    PROPERTYMAP ALPHABETA ALPHARMSD ANTIBETARMSD PARABETARMSD DISTANCES WRAPAROUND FIT_TO_TEMPLATE
    PUCKERING SORT COORDINATIONNUMBER ERMSD ENERGY""".split()  # noqa: SIM905  readable
)


def update_strides(statements: list[Statement], folder: Path = Path()) -> list[int]:
    r"""Find at which multiples of the step PLUMED's ``update`` has something to do.

    Parameters
    ----------
    statements : list of Statement
    folder : Path
        Where files that the input includes are.

    Returns
    -------
    list of int
        Ascending; [1] where an action may act at any step, empty where none ever does.

    Examples
    --------
    >>> from openmm_cgan.plumed.input.language import read_statements
    >>> update_strides(read_statements("METAD ARG=d SIGMA=1 PACE=500\nPRINT ARG=d STRIDE=5*20"))
    [100, 500]
    """
    found: set[int] = set()
    for statement in statements:
        if statement.action in NEVER_UPDATED:
            continue
        included = statement.action == "INCLUDE"
        strides = _strides_inside(statement, folder) if included else _strides_of(statement)
        if strides and min(strides) < 1:
            log.info("%s: %s is updated at every step", statement.location, statement.action)
            return [1]
        found |= strides
    return [1] if 1 in found else sorted(found)


def idle_step(statements: list[Statement], folder: Path, step: int) -> int | None:
    """A step after one, at which nothing but an OPES is updated; None if there is none near."""
    others = [s for s in statements if not s.action.startswith("OPES_METAD")]
    strides = update_strides(others, folder)
    later = range(step + 1, step + 1000)
    return next((n for n in later if all(n % stride for stride in strides)), None)


def bias_strides(statements: list[Statement]) -> list[tuple[str, int]]:
    """Biases that act at some steps only, in words, and the number whose multiples these are.

    Examples
    --------
    >>> from openmm_cgan.plumed.input.language import read_statements
    >>> bias_strides(read_statements("RESTRAINT ARG=d AT=1 STRIDE=2*2\\nPRINT ARG=d STRIDE=5"))
    [('plumed.dat:1: RESTRAINT', 4)]
    """
    found = []
    for statement in statements:
        words = keywords_of(statement.words)
        if statement.action in BIASES and (stride := read_integer(words.get("STRIDE", "1"))) > 1:
            found.append((f"{statement.location}: {statement.action}", stride))
    return found


def _strides_inside(statement: Statement, folder: Path) -> set[int]:
    """Strides of the actions in a file that is included; {0} where it can not be read."""
    path = folder / unbrace(statement.words[0].partition("=")[2]) if statement.words else folder
    try:
        return set(update_strides(read_statements(*read_text(path)), folder))
    except (OSError, ValueError, RecursionError):
        return {0}


def _strides_of(statement: Statement) -> set[int]:
    """Strides of an action that is updated; {0} where they are not known."""
    words = keywords_of(statement.words)
    adaptive = "SIGMA" in words and words["SIGMA"].upper() == "ADAPTIVE"
    if statement.action.startswith("OPES") and (adaptive or "SIGMA" not in words):
        return {0}
    walks = "WALKERS_N" in words and "WALKERS_RSTRIDE" not in words  # reads at every step then
    if walks or not EVERY_STEP.isdisjoint(words):
        return {0}
    keywords = UPDATE_STRIDES.get(statement.action, ())
    try:
        return {read_integer(words[key]) for key in keywords if key in words} or {0}
    except ValueError:
        return {0}
