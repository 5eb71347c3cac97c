"""ZMatrix: Cartesian positions <-> bonds, angles and torsions, and log|J|.

Exact geometry, nothing fitted. A Z-matrix places one atom after another: atom ``i`` stands at a
bond length from ``p`` (its parent), at an angle to ``g`` and at a torsion to ``t``, all placed
before it. The first child of a parent gets a proper torsion; its siblings are placed relative to
that child ("improper"), so that a turn about the bond is one coordinate and not several.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.internal_coordinates.molecule import choose_rows
from openmm_cgan.internal_coordinates.rows import Coordinate, find_coordinate, sort_by_level

NM = {"nm": 1.0, "A": 0.1, "um": 1000.0, "Bohr": 0.052917721067}  # PLUMED's names of lengths


class Internal(NamedTuple):
    """Internal coordinates of one or many configurations, in the order of the Z-matrix rows.

    bonds (..., n_atoms - 1) [nm]; angles (..., n_atoms - 2) in (0, pi) [rad];
    torsions (..., n_atoms - 3) in (-pi, pi] [rad].
    """

    bonds: Tensor
    angles: Tensor
    torsions: Tensor


class ZMatrix:
    """Bonds, angles and torsions of a connected molecule, batched and differentiable.

    Parameters
    ----------
    rows : array of int, shape (n_atoms, 4)
        Atom, bond, angle and torsion reference of each row; references are atoms of earlier
        rows, -1 where the first three rows have none.
    atoms : array of int, shape (n_atoms,), optional
        Indices of these atoms in the full topology; 0, 1, ... if omitted.

    Notes
    -----
    The rows are kept in an order in which atoms whose references are all placed stand together
    (a level), and Cartesian positions are built level by level.

    Examples
    --------
    >>> water = ZMatrix([(0, -1, -1, -1), (1, 0, -1, -1), (2, 0, 1, -1)])
    >>> x = water.to_cartesian(Internal(torch.tensor([0.1, 0.1]), torch.tensor([1.9]),
    ...                                 torch.zeros(0)))
    >>> water.to_internal(x).angles
    tensor([1.9000])
    """

    def __init__(self, rows: Any, atoms: Any = None) -> None:
        table = np.asarray(rows, dtype=np.int64)
        if table.ndim != 2 or table.shape[1] != 4 or len(table) == 0:
            raise ValueError(f"rows has shape {table.shape}, expected (n_atoms, 4)")
        self.rows: NDArray[np.int64]
        self.rows, self.levels = sort_by_level(table)
        self.atoms = np.arange(len(table)) if atoms is None else np.asarray(atoms, dtype=np.int64)
        if self.atoms.shape != (len(table),):
            raise ValueError(f"atoms has shape {self.atoms.shape}, but there are {len(table)} rows")
        place = np.empty(len(table), dtype=np.int64)  # atom -> its row
        place[self.rows[:, 0]] = np.arange(len(table))
        self._place = torch.from_numpy(place)
        # References as row numbers, since positions are built in the order of the rows.
        self._refs = torch.from_numpy(np.where(self.rows < 0, -1, place[self.rows])).T.contiguous()
        self._gather = [torch.from_numpy(c[c >= 0]) for c in self.rows.T]

    @classmethod
    def from_topology(
        cls,
        topology: Any,
        atoms: Iterable[int] | None = None,
        variables: Iterable[CollectiveVariable] = (),
        reference: Any = None,
    ) -> "ZMatrix":
        """Choose a Z-matrix for a connected molecule, with as many CVs in it as possible.

        Parameters
        ----------
        topology : openmm.app.Topology
            Its atoms and bonds are read.
        atoms : iterable of int, optional
            Atoms to take (a solute, say); all if omitted.
        variables : iterable of CollectiveVariable
            TORSION, ANGLE and DISTANCE over bonded atoms become coordinates where they can.
        reference : array, shape (n_topology_atoms, 3), optional
            Positions [nm] that tell which bonded angles are linear. Without them carbons with two
            neighbours are taken for linear.

        Raises
        ------
        ValueError
            If bonds do not connect the atoms (the unreachable ones are listed).
        """
        return cls(*choose_rows(topology, atoms, variables, reference))

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.rows)

    @property
    def widths(self) -> tuple[int, int, int]:
        """Number of bonds, angles and torsions."""
        n = self.n_atoms
        return max(n - 1, 0), max(n - 2, 0), max(n - 3, 0)

    def to_internal(self, positions: Tensor) -> Internal:
        """Measure bonds, angles and torsions.

        Parameters
        ----------
        positions : Tensor, shape (..., n_atoms, 3)
            [nm]

        Returns
        -------
        Internal
            Differentiable.

        Raises
        ------
        ValueError
            If the number of atoms is another.
        """
        if positions.shape[-2:] != (self.n_atoms, 3):
            raise ValueError(
                f"positions has shape {tuple(positions.shape)}, expected (..., {self.n_atoms}, 3)"
            )
        batch = positions.shape[:-2]
        # (3, atom, batch): gathers then copy whole rows and every operation runs over the batch.
        x = positions.reshape(-1, self.n_atoms, 3).permute(2, 1, 0).contiguous()
        atom, p, g, t = (x.index_select(1, column.to(x.device)) for column in self._gather)
        return Internal(*(c.T.reshape(*batch, len(c)) for c in measured(atom, p, g, t)))

    def to_cartesian(self, internal: Internal) -> Tensor:
        """Build positions: first atom at the origin, second on x, third in the xy plane.

        Parameters
        ----------
        internal : Internal
            bonds (..., n_atoms - 1) [nm], angles (..., n_atoms - 2) and torsions
            (..., n_atoms - 3) [rad].

        Returns
        -------
        Tensor, shape (..., n_atoms, 3)
            [nm], differentiable.

        Raises
        ------
        ValueError
            If the numbers of bonds, angles and torsions are not those of the Z-matrix.
        """
        batch = internal.bonds.shape[:-1]
        widths = tuple(c.shape[-1] for c in internal)
        if widths != self.widths:
            raise ValueError(
                f"internal has {widths} bonds, angles, torsions, expected {self.widths}"
            )
        n = int(np.prod(batch))
        r, angle, torsion = (c.reshape(n, c.shape[-1]).T.contiguous() for c in internal)
        bent = r[1:] * angle.sin()
        # Components of each new atom along the bond, in the references' plane and out of it.
        along, across = -r[1:] * angle.cos(), bent[1:] * torsion.cos()
        out = bent[1:] * torsion.sin()
        x = self._first_atoms(r, along, bent)
        refs = self._refs.to(x.device)
        for i, j in pairwise(self.levels):
            p, g, t = (x.index_select(1, refs[k, i:j]) for k in (1, 2, 3))
            bonded, turned = slice(i - 2, j - 2), slice(i - 3, j - 3)
            new = placed(p, g, t, along[bonded], across[turned], out[turned])
            x = torch.cat([x, new], dim=1)
        x = x.index_select(1, self._place.to(x.device))
        return x.permute(2, 1, 0).reshape(*batch, self.n_atoms, 3)

    def log_det(self, internal: Internal) -> Tensor:
        r"""log\|J\| (...) of (internal, rigid body) -> Cartesian coordinates.

        Each atom stands in spherical coordinates about its references, so
        \|J\| = prod r_i^2 prod sin(theta_i); the rigid body is measured by the translation [nm^3]
        and by the rotation vector about the current orientation (Haar measure, 8 pi^2 in all).
        See Boresch and Karplus, J. Phys. Chem. A 103, 103 (1999), doi 10.1021/jp981628n.

        Parameters
        ----------
        internal : Internal
            bonds (..., n_atoms - 1) [nm], angles (..., n_atoms - 2) [rad].

        Returns
        -------
        Tensor, shape (...)
        """
        return 2 * internal.bonds.log().sum(-1) + internal.angles.sin().log().sum(-1)

    def coordinate_of(self, variable: CollectiveVariable) -> Coordinate | None:
        """The internal coordinate that a CV is, or None.

        A torsion read backwards is the same torsion; with its ends or its axis exchanged it has
        the other sign. Lengths are scaled to the unit of the CV.
        """
        return coordinate_among(self.rows, self.atoms, variable)

    def _first_atoms(self, r: Tensor, along: Tensor, bent: Tensor) -> Tensor:
        """Positions (3, <= 3 rows, batch) of the first three rows."""
        x = r.new_zeros(3, 1, r.shape[1])
        zero = torch.zeros_like(x[0, 0])
        if self.n_atoms > 1:
            x = torch.cat([x, torch.stack([r[0], zero, zero])[:, None]], dim=1)
        if self.n_atoms > 2:
            # The third atom hangs on the second (bond direction +x) or on the first (-x).
            parent = int(self._refs[1, 2])
            sign = 1.0 if parent == 1 else -1.0
            third = x[:, parent] + torch.stack([sign * along[0], bent[0], zero])
            x = torch.cat([x, third[:, None]], dim=1)
        return x


def coordinate_among(
    rows: NDArray[np.int64],
    atoms: NDArray[np.int64],
    variable: CollectiveVariable,
    lacking: tuple[int, int, int] = (1, 2, 3),
) -> Coordinate | None:
    """The coordinate of some rows that a CV is, or None: see `ZMatrix.coordinate_of`.

    Parameters
    ----------
    rows : ndarray of int, shape (n_rows, 4)
    atoms : ndarray of int
        What their numbers mean in the full topology.
    variable : CollectiveVariable
    lacking : (int, int, int)
        As for `find_coordinate`.
    """
    if variable.action not in ("TORSION", "ANGLE", "DISTANCE"):
        return None
    local = {int(a): i for i, a in enumerate(atoms)}
    own = tuple(local.get(a, -1) for a in variable.atoms)
    found = None if -1 in own else find_coordinate(rows.tolist(), own, lacking)
    if found is None or found.kind != "bond":
        return found
    length = _length(variable.unit)
    return None if length is None else found._replace(scale=1.0 / length)


def measured(atom: Tensor, p: Tensor, g: Tensor, t: Tensor) -> Internal:
    """Bonds, angles and torsions (coordinate, batch) of atoms and references (3, row, batch).

    The first rows may lack references: then there are fewer of these.
    """
    n = atom.shape[1]
    u = p - atom[:, n - p.shape[1] :]
    v = g - p[:, p.shape[1] - g.shape[1] :]
    w = t - g[:, g.shape[1] - t.shape[1] :]
    n_bonds, n_angles, n_torsions = u.shape[1], v.shape[1], w.shape[1]
    uv = cross(u[:, n_bonds - n_angles :], v)
    vw = cross(v[:, n_angles - n_torsions :], w)
    angles = torch.atan2(_norm(uv), -(u[:, n_bonds - n_angles :] * v).sum(0))
    sine = _norm(v[:, n_angles - n_torsions :]) * (u[:, n_bonds - n_torsions :] * vw).sum(0)
    torsions = torch.atan2(sine, (uv[:, n_angles - n_torsions :] * vw).sum(0))
    return Internal(_norm(u), angles, torsions)


def placed(p: Tensor, g: Tensor, t: Tensor, along: Tensor, across: Tensor, out: Tensor) -> Tensor:
    """Atoms (3, row, batch) in the frames of their references (3, row, batch).

    ``along`` the bond, ``across`` it in the plane of the references, and ``out`` of that plane,
    each (row, batch).
    """
    e1 = p - g
    e1 = e1 / _norm(e1)
    e3 = cross(g - t, e1)
    e3 = e3 / _norm(e3)
    e2 = cross(e3, e1)
    return p + along * e1 + across * e2 + out * e3


# torch.linalg's norm and cross along the first of three axes cost 50 and 3 times as much.
def _norm(v: Tensor) -> Tensor:
    return (v * v).sum(0).sqrt()


def cross(u: Tensor, v: Tensor) -> Tensor:
    """Cross product along the first axis (3, ...)."""
    (a, b, c), (d, e, f) = u, v
    return torch.stack([b * f - c * e, c * d - a * f, a * e - b * d])


def _length(unit: str) -> float | None:
    """A length unit of PLUMED in nm: a name, or a number of nm."""
    if unit in NM:
        return NM[unit]
    try:
        return float(unit) or None
    except ValueError:
        return None
