"""PartZMatrix: positions of a part of a system <-> bonds, angles, torsions about the held rest.

The part hangs on atoms of the rest, which stand where they stand: each of its atoms has a bond, an
angle and a torsion, whose references are held atoms or atoms of the part that are placed before it.
So n atoms have 3 n coordinates, and no rigid body is left over.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.internal_coordinates.rows import Coordinate, sort_by_level
from openmm_cgan.internal_coordinates.z_matrix import (
    Internal,
    coordinate_among,
    measured,
    placed,
)


class PartZMatrix:
    """Bonds, angles and torsions of atoms that hang on held ones, batched and differentiable.

    Parameters
    ----------
    rows : array of int, shape (n_atoms, 4)
        Atom, bond, angle and torsion reference of each row. The atoms of the part are 0 to
        n_atoms - 1, those that are held come after them.
    atoms, rest : array of int, shape (n_atoms,), (n_rest,)
        Indices of the part and of the held atoms in the full topology.
    held : array_like, shape (n_rest, 3) or (m, n_rest, 3)
        Where these stand [nm]. With m places each is that of as many configurations, one place
        after the other: of n // m where there are n.

    Examples
    --------
    >>> held = [[0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0]]
    >>> matrix = PartZMatrix([(0, 1, 2, 3)], [9], [4, 5, 6], held)
    >>> x = matrix.to_cartesian(Internal(*torch.tensor([[[0.1]], [[1.9]], [[0.0]]])))
    >>> matrix.to_internal(x).angles
    tensor([[1.9000]], dtype=torch.float64)
    """

    def __init__(self, rows: Any, atoms: Any, rest: Any, held: Any) -> None:
        table = np.asarray(rows, dtype=np.int64)
        self.atoms, self.rest = (np.asarray(a, dtype=np.int64) for a in (atoms, rest))
        self.held = np.asarray(held, dtype=np.float64)
        n, m = len(self.atoms), len(self.rest)
        if table.shape != (n, 4) or n == 0 or self.held.shape[-2:] != (m, 3):
            raise ValueError(
                f"rows and held atoms have shapes {table.shape} and {self.held.shape}, expected"
                f" ({n}, 4) and ({m}, 3), or ({m}, 3) for each of several places"
            )
        self.rows: NDArray[np.int64]
        self.rows, self.levels = sort_by_level(table, range(n, n + m))
        # As ZMatrix: positions are built in the order of the rows, here after the held atoms.
        number = np.empty(n + m, dtype=np.int64)
        number[n:] = np.arange(m)
        number[self.rows[:, 0]] = m + np.arange(n)
        self._refs = torch.from_numpy(number[self.rows[:, 1:]]).T.contiguous()
        self._place = torch.from_numpy(number[:n])
        self._gather = [torch.from_numpy(column.copy()) for column in self.rows.T]

    @property
    def n_atoms(self) -> int:
        """Number of atoms of the part."""
        return len(self.atoms)

    @property
    def widths(self) -> tuple[int, int, int]:
        """Number of bonds, angles and torsions."""
        return self.n_atoms, self.n_atoms, self.n_atoms

    def among(self, held: NDArray[np.float64]) -> "PartZMatrix":
        """The same where the held atoms stand elsewhere, (n_rest, 3) or (m, n_rest, 3) [nm]."""
        return PartZMatrix(self.rows, self.atoms, self.rest, held)

    def _held(self, x: Tensor, n: int) -> Tensor:
        """Where the held atoms of n configurations stand (n, n_rest, 3), as numbers like x."""
        held = torch.from_numpy(self.held).to(x)
        if held.ndim == 2:
            return held.expand(n, -1, -1)
        if n % len(held):
            raise ValueError(
                f"{n} configurations among {len(held)} places of the held atoms; expected as many"
                " at each"
            )
        return held.repeat_interleave(n // len(held), dim=0)

    def to_internal(self, positions: Tensor) -> Internal:
        """Measure bonds, angles and torsions.

        Parameters
        ----------
        positions : Tensor, shape (n, n_atoms, 3) or (n, n_atoms + n_rest, 3)
            Of the part, among the held atoms as they stand, or followed by their own [nm].

        Returns
        -------
        Internal
            Float64, differentiable.

        Raises
        ------
        ValueError
            If the number of atoms is another.
        """
        x, n_rest = positions.double(), len(self.rest)
        if x.ndim != 3 or x.shape[1:] not in ((self.n_atoms, 3), (self.n_atoms + n_rest, 3)):
            raise ValueError(
                f"positions has shape {tuple(positions.shape)}, expected (n, {self.n_atoms}, 3),"
                f" or with the held atoms (n, {self.n_atoms + n_rest}, 3)"
            )
        if x.shape[1] == self.n_atoms:
            x = torch.cat([x, self._held(x, len(x))], dim=1)
        x = x.permute(2, 1, 0).contiguous()
        gather = (x.index_select(1, column.to(x.device)) for column in self._gather)
        return Internal(*(c.T for c in measured(*gather)))

    def to_cartesian(self, internal: Internal) -> Tensor:
        """Build positions (n, n_atoms, 3) [nm] among the held atoms, differentiable.

        Parameters
        ----------
        internal : Internal
            bonds, angles and torsions (n, n_atoms) [nm, rad].

        Raises
        ------
        ValueError
            If there are other numbers of them, or not as many among each place of held atoms.
        """
        widths = tuple(c.shape[-1] for c in internal)
        if widths != self.widths:
            raise ValueError(
                f"internal has {widths} bonds, angles, torsions, expected {self.widths}"
            )
        r, angle, torsion = (c.double().T for c in internal)
        bent = r * angle.sin()
        along, across, out = -r * angle.cos(), bent * torsion.cos(), bent * torsion.sin()
        x = self._held(r, r.shape[1]).permute(2, 1, 0)
        all_refs = self._refs.to(x.device)
        for i, j in pairwise(self.levels):
            p, g, t = (x.index_select(1, refs[i:j]) for refs in all_refs)
            x = torch.cat([x, placed(p, g, t, along[i:j], across[i:j], out[i:j])], dim=1)
        return x.index_select(1, self._place.to(x.device)).permute(2, 1, 0)

    def log_det(self, internal: Internal) -> Tensor:
        r"""log\|J\| (n,) of internal -> Cartesian coordinates of the part, the rest held.

        Each atom stands in spherical coordinates about its references, so
        \|J\| = prod r_i^2 prod sin(theta_i), over all atoms of the part.
        """
        return 2 * internal.bonds.log().sum(-1) + internal.angles.sin().log().sum(-1)

    def coordinate_of(self, variable: CollectiveVariable) -> Coordinate | None:
        """The internal coordinate that a CV is, or None: see `ZMatrix.coordinate_of`."""
        every = np.concatenate([self.atoms, self.rest])
        return coordinate_among(self.rows, every, variable, lacking=(0, 0, 0))
