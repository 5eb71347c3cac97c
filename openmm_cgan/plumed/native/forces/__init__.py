"""From biases to OpenMM forces.

leaf_forces   forces whose energy is one value
frame_values  values of single frames with their gradients
model_functions
              outputs of TorchScript models with their gradients
python_force  biases that no expression holds
bias_forces   what a bias becomes, and how a running Context gets it as it is now
system_box    what is to be known of the System
compiler      from biases to the cheapest forces
"""
