"""What tells Systems and integrators apart, for a saved run that is to go on in another process."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter

import openmm

from openmm_cgan.thermostats import WITHOUT_ENERGY, thermal_energy
from openmm_cgan.virtual_sites import system_without_forces

OURS = "PLUMED"  # how names of the forces of biases begin: their input is compared instead
ANY_ORDER = "any order:"  # of the forces
SITES = "virtual sites, any order:"  # with their numbers; before, their kinds were compared alone
SEED = re.compile(r' randomSeed="-?\d+"')  # the state of random numbers is in the checkpoint
VERSION = re.compile(r' openmmVersion="[^"]*"')
LOOKS = 0.002  # share of the time of a run that goes into looking whether its forces change
STEP_SIZE = re.compile(r' stepSize="[^"]*"')


def system_fingerprint(system: openmm.System) -> str:
    """A hash of particles, constraints, virtual sites and all forces but those of biases.

    Forces come with their parameters as the System has them, in whatever order they were added: two
    Systems made alike are equal, and in another version of OpenMM as well. What is before its colon
    tells it from those of earlier versions, which say nothing by being others. Of virtual sites
    that OpenMM can not write down, beside a force of which that is so, it knows the kinds alone.
    """
    bare, sites, forces = _parts(system)
    if sites and (particles := _with_sites(system)):
        return SITES + _hash([particles, *sorted(forces)])
    return _in_any_order(bare, sites, forces)


def has_fingerprint(system: openmm.System, known: str) -> bool:
    """Whether a hash that a file holds is that of a System, by this version or an earlier one.

    Those hashed forces in their order, and once OpenMM's version with them.
    """
    if known.startswith(SITES):
        return known == system_fingerprint(system)
    bare, sites, forces = _parts(system)
    if known.startswith(ANY_ORDER):
        return known == _in_any_order(bare, sites, forces)
    earlier = ([VERSION.sub("", bare), *sites, *forces], [bare, *sites, *forces])
    return known in map(_hash, earlier)


def _in_any_order(bare: str, sites: list[str], forces: list[str]) -> str:
    return ANY_ORDER + _hash([VERSION.sub("", bare), *sites, *sorted(forces)])


def _parts(system: openmm.System) -> tuple[str, list[str], list[str]]:
    """Texts of particles and constraints, of virtual sites, and of forces in their order."""
    bare = openmm.System()
    for i in range(system.getNumParticles()):
        bare.addParticle(system.getParticleMass(i))
    for i in range(system.getNumConstraints()):
        bare.addConstraint(*system.getConstraintParameters(i))
    sites = [
        f"{i} {type(system.getVirtualSite(i)).__name__}"
        for i in range(system.getNumParticles())
        if system.isVirtualSite(i)
    ]
    forces = [_text_of(force) for force in _own_forces(system)]
    return openmm.XmlSerializer.serialize(bare), sites, forces


def _with_sites(system: openmm.System) -> str | None:
    """A text of particles, virtual sites with all their numbers, and constraints."""
    try:
        bare = system_without_forces(system)
    except ValueError:
        return None
    bare.setDefaultPeriodicBoxVectors(*openmm.System().getDefaultPeriodicBoxVectors())
    return VERSION.sub("", openmm.XmlSerializer.serialize(bare))


def _own_forces(system: openmm.System) -> list[openmm.Force]:
    """All but those of our biases."""
    return [force for force in system.getForces() if not force.getName().startswith(OURS)]


def _is_of_a_bias(force: openmm.Force) -> bool:
    """Whether it has a table, as the growing bias of another program: that is told elsewhere."""
    return isinstance(force, openmm.CustomCVForce) and force.getNumTabulatedFunctions() > 0


def _text_of(force: openmm.Force) -> str:
    if isinstance(force, openmm.PythonForce):  # its function is of this process
        return f"PythonForce {force.getName()}"
    return SEED.sub("", openmm.XmlSerializer.serialize(force))


class ForceWatch:
    """Whether forces or constraints of a System are changed while it runs.

    What a Context works with can not be read, but whoever changes it changes the System first.

    Parameters
    ----------
    system : openmm.System
        With its forces as they are when it begins.
    """

    def __init__(self, system: openmm.System) -> None:
        self._known = self._now(system)

    def changed(self, system: openmm.System) -> list[str]:
        """What is another than at the beginning, in words; nothing where no look is due.

        Forces by their names, those added and removed as well, which `Context.reinitialize` takes
        up, and the constraints. Looks take `LOOKS` of the time at most, for they write all
        parameters down.
        """
        if time.monotonic() < self._due:
            return []
        now = self._now(system)
        come = Counter(name for name, _ in (now - self._known).elements())
        gone = Counter(name for name, _ in (self._known - now).elements())
        found = [f"parameters of {name}" for name in come & gone]
        found += [f"{name}, which was added," for name in come - gone]
        return found + [f"{name}, which was removed," for name in gone - come]

    def _now(self, system: openmm.System) -> Counter[tuple[str, str]]:
        begun = time.monotonic()
        found = Counter(
            (force.getName(), _hash([_text_of(force)]))
            for force in _own_forces(system)
            if not isinstance(force, WITHOUT_ENERGY) and not _is_of_a_bias(force)
        )
        held = range(system.getNumConstraints())
        texts = [str(system.getConstraintParameters(k)) for k in held]
        found["the constraints", _hash(texts)] += 1
        ended = time.monotonic()
        self._due = ended + (ended - begun) / LOOKS
        return found


def integrator_fingerprint(integrator: openmm.Integrator) -> str:
    """A hash of kind, step size, temperature and whatever else is set; not of random seeds.

    Of a CustomIntegrator its step size, temperature and computations, for its variables change as
    it runs; of one with variable steps all but the step size.
    """
    if isinstance(integrator, openmm.CustomIntegrator):
        n = integrator.getNumComputations()
        steps = [str(integrator.getComputationStep(i)) for i in range(n)]
        return _hash([str(integrator.getStepSize()), str(thermal_energy(integrator)), *steps])
    text = openmm.XmlSerializer.serialize(integrator)
    if isinstance(integrator, openmm.VariableLangevinIntegrator | openmm.VariableVerletIntegrator):
        text = STEP_SIZE.sub("", text)
    return _hash([text])


def _hash(parts: list[str]) -> str:
    text = SEED.sub("", "\n".join(parts))
    return hashlib.sha256(text.encode()).hexdigest()
