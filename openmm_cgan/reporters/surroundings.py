"""Generated atoms put where they belong: onto the current ones, into what is around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.plumed.geometry.near_pairs import pairs_within
from openmm_cgan.proposals import cv_differences
from openmm_cgan.reporters.tied_molecules import TiedMolecules

if TYPE_CHECKING:
    from openmm_cgan.plumed.bias import PlumedBias

DIFFERENCE = 1e-5  # nm: of a central difference
FITS = 30  # of superpositions one after another
SHORT = 0.01  # nm: atoms less far from each other are thought to be in one place


def superpose(mobile: NDArray, onto: NDArray, weights: NDArray | None = None) -> NDArray:
    """Move configurations rigidly onto another one, without reflection.

    Parameters
    ----------
    mobile : ndarray, shape (n, n_atoms, 3)
        Configurations to be moved [nm].
    onto : ndarray, shape (n_atoms, 3)
        Where to [nm].
    weights : ndarray, shape (n, n_atoms), optional
        How much each atom counts in each configuration, by default all alike.

    Returns
    -------
    ndarray, shape (n, n_atoms, 3)
        Least-squares fit of W. Kabsch, Acta Cryst. A 32, 922 (1976), doi
        10.1107/S0567739476001873.
    """
    shares = np.ones(mobile.shape[:2]) if weights is None else weights
    shares = (shares / shares.sum(axis=1, keepdims=True))[..., None]
    centres = (shares * onto).sum(axis=1, keepdims=True)
    x = mobile - (shares * mobile).sum(axis=1, keepdims=True)
    u, _, vt = np.linalg.svd((shares * x).transpose(0, 2, 1) @ (onto - centres))
    u[:, :, -1] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))[:, None]
    return x @ (u @ vt) + centres


def superpose_most(mobile: NDArray, onto: NDArray) -> NDArray:
    """Move configurations rigidly so that the ways of all atoms to another one are short in sum.

    What has kept its shape comes to lie almost on itself, and what has not is elsewhere, where a
    least-squares fit spreads the difference over all. The sum of distances is lessened by
    least-squares fits with weights of one over the distance (Weiszfeld's iteration; A. Beck, S.
    Sabach, J. Optim. Theory Appl. 164, 1 (2015), doi 10.1007/s10957-014-0586-7).

    Parameters
    ----------
    mobile : ndarray, shape (n, n_atoms, 3)
        Configurations to be moved [nm].
    onto : ndarray, shape (n_atoms, 3)
        Where to [nm].

    Returns
    -------
    ndarray, shape (n, n_atoms, 3)
        [nm]
    """
    moved = superpose(mobile, onto)
    for _ in range(FITS):
        ways = np.linalg.norm(moved - onto, axis=-1)
        moved = superpose(mobile, onto, 1 / np.maximum(ways, SHORT))
    return moved


class Surroundings:
    """The current configuration, into which generated atoms are put; measures their CVs.

    It is a Restriction: what a Screen asks for the CVs of generated atoms.

    Parameters
    ----------
    bias : PlumedBias
    atoms : ndarray of int, shape (n_generated,)
        The generated atoms in the whole system.
    positions : ndarray, shape (n_atoms, 3)
        The whole system [nm], molecules whole.
    box : ndarray, shape (3, 3), or None
        Box vectors [nm].
    placed : bool
        Whether generated atoms stand where they belong, and are not superposed.
    tied : TiedMolecules, optional
        Molecules that are brought together in each configuration that is taken.
    """

    def __init__(
        self,
        bias: PlumedBias,
        atoms: NDArray,
        positions: NDArray,
        box: NDArray | None,
        placed: bool = False,
        tied: TiedMolecules | None = None,
    ) -> None:
        self.bias, self.placed, self._tied = bias, placed, tied
        self.variables, self.temperature = tuple(bias.variables), bias.temperature
        self.atoms = atoms
        self.move(positions, box)

    def move(self, positions: NDArray, box: NDArray | None) -> None:
        """Take another configuration of the whole system: positions (n_atoms, 3) and box [nm]."""
        self.positions, self.box, self._shifts = positions, box, None
        if self._tied is not None and box is not None:
            self._shifts = self._tied.shifts(positions, box)
            self.positions = positions + self._shifts

    def back(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions (n_atoms, 3) with each molecule in the image where the run has it [nm]."""
        return positions if self._shifts is None else positions - self._shifts

    def fill(self, generated: NDArray) -> NDArray:
        """Put generated atoms in the place of the current ones.

        Parameters
        ----------
        generated : ndarray, shape (n, n_generated, 3)
            [nm]

        Returns
        -------
        ndarray, shape (n, n_atoms, 3)
            Whole systems, the generated atoms superposed on the current ones, or as they stand.
            Where there are other atoms, as many as can be lie on themselves.
        """
        whole = np.repeat(self.positions[None], len(generated), axis=0)
        own = generated
        if not self.placed:
            fit = superpose_most if self.has_others else superpose
            own = fit(generated, self.positions[self.atoms])
        whole[:, self.atoms] = own
        return whole

    @property
    def has_others(self) -> bool:
        """Whether there are atoms that are not generated."""
        return len(self.atoms) < len(self.positions)

    def near(self, positions: NDArray, reach: float) -> NDArray[np.bool_]:
        """Which atoms are near where generated atoms are now, or are in other positions.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            The whole system [nm].
        reach : float
            [nm]

        Returns
        -------
        ndarray of bool, shape (n_atoms,)
        """
        sites = np.concatenate([self.positions[self.atoms], positions[self.atoms]])
        found = np.zeros(len(self.positions), dtype=bool)
        found[pairs_within(sites, self.positions, self.box, reach)[1]] = True
        return found

    def cv_masses(self, masses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Effective masses of the CVs, 1 / sum |grad xi|^2 / m, by central differences.

        Parameters
        ----------
        masses : ndarray, shape (n_atoms,)
            [dalton]

        Returns
        -------
        ndarray, shape (n_cvs,)
            [dalton nm^2 per CV unit squared]; infinite for what the generated atoms do not move.
        """
        inverse = np.zeros(len(self.variables))
        steps = DIFFERENCE * np.concatenate([np.eye(3), -np.eye(3)])
        for atom in self.atoms[masses[self.atoms] > 0]:
            moved = np.repeat(self.positions[None], len(steps), axis=0)
            moved[:, atom] += steps
            forward, back = np.split(self.bias.cv_values(moved, self.box), 2)
            slopes = cv_differences(self.variables, back, forward) / (2 * DIFFERENCE)
            inverse += (slopes**2).sum(axis=0) / masses[atom]
        with np.errstate(divide="ignore"):
            return 1 / inverse

    def cv_values(self, positions: NDArray) -> NDArray:
        """CVs (n, n_cvs) [CV units] of generated atoms (n, n_generated, 3) [nm]."""
        return self.bias.cv_values(self.fill(positions), self.box)
