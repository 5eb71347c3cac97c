"""What a sampler was trained on, held against the simulation that it proposes to."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from openmm_cgan.fingerprints import has_fingerprint
from openmm_cgan.frames import topology_hash
from openmm_cgan.proposals import Sampler, TiedSampler

if TYPE_CHECKING:
    from openmm.app import Simulation

ALIKE = 0.01  # K

log = logging.getLogger("openmm_cgan")


def warn_of_other_ensemble(sampler: Sampler, simulation: Simulation, temperature: float) -> None:
    """Say where a sampler was trained on another ensemble than that of a simulation at [K]."""
    if told := other_ensemble(sampler, simulation, temperature):
        log.warning(
            "the sampler was trained on frames of %s: what it makes is of that ensemble; exact "
            "weights make up for it, and accept less often, seeds sample this run's ensemble only "
            "after they have settled", told,
        )  # fmt: skip


def other_ensemble(sampler: Sampler, simulation: Simulation, temperature: float) -> str:
    """What is known to differ between the ensemble of the training and that of a simulation.

    The molecule is the same (see `generated_atoms`); what is around it, the force field and the
    temperature need not be.

    Parameters
    ----------
    sampler : Sampler
    simulation : openmm.app.Simulation
        Only read.
    temperature : float
        Of the simulation [K].

    Returns
    -------
    str
        In words; empty where nothing does.
    """
    told = []
    whole = sampler.topology_hash
    if whole and whole != topology_hash(simulation.topology):
        told.append("a system with other molecules or other names around it")
    if not isinstance(sampler, TiedSampler):
        return ", ".join(told)
    if sampler.system_hash and not has_fingerprint(simulation.system, sampler.system_hash):
        told.append("another System (force field, constraints, solvent or barostat)")
    trained = sampler.temperature
    if trained is not None and abs(trained - temperature) > ALIKE:
        told.append(f"a run at {trained:g} K, not {temperature:g} K")
    return ", ".join(told)
