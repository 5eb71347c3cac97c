"""What all hills together have come to: c(t), the largest bias, the work of laying them.

c(t): Tiwary, Parrinello, doi 10.1021/jp504920s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid


@dataclass
class HillTotals:
    """What is shown of all hills together [energy unit of the input].

    Attributes
    ----------
    rct : float
        c(t).
    max_bias : float
        The largest bias on the grid.
    work : float
        What the hills have added where they were laid.
    """

    rct: float = 0.0
    max_bias: float = 0.0
    work: float = 0.0

    def saved(self) -> dict[str, np.ndarray]:
        """For a checkpoint: each number by its name, of shape ()."""
        return {name: np.array(number) for name, number in vars(self).items()}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `saved` gave, of shape () each."""
        names = ("rct", "max_bias", "work")
        numbers = (float(saved_array(arrays, name, (), finite=True)) for name in names)
        self.rct, self.max_bias, self.work = numbers


def rct_of(grid: HillGrid, kt: float, bias_factor: float | None) -> float:
    """c(t) of the bias on a grid.

    ``kT ln (sum exp(g V / kT) / sum exp((g - 1) V / kT))`` over the nodes, with g = 1 for a plain
    METAD and the bias factor over itself less one for a well-tempered one.

    Parameters
    ----------
    grid : HillGrid
    kt : float
        [energy unit of the input]
    bias_factor : float or None

    Returns
    -------
    float
        [energy unit of the input]
    """
    highest = grid.maximum()
    below = grid.nodes[0] - highest
    minus_f, minus_f_plus_v = 1 / kt, 0.0
    if bias_factor is not None:
        minus_f = bias_factor / (bias_factor - 1) / kt
        minus_f_plus_v = 1 / (bias_factor - 1) / kt
    ratio = np.exp(minus_f * below).sum() / np.exp(minus_f_plus_v * below).sum()
    return kt * math.log(ratio) + highest
