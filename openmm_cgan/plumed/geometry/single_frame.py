"""Distances, angles and torsions of one frame in plain floats, with their gradients.

For one frame every call of numpy costs more than all of this arithmetic.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

Triple = tuple[float, float, float]
Triples = list[Triple]  # one vector for each point of a chain


def nearest(x: float, y: float, z: float, box: list[list[float]]) -> Triple:
    """The nearest image of a vector, as `vectors.minimum_image`; box vectors in rows [nm]."""
    a, b, c = box
    turns = math.floor(z / c[2] + 0.5)
    x, y, z = x - turns * c[0], y - turns * c[1], z - turns * c[2]
    turns = math.floor(y / b[1] + 0.5)
    x, y = x - turns * b[0], y - turns * b[1]
    return x - math.floor(x / a[0] + 0.5) * a[0], y, z


def at_right_angles(box: np.ndarray | None) -> bool:
    """Whether a box of shape (3, 3), or none, has the nearest images that `nearest` takes."""
    if box is None:
        return True
    along = box[0, 0] != 0 and box[1, 1] != 0 and box[2, 2] != 0
    return bool(along and np.count_nonzero(box) == 3)


def torsion_angle(p: Triple, q: Triple, r: Triple, s: Triple) -> float:
    """Torsion [rad] of four points [nm] without periodic box, from -pi up to but not pi."""
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


def bonds_between(points: list[list[float]], edges: list[list[float]] | None) -> Triples:
    """Vectors from each point to the next [nm], the nearest images in a box of these edges."""
    bonds: Triples = []
    for (x, y, z), (x1, y1, z1) in pairwise(points):
        bond = (x1 - x, y1 - y, z1 - z)
        bonds.append(bond if edges is None else nearest(*bond, edges))
    return bonds


def distance_and_gradient(bonds: Triples) -> tuple[float, Triples]:
    """Length [nm] of the only bond; gradient on its two ends, zero where they meet."""
    x, y, z = bonds[0]
    r = math.sqrt(x * x + y * y + z * z)
    over = 1.0 / r if r else 0.0
    x, y, z = x * over, y * over, z * over
    return r, [(-x, -y, -z), (x, y, z)]


def angle_and_gradient(bonds: Triples) -> tuple[float, Triples]:
    """Angle [rad] between two bonds; gradient [rad/nm] on the three points, zero on a line."""
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


def torsion_and_gradient(bonds: Triples) -> tuple[float, Triples]:
    """Torsion [rad] of three bonds; gradient [rad/nm] on the four points, zero on a line.

    Blondel, Karplus, doi 10.1002/(SICI)1096-987X(19960715)17:9<1132::AID-JCC5>3.0.CO;2-T.
    """
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
