"""Several molecules in periodic frames: next to each other, whichever image OpenMM took."""

from dataclasses import replace

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan.frames import Frames, frames_to_learn
from openmm_cgan.frames.images import molecules_together, shifts_into_box

CUBE = 3.0 * np.eye(3)
TRICLINIC = np.array([[3.0, 0, 0], [1.0, 2.8, 0], [-1.0, 1.3, 2.5]])


def chain_of_pairs(n_molecules: int) -> app.Topology:
    topology, carbon = app.Topology(), app.Element.getBySymbol("C")
    for _ in range(n_molecules):
        residue = topology.addResidue("MOL", topology.addChain())
        topology.addBond(*(topology.addAtom("C", carbon, residue) for _ in range(2)))
    return topology


def wandering(n_frames: int, n_molecules: int, box: np.ndarray) -> tuple[np.ndarray, Frames]:
    """A row of molecules, longer than the box, on its way; and each put into the box by itself."""
    rng = np.random.default_rng(3)
    steps = rng.normal(scale=0.4, size=(n_frames, 1, 1, 3)).cumsum(0)
    row = 0.7 * np.arange(n_molecules)[:, None, None] * [0.6, 0.64, 0.48]
    x = steps + row + [[0, 0, 0], [0.1, 0.1, 0]] + rng.normal(scale=0.03, size=(n_frames, 1, 2, 3))
    wrapped = x - np.floor(x.mean(2, keepdims=True) @ np.linalg.inv(box)) @ box
    frames = Frames.of_arrays(wrapped.reshape(n_frames, -1, 3), np.zeros(n_frames))
    boxes = np.repeat(box[None], n_frames, axis=0).astype(np.float32)
    return x.reshape(n_frames, -1, 3), replace(frames, box=boxes)


@pytest.mark.parametrize("box", [CUBE, TRICLINIC], ids=["cube", "triclinic"])
def test_molecules_that_touch_are_together_in_all_frames(box):
    true, frames = wandering(50, 5, box)
    found = frames_to_learn(frames, chain_of_pairs(5), None)
    moved = found.positions - true
    assert np.abs(frames.positions - true - (frames.positions - true)[:, :1]).max() > 2
    assert np.abs(moved - moved[:, :1]).max() < 1e-5
    assert np.allclose((moved @ np.linalg.inv(box)).round() @ box, moved, atol=1e-5)


def test_what_is_in_one_place_is_left_as_it_is(caplog):
    _, frames = wandering(5, 3, CUBE)
    one = replace(frames, positions=frames.positions[:, :2], atoms=frames.atoms[:2])
    assert molecules_together(one, chain_of_pairs(3)) is one
    assert molecules_together(replace(frames, box=None), chain_of_pairs(3)).box is None
    assert not caplog.records


def test_molecules_that_part_are_said(caplog):
    _, frames = wandering(50, 2, CUBE)
    frames.positions[:, 2:] += np.linspace(0, 1.5, 50)[:, None, None] * np.array([1, 0, 0])
    molecules_together(frames, chain_of_pairs(2))
    assert "depends on the image taken" in caplog.text


@pytest.mark.parametrize("box", [CUBE, TRICLINIC], ids=["cube", "triclinic"])
def test_molecules_are_put_into_the_box_where_openmm_puts_them(box):
    _, frames = wandering(20, 7, box)
    x = frames.positions.astype(float) + np.random.default_rng(5).normal(scale=6, size=(20, 1, 3))
    system, bonds = openmm.System(), openmm.HarmonicBondForce()
    bonds.setUsesPeriodicBoundaryConditions(True)
    system.addForce(bonds)
    for atom in range(14):
        system.addParticle(1)
        if atom % 2 == 0 and atom < 12:  # the last two are molecules of one atom
            bonds.addBond(atom, atom + 1, 0.1, 0)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPeriodicBoxVectors(*box)
    kept = np.array([0, 3, 12, 13])
    molecules = [m for m in context.getMolecules() if not {0, 3, 12, 13}.isdisjoint(m)]
    shifts = shifts_into_box(x, np.repeat(box[None], 20, axis=0), molecules, kept)
    for positions, shift in zip(x, shifts, strict=True):
        context.setPositions(positions)
        state = context.getState(positions=True, enforcePeriodicBox=True)
        wanted = state.getPositions(asNumpy=True)._value
        np.testing.assert_allclose(positions[kept] - shift, wanted[kept], atol=1e-9)
