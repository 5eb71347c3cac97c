"""Geometry that the actions share: arrays in, arrays out, for numpy and torch.

lattices       nearest images in any periodic box
vectors        differences, products, images
molecules      making molecules whole
trees          the spanning trees of WHOLEMOLECULES EMST
superposition  optimal rotations, RMSD and its gradient
switching      switching functions of COORDINATION and CONTACTMAP
"""
