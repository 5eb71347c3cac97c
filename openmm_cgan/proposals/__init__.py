"""Proposals: configurations made at CV values asked for, and which of them pass.

`samplers` is the contract of what makes them. `stereochemistry` and `stereo_axes` find what a
molecule must keep, `screening` checks it, `propose` makes, screens and counts, `targets` chooses
the CV values. `conditions`, `even_draws`, `weights` and `selection` are for proposals whose density
is known: CV values from a known density, drawn by themselves or evenly, importance weights, and the
choice by them.
"""

from openmm_cgan.proposals.conditions import GridConditions, UniformConditions
from openmm_cgan.proposals.propose import Proposals, propose
from openmm_cgan.proposals.samplers import (
    DensitySampler,
    LatentMap,
    LatentSampler,
    LocalSampler,
    Sampler,
    TiedSampler,
    TorsionMap,
    TorsionSampler,
    generated_atoms,
    hangs_on_rest,
    keeps_place,
    knows_density,
    require_same_variables,
    require_sampler,
    why_not_alike,
)
from openmm_cgan.proposals.screening import (
    PASSED,
    Rest,
    Screen,
    ScreenSettings,
    cv_differences,
    cv_tolerances,
)

__all__ = [
    "PASSED",
    "DensitySampler",
    "GridConditions",
    "LatentMap",
    "LatentSampler",
    "LocalSampler",
    "Proposals",
    "Rest",
    "Sampler",
    "Screen",
    "ScreenSettings",
    "TiedSampler",
    "TorsionMap",
    "TorsionSampler",
    "UniformConditions",
    "cv_differences",
    "cv_tolerances",
    "generated_atoms",
    "hangs_on_rest",
    "keeps_place",
    "knows_density",
    "propose",
    "require_same_variables",
    "require_sampler",
    "why_not_alike",
]
