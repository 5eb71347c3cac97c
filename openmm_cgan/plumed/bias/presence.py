"""The forces of a bias in a System, and which Contexts contain them."""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import openmm

from openmm_cgan.plumed.native.forces.system_box import MARKER, MEASURES, bias_number, marker_force

if TYPE_CHECKING:
    from openmm.app import Simulation

log = logging.getLogger("openmm_cgan")

# Forces that know the Contexts they are in. PythonForce, and PLUMED's own, do not.
WITNESSES = (
    openmm.CustomAngleForce,
    openmm.CustomBondForce,
    openmm.CustomCentroidBondForce,
    openmm.CustomCompoundBondForce,
    openmm.CustomCVForce,
    openmm.CustomExternalForce,
    openmm.CustomTorsionForce,
)


def free_force_group(system: openmm.System, wanted: int | None) -> int:
    """The force group wanted, or the highest that no force of a System is in.

    Raises
    ------
    RuntimeError
        If there is none.
    ValueError
        If the one wanted is none, or not free.
    """
    used = {force.getForceGroup() for force in system.getForces()}
    free = set(range(32)) - used
    if wanted is not None and wanted not in free:
        raise ValueError(
            f"force_group is {wanted}: the bias needs one of 0 to 31 without other forces; "
            f"free are {sorted(free)}"
        )
    if not free:
        raise RuntimeError("no force group is free: the System's forces use all 32")
    return max(free) if wanted is None else wanted


_living: weakref.WeakSet[Presence] = weakref.WeakSet()


class Presence:
    """Forces that are added to a System, and known in the Contexts that are made from it after.

    Where none of them knows its Contexts, a force that does nothing marks them.

    Parameters
    ----------
    forces : sequence of openmm.Force
    system : openmm.System
    group : int
        Their force group.
    to_a_copy : bool
        Whether the System is a copy that we have made: what else is in it is known.
    does_more : bool
        Whether the input does anything between steps, for which it must be attached.
    """

    def __init__(
        self,
        forces: Sequence[openmm.Force],
        system: openmm.System,
        group: int,
        to_a_copy: bool = False,
        does_more: bool = False,
    ) -> None:
        if not to_a_copy:
            _warn_of_foreign_forces(system)
        self._witness = next((force for force in forces if isinstance(force, WITNESSES)), None)
        self._system = system  # the forces are its own, and end with it
        self._marker = ""  # without a witness, a parameter of the Context
        added = list(forces)
        if self._witness is None:
            self._marker = f"openmm_cgan_bias_{bias_number(system)}"
            added.append(marker_force(self._marker))
        for force in added:
            force.setForceGroup(group)
            system.addForce(force)
        self._forces = added
        self._addresses = {int(force.this) for force in added}
        self._seen = system.getNumForces()  # to look closely only where it has changed
        names = ", ".join(force.getName() for force in forces)
        self._said = weakref.finalize(self, _say_never_attached, names)  # at exit, or before
        if not does_more or to_a_copy:
            self._said.detach()
        _living.add(self)

    def keeps(self, force: openmm.Force, system: openmm.System) -> bool:
        """Whether a force of a System is one of these."""
        return system.this == self._system.this and force.getForceGroup() in self.groups

    @property
    def groups(self) -> set[int]:
        """The force groups that they are in now: a script may number those of a System anew."""
        return {force.getForceGroup() for force in self._forces}

    def require_own_groups(self) -> None:
        """Check that no other force has come into their groups.

        Raises
        ------
        ValueError
            If one has: energies with and without the bias could not be told apart.
        """
        groups = self.groups
        names = [f.getName() for f in self._system.getForces() if f.getForceGroup() in groups]
        if len(names) == len(self._forces):
            return
        raise ValueError(
            f"force groups {sorted(groups)} hold the bias and other forces ({', '.join(names)}): "
            "they were set after bias.add_to(system), and energies with and without the bias "
            "could not be told apart; set them before add_to, or leave the bias a group of its own"
        )

    def require_kept(self) -> None:
        """Check that the System still has all of its forces, which nothing else keeps alive.

        Raises
        ------
        RuntimeError
            If one was removed.
        """
        if (now := self._system.getNumForces()) == self._seen:
            return
        if self._addresses <= {int(force.this) for force in self._system.getForces()}:
            self._seen = now
            return
        raise RuntimeError(
            "forces of the bias were removed from its System: nothing keeps them up to date, and "
            "what is measured of the bias is not what acts. To go on without it, make a System and "
            "a Simulation that it is not added to, and measure by an input that only prints the CVs"
        )

    def require_in(self, simulation: Simulation) -> None:
        """Check that the Context of a Simulation contains the forces.

        Raises
        ------
        RuntimeError
            If not: a Context is a copy of what the System was when it was made.
        """
        self.require_kept()
        if not self._is_in(simulation.context):
            if self._system.this != simulation.system.this:
                require_no_foreign(simulation.system)
            raise RuntimeError(
                "the Simulation's Context does not contain the bias: call bias.add_to(system) "
                "before Simulation(topology, system, integrator), with the same System"
            )

    def say_not_attached(self) -> None:
        """Say what then is not done, once, if the input does anything between steps."""
        self._said()

    def say_no_more(self) -> None:
        """It is attached, or that it is not has been said."""
        self._said.detach()

    def _is_in(self, context: openmm.Context) -> bool:
        if self._witness is None:
            return self._marker in dict(context.getParameters())
        try:
            self._witness.updateParametersInContext(context)
        except openmm.OpenMMException as error:
            if "not present in the Context" in str(error):
                return False
            raise
        return True


