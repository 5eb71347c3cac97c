"""Quantities of configurations that are to be averaged, one value or array for each sample.

PLUMED values are those of ``PlumedBias(input, topology, cvs=[...]).cv_values(positions, box)``, and
columns of a table that the run wrote are arrays already; here are functions of positions in torch
and of MDAnalysis's atoms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmm_cgan.free_energy.samples import WeightedSamples
from openmm_cgan.quantities import nanometers

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 4096


def of_samples(samples: WeightedSamples, values: Sequence[ArrayLike]) -> NDArray[Any]:
    """Take the values of samples from those of all frames of each window.

    Parameters
    ----------
    samples : WeightedSamples
        They may be fewer than the frames.
    values : sequence of array_like, shape (n_frames, ...)
        Of all frames of each window (run), in the order in which these were given; of generated
        configurations, in one array for their number.

    Returns
    -------
    ndarray, shape (n, ...)

    Raises
    ------
    ValueError
        If there are other windows, or one has too few values.
    """
    arrays = [np.asarray(own) for own in values]
    if len(arrays) != len(samples.inefficiencies):
        raise ValueError(
            f"values of {len(arrays)} windows, the samples are of {len(samples.inefficiencies)}"
        )
    sizes = [
        int(samples.frame[samples.window == i].max(initial=-1)) + 1 for i in range(len(arrays))
    ]
    for i, (own, size) in enumerate(zip(arrays, sizes, strict=True)):
        if len(own) < size:
            raise ValueError(
                f"window {i} has {len(own)} values, its samples go to frame {size - 1}"
            )
    starts = np.cumsum([0, *map(len, arrays[:-1])])
    return np.concatenate(arrays)[starts[samples.window] + samples.frame]


def of_positions(function: Callable[[Tensor], Tensor], positions: ArrayLike) -> NDArray[np.float64]:
    """Values of a torch function of positions, in batches.

    Parameters
    ----------
    function : callable
        Positions, a float64 tensor (n, n_atoms, 3) [nm], to values (n, ...), such as
        `PlumedBias.differentiable_cvs`.
    positions : array_like, shape (n, n_atoms, 3)
        [nm]

    Returns
    -------
    ndarray, shape (n, ...)

    Raises
    ------
    ValueError
        If the function does not give one row for each configuration.
    """
    import torch

    x, rows = nanometers(positions), []
    with torch.no_grad():
        for i in range(0, len(x), BATCH):
            batch = torch.from_numpy(x[i : i + BATCH])
            own = function(batch)
            if own.ndim == 0 or len(own) != len(batch):
                raise ValueError(
                    f"values have shape {tuple(own.shape)} for {len(batch)} configurations; "
                    "expected (n, ...), one row for each"
                )
            rows.append(own.numpy())
    return np.concatenate(rows) if rows else np.empty(0)


def of_atoms(
    function: Callable[[Any], ArrayLike],
    universe: Any,
    positions: ArrayLike,
    box: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Values of a function of MDAnalysis's atoms, frame by frame.

    Parameters
    ----------
    function : callable
        The universe, standing at a frame, to a number or an array.
    universe : MDAnalysis.Universe
        Of the same atoms; its positions are left at the last frame.
    positions : array_like, shape (n, n_atoms, 3)
        [nm]; MDAnalysis sees angstroms.
    box : array_like, shape (n, 3, 3), optional
        Box vectors in rows [nm].

    Returns
    -------
    ndarray, shape (n, ...)

    Raises
    ------
    ValueError
        If the universe has other atoms, or boxes are not one for each configuration.
    """
    from MDAnalysis.lib.mdamath import triclinic_box

    x = nanometers(positions)
    if x.ndim != 3 or x.shape[1] != len(universe.atoms):
        raise ValueError(
            f"configurations have shape {x.shape}; expected (n, {len(universe.atoms)}, 3), the "
            "atoms of the universe"
        )
    boxes = None if box is None else 10.0 * nanometers(box)
    if boxes is not None and boxes.shape != (len(x), 3, 3):
        raise ValueError(f"boxes have shape {boxes.shape}; expected ({len(x)}, 3, 3)")
    values = []
    for i, frame in enumerate(x):
        universe.atoms.positions = 10.0 * frame
        if boxes is not None:
            universe.dimensions = triclinic_box(*boxes[i])
        values.append(np.asarray(function(universe), dtype=float))
    return np.array(values)
