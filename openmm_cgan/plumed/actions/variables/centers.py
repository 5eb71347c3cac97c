"""Virtual atoms: COM and CENTER, points that move with a group of atoms, and FIXEDATOM."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Action, Given, Keyword, Scope
from openmm_cgan.plumed.actions.variables.atoms import AtomAction
from openmm_cgan.plumed.geometry.molecules import whole
from openmm_cgan.plumed.geometry.vectors import Vector, scaled
from openmm_cgan.plumed.input.expressions import namespace

_ATOMS = Keyword("ATOMS", "atoms", "atoms and virtual atoms of the group", compulsory=True)
_NOPBC = Keyword("NOPBC", "flag", "do not make the group whole")
_PHASES = Keyword("PHASES", "flag", "mean phases along the box vectors, where there is a box")
_SET = (
    Keyword("SET_MASS", "real", "its mass, for a COM that it is a member of"),
    Keyword("SET_CHARGE", "real", "accepted"),
)


def mass_weights(action: Action, masses: np.ndarray | None) -> np.ndarray:
    """Masses of a group, made to sum to 1.

    Parameters
    ----------
    action : Action
        The group's, for the message.
    masses : ndarray, shape (n_atoms,), or None
        [dalton]

    Returns
    -------
    ndarray, shape (n_atoms,)

    Raises
    ------
    ValueError
        If they are not known yet, or all are zero: frozen particles and virtual sites.
    """
    if masses is None:
        raise ValueError(
            f"{action.statement.location}: {action.name} {action.label} needs the masses: call "
            "bias.add_to(system), or PlumedBias(..., topology), before its values"
        )
    total = masses.sum()
    if total == 0:
        raise ValueError(
            f"{action.statement.location}: {action.name} {action.label} weighs its atoms by mass, "
            "and all of them have mass 0 in this System: frozen particles or virtual sites; weigh "
            "them equally (CENTER, or GYRATION without MASS_WEIGHTED), or freeze them otherwise"
        )
    return masses / total


class VirtualAtom(AtomAction):
    """A point, usable wherever an atom is."""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        if not given.statement.label:
            raise self.not_native(self.name, "a virtual atom needs a label, or nothing can use it")

    def enter(self, scope: Scope) -> None:
        scope.virtual_atoms[self.label] = self
        super().enter(scope)

    def position(self, positions: Any, box: Any) -> Vector:
        """Its position.

        Parameters
        ----------
        positions : ndarray or tensor, shape (..., n_atoms_of_the_system, 3)
            [nm]
        box : ndarray or tensor, shape (..., 3, 3), or None
            [nm]

        Returns
        -------
        tuple of three floats, ndarrays or tensors, shape (...)
            [nm]
        """
        raise NotImplementedError

    @property
    def mass(self) -> float:
        """Its own mass [dalton], once those of the atoms are known."""
        raise NotImplementedError

    def charge(self, charges: np.ndarray) -> float:
        """Its charge [e] for charges of all atoms, shape (n_atoms_of_the_system,)."""
        raise NotImplementedError


class FixedAtom(VirtualAtom):
    """A point that stays where it is."""

    name = "FIXEDATOM"
    summary = "a fixed point"
    keywords = (
        Keyword("AT", "numbers", "its three coordinates", compulsory=True),
        Keyword("SCALED_COMPONENTS", "flag", "they are along the box vectors"),
        *_SET,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        at = given.options["AT"]
        if len(at) != 3:
            raise self.error("AT", f"expected three coordinates, {len(at)} given")
        self.scaled: bool = given.options["SCALED_COMPONENTS"]
        unit = 1.0 if self.scaled else self.units.length
        self.at = tuple(float(x) * unit for x in at)
        mass, charge = given.options["SET_MASS"], given.options["SET_CHARGE"]
        self._mass = (1.0 if mass is None else mass) * self.units.mass
        self._charge = (charge or 0.0) * self.units.charge

    @property
    def mass(self) -> float:
        return self._mass

    def charge(self, charges: np.ndarray) -> float:
        return self._charge

    def position(self, positions: Any, box: Any) -> Vector:
        zero = positions[..., 0, 0] * 0
        if self.scaled and box is None:  # as PLUMED has it
            return zero, zero, zero
        if self.scaled:
            x, y, z = (sum(self.at[k] * box[..., k, axis] for k in range(3)) for axis in range(3))
            return zero + x, zero + y, zero + z
        return zero + self.at[0], zero + self.at[1], zero + self.at[2]


class Centroid(VirtualAtom):
    """A weighted mean of atoms, or of other such means.

    The group is made whole first: each point at the image nearest to the one before it.

    Attributes
    ----------
    members : tuple of int or Centroid
        What it is the mean of.
    atoms : tuple of int
        The atoms under them.
    """

    makes_whole = True

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.members: tuple[int | Centroid, ...] = given.options["ATOMS"]
        self.phases: bool = given.options["PHASES"]
        self.atoms = self._atoms_under()
        self._set_mass: float | None = given.options["SET_MASS"]
        self._set_charge: float | None = given.options["SET_CHARGE"]
        self.weights: np.ndarray | None = None
        self.masses: np.ndarray | None = None

    def _atoms_under(self) -> tuple[int, ...]:
        """The atoms, each once where there are virtual atoms among the members."""
        real = tuple(member for member in self.members if isinstance(member, int))
        if len(real) == len(self.members):
            return real
        if self.phases:
            raise self.not_native("PHASES", "of virtual atoms they are not native")
        atoms: dict[int, None] = {}
        for member in self.members:
            if isinstance(member, int):
                atoms[member] = None
            elif isinstance(member, Centroid) and not member.phases:
                if member.periodic != self.periodic and len(member.atoms) > 1:
                    raise self.not_native("NOPBC", "of its virtual atoms and not of itself")
                atoms.update(dict.fromkeys(member.atoms))
            else:
                raise self.not_native("ATOMS", "natively atoms, COM and CENTER without PHASES")
        return tuple(atoms)

    @property
    def is_nested(self) -> bool:
        """Whether there are virtual atoms among the members."""
        return not all(isinstance(member, int) for member in self.members)

    def enter(self, scope: Scope) -> None:
        if self.is_nested and scope.entities and not self.periodic:
            raise self.not_native("NOPBC", "of virtual atoms below WHOLEMOLECULES is not native")
        for member in self.members:
            if isinstance(member, Centroid) and member.movers_above != scope.movers:
                raise self.not_native("ATOMS", "a virtual atom from above what moves atoms")
        super().enter(scope)

    @property
    def mass(self) -> float:
        """Its own mass, once those of the atoms are known [dalton]."""
        if self._set_mass is not None and self._set_mass > 0:
            return self._set_mass * self.units.mass
        return math.nan if self.masses is None else float(self.masses.sum())

    def charge(self, charges: np.ndarray) -> float:
        if self._set_charge is not None:
            return self._set_charge * self.units.charge
        own = [m.charge(charges) if isinstance(m, Centroid) else charges[m] for m in self.members]
        return float(np.sum(own))

    def set_masses(self, masses: np.ndarray) -> None:
        """Take the masses of all atoms of the system, shape (n_atoms_of_the_system,) [dalton].

        Virtual atoms have been given them before those that they are members of.
        """
        own = [m.mass if isinstance(m, Centroid) else masses[m] for m in self.members]
        self.masses = np.array(own, dtype=float)

    def require_weights(self) -> None:
        """Raise ValueError where atoms are weighed by mass and have none."""
        _ = self.normalized_weights

    @property
    def sites(self) -> tuple[int, ...]:
        return self.atoms

    def _take_atoms_as_they_are(self) -> None:
        if not self.phases:  # which need no whole group
            super()._take_atoms_as_they_are()

    @property
    def normalized_weights(self) -> np.ndarray:
        """Weight of each atom, summing to 1, shape (n_atoms,).

        Raises
        ------
        ValueError
            If masses are needed and not known yet.
        """
        weights = self._member_weights
        if not self.is_nested:
            return weights
        place = {atom: i for i, atom in enumerate(self.atoms)}
        total = np.zeros(len(place))
        for member, weight in zip(self.members, weights, strict=True):
            if isinstance(member, Centroid):
                rows = [place[atom] for atom in member.atoms]
                np.add.at(total, rows, weight * member.normalized_weights)
            else:
                total[place[member]] += weight
        return total

    @property
    def _member_weights(self) -> np.ndarray:
        if self.weights is None:
            return mass_weights(self, self.masses)
        return self.weights / self.weights.sum()

    def position(self, positions: Any, box: Any) -> Vector:
        if self.phases and box is not None:
            return self._position_by_phases(positions, box)
        held = box if self.periodic else None
        if self.is_nested:
            places = self._places(positions, box)
            points = whole(tuple(range(len(self.members))), places, held)
        else:
            points = whole(self.atoms, positions, held)
        weights = namespace(points).asarray(self._member_weights)
        x, y, z = ((weights * points[..., axis]).sum(-1) for axis in range(3))
        return x, y, z

    def _places(self, positions: Any, box: Any) -> Any:
        """Positions of the members, shape (..., n_members, 3) [nm]."""
        stack, places = namespace(positions).stack, []
        for member in self.members:
            if isinstance(member, Centroid):
                places.append(stack(member.position(positions, box), -1))
            else:
                places.append(positions[..., member, :])
        return stack(places, -2)

    def spread_gradient(
        self, slope: np.ndarray, positions: np.ndarray, box: np.ndarray | None
    ) -> np.ndarray:
        """Gradient on the atoms of what has a slope in its position, for one frame.

        Parameters
        ----------
        slope : ndarray, shape (3,)
            [unit / nm]
        positions : ndarray, shape (n_atoms_of_the_system, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            [nm]

        Returns
        -------
        ndarray, shape (n_atoms, 3)
            [unit / nm]
        """
        weights = self.normalized_weights[:, None]
        if not self.phases or box is None:
            return weights * slope
        angles = 2 * math.pi * positions[list(self.atoms)] @ np.linalg.inv(box)
        sines, cosines = weights * np.sin(angles), weights * np.cos(angles)
        sine, cosine = sines.sum(0), cosines.sum(0)
        factors = (cosine * cosines + sine * sines) / (sine**2 + cosine**2)
        return (factors * (box @ slope)) @ np.linalg.inv(box).T

    def _position_by_phases(self, positions: Any, box: Any) -> Vector:
        xp = namespace(positions)
        points, weights = positions[..., list(self.atoms), :], xp.asarray(self.normalized_weights)
        parts = scaled((points[..., 0], points[..., 1], points[..., 2]), box[..., None, :, :])
        turns = []
        for part in parts:
            angle = 2 * math.pi * part
            sine, cosine = (weights * xp.sin(angle)).sum(-1), (weights * xp.cos(angle)).sum(-1)
            turns.append(xp.atan2(sine, cosine) / (2 * math.pi))
        x, y, z = (sum(turns[k] * box[..., k, axis] for k in range(3)) for axis in range(3))
        return x, y, z


class Com(Centroid):
    """The centre of mass."""

    name = "COM"
    summary = "centre of mass of a group"
    keywords = (_ATOMS, _PHASES, _NOPBC, *_SET)


class Center(Centroid):
    """The centre of a group: the mean, with given weights, or of mass."""

    name = "CENTER"
    summary = "centre of a group"
    keywords = (
        _ATOMS,
        Keyword("WEIGHTS", "numbers", "one for each atom; all equal if absent"),
        Keyword("MASS", "flag", "weights are the masses"),
        _PHASES,
        _NOPBC,
        *_SET,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        weights, by_mass = given.options["WEIGHTS"], given.options["MASS"]
        if by_mass and weights is not None:
            raise self.error("WEIGHTS", "give WEIGHTS or MASS, not both")
        if weights is None:
            weights = (1.0,) * len(self.members)
        if len(weights) != len(self.members):
            raise self.error("WEIGHTS", f"{len(weights)} weights for {len(self.members)} atoms")
        if sum(weights) == 0:
            raise self.error("WEIGHTS", "the weights add up to zero")
        self.weights = None if by_mass else np.array(weights, dtype=float)
