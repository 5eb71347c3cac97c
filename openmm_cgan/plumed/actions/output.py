"""What is written: PRINT and FLUSH."""

from __future__ import annotations

import math

from openmm_cgan.plumed.actions.action import Action, Given, Keyword
from openmm_cgan.plumed.actions.run_keywords import (
    LOG_FILE,
    RESTART,
    ROW_FORMAT,
    check_format,
    read_restart,
)
from openmm_cgan.plumed.actions.update_window import WINDOW_KEYWORDS, read_window


class Print(Action):
    """A row of values every STRIDE steps."""

    calculates = False
    name = "PRINT"
    summary = "rows of values in a file"
    takes_vectors = True
    keywords = (
        Keyword("ARG", "arguments", "the values to print", compulsory=True),
        Keyword("STRIDE", "integer", "steps between rows", default=1),
        LOG_FILE,
        ROW_FORMAT,
        RESTART,
        *WINDOW_KEYWORDS,
        Keyword("_ROTATE", "integer", "show one value at a time, the next after so many rows"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.stride: int = given.options["STRIDE"]
        self.file: str | None = given.options["FILE"]
        self.fmt: str = given.options["FMT"]
        self.rotate: int = max(given.options["_ROTATE"] or 0, 0)
        self.restarts = read_restart(given)
        self.window = read_window(given) or (-math.inf, math.inf)
        if self.stride <= 0:
            raise self.error("STRIDE", "must be positive")
        check_format(given, self.fmt, "%12.6f")


class Flush(Action):
    """Hand all open files to the operating system every STRIDE steps."""

    calculates = False
    name = "FLUSH"
    summary = "flush the files"
    keywords = (Keyword("STRIDE", "integer", "steps between flushes", compulsory=True),)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.stride: int = given.options["STRIDE"]
        if self.stride <= 0:
            raise self.error("STRIDE", "must be positive")
