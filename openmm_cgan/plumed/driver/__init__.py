"""A PLUMED input over the frames of a trajectory, as ``plumed driver`` does.

trajectories  frames from files, in PLUMED's own formats or by MDAnalysis
virials       the virial of the biases
frame_forces  forces and virial of the biases at a frame
settings      its options
force_files   forces written for each frame, and compared with differences
driver        the run
"""
