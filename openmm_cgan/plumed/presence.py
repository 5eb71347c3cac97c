"""Whether a Context contains the forces of a bias: it was made after they came into its System."""

from __future__ import annotations

from collections.abc import Sequence

import openmm

from openmm_cgan.plumed.native.forces.system_box import bias_number, marker_force

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


class Presence:
    """Tells the Contexts that contain a bias from those that do not.

    Parameters
    ----------
    forces : sequence of openmm.Force
        Of the bias.
    system : openmm.System
        Where they come into.

    Attributes
    ----------
    marker : openmm.Force or None
        To be added to the System beside the forces where none of them knows its Contexts.
    """

    def __init__(self, forces: Sequence[openmm.Force], system: openmm.System) -> None:
        self._witness = next((force for force in forces if isinstance(force, WITNESSES)), None)
        self.marker: openmm.Force | None = None
        if self._witness is None:
            self._parameter = f"openmm_cgan_bias_{bias_number(system)}"
            self.marker = marker_force(self._parameter)

    def is_in(self, context: openmm.Context) -> bool:
        """Whether the Context contains the bias."""
        if self._witness is None:
            return self._parameter in dict(context.getParameters())
        try:
            self._witness.updateParametersInContext(context)
        except openmm.OpenMMException as error:
            if "not present in the Context" in str(error):
                return False
            raise
        return True
