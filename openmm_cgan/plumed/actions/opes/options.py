"""What OPES understands: its keywords, and `OpesOptions`, what a statement says by them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.biases.bias import STRIDE
from openmm_cgan.plumed.actions.neighbour_lists import PATIENCE, REACH, largest_patience
from openmm_cgan.plumed.actions.run_keywords import (
    RESTART,
    TEMP,
    SnapshotFiles,
    check_format,
    read_restart,
)
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.input.words import read_real, split_vector

OPES_KEYWORDS = (
    Keyword("ARG", "arguments", "the values to bias", compulsory=True),
    Keyword("PACE", "integer", "steps between kernels", compulsory=True),
    Keyword("BARRIER", "real", "free-energy barrier to be overcome", compulsory=True),
    TEMP,
    Keyword("SIGMA", "text", "initial width for each argument, or ADAPTIVE", default="ADAPTIVE"),
    Keyword("ADAPTIVE_SIGMA_STRIDE", "integer", "steps that an adaptive width is measured in"),
    Keyword("SIGMA_MIN", "reals", "smallest width for each argument"),
    Keyword("BIASFACTOR", "text", "bias factor, or inf; BARRIER/kT if absent"),
    Keyword("EPSILON", "real", "regularization; from BARRIER if absent"),
    Keyword("KERNEL_CUTOFF", "real", "where kernels end, in sigmas; from BARRIER if absent"),
    Keyword("COMPRESSION_THRESHOLD", "real", "merge kernels closer, in sigmas", default=1.0),
    Keyword("FIXED_SIGMA", "flag", "do not let the widths shrink"),
    Keyword("RECURSIVE_MERGE_OFF", "flag", "merge once for each new kernel"),
    Keyword("NO_ZED", "flag", "do not normalize over what was explored"),
    Keyword("NLIST", "flag", "sum only the kernels around, listed anew where the values move on"),
    Keyword("NLIST_PACE_RESET", "flag", "list anew at each PACE too; implies NLIST"),
    Keyword("NLIST_PARAMETERS", "numbers", "reach and patience of the list; implies NLIST"),
    Keyword("SERIAL", "flag", "without effect"),
    Keyword("CALC_WORK", "flag", "sum up the work done by changing the bias"),
    Keyword("EXCLUDED_REGION", "arguments", "a value; kernels are only laid where it is zero"),
    Keyword("FILE", "text", "where the kernels are written", default="KERNELS"),
    Keyword("FMT", "text", "number format of the files"),
    Keyword("STATE_RFILE", "text", "state to restart from, in place of the kernels"),
    Keyword("STATE_WFILE", "text", "where the state is written"),
    Keyword("STATE_WSTRIDE", "integer", "steps between states"),
    Keyword("STORE_STATES", "flag", "append states to the file in place of overwriting it"),
    RESTART,
    STRIDE,
)
EXTRA_BIAS = Keyword("EXTRA_BIAS", "arguments", "other biases that frames are weighed by too")


@dataclass(frozen=True)
class SigmaOptions:
    """The widths of kernels.

    Attributes
    ----------
    given : tuple of float, length n_arguments, or None
        None where they are measured.
    stride : int
        Steps that they are measured in; 0 where they are given.
    least : tuple of float, length n_arguments, or None
        SIGMA_MIN.
    fixed : bool
        Whether they do not shrink with the number of kernels.
    """

    given: tuple[float, ...] | None
    stride: int
    least: tuple[float, ...] | None
    fixed: bool

    @property
    def measured(self) -> bool:
        """Whether they are not given."""
        return self.given is None


@dataclass(frozen=True)
class ListOptions:
    """The neighbour list.

    Attributes
    ----------
    reach, patience : float
        As of `Neighbours`.
    reset : bool
        Whether it is listed anew after each kernel.
    """

    reach: float
    patience: float
    reset: bool


@dataclass(frozen=True)
class OpesOptions:
    """What an OPES is told by its statement.

    Attributes
    ----------
    pace : int
        Steps between kernels.
    barrier : float
        [energy unit of the input]
    temp : float or None
        Temperature [K]; None for that of the run.
    bias_factor, epsilon, cutoff : float or None
        Bias factor, regularization, and where kernels end in sigmas; None where they follow from
        the barrier.
    threshold : float
        Distance in sigmas below which kernels are merged.
    recursive : bool
        Whether what was merged may be merged again.
    normalized : bool
        Whether the distribution is normalized over what was explored (Z).
    sigma : SigmaOptions
    neighbours : ListOptions or None
    excluded, extra : tuple of Value
        Values that are not zero where no kernel is laid; other biases that frames are weighed by.
    calc_work : bool
    state : SnapshotFiles
    file, fmt : str
        Of the kernels; the format of the state too.
    restarts : bool or None
        Whether it restarts; None for as the whole input.
    """

    pace: int
    barrier: float
    temp: float | None
    bias_factor: float | None
    epsilon: float | None
    cutoff: float | None
    threshold: float
    recursive: bool
    normalized: bool
    sigma: SigmaOptions
    neighbours: ListOptions | None
    excluded: tuple[Value, ...]
    extra: tuple[Value, ...]
    calc_work: bool
    state: SnapshotFiles
    file: str
    fmt: str
    restarts: bool | None


def read_opes(given: Given) -> OpesOptions:
    """What the words of an OPES say.

    Raises
    ------
    PlumedInputError
        If a value is wrong, or two do not go together.
    """
    options = given.options
    neighbours, restarts = _read_list(given), read_restart(given)
    state = _state_files(given)
    _check_numbers(given, state)
    return OpesOptions(
        pace=options["PACE"],
        barrier=options["BARRIER"],
        temp=options["TEMP"] if (options["TEMP"] or 0) > 0 else None,
        sigma=_read_sigma(given),
        bias_factor=_read_factor(given),
        epsilon=options["EPSILON"],
        cutoff=options["KERNEL_CUTOFF"],
        threshold=options["COMPRESSION_THRESHOLD"],
        recursive=not options["RECURSIVE_MERGE_OFF"],
        normalized=not options["NO_ZED"],
        neighbours=neighbours,
        excluded=options["EXCLUDED_REGION"],
        extra=options.get("EXTRA_BIAS", ()),
        calc_work=options["CALC_WORK"],
        state=state,
        file=options["FILE"],
        fmt=f" {options['FMT']}" if options["FMT"] else "%23.16g",
        restarts=restarts,
    )


def _read_list(given: Given) -> ListOptions | None:
    options = given.options
    numbers: tuple[float, ...] | None = options["NLIST_PARAMETERS"]
    reset: bool = options["NLIST_PACE_RESET"]
    if not (options["NLIST"] or reset or numbers is not None):
        return None
    if numbers is not None and len(numbers) != 2:
        raise given.error("NLIST_PARAMETERS", f"{len(numbers)} numbers; expected two")
    reach, patience = (REACH, PATIENCE) if numbers is None else numbers
    if not reach > 1:
        raise given.error("NLIST_PARAMETERS", f"the first is {reach:g}; must be above 1")
    if not 0 < patience <= largest_patience(reach):
        limit = f"above 0 and at most {largest_patience(reach):g} = 1.16 - 1/sqrt({reach:g})"
        raise given.error("NLIST_PARAMETERS", f"the second is {patience:g}; must be {limit}")
    return ListOptions(reach, patience, reset)


def _state_files(given: Given) -> SnapshotFiles:
    options = given.options
    stride = options["STATE_WSTRIDE"] or 0
    return SnapshotFiles(
        options["STATE_RFILE"], options["STATE_WFILE"], stride, options["STORE_STATES"]
    )


def _check_numbers(given: Given, state: SnapshotFiles) -> None:
    options = given.options
    if options["PACE"] <= 0:
        raise given.error("PACE", "must be positive")
    if options["BARRIER"] < 0:
        raise given.error("BARRIER", "must not be negative")
    for word in ("EPSILON", "KERNEL_CUTOFF"):
        if options[word] is not None and not options[word] > 0:
            raise given.error(word, "must be positive")
    if len(options["EXCLUDED_REGION"]) > 1:
        number = len(options["EXCLUDED_REGION"])
        raise given.error("EXCLUDED_REGION", f"{number} values; expected one")
    if options["FMT"]:
        check_format(given, options["FMT"])
    if (state.stride or state.keeps_all) and state.written is None:
        raise given.error("STATE_WSTRIDE", "needs STATE_WFILE=")
    if state.stride and state.stride < options["PACE"]:
        raise given.error("STATE_WSTRIDE", "must not be less than PACE")
    if (every := options["STRIDE"]) > 1:
        if options["PACE"] % every or state.stride % every:
            message = "natively PACE and STATE_WSTRIDE are multiples of it"
            raise given.not_native("STRIDE", message)
        if options["NLIST"] or options["NLIST_PACE_RESET"] or options["NLIST_PARAMETERS"]:
            raise given.not_native("STRIDE", "with NLIST it is not native")


def _read_sigma(given: Given) -> SigmaOptions:
    options, n = given.options, len(given.arguments)
    stride: int | None = options["ADAPTIVE_SIGMA_STRIDE"]
    words = split_vector(options["SIGMA"])
    least, fixed = options["SIGMA_MIN"], options["FIXED_SIGMA"]
    if words in (["ADAPTIVE"], ["adaptive"]):
        stride = stride or 10 * options["PACE"]
        if stride < options["PACE"]:
            raise given.error("ADAPTIVE_SIGMA_STRIDE", "must not be less than PACE")
        return SigmaOptions(None, stride, least, fixed)
    if stride:
        raise given.error("ADAPTIVE_SIGMA_STRIDE", "only with SIGMA=ADAPTIVE")
    try:
        sigma = tuple(read_real(word) for word in words)
    except ValueError as error:
        raise given.error("SIGMA", str(error)) from None
    if len(words) != n:
        raise given.error("SIGMA", f"{len(words)} numbers for {n} arguments in ARG")
    if not all(number > 0 for number in sigma):
        raise given.error("SIGMA", "must be positive")
    return SigmaOptions(sigma, 0, least, fixed)


def _read_factor(given: Given) -> float | None:
    text: str | None = given.options["BIASFACTOR"]
    if text is None:
        return None
    try:
        return math.inf if text.lower() == "inf" else read_real(text)
    except ValueError as error:
        raise given.error("BIASFACTOR", str(error)) from None
