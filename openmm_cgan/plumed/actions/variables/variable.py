"""What all collective variables share, and the terms that OpenMM's forces are made of.

Each has its batched value, which serves numpy and torch alike, and the same as an expression in
`Leaf` s, each of which becomes one force of OpenMM's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.plumed.actions.action import Action, Given
from openmm_cgan.plumed.actions.variables.atoms import AtomAction
from openmm_cgan.plumed.actions.variables.centers import Centroid, FixedAtom, VirtualAtom
from openmm_cgan.plumed.geometry.molecules import Entity, entities_made_whole
from openmm_cgan.plumed.geometry.vectors import Vector, shortest_image

Site = int | VirtualAtom

STRAIN = 1e-5  # of central differences, where a variable does not know better; less: rounding


@dataclass(frozen=True)
class Term:
    """An expression in the coordinates of a few points.

    Attributes
    ----------
    sites : tuple of int or VirtualAtom
        The points.
    chain : str
        "distance", "angle" or "dihedral" of the points in order; empty if `text` says it.
    text : str
        Expression with ``{x[0]}``, ``{y[0]}``, ``{z[0]}`` for the coordinates of the first point.
    periodic : bool
        Whether distances, angles and dihedrals are those of nearest images.
    """

    sites: tuple[Site, ...]
    chain: str = ""
    text: str = ""
    periodic: bool = False


@dataclass(frozen=True)
class BoxEdge:
    """A component of a box vector, such as ``ax``, or the volume ``v`` [nm]."""

    name: str


@dataclass(frozen=True)
class CalledBack:
    """A value that OpenMM calls back for, with its `Variable.gradient`: it has no expression."""

    variable: Variable
    index: int


@dataclass(frozen=True)
class OwnForce:
    """A value for which OpenMM has, or can be given, a force of its own."""

    variable: Variable


Leaf = Term | BoxEdge | CalledBack | OwnForce
Name = Callable[[Leaf], str]


@dataclass
class BoxKind:
    """What expressions must know of a System and its periodic box.

    Attributes
    ----------
    periodic : bool
        Whether there is one.
    triclinic : bool
        Whether it is, or may become, triclinic.
    safe : float
        Up to which length OpenMM's nearest image is the shortest, PLUMED's [nm].
    large : bool
        Whether forces with a System of their own are to be avoided.
    find_molecules : callable
        Gives the number of the molecule of each particle; called where it is needed only.
    """

    periodic: bool = False
    triclinic: bool = False
    safe: float = math.inf
    large: bool = False
    find_molecules: Callable[[], list[int]] = list

    @cached_property
    def _molecules(self) -> list[int]:
        return self.find_molecules()

    def in_several_molecules(self, atoms: tuple[int, ...]) -> bool:
        """Whether atoms are of several molecules, whose images OpenMM may move apart."""
        return self.periodic and len({self._molecules[atom] for atom in atoms}) > 1

    def splits_group(self, sites: tuple[Site, ...]) -> bool:
        """Whether the group of a virtual atom among sites is of several molecules.

        OpenMM's centroids take the coordinates as they are.
        """
        return any(
            isinstance(site, Centroid) and self.in_several_molecules(site.atoms) for site in sites
        )

    def cannot_place(self, sites: tuple[Site, ...]) -> bool:
        """Whether OpenMM's expressions can not say where a virtual atom among sites is."""
        scaled = any(isinstance(site, FixedAtom) and site.scaled for site in sites)
        phases = any(isinstance(site, Centroid) and site.phases for site in sites)
        return scaled or (phases and self.periodic) or self.splits_group(sites)

    def takes_other_images(self, sites: tuple[Site, ...]) -> bool:
        """Whether OpenMM's nearest image of sites may be another than the shortest, PLUMED's.

        It can be so in a triclinic box, for vectors longer than half of its shortest width, which
        those within a molecule are taken not to be.
        """
        if not self.triclinic:
            return False
        return any(isinstance(site, FixedAtom) for site in sites) or self.in_several_molecules(
            real_atoms(sites)
        )


