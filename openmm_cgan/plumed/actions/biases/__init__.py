"""Biases that are a formula.

bias    what biases share; RESTRAINT, walls, BIASVALUE
moving  MOVINGRESTRAINT
"""
