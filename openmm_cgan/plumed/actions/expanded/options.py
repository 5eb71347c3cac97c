"""What OPES_EXPANDED understands: its keywords, and what a statement says by them."""

from __future__ import annotations

from dataclasses import dataclass

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.run_keywords import (
    RESTART,
    SnapshotFiles,
    check_format,
    read_restart,
)

EXPANDED_KEYWORDS = (
    Keyword("ARG", "arguments", "all values of the ECV_ actions", compulsory=True),
    Keyword("PACE", "integer", "steps between updates of the bias", compulsory=True),
    Keyword("OBSERVATION_STEPS", "integer", "updates without bias at first", default=100),
    Keyword("FILE", "text", "where the free energies of the states are written", default="DELTAFS"),
    Keyword("PRINT_STRIDE", "integer", "updates between rows of that file", default=100),
    Keyword("FMT", "text", "number format of the files"),
    Keyword("STATE_RFILE", "text", "state to restart from, in place of that file"),
    Keyword("STATE_WFILE", "text", "where the state is written"),
    Keyword("STATE_WSTRIDE", "integer", "steps between states"),
    Keyword("STORE_STATES", "flag", "append states to the file in place of overwriting it"),
    Keyword("CALC_WORK", "flag", "sum up the work done by changing the bias"),
    Keyword("SERIAL", "flag", "without effect"),
    RESTART,
)


@dataclass(frozen=True)
class ExpandedOptions:
    """What an OPES_EXPANDED is told by its statement.

    Attributes
    ----------
    pace : int
        Steps between updates.
    observations : int
        Updates without bias at first.
    file, fmt : str
        Of the free energies.
    print_stride : int
        Updates between rows of them.
    state : SnapshotFiles
    calc_work : bool
    restarts : bool or None
        Whether it restarts; None for as the whole input.
    """

    pace: int
    observations: int
    file: str
    fmt: str
    print_stride: int
    state: SnapshotFiles
    calc_work: bool
    restarts: bool | None


def read_expanded(given: Given) -> ExpandedOptions:
    """What the words of an OPES_EXPANDED say.

    Raises
    ------
    PlumedInputError
        If a number is wrong, or two do not go together.
    """
    options = given.options
    for word in ("PACE", "OBSERVATION_STEPS", "PRINT_STRIDE"):
        if options[word] <= 0:
            raise given.error(word, "must be positive")
    fmt = options["FMT"]
    check_format(given, fmt or "%f")
    stride, written = options["STATE_WSTRIDE"], options["STATE_WFILE"]
    if (stride or options["STORE_STATES"]) and written is None:
        raise given.error("STATE_WSTRIDE", "needs STATE_WFILE")
    if stride is not None and stride < options["PACE"]:
        raise given.error("STATE_WSTRIDE", "is in steps, and not below PACE")
    state = SnapshotFiles(options["STATE_RFILE"], written, stride or 0, options["STORE_STATES"])
    return ExpandedOptions(
        pace=options["PACE"],
        observations=options["OBSERVATION_STEPS"],
        file=options["FILE"],
        fmt=" " + fmt if fmt else "%23.16g",
        print_stride=options["PRINT_STRIDE"],
        state=state,
        calc_work=options["CALC_WORK"],
        restarts=read_restart(given),
    )
