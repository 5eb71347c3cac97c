"""The native backend: an input compiled to OpenMM forces.

dependence  what the values of an input depend on
values      the values of an input at positions
forces      from actions to OpenMM forces
refusals    combinations that have no force
runs        what happens between the steps
backend     NativeBackend, which holds them together
"""
