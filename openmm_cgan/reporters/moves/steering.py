"""What is steered: torsions or distances, held near places by a force, and those places drawn.

Beside the coordinates theta of a configuration stand places z with the density

    k(z|theta) = exp(-kappa |z - theta|^2 / (2 kT)) / constant,

differences of torsions the shorter way round, so that they end at half a turn: a normal density
that is cut there, whose constant is the same for all theta. -kT log k is therefore the energy of
the force, to a constant: what a configuration weighs with its places is the Boltzmann factor of
energy and force together.
"""

from __future__ import annotations

import math

import numpy as np
import openmm
from numpy.typing import NDArray

SHARE = "steered_share"  # parameter of the Context: how much of the way is made
TURN = 2 * math.pi
FORM = f"0.5*{{kappa}}*w^2; w = away{{round}}; away = {{what}} - start - {SHARE}*way"
ROUND = f" - {TURN!r}*floor(away/{TURN!r} + 0.5)"


class Steering:
    """Coordinates of a System that a force can lead to other values.

    Parameters
    ----------
    rows : array_like of int, shape (n, 4) or (n, 2)
        Atoms of torsions, or of distances. Molecules must be whole.
    kappa : float
        Force constant [kJ/mol/rad^2 or kJ/mol/nm^2].

    Examples
    --------
    >>> steering = Steering([(0, 1)], 5000.0)
    >>> steering.values(np.array([[0.0, 0, 0], [0.3, 0, 0.4]]))
    array([0.5])
    """

    def __init__(self, rows: NDArray[np.int64] | list[tuple[int, ...]], kappa: float) -> None:
        self.rows, self.kappa = np.asarray(rows, dtype=np.int64), float(kappa)
        if self.rows.ndim != 2 or self.rows.shape[1] not in (2, 4):
            raise ValueError(f"rows have shape {self.rows.shape}; expected (n, 4) or (n, 2)")
        self.turns = self.rows.shape[1] == 4

    def values(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates (n,) [rad or nm] at positions (n_atoms, 3) [nm]."""
        atoms = positions[self.rows]
        first = atoms[:, 1] - atoms[:, 0]
        if not self.turns:
            return np.linalg.norm(first, axis=1)
        axis, last = atoms[:, 2] - atoms[:, 1], atoms[:, 3] - atoms[:, 2]
        one, two = np.cross(first, axis), np.cross(axis, last)
        length = np.linalg.norm(axis, axis=1)
        return np.arctan2(length * (first * two).sum(axis=1), (one * two).sum(axis=1))

    def ways(self, start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
        """From one to another (n,), of torsions the shorter way round."""
        way = end - start
        return way - TURN * np.floor(way / TURN + 0.5) if self.turns else way

    def places(
        self, values: NDArray[np.float64], kT: float, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Draw places (n,) from k(z|theta), for coordinates (n,)."""
        away = math.sqrt(kT / self.kappa) * rng.standard_normal(len(values))
        while self.turns and (far := np.abs(away) >= math.pi).any():
            away[far] = math.sqrt(kT / self.kappa) * rng.standard_normal(int(far.sum()))
        return values + away

    def force(self) -> openmm.Force:
        """The force at the places where it begins, (1 - share) start + share end.

        `lead` says where it begins and where it leads to.
        """
        made: openmm.CustomTorsionForce | openmm.CustomBondForce
        if self.turns:
            form = FORM.format(kappa=repr(self.kappa), what="theta", round=ROUND)
            made = openmm.CustomTorsionForce(form)
            for row in self.rows.tolist():
                made.addTorsion(*row, [0.0, 0.0])
        else:
            form = FORM.format(kappa=repr(self.kappa), what="r", round="")
            made = openmm.CustomBondForce(form)
            for row in self.rows.tolist():
                made.addBond(*row, [0.0, 0.0])
        made.addGlobalParameter(SHARE, 0.0)
        for name in ("start", "way"):
            if isinstance(made, openmm.CustomTorsionForce):
                made.addPerTorsionParameter(name)
            else:
                made.addPerBondParameter(name)
        return made

    def lead(
        self,
        force: openmm.Force,
        context: openmm.Context,
        start: NDArray[np.float64],
        end: NDArray[np.float64],
    ) -> None:
        """Let a `force` in a Context begin at places (n,) and lead to others (n,)."""
        ways = self.ways(start, end)
        for k, (row, *own) in enumerate(zip(self.rows.tolist(), start, ways, strict=True)):
            if isinstance(force, openmm.CustomTorsionForce):
                force.setTorsionParameters(k, *row, own)
            elif isinstance(force, openmm.CustomBondForce):
                force.setBondParameters(k, *row, own)
        force.updateParametersInContext(context)
        context.setParameter(SHARE, 0.0)
