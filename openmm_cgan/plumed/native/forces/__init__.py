"""From actions to OpenMM forces.

leaf_forces   forces whose energy is one value
frame_values  values of single frames with their gradients
python_force  biases that no expression holds
compiler      from actions to the cheapest forces
"""