def _say_never_attached(names: str) -> None:
    if getattr(sys, "last_value", None) is not None:
        return  # a script that ends by an error came no further
    log.warning(
        "%s: the bias was added to a System and never attached: what it does between steps is "
        "not done, no hill laid, nothing moved, nothing written; only forces that never change "
        "act. Call bias.attach(simulation) after Simulation(...)",
        names,
    )


REMOVE = (
    "Remove them: for i in reversed(range(system.getNumForces())): "
    "if system.getForce(i).getName().startswith('PLUMED'): system.removeForce(i)"
)


def require_no_foreign(system: openmm.System) -> None:
    """Check, where a bias is not in a System, that no bias of another process is.

    Raises
    ------
    RuntimeError
        That says how they are taken out.
    """
    if _foreign_forces(system):
        raise RuntimeError(
            "the Simulation's System has forces of a bias, but not of this one: they were "
            "read back from a file, or copied, and no bias keeps them up to date. "
            f"{REMOVE}; then bias.add_to(system), before Simulation(...)"
        )


def tell_others(own: Presence | None, system: openmm.System, source: str) -> None:
    """Say in the log which other biases act in a System where one measures frames.

    Parameters
    ----------
    own : Presence or None
        Of the one that measures, where it is in a System.
    system : openmm.System
        Of the run.
    source : str
        Its input, in words.
    """
    names = [
        force.getName()
        for force in system.getForces()
        if force.getName().startswith("PLUMED")
        and force.getName() not in (MARKER, MEASURES)
        and not (own is not None and own.keeps(force, system))
    ]
    if names:
        log.warning(
            "beside %s the System has forces of another bias: %s. The bias energy in frames is "
            "that of %s alone, and weights made of it do not know of the other: to weigh frames, "
            "have all biases in one input", source, ", ".join(names), source,
        )  # fmt: skip


def _foreign_forces(system: openmm.System) -> list[str]:
    """Names of the forces of biases in a System that no PlumedBias of this process keeps."""
    return [
        force.getName()
        for force in system.getForces()
        if force.getName().startswith("PLUMED")
        and not any(presence.keeps(force, system) for presence in _living)
    ]


def _warn_of_foreign_forces(system: openmm.System) -> None:
    """Say in the log that a System has forces of a bias that is not in this process."""
    if names := _foreign_forces(system):
        log.warning(
            "the System has forces of a bias that is not here: %s. Those read back from a file act "
            "as they were when it was written, beside this bias. %s",
            ", ".join(names),
            REMOVE,
        )
