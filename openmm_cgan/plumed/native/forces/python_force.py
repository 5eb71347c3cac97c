"""Biases as a PythonForce: OPES, whose kernels no expression holds, what moves at every step, and
in large systems what acts on values without an expression.

An evaluation leaves no trace. OPES is the exact sum over its kernels: on a table every new kernel
would change every entry, through the norm.

A bias with STRIDE pulls at some steps, so many times as hard. Its energy is once the bias, as
PLUMED has it: what the run samples by. Between these steps it is not worked out and 0, unless a
barostat is there, which changes the volume at any step by how the energy changes.
"""

from __future__ import annotations

import numpy as np
import openmm

from openmm_cgan.called_back import Callback
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.native.forces.frame_values import FrameValues
from openmm_cgan.plumed.native.forces.system_box import has_barostat
from openmm_cgan.states import box_of, copy_positions


class BiasFunction(Callback):
    """What OpenMM calls back for the force of one bias.

    Parameters
    ----------
    bias : Bias
        Whose `energy_and_slopes` is called.
    values : FrameValues
        Its arguments.
    periodic : bool
        Whether the System has a periodic box.
    """

    def __init__(self, bias: Bias, values: FrameValues, periodic: bool) -> None:
        super().__init__()
        self._bias, self._values, self._periodic = bias, values, periodic
        self._positions = np.zeros((len(values.atoms), 3))

    def compute(self, state: openmm.State) -> tuple[float, np.ndarray]:
        """Energy [kJ/mol] and forces [kJ/mol/nm] on the needed atoms, shape (n_needed, 3)."""
        step = state.getStepCount()
        weight = self._bias.weight(step)
        if not weight and not has_barostat(state.getParameters()):
            return 0.0, np.zeros_like(self._positions)
        copy_positions(state, self._positions)
        box = box_of(state) if self._periodic else None
        self._values.follow(state)
        arguments, gradients = self._values(self._positions, box)
        energy, slopes = self._bias.energy_and_slopes(arguments, step)
        unit = self._bias.units.energy
        pull = unit * weight
        slopes = slopes if pull == 1 else [slope * pull for slope in slopes]
        return energy * unit, self._values.forces(slopes, gradients)

    def make_force(self, parameter: str) -> openmm.PythonForce:
        """Make the force; setting `parameter` tells a Context that the bias has changed."""
        force = openmm.PythonForce(self.compute, {parameter: 0.0}, self._values.atoms)
        force.setUsesPeriodicBoundaryConditions(self._periodic)
        force.setName(f"PLUMED {self._bias.name} {self._bias.label}")
        return force
