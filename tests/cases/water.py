"""Alanine dipeptide among rigid waters, in a small periodic box."""

import functools

import numpy as np
import openmm
from openmm import app, unit

from openmm_cgan.testsystems import Molecule, alanine_dipeptide

N_SOLUTE = 22


@functools.cache
def dipeptide_in_water(n_waters: int = 100) -> Molecule:
    """Relaxed; with a cutoff, which the Reference platform is quick with."""
    solute = alanine_dipeptide("C7eq")
    field = app.ForceField("amber96.xml", "tip3p.xml")
    modeller = app.Modeller(solute.topology, solute.positions * unit.nanometer)
    modeller.addSolvent(field, model="tip3p", numAdded=n_waters)
    system = field.createSystem(
        modeller.topology,
        nonbondedMethod=app.CutoffPeriodic,
        nonbondedCutoff=0.6,
        constraints=app.HBonds,
    )
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(modeller.positions)
    openmm.LocalEnergyMinimizer.minimize(context, 10, 40)
    positions = context.getState(positions=True).getPositions(asNumpy=True)._value
    return Molecule(modeller.topology, system, np.array(positions))
