"""Biases along learned coordinates, as lines of PLUMED: one that grows, and one that is held.

Metadynamics gets over barriers, but the weights of its frames take the molecule to be in
equilibrium under the bias of each moment, which it is not where hills come quickly, and no error
bar of its frames tells. Butane in vacuum, F(0 < phi < 2.1) - F(elsewhere): 4.43 +- 0.03 kJ/mol
under a bias that does not change; of metadynamics with hills of kT / 2 each half picosecond, 22
runs of 1 ns along phi make it 4.16 +- 0.06 in the mean, each +- 0.3, and one along learned
coordinates 3.5 +- 0.3.
Frames under a bias that does not change have exact weights, so a number is taken of those.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.free_energy.biased_runs import HILLS
from openmm_cgan.free_energy.hills import hill_variables, hills_bias
from openmm_cgan.learned_variable import LearnedVariable
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.files.grid_files import GridAxis, grid_lines
from openmm_cgan.plumed.files.tables import FieldTable
from openmm_cgan.plumed.input.words import one_word

LABEL, HELD_LABEL = "cv", "held"  # of the coordinates, and of the bias that is held, in inputs
WIDTH = 1 / 15  # of a hill, in the range of a coordinate
FINE = 5  # grid points to a width
MOST_NODES = 100_000  # of a grid in a file, which is text

log = logging.getLogger("openmm_cgan")


def coordinate_names(learned: LearnedVariable) -> list[str]:
    """The coordinates of a variable that is called `LABEL`."""
    return [f"{LABEL}.node-{k}" for k in range(learned.n_coordinates)]


def hill_widths(learned: LearnedVariable) -> NDArray[np.float64]:
    """Width of hills along each coordinate, shape (n_coordinates,)."""
    return WIDTH * np.ptp(learned.values_range, axis=1)


def metadynamics_along(
    learned: LearnedVariable, height: float, pace: int, bias_factor: float
) -> str:
    """The line of metadynamics on all coordinates of a variable that is called `LABEL`.

    Parameters
    ----------
    learned : LearnedVariable
    height : float
        [energy unit of the input]
    pace : int
        Steps between hills.
    bias_factor : float
    """
    low, high = _reach(learned)
    widths = hill_widths(learned)
    words = {
        "ARG": coordinate_names(learned),
        "SIGMA": [f"{w:.6g}" for w in widths],
        "GRID_MIN": [f"{x:.6g}" for x in low],
        "GRID_MAX": [f"{x:.6g}" for x in high],
        "GRID_SPACING": [f"{w / FINE:.6g}" for w in widths],
        "HEIGHT": [f"{height:.6g}"],
        "PACE": [str(pace)],
        "BIASFACTOR": [f"{bias_factor:g}"],
        "FILE": [HILLS],
    }
    written = (f"{word}={','.join(values)}" for word, values in words.items())
    return f"METAD {' '.join(written)}\n"


def held_along(learned: LearnedVariable, path: Path) -> str:
    """The line of a bias on all coordinates that does not change, from a file of `write_held`."""
    names = ",".join(coordinate_names(learned))
    return f"{HELD_LABEL}: EXTERNAL ARG={names} FILE={one_word(path)}\n"


def write_held(path: Path, learned: LearnedVariable, hills: FieldTable) -> None:
    """Write the sum of hills as a grid that EXTERNAL reads, whole or not at all.

    Its slopes are differences between nodes: what acts and what frames record is the bias of the
    grid, whatever the hills were.

    Parameters
    ----------
    path : Path
    learned : LearnedVariable
    hills : FieldTable
        On all coordinates; heights in kJ/mol.

    Raises
    ------
    ValueError
        If the hills are of other values.
    """
    names = coordinate_names(learned)
    if hill_variables(hills) != names:
        raise ValueError(f"{hills.source} has hills of {hill_variables(hills)}, expected {names}")
    axes = _axes(learned)
    nodes = [axis.lower + np.arange(axis.nodes) * axis.step for axis in axes]
    points = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1)
    flat = hills_bias(hills, points.reshape(-1, len(axes)), UnitSystem())
    bias = flat.reshape(points.shape[:-1])
    slopes = [np.gradient(bias, axis.step, axis=k) for k, axis in enumerate(axes)]
    write_atomically(path, "".join(grid_lines(HELD_LABEL, axes, np.stack([bias, *slopes]))))


def _reach(learned: LearnedVariable) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of a grid along each coordinate, that no output is beyond, (n_coordinates,) each."""
    steps = learned.found.coordinates / learned.found.eigenvalues  # an output is a mean of these
    widths = hill_widths(learned)
    return steps.min(axis=0) - widths, steps.max(axis=0) + widths


def _axes(learned: LearnedVariable) -> list[GridAxis]:
    """Axes of a grid in a file; of a map whose outputs might reach far it is a coarse one."""
    low, high = _reach(learned)
    names, widths = coordinate_names(learned), hill_widths(learned)
    cells = np.ceil((high - low) / widths * FINE)
    most = MOST_NODES ** (1 / len(names)) - 1
    if coarse := bool((cells > most).any()):
        cells = np.minimum(cells, np.floor(most))
    if coarse and ((high - low) / cells > widths).any():
        log.warning(
            "the coordinates might reach %s times their range: the bias that is held is coarser "
            "than hills. More rounds, or landmarks, make a better map",
            np.round((high - low) / np.ptp(learned.values_range, axis=1), 1).tolist(),
        )
    axes = []
    for name, lower, upper, n in zip(names, low, high, cells.astype(int).tolist(), strict=True):
        texts = (f"{lower:.9g}", f"{upper:.9g}")
        first, last = (float(text) for text in texts)
        axes.append(GridAxis(name, texts, first, (last - first) / n, n + 1, False))
    return axes
