"""Where umbrella windows stand and how stiff they are, from a free energy that is roughly known.

Windows stand on a grid, where the free energy is low enough to matter. On flat ground a restraint
holds a window to a width of half the spacing, so that neighbours share a third of their frames.
Where the free energy bends down, F'' = -c, a window with the force constant k is held by k - c
only: it is wider than asked for, and neighbours on both sides of a top slide apart, d k / (k - c)
for the spacing d. In widths that is d k / sqrt(kT (k - c)), least for k = 2 c, which is taken; what
neighbours then share says how many windows it takes.
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

if TYPE_CHECKING:
    from openmm_cgan.free_energy.profiles import FreeEnergy
    from openmm_cgan.plumed.bias import PlumedBias

logger = logging.getLogger("openmm_cgan")

# Neighbours whose means are x widths apart share erfc(x / (2 sqrt(2))): 0.32 and 0.05.
USUAL, FARTHEST = 2.0, 3.92
MARGIN = 2.0  # times the curvature: a rough free energy is smoother than the true one


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
    kT = GAS_CONSTANT * temperature
    if kappa is None:
        kappa = []
        for k, variable in enumerate(free_energy.variables):
            constant, number = _stiffness(free_energy, k, low, kT)
            kappa.append(constant)
            if number > len(free_energy.centres[k]):
                logger.warning(
                    "%s: the free energy bends down so much that neighbours would hardly overlap "
                    "on its tops: give %d windows or more, not %d",
                    variable.name, number, len(free_energy.centres[k]),
                )  # fmt: skip
    names = tuple(variable.name for variable in free_energy.variables)
    return Placement(names, grid[low], np.array(kappa))


def windows_needed(free_energy: FreeEnergy, temperature: float, highest: float) -> int:
    """How many windows along each CV it takes for neighbours to overlap, by a rough free energy.

    Parameters
    ----------
    free_energy, temperature, highest
        As of `place_windows`.
    """
    low = free_energy.free_energy <= highest
    kT, n_cvs = GAS_CONSTANT * temperature, len(free_energy.variables)
    return max(_stiffness(free_energy, k, low, kT)[1] for k in range(n_cvs))


def _stiffness(free_energy: FreeEnergy, cv: int, low: NDArray, kT: float) -> tuple[float, int]:
    """Force constant along one CV [kJ/mol per CV unit squared], and how many windows it takes."""
    centres, variable = free_energy.centres[cv], free_energy.variables[cv]
    if len(centres) < 2:
        raise ValueError(f"{variable.name} has {len(centres)} bin, expected 2 or more")
    spacing = float(centres[1] - centres[0])
    known = np.where(low, free_energy.free_energy, np.nan)
    shifted = [np.roll(known, step, axis=cv) for step in (-1, 1)]
    bend = (shifted[0] + shifted[1] - 2 * known) / spacing**2
    if variable.domain is None:  # the ends have one neighbour, not the other end
        bend = np.delete(bend, [0, len(centres) - 1], axis=cv)
    down = MARGIN * max(0.0, -float(np.nanmin(bend))) if np.isfinite(bend).any() else 0.0
    constant = max(kT * (USUAL / spacing) ** 2, 2 * down)
    apart = spacing * constant / math.sqrt(kT * (constant - down))
    return constant, math.ceil(len(centres) * max(1.0, apart / FARTHEST))


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
