"""Proposals: configurations made at CV values asked for, and which of them pass.

`stereochemistry` finds what a molecule must keep, `screening` makes, checks and counts, `targets`
chooses the CV values.
"""

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

__all__ = [
    "PASSED",
    "Proposals",
    "Screen",
    "ScreenSettings",
    "cv_differences",
    "generated_atoms",
    "propose",
    "require_same_variables",
]
