"""What PBMETAD understands: its keywords, and `PbmetadOptions`, what a statement says by them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.metad.adaptive import ADAPTIVE_KEYWORDS, WidthOptions, read_widths
from openmm_cgan.plumed.actions.metad.axis import Axis, read_axis, require_room
from openmm_cgan.plumed.actions.metad.heights import HeightOptions
from openmm_cgan.plumed.actions.metad.options import WALKER_KEYWORDS, Walkers, read_walkers
from openmm_cgan.plumed.actions.run_keywords import RESTART, TEMP, check_format, read_restart
from openmm_cgan.plumed.actions.update_window import WINDOW_KEYWORDS, read_window
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.input.words import split_vector

log = logging.getLogger("openmm_cgan")

PBMETAD_KEYWORDS = (
    Keyword("ARG", "arguments", "the values", compulsory=True),
    Keyword("SIGMA", "numbers", "width of the hills for each argument or PF", compulsory=True),
    Keyword("PACE", "integer", "steps between hills", compulsory=True),
    Keyword("HEIGHT", "real", "height of the hills of all values together, if TAU is not given"),
    Keyword("TAU", "real", "time scale that sets the height, with BIASFACTOR"),
    Keyword("BIASFACTOR", "real", "bias factor; 1 for hills that are not tempered", default=1.0),
    TEMP,
    Keyword("FILE", "text", "where the hills of each argument or PF are written"),
    Keyword("FMT", "text", "number format of the hills files"),
    Keyword("PF", "arguments", "values of one kind, which share their hills", first=0),
    Keyword("GRID_MIN", "text", "lower limits of the grids; without grids hills are summed"),
    Keyword("GRID_MAX", "text", "upper limits of the grids"),
    Keyword("GRID_BIN", "numbers", "cells of the grids"),
    Keyword("GRID_SPACING", "numbers", "largest distance of two nodes"),
    Keyword("GRID_SPARSE", "flag", "taken as ordinary grids"),
    Keyword("GRID_NOSPLINE", "flag", "take the bias and force of the node below"),
    Keyword("GRID_WFILES", "text", "where the grids are written"),
    Keyword("GRID_WSTRIDE", "integer", "steps between writing the grids", default=0),
    Keyword("GRID_RFILES", "text", "grids to begin with"),
    Keyword("INTERVAL_MIN", "numbers", "limits below which values feel no force"),
    Keyword("INTERVAL_MAX", "numbers", "limits above which values feel no force"),
    Keyword("SELECTOR", "text", "a name that programs may set a number for; here it is 0"),
    Keyword("SELECTOR_ID", "integer", "the number with which it acts; natively 0", default=0),
    *ADAPTIVE_KEYWORDS,
    *WALKER_KEYWORDS,
    RESTART,
    *WINDOW_KEYWORDS,
)


@dataclass(frozen=True)
class FamilyOptions:
    """One sum of hills.

    Attributes
    ----------
    value : Value
        The first that it is of.
    sigma : float
        Width of the hills; not used where they adapt.
    widths : WidthOptions or None
        How they do.
    axis : Axis or None
        Of its grid.
    interval : (float, float) or None
        Outside of which there is no force.
    file : str
        Of the hills.
    grid_read, grid_written : str or None
    """

    value: Value
    sigma: float
    widths: WidthOptions | None
    axis: Axis | None
    interval: tuple[float, float] | None
    file: str
    grid_read: str | None
    grid_written: str | None


@dataclass(frozen=True)
class PbmetadOptions:
    """What a PBMETAD is told by its statement.

    Attributes
    ----------
    families : tuple of FamilyOptions
    family_of : tuple of int, length n_arguments
        Which of them each argument belongs to.
    pace : int
        Steps between hills.
    heights : HeightOptions
    temp : float or None
        Temperature [K]; None for that of the run.
    widths : WidthOptions or None
        With ADAPTIVE.
    spline : bool
        Whether grids are interpolated.
    grid_stride : int
        Steps between writing grids; 0 for never.
    walkers : Walkers
    fmt : str
        Of the hills files.
    restarts : bool or None
        Whether it restarts; None for as the whole input.
    window : (float, float) or None
        Times at which it is updated [time unit of the input].
    """

    families: tuple[FamilyOptions, ...]
    family_of: tuple[int, ...]
    pace: int
    heights: HeightOptions
    temp: float | None
    widths: WidthOptions | None
    spline: bool
    grid_stride: int
    walkers: Walkers
    fmt: str
    restarts: bool | None
    window: tuple[float, float] | None


def read_pbmetad(given: Given) -> PbmetadOptions:
    """What the words of a PBMETAD say.

    Raises
    ------
    PlumedInputError
        If a value is wrong, or two do not go together.
    """
    options = given.options
    if not given.arguments:
        raise given.error("ARG", "no argument is given")
    if options["PACE"] <= 0:
        raise given.error("PACE", "must be positive")
    if options["GRID_WSTRIDE"] < 0:
        raise given.error("GRID_WSTRIDE", "must not be negative")
    if options["SELECTOR_ID"]:
        raise given.not_native("SELECTOR_ID", "nobody sets the selector: it would never act")
    fmt = options["FMT"] or "%23.16g"
    check_format(given, fmt)
    firsts, family_of = _read_families(given)
    widths = read_widths(given) if (options["ADAPTIVE"] or "NONE") != "NONE" else None
    if widths is not None and options["PFi"]:
        raise given.not_native("ADAPTIVE", "with PF it is not native")
    return PbmetadOptions(
        families=_read_each(given, firsts, widths),
        family_of=family_of,
        pace=options["PACE"],
        heights=_read_heights(given),
        temp=options["TEMP"],
        widths=widths,
        spline=not options["GRID_NOSPLINE"],
        grid_stride=options["GRID_WSTRIDE"],
        walkers=read_walkers(given),
        fmt=fmt,
        restarts=read_restart(given),
        window=read_window(given),
    )


def _read_families(given: Given) -> tuple[list[Value], tuple[int, ...]]:
    """The first value of each family, and the family of each argument."""
    families = given.options["PFi"]
    if not families:
        return list(given.arguments), tuple(range(len(given.arguments)))
    place: dict[str, int] = {}
    for number, members in enumerate(families):
        for value in members:
            if value.name in place:
                raise given.error(f"PF{number}", f"{value.name} is in PF{place[value.name]} too")
            place[value.name] = number
    names = [value.name for value in given.arguments]
    for name in {*names} ^ {*place}:
        raise given.error("PF", f"{name} must be in ARG and in one PF")
    firsts = [next(v for v in given.arguments if place[v.name] == k) for k in range(len(families))]
    for value in given.arguments:
        if value.domain != firsts[place[value.name]].domain:
            raise given.not_native("PF", f"{value.name} has another domain than its family")
    return firsts, tuple(place[name] for name in names)


def _read_heights(given: Given) -> HeightOptions:
    options = given.options
    height, tau, factor = options["HEIGHT"], options["TAU"] or 0.0, options["BIASFACTOR"]
    if factor < 1:
        raise given.error("BIASFACTOR", "must be 1 or more")
    if (height is None) == (tau == 0):
        raise given.error("HEIGHT", "give either HEIGHT, or TAU with BIASFACTOR")
    if tau and factor == 1:
        raise given.error("TAU", "needs BIASFACTOR above 1")
    return HeightOptions(height, tau, factor if factor > 1 else None, 0.0)


def _read_each(
    given: Given, firsts: Sequence[Value], widths: WidthOptions | None
) -> tuple[FamilyOptions, ...]:
    options, n = given.options, len(firsts)
    sigmas = options["SIGMA"] if widths is None else (0.0,) * n
    if len(sigmas) != n:
        raise given.error("SIGMA", f"{len(sigmas)} numbers for {n} arguments or PF")
    if widths is None and not all(sigma > 0 for sigma in sigmas):
        raise given.error("SIGMA", "must be positive")
    endings = [f"PF{k}" if options["PFi"] else value.name for k, value in enumerate(firsts)]
    files = _each(given, "FILE", n) or [f"HILLS.{ending}" for ending in endings]
    grids = _each(given, "GRID_WFILES", n) or [f"GRID.{ending}" for ending in endings]
    if options["GRID_WFILES"] and not options["GRID_WSTRIDE"]:
        raise given.error("GRID_WFILES", "needs GRID_WSTRIDE")
    axes = _read_axes(given, firsts, sigmas, widths)
    read = _each(given, "GRID_RFILES", n) or (None,) * n
    for word in ("GRID_WSTRIDE", "GRID_RFILES"):
        if options[word] and axes[0] is None:
            raise given.error(word, "needs a grid: add GRID_MIN= and GRID_MAX=")
    intervals = _read_intervals(given, firsts)
    written = grids if options["GRID_WSTRIDE"] else (None,) * n
    adaptive = _widths_of_each(widths, n)
    each = zip(firsts, sigmas, adaptive, axes, intervals, files, read, written, strict=True)
    return tuple(FamilyOptions(*one) for one in each)


def _widths_of_each(widths: WidthOptions | None, n: int) -> Sequence[WidthOptions | None]:
    if widths is None:
        return (None,) * n
    limits = zip(widths.smallest, widths.largest, strict=True)
    return [replace(widths, smallest=(least,), largest=(most,)) for least, most in limits]


def _each(given: Given, word: str, n: int) -> list[str]:
    """The texts of a keyword that has one for each family; none where it is absent."""
    texts = split_vector(given.options[word] or "")
    if texts and len(texts) != n:
        raise given.error(word, f"{len(texts)} given for {n} arguments or PF")
    return texts


def _read_axes(
    given: Given, firsts: Sequence[Value], sigmas: Sequence[float], widths: WidthOptions | None
) -> Sequence[Axis | None]:
    options, n = given.options, len(firsts)
    lowest, highest = (_each(given, word, n) for word in ("GRID_MIN", "GRID_MAX"))
    if bool(lowest) != bool(highest):
        raise given.error("GRID_MIN", "give GRID_MIN and GRID_MAX, or none of them")
    for word in ("GRID_BIN", "GRID_SPACING"):
        if options[word] is not None and not lowest:
            raise given.error(word, "needs GRID_MIN and GRID_MAX")
        if options[word] is not None and len(options[word]) != n:
            raise given.error(word, f"{len(options[word])} numbers for {n} arguments or PF")
    if not lowest:
        return (None,) * n
    if any(bins != int(bins) for bins in options["GRID_BIN"] or ()):
        raise given.error("GRID_BIN", "expected whole numbers")
    narrowest = sigmas if widths is None else widths.smallest
    axes = [read_axis(given, k, v, lowest, highest, narrowest) for k, v in enumerate(firsts)]
    for axis, sigma in zip(axes, sigmas if widths is None else (), strict=False):
        require_room(given, axis, sigma)
    return axes


def _read_intervals(given: Given, firsts: Sequence[Value]) -> Sequence[tuple[float, float] | None]:
    lowest, highest = (given.options[word] for word in ("INTERVAL_MIN", "INTERVAL_MAX"))
    if (lowest is None) != (highest is None):
        raise given.error("INTERVAL_MIN", "give INTERVAL_MIN and INTERVAL_MAX, or none of them")
    if lowest is None:
        return (None,) * len(firsts)
    if not len(lowest) == len(highest) == len(firsts):
        raise given.error("INTERVAL_MIN", f"expected {len(firsts)} numbers, as arguments or PF")
    if given.options["ADAPTIVE"] not in (None, "NONE"):
        raise given.not_native("INTERVAL_MIN", "with ADAPTIVE is not native")
    intervals: list[tuple[float, float] | None] = []
    for value, lower, upper in zip(firsts, lowest, highest, strict=True):
        if upper < lower:
            raise given.error("INTERVAL_MAX", "the upper limit is below the lower one")
        if value.domain is not None:
            where = given.statement.location
            log.warning("%s: INTERVAL is not used for the periodic %s", where, value.name)
        intervals.append(None if value.domain is not None else (lower, upper))
    return intervals
