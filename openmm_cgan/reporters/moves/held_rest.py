"""A part among a rest that is held: its energies, its constraints, and what its CVs depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.constraints import TiedAtoms
from openmm_cgan.plumed.geometry.lattices import nearest_image
from openmm_cgan.proposals import cv_differences
from openmm_cgan.reporters.moves import exactness

if TYPE_CHECKING:
    import openmm

    from openmm_cgan.plumed.bias import PlumedBias
    from openmm_cgan.potentials import Potential

SHAKEN = (0.02, 0.1, 0.3)  # nm: how far atoms are moved to see which CVs they move
SHAKES = 8  # of each size
UNMOVED = 1e-9  # CV units


class HeldRest:
    """The potential of a whole system, of which a part alone is moved.

    Parameters
    ----------
    potential : Potential
        Of the whole System.
    atoms : ndarray of int, shape (n_part,)
    current : ndarray, shape (n_atoms, 3)
        Where the whole system stands now [nm]; it may be set anew.
    quick : Potential, optional
        Of what depends on the part, or nearly so: `quick_system`.

    Attributes
    ----------
    tied : TiedAtoms
        The part, and the atoms that constraints connect with it.
    """

    def __init__(
        self,
        potential: Potential,
        atoms: NDArray[np.int64],
        current: NDArray[np.float64],
        quick: Potential | None = None,
    ) -> None:
        self.potential, self.atoms, self.current, self.quick = potential, atoms, current, quick
        self.tied = TiedAtoms(atoms, potential.constraints, potential.masses)

    def follow(self, context: openmm.Context) -> None:
        """Take over the parameters and the box of a running Context."""
        for potential in (self.potential, self.quick):
            if potential is not None:
                potential.follow(context)

    def whole(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Whole systems (n, n_atoms, 3) with the part at (n, n_part, 3) [nm], the rest as it is."""
        filled = np.repeat(self.current[None], len(x), axis=0)
        filled[:, self.atoms] = x
        return filled

    def energies(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energies (n,) [kJ/mol] of whole systems (n, n_atoms, 3) [nm]; the quick ones if any."""
        return (self.quick or self.potential).energies(positions)

    def energies_of_all(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energies (n,) [kJ/mol] of whole systems (n, n_atoms, 3) [nm], all that interacts."""
        return self.potential.energies(positions)

    def half_log_det(self, positions: Any) -> Any:
        """Logarithm of Fixman's factor (n,) of the constraints that are connected with the part."""
        return self.tied.half_log_det(positions[:, self.tied.atoms])

    def require_lengths(self, made: NDArray[np.float64]) -> None:
        """Check that configurations (n, n_part, 3) [nm] have the lengths of constraints.

        Raises
        ------
        ValueError
            If one is longer or shorter by more than a thousandth.
        """
        pairs, lengths = self.potential.constraints, self.potential.constraint_lengths
        touching = np.isin(pairs, self.atoms).any(axis=1)
        exactness.require_held(pairs[touching], lengths[touching], self.whole(made))

    def redrawn(
        self, velocities: NDArray[np.float64], kT: float, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Velocities (n_atoms, 3) [nm/ps] of which those of tied atoms are drawn anew.

        What they have along constraints is for the Context to take out.
        """
        drawn = velocities.copy()
        tied = self.tied.atoms
        deviation = np.sqrt(kT / self.potential.masses[tied])
        drawn[tied] = deviation[:, None] * rng.standard_normal((len(tied), 3))
        return drawn


def image_of(way: NDArray[np.float64], box: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """What brings ways (n, 3) [nm] from their shortest images to what they are: lattice vectors."""
    if box is None:
        return np.zeros_like(way)
    x, y, z = np.asarray(way, dtype=float).T
    return way - np.stack(nearest_image((x, y, z), box), axis=-1)


def moved_variables(
    bias: PlumedBias,
    atoms: NDArray[np.int64],
    positions: NDArray[np.float64],
    box: NDArray[np.float64] | None,
) -> NDArray[np.bool_]:
    """Which CVs atoms move, shape (n_cvs,): found by shaking these.

    A CV that is wrongly taken for one that they do not move costs candidates and not exactness:
    those that change it are refused, and from there, too.

    Parameters
    ----------
    bias : PlumedBias
    atoms : ndarray of int, shape (n_part,)
    positions : ndarray, shape (n_atoms, 3)
        [nm]
    box : ndarray, shape (3, 3), or None
        [nm]
    """
    rng = np.random.default_rng(0)
    shaken = np.repeat(positions[None], len(SHAKEN) * SHAKES, axis=0)
    sizes = np.repeat(SHAKEN, SHAKES)[:, None, None]
    shaken[:, atoms] += sizes * rng.standard_normal((len(sizes), len(atoms), 3))
    cvs = bias.cv_values(np.concatenate([positions[None], shaken]), box)
    away = np.abs(cv_differences(bias.variables, cvs[:1], cvs[1:]))
    return ~(away <= UNMOVED).all(axis=0)
