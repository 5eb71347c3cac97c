"""Values of single frames with their gradients, for what OpenMM calls back at every step.

Torsions, angles and distances of real atoms are worked out in plain floats; many distances in
arrays. Whatever else is asked of a small Context of OpenMM's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import openmm

from openmm_cgan.plumed.actions import Angle, Distance, Torsion
from openmm_cgan.plumed.actions.variables.chains import ChainVariable
from openmm_cgan.plumed.geometry.single_frame import (
    Triples,
    angle_and_gradient,
    bonds_between,
    distance_and_gradient,
    torsion_and_gradient,
    torsion_angle,
)
from openmm_cgan.plumed.native.forces.leaf_forces import KnownGradient
from openmm_cgan.plumed.native.forces.many_distances import MIN_DISTANCES, ManyDistances
from openmm_cgan.states import forces_of

_FUNCTIONS: dict[type, Callable[[Triples], tuple[float, Triples]]] = {
    Distance: distance_and_gradient,
    Angle: angle_and_gradient,
    Torsion: torsion_and_gradient,
}


class Gradients(NamedTuple):
    """Gradients of the values of a `FrameValues` at one frame.

    Attributes
    ----------
    single : list of list of tuple, or of ndarray, shape (n_needed, 3), or None
        One for each value: on the points of a chain, or on all atoms; None where it is in `many`.
    many : list of ndarray, shape (n_distances, 3)
        Of each `ManyDistances`.
    """

    single: list[Any]
    many: list[np.ndarray]


def _is_distance(variable: ChainVariable) -> bool:
    return _FUNCTIONS[type(variable)] is distance_and_gradient


def chain_values(
    variables: Iterable[ChainVariable], positions: np.ndarray, box: np.ndarray | None
) -> list[float]:
    """Values of torsions, angles and distances of real atoms, for one frame of all atoms.

    Parameters
    ----------
    variables : iterable of ChainVariable
    positions : ndarray, shape (n_atoms, 3)
        [nm]
    box : ndarray, shape (3, 3), or None
        One that is `at_right_angles` [nm].

    Returns
    -------
    list of float
        [units of the input]
    """
    edges = None if box is None else box.tolist()
    found = []
    for variable in variables:
        points = positions.take(variable.rows, axis=0).tolist()
        if isinstance(variable, Torsion) and (edges is None or not variable.periodic):
            found.append(torsion_angle(*points))
            continue
        bonds = bonds_between(points, edges if variable.periodic else None)
        found.append(_FUNCTIONS[type(variable)](bonds)[0] * variable.scale)
    return found


class FrameValues:
    """Some values of an input for one frame at a time, with their gradients.

    Parameters
    ----------
    functions : sequence of ChainVariable, KnownGradient or openmm.Force
        One for each value: a torsion, angle or distance of real atoms; what knows its gradient; or
        a force of OpenMM's whose energy is the value.
    system : openmm.System
        For the number of atoms, and whether it has a periodic box.
    is_dear : bool
        Whether forces are evaluated by the fastest platform that there is: it has other rounding.

    Attributes
    ----------
    atoms : list of int
        The atoms that it is given the positions of, ascending; all, where a force is used.
    """

    def __init__(
        self,
        functions: Sequence[ChainVariable | KnownGradient | openmm.Force],
        system: openmm.System,
        is_dear: bool = False,
    ) -> None:
        self._n_values = len(functions)
        chains = [(i, f) for i, f in enumerate(functions) if isinstance(f, ChainVariable)]
        known = [
            (i, f)
            for i, f in enumerate(functions)
            if not isinstance(f, ChainVariable | openmm.Force)
        ]
        forces = {i: f for i, f in enumerate(functions) if isinstance(f, openmm.Force)}
        needed = {atom for _, variable in chains for atom in variable.real_chain}
        needed.update(*(function.atoms for _, function in known))
        n_atoms = system.getNumParticles()
        self.atoms = list(range(n_atoms)) if forces else sorted(needed)
        place = {atom: k for k, atom in enumerate(self.atoms)}
        self._many: list[tuple[list[int], ManyDistances]] = []
        for periodic in (True, False):
            some = [(i, v) for i, v in chains if _is_distance(v) and v.periodic == periodic]
            if len(some) >= MIN_DISTANCES:
                pairs = [(place[v.real_chain[0]], place[v.real_chain[1]]) for _, v in some]
                scales = [v.scale for _, v in some]
                together = ManyDistances(pairs, scales, periodic, len(self.atoms))
                self._many.append(([i for i, _ in some], together))
        taken = {i for those, _ in self._many for i in those}
        self._rows = [
            (i, [place[a] for a in v.real_chain], _FUNCTIONS[type(v)], v.scale, v.periodic)
            for i, v in chains
            if i not in taken
        ]
        self._known = [
            (i, None if list(f.atoms) == self.atoms else np.array([place[a] for a in f.atoms]), f)
            for i, f in known
        ]
        self._inner = _Inner(forces, system, is_dear) if forces else None

    def __call__(
        self, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[list[float], Gradients]:
        """Values and their gradients.

        Parameters
        ----------
        positions : ndarray, shape (n_needed, 3)
            Of `atoms` [nm].
        box : ndarray, shape (3, 3), or None
            [nm]
        """
        values = [0.0] * self._n_values
        gradients: list[Any] = [None] * self._n_values
        points = positions.tolist() if self._rows else []
        edges = None if box is None else box.tolist()
        for i, rows, function, scale, periodic in self._rows:
            chain = [points[row] for row in rows]
            value, gradient = function(bonds_between(chain, edges if periodic else None))
            if scale != 1.0:
                value *= scale
                gradient = [(gx * scale, gy * scale, gz * scale) for gx, gy, gz in gradient]
            values[i], gradients[i] = value, gradient
        for i, places, known in self._known:
            if places is None:  # they are all, in order
                values[i], dense = known.evaluate(positions, box)
            else:
                values[i], slopes = known.evaluate(positions[places], box)
                dense = np.zeros_like(positions)
                dense[places] = slopes
            gradients[i] = dense
        if self._inner is not None:
            self._inner.fill(positions, box, values, gradients)
        directions = []
        for those, many in self._many:
            found, along = many(positions, box)
            directions.append(along)
            for i, value in zip(those, found, strict=True):
                values[i] = value
        return values, Gradients(gradients, directions)

    def follow(self, state: openmm.State) -> None:
        """Take the parameters of a Context that forces under the values have too."""
        if self._inner is not None:
            self._inner.follow(state)

    def products(self, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """Scalar products of the values' gradients, shape (n_values, n_values).

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            Of all atoms [nm].
        box : ndarray, shape (3, 3), or None
            [nm]
        """
        _, gradients = self(positions[self.atoms], box)
        flat = self.jacobian(gradients).reshape(self._n_values, -1)
        return flat @ flat.T

    def jacobian(self, gradients: Gradients) -> np.ndarray:
        """Gradients of all values on `atoms`, of those that a call gives.

        Returns
        -------
        ndarray, shape (n_values, n_needed, 3)
        """
        found = np.zeros((self._n_values, len(self.atoms), 3))
        for i, gradient in enumerate(gradients.single):
            if isinstance(gradient, np.ndarray):
                found[i] = gradient
        for i, rows, *_ in self._rows:
            for row, triple in zip(rows, gradients.single[i], strict=True):
                found[i, row] += triple
        for (those, many), along in zip(self._many, gradients.many, strict=True):
            found[those] = many.jacobian(along)
        return found

    def forces(self, slopes: Sequence[float], gradients: Gradients) -> np.ndarray:
        """Forces on `atoms`, of an energy with these slopes along the values.

        Returns
        -------
        ndarray, shape (n_needed, 3)
        """
        n = len(self.atoms)
        dense = None
        for slope, gradient in zip(slopes, gradients.single, strict=True):
            if isinstance(gradient, np.ndarray):
                dense = gradient * -slope if dense is None else dense - gradient * slope
        for (those, many), along in zip(self._many, gradients.many, strict=True):
            pull = many.forces(np.array([slopes[i] for i in those]), along)
            dense = pull if dense is None else dense + pull
        if not self._rows:
            return np.zeros((n, 3)) if dense is None else dense
        flat = [0.0] * (3 * n)
        for i, rows, *_ in self._rows:
            slope = slopes[i]
            for row, (x, y, z) in zip(rows, gradients.single[i], strict=True):
                k = 3 * row
                flat[k] -= slope * x
                flat[k + 1] -= slope * y
                flat[k + 2] -= slope * z
        forces = np.array(flat).reshape(n, 3)
        return forces if dense is None else forces + dense


class _Inner:
    """Values that are forces of OpenMM's, each in a force group of a Context without dynamics."""

    def __init__(
        self, forces: dict[int, openmm.Force], system: openmm.System, is_dear: bool
    ) -> None:
        self._groups = {i: {group} for group, i in enumerate(forces)}
        inner = openmm.System()
        for _ in range(system.getNumParticles()):
            inner.addParticle(1.0)
        inner.setDefaultPeriodicBoxVectors(*system.getDefaultPeriodicBoxVectors())
        for group, force in enumerate(forces.values()):
            force.setForceGroup(group)
            inner.addForce(force)
        self._integrator = openmm.VerletIntegrator(0.001)
        chosen = () if is_dear else (openmm.Platform.getPlatformByName("Reference"),)
        self._context = openmm.Context(inner, self._integrator, *chosen)
        self._parameters = list(self._context.getParameters())

    def follow(self, state: openmm.State) -> None:
        """Take the parameters of another Context that this one has too."""
        if self._parameters:
            known = state.getParameters()
            for name in self._parameters:
                if name in known:  # others are of biases that act on biases
                    self._context.setParameter(name, known[name])

    def fill(
        self, positions: np.ndarray, box: np.ndarray | None, values: list[float], gradients: Any
    ) -> None:
        """Put in the values and gradients that are asked of it."""
        if box is not None:
            self._context.setPeriodicBoxVectors(*box)
        self._context.setPositions(positions)
        for i, group in self._groups.items():
            state = self._context.getState(energy=True, forces=True, groups=group)
            values[i] = state.getPotentialEnergy()._value
            gradients[i] = -forces_of(state)
