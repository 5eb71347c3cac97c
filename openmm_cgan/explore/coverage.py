"""Where biased runs have been: states, cells, wells of torsions that no CV is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable, first_of_each_cell
from openmm_cgan.explore.evidence import Coverage
from openmm_cgan.explore.torsions import TurningTorsion, hops, never_seen, wells
from openmm_cgan.frames import Frames
from openmm_cgan.free_energy.differences import StateDifference

CELLS = 12  # along each CV
STAYED = 5  # frames in a state that make an arrival
OFTEN = 0.02  # of the hot frames, in a place that no biased run has seen


def coverage_of(
    runs: Sequence[Frames], difference: StateDifference, hidden: Sequence[TurningTorsion]
) -> Coverage:
    """Where runs have been.

    Parameters
    ----------
    runs : sequence of Frames
        Each in the order of time.
    difference : StateDifference
        Between two states.
    hidden : sequence of TurningTorsion
    """
    sides = [difference.sides(run.cvs, run.variables) for run in runs]
    visited = {side for of_run in sides for side in of_run.tolist()}
    counts = {}
    for torsion in hidden:
        angles = [torsion.values(run.positions) for run in runs]
        borders = wells(np.concatenate(angles))
        if len(borders) > 1:
            counts[torsion.name] = sum(hops(of_run, borders) for of_run in angles)
    return Coverage(
        frames=sum(len(run) for run in runs),
        crossings=sum(crossings(of_run) for of_run in sides),
        missing=[name for side, name in enumerate(("first", "second")) if side not in visited],
        new_share=new_share(runs[0].cvs, runs[0].variables),
        hops=counts,
    )


def crossings(sides: NDArray[np.int64]) -> int:
    """How often a run went from one state to the other and stayed.

    A run on the border of two states is in each by turns, and goes nowhere.

    Parameters
    ----------
    sides : ndarray of int, shape (n_frames,)
        0 and 1, -1 in neither, in the order of time.
    """
    if len(sides) < STAYED:
        return 0
    windows = np.lib.stride_tricks.sliding_window_view(sides, STAYED)
    arrived = windows[(windows == windows[:, :1]).all(axis=1), 0]
    arrived = arrived[arrived >= 0]
    return int((np.diff(arrived) != 0).sum())


def new_share(cvs: NDArray[np.float64], variables: Sequence[CollectiveVariable]) -> float:
    """Share of the cells visited that were first visited in the last third of the frames.

    Parameters
    ----------
    cvs : ndarray, shape (n, n_cvs)
        In the order of time [CV units].
    variables : sequence of CollectiveVariable
    """
    first = first_of_each_cell(cvs, variables, CELLS, 3)
    return float((first >= 2 * len(cvs) / 3).mean())


def unseen_wells(
    hidden: Sequence[TurningTorsion], hot: NDArray, runs: Sequence[Frames]
) -> list[str]:
    """Torsions of which a hot run has seen what no biased run has.

    Parameters
    ----------
    hidden : sequence of TurningTorsion
    hot : ndarray, shape (n, n_atoms, 3)
        Frames of a hot run [nm].
    runs : sequence of Frames
    """
    found = []
    for torsion in hidden:
        visited = np.concatenate([torsion.values(run.positions) for run in runs])
        if never_seen(torsion.values(hot), visited).mean() > OFTEN:
            found.append(torsion.name)
    return found
