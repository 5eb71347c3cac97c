"""The files that PLUMED keeps during a run: COLVAR, HILLS, KERNELS, STATE, grids.

contents      plain or gzip; half rows cut off
tables        named columns
fields        text files with named columns: read, written, backed up
grid_files    the nodes of a grid
output_files  opened once for all actions, and cut where a saved run goes on
xdr_frames    frames of xtc and trr files
torch_models  TorchScript files, which are only read
"""
