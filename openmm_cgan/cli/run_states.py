"""Where a biased run from files stands: what it saves as it ends, and what it goes on from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import openmm
from openmm import app

from openmm_cgan.atomic_files import replacing, write_atomically
from openmm_cgan.checkpoints import Keeper, save_run
from openmm_cgan.openmm_xml import from_xml
from openmm_cgan.states import is_finite

logger = logging.getLogger("openmm_cgan")

STATE = "state.xml"  # for programs, platforms and versions other than that of the checkpoint
CHECKPOINT = "run.chk"
NOT_FINITE = "not_finite.xml"


def save_end(simulation: app.Simulation, keepers: Mapping[str, Keeper], folder: Path) -> None:
    """Save where the run stands between two steps; what is not finite is not saved."""
    if not is_finite(simulation):
        logger.warning("step %d is not finite and not saved", simulation.currentStep)
        return
    _save_state(simulation, folder / STATE)
    if (folder / CHECKPOINT).exists():
        save_run(folder / CHECKPOINT, simulation, keepers)


def save_broken(simulation: app.Simulation, folder: Path) -> None:
    """Save a run that broke off in a step, only where it has no checkpoint to go back to.

    Some reporters have seen that step and others have not: who went on from it would miss what
    these had to do.
    """
    if is_finite(simulation) and not (folder / CHECKPOINT).exists():
        _save_state(simulation, folder / STATE)


def save_not_finite(simulation: app.Simulation, folder: Path) -> Path:
    """Save for whoever looks for the reason what no run goes on from; the file."""
    path = folder / NOT_FINITE
    state = simulation.context.getState(positions=True, velocities=True)
    write_atomically(path, openmm.XmlSerializer.serialize(state))
    return path


def load_state(simulation: app.Simulation, path: Path) -> None:
    """Positions, velocities, box, time and step; parameters are the bias's own to restore."""
    state = from_xml(path.read_text(), openmm.State, path)
    context = simulation.context
    context.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
    context.setPositions(state.getPositions())
    context.setVelocities(state.getVelocities())
    context.setTime(state.getTime())
    simulation.currentStep = state.getStepCount()


def _save_state(simulation: app.Simulation, path: Path) -> None:
    with replacing(path) as unfinished:
        simulation.saveState(str(unfinished))
    logger.info("state at step %d saved to %s", simulation.currentStep, path)
