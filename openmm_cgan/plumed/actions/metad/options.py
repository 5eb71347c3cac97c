"""What METAD understands: its keywords, and `MetadOptions`, what a statement says by them.

Everything that can be wrong with the words of a METAD is found here, before there is one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.metad.acceleration import (
    ACCELERATION_KEYWORDS,
    AccelerationOptions,
    read_acceleration,
)
from openmm_cgan.plumed.actions.metad.adaptive import ADAPTIVE_KEYWORDS, WidthOptions, read_widths
from openmm_cgan.plumed.actions.metad.axis import MAX_GRID_POINTS, Axis, read_axis, require_room
from openmm_cgan.plumed.actions.metad.heights import HEIGHT_KEYWORDS, HeightOptions, read_heights
from openmm_cgan.plumed.actions.metad.hill_lists import LIST_KEYWORDS, read_list
from openmm_cgan.plumed.actions.metad.tempering import (
    TEMPERING_KEYWORDS,
    Target,
    TransitionOptions,
    check_tempering,
    check_wells,
    read_target,
    read_transition,
)
from openmm_cgan.plumed.actions.run_keywords import (
    RESTART,
    TEMP,
    SnapshotFiles,
    check_format,
    read_restart,
)
from openmm_cgan.plumed.actions.update_window import WINDOW_KEYWORDS, read_window
from openmm_cgan.plumed.actions.values import Value

_NUMBERS = ("nlker", "nlsteps", "acc", "pace")  # outputs that are no energies
MAX_AXES = 3  # of a grid
MAX_WALKERS = 10_000
MOST_POINTS = 10**9  # for PLUMED too

_GRID_KEYWORDS = (
    Keyword("GRID_MIN", "texts", "lower limits of the grid; without a grid hills are summed"),
    Keyword("GRID_MAX", "texts", "upper limits of the grid"),
    Keyword("GRID_BIN", "integers", "cells of the grid"),
    Keyword("GRID_SPACING", "reals", "largest distance of two nodes"),
    Keyword("GRID_SPARSE", "flag", "taken as an ordinary grid"),
    Keyword("GRID_NOSPLINE", "flag", "take the bias and force of the node below"),
    Keyword("GRID_WFILE", "text", "where the grid is written"),
    Keyword("GRID_WSTRIDE", "integer", "steps between writing the grid"),
    Keyword("STORE_GRIDS", "flag", "keep all grids that are written, not only the last"),
    Keyword("GRID_RFILE", "text", "a grid to begin with"),
)
WALKER_KEYWORDS = (
    Keyword("WALKERS_N", "integer", "how many walkers share their hills by files", default=1),
    Keyword("WALKERS_ID", "integer", "which of them this is, from 0", default=0),
    Keyword("WALKERS_DIR", "text", "folder of their hills files", default=""),
    Keyword("WALKERS_RSTRIDE", "integer", "steps between reading their hills", default=1),
)
METAD_KEYWORDS = (
    Keyword("ARG", "arguments", "the values", compulsory=True),
    Keyword("SIGMA", "numbers", "width of the hills for each argument", compulsory=True),
    Keyword("PACE", "integer", "steps between hills", compulsory=True),
    *HEIGHT_KEYWORDS,
    TEMP,
    Keyword("FILE", "text", "where the hills are written", default="HILLS"),
    Keyword("FMT", "text", "number format of the hills file"),
    RESTART,
    Keyword("INTERVAL", "numbers", "limits outside which one value feels no force"),
    Keyword("CALC_RCT", "flag", "c(t), and the bias less c(t), as rct and rbias"),
    Keyword("RCT_USTRIDE", "integer", "hills between updates of c(t)", default=1),
    Keyword("CALC_MAX_BIAS", "flag", "the largest bias on the grid as maxbias"),
    Keyword("CALC_WORK", "flag", "work done by laying hills as work"),
    *_GRID_KEYWORDS,
    *WALKER_KEYWORDS,
    *ADAPTIVE_KEYWORDS,
    *TEMPERING_KEYWORDS,
    *ACCELERATION_KEYWORDS,
    *LIST_KEYWORDS,
    *WINDOW_KEYWORDS,
)


@dataclass(frozen=True)
class GridOptions:
    """The grid of a METAD.

    Attributes
    ----------
    axes : tuple of Axis
        At most three.
    spline : bool
        Whether the bias is interpolated between nodes.
    """

    axes: tuple[Axis, ...]
    spline: bool


@dataclass(frozen=True)
class Walkers:
    """The walkers that share their hills by files.

    Attributes
    ----------
    number, index : int
        How many there are, and which of them this is, from 0.
    folder : str
        Where their files are.
    stride : int
        Steps between reading the hills of the others.
    """

    number: int
    index: int
    folder: str
    stride: int


@dataclass(frozen=True)
class MetadOptions:
    """What a METAD is told by its statement.

    Attributes
    ----------
    pace : int
        Steps between hills, at first.
    sigma : tuple of float, length n_arguments
        Widths of the hills; with `widths` a length, or a memory.
    heights : HeightOptions
    temp : float or None
        Temperature [K]; None for that of the run.
    widths : WidthOptions or None
        With ADAPTIVE.
    grid : GridOptions or None
    near_hills : (float, float) or None
        The parameters of NLIST.
    interval : (float, float) or None
        Outside of which the only argument feels no force.
    transition : TransitionOptions or None
    target : Target or None
    acceleration : AccelerationOptions or None
    window : (float, float) or None
        Times at which it is updated [time unit of the input]; None for always.
    walkers : Walkers
    grid_files : SnapshotFiles
    file, fmt : str
        Of the hills.
    restarts : bool or None
        Whether it restarts; None for as the whole input.
    calc_rct, calc_max_bias, calc_work : bool
        Whether it gives c(t), the largest bias and the work.
    rct_stride : int
        Steps between updates of c(t).
    """

    pace: int
    sigma: tuple[float, ...]
    heights: HeightOptions
    temp: float | None
    widths: WidthOptions | None
    grid: GridOptions | None
    near_hills: tuple[float, float] | None
    interval: tuple[float, float] | None
    transition: TransitionOptions | None
    target: Target | None
    acceleration: AccelerationOptions | None
    window: tuple[float, float] | None
    walkers: Walkers
    grid_files: SnapshotFiles
    file: str
    fmt: str
    restarts: bool | None
    calc_rct: bool
    calc_max_bias: bool
    calc_work: bool
    rct_stride: int

    @property
    def needs_kt(self) -> bool:
        """Whether something depends on the temperature."""
        wells = self.transition is not None and self.transition.factor is not None
        heights = self.heights.tempered or wells or self.target is not None
        return heights or self.calc_rct or self.acceleration is not None


def read_metad(given: Given) -> MetadOptions:
    """What the words of a METAD say.

    Raises
    ------
    PlumedInputError
        If a value is wrong, or two do not go together.
    """
    options = given.options
    restarts, interval = read_restart(given), _read_interval(given)
    heights = _check_numbers(given)
    walkers = read_walkers(given)
    widths = read_widths(given)
    axes = _read_axes(given, widths)
    parsed = MetadOptions(
        pace=options["PACE"],
        sigma=options["SIGMA"],
        heights=heights,
        temp=options["TEMP"],
        widths=widths,
        grid=GridOptions(axes, not options["GRID_NOSPLINE"]) if axes else None,
        near_hills=read_list(given),
        interval=interval,
        transition=read_transition(given),
        target=read_target(given),
        acceleration=read_acceleration(given),
        window=read_window(given),
        walkers=walkers,
        grid_files=_grid_files(given),
        file=options["FILE"],
        fmt=options["FMT"] or "%23.16g",
        restarts=restarts,
        calc_rct=options["CALC_RCT"],
        calc_max_bias=options["CALC_MAX_BIAS"],
        calc_work=options["CALC_WORK"],
        rct_stride=options["RCT_USTRIDE"] * options["PACE"],
    )
    _check_together(given, parsed)
    return parsed


def metad_outputs(label: str, options: MetadOptions) -> tuple[Value, ...]:
    """The values that a METAD of that label gives, in PLUMED's order."""
    listed, acceleration = options.near_hills is not None, options.acceleration
    has = {
        "bias": True,
        "nlker": listed,
        "nlsteps": listed,
        "rbias": options.calc_rct,
        "rct": options.calc_rct,
        "work": options.calc_work,
        "acc": acceleration is not None,
        "maxbias": options.calc_max_bias,
        "transbias": options.transition is not None,
        "pace": acceleration is not None and acceleration.pacing is not None,
    }
    names = [name for name, is_there in has.items() if is_there]
    return tuple(Value(f"{label}.{n}", "" if n in _NUMBERS else "energy") for n in names)


