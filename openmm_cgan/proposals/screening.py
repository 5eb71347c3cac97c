"""The screen: which configurations are the molecule that was given, at the CVs asked for.

A generator makes most of its configurations right and some wrong: atoms on top of each other, a
mirror image (whose energy is the same, so that no force field objects), an amide turned round, a
CV that is not the one asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.proposals.bond_lengths import BondCheck, soft_bonds
from openmm_cgan.proposals.clashes import ClashCheck
from openmm_cgan.proposals.screen_settings import ScreenSettings
from openmm_cgan.proposals.stereo_axes import flat_cumulenes, hands_of_axes
from openmm_cgan.proposals.stereochemistry import BondGraph, signed_volumes, with_hands
from openmm_cgan.quantities import nanometers, numbers_of

NOT_FINITE = "not finite"
BOND_LENGTH = "bond length"
CLASH = "clash"
CHIRALITY = "chirality"
CIS_TRANS = "cis/trans"
CV_ERROR = "cv error"
PASSED = ""

logger = logging.getLogger("openmm_cgan")

ENOUGH = 10  # configurations, to tell what they have in common
FLAT = 1e-6  # nm^3: a real stereocentre spans some 1e-2
RANGE_FRACTION, PERIOD_FRACTION = 1 / 20, 1 / 60


class Restriction(Protocol):
    """What measures the CVs of a configuration: a PlumedBias, or anything else with these two."""

    @property
    def variables(self) -> Sequence[CollectiveVariable]:
        """The CVs, in the order of the columns of ``cv_values``."""

    def cv_values(self, positions: NDArray) -> NDArray:
        """Return CVs (n, n_cvs) of positions (n, n_atoms, 3) [nm]."""


@dataclass(frozen=True)
class Rest:
    """What a part of a molecule stands among; a screen looks at both together.

    Attributes
    ----------
    atoms : sequence of int
        Of the topology, none of the part.
    positions : callable
        Gives the whole system's positions (n_topology_atoms, 3) [nm], as they are now.
    is_judged : bool
        Whether what is of the rest alone is looked at, too.
    """

    atoms: Sequence[int]
    positions: Callable[[], NDArray[np.float64]]
    is_judged: bool = True


class Screen:
    """Tells which configurations are the molecule that was given, at the CVs asked for.

    Parameters
    ----------
    topology : openmm.app.Topology, or what has one
        The molecule, with its bonds; with its ``system`` (a Molecule, a Simulation) soft ones too.
    reference : ndarray, shape (n_atoms, 3)
        A right structure of the screened atoms [nm], molecules whole: it gives the bond lengths,
        the hand of each stereocentre and the isomer of each amide and double bond.
    restriction : Restriction, optional
        What measures the CVs, such as a PlumedBias. Without it CVs are not screened.
    settings : ScreenSettings
    atoms : sequence of int, optional
        The atoms of the topology that configurations hold; all by default.
    rest : Rest, optional
        What these atoms stand among.

    Raises
    ------
    ValueError
        If the reference does not fit the topology, is flat at a stereocentre, or clashes.
    """

    def __init__(
        self,
        topology: Any,
        reference: NDArray,
        restriction: Restriction | None = None,
        settings: ScreenSettings | None = None,
        atoms: Sequence[int] | None = None,
        rest: Rest | None = None,
    ) -> None:
        self.settings = settings or ScreenSettings()
        self.restriction, self.rest, self._told = restriction, rest, False
        held = [] if rest is None else list(rest.atoms)
        every = None if atoms is None else [*atoms, *held]
        self.graph = BondGraph.from_topology(topology, every)
        self.n_atoms = len(self.graph.elements) - len(held)
        reference = nanometers(reference)
        if reference.shape != (self.n_atoms, 3) or not np.isfinite(reference).all():
            raise ValueError(
                f"the reference has shape {reference.shape}; expected finite positions [nm] of "
                f"shape ({self.n_atoms}, 3), one row for each screened atom of the topology"
            )
        reference = self._among(reference[None])[0]
        tolerance = self.settings.bond_tolerance
        bonds = self._judged(self.graph.bonds)
        soft = soft_bonds(topology, bonds, every, getattr(restriction, "temperature", None))
        self.bonds = BondCheck(bonds, reference, self.graph.elements, tolerance, soft)
        fraction, excluded = self.settings.clash_fraction, self.settings.excluded_bonds
        self._clashes = ClashCheck(self.graph, fraction, excluded)
        places = range(len(self.graph.elements)) if every is None else every
        self.stereocentres = self._judged(self._handed(reference, places))
        amides, double = self.graph.amides(), self.graph.double_bonds(reference)
        double = np.concatenate([double, flat_cumulenes(self.graph, reference)])
        self.amides = self._judged(self._kept(amides, places))
        self.double_bonds = self._judged(self._kept(double, places))
        volumes = self._volumes(reference[None])[0]
        self._hands = np.sign(volumes)
        self._isomers = np.sign(self._cosines(reference[None])[0])
        self._check_reference(reference, volumes)
        if restriction is not None and self.settings.cv_tolerance is not None:
            cv_tolerances(self.settings, restriction.variables, None)
        if self.settings.chirality and (unwatched := self.graph.unwatched()):
            logger.warning(
                "isomers about atoms %s, which have four bonds or more and are no carbon or the "
                "like, are not screened: compare what comes out", [places[i] for i in unwatched],
            )  # fmt: skip

    def __repr__(self) -> str:
        found = f"{len(self.stereocentres)} stereocentres, {len(self.amides)} amides"
        if len(self.double_bonds):
            found += f", {len(self.double_bonds)} double bonds"
        rest = "" if self.rest is None else f" among {len(self.rest.atoms)}"
        return f"Screen({self.n_atoms} atoms{rest}, {len(self.bonds.bonds)} bonds, {found})"

    @property
    def knows_isomers(self) -> bool:
        """Whether there is a stereocentre, an amide or a double bond to look at."""
        return bool(len(self.stereocentres) + len(self.amides) + len(self.double_bonds))

    def _among(self, x: NDArray, whole: NDArray | None = None) -> NDArray:
        """Configurations (n, n_atoms, 3), and the rest where there is one."""
        if self.rest is None:
            return x
        held = (self.rest.positions() if whole is None else whole)[list(self.rest.atoms)]
        return np.concatenate([x, np.broadcast_to(held, (len(x), *held.shape))], axis=1)

    def _judged(self, groups: NDArray) -> NDArray:
        """Those of groups of atoms, one a row, that are looked at."""
        if self.rest is None or self.rest.is_judged:
            return groups
        return groups[(groups < self.n_atoms).any(axis=1)]

    def _handed(self, reference: NDArray, places: Sequence[int]) -> NDArray:
        """Stereocentres (n, 5), and axes that have a hand and that no CV turns about."""
        if not self.settings.chirality:
            return np.zeros((0, 5), dtype=int)
        rows, ends = hands_of_axes(self.graph, reference)
        kept = [not self._is_turned(bond, places) for bond in ends.tolist()]
        centres = with_hands(self.graph.stereocentres(), reference)
        return np.concatenate([centres, rows[np.array(kept, dtype=bool)]])

    def _is_turned(self, bond: Sequence[int], places: Sequence[int]) -> bool:
        """Whether isomers about a bond, by its place among atoms, are not to be kept."""
        settings, known = self.settings, self.restriction
        turned = settings if known is None else settings.turned_by(known.variables)
        free = [tuple(sorted(bond)) for bond in turned.turning]
        return tuple(sorted(places[atom] for atom in bond)) in free

    def _kept(self, torsions: NDArray, places: Sequence[int]) -> NDArray:
        """Those of torsions (n, 4), by their place among atoms, whose isomers are to be kept."""
        bonds = torsions[:, 1:3].tolist()
        kept = [self.settings.cis_trans and not self._is_turned(bond, places) for bond in bonds]
        return torsions[np.array(kept, dtype=bool)]

    def _check_reference(self, reference: NDArray, volumes: NDArray) -> None:
        flat = np.abs(volumes) < FLAT
        if flat.any():
            raise ValueError(
                f"the reference is flat at the stereocentres {self.stereocentres[flat, 0].tolist()}"
                ", so it has no hand there; give the positions of a real structure, or "
                "ScreenSettings(chirality=False)"
            )
        self.bonds.require_whole()
        if self._clashes(reference[None])[0]:
            raise ValueError(
                "the reference itself clashes; the topology may lack bonds (it has "
                f"{len(self.bonds.bonds)} for {self.n_atoms} atoms), else minimise the structure "
                "or lower clash_fraction"
            )

    def check(
        self,
        positions: NDArray,
        targets: NDArray | None = None,
        cvs: NDArray | None = None,
        cv_range: NDArray | None = None,
        whole: NDArray | None = None,
    ) -> NDArray:
        """Say of each configuration why it is refused.

        Parameters
        ----------
        positions : ndarray, shape (n, n_atoms, 3)
            Configurations [nm].
        targets : ndarray, shape (n, n_cvs) or (n_cvs,), optional
            CVs asked for; without them, or without a restriction, CVs are not screened.
        cvs : ndarray, shape (n, n_cvs), optional
            CVs of the configurations where they are known already.
        cv_range : ndarray, shape (n_cvs, 2), optional
            What a sampler knows, where the settings have no tolerance.
        whole : ndarray, shape (n_topology_atoms, 3), optional
            Where the rest is looked for [nm], if there is one, in place of where it is now.

        Returns
        -------
        ndarray of str, shape (n,)
            The first of "not finite", "bond length", "clash", "chirality", "cis/trans" and
            "cv error" that holds; empty for a configuration that passed.
        """
        positions = nanometers(positions)
        if positions.ndim != 3 or positions.shape[1:] != (self.n_atoms, 3):
            raise ValueError(
                f"configurations have shape {positions.shape}; expected (n, {self.n_atoms}, 3), as "
                "the screen was made for"
            )
        finite = np.isfinite(positions).all(axis=(1, 2))
        reasons = np.where(finite, PASSED, NOT_FINITE).astype("U16")
        if targets is not None and (cvs is not None or self.restriction is not None):
            cvs = self.cv_values(positions) if cvs is None else cvs
            reasons[finite & self._off_target(cvs, targets, cv_range)] = CV_ERROR
        # the last to be written is the first reason: cheap to say, and all checks are vectorised
        checks = (
            (CIS_TRANS, self._turned),
            (CHIRALITY, self._mirrored),
            (CLASH, self._clashes),
            (BOND_LENGTH, self.bonds),
        )
        sound = self._among(positions if finite.all() else positions[finite], whole)
        rows = np.flatnonzero(finite)
        with np.errstate(over="ignore", invalid="ignore"):
            for reason, wrong in checks:
                reasons[rows[wrong(sound)]] = reason
        return reasons

    def cv_values(self, positions: NDArray) -> NDArray:
        """CVs (n, n_cvs) of configurations (n, n_atoms, 3) [nm]; NaN for those not finite.

        Raises
        ------
        ValueError
            If the screen was made without a restriction.
        """
        if self.restriction is None:
            raise ValueError(
                "the screen cannot measure CVs; make it with a restriction, for instance "
                "Screen(topology, reference, bias) with a PlumedBias"
            )
        finite = np.isfinite(positions).all(axis=(1, 2))
        cvs = np.full((len(positions), len(self.restriction.variables)), np.nan)
        if finite.any():
            cvs[finite] = self.restriction.cv_values(positions[finite])
        return cvs

    def tell_odd_bond(self, positions: NDArray, reasons: NDArray) -> None:
        """Warn, once, where most of many are refused for a bond that is odd in the reference."""
        refused = reasons == BOND_LENGTH
        if self._told or len(reasons) < ENOUGH or 2 * refused.sum() < len(reasons):
            return
        if odd := self.bonds.odd(self._among(positions[refused])):
            self._told = True
            logger.warning(
                "%d of %d are refused for their bonds: %s. Give a minimised structure, or one out "
                "of a run", refused.sum(), len(reasons), odd,
            )  # fmt: skip

    def _off_target(self, cvs: NDArray, targets: NDArray, cv_range: NDArray | None) -> NDArray:
        targets = np.broadcast_to(targets, cvs.shape)
        if self.restriction is None:
            variables = [CollectiveVariable(f"CV {k}") for k in range(cvs.shape[1])]
        else:
            variables = list(self.restriction.variables)
        tolerances = cv_tolerances(self.settings, variables, cv_range)
        differences = cv_differences(variables, targets, cvs)
        return ~(np.abs(differences) <= tolerances).all(axis=1)

    def _volumes(self, x: NDArray) -> NDArray:
        """Signed volumes (n, n_centres) of the parallelepipeds that the neighbours span."""
        return signed_volumes(x[:, self.stereocentres[:, 1:]])

    def _mirrored(self, x: NDArray) -> NDArray:
        return ~(self._volumes(x) * self._hands > 0).all(axis=1)

    def _cosines(self, x: NDArray) -> NDArray:
        """Numbers with the sign of the cosine of each torsion of amides and double bonds.

        Shape (n, n_amides + n_double_bonds).
        """
        torsions = np.concatenate([self.amides, self.double_bonds])
        a, b, c, d = (x[:, torsions[:, k]] for k in range(4))
        return _dot(np.cross(b - a, c - b), np.cross(c - b, d - c))

    def _turned(self, x: NDArray) -> NDArray:
        return ~(self._cosines(x) * self._isomers > 0).all(axis=1)


def _dot(a: NDArray, b: NDArray) -> NDArray:
    return (a * b).sum(axis=-1)


def cv_tolerances(
    settings: ScreenSettings,
    variables: Sequence[CollectiveVariable],
    cv_range: NDArray | None,
) -> NDArray[np.float64]:
    """How far each CV may be from what was asked for.

    What the settings say, else a twentieth of the range that is known of the CV, and at most a
    sixtieth of its period (0.1 rad of a torsion): what is near is for each CV another thing.

    Parameters
    ----------
    settings : ScreenSettings
    variables : sequence of CollectiveVariable
    cv_range : ndarray, shape (n_cvs, 2), or None
        Of a sampler.

    Returns
    -------
    ndarray, shape (n_cvs,)
        [CV units]

    Raises
    ------
    ValueError
        If the settings have another number of tolerances, or none where no range is known of a CV
        that is not periodic.
    """
    given, n_cvs = settings.cv_tolerance, len(variables)
    if given is not None:
        tolerances = numbers_of(given, "cv_tolerance")
        if tolerances.shape not in ((), (n_cvs,)) or not (tolerances > 0).all():
            raise ValueError(
                f"cv_tolerance is {given}; expected one positive number, or one for each of the "
                f"{n_cvs} CVs"
            )
        return np.broadcast_to(tolerances, n_cvs)
    widths = np.full(n_cvs, np.inf) if cv_range is None else np.ptp(np.asarray(cv_range), axis=1)
    periods = np.array([variable.period or np.inf for variable in variables])
    tolerances = np.minimum(RANGE_FRACTION * widths, PERIOD_FRACTION * periods)
    wrong = [v.name for v, t in zip(variables, tolerances, strict=True) if not 0 < t < np.inf]
    if wrong:
        raise ValueError(
            f"no range is known of {', '.join(wrong)}, so that none is near or far: give "
            "ScreenSettings(cv_tolerance=...) [CV units]"
        )
    return tolerances


def cv_differences(
    variables: Sequence[CollectiveVariable], reference: NDArray, values: NDArray
) -> NDArray:
    """Return ``values - reference``, the shortest way round for periodic CVs.

    Parameters
    ----------
    variables : sequence of CollectiveVariable
    reference, values : ndarray, shape (..., n_cvs)
        [CV units]; their shapes broadcast.

    Returns
    -------
    ndarray, shape (..., n_cvs)
    """
    columns = [v.difference(reference[..., k], values[..., k]) for k, v in enumerate(variables)]
    return np.stack(columns, axis=-1)
