"""Biases that are a formula.

bias        what biases share
restraint   RESTRAINT
walls       UPPER_WALLS, LOWER_WALLS
bias_value  BIASVALUE
moving      MOVINGRESTRAINT
abmd        ABMD
"""
