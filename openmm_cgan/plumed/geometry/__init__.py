"""Geometry that the actions share: arrays in, arrays out, for numpy and torch.

lattices       nearest images in any periodic box
vectors        differences, products, images
molecules      making molecules whole
trees          the spanning trees of WHOLEMOLECULES EMST
single_frame   distances, angles and torsions of one frame in plain floats
superposition  optimal rotations, RMSD and its gradient
last_frames    what was worked out of the last frame
switching      switching functions of COORDINATION and CONTACTMAP
near_pairs     lists of near pairs, in linear time
pair_blocks    sums over all pairs of two groups
"""
