"""OPES_EXPANDED and its expansions: one run that samples many states.

expansions     what an ECV_ action is: states, and the reduced energy of each
linear         ECV_MULTITHERMAL, ECV_LINEAR
multibaric     ECV_MULTITHERMAL_MULTIBARIC
energies       ECV_CUSTOM
umbrellas      ECV_UMBRELLAS_LINE, ECV_UMBRELLAS_FILE
options        the keywords of OPES_EXPANDED, and what a statement says by them
opes_expanded  the bias
"""
