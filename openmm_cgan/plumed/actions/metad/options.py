"""What METAD understands: its keywords, what they exclude, and the axes of its grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from openmm_cgan.plumed.actions.action import REMEDY, Keyword
from openmm_cgan.plumed.actions.metad.acceleration import ACCELERATION_KEYWORDS
from openmm_cgan.plumed.actions.metad.adaptive import ADAPTIVE_KEYWORDS
from openmm_cgan.plumed.actions.metad.hill_grid import MAX_GRID_POINTS, Axis, reach_of
from openmm_cgan.plumed.actions.metad.hill_lists import LIST_KEYWORDS
from openmm_cgan.plumed.actions.metad.tempering import TEMPERING_KEYWORDS, check_wells
from openmm_cgan.plumed.actions.metad.update_window import WINDOW_KEYWORDS
from openmm_cgan.plumed.input.language import is_number_format, read_real

if TYPE_CHECKING:
    from openmm_cgan.plumed.actions.metad.metad import Metad

MAX_AXES = 3  # of a grid
MAX_WALKERS = 10_000

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
_WALKER_KEYWORDS = (
    Keyword("WALKERS_N", "integer", "how many walkers share their hills by files", default=1),
    Keyword("WALKERS_ID", "integer", "which of them this is, from 0", default=0),
    Keyword("WALKERS_DIR", "text", "folder of their hills files", default=""),
    Keyword("WALKERS_RSTRIDE", "integer", "steps between reading their hills", default=1),
)
METAD_KEYWORDS = (
    Keyword("ARG", "arguments", "the values", compulsory=True),
    Keyword("SIGMA", "numbers", "width of the hills for each argument", compulsory=True),
    Keyword("PACE", "integer", "steps between hills", compulsory=True),
    Keyword("HEIGHT", "real", "height of the hills, if TAU is not given"),
    Keyword("TAU", "real", "time scale that sets the height, with BIASFACTOR or DAMPFACTOR"),
    Keyword("BIASFACTOR", "real", "bias factor of well-tempered metadynamics"),
    Keyword("DAMPFACTOR", "real", "damp by the largest bias: exp(-max / (kT DAMPFACTOR))"),
    Keyword("TEMP", "real", "temperature in K, if not that of the run"),
    Keyword("FILE", "text", "where the hills are written", default="HILLS"),
    Keyword("FMT", "text", "number format of the hills file"),
    Keyword("RESTART", "text", "YES or NO, if not as the whole input"),
    Keyword("INTERVAL", "numbers", "limits outside which one value feels no force"),
    Keyword("CALC_RCT", "flag", "c(t), and the bias less c(t), as rct and rbias"),
    Keyword("RCT_USTRIDE", "integer", "hills between updates of c(t)", default=1),
    Keyword("CALC_MAX_BIAS", "flag", "the largest bias on the grid as maxbias"),
    Keyword("CALC_WORK", "flag", "work done by laying hills as work"),
    *_GRID_KEYWORDS,
    *_WALKER_KEYWORDS,
    *ADAPTIVE_KEYWORDS,
    *TEMPERING_KEYWORDS,
    *ACCELERATION_KEYWORDS,
    *LIST_KEYWORDS,
    *WINDOW_KEYWORDS,
)


def read_interval(metad: Metad, limits: tuple[float, ...] | None) -> tuple[float, float] | None:
    if limits is None:
        return None
    if len(metad.arguments) != 1 or metad.arguments[0].domain is not None:
        raise metad.error("INTERVAL", "works for one argument that is not periodic")
    if len(limits) != 2:
        raise metad.error("INTERVAL", f"{len(limits)} numbers; expected lower,upper")
    lower, upper = limits
    if upper < lower:
        raise metad.error("INTERVAL", "the upper limit is below the lower one")
    return lower, upper


def check_options(metad: Metad) -> None:
    if not metad.arguments:
        raise metad.error("ARG", "no argument is given")
    if not all(sigma > 0 for sigma in metad.sigma):
        raise metad.error("SIGMA", "must be positive")
    if metad.pace <= 0:
        raise metad.error("PACE", "must be positive")
    if metad.rct_stride <= 0:
        raise metad.error("RCT_USTRIDE", "must be positive")
    if metad.bias_factor is not None and metad.bias_factor < 1:
        raise metad.error("BIASFACTOR", "must be 1 or more")
    if (metad.height is None) == (metad.tau == 0):
        raise metad.error("HEIGHT", "give either HEIGHT, or TAU with BIASFACTOR or DAMPFACTOR")
    if metad.tau and metad.bias_factor is None and not metad.damp_factor:
        raise metad.error("TAU", "needs BIASFACTOR or DAMPFACTOR")
    if metad.damp_factor < 0:
        raise metad.error("DAMPFACTOR", "must be positive")
    if not is_number_format(metad.fmt):
        raise metad.error("FMT", "expected a format such as %14.9f")
    if not 1 <= metad.walkers <= MAX_WALKERS:
        raise metad.error("WALKERS_N", f"must be from 1 to {MAX_WALKERS}")
    if not 0 <= metad.walker < metad.walkers:
        raise metad.error("WALKERS_ID", f"must be from 0 to {metad.walkers - 1}: WALKERS_N - 1")
    if metad.read_stride <= 0:
        raise metad.error("WALKERS_RSTRIDE", "must be positive")


def check_grid(metad: Metad) -> None:
    if metad.grid is None:
        needs = {
            "CALC_RCT": metad.calc_rct,
            "CALC_MAX_BIAS": metad.calc_max_bias,
            "DAMPFACTOR": metad.damp_factor,
            "GRID_WFILE": metad.grid_file,
            "GRID_RFILE": metad.grid_read,
            "TRANSITIONWELL": metad.transition is not None,
        }
        for word in (word for word, given in needs.items() if given):
            raise metad.error(word, "needs a grid: add GRID_MIN= and GRID_MAX=")
    elif metad.transition is not None:
        check_wells(metad, metad.transition, metad.grid.axes)
    if bool(metad.grid_file) != bool(metad.grid_stride) or metad.grid_stride < 0:
        raise metad.error("GRID_WFILE", "give GRID_WFILE together with GRID_WSTRIDE > 0")


def read_axes(metad: Metad, options: dict[str, Any]) -> list[Axis]:
    if options["GRID_MIN"] is None and options["GRID_MAX"] is None:
        for word in ("GRID_BIN", "GRID_SPACING"):
            if options[word] is not None:
                raise metad.error(word, "needs GRID_MIN and GRID_MAX")
        return []
    if options["GRID_MIN"] is None or options["GRID_MAX"] is None:
        raise metad.error("GRID_MIN", "give GRID_MIN and GRID_MAX, or none of them")
    if len(metad.arguments) > MAX_AXES:
        message = f"a grid of {len(metad.arguments)} arguments; natively {MAX_AXES}; {REMEDY}"
        raise metad.error("ARG", message)
    if options["GRID_SPARSE"] and (options["CALC_RCT"] or options["GRID_WFILE"]):
        raise metad.error("GRID_SPARSE", f"with CALC_RCT or GRID_WFILE is not native; {REMEDY}")
    axes = [_read_axis(metad, i, options) for i in range(len(metad.arguments))]
    if math.prod(axis.nodes for axis in axes) > MAX_GRID_POINTS:
        raise metad.error("GRID_BIN", f"the grid has more than {MAX_GRID_POINTS} points; {REMEDY}")
    return axes


def _read_axis(metad: Metad, i: int, options: dict[str, Any]) -> Axis:
    value = metad.arguments[i]
    texts = (options["GRID_MIN"][i], options["GRID_MAX"][i])
    try:
        lower, upper = (read_real(text) for text in texts)
    except ValueError as error:
        raise metad.error("GRID_MIN", str(error)) from None
    if lower >= upper:
        raise metad.error("GRID_MIN", f"must be below GRID_MAX for {value.name}")
    if value.domain is not None and (lower, upper) != value.domain:
        message = f"the grid of the periodic {value.name} must be its whole domain"
        raise metad.error("GRID_MIN", message)
    bins, spacing = options["GRID_BIN"], options["GRID_SPACING"]
    if bins is None and spacing is None:
        narrowest = metad.sigma if metad.widths is None else metad.widths.smallest
        spacing = [0.2 * sigma for sigma in narrowest]
    cells = bins[i] if bins is not None else 1
    if spacing is not None:
        if not spacing[i] > 0:
            raise metad.error("GRID_SPACING", "must be positive")
        cells = max(cells, math.ceil((upper - lower) / spacing[i]))
    if not 1 <= cells <= MAX_GRID_POINTS:
        raise metad.error("GRID_BIN", f"{cells} cells for {value.name}: expected at least 1")
    axis = Axis(value, lower, upper, cells, value.domain_text or texts)
    if metad.widths is None and axis.goes_round(reach_of(metad.sigma[i])):
        message = f"the hills are wider than {value.name}'s whole domain; {REMEDY}"
        raise metad.error("SIGMA", message)
    return axis
