"""Collective variables, a class each.

centers       virtual atoms: COM, CENTER, FIXEDATOM
variable      what collective variables share
chains        DISTANCE, ANGLE, TORSION, POSITION
contacts      sums over pairs: COORDINATION, CONTACTMAP
shapes        GYRATION, RMSD
paths         PATHMSD, PROPERTYMAP
surroundings  TIME, ENERGY, VOLUME, CELL
"""
