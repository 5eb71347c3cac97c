"""PLUMED input files: read, compiled to OpenMM forces, or run by PLUMED itself.

In the order of the data, from the text to the bias on a simulation:

language              text to statements, words to numbers; PlumedInputError
colvar                collective variables by name; the text files that PLUMED keeps of them
expressions           Lepton: read once, for numpy, torch and OpenMM
pdb, index_files      what inputs refer to: selectors, references, groups of atoms
actions               each action once: keywords, values, energies

to forces

terms                 forces of OpenMM whose energy is one value
gradients             values of single frames with their gradients
python_force          biases that no expression holds
lowering              from actions to the cheapest forces; new hills into a running Context
refusals              combinations that have no force

between the steps of a run

output_files          text files that are opened once, and cut where a saved run goes on
prints, metad_run, metad_steps, opes_files
                      what PRINT, METAD and OPES do when it is their turn
stepwise              whose turn it is
saved_state           all that a bias has gathered, with the checkpoint of its Simulation

backends

input_values, native  the compiled input: its values, its run
strides, libplumed, kernel
                      the same input run by libplumed
plugin                by openmm-plumed
backends              which of them is taken
bias_reporters, bias  PlumedBias, the one object a user holds
"""
