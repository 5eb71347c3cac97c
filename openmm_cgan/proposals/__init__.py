"""Proposals: configurations made at CV values asked for, and which of them pass.

`stereochemistry` finds what a molecule must keep, `screening` makes, checks and counts, `targets`
chooses the CV values. `conditions`, `weights` and `selection` are for proposals whose density is
known: CV values from a known density, importance weights, and the choice by them.
"""

from openmm_cgan.proposals.conditions import GridConditions, UniformConditions
from openmm_cgan.proposals.screening import (
    PASSED,
    Proposals,
    Screen,
    ScreenSettings,
    cv_differences,
    generated_atoms,
    propose,
    require_same_variables,
)
from openmm_cgan.proposals.weights import DensitySampler

__all__ = [
    "PASSED",
    "DensitySampler",
    "GridConditions",
    "Proposals",
    "Screen",
    "ScreenSettings",
    "UniformConditions",
    "cv_differences",
    "generated_atoms",
    "propose",
    "require_same_variables",
]
