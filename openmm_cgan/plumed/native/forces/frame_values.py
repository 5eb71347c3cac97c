"""Values of single frames with their gradients, for what OpenMM calls back at every step.

Torsions, angles and distances of real atoms are worked out in plain floats: for one frame every
call of numpy costs more than all of that arithmetic. Whatever else is asked of a small Context of
OpenMM's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import openmm

from openmm_cgan.plumed.actions import Angle, Distance, Torsion
from openmm_cgan.plumed.actions.variables.chains import ChainVariable
from openmm_cgan.plumed.native.forces.leaf_forces import GradientFunction
from openmm_cgan.states import forces_of

Triple = tuple[float, float, float]
Gradient = list[Triple]  # one vector for each atom of the variable


def _distance(bonds: list[Triple]) -> tuple[float, Gradient]:
    x, y, z = bonds[0]
    r = math.sqrt(x * x + y * y + z * z)
    over = 1.0 / r if r else 0.0
    x, y, z = x * over, y * over, z * over
    return r, [(-x, -y, -z), (x, y, z)]


def _angle(bonds: list[Triple]) -> tuple[float, Gradient]:
    (ax, ay, az), (bx, by, bz) = bonds
    nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    n = math.sqrt(nx * nx + ny * ny + nz * nz)
    theta = math.atan2(n, -(ax * bx + ay * by + az * bz))
    if n == 0.0:
        return theta, [(0.0, 0.0, 0.0)] * 3
    first, last = (
        1.0 / (n * (ax * ax + ay * ay + az * az)),
        1.0 / (n * (bx * bx + by * by + bz * bz)),
    )
    # each end moves at right angles to its bond, in the plane
    i = ((ay * nz - az * ny) * first, (az * nx - ax * nz) * first, (ax * ny - ay * nx) * first)
    k = ((by * nz - bz * ny) * last, (bz * nx - bx * nz) * last, (bx * ny - by * nx) * last)
    return theta, [i, (-i[0] - k[0], -i[1] - k[1], -i[2] - k[2]), k]


def _torsion(bonds: list[Triple]) -> tuple[float, Gradient]:
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = bonds
    mx, my, mz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    nx, ny, nz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
    b2 = bx * bx + by * by + bz * bz
    b = math.sqrt(b2)
    phi = math.atan2(b * (ax * nx + ay * ny + az * nz), mx * nx + my * ny + mz * nz)
    phi = -math.pi if phi >= math.pi else phi
    m2, n2 = mx * mx + my * my + mz * mz, nx * nx + ny * ny + nz * nz
    if not (m2 and n2):
        return phi, [(0.0, 0.0, 0.0)] * 4
    f, g = -b / m2, b / n2
    ix, iy, iz = f * mx, f * my, f * mz
    lx, ly, lz = g * nx, g * ny, g * nz
    p, q = (ax * bx + ay * by + az * bz) / b2, (cx * bx + cy * by + cz * bz) / b2
    sx, sy, sz = p * ix - q * lx, p * iy - q * ly, p * iz - q * lz
    inner = [(-ix - sx, -iy - sy, -iz - sz), (sx - lx, sy - ly, sz - lz)]
    return phi, [(ix, iy, iz), *inner, (lx, ly, lz)]


_FUNCTIONS: dict[type, Callable[[list[Triple]], tuple[float, Gradient]]] = {
    Distance: _distance,
    Angle: _angle,
    Torsion: _torsion,
}


def nearest(x: float, y: float, z: float, box: list[list[float]]) -> Triple:
    """The nearest image of a vector, as `geometry.minimum_image` for one frame."""
    a, b, c = box
    turns = math.floor(z / c[2] + 0.5)
    x, y, z = x - turns * c[0], y - turns * c[1], z - turns * c[2]
    turns = math.floor(y / b[1] + 0.5)
    x, y = x - turns * b[0], y - turns * b[1]
    return x - math.floor(x / a[0] + 0.5) * a[0], y, z


def at_right_angles(box: np.ndarray | None) -> bool:
    """Whether nearest images are those that `nearest` takes."""
    if box is None:
        return True
    along = box[0, 0] != 0 and box[1, 1] != 0 and box[2, 2] != 0
    return bool(along and np.count_nonzero(box) == 3)


def chain_values(
    variables: Iterable[ChainVariable], positions: np.ndarray, box: np.ndarray | None
) -> list[float]:
    """Values of torsions, angles and distances of real atoms, for one frame of all atoms."""
    edges = None if box is None else box.tolist()
    found = []
    for variable in variables:
        points = positions.take(variable.rows, axis=0).tolist()
        if isinstance(variable, Torsion) and (edges is None or not variable.periodic):
            found.append(torsion_angle(*points))
            continue
        bonds = _bonds(points, edges if variable.periodic else None)
        found.append(_FUNCTIONS[type(variable)](bonds)[0] * variable.scale)
    return found


def torsion_angle(p: Triple, q: Triple, r: Triple, s: Triple) -> float:
    """Torsion of four points without periodic box, as `Torsion.value`, in one go."""
    (px, py, pz), (qx, qy, qz), (rx, ry, rz), (sx, sy, sz) = p, q, r, s
    ax, ay, az, bx, by, bz = qx - px, qy - py, qz - pz, rx - qx, ry - qy, rz - qz
    cx, cy, cz = sx - rx, sy - ry, sz - rz
    nx, ny, nz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
    length2 = bx * bx + by * by + bz * bz
    ab, bc, ac = (
        ax * bx + ay * by + az * bz,
        bx * cx + by * cy + bz * cz,
        ax * cx + ay * cy + az * cz,
    )
    sine = math.sqrt(length2) * (ax * nx + ay * ny + az * nz)
    found = math.atan2(sine, ab * bc - ac * length2)
    return -math.pi if found >= math.pi else found


def _bonds(points: list[list[float]], edges: list[list[float]] | None) -> list[Triple]:
    bonds: list[Triple] = []
    for (x, y, z), (x1, y1, z1) in pairwise(points):
        bond = (x1 - x, y1 - y, z1 - z)
        bonds.append(bond if edges is None else nearest(*bond, edges))
    return bonds


class FrameValues:
    """Some values of an input for one frame at a time, with their gradients.

    Parameters
    ----------
    functions : sequence of ChainVariable, GradientFunction or openmm.Force
        One for each value: a torsion, angle or distance of real atoms; what knows its gradient; or
        a force of OpenMM's whose energy is the value.
    system : openmm.System
        For the number of atoms, and whether it has a periodic box.

    Attributes
    ----------
    atoms : list of int
        The atoms that it is given the positions of, ascending; all, where a force is used.
    """

    def __init__(
        self,
        functions: Sequence[ChainVariable | GradientFunction | openmm.Force],
        system: openmm.System,
    ) -> None:
        self._n_values = len(functions)
        self._chains = [(i, f) for i, f in enumerate(functions) if isinstance(f, ChainVariable)]
        known = [(i, f) for i, f in enumerate(functions) if isinstance(f, GradientFunction)]
        forces = {i: f for i, f in enumerate(functions) if isinstance(f, openmm.Force)}
        needed = {atom for _, variable in self._chains for atom in variable.chain}
        needed.update(*(function.atoms for _, function in known))
        n_atoms = system.getNumParticles()
        self.atoms = list(range(n_atoms)) if forces else sorted(needed)
        place = {atom: k for k, atom in enumerate(self.atoms)}
        self._rows = [
            (i, [place[a] for a in v.chain], _FUNCTIONS[type(v)], v.scale, v.periodic)
            for i, v in self._chains
        ]
        self._known = [(i, np.array([place[a] for a in f.atoms]), f) for i, f in known]
        self._inner = _Inner(forces, system) if forces else None

    def __call__(
        self, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[list[float], list[tuple[list[int], Gradient]]]:
        """Values, and for each of them the rows of `atoms` with the gradients there.

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
            value, gradient = function(_bonds(chain, edges if periodic else None))
            if scale != 1.0:
                value *= scale
                gradient = [(gx * scale, gy * scale, gz * scale) for gx, gy, gz in gradient]
            values[i], gradients[i] = value, (rows, gradient)
        for i, places, known in self._known:
            values[i], slopes = known.evaluate(positions[places], box)
            dense = np.zeros_like(positions)
            dense[places] = slopes
            gradients[i] = ([], dense)
        if self._inner is not None:
            self._inner.fill(positions, box, values, gradients)
        return values, gradients

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
        n = self._n_values
        flat = [self.forces(row, gradients).ravel() for row in np.eye(n).tolist()]
        return np.array([[float(a @ b) for b in flat] for a in flat])

    def forces(self, slopes: Sequence[float], gradients: list[tuple[list[int], Any]]) -> np.ndarray:
        """Forces on `atoms`, of an energy with these slopes along the values.

        Returns
        -------
        ndarray, shape (n_needed, 3)
        """
        n = len(self.atoms)
        flat = [0.0] * (3 * n)
        dense = None
        for slope, (rows, gradient) in zip(slopes, gradients, strict=True):
            if isinstance(gradient, np.ndarray):
                dense = gradient * -slope if dense is None else dense - gradient * slope
                continue
            for row, (x, y, z) in zip(rows, gradient, strict=True):
                k = 3 * row
                flat[k] -= slope * x
                flat[k + 1] -= slope * y
                flat[k + 2] -= slope * z
        forces = np.array(flat).reshape(n, 3)
        return forces if dense is None else forces + dense


class _Inner:
    """Values that are forces of OpenMM's, each in a force group of a Context without dynamics."""

    def __init__(self, forces: dict[int, openmm.Force], system: openmm.System) -> None:
        self._groups = {i: {group} for group, i in enumerate(forces)}
        inner = openmm.System()
        for _ in range(system.getNumParticles()):
            inner.addParticle(1.0)
        inner.setDefaultPeriodicBoxVectors(*system.getDefaultPeriodicBoxVectors())
        for group, force in enumerate(forces.values()):
            force.setForceGroup(group)
            inner.addForce(force)
        self._integrator = openmm.VerletIntegrator(0.001)
        platform = openmm.Platform.getPlatformByName("Reference")
        self._context = openmm.Context(inner, self._integrator, platform)

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
            gradients[i] = ([], -forces_of(state))
