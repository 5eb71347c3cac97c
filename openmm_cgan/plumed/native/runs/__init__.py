"""What actions do between the steps of a run.

metad, metad_steps, opes, print  of METAD, OPES and PRINT
run                              of the others, and whose turn it is
"""
