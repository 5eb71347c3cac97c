"""The input run by PLUMED itself.

statements     what an input says where nobody compiles it: which bias, which write
schedule       at which steps PLUMED's actions do something
instance       libplumed by ctypes
enquiries      what PLUMED is asked before a run
run_by_plumed  what both backends answer alike
kernel         libplumed through openmm.PythonForce
plugin         openmm-plumed
"""
