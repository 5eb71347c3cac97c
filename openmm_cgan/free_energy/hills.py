"""The bias and the weights of a metadynamics run from its HILLS file."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.actions.setup import Units
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.files.tables import FieldTable, kernel_variables
from openmm_cgan.plumed.input.language import include_files, read_statements, read_text
from openmm_cgan.quantities import positive

logger = logging.getLogger("openmm_cgan")

LOST = 3  # intervals between hills, without one, that are told
HILL_CUTOFF = 6.25  # in (distance/sigma)^2/2, PLUMED's DP2CUTOFF


def hill_variables(hills: FieldTable) -> list[str]:
    """Names of the CVs of a HILLS file, in its order, by the places of its columns.

    Raises
    ------
    ValueError
        If its columns are not those of diagonal Gaussians.
    """
    names = kernel_variables(hills, "HILLS", ["height", "biasf"])
    hills.require_finite(["time", *names, "height", "biasf"])
    hills.require_positive([f"sigma_{name}" for name in names])
    return names


def units_of_input(units: str | Path | UnitSystem | None) -> UnitSystem:
    """Units as given, or those of the input that made the file; PLUMED's with a warning if None."""
    if isinstance(units, UnitSystem):
        return units
    if units is None:
        logger.warning(
            "a HILLS file does not say its units: its heights are taken to be in kJ/mol and its "
            "times in ps; give units=, the PLUMED input that made it"
        )
        return UnitSystem()
    text, source = read_text(units)
    folder = Path() if source == "<input>" else Path(units).parent
    followed = include_files(read_statements(text, source), folder)
    actions = read_actions([s for s in followed if s.action == "UNITS"])
    found = [action.system for action in actions if isinstance(action, Units)]
    return found[-1] if found else UnitSystem()


def hills_bias(
    hills: FieldTable, cvs: NDArray, units: str | Path | UnitSystem | None = None
) -> NDArray[np.float64]:
    """Metadynamics bias at CV values, from a HILLS file read by `read_fields`.

    Parameters
    ----------
    hills : FieldTable
        Columns time, the CVs, sigma_<cv>, height, biasf.
    cvs : ndarray, shape (n, n_cvs)
        In the order of the file's CVs [CV unit of the file].
    units : str, Path or UnitSystem, optional
        The PLUMED input that made the file (a path, or text with a newline), for its UNITS, or what
        they are. PLUMED's own (kJ/mol, ps) with a warning if omitted, for no HILLS file says them.

    Returns
    -------
    ndarray, shape (n,)
        V(s) after the last hill [kJ/mol].

    Raises
    ------
    ValueError
        If shapes do not fit, or the columns are not those of diagonal Gaussians.
    """
    return units_of_input(units).energy * _sum(hills, cvs, _deposited_fraction(hills))


def hills_free_energy(
    hills: FieldTable, cvs: NDArray, units: str | Path | UnitSystem | None = None
) -> NDArray[np.float64]:
    """Free energy at CV values as metadynamics estimates it: minus the heights as printed.

    PLUMED prints well-tempered heights times biasf / (biasf - 1), so that their sum is -F(s) up to
    a constant, as `plumed sum_hills` has it.

    Parameters
    ----------
    hills : FieldTable
        Columns time, the CVs, sigma_<cv>, height, biasf.
    cvs : ndarray, shape (n, n_cvs)
        In the order of the file's CVs [CV unit of the file].
    units : str, Path or UnitSystem, optional
        The PLUMED input that made the file (a path, or text with a newline), for its UNITS, or what
        they are. PLUMED's own (kJ/mol, ps) with a warning if omitted, for no HILLS file says them.

    Returns
    -------
    ndarray, shape (n,)
        F(s) after the last hill, up to a constant [kJ/mol].

    Raises
    ------
    ValueError
        As for `hills_bias`.
    """
    return -units_of_input(units).energy * _sum(hills, cvs, np.ones(len(hills)))


