"""Which OpenMM platform is the fastest for a system: measured, for it can not be told by its size.

Reference is eight times faster than CPU on 22 atoms in vacuum and several times slower with an
implicit solvent.
"""

from __future__ import annotations

import hashlib
import logging
import time

import numpy as np
import openmm
from numpy.typing import ArrayLike

logger = logging.getLogger("openmm_cgan")

SECONDS = 0.3  # measured on each platform
TOO_MANY_FOR_REFERENCE = 5000  # one step would take seconds
_FASTEST: dict[str, str] = {}


def fastest_platform(system: openmm.System, positions: ArrayLike) -> str:
    """Name of the OpenMM platform that makes the most steps a second on this machine.

    Measured for about 0.3 s on each platform that can run the system, once for each system in a
    process.

    Parameters
    ----------
    system : openmm.System
    positions : ndarray, shape (n_atoms, 3)
        [nm]

    Raises
    ------
    RuntimeError
        If no platform can run the system.
    """
    key = hashlib.sha256(openmm.XmlSerializer.serialize(system).encode()).hexdigest()
    if key not in _FASTEST:
        rates = steps_per_second(system, positions)
        if not rates:
            raise RuntimeError("no OpenMM platform can run this system")
        _FASTEST[key] = max(rates, key=lambda name: rates[name])
        measured = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
        logger.info("platform %s taken (steps/s: %s)", _FASTEST[key], measured)
    return _FASTEST[key]


def steps_per_second(system: openmm.System, positions: ArrayLike) -> dict[str, float]:
    """How quick each OpenMM platform is that can run a system on this machine.

    Parameters
    ----------
    system : openmm.System
    positions : ndarray, shape (n_atoms, 3)
        [nm]

    Returns
    -------
    dict of str to float
        Steps a second by platform; Reference is left out where a step would take seconds.
    """
    rates: dict[str, float] = {}
    for i in range(openmm.Platform.getNumPlatforms()):
        platform = openmm.Platform.getPlatform(i)
        name = platform.getName()
        if name == "Reference" and system.getNumParticles() > TOO_MANY_FOR_REFERENCE:
            continue
        try:
            rates[name] = _steps_per_second(system, np.asarray(positions, float), platform)
        except openmm.OpenMMException as error:  # no such device here
            logger.debug("platform %s: %s", name, error)
    return rates


def _steps_per_second(
    system: openmm.System, positions: np.ndarray, platform: openmm.Platform
) -> float:
    # Verlet draws no random numbers: on Reference those would come from a running simulation's
    integrator = openmm.VerletIntegrator(1e-5)  # short steps, in case the start is strained
    context = openmm.Context(system, integrator, platform)
    context.setPositions(positions)
    integrator.step(2)
    done, batch, start = 0, 1, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SECONDS:
        integrator.step(batch)
        context.getState(positions=True)  # waits for a GPU
        done += batch
        batch = min(2 * batch, 4096)
    return done / elapsed
