"""One sum of hills of a PBMETAD, along one value or along several of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.metad.adaptive import (
    WideHillSum,
    Widths,
    add_wide,
    from_columns,
    to_columns,
    wide_names,
)
from openmm_cgan.plumed.actions.metad.gaussian import CUT
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.metad.hill_sums import HillSum
from openmm_cgan.plumed.actions.pbmetad.options import FamilyOptions, PbmetadOptions
from openmm_cgan.plumed.actions.values import Value


class Family:
    """Hills along one value.

    Parameters
    ----------
    name, label : str
        Of the action.
    options : FamilyOptions
    of_all : PbmetadOptions

    Attributes
    ----------
    arguments : tuple of Value
        The first value that it is of.
    hills : HillGrid or HillSum
    widths : Widths or None
        With ADAPTIVE.
    """

    def __init__(
        self, name: str, label: str, options: FamilyOptions, of_all: PbmetadOptions
    ) -> None:
        self.name, self.label, self.options = name, label, options
        self.heights = of_all.heights
        self.arguments: Sequence[Value] = (options.value,)
        own = options.widths
        self.widths = None if own is None else Widths(self.arguments, own)
        self.hills: HillGrid | HillSum
        if options.axis is not None:
            self.hills = HillGrid((options.axis,), of_all.spline, CUT)
        elif self.widths is not None:
            self.hills = WideHillSum(self.arguments, CUT)
        else:
            self.hills = HillSum(self.arguments, options.interval, kernel=CUT)

    @property
    def grid(self) -> HillGrid | None:
        """Where the hills are on a grid, the grid."""
        return self.hills if isinstance(self.hills, HillGrid) else None

    @property
    def sigma_names(self) -> list[str]:
        """The column of a hills file with the width."""
        if self.widths is not None:
            return wide_names(self.arguments)
        return [f"sigma_{self.arguments[0].name}"]

    @property
    def widths_of_hills(self) -> list[str]:
        """The column whose numbers are above zero."""
        return self.sigma_names

    def width(self) -> tuple[Any, float]:
        """The shape of a hill now, and the width as it is written.

        Raises
        ------
        ValueError
            If ADAPTIVE has no width for it.
        """
        if self.widths is None:
            return [self.options.sigma], self.options.sigma
        inverse = self.widths.inverse()
        return inverse, to_columns(inverse)[0]

    def add(self, centre: float, shape: Any, height: float) -> None:
        """Add a hill; `shape` as `width` gives it, the height in the energy unit of the input."""
        if not isinstance(self.hills, HillGrid):
            self.hills.add([centre], shape, height)
        elif self.widths is None:
            self.hills.add([centre], shape, height, self.options.interval)
        else:
            add_wide(self.hills, [centre], shape, height)

    def add_hills(self, centres: np.ndarray, sigmas: np.ndarray, written: np.ndarray) -> None:
        """Add hills of a file: centres and widths (n_hills, 1), heights (n_hills,)."""
        for centre, sigma, height in zip(centres, sigmas, written, strict=True):
            shape: Any = sigma.tolist()
            if self.widths is not None:
                shape = from_columns(shape, 1)
            self.add(float(centre[0]), shape, self.heights.read(float(height)))

    def saved(self) -> dict[str, np.ndarray]:
        """For a checkpoint: what its hills and widths save."""
        own = {} if self.widths is None else self.widths.saved()
        return own | self.hills.saved()

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `saved` gave."""
        if self.widths is not None:
            self.widths.restore_saved(arrays)
        if isinstance(self.hills, HillGrid):
            shape = self.hills.nodes.shape
            self.hills.restore_saved(saved_array(arrays, "nodes", shape, finite=True))
        else:
            self.hills.restore_saved(arrays)
