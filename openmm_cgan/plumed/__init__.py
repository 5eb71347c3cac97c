"""PLUMED input files: read, compiled to OpenMM forces, or run by PLUMED itself.

`language` splits text into statements, `colvar` keeps the text files, `expressions` and `pdb` read
what stands in inputs, `actions` holds each action once; `lowering` makes OpenMM forces of them and
`native` runs them, `kernel` (over `libplumed`) and `plugin` are the other backends, and `bias` is
the one object a user holds.
"""
