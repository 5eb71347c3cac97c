"""What a System holds: masses, constraints and their Fixman factor, and atoms tied to a part of it.

Momenta along constraints are zero, which weighs configurations by Fixman's factor. Constraints that
share no atom are independent: H, of that factor, is zero between them, so that its determinant is a
product over sets of constraints that atoms connect. Where a part of a System is moved among the
rest, sets without an atom of the part stay the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray
from openmm import unit


def masses_of(system: openmm.System) -> NDArray[np.float64]:
    """Masses of the particles (n_atoms,) [dalton]."""
    return np.array(
        [system.getParticleMass(i)._value for i in range(system.getNumParticles())], dtype=float
    )


def constraints_of(system: openmm.System) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of atoms (k, 2) held at a distance, and the distances (k,) [nm]."""
    rows = [system.getConstraintParameters(i) for i in range(system.getNumConstraints())]
    pairs = np.array([[i, j] for i, j, _ in rows], dtype=np.int64).reshape(-1, 2)
    lengths = np.array([r.value_in_unit(unit.nanometer) for _, _, r in rows], dtype=float)
    return pairs, lengths


def harmonic_bonds(
    system: openmm.System,
) -> dict[tuple[int, int], tuple[float, float]]:
    """Harmonic bonds by their pair of atoms, the smaller first.

    Length [nm] and force constant [kJ/mol/nm^2], of k (r - length)^2 / 2; of several on one pair
    those of their sum.
    """
    found: dict[tuple[int, int], tuple[float, float]] = {}
    for force in system.getForces():
        if not isinstance(force, openmm.HarmonicBondForce):
            continue
        for i in range(force.getNumBonds()):
            one, other, length, stiffness = force.getBondParameters(i)
            pair, k = (min(one, other), max(one, other)), stiffness._value
            before, stiff = found.get(pair, (0.0, 0.0))
            if stiff + k > 0:
                middle = (stiff * before + k * length._value) / (stiff + k)
                found[pair] = (middle, stiff + k)
    return found


def half_log_det_constraints(x: Any, constraints: ArrayLike, masses: ArrayLike) -> Any:
    r"""Logarithm of the Fixman factor, ``1/2 log|H|``.

    Momenta along constraints are zero, so that the positions of constrained dynamics are
    distributed as exp(-U/kT) \|J\| \|H\|^(1/2) in internal coordinates, H_ij = sum_k
    (1/m_k) grad_k sigma_i . grad_k sigma_j with sigma the constrained distances: M. Fixman, Proc.
    Natl. Acad. Sci. USA 71, 3050 (1974), doi 10.1073/pnas.71.8.3050.

    Parameters
    ----------
    x : ndarray or torch.Tensor, shape (n, n_atoms, 3)
        Configurations [nm]; of tensors the result is differentiable.
    constraints : array_like of int, shape (k, 2)
        Atoms held at a distance from each other.
    masses : array_like, shape (n_atoms,)
        [dalton]

    Returns
    -------
    ndarray or torch.Tensor, shape (n,)
        Zero where there are no constraints.

    Examples
    --------
    >>> line = np.array([[[-0.1, 0, 0], [0, 0, 0], [0.1, 0, 0]]])
    >>> half_log_det_constraints(line, [(0, 1), (1, 2)], [1, 1, 1])
    array([0.54930614])
    """
    pairs = np.asarray(constraints, dtype=np.int64).reshape(-1, 2)
    if len(pairs) == 0:
        return x[:, 0, 0] * 0.0
    incidence = np.zeros((len(pairs), len(np.asarray(masses))))
    rows = np.arange(len(pairs))
    incidence[rows, pairs[:, 0]], incidence[rows, pairs[:, 1]] = 1.0, -1.0
    inverse_masses = (incidence / np.asarray(masses, dtype=float)) @ incidence.T
    bonds = x[:, pairs[:, 0]] - x[:, pairs[:, 1]]
    unit_bonds = bonds / (bonds * bonds).sum(-1)[..., None] ** 0.5
    cosines = unit_bonds @ unit_bonds.swapaxes(-1, -2)
    if isinstance(x, np.ndarray):
        return 0.5 * np.linalg.slogdet(inverse_masses * cosines)[1]
    return 0.5 * (x.new_tensor(inverse_masses) * cosines).slogdet()[1]


class TiedAtoms:
    """A part, and the atoms that constraints connect with it.

    Parameters
    ----------
    part : ndarray of int, shape (n_part,)
    constraints : ndarray of int, shape (k, 2)
        Atoms of the whole System that are held at a distance.
    masses : ndarray, shape (n_atoms,)
        [dalton]

    Attributes
    ----------
    atoms : ndarray of int, shape (n_tied,)
        In order.
    constraints : ndarray of int, shape (k, 2)
        All constraints of these; the others do not change with the part.
    """

    def __init__(
        self, part: NDArray[np.int64], constraints: NDArray[np.int64], masses: NDArray[np.float64]
    ) -> None:
        self.atoms = _connected(part, constraints)
        self.constraints = constraints[np.isin(constraints, self.atoms).all(axis=1)]
        self._masses = masses[self.atoms]
        self._places = np.searchsorted(self.atoms, self.constraints)

    def half_log_det(self, positions: Any) -> Any:
        """Logarithm of their Fixman factor (n,) at (n, n_tied, 3) [nm]; of tensors, differentiable.

        See `half_log_det_constraints`.
        """
        return half_log_det_constraints(positions, self._places, self._masses)


def _connected(atoms: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Some atoms, and those that pairs connect with them, in order."""
    found = np.unique(atoms)
    while True:
        touched = pairs[np.isin(pairs, found).any(axis=1)]
        more = np.union1d(found, touched)
        if len(more) == len(found):
            return found
        found = more


def why_not_moved(system: openmm.System, part: set[int]) -> str:
    """Why some particles of a System do not let a part of it be moved; empty if they do."""
    masses = masses_of(system)
    if massless := sorted(atom for atom in part if masses[atom] == 0):
        return f"the atoms {massless} of the part are virtual sites or fixed (mass 0)"
    for site in np.flatnonzero(masses == 0).tolist():
        if system.isVirtualSite(site):
            made = system.getVirtualSite(site)
            if part & {made.getParticle(k) for k in range(made.getNumParticles())}:
                return f"the virtual site {site} goes with atoms of the part"
    return why_colder(system)


def why_colder(system: openmm.System) -> str:
    """Why a System is not at one temperature; empty if it is."""
    if any(isinstance(force, openmm.DrudeForce) for force in system.getForces()):
        return "the System has Drude particles, which are colder than the rest"
    return ""
