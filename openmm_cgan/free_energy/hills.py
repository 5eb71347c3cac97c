"""The bias and the weights of a metadynamics run from its HILLS file."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.plumed.files.fields import FieldTable

HILL_CUTOFF = 6.25  # in (distance/sigma)^2/2, PLUMED's DP2CUTOFF


def hill_variables(hills: FieldTable) -> list[str]:
    """Names of the CVs of a HILLS file, in its order.

    Raises
    ------
    ValueError
        If its columns are not those of diagonal Gaussians, or a number is none or no width.
    """
    names = [name.removeprefix("sigma_") for name in hills.columns if name.startswith("sigma_")]
    if not names or not {"time", "height", "biasf", *names} <= set(hills.columns):
        raise ValueError(
            f"columns {list(hills.columns)} are not those of a HILLS file with diagonal Gaussians: "
            "time, the CVs, a sigma_ for each, height, biasf"
        )
    hills.require_finite(["time", "height", "biasf", *names])
    hills.require_positive([f"sigma_{name}" for name in names])
    return names


def hills_bias(hills: FieldTable, cvs: NDArray) -> NDArray[np.float64]:
    """Metadynamics bias at CV values, from a HILLS file read by `read_fields`.

    Parameters
    ----------
    hills : FieldTable
        Columns time, the CVs, sigma_<cv>, height, biasf.
    cvs : ndarray, shape (n, n_cvs)
        In the order of the file's CVs [CV unit].

    Returns
    -------
    ndarray, shape (n,)
        V(s) after the last hill [kJ/mol].

    Raises
    ------
    ValueError
        If shapes do not fit, or the columns are not those of diagonal Gaussians.
    """
    return _sum(hills, cvs, _deposited_fraction(hills))


def hills_free_energy(hills: FieldTable, cvs: NDArray) -> NDArray[np.float64]:
    """Free energy at CV values as metadynamics estimates it: minus the heights as printed.

    PLUMED prints well-tempered heights times biasf / (biasf - 1), so that their sum is -F(s) up to
    a constant, as `plumed sum_hills` has it.

    Parameters
    ----------
    hills : FieldTable
        Columns time, the CVs, sigma_<cv>, height, biasf.
    cvs : ndarray, shape (n, n_cvs)
        In the order of the file's CVs [CV unit].

    Returns
    -------
    ndarray, shape (n,)
        F(s) after the last hill, up to a constant [kJ/mol].

    Raises
    ------
    ValueError
        As for `hills_bias`.
    """
    return -_sum(hills, cvs, np.ones(len(hills)))


def _sum(hills: FieldTable, cvs: NDArray, fractions: NDArray) -> NDArray[np.float64]:
    names = hill_variables(hills)
    cvs = np.asarray(cvs, dtype=float)
    if cvs.ndim != 2 or cvs.shape[1] != len(names):
        raise ValueError(f"cvs has shape {cvs.shape}, expected (n, {len(names)}) for {names}")
    total = np.zeros(len(cvs))
    for hill, fraction in enumerate(fractions):
        total += fraction * _hill(hills, names, hill, cvs)
    return total


def tiwary_log_weights(
    times: ArrayLike, bias: ArrayLike, hills: FieldTable, temperature: float
) -> NDArray[np.float64]:
    """Log weights (V(s, t) - c(t)) / kT of frames from a metadynamics run that still deposits.

    Parameters
    ----------
    times, bias : ndarray, shape (n,)
        Time of each frame [ps] and the bias that acted on it [kJ/mol], as `Frames` keeps them.
    hills : FieldTable
        The run's HILLS, of one or two CVs.
    temperature : float
        Temperature [K].

    Returns
    -------
    ndarray, shape (n,)
        Not normalised.

    Raises
    ------
    ValueError
        If the hills are of three CVs or more: c(t) is summed on a grid.

    References
    ----------
    Tiwary and Parrinello, doi 10.1021/jp504920s.
    """
    offsets = _hills_offsets(hills, GAS_CONSTANT * temperature)
    laid = np.searchsorted(hills.columns["time"], np.asarray(times, dtype=float) - 1e-6)
    return (np.asarray(bias, dtype=float) - offsets[laid]) / (GAS_CONSTANT * temperature)


def _deposited_fraction(hills: FieldTable) -> NDArray[np.float64]:
    """What the bias is of the height printed: PLUMED prints well-tempered ones times g/(g-1)."""
    factor = hills.columns["biasf"]
    tempered = factor > 1.0
    return np.where(tempered, (factor - 1.0) / np.where(tempered, factor, 2.0), 1.0)


def _hill(hills: FieldTable, names: list[str], hill: int, cvs: NDArray) -> NDArray[np.float64]:
    """One hill at CV values (n, n_cvs), as printed, PLUMED's cutoff and stretching included."""
    exponent = np.zeros(len(cvs))
    for i, name in enumerate(names):
        variable = CollectiveVariable(name, domain=hills.domain(name))
        distance = variable.difference(hills.columns[name][hill], cvs[:, i])
        exponent += 0.5 * (distance / hills.columns[f"sigma_{name}"][hill]) ** 2
    stretched = hills.constants.get("kerneltype", "stretched-gaussian") == "stretched-gaussian"
    edge = np.exp(-HILL_CUTOFF) if stretched else 0.0
    kernel = (np.exp(-exponent) - edge) / (1.0 - edge)
    return hills.columns["height"][hill] * np.where(exponent < HILL_CUTOFF, kernel, 0.0)


def _hills_offsets(hills: FieldTable, kT: float) -> NDArray[np.float64]:
    """c(t) before the first and after each hill, shape (n_hills + 1,) [kJ/mol]."""
    names = hill_variables(hills)
    if len(names) > 2:
        raise ValueError(f"c(t) is summed on a grid of 1 or 2 CVs, not of {names}")
    axes = [_hill_axis(hills, name) for name in names]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(names))
    deposited = _deposited_fraction(hills)
    bias, offsets = np.zeros(len(grid)), [0.0]
    for hill, fraction in enumerate(deposited):
        bias += fraction * _hill(hills, names, hill, grid)
        lower = (1.0 - fraction) / fraction * bias / kT  # 1/(g-1), nothing if not tempered
        offsets.append(kT * float(logsumexp(bias / kT + lower) - logsumexp(lower)))
    return np.array(offsets)


def _hill_axis(hills: FieldTable, name: str) -> NDArray[np.float64]:
    """Grid points along a CV, about three to a hill's width."""
    sigma = float(hills.columns[f"sigma_{name}"].min())
    domain = hills.domain(name)
    centres = hills.columns[name]
    lower, upper = domain or (centres.min() - 4 * sigma, centres.max() + 4 * sigma)
    points = max(2, int(np.ceil(3.0 * (upper - lower) / sigma)))
    return np.linspace(lower, upper, points, endpoint=domain is None)
