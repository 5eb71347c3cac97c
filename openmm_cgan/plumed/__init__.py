"""PLUMED input files: read, compiled to OpenMM forces, or run by PLUMED itself.

In the order of the data, from the text to the bias on a simulation:

input      text to statements, words to numbers; what inputs refer to: selectors, references, groups
files      COLVAR, HILLS, KERNELS, STATE and grids: read, written, cut where a saved run goes on
geometry   nearest images, vectors, superposition, switching functions
actions    each action once: keywords, values, energies
native     the input compiled: its values, its forces, what it does between steps
libplumed  the same input run by libplumed, or by openmm-plumed
backends   what a bias asks of them, and which of them is taken
driver     the input over the frames of a trajectory
bias       PlumedBias, the one object a user holds

Words that have one meaning in these rooms, besides PLUMED's own:

statement  one action of an input as text: label, name, words, and the line that it stands in
given      a statement whose keywords are read and checked; an action is made from it
options    what the keywords of an action with many say, parsed and frozen (METAD, OPES)
value      one number that an action gives, with its name, unit and period
site       a point that a variable is made of: an atom, a virtual atom or a fixed one
entity     the atoms that one WHOLEMOLECULES makes whole
leaf       what the expression of a variable is made of: a Term (geometry of sites), a BoxEdge, a
           value with a force of its own (OwnForce) or one that Python is called back for
form       how terms are written in one of OpenMM's forces; of a box: which images are nearest
run        an action between the steps of a simulation (native/runs)
pace       steps between hills or kernels; stride, steps between anything else
reach, patience
           how far a list of neighbours goes, and how long it is kept
totals     what METAD sums over its hills: work, c(t), the largest bias
"""
