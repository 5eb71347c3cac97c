"""A PLUMED input over the frames of a trajectory, as ``plumed driver`` does.

trajectories  frames from files, in PLUMED's own formats or by MDAnalysis
frame_forces  forces and virial of the biases at a frame
driver        the run
"""
