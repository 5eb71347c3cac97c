"""Collective variables by name: what all rooms know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.quantities import numbers_of


@dataclass(frozen=True)
class CollectiveVariable:
    """What is known of one collective variable besides its values.

    Parameters
    ----------
    name : str
        Label in the PLUMED input, as COLVAR prints it, such as ``phi`` or ``d.x``.
    unit : str
        Unit of its values: that of the PLUMED input ("rad", "nm", "A", "" for a pure number).
    domain : (float, float) or None
        Periodic domain, None for a variable that is not periodic.
    action : str
        PLUMED action that defines it ("TORSION"), empty when unknown.
    atoms : tuple of int
        Zero-based atoms of a TORSION, ANGLE or DISTANCE; empty otherwise.

    Raises
    ------
    ValueError
        If the unit is no text, or the domain no range.

    Examples
    --------
    >>> import math
    >>> phi = CollectiveVariable("phi", "rad", (-math.pi, math.pi))
    >>> round(float(phi.difference(3.0, -3.0)), 6)
    0.283185
    """

    name: str
    unit: str = ""
    domain: tuple[float, float] | None = None
    action: str = ""
    atoms: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.unit, str):
            raise ValueError(
                f"the unit of {self.name} is {self.unit}; expected a text, and a periodic domain "
                "behind it"
            )
        ends = [] if self.domain is None else [*self.domain]
        if self.domain is not None and not (
            len(ends) == 2 and np.isfinite(ends).all() and ends[0] < ends[1]
        ):
            raise ValueError(
                f"the domain of {self.name} is {self.domain}; expected its lower and upper end"
            )

    @property
    def period(self) -> float | None:
        """Length of the periodic domain, or None."""
        return None if self.domain is None else self.domain[1] - self.domain[0]

    def difference(self, reference: Any, value: Any) -> Any:
        """Return ``value - reference``, the shortest way round where periodic.

        Parameters
        ----------
        reference, value : float or ndarray
            Values [CV unit]; they broadcast.
        """
        delta = np.asarray(value, dtype=float) - np.asarray(reference, dtype=float)
        if self.period is None:
            return delta
        return delta - self.period * np.floor(delta / self.period + 0.5)

    def in_domain(self, values: Any) -> NDArray[np.float64]:
        """Values [CV unit] of any shape, within the domain where the CV is periodic."""
        values = np.asarray(values, dtype=float)
        if self.domain is None:
            return values
        lower, upper = self.domain
        return np.asarray(lower + np.mod(values - lower, upper - lower))

    def why_another(self, other: CollectiveVariable) -> str:
        """Why a CV of the same name is another one, of other atoms; empty if nothing tells.

        Atoms are known of a TORSION, ANGLE or DISTANCE, and read from either end.
        """
        ours, theirs = self._definition(), other._definition()
        if ours == theirs or not (self.atoms and other.atoms):
            return ""
        told = [f"{v.action or 'CV'} ATOMS={','.join(str(a + 1) for a in v.atoms)}"
                for v in (self, other)]  # fmt: skip
        return f"{self.name} is {told[0]} in one and {told[1]} in the other"

    def _definition(self) -> tuple[str, tuple[int, ...]]:
        return self.action, min(self.atoms, self.atoms[::-1])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> CollectiveVariable:
        """Rebuild from `to_dict`, or from what JSON made of it."""
        domain = record.get("domain")
        return cls(
            name=str(record["name"]),
            unit=str(record.get("unit", "")),
            domain=None if domain is None else (float(domain[0]), float(domain[1])),
            action=str(record.get("action", "")),
            atoms=tuple(int(atom) for atom in record.get("atoms", ())),
        )


def why_other_cvs(ours: Sequence[CollectiveVariable], theirs: Sequence[CollectiveVariable]) -> str:
    """Why CVs are others than these, by name or by atoms, in words; empty if nothing tells."""
    names, other_names = ([v.name for v in group] for group in (ours, theirs))
    if names != other_names:
        return (
            f"{', '.join(names) or 'none'} in one, {', '.join(other_names) or 'none'} in the other"
        )
    return "; ".join(filter(None, map(CollectiveVariable.why_another, ours, theirs)))


class NotOfTheCVsError(ValueError):
    """A bias depends on something else than the CVs that are recorded."""


def cv_rows(cvs: Any, variables: Sequence[CollectiveVariable]) -> NDArray[np.float64]:
    """CV values as numbers, shape (n, n_cvs) [CV units].

    Raises
    ------
    ValueError
        If they have units or another shape.
    """
    rows = numbers_of(cvs, "cvs")
    if rows.ndim != 2 or rows.shape[1] != len(variables):
        names = ", ".join(variable.name for variable in variables)
        raise ValueError(f"cvs have shape {rows.shape}; expected (n, {len(variables)}): {names}")
    return rows


def first_of_each_cell(
    cvs: NDArray[np.float64], variables: Sequence[CollectiveVariable], bins: int, fewest: int
) -> NDArray[np.int64]:
    """The first row in each cell of a grid over the CVs, of cells that hold one.

    Parameters
    ----------
    cvs : ndarray, shape (n, n_cvs)
        n > 0 [CV units]. The grid is over the domains of periodic CVs, over the range of others.
    variables : sequence of CollectiveVariable
    bins : int
        Along each of one or two CVs; along each of more as many as give bins^2 cells in all.
    fewest : int
        Bins along each of three or more CVs, at least.

    Returns
    -------
    ndarray of int, shape (n_cells,)
        In no order.
    """
    if len(variables) > 2:
        bins = max(fewest, int(bins ** (2 / len(variables))))
    low = np.array([v.domain[0] if v.domain else cvs[:, k].min() for k, v in enumerate(variables)])
    high = np.array([v.domain[1] if v.domain else cvs[:, k].max() for k, v in enumerate(variables)])
    places = np.floor(bins * (cvs - low) / np.maximum(high - low, 1e-12)).astype(int)
    _, first = np.unique(np.minimum(places, bins - 1), axis=0, return_index=True)
    return first


def require_near_domains(
    variables: Sequence[CollectiveVariable], values: NDArray[np.float64], name: str
) -> None:
    """Refuse values of periodic CVs that no turn explains, such as degrees of a torsion.

    Parameters
    ----------
    variables : sequence of CollectiveVariable
    values : ndarray, shape (n, n_cvs)
        [CV units]
    name : str
        Of the argument, for messages.

    Raises
    ------
    ValueError
        If one is further than half a period from its domain.
    """
    for variable, column in zip(variables, values.T, strict=True):
        if variable.domain is None or variable.period is None:
            continue
        lowest = variable.domain[0] - variable.period / 2 - 1e-6
        highest = variable.domain[1] + variable.period / 2 + 1e-6
        far = column[~((lowest <= column) & (column <= highest))]
        if len(far):
            unit = f" {variable.unit}" if variable.unit else ""
            degrees = " (angles are in rad, not in degrees)" if variable.unit == "rad" else ""
            raise ValueError(
                f"{name}: {variable.name} = {far[0]:g}{unit}; expected {lowest:.4g} to "
                f"{highest:.4g}{unit}{degrees}"
            )


def require_own_names(variables: Sequence[CollectiveVariable]) -> None:
    """Raise ValueError where two CVs have one name: what is asked of it would be of the first."""
    names = [variable.name for variable in variables]
    if again := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two CVs are called {', '.join(again)}: give each its own name")
