"""A bias for an input that names CVs and has none: metadynamics, its widths from a short run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.biased_runs import HILLS
from openmm_cgan.free_energy.hills import units_of_input
from openmm_cgan.plumed.input.language import include_files, read_statements, read_text
from openmm_cgan.plumed.input.moved import text_elsewhere
from openmm_cgan.plumed.libplumed.statements import BIASES

HEIGHT = 1.2  # kT: rough, for what is wanted first is that the run gets everywhere
PACE = 100  # steps
GENTLE_HEIGHT, GENTLE_PACE = 0.5, 500
GENTLY = 2  # less bias than gets over the barrier by itself: frames under it are to be weighed
BLOCKS = 10  # of the short run: a CV that changed its basin in it is as wide as in one
WIDEST = 1 / 12  # of a period
FINE = 5  # grid points to a width


def has_bias(plumed_input: str | Path) -> bool:
    """Whether something in an input, or in a file that it includes, biases."""
    text, source = read_text(plumed_input)
    folder = Path() if text is plumed_input else Path(source).parent
    followed = include_files(read_statements(text, source), folder)
    return any(statement.action in BIASES for statement in followed)


def bias_factor_for(barrier: float, kT: float, gently: bool) -> float:
    """BIASFACTOR under which a run gets over a barrier [kJ/mol], or by half of it and kT."""
    return max(2.0, barrier / kT / (GENTLY if gently else 1))


def widths_of(
    cvs: NDArray[np.float64], variables: Sequence[CollectiveVariable]
) -> NDArray[np.float64]:
    """How far CVs fluctuate within a basin: the median of their spread in tenths of a run.

    Parameters
    ----------
    cvs : ndarray, shape (n_frames, n_cvs)
        Without a bias, in the order of time [CV units].
    variables : sequence of CollectiveVariable

    Returns
    -------
    ndarray, shape (n_cvs,)
        Of periodic CVs a twelfth of the period at most [CV units].

    Raises
    ------
    ValueError
        If there are fewer than 2 frames to a tenth, or a CV does not move.
    """
    if len(cvs) < 2 * BLOCKS:
        raise ValueError(f"{len(cvs)} frames of the run without a bias, {2 * BLOCKS} are needed")
    found = []
    for k, variable in enumerate(variables):
        spreads = []
        for block in np.array_split(cvs[:, k], BLOCKS):
            spreads.append(variable.difference(block[0], block).std())
        width = float(np.median(spreads))
        if variable.period is not None:
            width = min(width, WIDEST * variable.period)
        if not width > 0:
            raise ValueError(f"the CV {variable.name} does not move in a run without a bias")
        found.append(width)
    return np.array(found)


def with_metadynamics(
    plumed_input: str | Path,
    variables: Sequence[CollectiveVariable],
    widths: NDArray[np.float64],
    temperature: float,
    barrier: float,
    gently: bool = False,
) -> tuple[str, str]:
    """An input with well-tempered metadynamics on its CVs.

    Parameters
    ----------
    plumed_input : str or Path
        The input, or the text itself if it contains a newline.
    variables : sequence of CollectiveVariable
        What is biased.
    widths : ndarray, shape (n_cvs,)
        Of the hills [CV units].
    temperature : float
        [K]
    barrier : float
        What the run is to get over: the bias factor is this over kT, 2 at least [kJ/mol].
    gently : bool
        Low hills, laid seldom: for a run whose frames are to be weighed, and which gets about by
        other means.

    Returns
    -------
    text, action : str
        The whole input, and the line that was added.
    """
    text, source = read_text(plumed_input)
    text = text_elsewhere(text, source, Path())  # for the folders of runs
    kT = GAS_CONSTANT * temperature
    height = (GENTLE_HEIGHT if gently else HEIGHT) * kT / units_of_input(plumed_input).energy
    words = [
        f"ARG={','.join(v.name for v in variables)}",
        f"SIGMA={','.join(f'{width:.4g}' for width in widths)}",
        f"HEIGHT={height:.4g}",
        f"BIASFACTOR={bias_factor_for(barrier, kT, gently):.4g}",
        f"TEMP={temperature:g}",
        f"PACE={GENTLE_PACE if gently else PACE}",
        f"FILE={HILLS}",
    ]
    if all(v.domain is not None for v in variables) and len(variables) < 4:
        bounds = [v.domain for v in variables if v.domain is not None]
        points = [
            int(np.ceil((high - low) / width * FINE))
            for (low, high), width in zip(bounds, widths, strict=True)
        ]
        for name, column in zip(("MIN", "MAX"), zip(*bounds, strict=True), strict=True):
            words.append(f"GRID_{name}={','.join(_bound(value) for value in column)}")
        words.append(f"GRID_BIN={','.join(map(str, points))}")
    action = "METAD " + " ".join(words)
    return text.rstrip("\n") + f"\n{action}\n", action


def _bound(value: float) -> str:
    """An end of a domain as PLUMED has it: of a torsion pi, not a number near it."""
    if abs(abs(value) - np.pi) < 1e-9:
        return "pi" if value > 0 else "-pi"
    return repr(float(value))