def _sum(hills: FieldTable, cvs: NDArray, fractions: NDArray) -> NDArray[np.float64]:
    names, rows = hill_variables(hills), _rows(hills)
    cvs = np.asarray(cvs, dtype=float)
    if cvs.ndim != 2 or cvs.shape[1] != len(names):
        raise ValueError(f"cvs has shape {cvs.shape}, expected (n, {len(names)}) for {names}")
    total = np.zeros(len(cvs))
    for row, fraction in zip(rows, fractions, strict=True):
        total += fraction * _hill(hills, names, row, cvs)
    return total


def tiwary_log_weights(
    times: ArrayLike,
    bias: ArrayLike,
    hills: FieldTable,
    temperature: float,
    units: str | Path | UnitSystem | None = None,
    metad_temperature: float | None = None,
) -> NDArray[np.float64]:
    """Log weights (V(s, t) - c(t)) / kT of frames from a metadynamics run that still deposits.

    Parameters
    ----------
    times, bias : ndarray, shape (n,)
        Time of each frame as HILLS has it (`Frames.plumed_time`) [ps], and the bias that acted on
        it [kJ/mol].
    hills : FieldTable
        The run's HILLS, of one or two CVs.
    temperature : float
        Temperature [K].
    units : str, Path or UnitSystem, optional
        The PLUMED input that made the file (a path, or text with a newline), for its UNITS, or what
        they are. PLUMED's own (kJ/mol, ps) with a warning if omitted, for no HILLS file says them.
    metad_temperature : float, optional
        TEMP of the METAD [K], where that is not the temperature of the run: by it the hills became
        lower, and c(t) follows from how they did.

    Returns
    -------
    ndarray, shape (n,)
        Not normalised.

    Raises
    ------
    ValueError
        If the hills are of three CVs or more: c(t) is summed on a grid. If their times go back, or
        are all the same: which of them a frame had met is then not known.

    Notes
    -----
    c(t) takes the free energy from the bias, so what the bias is off by, now to one side and now to
    the other, is in the weights squared: states that weigh little come out too likely, by about
    kT / 2 times the variance of that [kT^2] (0.05 to 0.1 kJ/mol of a torsion after 1 ns of tempered
    hills of kT / 2 each 0.5 ps; 0.6 where they are not tempered). c(t) by the frames' own weights
    (Giberti et al., doi 10.1021/acs.jctc.9b00907) has no such share, but frames from while wells
    are first filled throw it off: alanine dipeptide, 4 ns, 12.9 kJ/mol for 8.8, and this one 8.9.

    References
    ----------
    Tiwary and Parrinello, doi 10.1021/jp504920s.
    """
    system = units_of_input(units)
    kT = GAS_CONSTANT * positive(temperature, "K", "temperature")
    _require_order(hills)
    counted = kT
    if metad_temperature is not None:
        counted = GAS_CONSTANT * positive(metad_temperature, "K", "metad_temperature")
    offsets = system.energy * _hills_offsets(hills, kT / system.energy, counted / system.energy)
    laid_at = system.time * hills.columns["time"]
    _tell_of_lost(hills.source, laid_at, np.asarray(times, dtype=float))
    laid = np.searchsorted(laid_at, np.asarray(times, dtype=float) - 1e-6)
    return (np.asarray(bias, dtype=float) - offsets[laid]) / kT


def _tell_of_lost(source: str, laid_at: NDArray[np.float64], times: NDArray[np.float64]) -> None:
    """Say that frames go on where hills end, by times [ps]: rows lost, or not yet written."""
    if len(laid_at) < 2 or not len(times):
        return
    last, interval = float(laid_at[-1]), float(np.diff(laid_at).max())
    if (ended := float(times.max())) > last + LOST * interval:
        logger.warning(
            "%s ends at %g ps, and frames at %g ps, though hills came every %g ps: rows are lost, "
            "or not written yet, and frames after %g ps weigh as if no hill had been laid since "
            "(which is right under UPDATE_UNTIL). Take frames up to there, or the whole file",
            source, last, ended, interval, last,
        )  # fmt: skip


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


