"""Generated atoms put where they belong: onto the current ones, into what is around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.proposals import cv_differences

if TYPE_CHECKING:
    from openmm_cgan.plumed.bias import PlumedBias

DIFFERENCE = 1e-5  # nm: of a central difference


def superpose(mobile: NDArray, onto: NDArray) -> NDArray:
    """Move configurations rigidly onto another one, without reflection.

    Parameters
    ----------
    mobile : ndarray, shape (n, n_atoms, 3)
        Configurations to be moved [nm].
    onto : ndarray, shape (n_atoms, 3)
        Where to [nm].

    Returns
    -------
    ndarray, shape (n, n_atoms, 3)
        Least-squares fit of W. Kabsch, Acta Cryst. A 32, 922 (1976), doi
        10.1107/S0567739476001873.
    """
    centre = onto.mean(axis=0)
    x = mobile - mobile.mean(axis=1, keepdims=True)
    u, _, vt = np.linalg.svd(x.transpose(0, 2, 1) @ (onto - centre))
    u[:, :, -1] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))[:, None]
    return x @ (u @ vt) + centre


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
    """

    def __init__(
        self,
        bias: PlumedBias,
        atoms: NDArray,
        positions: NDArray,
        box: NDArray | None,
        placed: bool = False,
    ) -> None:
        self.bias, self.placed = bias, placed
        self.variables = tuple(bias.variables)
        self.atoms = atoms
        self.move(positions, box)

    def move(self, positions: NDArray, box: NDArray | None) -> None:
        """Take another configuration of the whole system: positions (n_atoms, 3) and box [nm]."""
        self.positions = positions
        self.box = box

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
        """
        whole = np.repeat(self.positions[None], len(generated), axis=0)
        own = generated if self.placed else superpose(generated, self.positions[self.atoms])
        whole[:, self.atoms] = own
        return whole

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