def _read_interval(given: Given) -> tuple[float, float] | None:
    limits: tuple[float, ...] | None = given.options["INTERVAL"]
    if limits is None:
        return None
    if len(given.arguments) != 1 or given.arguments[0].domain is not None:
        raise given.error("INTERVAL", "works for one argument that is not periodic")
    if len(limits) != 2:
        raise given.error("INTERVAL", f"{len(limits)} numbers; expected lower,upper")
    lower, upper = limits
    if upper < lower:
        raise given.error("INTERVAL", "the upper limit is below the lower one")
    return lower, upper


def _check_numbers(given: Given) -> HeightOptions:
    """Check what stands for itself; return the heights, which are checked between."""
    options = given.options
    if not given.arguments:
        raise given.error("ARG", "no argument is given")
    if not all(sigma > 0 for sigma in options["SIGMA"]):
        raise given.error("SIGMA", "must be positive")
    if options["PACE"] <= 0:
        raise given.error("PACE", "must be positive")
    if options["RCT_USTRIDE"] <= 0:
        raise given.error("RCT_USTRIDE", "must be positive")
    heights = read_heights(given)
    check_format(given, options["FMT"] or "%23.16g")
    return heights


def read_walkers(given: Given) -> Walkers:
    """The walkers that share hills.

    Raises
    ------
    PlumedInputError
        If a number is wrong.
    """
    words = ("WALKERS_N", "WALKERS_ID", "WALKERS_DIR", "WALKERS_RSTRIDE")
    walkers = Walkers(*(given.options[word] for word in words))
    if not 1 <= walkers.number <= MAX_WALKERS:
        raise given.error("WALKERS_N", f"must be from 1 to {MAX_WALKERS}")
    if not 0 <= walkers.index < walkers.number:
        raise given.error("WALKERS_ID", f"must be from 0 to {walkers.number - 1}: WALKERS_N - 1")
    if walkers.stride <= 0:
        raise given.error("WALKERS_RSTRIDE", "must be positive")
    return walkers


