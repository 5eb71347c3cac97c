"""The circle from a structure to a free energy, and the decisions on the way.

`torsions` are where a run may hide what it has not sampled, `added_bias` biases an input that has
no bias, `evidence` is what has been measured, `decisions` says what to do next and why, `circle`
does it until it is known, or the budget is spent. `coordinate_rounds` looks for CVs where there are
none.
"""
