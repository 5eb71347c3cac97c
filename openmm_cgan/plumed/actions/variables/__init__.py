"""Collective variables, a class each.

atoms         what depends on atoms, and what WHOLEMOLECULES does for it
centers       virtual atoms: COM, CENTER, FIXEDATOM
variable      what collective variables share
components    the components of vectors: of DISTANCE, POSITION
chains        DISTANCE, ANGLE, TORSION
contacts, contact_maps
              sums over pairs: COORDINATION; CONTACTMAP
distance_deviations
              DRMSD
reductions    MIN, MEAN, LESS_THAN ... of many values
many          what variables of many values share
distances     DISTANCES, XDISTANCES, YDISTANCES, ZDISTANCES
alpha_beta    ALPHABETA
coordination_numbers
              COORDINATIONNUMBER
projection    PROJECTION_ON_AXIS
funnel_place  FUNNEL_PS
shapes, displacements, ermsd
              GYRATION, RMSD; ERMSD
ideal_structures, secondary
              ALPHARMSD, ANTIBETARMSD, PARABETARMSD
moved         FIT_TO_TEMPLATE, WRAPAROUND, and variables of atoms that they have moved
puckering     PUCKERING
paths         PATHMSD, PROPERTYMAP
surroundings  TIME, ENERGY, VOLUME, CELL
"""