def _grid_files(given: Given) -> SnapshotFiles:
    options = given.options
    stride = options["GRID_WSTRIDE"] or 0
    return SnapshotFiles(
        options["GRID_RFILE"], options["GRID_WFILE"], stride, options["STORE_GRIDS"]
    )


def _check_together(given: Given, options: MetadOptions) -> None:
    """Check what the parts of a METAD need of each other."""
    temperings = options.heights.temperings()
    transition, grid, files = options.transition, options.grid, options.grid_files
    if transition is not None and transition.factor is not None:
        temperings["TTBIASFACTOR"] = (transition.factor - 1, transition.alpha)
    check_tempering(given, temperings)
    if grid is None:
        needs = {
            "CALC_RCT": options.calc_rct,
            "CALC_MAX_BIAS": options.calc_max_bias,
            "DAMPFACTOR": options.heights.damp_factor,
            "GRID_WFILE": files.written,
            "GRID_RFILE": files.read,
            "TRANSITIONWELL": transition is not None,
        }
        for word in (word for word, needed in needs.items() if needed):
            raise given.error(word, "needs a grid: add GRID_MIN= and GRID_MAX=")
    elif transition is not None:
        check_wells(given, transition, grid.axes)
    if bool(files.written) != bool(files.stride) or files.stride < 0:
        raise given.error("GRID_WFILE", "give GRID_WFILE together with GRID_WSTRIDE > 0")


def _read_axes(given: Given, widths: WidthOptions | None) -> tuple[Axis, ...]:
    options, arguments = given.options, given.arguments
    if options["GRID_MIN"] is None and options["GRID_MAX"] is None:
        for word in ("GRID_BIN", "GRID_SPACING"):
            if options[word] is not None:
                raise given.error(word, "needs GRID_MIN and GRID_MAX")
        return ()
    if options["GRID_MIN"] is None or options["GRID_MAX"] is None:
        raise given.error("GRID_MIN", "give GRID_MIN and GRID_MAX, or none of them")
    if len(arguments) > MAX_AXES:
        message = f"a grid of {len(arguments)} arguments; natively {MAX_AXES}"
        raise given.not_native("ARG", message)
    if options["GRID_SPARSE"] and (options["CALC_RCT"] or options["GRID_WFILE"]):
        raise given.not_native("GRID_SPARSE", "with CALC_RCT or GRID_WFILE is not native")
    narrowest = options["SIGMA"] if widths is None else widths.smallest
    axes = tuple(
        read_axis(given, i, value, options["GRID_MIN"], options["GRID_MAX"], narrowest)
        for i, value in enumerate(arguments)
    )
    for axis, sigma in zip(axes, options["SIGMA"] if widths is None else (), strict=False):
        require_room(given, axis, sigma)
    points = math.prod(axis.nodes for axis in axes)
    if points > MOST_POINTS:
        raise given.error("GRID_BIN", f"a grid of {points} points would need more memory than any")
    if points > MAX_GRID_POINTS:
        raise given.not_native("GRID_BIN", f"the grid has more than {MAX_GRID_POINTS} points")
    return axes
