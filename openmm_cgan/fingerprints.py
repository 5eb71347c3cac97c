"""What tells Systems and integrators apart, for a saved run that is to go on in another process."""

from __future__ import annotations

import hashlib
import re

import openmm

from openmm_cgan.thermostats import thermal_energy

OURS = "PLUMED"  # how names of the forces of biases begin: their input is compared instead
SEED = re.compile(r' randomSeed="-?\d+"')  # the state of random numbers is in the checkpoint
VERSION = re.compile(r' openmmVersion="[^"]*"')
STEP_SIZE = re.compile(r' stepSize="[^"]*"')


def system_fingerprint(system: openmm.System, versioned: bool = False) -> str:
    """A hash of particles, constraints, virtual sites and all forces but those of biases.

    Forces come with their parameters as the System has them; two Systems made alike are equal, and
    in another version of OpenMM as well unless `versioned`, as it was in earlier files.
    """
    bare = openmm.System()
    for i in range(system.getNumParticles()):
        bare.addParticle(system.getParticleMass(i))
    for i in range(system.getNumConstraints()):
        bare.addConstraint(*system.getConstraintParameters(i))
    text = openmm.XmlSerializer.serialize(bare)
    parts = [text if versioned else VERSION.sub("", text)]
    parts += [
        f"{i} {type(system.getVirtualSite(i)).__name__}"
        for i in range(system.getNumParticles())
        if system.isVirtualSite(i)
    ]
    for force in system.getForces():
        if force.getName().startswith(OURS):
            continue
        if isinstance(force, openmm.PythonForce):  # its function is of this process
            parts.append(f"PythonForce {force.getName()}")
        else:
            parts.append(openmm.XmlSerializer.serialize(force))
    return _hash(parts)


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
