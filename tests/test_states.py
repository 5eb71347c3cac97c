"""States as arrays: the numbers that OpenMM gives with units."""

import ast
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import unit

from openmm_cgan.states import box_of, copy_positions, forces_of, positions_and_box, positions_of
from tests.cases.sources import tree_of

PACKAGE = Path(__file__).parent.parent / "openmm_cgan"
BOX = np.array([[3.0, 0.0, 0.0], [0.5, 2.5, 0.0], [-0.3, 0.4, 2.0]])


@pytest.fixture
def context() -> openmm.Context:
    system = openmm.System()
    for _ in range(5):
        system.addParticle(12.0)
    system.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in BOX))
    bond = openmm.CustomBondForce("50*r^2")
    bond.setUsesPeriodicBoundaryConditions(True)
    for i in range(4):
        bond.addBond(i, i + 1)
    system.addForce(bond)
    platform = openmm.Platform.getPlatformByName("Reference")
    made = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    made.setPositions(np.random.default_rng(0).normal(size=(5, 3)))
    return made


def test_arrays_are_what_openmm_gives_with_units(context):
    state = context.getState(positions=True, forces=True)
    nm = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    force = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    assert np.array_equal(positions_of(state), nm)
    assert np.array_equal(forces_of(state), force)
    assert np.array_equal(box_of(state), BOX)
    target = np.full((5, 3), np.nan)
    copy_positions(state, target)
    assert np.array_equal(target, nm)


def test_a_box_is_read_where_there_is_one(context):
    state = context.getState(positions=True)
    positions, box = positions_and_box(state, periodic=True)
    assert np.array_equal(positions, positions_of(state))
    assert np.array_equal(box, BOX)
    assert positions_and_box(state, periodic=False)[1] is None


def test_arrays_are_the_readers_own(context):
    state = context.getState(positions=True)
    positions_of(state)[:] = 0
    box_of(state)[:] = 0
    assert positions_of(state).any()
    assert box_of(state).any()


def test_what_a_state_does_not_hold_is_an_error(context):
    state = context.getState(energy=True)
    with pytest.raises(openmm.OpenMMException):
        positions_of(state)
    with pytest.raises(openmm.OpenMMException):
        forces_of(state)


def test_no_other_room_reads_the_vectors_of_a_state():
    """`states` alone knows OpenMM's way around units."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute) and node.attr == "_getVectorAsNumpy":
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found == {"states.py"}
