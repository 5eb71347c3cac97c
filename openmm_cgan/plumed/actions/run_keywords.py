"""Keywords that several actions have, with one meaning: whether and where they go on, and write."""

from __future__ import annotations

from dataclasses import dataclass

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.input.words import is_number_format

TEMP = Keyword("TEMP", "real", "temperature in K, if not that of the run")
RESTART = Keyword("RESTART", "text", "YES or NO, if not as the whole input")
LOG_FILE = Keyword("FILE", "text", "file name; the log if absent")
ROW_FORMAT = Keyword("FMT", "text", "number format", default="%f")


@dataclass(frozen=True)
class SnapshotFiles:
    """Files that hold a bias as it stands: the grid of a METAD, the state of an OPES.

    Attributes
    ----------
    read, written : str or None
        What to begin with, and where it is written.
    stride : int
        Steps between writing; 0 for never.
    keeps_all : bool
        Whether each is written behind the one before.
    """

    read: str | None
    written: str | None
    stride: int
    keeps_all: bool


def read_restart(given: Given) -> bool | None:
    """Whether an action restarts by its own RESTART keyword; None for as the whole input.

    Raises
    ------
    PlumedInputError
        If it is neither YES, NO nor AUTO.
    """
    text = given.options["RESTART"]
    answers = {None: None, "YES": True, "NO": False, "AUTO": None}
    if (text and text.upper()) not in answers:
        raise given.error("RESTART", "expected YES, NO or AUTO")
    return answers[text and text.upper()]


def check_format(given: Given, text: str, example: str = "%14.9f") -> None:
    """Refuse a FMT that is no format of a number.

    Raises
    ------
    PlumedInputError
    """
    if not is_number_format(text):
        raise given.error("FMT", f"expected a format such as {example}")
