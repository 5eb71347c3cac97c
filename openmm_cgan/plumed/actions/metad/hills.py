"""Where the hills of a METAD are kept: on a grid, or one by one."""

from __future__ import annotations

from collections.abc import Sequence

from openmm_cgan.plumed.actions.action import Value
from openmm_cgan.plumed.actions.metad.adaptive import WideHillSum
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.metad.hill_lists import ListedHillSum
from openmm_cgan.plumed.actions.metad.hill_sums import HillSum
from openmm_cgan.plumed.actions.metad.options import MetadOptions


def no_hills(values: Sequence[Value], options: MetadOptions) -> HillGrid | HillSum:
    """Where the hills of a METAD will be."""
    if options.grid is not None:
        return HillGrid(options.grid.axes, options.grid.spline)
    if options.widths is not None:
        return WideHillSum(values)
    if options.near_hills is not None:
        return ListedHillSum(values, options.interval, *options.near_hills)
    return HillSum(values, options.interval)
