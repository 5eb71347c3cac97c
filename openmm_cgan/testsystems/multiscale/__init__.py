"""Stochastic differential equations with a slow variable, and what is exact of them.

`multiscale_system` says what every system offers, `reversible` holds what they share: simulation of
many walkers, the reduced dynamics by quadrature. Each is a frozen dataclass whose ``eps`` is the
inverse of the scale separation:

`linear`         LinearPair: two Ornstein-Uhlenbeck coordinates, all Gaussian
`half_moon`      HalfMoon: a slow double well behind a bent fast coordinate
`angle_radius`   AngleRadius: a slow angle on spirals in the plane
`mueller_brown`  RotatedMuellerBrown: a rugged landscape and stiff springs, rotated out of sight
`coupled_well`   CoupledDoubleWell: ten fast coordinates whose variance depends on the slow one

`wells` and `quadrature` are their parts; `openmm_forms` makes Systems and integrators of them.
"""

from openmm_cgan.testsystems.multiscale.angle_radius import AngleRadius
from openmm_cgan.testsystems.multiscale.coupled_well import CoupledDoubleWell
from openmm_cgan.testsystems.multiscale.half_moon import HalfMoon
from openmm_cgan.testsystems.multiscale.linear import LinearPair
from openmm_cgan.testsystems.multiscale.mueller_brown import RotatedMuellerBrown
from openmm_cgan.testsystems.multiscale.multiscale_system import Bias, MultiscaleSystem
from openmm_cgan.testsystems.multiscale.reversible import ReversibleDiffusion
from openmm_cgan.testsystems.multiscale.wells import QuarticWell

__all__ = [
    "AngleRadius",
    "Bias",
    "CoupledDoubleWell",
    "HalfMoon",
    "LinearPair",
    "MultiscaleSystem",
    "QuarticWell",
    "ReversibleDiffusion",
    "RotatedMuellerBrown",
]
