"""The forces of a bias in a System, and which Contexts contain them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import openmm

from openmm_cgan.plumed.native.forces.system_box import bias_number, marker_force

if TYPE_CHECKING:
    from openmm.app import Simulation

# Forces that know the Contexts they are in. PythonForce, and PLUMED's own, do not.
WITNESSES = (
    openmm.CustomAngleForce,
    openmm.CustomBondForce,
    openmm.CustomCentroidBondForce,
    openmm.CustomCompoundBondForce,
    openmm.CustomCVForce,
    openmm.CustomExternalForce,
    openmm.CustomTorsionForce,
)


def free_force_group(system: openmm.System) -> int:
    """The highest force group that no force of a System is in.

    Raises
    ------
    RuntimeError
        If there is none.
    """
    used = {force.getForceGroup() for force in system.getForces()}
    free = set(range(32)) - used
    if not free:
        raise RuntimeError("no force group is free: the System's forces use all 32")
    return max(free)


class Presence:
    """Forces that are added to a System, and known in the Contexts that are made from it after.

    Where none of them knows its Contexts, a force that does nothing marks them.

    Parameters
    ----------
    forces : sequence of openmm.Force
    system : openmm.System
    group : int
        Their force group.
    """

    def __init__(self, forces: Sequence[openmm.Force], system: openmm.System, group: int) -> None:
        self._witness = next((force for force in forces if isinstance(force, WITNESSES)), None)
        self._system = system  # the forces are its own, and end with it
        self._marker = ""  # without a witness, a parameter of the Context
        added = list(forces)
        if self._witness is None:
            self._marker = f"openmm_cgan_bias_{bias_number(system)}"
            added.append(marker_force(self._marker))
        for force in added:
            force.setForceGroup(group)
            system.addForce(force)

    def require_in(self, simulation: Simulation) -> None:
        """Check that the Context of a Simulation contains the forces.

        Raises
        ------
        RuntimeError
            If not: a Context is a copy of what the System was when it was made.
        """
        if not self._is_in(simulation.context):
            raise RuntimeError(
                "the Simulation's Context does not contain the bias: call bias.add_to(system) "
                "before Simulation(topology, system, integrator), with the same System"
            )

    def _is_in(self, context: openmm.Context) -> bool:
        if self._witness is None:
            return self._marker in dict(context.getParameters())
        try:
            self._witness.updateParametersInContext(context)
        except openmm.OpenMMException as error:
            if "not present in the Context" in str(error):
                return False
            raise
        return True
