"""A bias held against the Simulation that it acts in: at attach, and whenever that goes on.

What would make the bias not act, act twice or act as it was earlier raises before the next step, or
is put right, and said.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import openmm

from openmm_cgan.fingerprints import ForceWatch
from openmm_cgan.plumed.bias.reporters import UpdateReporter
from openmm_cgan.quantities import timestep_of
from openmm_cgan.thermostats import held_temperature, temperature_of

if TYPE_CHECKING:
    from openmm.app import Simulation

    from openmm_cgan.plumed.backends import Backend

log = logging.getLogger("openmm_cgan")

ALL_GROUPS = frozenset(range(32))
EVERY = 100  # steps between two looks at what takes microseconds to look at
OURS = re.compile(r"plumed\d")  # how names of the parameters of biases begin
TEMPERATURES = (
    openmm.AndersenThermostat.Temperature(),
    openmm.MonteCarloBarostat.Temperature(),
    openmm.MonteCarloAnisotropicBarostat.Temperature(),
    openmm.MonteCarloMembraneBarostat.Temperature(),
)
# of a group or of all, in the expressions of a CustomIntegrator
GROUP_FORCE, GROUP_ENERGY = re.compile(r"\bf(\d*)\b"), re.compile(r"\benergy(\d*)\b")


def integrated_groups(integrator: openmm.Integrator) -> frozenset[int]:
    """The force groups that steps of an integrator feel.

    A CustomIntegrator, which OpenMM's integrators with multiple time steps are, names groups as
    ``f0``, ``f1`` ...; one of Monte Carlo moves, without forces, energies as ``energy0`` ... Of a
    CompoundIntegrator those count that all of its integrators feel.
    """
    mask = integrator.getIntegrationForceGroups()
    groups = frozenset(group for group in ALL_GROUPS if mask >> group & 1)
    if isinstance(integrator, openmm.CompoundIntegrator):
        n = integrator.getNumIntegrators()
        parts = [integrated_groups(integrator.getIntegrator(i)) for i in range(n)]
        return ALL_GROUPS.intersection(*parts)
    if not isinstance(integrator, openmm.CustomIntegrator):
        return groups
    n = integrator.getNumComputations()
    text = "\n".join(integrator.getComputationStep(i)[2] for i in range(n))
    named = set(GROUP_FORCE.findall(text) or GROUP_ENERGY.findall(text))
    felt = {int(number) for number in named if number}
    return frozenset(felt | groups if "" in named else felt)


def require_felt(integrator: openmm.Integrator, groups: set[int]) -> None:
    """Raise if an integrator does not feel the forces of a bias.

    Parameters
    ----------
    integrator : openmm.Integrator
    groups : set of int
        The force groups of the bias.

    Raises
    ------
    ValueError
    """
    felt = integrated_groups(integrator)
    if left := sorted(groups - felt):
        raise ValueError(
            f"the bias is in force group {left[0]}, and {type(integrator).__name__} integrates "
            f"groups {sorted(felt)} only: it would not act. Name its group in the integrator, as "
            f"MTSLangevinIntegrator(..., [..., ({left[0]}, 1)]), or choose one that is integrated "
            "and has no other force: bias.add_to(system, force_group=1)"
        )


def with_temperature(engine: Backend, simulation: Simulation) -> float | None:
    """The temperature [K] of a bias: where none was told that of its Simulation.

    A bias that never changes needs none.
    """
    if engine.temperature is None and not engine.static:
        engine.temperature = temperature_of(simulation)
        if engine.temperature is not None:
            log.info("the bias counts with that of the simulation, %g K", engine.temperature)
    return engine.temperature


def foreign_parameters(simulation: Simulation) -> dict[str, float]:
    """Global parameters of the Context that change a potential which is no bias's: a lambda.

    Temperatures of thermostats and barostats are looked at by themselves.
    """
    found = simulation.context.getParameters()
    return {
        name: float(value)
        for name, value in found.items()
        if name not in TEMPERATURES and not OURS.match(name)
    }


class RunWatch:
    """What is seen of a bias and its Simulation before that goes on.

    Parameters
    ----------
    simulation : openmm.app.Simulation
    reporter : UpdateReporter
        Of the bias, among the Simulation's.
    groups : set of int
        The force groups of the bias.
    temperature : float or None
        That the bias counts with [K].
    """

    def __init__(
        self,
        simulation: Simulation,
        reporter: UpdateReporter,
        groups: set[int],
        temperature: float | None,
    ) -> None:
        self._simulation, self._reporter, self._groups = simulation, reporter, groups
        self._temperature = temperature
        self._timestep = timestep_of(simulation)
        self._told: set[str] = set()
        self._varies = self._timestep == 0
        self._felt = simulation.integrator.getIntegrationForceGroups()
        self._next = simulation.currentStep
        self._parameters = foreign_parameters(simulation)
        self._forces = ForceWatch(simulation.system)
        self._compare_temperature()
        if self._varies:
            self._tell(
                "variable",
                f"the steps of {type(simulation.integrator).__name__} differ in length: times in "
                "the files of the bias are 0; frames have those of the simulation",
            )

    def look(self) -> None:
        """Hold the bias against the Simulation as it stands.

        Raises
        ------
        ValueError
            If the integrator does not feel the bias any more.
        RuntimeError
            If the Simulation has gone back behind what the bias has done.
        """
        self._reporter.require_not_back(self._simulation)
        self._keep_reporter()
        groups = self._simulation.integrator.getIntegrationForceGroups()
        if groups != self._felt:
            require_felt(self._simulation.integrator, self._groups)
            self._felt = groups
        if (step := self._simulation.currentStep) >= self._next:  # steps may come singly
            self._next = step + EVERY
            self._compare()

    def _keep_reporter(self) -> None:
        """See that the reporter of the bias stands once among those of the Simulation."""
        reporters = self._simulation.reporters
        places = [k for k, reporter in enumerate(reporters) if reporter is self._reporter]
        if not places:
            reporters.insert(0, self._reporter)
            log.warning(
                "the reporter of the bias was taken from simulation.reporters, and is there again: "
                "without it no hill is laid and no row written"
            )
        for k in reversed(places[1:]):
            del reporters[k]
        if places[1:]:
            log.warning(
                "the reporter of the bias stood %d times in simulation.reporters, and stands there "
                "once: each would have laid every hill and written every row", len(places),
            )  # fmt: skip

    def _compare(self) -> None:
        """Say where temperature or time step are no longer those of the bias."""
        self._compare_temperature()
        self._compare_parameters()
        self._compare_forces()
        if not self._varies and (now := timestep_of(self._simulation)) != self._timestep:
            self._tell(
                "step",
                f"the time step is {now} ps, and was {self._timestep} when the bias was "
                "attached: times in its files are still steps of that length",
            )

    def _compare_temperature(self) -> None:
        if self._temperature is None:
            return
        now = held_temperature(self._simulation, self._temperature)
        if now != self._temperature:
            self._tell(
                "temperature",
                f"the simulation is held at {now:g} K, and its bias counts with "
                f"{self._temperature:g} K",
            )

    def _compare_parameters(self) -> None:
        now = foreign_parameters(self._simulation)
        for name in now.keys() & self._parameters.keys():
            if now[name] != self._parameters[name]:
                self._tell(
                    f"parameter {name}",
                    f"the parameter {name} of the Context is {now[name]:g}, and was "
                    f"{self._parameters[name]:g} when the bias was attached: frames and hills "
                    "before and after are of two potentials, and nothing here tells them apart. "
                    "Make a run, with its own folder, of each",
                )

    def _compare_forces(self) -> None:
        if changed := self._forces.changed(self._simulation.system):
            self._tell(
                "forces",
                f"{', '.join(changed)} in the System are others than when the bias was attached, "
                f"at step {self._simulation.currentStep} at the latest: where they act (by "
                "updateParametersInContext or reinitialize), frames and hills before and after are "
                "of two potentials, and nothing here tells them apart. Make a run, with its own "
                "folder, of each",
            )

    def _tell(self, what: str, message: str) -> None:
        if what not in self._told:
            self._told.add(what)
            log.warning("%s", message)
