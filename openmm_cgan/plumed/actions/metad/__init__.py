"""METAD: its hills, where they are kept, and what a METAD may have besides.

hill_grid      hills summed on the nodes of a grid
hill_sums      hills summed one by one
hill_lists     NLIST
adaptive       ADAPTIVE=DIFF and GEOM
tempering      TTBIASFACTOR, TARGET, CALC_TRANSITION_BIAS
acceleration   ACCELERATION, FREQUENCY_ADAPTIVE
update_window  UPDATE_FROM, UPDATE_UNTIL
options        the keywords of METAD
metad          METAD
"""
