"""The input run by PLUMED itself.

schedule  at which steps PLUMED's actions do something
instance  libplumed by ctypes
kernel    libplumed through openmm.PythonForce
plugin    openmm-plumed
"""
