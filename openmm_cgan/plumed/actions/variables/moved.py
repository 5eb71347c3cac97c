"""Variables of atoms that FIT_TO_TEMPLATE or WRAPAROUND above has moved.

A `Moved` variable moves the atoms as the statements above it do, one after the other, and hands
them to the variable itself. Lattice vectors that are added count for nothing in a gradient. A fit
does: with y the template and u = (x - c) Q its atoms turned, both centred with the weights w, a
small turn omega of Q keeps sum_i w_i u_i x y_i at zero, so

    (tr S - S) omega = sum_i w_i (dx_i Q) x y_i,   S = sum_i w_i u_i y_i^T

and what the variable gains by turning everything, its torque, goes to the atoms of the template.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from openmm_cgan.plumed.actions.action import Action, Given, Keyword, Scope
from openmm_cgan.plumed.actions.setup import WholeMolecules
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.centers import Centroid, FixedAtom
from openmm_cgan.plumed.actions.variables.shapes import (
    GroupVariable,
    read_references,
    references_of,
)
from openmm_cgan.plumed.actions.variables.variable import BoxKind, Site, Variable, real_atoms
from openmm_cgan.plumed.geometry.last_frames import LastFrame
from openmm_cgan.plumed.geometry.molecules import wrapped_around
from openmm_cgan.plumed.geometry.superposition import (
    best_rotation,
    mean_square_deviation,
    pulled_by_turn,
)
from openmm_cgan.plumed.input.expressions import namespace

_STRIDE = Keyword("STRIDE", "integer", "natively 1", default=1)


class Mover(Protocol):
    """What moves atoms for all that stands below.

    Attributes
    ----------
    atoms : tuple of int
        Those that it needs the positions of.
    """

    atoms: tuple[int, ...]

    def moved(self, positions: Any, box: Any) -> tuple[Any, Any]:
        """Positions (..., n_atoms, 3) and box (..., 3, 3) or None as they are below it [nm]."""
        ...


class WrapAround(Action):
    """Groups of atoms at their images nearest to others, for what stands below."""

    calculates = False
    name = "WRAPAROUND"
    summary = "atoms at the images nearest to others, for what stands below"
    keywords = (
        Keyword("AROUND", "atoms", "the atoms that stay", compulsory=True),
        Keyword("ATOMS", "atoms", "the atoms that are wrapped", compulsory=True),
        Keyword("GROUPBY", "integer", "how many of them go together", default=1),
        Keyword("PAIR", "flag", "each group by an atom of AROUND of its own"),
        _STRIDE,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        around, wrapped = options["AROUND"], options["ATOMS"]
        _refuse_stride(self, options["STRIDE"])
        if not all(isinstance(atom, int) for atom in wrapped):
            raise self.not_native("ATOMS", "virtual atoms are not wrapped natively")
        if not all(isinstance(atom, int | FixedAtom) for atom in around):
            raise self.not_native("AROUND", "natively atoms and fixed points")
        self.size: int = options["GROUPBY"]
        if self.size < 1 or len(wrapped) % self.size:
            raise self.error("GROUPBY", f"{len(wrapped)} atoms can not be grouped by {self.size}")
        if set(around) & set(wrapped):
            raise self.not_native("AROUND", "an atom is wrapped around itself")
        self.pair: bool = options["PAIR"]
        if self.pair and len(around) * self.size != len(wrapped):
            raise self.error("PAIR", "expected one atom in AROUND for each group of ATOMS")
        if not self.pair and self.size == 1:  # as PLUMED does
            wrapped = tuple(sorted(set(wrapped)))
        self.around, self.wrapped = around, wrapped
        real = (atom for atom in (*around, *wrapped) if isinstance(atom, int))
        self.atoms = tuple(dict.fromkeys(real))

    def enter(self, scope: Scope) -> None:
        scope.movers += (self,)
        super().enter(scope)

    def moved(self, positions: Any, box: Any) -> tuple[Any, Any]:
        """Positions and box below it; of `Mover`'s shapes."""
        if box is None:
            return positions, box
        groups = np.reshape(self.wrapped, (-1, self.size))
        return wrapped_around(groups, self._points(positions, box), self.pair, positions, box), box

    def _points(self, positions: Any, box: Any) -> Any:
        """Where the points that stay are, shape (..., n_around, 3) [nm]."""
        if all(isinstance(atom, int) for atom in self.around):
            return positions[..., np.array(self.around), :]
        stack = namespace(positions).stack
        placed = [
            positions[..., atom, :]
            if isinstance(atom, int)
            else stack(atom.position(positions, box), -1)
            for atom in self.around
        ]
        return stack(placed, -2)


