"""Peak memory of a training on many frames of a large molecule, with made-up frames on disk.

A chain of alanines of about the size asked for, its atoms shaken about a helix in a few modes;
written as a FrameReporter would, then read and trained on in a process of its own, whose peak
resident memory is asked of the kernel.

    python benchmarks/fit_memory.py [--atoms N] [--frames N] [--steps N] [--z-matrix] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from openmm import app
from provenance import in_words, provenance

from openmm_cgan import ConditionalGAN
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import ZMatrixFeatures
from openmm_cgan.frames import topology_hash
from openmm_cgan.frames.h5md import SegmentHeader
from openmm_cgan.frames.segments import Row, SegmentWriter
from openmm_cgan.testsystems import alanine_pentapeptide

LIMIT = 3.0  # GiB


def chain_of(n_atoms: int) -> tuple[app.Topology, np.ndarray]:
    """Copies of the pentapeptide of our test systems, each bonded to the one before."""
    molecule = alanine_pentapeptide()
    size, topology, placed = molecule.topology.getNumAtoms(), app.Topology(), []
    chain, origin = topology.addChain(), np.zeros(3)
    for _ in range(-(-n_atoms // size)):
        made = {}
        for residue in molecule.topology.residues():
            own = topology.addResidue(residue.name, chain)
            for atom in residue.atoms():
                made[atom] = topology.addAtom(atom.name, atom.element, own)
        for bond in molecule.topology.bonds():
            topology.addBond(made[bond[0]], made[bond[1]])
        placed.append(molecule.positions - molecule.positions[0] + origin)
        origin = placed[-1][-2] + np.array([0.15, 0.0, 0.0])
    atoms = list(topology.atoms())
    for first in range(size, len(atoms), size):
        topology.addBond(atoms[first - 2], atoms[first])
    return topology, np.concatenate(placed)


def write(folder: Path, topology: app.Topology, positions: np.ndarray, n_frames: int) -> None:
    """Frames shaken in ten modes, and a little in all; the CV is the first of the modes."""
    variable = CollectiveVariable("x", "nm")
    header = SegmentHeader((variable,), tuple(range(len(positions))), topology_hash(topology))
    writer, rng = SegmentWriter(folder, header), np.random.default_rng(0)
    modes = rng.standard_normal((10, *positions.shape)) * 0.01
    for k in range(n_frames):
        along = rng.standard_normal(10)
        x = positions + np.tensordot(along, modes, 1) + 0.003 * rng.standard_normal(positions.shape)
        writer.append(Row(k + 1, 0.1 * (k + 1), x, None, along[:1]))
    writer.close()


def train(folder: Path, n_atoms: int, steps: int, z_matrix: bool) -> None:
    """In its own process: read, train, say the peak of memory and the time."""
    topology, _ = chain_of(n_atoms)
    begun = time.perf_counter()
    featurize = ZMatrixFeatures.fit if z_matrix else None
    gan = ConditionalGAN.fit(
        folder, topology, TrainingSettings(steps=steps, report_every=max(1, steps // 3)),
        featurize=featurize,
    )  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures = {"GiB": peak, "seconds": time.perf_counter() - begun, "atoms": gan.n_atoms}
    print(json.dumps(figures | {"features": gan.features.n_linear + 2 * gan.features.n_pairs}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, default=600)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--z-matrix", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.train, arguments.atoms, arguments.steps, arguments.z_matrix)
        return
    made = provenance()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), *chain_of(arguments.atoms), arguments.frames)
        command = [sys.executable, *sys.argv, "--train", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    figures = json.loads(done.stdout.splitlines()[-1])
    row = figures | {"frames": arguments.frames, "limit": LIMIT, "met": figures["GiB"] <= LIMIT}
    print(in_words(made))
    print(", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps({"provenance": made, **row}, indent=1) + "\n")


if __name__ == "__main__":
    main()
