"""What a screen refuses, and what it lets through."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.quantities import has_units, number_of_steps, numbers_of


@dataclass(frozen=True)
class ScreenSettings:
    """Where a configuration stops being acceptable.

    Parameters
    ----------
    cv_tolerance : float or tuple of float, optional
        Largest distance of restriction(x) from the target, of all CVs or of each [CV units]. By
        default that of `cv_tolerances`: a fraction of the range that the sampler knows.
    clash_fraction : float
        Atoms more than ``excluded_bonds`` bonds apart clash when they are closer than this fraction
        of the sum of their van der Waals radii. A hydrogen bond of 0.16 nm is at 0.61; alanine
        dipeptide at 600 K, and held at phi = psi = 0, stays above 0.62.
    excluded_bonds : int
        Pairs at most so many bonds apart cannot clash (3: 1-4 pairs are let through).
    bond_tolerance : float
        Largest relative deviation of a bond from its length in the reference; a soft one may be as
        short and as long as the System has it at temperature, where that is known.
    chirality, cis_trans : bool
        Whether stereocentres, and amides and double bonds, must be as in the reference.
    turning : tuple of (int, int)
        Bonds, by atoms of the topology, about which isomers are not kept all the same. Those about
        which a CV turns (omega of a proline) are among them by themselves.
    """

    cv_tolerance: float | tuple[float, ...] | None = None
    clash_fraction: float = 0.55
    excluded_bonds: int = 3
    bond_tolerance: float = 0.25
    chirality: bool = True
    cis_trans: bool = True
    turning: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        number_of_steps(self.excluded_bonds, "excluded_bonds", 0, "a whole number")
        for name in ("cv_tolerance", "bond_tolerance"):
            value = vars(self)[name]
            if value is not None and not (numbers_of(value, name) > 0).all():
                raise ValueError(f"{name} is {value}; expected a positive number")
        if has_units(self.clash_fraction) or not 0 <= self.clash_fraction < np.inf:
            raise ValueError(f"clash_fraction is {self.clash_fraction}; expected 0 or more")

    def turned_by(self, variables: Iterable[CollectiveVariable]) -> ScreenSettings:
        """The same, with the bonds about which TORSIONs among CVs turn: they name the isomer."""
        own = (v.atoms[1:3] for v in variables if v.action == "TORSION" and len(v.atoms) == 4)
        return replace(self, turning=(*self.turning, *((one, two) for one, two in own)))
