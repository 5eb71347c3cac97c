"""PLUMED input files: read, compiled to OpenMM forces, or run by PLUMED itself."""
