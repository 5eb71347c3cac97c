"""Starts for windows dragged one from the next, as is done where there is no generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from openmm_cgan.collective_variable import require_near_domains
from openmm_cgan.platforms import platform_and_properties
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.potentials import system_without
from openmm_cgan.quantities import nanometers, number_of_steps, numbers_of, positive
from openmm_cgan.seeds import seed_for_openmm
from openmm_cgan.states import default_box, positions_of
from openmm_cgan.windows.platforms import fastest_platform


@dataclass(frozen=True)
class DragSettings:
    """How a configuration is dragged from window to window.

    Parameters
    ----------
    temperature : float or Quantity
        [K]
    kappa : float
        Of the restraint that drags [energy of the input per CV unit squared].
    steps : int
        From one centre to the next.
    stages : int
        The centre moves in so many jumps.
    seed : int
    timestep, friction : float or Quantity
        [ps, 1/ps]
    platform : str, optional
        By default the one that `fastest_platform` measures.
    """

    temperature: float
    kappa: float
    steps: int = 5000
    stages: int = 50
    seed: int = 0
    timestep: float = 0.002
    friction: float = 1.0
    platform: str | None = None

    def __post_init__(self) -> None:
        for name, bare in (("temperature", "K"), ("timestep", "ps"), ("friction", "1/ps")):
            object.__setattr__(self, name, positive(vars(self)[name], bare, name))
        numbers_of(self.kappa, "kappa", "energy per CV unit squared")
        for name in ("steps", "stages"):
            number_of_steps(vars(self)[name], name)


def drag(
    bias: PlumedBias,
    system: openmm.System,
    positions: ArrayLike,
    centres: ArrayLike,
    settings: DragSettings,
) -> NDArray[np.float64]:
    """Drag a configuration from one centre to the next and keep where it arrives.

    What such starts remember is where they came from: a hidden coordinate that was slow to follow
    is still behind when the window begins.  Seeds from a generator do not have that memory.

    Parameters
    ----------
    bias : PlumedBias
        Names the CVs; its own restraints do not act.
    system : openmm.System
        Without the bias.
    positions : ndarray, shape (n_atoms, 3)
        Where the drag begins [nm].
    centres : array_like, shape (n, n_cvs)
        In the order of the drag [CV units].
    settings : DragSettings

    Returns
    -------
    ndarray, shape (n, n_atoms, 3)
        A start for each centre [nm].

    Raises
    ------
    ValueError
        If shapes do not fit, or the molecule blew up on the way.
    """
    positions, centres = nanometers(positions), numbers_of(centres, "centres")
    box = default_box(system) if system.usesPeriodicBoundaryConditions() else None
    measured = bias.restrained(np.zeros(len(bias.variables)), 0.0)
    measured.add_to(system_without(system, set()))  # whose masses count, not what `bias` knows
    here = measured.cv_values(positions, box)
    if centres.ndim != 2 or centres.shape[1] != len(here):
        raise ValueError(f"centres has shape {centres.shape}, expected (n, {len(here)})")
    require_near_domains(bias.variables, centres, "centres")
    copied = system_without(system, set())
    restraint = bias.restrained(here, settings.kappa)
    restraint.add_to(copied)
    context = _drag_context(copied, positions, settings)
    starts = np.empty((len(centres), *positions.shape))
    for i, centre in enumerate(tqdm(centres, desc="dragging", unit="window", disable=None)):
        way = [v.difference(a, b) for v, a, b in zip(bias.variables, here, centre, strict=True)]
        for part in np.linspace(0.0, 1.0, settings.stages + 1)[1:]:
            restraint.move_restraint(context, here + part * np.array(way))
            context.getIntegrator().step(max(1, settings.steps // settings.stages))
        here = centre
        state = context.getState(positions=True)
        starts[i] = positions_of(state)
        if not np.isfinite(starts[i]).all():
            raise ValueError(
                f"the molecule blew up on the way to centre {i}, {centre.tolist()}; drag more "
                "slowly (steps) or more softly (kappa)"
            )
    return starts


def _drag_context(
    system: openmm.System, positions: NDArray, settings: DragSettings
) -> openmm.Context:
    integrator = openmm.LangevinMiddleIntegrator(
        settings.temperature, settings.friction, settings.timestep
    )
    integrator.setRandomNumberSeed(seed_for_openmm(settings.seed))
    name = settings.platform or fastest_platform(system, positions)
    context = openmm.Context(system, integrator, *platform_and_properties(name))
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, 10.0, 200)
    context.setVelocitiesToTemperature(settings.temperature, settings.seed)
    return context
