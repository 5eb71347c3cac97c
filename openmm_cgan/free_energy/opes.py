"""The bias and the free energy of an OPES run from its STATE or KERNELS file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.plumed.actions.opes.kernels import Kernels
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.files.tables import FieldTable, kernel_variables
from openmm_cgan.quantities import positive
from openmm_cgan.short_reprs import short_repr


@dataclass(frozen=True, repr=False)
class OpesEstimate:
    """The probability that OPES has estimated, ``P(s) / Z + epsilon``.

    Attributes
    ----------
    names : list of str
        The CVs, in order.
    kernels : Kernels
    norm, zed, epsilon : float
    bias_factor : float
        Infinite for a uniform target.
    explore : bool
        Whether it is the probability sampled, as OPES_METAD_EXPLORE has it, and not the unbiased.
    """

    names: list[str]
    kernels: Kernels
    norm: float
    zed: float
    epsilon: float
    bias_factor: float
    explore: bool

    __repr__ = short_repr

    def log_probability(self, cvs: NDArray) -> NDArray[np.float64]:
        """Log of the probability at CV values, up to a constant.

        Parameters
        ----------
        cvs : ndarray, shape (n, n_cvs)
            In the order of ``names`` [CV unit].

        Returns
        -------
        ndarray, shape (n,)

        Raises
        ------
        ValueError
            If shapes do not fit.
        """
        cvs = np.asarray(cvs, dtype=float)
        if cvs.ndim != 2 or cvs.shape[1] != len(self.names):
            raise ValueError(f"cvs has shape {cvs.shape}, expected (n, n_cvs) for {self.names}")
        return np.log(self.kernels.at(cvs) / self.norm / self.zed + self.epsilon)


def read_opes(table: FieldTable) -> OpesEstimate:
    """What a STATE or KERNELS file of OPES says, read by `read_fields`.

    A STATE is exact. Kernels are merged again as the run merged them, which is exact to the digits
    printed where the run had neither NO_ZED nor RECURSIVE_MERGE_OFF.

    Parameters
    ----------
    table : FieldTable
        Of one state: of a file with several (STORE_STATES), the last of `read_tables`.

    Raises
    ------
    ValueError
        If it is no such file.
    """
    constants = table.constants
    action, _, kind = constants.get("action", "").rpartition("_")
    if action not in ("OPES_METAD", "OPES_METAD_EXPLORE") or kind not in ("state", "kernels"):
        raise ValueError(f"action is '{action}_{kind}': no STATE or KERNELS of OPES_METAD")
    explore = action == "OPES_METAD_EXPLORE"
    last = ["height", "logweight"] if kind == "kernels" else ["height"]
    names = kernel_variables(table, kind.upper(), last)
    columns = ["time", *names, *(f"sigma_{name}" for name in names), *last]
    table.require_columns(columns)
    table.require_finite(columns)
    table.require_positive([f"sigma_{name}" for name in names])
    cutoff, threshold = map(table.constant, ("kernel_cutoff", "compression_threshold"))
    values = tuple(Value(name, domain=table.domain(name)) for name in names)
    kernels = Kernels(values, cutoff**2, threshold**2, recursive=True)
    n, rows = len(names), table.taken(columns)[:, 1:]
    centres, sigmas, heights = rows[:, :n], rows[:, n : 2 * n], rows[:, 2 * n]
    factor, epsilon = table.constant("biasfactor"), table.constant("epsilon")
    if kind == "state":
        kernels.put(centres, sigmas, heights)
        norm = table.constant("counter" if explore else "sum_weights")
        zed = table.constant("zed")
        return OpesEstimate(names, kernels, norm, zed, epsilon, factor, explore)
    for height, centre, sigma in zip(heights, centres, sigmas, strict=True):
        kernels.add(float(height), centre, sigma)
    prefactor = factor - 1 if explore else 1 - 1 / factor
    weights = epsilon**prefactor + float(np.exp(rows[:, -1]).sum())
    norm = 1.0 + len(table) if explore else weights
    zed = kernels.sum_over_centres() / norm / len(kernels) if len(kernels) else 1.0
    return OpesEstimate(names, kernels, norm, zed, epsilon, factor, explore)


def opes_bias(table: FieldTable, cvs: NDArray, temperature: float) -> NDArray[np.float64]:
    """Bias at CV values after the last kernel.

    Parameters
    ----------
    table : FieldTable
        STATE or KERNELS, see `read_opes`.
    cvs : ndarray, shape (n, n_cvs)
        In the order of the file's CVs [CV unit].
    temperature : float
        [K]

    Returns
    -------
    ndarray, shape (n,)
        [kJ/mol]

    Raises
    ------
    ValueError
        If the file is none of OPES, or shapes do not fit.

    References
    ----------
    Invernizzi and Parrinello, doi 10.1021/acs.jpclett.0c00497; of OPES_METAD_EXPLORE Invernizzi and
    Parrinello, doi 10.1021/acs.jctc.2c00152.
    """
    estimate = read_opes(table)
    factor = estimate.bias_factor
    prefactor = factor - 1 if estimate.explore else 1 - 1 / factor
    kT = GAS_CONSTANT * positive(temperature, "K", "temperature")
    return kT * prefactor * estimate.log_probability(cvs)


def opes_free_energy(table: FieldTable, cvs: NDArray, temperature: float) -> NDArray[np.float64]:
    """Free energy at CV values as OPES estimates it.

    Weighing the frames of the run by ``exp(bias / kT)`` is the better estimate.

    Parameters
    ----------
    table : FieldTable
        STATE or KERNELS, see `read_opes`.
    cvs : ndarray, shape (n, n_cvs)
        In the order of the file's CVs [CV unit].
    temperature : float
        [K]

    Returns
    -------
    ndarray, shape (n,)
        Up to a constant [kJ/mol].

    Raises
    ------
    ValueError
        As for `opes_bias`.
    """
    estimate = read_opes(table)
    scale = estimate.bias_factor if estimate.explore else 1.0
    kT = GAS_CONSTANT * positive(temperature, "K", "temperature")
    return -kT * scale * estimate.log_probability(cvs)
