"""The bias of a metadynamics run from its HILLS file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.actions.setup import Units
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.files.tables import FieldTable, kernel_variables
from openmm_cgan.plumed.input.language import include_files, read_statements, read_text

logger = logging.getLogger("openmm_cgan")

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
    total = np.zeros(len(cvs))
    for hill in _each(hills, cvs, fractions):
        total += hill
    return total


def each_hill(hills: FieldTable, cvs: NDArray) -> Iterator[NDArray[np.float64]]:
    """What each hill in turn adds to the bias at CV values.

    Parameters
    ----------
    hills : FieldTable
        Columns time, the CVs, sigma_<cv>, height, biasf.
    cvs : ndarray, shape (n, n_cvs)
        In the order of the file's CVs [CV unit of the file].

    Yields
    ------
    ndarray, shape (n,)
        [energy unit of the file]

    Raises
    ------
    ValueError
        As for `hills_bias`.
    """
    yield from _each(hills, cvs, _deposited_fraction(hills))


def _each(hills: FieldTable, cvs: NDArray, fractions: NDArray) -> Iterator[NDArray[np.float64]]:
    names, rows = hill_variables(hills), _rows(hills)
    cvs = np.asarray(cvs, dtype=float)
    if cvs.ndim != 2 or cvs.shape[1] != len(names):
        raise ValueError(f"cvs has shape {cvs.shape}, expected (n, {len(names)}) for {names}")
    variables = [CollectiveVariable(name, domain=hills.domain(name)) for name in names]
    stretched = hills.constants.get("kerneltype", "stretched-gaussian") == "stretched-gaussian"
    edge = np.exp(-HILL_CUTOFF) if stretched else 0.0
    cvs = _in_interval(hills, cvs)
    for row, fraction in zip(rows, fractions, strict=True):
        yield fraction * _hill(row, cvs, variables, edge)


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


def _hill(
    row: NDArray, cvs: NDArray, variables: Sequence[CollectiveVariable], edge: float
) -> NDArray[np.float64]:
    """One hill at CV values (n, n_cvs), as printed, PLUMED's cutoff and stretching included."""
    exponent, n = np.zeros(len(cvs)), len(variables)
    for i, variable in enumerate(variables):
        exponent += 0.5 * (variable.difference(row[i], cvs[:, i]) / row[n + i]) ** 2
    kernel = (np.exp(-exponent) - edge) / (1.0 - edge)
    return row[2 * n] * np.where(exponent < HILL_CUTOFF, kernel, 0.0)


def _in_interval(hills: FieldTable, cvs: NDArray) -> NDArray[np.float64]:
    """CV values (n, n_cvs), those outside of METAD's INTERVAL at its ends: there it is flat."""
    if "lower_int" not in hills.constants:
        return cvs
    return np.clip(cvs, hills.constant("lower_int"), hills.constant("upper_int"))
