"""Forces of OpenMM whose energy is one value: what an expression is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import openmm

from openmm_cgan.plumed.actions.variables.centers import Centroid, FixedAtom, VirtualAtom
from openmm_cgan.plumed.actions.variables.contacts import PairSum
from openmm_cgan.plumed.actions.variables.shapes import Gyration, Rmsd
from openmm_cgan.plumed.actions.variables.variable import (
    BoxEdge,
    CalledBack,
    Leaf,
    Site,
    Term,
    Variable,
    real_atoms,
)
from openmm_cgan.states import box_of, copy_positions

MAX_VARIABLES = 32  # that a CustomCVForce holds

# OpenMM's own forces for chains of real atoms: the force, its symbol, and how its terms are called
_CHAINS: dict[str, tuple[type, str, str]] = {
    "distance": (openmm.CustomBondForce, "r", "Bond"),
    "angle": (openmm.CustomAngleForce, "theta", "Angle"),
    "dihedral": (openmm.CustomTorsionForce, "theta", "Torsion"),
}


@dataclass(frozen=True)
class Form:
    """How one or more `Term` s are written in a force of OpenMM's.

    Attributes
    ----------
    make : callable
        Makes the force from an energy expression.
    texts : tuple of str
        The terms in that expression.
    kind : str
        "Bond", "Angle" or "Torsion", as the force calls its terms.
    sites : tuple of int or Centroid
        Its particles or groups.
    periodic : bool
        Whether it takes nearest images.
    """

    make: Callable[[str], Any]
    texts: tuple[str, ...]
    kind: str
    sites: tuple[Site, ...]
    periodic: bool

    def force(self, energy: str, parameters: tuple[str, ...] = ()) -> Any:
        """A force without terms, of an energy in `texts` and the parameters."""
        force = self.make(energy)
        for name in parameters:
            getattr(force, f"addPer{self.kind}Parameter")(name)
        force.setUsesPeriodicBoundaryConditions(self.periodic)
        return force

    def add(self, force: Any, numbers: list[float]) -> int:
        """Add the term with the numbers of its parameters; return its index."""
        add = getattr(force, f"add{self.kind}")
        if self.make in {make for make, _, _ in _CHAINS.values()}:
            return add(*self.sites, numbers)
        if isinstance(force, openmm.CustomCentroidBondForce):
            return add([_add_group(force, site) for site in self.sites], numbers)
        return add(list(self.sites), numbers)

    def change(self, force: Any, index: int, numbers: list[float]) -> None:
        """Change the numbers of a term that `add` has added."""
        *points, _ = getattr(force, f"get{self.kind}Parameters")(index)
        getattr(force, f"set{self.kind}Parameters")(index, *points, numbers)


def form_of(terms: list[Term]) -> Form | None:
    """The cheapest force that holds terms together; None if none can."""
    images = {term.periodic for term in terms if term.chain or "point" in term.text}
    if len(images) > 1:
        return None
    periodic = images == {True}
    if len(terms) == 1 and terms[0].chain and _all_real(terms[0].sites):
        make, symbol, kind = _CHAINS[terms[0].chain]
        return Form(make, (symbol,), kind, terms[0].sites, periodic)
    sites = dict.fromkeys(site for term in terms for site in term.sites)
    moving = tuple(site for site in sites if not isinstance(site, FixedAtom))
    real = _all_real(moving)
    texts = tuple(_term_text(term, moving, "p" if real else "g") for term in terms)
    make = openmm.CustomCompoundBondForce if real else openmm.CustomCentroidBondForce
    return Form(_Maker(make, len(moving)), texts, "Bond", moving, periodic)


def _all_real(sites: tuple[Site, ...]) -> bool:
    return all(isinstance(site, int) for site in sites)


def _term_text(term: Term, moving: tuple[Site, ...], letter: str) -> str:
    points = [_coordinates(site, moving) for site in term.sites]
    if term.text:
        x, y, z = zip(*points, strict=True)
        return term.text.format(x=x, y=y, z=z)
    if all(site in moving for site in term.sites):
        return f"{term.chain}({','.join(f'{letter}{moving.index(s) + 1}' for s in term.sites)})"
    return f"point{term.chain}({','.join(number for point in points for number in point)})"


@dataclass(frozen=True)
class _Maker:
    """Makes a force for `n` particles or groups; equal where the forces are alike."""

    make: type
    n: int

    def __call__(self, energy: str) -> Any:
        return self.make(self.n, energy)


def _coordinates(site: Site, moving: tuple[Site, ...]) -> tuple[str, ...]:
    if isinstance(site, FixedAtom):
        return tuple(f"({number!r})" for number in site.at)
    k = moving.index(site) + 1
    return f"x{k}", f"y{k}", f"z{k}"


def _add_group(force: openmm.CustomCentroidBondForce, site: Site) -> int:
    if isinstance(site, Centroid):
        return force.addGroup(list(site.atoms), [float(w) for w in site.normalized_weights])
    return force.addGroup([site], [1.0])


def leaf_force(leaf: Leaf, periodic: bool, n_atoms: int) -> openmm.Force:
    """A force whose energy is the value of a leaf [nm, or the unit of the input for a CalledBack].

    Parameters
    ----------
    leaf : Leaf
    periodic : bool
        Whether the System has a periodic box.
    n_atoms : int
        Particles of the System.
    """
    if isinstance(leaf, Term):
        form = form_of([leaf])
        assert form is not None
        force = form.force(form.texts[0])
        form.add(force, [])
        return force
    if isinstance(leaf, BoxEdge):
        return openmm.CustomVolumeForce(leaf.name)
    if isinstance(leaf, CalledBack):
        return _gradient_force(leaf, periodic)
    variable = leaf.variable
    if isinstance(variable, Rmsd):
        reference = np.zeros((n_atoms, 3))
        reference[list(variable.atoms)] = variable.references.points[0]
        return openmm.RMSDForce(reference, list(variable.atoms))
    if isinstance(variable, PairSum):
        return _pair_force(variable, periodic and variable.periodic)
    assert isinstance(variable, Gyration)
    force = _gyration_force(variable)
    force.setUsesPeriodicBoundaryConditions(periodic and variable.periodic)
    return force


# ---- gradients in Python


class KnownGradient(Protocol):
    """A value that knows its gradient."""

    @property
    def atoms(self) -> Sequence[int]:
        """The atoms that it depends on."""
        ...

    def evaluate(self, some: np.ndarray, box: np.ndarray | None) -> tuple[float, np.ndarray]:
        """Value and gradient [unit of the input / nm], shape (n_needed, 3).

        Parameters
        ----------
        some : ndarray, shape (n_needed, 3)
            Positions of `atoms` [nm].
        box : ndarray, shape (3, 3), or None
            [nm]
        """
        ...


class GradientFunction:
    """What OpenMM calls for the value of a `CalledBack` and its forces.

    Plain data, since OpenMM pickles it to copy a System.
    """

    def __init__(self, variable: Variable, index: int, periodic: bool) -> None:
        self.variable = variable
        self.index = index
        self.periodic = periodic
        sites = variable.sites
        self.atoms = real_atoms(sites)
        self._atoms = np.array(self.atoms)
        row = {atom: i for i, atom in enumerate(self.atoms)}
        real = [(i, site) for i, site in enumerate(sites) if isinstance(site, int)]
        self._real_sites = np.array([i for i, _ in real], dtype=int)
        self._real_rows = np.array([row[atom] for _, atom in real], dtype=int)
        self._groups = [
            (i, np.array([row[atom] for atom in site.atoms]), site)
            for i, site in enumerate(sites)
            if isinstance(site, Centroid)
        ]
        self._some = np.zeros((len(self.atoms), 3))
        self._positions = np.zeros((max(self.atoms) + 1, 3))

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        """Value and minus its gradient on `atoms`, shape (n_needed, 3), as OpenMM asks for them."""
        copy_positions(state, self._some)
        box = box_of(state) if self.periodic else None
        value, gradient = self.evaluate(self._some, box)
        return value, -gradient

    def evaluate(self, some: np.ndarray, box: np.ndarray | None) -> tuple[float, np.ndarray]:
        """Value and gradient for the positions of `atoms`.

        Parameters
        ----------
        some : ndarray, shape (n_needed, 3)
            Of `atoms` [nm].
        box : ndarray, shape (3, 3), or None
            [nm]

        Returns
        -------
        float
            [unit of the input]
        ndarray, shape (n_needed, 3)
            [unit of the input / nm]
        """
        self._positions[self._atoms] = some
        value, slopes = self.variable.gradient(self.index, self._positions, box)
        gradient = np.zeros((len(self.atoms), 3))
        gradient[self._real_rows] = slopes[self._real_sites]
        for i, rows, site in self._groups:
            np.add.at(gradient, rows, site.spread_gradient(slopes[i], self._positions, box))
        return value, gradient


def _gradient_force(leaf: CalledBack, periodic: bool) -> openmm.PythonForce:
    function = GradientFunction(leaf.variable, leaf.index, periodic)
    force = openmm.PythonForce(function, {}, list(function.atoms))
    force.setUsesPeriodicBoundaryConditions(periodic)
    return force


# ---- sums


def _gyration_force(variable: Gyration) -> openmm.Force:
    force = openmm.CustomCentroidBondForce(2, "weight*distance(g1,g2)^2")
    force.addPerBondParameter("weight")
    weights = [float(weight) for weight in variable.normalized_weights]
    centre = force.addGroup(list(variable.atoms), weights)
    for atom, weight in zip(variable.atoms, weights, strict=True):
        force.addBond([centre, force.addGroup([atom], [1.0])], [weight])
    return force


def _pair_force(variable: PairSum, periodic: bool) -> openmm.Force:
    """One force for the pairs of each expression and kind; their sum if there are several."""
    batches: dict[tuple[str, str], list[int]] = {}
    for k, pair in enumerate(variable.pairs):
        fixed = any(isinstance(site, FixedAtom) for site in pair)
        virtual = any(isinstance(site, VirtualAtom) for site in pair)
        r = "pointdistance(x1,y1,z1,px,py,pz)" if fixed else "distance(g1,g2)" if virtual else "r"
        batches.setdefault((r, variable.pair_expression(k, r)), []).append(k)
    forces = [_same_pairs(variable, *key, pairs) for key, pairs in batches.items()]
    for force in forces:
        force.setUsesPeriodicBoundaryConditions(periodic)
    return sum_of_forces(forces)


def _same_pairs(variable: PairSum, r: str, text: str, pairs: list[int]) -> openmm.Force:
    fixed = r.startswith("point")
    n = 1 if fixed else 2
    force = openmm.CustomBondForce(text) if r == "r" else openmm.CustomCentroidBondForce(n, text)
    for name in (*variable.pair_parameters(pairs[0]), *(("px", "py", "pz") if fixed else ())):
        force.addPerBondParameter(name)
    groups: dict[Site, int] = {}
    for k in pairs:
        numbers = list(variable.pair_parameters(k).values())
        if r == "r":
            force.addBond(*variable.pairs[k], numbers)
            continue
        moving = [site for site in variable.pairs[k] if not isinstance(site, FixedAtom)]
        for site in variable.pairs[k]:
            if isinstance(site, FixedAtom):
                numbers += site.at
            elif site not in groups:
                groups[site] = _add_group(force, site)
        force.addBond([groups[site] for site in moving], numbers)
    return force


def sum_of_forces(forces: list[openmm.Force]) -> openmm.Force:
    """One force that is the sum of many; a CustomCVForce holds 32 at most."""
    while len(forces) > 1:
        sums = []
        for start in range(0, len(forces), MAX_VARIABLES):
            part = forces[start : start + MAX_VARIABLES]
            force = openmm.CustomCVForce("+".join(f"c{i}" for i in range(len(part))))
            for i, inner in enumerate(part):
                force.addCollectiveVariable(f"c{i}", inner)
            sums.append(force)
        forces = sums
    return forces[0]