class FitToTemplate(GroupVariable):
    """All atoms shifted, or shifted and turned, so that some of them lie on a template."""

    name = "FIT_TO_TEMPLATE"
    summary = "all atoms moved onto a template, for what stands below; how far off they were"
    keywords = (
        Keyword("REFERENCE", "text", "a PDB file of one model", compulsory=True),
        Keyword("TYPE", "text", "OPTIMAL, or SIMPLE without turning", default="SIMPLE"),
        Keyword("NOPBC", "flag", "do not make the group whole"),
        _STRIDE,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        _refuse_stride(self, given.options["STRIDE"])
        kind = given.options["TYPE"]
        if kind not in ("OPTIMAL", "OPTIMAL-FAST", "SIMPLE"):
            raise self.error(f"TYPE={kind}", "expected OPTIMAL or SIMPLE")
        models = read_references(self, given)
        if len(models) > 1:
            raise self.not_native("REFERENCE", f"{len(models)} models; natively one")
        weights = np.array([atom.occupancy for atom in models[0]])
        if weights.sum() == 0:
            raise self.error("REFERENCE", "the weights (the occupancies) are all zero")
        self.atoms, self.references = references_of(self, models, kind != "SIMPLE")
        self._rotation = LastFrame(best_rotation)
        points = np.array([atom.position for atom in models[0]])
        self.centre = self.references.align[0] @ points

    @property
    def rotates(self) -> bool:
        """Whether it turns as well as shifts."""
        return self.references.rotate

    def enter(self, scope: Scope) -> None:
        super().enter(scope)
        scope.movers += (self,)

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label, self.units.length_name),)

    def placed(self, positions: Any, box: Any) -> tuple[Any, Any]:
        """The centre of its atoms, shape (..., 3) [nm], and their turn, (..., 3, 3)."""
        points = self._whole(positions, box)
        xp = namespace(points)
        centre = (xp.asarray(self.references.align[0])[:, None] * points).sum(-2)
        if not self.rotates:
            return centre, xp.asarray(np.eye(3))
        single = isinstance(points, np.ndarray) and points.ndim == 2
        rotation = self._rotation if single else best_rotation
        return centre, rotation(points, self.references)

    def moved(self, positions: Any, box: Any) -> tuple[Any, Any]:
        """Positions and box below it; of `Mover`'s shapes."""
        centre, turn = self.placed(positions, box)
        xp = namespace(positions)
        shifted = (positions - centre[..., None, :]) @ turn + xp.asarray(self.centre)
        return shifted, None if box is None else box @ turn

    def value(self, positions: Any, box: Any = None) -> Any:
        xp = namespace(positions)
        if not self.rotates:
            shift = self.placed(positions, box)[0] - xp.asarray(self.centre)
            return xp.sqrt((shift * shift).sum(-1)) / self.units.length
        square = mean_square_deviation(self._whole(positions, box), self.references)[..., 0]
        return xp.sqrt(square) / self.units.length

    def pulled_back(
        self, gradient: np.ndarray, torque: np.ndarray, positions: np.ndarray, box: Any
    ) -> np.ndarray:
        """Gradient by the positions above it.

        Parameters
        ----------
        gradient : ndarray, shape (n_atoms, 3)
            By the positions below it [unit / nm].
        torque : ndarray, shape (3,)
            What a turn of all that is below it, about the centre of the template, adds [unit].
        positions, box : ndarray, shapes (n_atoms, 3), (3, 3) or None
            Above it [nm].

        Returns
        -------
        ndarray, shape (n_atoms, 3)
            [unit / nm]
        """
        _, turn = self.placed(positions, box)
        extra = -np.outer(self.references.align[0], gradient.sum(axis=0))
        extra += self._turning(torque, positions, box)[1]
        total = gradient @ turn.T
        total[list(self.atoms)] += extra @ turn.T
        return total

    def strained_back(
        self, strain: np.ndarray, torque: np.ndarray, positions: np.ndarray, box: Any
    ) -> np.ndarray:
        """Derivative by a strain of all that is above it, shape (3, 3) [unit].

        Parameters
        ----------
        strain : ndarray, shape (3, 3)
            By one of all that is below it, about the centre of the template [unit].
        torque, positions, box
            As of `pulled_back`.
        """
        _, turn = self.placed(positions, box)
        u, pulls = self._turning(torque, positions, box)
        return turn @ (strain + u.T @ pulls) @ turn.T

    def _turning(
        self, torque: np.ndarray, positions: np.ndarray, box: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Its atoms, turned, and what the change of their turn pulls at them, (n_atoms, 3) each."""
        centre, turn = self.placed(positions, box)
        weights, y = self.references.align[0][:, None], self.references.points[0]
        u = (self._whole(positions, box) - centre) @ turn
        if not self.rotates:
            return u, np.zeros_like(u)
        return u, pulled_by_turn(u, y, weights, torque)


class Moved(Variable):
    """A variable of atoms as the statements above it have moved them.

    Parameters
    ----------
    inner : Variable
    movers : tuple of Mover
    """

    def __init__(self, inner: Variable, movers: tuple[Mover, ...]) -> None:  # of no statement
        self.inner, self.movers = inner, movers
        self.name, self.label = inner.name, inner.label  # type: ignore[misc]
        self.statement, self.units, self.arguments = inner.statement, inner.units, ()
        self.periodic, self.entities_above, self.movers_above = True, (), ()
        fits = {k: mover for k, mover in enumerate(movers) if isinstance(mover, FitToTemplate)}
        self._last = max(fits, default=len(movers))
        self._fit = fits.get(self._last)  # those above it make no difference

    def enter(self, scope: Scope) -> None:
        self.inner.enter(scope)
        scope.actions[self.label] = self

    @property
    def sites(self) -> tuple[Site, ...]:
        moving = [atom for mover in self.movers for atom in mover.atoms]
        return tuple(dict.fromkeys([*real_atoms(self.inner.sites), *moving]))

    @property
    def outputs(self) -> tuple[Value, ...]:
        return self.inner.outputs

    @property
    def vectors_in_star(self) -> tuple[str, ...]:
        return self.inner.vectors_in_star

    def _as_seen(self, movers: tuple[Mover, ...], positions: Any, box: Any) -> tuple[Any, Any]:
        for mover in movers:
            positions, box = mover.moved(positions, box)
        return positions, box

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        return self.inner.values(*self._as_seen(self.movers, positions, box))

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        above, seen = self._stages(positions, box)
        value, total = self._inner_gradient(index, *seen)
        if (fit := self._fit) is not None:
            _, torque = self._about_centre(fit, index, total, *seen)
            total = fit.pulled_back(total, torque, *above)
        return value, total[np.array(self.sites, dtype=int)]

    def strain_slope(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        above, seen = self._stages(positions, box)
        if (fit := self._fit) is None:
            return self.inner.strain_slope(index, *seen)
        total = self._inner_gradient(index, *seen)[1]
        return fit.strained_back(*self._about_centre(fit, index, total, *seen), *above)

    def _stages(self, positions: Any, box: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """Positions and box above the last fit, and as the variable sees them."""
        above = self._as_seen(self.movers[: self._last], positions, box)
        return above, self._as_seen(self.movers[self._last :], *above)

    def _about_centre(
        self, fit: FitToTemplate, index: int, total: np.ndarray, seen: np.ndarray, box: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """What a strain and a turn about the centre of the template add, (3, 3) and (3,)."""
        w = self.inner.strain_slope(index, seen, box) - np.outer(fit.centre, total.sum(axis=0))
        return w, np.array([w[1, 2] - w[2, 1], w[2, 0] - w[0, 2], w[0, 1] - w[1, 0]])

    def _inner_gradient(self, index: int, seen: np.ndarray, box: Any) -> tuple[float, np.ndarray]:
        """Value, and its gradient on all atoms as the variable sees them."""
        if not self.inner.sites:  # of the box alone
            return float(self.inner.values(seen, box)[index]), np.zeros_like(seen)
        value, slopes = self.inner.gradient(index, seen, box)
        total = np.zeros_like(seen)
        for site, slope in zip(self.inner.sites, slopes, strict=True):
            if isinstance(site, Centroid):
                spread = site.spread_gradient(slope, seen, box)
                np.add.at(total, list(site.atoms), spread)
            elif isinstance(site, int):
                total[site] += slope
        return value, total

    def depends_on_image(self, box: BoxKind) -> bool:
        if not box.in_several_molecules(real_atoms(self.sites)):
            return False
        for mover in self.movers:
            if isinstance(mover, FitToTemplate) and mover.depends_on_image(box):
                return True
        held = self.inner.periodic or any(isinstance(m, WrapAround) for m in self.movers)
        return not held and self.inner.depends_on_image(box)


def as_moved(action: Action, scope: Scope) -> Action:
    """The action, or a variable of moved atoms where it is one that notices.

    Raises
    ------
    PlumedInputError
        If it takes a virtual atom from above a statement that moves atoms.
    """
    movers: tuple[Any, ...] = scope.movers
    fits = [mover for mover in movers if isinstance(mover, FitToTemplate)]
    wraps = any(isinstance(mover, WrapAround) for mover in movers)
    if not isinstance(action, Variable) or not (fits or wraps):
        return action
    if isinstance(action, FitToTemplate):
        wrapped = {a for mover in movers if isinstance(mover, WrapAround) for a in mover.wrapped}
        if wrapped.intersection(action.atoms) and not action.periodic:
            raise action.not_native("NOPBC", "a fit of atoms that are wrapped is not native")
        return action
    for site in action.sites:
        if isinstance(site, Centroid) and site.movers_above != movers:
            message = "a virtual atom from above FIT_TO_TEMPLATE or WRAPAROUND is not native below"
            raise action.not_native(action.name, message)
    if (not fits or action.is_rigid) and (not wraps or action.periodic):
        return action
    wholes = [mover for mover in movers if isinstance(mover, WholeMolecules)]
    if any(m.stride != 1 or not all(isinstance(a, int) for a in m.atoms) for m in wholes):
        message = "below a WHOLEMOLECULES with STRIDE or virtual atoms it is not native"
        raise action.not_native(action.name, message)
    return Moved(action, movers)


def _refuse_stride(action: Action, stride: int) -> None:
    if stride != 1:
        raise action.not_native(f"STRIDE={stride}", "natively 1")
