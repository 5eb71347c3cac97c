"""What a metadynamics has added everywhere alike, c(t), and by it the weights of its frames.

exp(-c(t) / kT) is the mean of exp(-V(s, t) / kT) without the bias. Tiwary and Parrinello take the
free energy of that mean from the bias itself, as -V gamma / (gamma - 1); then whatever the bias is
off -F, now to one side and now to the other, stands in the weights as well, squared, and frames of
a state that weighs little weigh too much: by 0.1 kJ/mol where the hills of a nanosecond are
tempered, by 0.6 where they are not (a torsion, kT / 2 each half picosecond). Here the mean is over
the frames with the weights that c(t) gives, and both are found together. It needs no grid, and
neither the bias factor nor the temperature by which hills were tempered.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.hills import each_hill, hill_variables, units_of_input
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.files.tables import FieldTable
from openmm_cgan.quantities import positive

logger = logging.getLogger("openmm_cgan")

CELLS_TO_SIGMA = 3.0  # frames are gathered in cells of a third of a hill's width
MOST_NUMBERS = 4_000_000  # of the bias in cells at times, 32 MB
MOST_TIMES = 500  # at which c(t) is solved for; between them it is a straight line
CLOSE = 1e-6  # of kT, by which c(t) still changes
MOST_ROUNDS = 2000


def metad_log_weights(
    times: ArrayLike,
    bias: ArrayLike,
    cvs: ArrayLike,
    hills: FieldTable,
    temperature: float,
    units: str | Path | UnitSystem | None = None,
) -> NDArray[np.float64]:
    """Log weights (V(s, t) - c(t)) / kT of frames from a metadynamics run that still deposits.

    Parameters
    ----------
    times, bias : ndarray, shape (n,)
        Time of each frame as HILLS has it (`Frames.plumed_time`) [ps], and the bias that acted on
        it [kJ/mol].
    cvs : ndarray, shape (n, n_cvs)
        The CVs of the hills at each frame, in the order of the file [CV unit of the file].
    hills : FieldTable
        The run's HILLS.
    temperature : float
        Temperature [K].
    units : str, Path or UnitSystem, optional
        The PLUMED input that made the file (a path, or text with a newline), for its UNITS, or what
        they are. PLUMED's own (kJ/mol, ps) with a warning if omitted, for no HILLS file says them.

    Returns
    -------
    ndarray, shape (n,)
        Not normalised.

    Raises
    ------
    ValueError
        If shapes do not fit. If the times of the hills go back, or are all the same: which of them
        a frame had met is then not known.

    References
    ----------
    c(t): Tiwary and Parrinello, doi 10.1021/jp504920s. By the frames: Giberti, Cheng, Tribello and
    Ceriotti, doi 10.1021/acs.jctc.9b00907.
    """
    system = units_of_input(units)
    kT = GAS_CONSTANT * positive(temperature, "K", "temperature")
    times, bias, cvs = (np.asarray(a, dtype=float) for a in (times, bias, cvs))
    expected = (len(times), len(hill_variables(hills)))
    if cvs.shape != expected or bias.shape != times.shape:
        raise ValueError(
            f"times, bias and cvs have shapes {times.shape}, {bias.shape} and {cvs.shape}, "
            f"expected {expected[:1]}, {expected[:1]} and {expected}"
        )
    _require_order(hills)
    laid = np.searchsorted(system.time * hills.columns["time"], times - 1e-6)
    if not len(times):
        return np.zeros(0)
    seen = _Seen.of(hills, _cells_of(hills, cvs), laid, kT / system.energy)
    return bias / kT - seen.growth()


def _require_order(hills: FieldTable) -> None:
    """Refuse hills of a run that was continued with its clock set back, or that had none."""
    times = hills.columns["time"]
    if len(times) > 1 and np.ptp(times) == 0:
        raise ValueError(
            f"{hills.source}: all {len(times)} hills are of the time {times[0]:g}, as those of an "
            "integrator whose steps differ in length: which a frame had met is not known"
        )
    back = np.flatnonzero(np.diff(times) < 0)
    if len(back):
        i = int(back[0]) + 1
        where = f"{hills.source}:{hills.lines[i]}" if hills.lines else f"row {i + 1} of the hills"
        before, after = times[i - 1 : i + 1]
        raise ValueError(
            f"{where}: the time goes back from {before:g} to {after:g}, so "
            "which hills a frame had met is not known: let a run go on at the step that it ended "
            "on (a checkpoint, or simulation.currentStep)"
        )


@dataclass(frozen=True)
class _Cells:
    """Where frames have been.

    Attributes
    ----------
    centres : ndarray, shape (n_cells, n_cvs)
        Mean of the frames in each [CV unit].
    of : ndarray of int, shape (n_frames,)
        The cell of each frame.
    """

    centres: NDArray[np.float64]
    of: NDArray[np.int64]


def _cells_of(hills: FieldTable, cvs: NDArray[np.float64]) -> _Cells:
    """Gather frames; cvs (n, n_cvs) in the order of the file."""
    names = hill_variables(hills)
    variables = [CollectiveVariable(name, domain=hills.domain(name)) for name in names]
    cvs = np.stack([v.in_domain(x) for v, x in zip(variables, cvs.T, strict=True)], axis=1)
    widths = [hills.columns[f"sigma_{name}"].min(initial=np.inf) for name in names]
    numbers = np.floor(cvs * (CELLS_TO_SIGMA / np.array(widths)))
    _, of = np.unique(numbers, axis=0, return_inverse=True)
    counts = np.bincount(of)
    centres = np.stack([np.bincount(of, x) / counts for x in cvs.T], axis=1)
    return _Cells(centres, of)


@dataclass(frozen=True)
class _Seen:
    """The bias where frames have been [kT].

    Attributes
    ----------
    cell : ndarray of int, shape (n_frames,)
        Of each frame.
    laid : ndarray of int, shape (n_frames,)
        How many hills each frame had met.
    acting : ndarray, shape (n_frames,)
        The bias in the cell of each frame, at its time.
    looks : ndarray of int, shape (n_looks,)
        Numbers of hills laid at which the whole bias is looked at.
    bias : ndarray, shape (n_looks, n_cells)
        It, in each cell.
    """

    cell: NDArray[np.int64]
    laid: NDArray[np.int64]
    acting: NDArray[np.float64]
    looks: NDArray[np.int64]
    bias: NDArray[np.float64]

    @classmethod
    def of(cls, hills: FieldTable, cells: _Cells, laid: NDArray, kT: float) -> _Seen:
        """Lay the hills once more, as far as the frames go; kT in the unit of the file."""
        first, last = int(laid.min()), int(laid.max())
        n_looks = min(MOST_TIMES, max(2, MOST_NUMBERS // len(cells.centres)))
        looks = np.unique(np.linspace(first, last, n_looks).round().astype(np.int64))
        order = np.argsort(laid, kind="stable")
        ends = np.searchsorted(laid[order], np.arange(last + 1), side="right")
        acting, bias = np.empty(len(laid)), np.empty((len(looks), len(cells.centres)))
        total, looked, begin = np.zeros(len(cells.centres)), 0, 0
        added = each_hill(hills, cells.centres)
        for n in range(last + 1):
            if n:
                total += next(added) / kT
            rows, begin = order[begin : ends[n]], ends[n]
            acting[rows] = total[cells.of[rows]]
            if looked < len(looks) and n == looks[looked]:
                bias[looked], looked = total, looked + 1
        return cls(cells.of, laid, acting, looks, bias)

    def growth(self) -> NDArray[np.float64]:
        """c(t) / kT at each frame, (n_frames,).

        c and the weights that it gives are put into each other by turns; half of each step is
        made, because where the bias is far off they overshoot.
        """
        lowest = self.bias.min(axis=1)
        boltzmann = np.exp(lowest[:, None] - self.bias)
        growth = self.bias.mean(axis=1)
        for _ in range(MOST_ROUNDS):
            shares = self._shares(growth)
            change = lowest - np.log(boltzmann @ shares) - growth
            growth = growth + change / 2
            if np.abs(change).max() < CLOSE:
                break
        else:
            logger.warning(
                "what the hills have added everywhere alike is known to %.2g kT only: the bias of "
                "this run hardly ever led back to where it had been; run longer",
                np.abs(change).max(),
            )
        return np.interp(self.laid, self.looks, growth)

    def _shares(self, growth: NDArray) -> NDArray[np.float64]:
        """Unbiased probability of each cell, from all frames."""
        logs = self.acting - np.interp(self.laid, self.looks, growth)
        shares = np.bincount(self.cell, np.exp(logs - logs.max()), self.bias.shape[1])
        return np.asarray(shares / shares.sum())
