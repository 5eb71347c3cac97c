"""The temperature that a simulation is held at, wherever OpenMM keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import openmm
from openmm import unit

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.quantities import kelvin, same_temperature

if TYPE_CHECKING:
    from openmm.app import Simulation

BAROSTATS = (
    openmm.MonteCarloBarostat,
    openmm.MonteCarloAnisotropicBarostat,
    openmm.MonteCarloMembraneBarostat,
    openmm.MonteCarloFlexibleBarostat,
)
# Global variables of CustomIntegrators, in small letters.
THERMAL_ENERGIES = ("kt", "kbt", "kb_t", "rt")  # kJ/mol
TEMPERATURES = ("temperature",)  # K
# Forces without an energy, which move the box or the velocities of a run by themselves.
WITHOUT_ENERGY = (
    openmm.AndersenThermostat,
    openmm.CMMotionRemover,
    openmm.RPMDMonteCarloBarostat,
    *BAROSTATS,
)


@runtime_checkable
class Thermostat(Protocol):
    """An integrator that holds a temperature."""

    def getTemperature(self) -> unit.Quantity:
        """Temperature of the heat bath."""
        ...


def thermal_energy(integrator: openmm.CustomIntegrator) -> float | None:
    """kT [kJ/mol] of a CustomIntegrator, by a global variable of it; None where it has none.

    That is kT, by any usual name (`THERMAL_ENERGIES`), or a temperature [K] (`TEMPERATURES`),
    whatever their capitals. Other names (T, beta, temp) may stand for something else.
    """
    found: dict[str, float] = {}
    for i in range(integrator.getNumGlobalVariables()):
        name = integrator.getGlobalVariableName(i)
        found.setdefault(name.lower(), integrator.getGlobalVariable(i))
    for names, factor in ((THERMAL_ENERGIES, 1.0), (TEMPERATURES, GAS_CONSTANT)):
        for name in names:
            if found.get(name, 0.0) > 0:
                return factor * float(found[name])
    return None


def has_several_temperatures(integrator: Any) -> bool:
    """Whether it is a NoseHooverIntegrator that holds parts of a system at temperatures apart."""
    if not isinstance(integrator, openmm.NoseHooverIntegrator):
        return False
    chains = range(integrator.getNumThermostats())
    return len({integrator.getTemperature(chain)._value for chain in chains}) > 1


def temperature_of(simulation: Simulation) -> float | None:
    """The temperature of a Simulation as it is now [K]; None where nothing holds one for all.

    That of the integrator, else of an AndersenThermostat in the System, else the one that a
    barostat works at. OpenMM's integrators with multiple time steps hold kT as a variable.
    """
    integrator: Any = simulation.integrator
    if isinstance(integrator, openmm.CompoundIntegrator):
        integrator = integrator.getIntegrator(integrator.getCurrentIntegrator())
    chainless = isinstance(integrator, openmm.NoseHooverIntegrator) and (
        integrator.getNumThermostats() == 0  # it conserves the energy, and asked it raises
    )
    if has_several_temperatures(integrator):
        return None
    if isinstance(integrator, Thermostat) and not chainless:
        return kelvin(integrator.getTemperature())
    if isinstance(integrator, openmm.CustomIntegrator):
        kT = thermal_energy(integrator)
        if kT is not None:
            return kT / GAS_CONSTANT
    for kinds in ((openmm.AndersenThermostat,), BAROSTATS):
        for force in simulation.system.getForces():
            if isinstance(force, kinds):
                return simulation.context.getParameter(type(force).Temperature())
    return None


def held_temperature(simulation: Simulation, told: float | None) -> float | None:
    """The temperature [K] of what a Simulation samples now; the one that was told, if it is that.

    Parameters
    ----------
    simulation : openmm.app.Simulation
    told : float or None
        What it is thought to be; also where nothing holds one.
    """
    now = temperature_of(simulation)
    if now is None or (told is not None and same_temperature(now, told)):
        return told
    return round(now, 6)  # of kT


def draw_velocities(simulation: Simulation, seed: int) -> None:
    """Draw velocities at the temperature that a Simulation is held at.

    Raises
    ------
    ValueError
        If nothing holds one.
    """
    temperature = temperature_of(simulation)
    if temperature is None:
        raise ValueError(
            f"{type(simulation.integrator).__name__} has no temperature to draw velocities at: "
            "call context.setVelocitiesToTemperature after restore_run instead"
        )
    simulation.context.setVelocitiesToTemperature(temperature, seed)
