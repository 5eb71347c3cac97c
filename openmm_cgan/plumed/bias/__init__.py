"""PlumedBias, the one object a user holds.

presence    its forces in a System, and in which Contexts they are
reporters   what calls it between the steps of a Simulation, and saves it
watch       it is held against the Simulation whenever that goes on
attachment  where it is
bias        PlumedBias
"""

from openmm_cgan.plumed.bias.bias import PlumedBias

__all__ = ["PlumedBias"]
