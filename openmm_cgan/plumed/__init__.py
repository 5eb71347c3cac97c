"""PLUMED input files: read, compiled to OpenMM forces, or run by PLUMED itself.

In the order of the data, from the text to the bias on a simulation:

input      text to statements, words to numbers; what inputs refer to: selectors, references, groups
files      COLVAR, HILLS, KERNELS, STATE and grids: read, written, cut where a saved run goes on
geometry   nearest images, vectors, superposition, switching functions
actions    each action once: keywords, values, energies
native     the input compiled: its values, its forces, what it does between steps
libplumed  the same input run by libplumed, or by openmm-plumed
backends   which of them is taken
driver     the input over the frames of a trajectory
bias_reporters, bias
           PlumedBias, the one object a user holds
"""
