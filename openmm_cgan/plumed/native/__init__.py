"""The native backend: an input compiled to OpenMM forces.

values    the values of an input at positions
forces    from actions to OpenMM forces
refusals  combinations that have no force
runs      what happens between the steps
backend   NativeBackend, which holds the four together
"""