def _deposited_fraction(hills: FieldTable) -> NDArray[np.float64]:
    """What the bias is of the height printed: PLUMED prints well-tempered ones times g/(g-1)."""
    factor = _rows(hills)[:, -1]
    tempered = factor > 1.0
    return np.where(tempered, (factor - 1.0) / np.where(tempered, factor, 2.0), 1.0)


def _rows(hills: FieldTable) -> NDArray[np.float64]:
    """The CVs, their sigmas, height and biasf of each hill, by their places."""
    names = hill_variables(hills)
    wanted = ["time", *names, *(f"sigma_{name}" for name in names), "height", "biasf"]
    return hills.taken(wanted)[:, 1:]


def _hill(hills: FieldTable, names: list[str], row: NDArray, cvs: NDArray) -> NDArray[np.float64]:
    """One hill at CV values (n, n_cvs), as printed, PLUMED's cutoff and stretching included."""
    exponent, n, cvs = np.zeros(len(cvs)), len(names), _in_interval(hills, cvs)
    for i, name in enumerate(names):
        variable = CollectiveVariable(name, domain=hills.domain(name))
        exponent += 0.5 * (variable.difference(row[i], cvs[:, i]) / row[n + i]) ** 2
    stretched = hills.constants.get("kerneltype", "stretched-gaussian") == "stretched-gaussian"
    edge = np.exp(-HILL_CUTOFF) if stretched else 0.0
    kernel = (np.exp(-exponent) - edge) / (1.0 - edge)
    return row[2 * n] * np.where(exponent < HILL_CUTOFF, kernel, 0.0)


def _in_interval(hills: FieldTable, cvs: NDArray) -> NDArray[np.float64]:
    """CV values (n, n_cvs), those outside of METAD's INTERVAL at its ends: there it is flat."""
    if "lower_int" not in hills.constants:
        return cvs
    return np.clip(cvs, hills.constant("lower_int"), hills.constant("upper_int"))


def _hills_offsets(hills: FieldTable, kT: float, counted: float) -> NDArray[np.float64]:
    """c(t) before the first and after each hill, (n_hills + 1,).

    kT of the run and the one that METAD counts with are in the unit of heights. The bias comes to
    V = -F dT/(T + dT) with dT = (g-1) TEMP, so that F is -V (1 + T/dT).
    """
    names = hill_variables(hills)
    if len(names) > 2:
        raise ValueError(f"c(t) is summed on a grid of 1 or 2 CVs, not of {names}")
    rows, n = _rows(hills), len(names)
    axes = [_hill_axis(hills.domain(v), rows[:, i], rows[:, n + i]) for i, v in enumerate(names)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(names))
    deposited = _deposited_fraction(hills)
    bias, offsets = np.zeros(len(grid)), [0.0]
    for row, fraction in zip(rows, deposited, strict=True):
        bias += fraction * _hill(hills, names, row, grid)
        lower = (1.0 - fraction) / fraction * bias / counted  # 1/(g-1), nothing if not tempered
        offsets.append(kT * float(logsumexp(bias / kT + lower) - logsumexp(lower)))
    return np.array(offsets)


def _hill_axis(
    domain: tuple[float, float] | None, centres: NDArray, sigmas: NDArray
) -> NDArray[np.float64]:
    """Grid points along a CV, about three to a hill's width."""
    sigma = float(sigmas.min())
    lower, upper = domain or (centres.min() - 4 * sigma, centres.max() + 4 * sigma)
    points = max(2, int(np.ceil(3.0 * (upper - lower) / sigma)))
    return np.linspace(lower, upper, points, endpoint=domain is None)
