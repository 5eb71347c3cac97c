"""The State of a run as XML: for other platforms and versions of OpenMM than its checkpoint.

The states of random numbers are not in it: a run that goes on from it is exact in distribution.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import openmm

from openmm_cgan.openmm_xml import from_xml

if TYPE_CHECKING:
    from openmm.app import Simulation

PARAMETERS = re.compile(r"<Parameters\b[^>]*/>")


def portable_state(context: openmm.Context) -> str:
    """Positions, velocities, box, time, step, and parameters of a Context and its integrator."""
    state = context.getState(
        positions=True, velocities=True, parameters=True, integratorParameters=True
    )
    return str(openmm.XmlSerializer.serialize(state))


def load_portable(simulation: Simulation, text: str) -> None:
    """Bring a Simulation to a `portable_state`; parameters that its Context lacks are passed over.

    Raises
    ------
    openmm.OpenMMException
        If it is of another System or integrator.
    """
    context, known = simulation.context, set(simulation.context.getParameters())
    where = "the State in XML of the checkpoint"
    saved = dict(from_xml(text, openmm.State, where).getParameters())
    # a bias that is taken off or named otherwise would have OpenMM refuse the whole
    context.setState(from_xml(PARAMETERS.sub("", text), openmm.State, where))
    for name in known & saved.keys():
        context.setParameter(name, saved[name])
