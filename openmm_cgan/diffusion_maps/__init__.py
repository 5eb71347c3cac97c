"""Coarse variables that nobody gave: diffusion maps of frames, and the way back.

distances      between frames: of features, in units of local noise, after superposition
kernels        Gaussian kernels, dense or sparse, and the bandwidth by the sum criterion
groups         of frames without neighbours between them
landmarks      some frames that stand for all
diffusion_map  coordinates of frames, biased ones too; of further frames by Nystroem
interpolation  kernel ridge and geometric harmonics: smooth functions through given values
plots          bandwidth and spectrum, drawn

A diffusion map (Coifman and Lafon, doi 10.1016/j.acha.2006.04.006) takes the eigenfunctions of a
diffusion between neighbouring frames: those that change most slowly are the slow coordinates.
"""

from openmm_cgan.diffusion_maps.diffusion_map import (
    DiffusionMap,
    DiffusionMapSettings,
    diffusion_map,
    independent_coordinates,
)
from openmm_cgan.diffusion_maps.distances import (
    SquareDistances,
    feature_distances,
    mahalanobis_distances,
    superposed_distances,
    with_local_metric,
)
from openmm_cgan.diffusion_maps.interpolation import (
    KernelInterpolant,
    geometric_harmonics,
    kernel_ridge,
)
from openmm_cgan.diffusion_maps.kernels import Bandwidth, choose_bandwidth

__all__ = [
    "Bandwidth",
    "DiffusionMap",
    "DiffusionMapSettings",
    "KernelInterpolant",
    "SquareDistances",
    "choose_bandwidth",
    "diffusion_map",
    "feature_distances",
    "geometric_harmonics",
    "independent_coordinates",
    "kernel_ridge",
    "mahalanobis_distances",
    "superposed_distances",
    "with_local_metric",
]
