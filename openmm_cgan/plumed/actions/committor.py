"""COMMITTOR: say when a run has come into one of several basins, and stop it."""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Action, Given, Keyword
from openmm_cgan.plumed.actions.run_keywords import (
    LOG_FILE,
    RESTART,
    ROW_FORMAT,
    check_format,
    read_restart,
)


class StopRunError(RuntimeError):
    """An action asks the run to stop at this step: COMMITTOR has come into a basin."""


class Committor(Action):
    """A row whenever another basin is entered; the run stops unless NOSTOP."""

    name = "COMMITTOR"
    summary = "stop in a basin"
    keywords = (
        Keyword("ARG", "arguments", "the values that basins are defined in", compulsory=True),
        Keyword("BASIN_LL", "reals", "lower limits of a basin", first=1),
        Keyword("BASIN_UL", "reals", "upper limits of a basin", first=1),
        Keyword("STRIDE", "integer", "steps between looks", default=1),
        LOG_FILE,
        ROW_FORMAT,
        Keyword("NOSTOP", "flag", "only write"),
        RESTART,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.lower: tuple[tuple[float, ...], ...] = options["BASIN_LLi"]
        self.upper: tuple[tuple[float, ...], ...] = options["BASIN_ULi"]
        self.stride: int = options["STRIDE"]
        self.file: str | None = options["FILE"]
        self.fmt: str = options["FMT"]
        self.stops: bool = not options["NOSTOP"]
        self.restarts = read_restart(given)
        self.basin = 0
        if not self.lower or len(self.lower) != len(self.upper):
            raise self.error("BASIN_LLi", "each basin needs BASIN_LLi= and BASIN_ULi=")
        if np.any(np.array(self.lower) > np.array(self.upper)):
            raise self.error("BASIN_ULi", "must not be below BASIN_LLi")
        if self.stride <= 0:
            raise self.error("STRIDE", "must be positive")
        check_format(given, self.fmt, "%12.6f")

    def enter_basin(self, arguments: list[Any]) -> tuple[bool, bool]:
        """Whether the values are in a basin, and whether it is another than before.

        Parameters
        ----------
        arguments : list of float, length n_arguments
        """
        for number, limits in enumerate(zip(self.lower, self.upper, strict=True), start=1):
            triples = zip(arguments, *limits, strict=True)
            if all(low < x < high for x, low, high in triples):
                entered, self.basin = self.basin != number, number
                return True, entered
        self.basin = 0
        return False, False

    def saved(self) -> dict[str, np.ndarray]:
        """For a checkpoint: ``basin``, shape (), the number of the basin it is in, or 0."""
        return {"basin": np.array(self.basin)}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `saved` gave, of shape ()."""
        self.basin = int(saved_array(arrays, "basin", ()))
