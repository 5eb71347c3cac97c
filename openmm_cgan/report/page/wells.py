"""Wells of a profile: where it is low, and the passes between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Well:
    """A stretch of bins around a minimum.

    Attributes
    ----------
    lowest : int
        The bin of the minimum.
    bins : tuple of int
        All bins that belong to it.
    """

    lowest: int
    bins: tuple[int, ...]


def wells_of(free_energy: ArrayLike, periodic: bool, least: float) -> list[Well]:
    """Wells whose lowest pass to a deeper one is high enough, the deepest first.

    Bins are taken from the lowest up; a bin joins the wells beside it, and of two that meet there
    the shallower one ends if its minimum is less than `least` below (persistence).

    Parameters
    ----------
    free_energy : array_like, shape (n_bins,)
        NaN where it is not known; such bins part wells.
    periodic : bool
        Whether the last bin is beside the first.
    least : float
        Depth below the pass [the unit of the free energy].

    Examples
    --------
    >>> [well.lowest for well in wells_of([0.0, 9.0, 3.0, 4.0, 2.0, 9.0], False, 2.0)]
    [0, 4]
    """
    values = np.asarray(free_energy, dtype=float)
    n, owner = len(values), np.full(len(values), -1)
    members: dict[int, list[int]] = {}
    for i in np.argsort(values, kind="stable"):
        if not np.isfinite(values[i]):
            break
        beside = {int(owner[k]) for k in _neighbours(i, n, periodic) if owner[k] >= 0}
        order = sorted(beside, key=lambda lowest: (values[lowest], lowest))
        if not order:
            owner[i], members[int(i)] = i, [int(i)]
            continue
        for shallow in order[1:]:
            if values[i] - values[shallow] < least:
                _move(members, owner, shallow, order[0])
        kept = order[0]
        owner[i] = kept
        members[kept].append(int(i))
    ordered = sorted(members, key=lambda lowest: (values[lowest], lowest))
    return [Well(lowest, tuple(sorted(members[lowest]))) for lowest in ordered]


def _neighbours(i: int, n: int, periodic: bool) -> list[int]:
    beside = [i - 1, i + 1]
    return [k % n for k in beside] if periodic else [k for k in beside if 0 <= k < n]


def _move(members: dict[int, list[int]], owner: NDArray, source: int, target: int) -> None:
    owner[members[source]] = target
    members[target] += members.pop(source)
