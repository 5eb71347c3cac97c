"""METAD: its hills, where they are kept, and what a METAD may have besides.

gaussian       the shape of one hill
axis           one axis of a grid
hill_grid      hills summed on the nodes of a grid
grid_texts     a grid as an expression of OpenMM's
hill_sums      hills summed one by one
hill_lists     NLIST
adaptive       ADAPTIVE=DIFF and GEOM
tempering      TTBIASFACTOR, TARGET, CALC_TRANSITION_BIAS
heights        HEIGHT, TAU, BIASFACTOR, DAMPFACTOR
totals         CALC_RCT, CALC_MAX_BIAS, CALC_WORK
acceleration   ACCELERATION, FREQUENCY_ADAPTIVE
options        the keywords of METAD, and what a statement says by them
hills          in which of these ways hills are kept
metad          METAD
"""
