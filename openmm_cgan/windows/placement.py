"""Where umbrella windows stand and how stiff they are, from a free energy that is roughly known.

Windows stand on a grid, where the free energy is low enough to matter. A restraint holds a window
to a width of half the spacing, so that neighbours share a third of their frames; it is stiffer
where the free energy bends down so strongly that a window could fall apart into two wells, and at
most so stiff that neighbours still share a twentieth.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.free_energy.profiles import FreeEnergy

if TYPE_CHECKING:
    from openmm_cgan.plumed.bias import PlumedBias

logger = logging.getLogger("openmm_cgan")

# Widths of a window in spacings. Two normal densities of width w a spacing d apart have
# erfc(d / (2 sqrt(2) w)) in common: 0.32 and 0.05.
WIDEST, NARROWEST = 1 / 2, 1 / 4
CURVATURE_SHARE = 2.0  # times the curvature of the free energy, that a restraint must hold against


@dataclass(frozen=True)
class Placement:
    """Windows before they have anything to start from.

    Attributes
    ----------
    names : tuple of str
        The CVs that are restrained.
    centres : ndarray, shape (n_windows, n_cvs)
        [CV units]
    kappa : ndarray, shape (n_cvs,)
        The same for all windows [kJ/mol per CV unit squared].
    """

    names: tuple[str, ...]
    centres: NDArray[np.float64]
    kappa: NDArray[np.float64]


def place_windows(
    free_energy: FreeEnergy,
    temperature: float,
    highest: float,
    kappa: Sequence[float] | None = None,
) -> Placement:
    """Place a window in each bin of a rough free energy that is low enough.

    Parameters
    ----------
    free_energy : FreeEnergy
        Along one CV or over two; its bins are as far apart as the windows are to be.
    temperature : float
        [K]
    highest : float
        Bins above this have no window, nor those where it is not known [kJ/mol].
    kappa : sequence of float, optional
        One for each CV [kJ/mol per CV unit squared]; by default as the module says.

    Returns
    -------
    Placement

    Raises
    ------
    ValueError
        If no bin is low enough, or a CV has one bin only.
    """
    low = free_energy.free_energy <= highest  # NaN is not
    if not low.any():
        raise ValueError(f"nowhere is the free energy known and below {highest} kJ/mol")
    grid = np.stack(np.meshgrid(*free_energy.centres, indexing="ij"), axis=-1)
    kappa = kappa or [
        _force_constant(free_energy, k, low, GAS_CONSTANT * temperature)
        for k in range(len(free_energy.variables))
    ]
    names = tuple(variable.name for variable in free_energy.variables)
    return Placement(names, grid[low], np.array(kappa))


def _force_constant(free_energy: FreeEnergy, cv: int, low: NDArray, kT: float) -> float:
    """How stiff windows are along one CV [kJ/mol per CV unit squared]."""
    centres, variable = free_energy.centres[cv], free_energy.variables[cv]
    if len(centres) < 2:
        raise ValueError(f"{variable.name} has {len(centres)} bin, expected 2 or more")
    spacing = float(centres[1] - centres[0])
    gentle, stiff = (kT / (width * spacing) ** 2 for width in (WIDEST, NARROWEST))
    known = np.where(low, free_energy.free_energy, np.nan)
    shifted = [np.roll(known, step, axis=cv) for step in (-1, 1)]
    bend = (shifted[0] + shifted[1] - 2 * known) / spacing**2
    if variable.domain is None:  # the ends have one neighbour, not the other end
        bend = np.delete(bend, [0, len(centres) - 1], axis=cv)
    down = -float(np.nanmin(bend)) if np.isfinite(bend).any() else 0.0
    needed = CURVATURE_SHARE * down
    if needed > stiff:
        number = math.ceil(len(centres) * math.sqrt(needed / stiff))
        logger.warning(
            "%s: the free energy bends down by %.3g kJ/mol per CV unit squared, and windows as "
            "far apart as these can not be stiff enough to hold against it and overlap: give %d "
            "of them or more, not %d", variable.name, down, number, len(centres),
        )  # fmt: skip
    return min(max(gentle, needed), stiff)


def window_template(bias: PlumedBias, kappa: Mapping[str, float]) -> str:
    """An input for `umbrella_windows`: the CVs of a bias, some of them restrained.

    The others are restrained by nothing (KAPPA=0), so that they are columns of the frames.

    Parameters
    ----------
    bias : PlumedBias
        Only its CVs are taken, and no file is written.
    kappa : mapping of str to float
        The CVs that windows restrain, in the order of the columns of their centres [kJ/mol per CV
        unit squared].

    Raises
    ------
    ValueError
        If one is no CV of the bias.
    """
    names = [variable.name for variable in bias.variables]
    if unknown := [name for name in kappa if name not in names]:
        raise ValueError(f"no CV {', '.join(unknown)} among {', '.join(names)}")
    ordered = [*kappa, *(name for name in names if name not in kappa)]
    order = [names.index(name) for name in ordered]
    strengths = [kappa.get(name, 0.0) for name in names]
    lines = bias.restrained(np.zeros(len(names)), strengths).text.rstrip("\n").split("\n")
    found = re.fullmatch(r"RESTRAINT ARG=\S+ AT=\S+ KAPPA=(\S+)", lines[-1])
    assert found is not None, "the restraint is the last line of what restrained() gives"
    written = found[1].split(",")
    # names such as d.x can not stand in a template
    called = [name if name.isidentifier() else f"cv{i}" for i, name in enumerate(ordered)]
    at = [
        f"${{{word}}}" if name in kappa else "0.0"
        for word, name in zip(called, ordered, strict=True)
    ]
    restraint = (
        f"RESTRAINT ARG={','.join(ordered)} AT={','.join(at)} "
        f"KAPPA={','.join(written[i] for i in order)}"
    )
    return "\n".join([*(line.replace("$", "$$") for line in lines[:-1]), restraint, ""])
