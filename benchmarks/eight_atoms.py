"""A molecule of eight atoms, in a box or none, that inputs act on: frames, biases, comparisons.

``made`` puts a bias into a Context, ``deviation`` says how far the native backend is from libplumed
over random frames. The tests use them as well.
"""

import math
from dataclasses import dataclass

import numpy as np
import openmm

from openmm_cgan.plumed.bias import PlumedBias

N_ATOMS = 8
N_FRAMES = 40
TOLERANCE = 1e-6

BOXES = {
    "no box": None,
    "orthorhombic": np.diag([2.4, 2.9, 3.3]),
    "triclinic": np.array([[2.6, 0, 0], [0.8, 2.5, 0], [-0.9, 1.1, 2.7]]),
}


@dataclass(frozen=True)
class Deviation:
    """Largest disagreement over frames, relative to 1 + magnitude."""

    values: float
    energy: float
    forces: float


def random_frames(box, rng, n=N_FRAMES, torn=True):
    """Compact molecules, each atom moved by a random lattice vector where there is a box."""
    steps = rng.normal(size=(n, N_ATOMS, 3))
    steps *= 0.15 / np.linalg.norm(steps, axis=-1, keepdims=True)
    frames = np.cumsum(steps, axis=1) + rng.random((n, 1, 3))
    if box is not None and torn:
        frames += rng.integers(-1, 2, size=(n, N_ATOMS, 3)) @ box
    return frames


def make_system(box, bonded=False):
    system = openmm.System()
    for i in range(N_ATOMS):
        system.addParticle(12.0 + i)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
        nonbonded = openmm.NonbondedForce()
        nonbonded.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        for _ in range(N_ATOMS):
            nonbonded.addParticle(0, 1, 0)
        system.addForce(nonbonded)
    if bonded:
        bonds = openmm.HarmonicBondForce()
        for i in range(N_ATOMS - 1):
            bonds.addBond(i, i + 1, 0.15, 0.0)
        system.addForce(bonds)
    return system


def made(text, backend, box, folder, frames, bonded=False):
    """A bias in a Context, with a hill laid at each of the frames where the input lays hills."""
    bias = PlumedBias(text + "\n", temperature=300.0, backend=backend, directory=folder / backend)
    system = make_system(box, bonded)
    bias.add_to(system)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    engine = bias._engine
    engine.start(0.002)
    for i, frame in enumerate(frames):
        engine.update(frame, box, 5 * i)
        engine.upload(context)
    return bias, context


def deviation(text, box, folder, seed=0, bonded=False, n=N_FRAMES):
    """Largest disagreement of the native backend and libplumed over n random frames."""
    rng = np.random.default_rng(seed)
    laid, frames = random_frames(box, rng, n), random_frames(box, rng, n, torn=not bonded)
    laid = laid if "METAD" in text else laid[:0]
    both = [made(text, backend, box, folder, laid, bonded) for backend in ("native", "kernel")]
    worst = np.zeros(3)
    for frame in frames:
        found = []
        for bias, context in both:
            context.setPositions(frame)
            groups = bias.force_groups()
            state = context.getState(energy=True, forces=True, groups=groups)
            values, energy = bias._engine.evaluate(frame, box, 5)
            acting = state.getPotentialEnergy()._value
            assert math.isclose(energy, acting, rel_tol=1e-9, abs_tol=1e-9), (energy, acting)
            found.append((values, energy, state.getForces(asNumpy=True)._value))
        for i, (ours, plumeds) in enumerate(zip(*found, strict=True)):
            error = np.max(np.abs(ours - plumeds) / (1 + np.abs(plumeds)))
            worst[i] = max(worst[i], error)
    for bias, _ in both:
        bias.close()
    return Deviation(*worst)


def reference_pdb(folder):
    """The file of the cases in `GROUPS`."""
    return reference_pdbs(folder)["pdb"]


def reference_pdbs(folder):
    """Atoms 2 to 8 of random frames, in another order, with and without weights, or in blocks."""
    frames = random_frames(None, np.random.default_rng(9), 5)
    frames = frames[0] + 0.3 * (frames - frames[0])  # a path begins and goes on from there
    rows = (1, 3, 2, 4, 5, 6, 7)
    columns = {
        "pdb": [(1.0, 1.0)] * 7,
        "weighted": [(0.5 + i, 3.0 - 0.4 * i) for i in range(7)],
        "alike": [(0.5 + i, 0.5 + i) for i in range(7)],
        "path": [(1.0 + i % 2, 1.0) for i in range(7)],
        "blocks": [(1.0, 1.0)] * 7,
    }
    for name, weights in columns.items():
        text = ""
        for k, frame in enumerate(frames if name == "path" else frames[:1]):
            text += f"REMARK X={k * k} Y={0.5 - k} X=9\n"
            for i, (occupancy, beta) in zip(rows, weights, strict=True):
                x, y, z = 10 * frame[i]
                text += f"ATOM  {i + 1:5d}  C   MOL A   1    {x:8.3f}{y:8.3f}{z:8.3f}"
                text += f"{occupancy:6.2f}{beta:6.2f}\n"
                text += "TER\n" if name == "blocks" and i == 5 else ""
            text += "END\n"
        (folder / f"{name}.pdb").write_text(text)
    return {name: folder / f"{name}.pdb" for name in columns}
