"""Where the hills of a METAD are kept: on a grid, or one by one."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from openmm_cgan.plumed.actions.metad.adaptive import WideHillSum
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.metad.hill_lists import ListedHillSum
from openmm_cgan.plumed.actions.metad.hill_sums import HillSum
from openmm_cgan.plumed.actions.metad.options import MetadOptions
from openmm_cgan.plumed.actions.values import Value

log = logging.getLogger("openmm_cgan")

MANY_HILLS = 5000  # without a grid, from which on a step of a small system is mostly their sum


def advise_grid(who: str) -> None:
    """Say that a METAD, named with its place, would be quicker on a grid."""
    log.warning(
        "%s has %d hills and no grid: each step adds up all of them; give GRID_MIN and GRID_MAX, "
        "with which a step costs the same however many there are, or NLIST",
        who,
        MANY_HILLS,
    )


def no_hills(values: Sequence[Value], options: MetadOptions) -> HillGrid | HillSum:
    """Where the hills of a METAD will be."""
    if options.grid is not None:
        return HillGrid(options.grid.axes, options.grid.spline)
    if options.widths is not None:
        return WideHillSum(values)
    if options.near_hills is not None:
        return ListedHillSum(values, options.interval, *options.near_hills)
    return HillSum(values, options.interval)
