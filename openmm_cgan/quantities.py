"""What is given with units, or without, as numbers in the units of the package.

Whatever has one unit (temperatures, times, positions) is taken with it or without. What has the
units of a CV is taken as numbers only: those units are the PLUMED input's to say, and no Quantity
knows them. OpenMM is not imported here: where nothing else has, there can be no Quantity.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from openmm.app import Simulation

SAME_TEMPERATURE = 1e-3  # of the temperature


def kelvin(temperature: Any) -> float | None:
    """A temperature [K], a number or a Quantity; None where none is given.

    Raises
    ------
    ValueError
        If it is not finite and positive, or no temperature.
    """
    return None if temperature is None else positive(temperature, "K", "temperature")


def same_temperature(one: float, other: float) -> bool:
    """Whether two temperatures [K] are one: kT of an integrator, or a file, is rounded."""
    return abs(one - other) <= SAME_TEMPERATURE * other


def positive(value: Any, unit_name: str, name: str) -> float:
    """A positive number, or a Quantity as one.

    Parameters
    ----------
    value : float or Quantity
    unit_name : str
        "K", "ps", "1/ps", "nm" or "kJ/mol".
    name : str
        Of the argument, for messages.

    Raises
    ------
    ValueError
        If it is no number of that dimension, or not finite and positive.
    """
    expected = f"{name} is {value}; expected a positive number [{unit_name}]"
    try:
        number = float(_in_unit(value, unit_name))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{expected}, or a Quantity of that dimension") from error
    if not (math.isfinite(number) and number > 0):
        raise ValueError(expected)
    return number


def nanometers(lengths: Any) -> np.ndarray:
    """Lengths of any shape [nm].

    Raises
    ------
    ValueError
        If they are no numbers, or Quantities of another dimension.
    """
    return _array_in(lengths, "nm", "expected lengths [nm] or a Quantity of them")


def energies_of(values: Any, name: str) -> np.ndarray:
    """Energies of any shape [kJ/mol].

    Raises
    ------
    ValueError
        If they are no numbers, or Quantities of another dimension.
    """
    return _array_in(values, "kJ/mol", f"{name}: expected energies [kJ/mol] or a Quantity")


def _array_in(values: Any, unit_name: str, expected: str) -> np.ndarray:
    try:
        # what app.PDBFile and others give is a Quantity of a list of Vec3
        return np.asarray(_in_unit(values, unit_name), dtype=float)
    except TypeError as error:
        raise ValueError(f"{expected}: {error}") from error


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


def numbers_of(values: Any, name: str, unit_name: str = "CV units") -> np.ndarray:
    """Numbers of any shape, in units that no Quantity can be converted to.

    Parameters
    ----------
    values : array_like
    name, unit_name : str
        Of the argument, for messages.

    Raises
    ------
    ValueError
        If there is a Quantity, or what is no number, among them.
    """
    expected = f"{name}: expected numbers [{unit_name}]"
    if has_units(values):
        raise ValueError(
            f"{expected} and not {values}: CV units are those of the PLUMED input, which a "
            "Quantity does not know; give quantity.value_in_unit(...)"
        )
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{expected}: {error}") from error


def picoseconds(time: Any, name: str) -> float:
    """A time [ps], a number or a Quantity.

    Raises
    ------
    ValueError
        If it is no time.
    """
    try:
        return float(_in_unit(time, "ps"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {time}; expected a time [ps] or a Quantity") from error


def number_of_steps(value: Any, name: str, least: int = 1, what: str = "a number of steps") -> int:
    """A whole number of steps, or of what else is counted.

    Raises
    ------
    ValueError
        If it is a time, no whole number, or less than the least.
    """
    expected = f"{name} is {value}; expected {what} >= {least}"
    if has_units(value):
        raise ValueError(f"{expected}: divide a time by the time step, round(time / timestep)")
    try:
        number = int(value)
        whole = number == value
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(expected) from error
    if not whole or number < least:
        raise ValueError(expected)
    return number


def has_units(value: Any) -> bool:
    """Whether something is a Quantity, or a sequence with one in it."""
    units = sys.modules.get("openmm.unit")
    if units is None:
        return False
    if isinstance(value, list | tuple):
        return any(map(has_units, value))
    if isinstance(value, np.ndarray):
        return value.dtype == object and any(map(has_units, value.ravel().tolist()))
    return bool(units.is_quantity(value))


def _in_unit(value: Any, unit_name: str) -> Any:
    """Numbers of a Quantity, or of a list of Quantities; what has no units as it is.

    Raises
    ------
    TypeError
        If a Quantity has another dimension.
    """
    if not has_units(value):
        return value
    from openmm import unit

    units = {
        "K": unit.kelvin,
        "ps": unit.picosecond,
        "1/ps": unit.picosecond**-1,
        "nm": unit.nanometer,
        "kJ/mol": unit.kilojoule_per_mole,
    }
    if unit.is_quantity(value):
        return value.value_in_unit(units[unit_name])
    return [_in_unit(part, unit_name) for part in value]


def timestep_of(simulation: Simulation) -> float:
    """The time step of a Simulation [ps]; 0 of an integrator whose steps differ in length."""
    import openmm
    from openmm import unit

    variable = openmm.VariableLangevinIntegrator | openmm.VariableVerletIntegrator
    if isinstance(simulation.integrator, variable):
        return 0.0  # what it says is the length of its latest step
    return simulation.integrator.getStepSize().value_in_unit(unit.picosecond)
