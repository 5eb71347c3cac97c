"""What is given with units, or without, as numbers in the units of the package."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from openmm import unit

if TYPE_CHECKING:
    from openmm.app import Simulation


def kelvin(temperature: Any) -> float | None:
    """A temperature [K], a number or a Quantity; None where none is given.

    Raises
    ------
    ValueError
        If it is not finite and positive.
    """
    if temperature is None:
        return None
    if unit.is_quantity(temperature):
        temperature = temperature.value_in_unit(unit.kelvin)
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature is {temperature} K; expected a positive number")
    return float(temperature)


def nanometers(lengths: Any) -> np.ndarray:
    """Lengths of any shape [nm]."""
    if unit.is_quantity(lengths):
        lengths = lengths.value_in_unit(unit.nanometer)
    return np.asarray(lengths, dtype=float)


def positions_in_nm(positions: Any) -> np.ndarray:
    """Positions of shape (n_atoms, 3) or (n, n_atoms, 3) [nm].

    Raises
    ------
    ValueError
        If they are of another shape.
    """
    x = nanometers(positions)
    if x.ndim not in (2, 3) or x.shape[-1] != 3:
        raise ValueError(f"positions have shape {x.shape}; expected (..., n_atoms, 3)")
    return x


def timestep_of(simulation: Simulation) -> float:
    """The time step of a Simulation [ps]."""
    return simulation.integrator.getStepSize().value_in_unit(unit.picosecond)
