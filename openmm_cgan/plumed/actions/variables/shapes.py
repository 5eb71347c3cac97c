"""The size and the shape of a group of atoms: GYRATION, RMSD."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.centers import mass_weights
from openmm_cgan.plumed.actions.variables.variable import (
    BoxKind,
    CalledBack,
    Name,
    OwnForce,
    Site,
    Variable,
)
from openmm_cgan.plumed.geometry.molecules import whole
from openmm_cgan.plumed.geometry.superposition import (
    References,
    deviation_gradient,
    make_references,
    mean_square_deviation,
)
from openmm_cgan.plumed.input.expressions import namespace
from openmm_cgan.plumed.input.pdb import PdbAtom, read_models
from openmm_cgan.plumed.input.words import NotNativeError

NOPBC = Keyword("NOPBC", "flag", "do not make the group whole")

# Squares of these are sums of the eigenvalues of the gyration tensor, largest first:
# Vymetal and Vondrasek, doi 10.1021/jp2065612
_ROOTS = {
    "GTPC_1": (1.0, 0.0, 0.0),
    "GTPC_2": (0.0, 1.0, 0.0),
    "GTPC_3": (0.0, 0.0, 1.0),
    "RGYR_1": (1.0, 1.0, 0.0),
    "RGYR_2": (1.0, 0.0, 1.0),
    "RGYR_3": (0.0, 1.0, 1.0),
    "ASPHERICITY": (1.0, -0.5, -0.5),
    "ACYLINDRICITY": (0.0, 1.0, -1.0),
}
GYRATION_TYPES = ("RADIUS", "TRACE", *_ROOTS, "KAPPA2")


class GroupVariable(Variable):
    """A variable of a group of real atoms, which is made whole first."""

    makes_whole = True
    atoms: tuple[int, ...]
    has_repeats = False  # whether PLUMED has atoms twice that are here once

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.atoms

    def depends_on_image(self, box: BoxKind) -> bool:
        return not self.periodic and box.in_several_molecules(self.atoms)

    def strain_slope(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        return self._whole(positions, box).T @ self.gradient(index, positions, box)[1]

    def _whole(self, positions: Any, box: Any) -> Any:
        """Positions of the atoms, shape (..., n_atoms, 3) [nm]."""
        return whole(self.atoms, positions, box if self.periodic else None)


class Gyration(GroupVariable):
    """What the gyration tensor says of a group, of equal weights unless MASS_WEIGHTED."""

    name = "GYRATION"
    summary = "radius of gyration, and shape"
    keywords = (
        Keyword("ATOMS", "atoms", "the atoms", compulsory=True),
        Keyword("TYPE", "text", ", ".join(GYRATION_TYPES), default="RADIUS"),
        Keyword("MASS_WEIGHTED", "flag", "weigh by mass"),
        Keyword("MASS", "flag", "the same"),
        NOPBC,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.atoms = given.options["ATOMS"]
        self.type: str = given.options["TYPE"]
        if self.type not in GYRATION_TYPES:
            raise self.error(f"TYPE={self.type}", f"expected one of {', '.join(GYRATION_TYPES)}")
        real = all(isinstance(atom, int) for atom in self.atoms)
        if not real or len(set(self.atoms)) != len(self.atoms) or len(self.atoms) < 2:
            raise self.not_native("ATOMS", "expected different real atoms, at least two")
        self.mass_weighted: bool = given.options["MASS_WEIGHTED"] or given.options["MASS"]
        self.masses: np.ndarray | None = None
        self.masses_guessed = False

    def set_masses(self, masses: np.ndarray, guessed: bool = False) -> None:
        """Take the masses of all atoms of the system, shape (n_atoms_of_the_system,) [dalton]."""
        self.masses_guessed = guessed
        self.masses = np.asarray(masses, dtype=float)[list(self.atoms)]

    def require_weights(self) -> None:
        """Raise ValueError where atoms are weighed by mass and have none."""
        _ = self.normalized_weights

    @property
    def normalized_weights(self) -> np.ndarray:
        """Weight of each atom, summing to 1, shape (n_atoms,).

        Raises
        ------
        ValueError
            If masses are needed and not known yet.
        """
        if not self.mass_weighted:
            return np.full(len(self.atoms), 1 / len(self.atoms))
        return mass_weights(self)

    @property
    def scale(self) -> float:
        """What the value in nm is multiplied by; PLUMED does not normalize TRACE."""
        if self.type == "KAPPA2":
            return 1.0
        if self.type == "TRACE":
            return 2 * self._total_weight() / self.units.length**2
        return 1.0 / self.units.length

    @property
    def outputs(self) -> tuple[Value, ...]:
        unit = self.units.length_name
        return (Value(self.label, {"KAPPA2": "", "TRACE": f"{unit}^2"}.get(self.type, unit)),)

    def _total_weight(self) -> float:
        if not self.mass_weighted:
            return float(len(self.atoms))
        shares = mass_weights(self)  # raises where masses are not known
        assert self.masses is not None
        return float(np.sum(self.masses) * shares.sum()) / self.units.mass

    def _arms(self, positions: Any, box: Any) -> tuple[Any, Any]:
        """Weights, shape (n_atoms, 1), and vectors from the centre, shape (..., n_atoms, 3)."""
        points = self._whole(positions, box)
        weights = namespace(points).asarray(self.normalized_weights)[:, None]
        return weights, points - (weights * points).sum(-2)[..., None, :]

    def value(self, positions: Any, box: Any = None) -> Any:
        xp = namespace(positions)
        w, x = self._arms(positions, box)
        if self.type in ("RADIUS", "TRACE"):
            square = (w * x * x).sum(-1).sum(-1)
            return self.scale * (xp.sqrt(square) if self.type == "RADIUS" else square)
        tensor = (w * x).swapaxes(-1, -2) @ x
        moments = xp.linalg.eigvalsh(tensor)
        e1, e2, e3 = moments[..., 2], moments[..., 1], moments[..., 0]
        if self.type == "KAPPA2":
            return 1 - 3 * (e1 * e2 + e2 * e3 + e1 * e3) / (e1 + e2 + e3) ** 2
        a, b, c = _ROOTS[self.type]
        return self.scale * xp.sqrt(a * e1 + b * e2 + c * e3)

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        w, x = self._arms(positions, box)
        if self.type in ("RADIUS", "TRACE"):
            value = self.scale * (w * x * x).sum()
            if self.type == "TRACE":
                return float(value), 2 * self.scale * w * x
            root = np.sqrt(value * self.scale)
            return float(root), self.scale**2 * w * x / root
        moments, axes = np.linalg.eigh((w * x).T @ x)
        moments, axes = moments[::-1], axes[:, ::-1]
        if self.type == "KAPPA2":
            total = moments.sum()
            pairs = (total**2 - (moments**2).sum()) / 2
            value = 1 - 3 * pairs / total**2
            factors = -3 * (total - moments - 2 * pairs / total) / total**2
        else:
            parts = np.array(_ROOTS[self.type])
            value = self.scale * np.sqrt(parts @ moments)
            factors = parts * self.scale**2 / (2 * value)
        slopes = 2 * w * (x @ axes * factors @ axes.T)
        return float(value), slopes

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        if self.type not in ("RADIUS", "TRACE") or box.in_several_molecules(self.atoms):
            return name(CalledBack(self, index))
        square = name(OwnForce(self))
        return f"({self.scale!r}*{square if self.type == 'TRACE' else f'sqrt({square})'})"


class Rmsd(GroupVariable):
    """Root mean square deviation from a reference, superposed (OPTIMAL) or only centred (SIMPLE).

    The occupancies of the reference are the weights of the superposition, its B factors those of
    the deviation.
    """

    name = "RMSD"
    summary = "deviation from a reference"
    keywords: ClassVar[tuple[Keyword, ...]] = (
        Keyword("REFERENCE", "text", "a PDB file of one model", compulsory=True),
        Keyword("TYPE", "text", "OPTIMAL or SIMPLE", default="SIMPLE"),
        Keyword("SQUARED", "flag", "the mean square deviation"),
        NOPBC,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.squared: bool = given.options["SQUARED"]
        kind = given.options["TYPE"]
        if kind not in ("OPTIMAL", "OPTIMAL-FAST", "SIMPLE"):
            raise self.error(f"TYPE={kind}", "expected OPTIMAL, OPTIMAL-FAST or SIMPLE")
        models = read_references(self, given)
        if len(models) > 1:
            raise self.not_native("REFERENCE", f"{len(models)} models; natively one")
        self.atoms, self.references = references_of(self, models, kind != "SIMPLE")

    @property
    def is_rigid(self) -> bool:
        return self.references.rotate

    @property
    def scale(self) -> float:
        """What the value in nm is multiplied by."""
        return 1.0 / self.units.length ** (2 if self.squared else 1)

    @property
    def outputs(self) -> tuple[Value, ...]:
        unit = self.units.length_name
        return (Value(self.label, f"{unit}^2" if self.squared else unit),)

    def value(self, positions: Any, box: Any = None) -> Any:
        square = mean_square_deviation(self._whole(positions, box), self.references)[..., 0]
        return self.scale * (square if self.squared else namespace(positions).sqrt(square))

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        points = self._whole(positions, box)
        [square], [slopes] = deviation_gradient(points, self.references)
        if self.squared:
            return float(self.scale * square), self.scale * slopes
        root = np.sqrt(square)
        return float(self.scale * root), self.scale * slopes / (2 * max(root, 1e-12))

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        references = self.references
        if references.rotate and references.equal and not box.in_several_molecules(self.atoms):
            root = name(OwnForce(self))  # OpenMM's own
            return f"({self.scale!r}*{root}^2)" if self.squared else f"({self.scale!r}*{root})"
        return name(CalledBack(self, index))


def read_references(action: GroupVariable, given: Given) -> list[list[PdbAtom]]:
    """The models of the PDB file that REFERENCE names.

    Raises
    ------
    PlumedInputError
        If it can not be read.
    """
    name = given.options["REFERENCE"]
    if given.units.natural:
        raise action.not_native("REFERENCE", "a PDB file in natural units is not native")
    try:
        models = read_models(given.folder / name)
    except NotNativeError as error:
        raise action.not_native(f"REFERENCE={name}", str(error)) from None
    except ValueError as error:
        raise action.error(f"REFERENCE={name}", str(error)) from None
    action.has_repeats = any(len({a.serial for a in model}) < len(model) for model in models)
    return [_without_repeats(action, m) for m in models] if action.has_repeats else models


def references_of(
    action: Variable, models: list[list[PdbAtom]], rotate: bool
) -> tuple[tuple[int, ...], References]:
    """Zero-based atoms of models of the same atoms, and the models as references.

    Parameters
    ----------
    action : Variable
        For the error.
    models : list of list of PdbAtom, shape (n_models, n_atoms)
    rotate : bool
        Whether rotations are to be taken out.

    Raises
    ------
    PlumedInputError
        If the atoms are not the same.
    """
    atoms = tuple(atom.serial - 1 for atom in models[0])
    if any(tuple(atom.serial - 1 for atom in model) != atoms for model in models):
        raise action.error("REFERENCE", "the models do not have the same atoms in the same order")
    if rotate and len(atoms) < 3:
        raise action.not_native("REFERENCE", "a superposition needs three atoms at least")
    points = np.array([[atom.position for atom in model] for model in models])
    occupancy = np.array([[atom.occupancy for atom in model] for model in models])
    beta = np.array([[atom.beta for atom in model] for model in models])
    if np.any(occupancy < 0) or np.any(beta < 0):
        raise action.not_native("REFERENCE", "a weight (occupancy or B factor) is negative")
    return atoms, make_references(points, occupancy, beta, rotate)


def _without_repeats(action: GroupVariable, model: list[PdbAtom]) -> list[PdbAtom]:
    """A model whose atoms stand once, with the sum of their weights: that is the same.

    Raises
    ------
    PlumedInputError
        If it is not: lines of an atom are apart, or at different places, or weights are all zero.
    """
    found: list[PdbAtom] = []
    for atom in model:
        if not found or found[-1].serial != atom.serial:
            found.append(atom)
            continue
        before = found[-1]
        if before.position != atom.position:
            raise action.not_native("REFERENCE", f"atom {atom.serial} stands at two places")
        weights = before.occupancy + atom.occupancy, before.beta + atom.beta
        found[-1] = replace(before, occupancy=weights[0], beta=weights[1])
    if len({atom.serial for atom in found}) < len(found):
        raise action.not_native("REFERENCE", "an atom number stands twice, with others between")
    if not all(any(getattr(atom, name) for atom in found) for name in ("occupancy", "beta")):
        raise action.not_native("REFERENCE", "an atom number stands twice, and weights are zero")
    return found
