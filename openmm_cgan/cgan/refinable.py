"""What can be refined on an energy, and where: looked at before anything is evaluated."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from openmm_cgan.cgan.conditional_generator import ConditionalGenerator
from openmm_cgan.cgan.divergences import Energy
from openmm_cgan.cgan.part_targets import WholeEnergy
from openmm_cgan.cgan.training_data import TrainingData
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.quantities import kelvin, numbers_of


def temperature_for(gan: ConditionalGenerator, temperature: Any) -> float:
    """The temperature [K] at which a generator is refined, by default that of its frames.

    Raises
    ------
    ValueError
        If the generator cannot be refined, or there is no temperature.
    """
    if not gan.has_density:
        raise ValueError(
            f"refining needs a density, and a {type(gan.generator).__name__} has none: train with"
            ' TrainingSettings(generator="FlowGenerator")'
        )
    blurred = [gan.variables[k] for k in np.flatnonzero(gan.condition_noise)]
    if others := [v.name for v in blurred if not _is_of_rest(v, gan)]:
        part = " of the part, or TORSION, ANGLE, DISTANCE of other atoms" if len(gan.rest) else ""
        them = f"{', '.join(others)} {'is' if len(others) == 1 else 'are'}"
        raise ValueError(
            f"refining needs CVs that are bonds, angles or torsions along bonds{part}; {them} not: "
            "the model knows them with noise. Take the model as it is, which exact moves and "
            "importance samples do, or train one on frames of a run with such CVs"
        )
    temperature = gan.temperature if temperature is None else kelvin(temperature)
    if temperature is None:
        raise ValueError("the frames had no temperature: give refine(..., temperature=300)")
    return temperature


def _is_of_rest(variable: CollectiveVariable, gan: ConditionalGenerator) -> bool:
    """Whether a CV is known to depend on none of the atoms of a part."""
    known = len(gan.rest) > 0 and len(variable.atoms) > 0
    return known and not set(variable.atoms) & set(gan.atoms.tolist())


def conditions_for(
    gan: ConditionalGenerator,
    energy: Energy,
    conditions: Any,
    frames: TrainingData | None,
    seed: int,
) -> Tensor | None:
    """CV values (n, n_cvs) that were asked for; None if they are those of the frames.

    Of a part one row for each of the frames, with which of the conditions is drawn.

    Raises
    ------
    ValueError
        If neither conditions nor frames are given, or not what a part needs.
    TypeError
        If a part is refined on an energy that is of no whole System.
    """
    if conditions is None and frames is None:
        raise ValueError("refine(...): expected conditions, or frames whose CVs they are")
    asked = None
    if conditions is not None:
        asked = torch.as_tensor(numbers_of(conditions, "conditions"))
    if not len(gan.rest):
        return asked
    if frames is None or frames.rests is None:
        raise ValueError(
            "a part is refined among the rest of frames: give refine(..., frames=rows_for(gan,"
            " frames, topology)), of frames with all atoms"
        )
    if not isinstance(energy, WholeEnergy):
        raise TypeError(f"{type(energy).__name__}: expected a Potential of the whole System")
    return None if asked is None else _of_part(gan, asked, frames.cvs, seed)


def _of_part(gan: ConditionalGenerator, asked: Tensor, cvs: Tensor, seed: int) -> Tensor:
    """CVs (n, n_cvs) of frames, with those that a part moves drawn from asked (m, n_moved)."""
    moved = list(gan.features.placed_variables)
    if asked.ndim != 2 or asked.shape[1] != len(moved) or not moved:
        names = ", ".join(gan.variables[k].name for k in moved) or "none: leave them out"
        raise ValueError(
            f"conditions have shape {tuple(asked.shape)}; expected the CVs that the part moves,"
            f" {names}"
        )
    rng, made = torch.Generator().manual_seed(seed), cvs.clone()
    made[:, moved] = asked[torch.randint(len(asked), (len(cvs),), generator=rng)].to(cvs)
    return made