class Variable(AtomAction):
    """A collective variable of the atoms' positions, or several."""

    @cached_property
    def whole_entities(self) -> tuple[Entity, ...]:
        """Entities of WHOLEMOLECULES that it sees made whole, for it takes them as they are."""
        taken = set(real_atoms(self.sites))
        nopbc = any(isinstance(site, Centroid) and not site.periodic for site in self.sites)
        if self.periodic and not nopbc:
            return ()
        atoms = [atom for entity in self.entities_above for atom in entity.atoms]
        if len(set(atoms)) < len(atoms):  # one entity moves what another begins with
            return self.entities_above
        return tuple(e for e in self.entities_above if taken.intersection(e.atoms))

    def whole_positions(self, positions: Any, box: Any) -> Any:
        """Positions as WHOLEMOLECULES has left them, where that makes a difference.

        Parameters
        ----------
        positions : ndarray or tensor, shape (..., n_atoms_of_the_system, 3)
            [nm]
        box : ndarray or tensor, shape (..., 3, 3), or None
            [nm]

        Returns
        -------
        ndarray or tensor, shape (..., n_atoms_of_the_system, 3)
            [nm]
        """
        if box is None or not self.whole_entities:
            return positions
        return entities_made_whole(self.whole_entities, positions, box)

    def depends_on_image(self, box: BoxKind) -> bool:
        """Whether it changes when a molecule goes to another periodic image."""
        nopbc = any(isinstance(site, Centroid) and not site.periodic for site in self.sites)
        phases = any(isinstance(site, Centroid) and site.phases for site in self.sites)
        if phases and not self.periodic:
            return True
        return (nopbc or not self.periodic) and box.splits_group(self.sites)

    @property
    def leaves_fixed_point(self) -> bool:
        """Whether it goes from or to a fixed point, and not to the nearest image of that."""
        return not self.periodic and any(isinstance(site, FixedAtom) for site in self.sites)

    @property
    def real_chain(self) -> tuple[int, ...]:
        """The atoms of a torsion, angle or distance of real atoms; empty for all else."""
        return ()

    def value(self, positions: Any, box: Any = None) -> Any:
        """Value of the variable, of the first where there are several.

        Parameters
        ----------
        positions : ndarray or tensor, shape (..., n_atoms_of_the_system, 3)
            Positions [nm].
        box : ndarray or tensor, shape (..., 3, 3), optional
            Box vectors in rows [nm], in OpenMM's reduced form.

        Returns
        -------
        ndarray or tensor, shape (...)
            In the units of the input.
        """
        return self.values(positions, box)[0]

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        """All outputs, in order, of shape (...) each; parameters as of `value`."""
        return (self.value(positions, box),)

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        """Expression of an output, in the units of the input.

        Parameters
        ----------
        index : int
            Which output.
        name : callable
            Gives the name of a `Leaf` in the expression.
        box : BoxKind
        """
        return name(CalledBack(self, index))

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        """Value of an output at one frame, and its gradient.

        Parameters
        ----------
        index : int
            Which output.
        positions : ndarray, shape (n_atoms_of_the_system, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            [nm]

        Returns
        -------
        float
            [unit of the input]
        ndarray, shape (n_sites, 3)
            With respect to each of `sites` [unit of the input / nm].
        """
        raise NotImplementedError

    def strain_slope(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """Derivative of an output by a strain of positions and box, for the virial.

        Parameters
        ----------
        index : int
            Which output.
        positions : ndarray, shape (n_atoms_of_the_system, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            [nm]

        Returns
        -------
        ndarray, shape (3, 3)
            Along positions, or vectors ``v``: sum of ``v_a dvalue/dv_b`` [unit of the input].
        """
        slope = np.zeros((3, 3))
        for place in np.ndindex(3, 3):
            ends = []
            for sign in (1, -1):
                moved = np.eye(3)
                moved[place] += sign * STRAIN
                strained = None if box is None else box @ moved
                ends.append(float(self.values(positions @ moved, strained)[index]))
            slope[place] = (ends[0] - ends[1]) / (2 * STRAIN)
        return slope

    @property
    def is_rigid(self) -> bool:
        """Whether it stays what it is where all atoms, with the box, are shifted and turned."""
        return not any(isinstance(site, FixedAtom) for site in self.sites)

    @property
    def strains_evenly(self) -> bool:
        """Whether all its sites move with the strain of their surroundings, as atoms do."""
        return not any(
            (isinstance(site, FixedAtom) and not site.scaled)
            or (isinstance(site, Centroid) and site.phases)
            for site in self.sites
        )

    def _nearest(self, vector: Vector, box: Any) -> Vector:
        """The shortest image, unless there is no box or NOPBC."""
        return vector if box is None or not self.periodic else shortest_image(vector, box)


def site_position(site: Site, positions: Any, box: Any) -> Vector:
    """Position of an atom or a virtual atom.

    Parameters
    ----------
    site : int or VirtualAtom
    positions : ndarray or tensor, shape (..., n_atoms_of_the_system, 3)
        [nm]
    box : ndarray or tensor, shape (..., 3, 3), or None
        [nm]

    Returns
    -------
    tuple of three floats, ndarrays or tensors, shape (...)
        [nm]; plain floats for one frame.
    """
    if isinstance(site, VirtualAtom):
        return site.position(positions, box)
    if isinstance(positions, np.ndarray) and positions.ndim == 2:
        return tuple(positions[site].tolist())  # plain floats are the quickest for one frame
    return positions[..., site, 0], positions[..., site, 1], positions[..., site, 2]


def points_of(given: Given, word: str, *counts: int) -> tuple[Site, ...]:
    """The atoms and virtual atoms that a keyword names, as `checked_points`."""
    return checked_points(given, word, given.options[word], *counts)


def checked_points(
    given: Given, word: str, sites: tuple[Site, ...] | None, *counts: int
) -> tuple[Site, ...]:
    """The same atoms and virtual atoms, none if there are none.

    Parameters
    ----------
    given : Given
    word : str
        The keyword that names them, or would.
    sites : tuple of int or VirtualAtom, or None
    counts : int
        How many there may be.

    Raises
    ------
    PlumedInputError
        If they are of another number, or one is named twice.
    """
    sites = sites or ()
    if len(sites) not in counts:
        expected, action = " or ".join(map(str, counts)), given.statement.action
        raise given.error(word, f"{action} takes {expected} atoms here, {len(sites)} given")
    if len(set(sites)) != len(sites):
        raise given.not_native(word, "an atom is named twice")
    return sites


def refuse_immobile(given: Given, sites: tuple[Site, ...]) -> None:
    """Refuse what depends on fixed points only.

    Raises
    ------
    PlumedInputError
    """
    if not real_atoms(sites):
        raise given.error(given.statement.action, "it does not depend on any atom")


def vector_text(a: int, b: int) -> list[str]:
    """Components of the vector from point `a` to point `b`, as texts of a `Term`."""
    return [f"({{{axis}[{b}]}}-{{{axis}[{a}]}})" for axis in "xyz"]


def real_atoms(sites: tuple[Site, ...]) -> tuple[int, ...]:
    """The atoms under sites, each once."""
    atoms: dict[int, None] = {}
    for site in sites:
        if isinstance(site, Centroid):
            atoms.update(dict.fromkeys(site.atoms))
        elif isinstance(site, int):
            atoms[site] = None
    return tuple(atoms)


def describe(owner: Action, name: str) -> CollectiveVariable:
    """What an action tells of a value that it gives, by the name of the value."""
    [value] = [value for value in owner.outputs if value.name == name]
    if not isinstance(owner, Variable):
        return CollectiveVariable(name, value.unit, value.domain)
    action = owner.name if owner.real_chain else ""
    return CollectiveVariable(name, value.unit, value.domain, action, owner.real_chain)


def one_by_one(
    positions: np.ndarray, box: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Each frame of positions (..., n_atoms, 3) with its own of boxes (..., 3, 3) [nm].

    For what works on all pairs: one frame stays in the cache, all at once would not.
    """
    frames = positions.reshape(-1, *positions.shape[-2:])
    if box is None:
        return zip(frames, [None] * len(frames), strict=True)
    boxes = np.broadcast_to(box, (*positions.shape[:-2], 3, 3)).reshape(-1, 3, 3)
    return zip(frames, boxes, strict=True)
