"""Frames of alanine dipeptide that need no run: phi and psi turned at random, all else shaken."""

import numpy as np
import torch

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames, topology_hash
from openmm_cgan.internal_coordinates import ZMatrix
from openmm_cgan.testsystems import torsion

DOMAIN = (-np.pi, np.pi)
PHI = CollectiveVariable("phi", "rad", DOMAIN, "TORSION", (4, 6, 8, 14))
PSI = CollectiveVariable("psi", "rad", DOMAIN, "TORSION", (6, 8, 14, 16))
ENDS = CollectiveVariable("ends", "nm", None, "DISTANCE", (1, 18))  # no coordinate of a Z-matrix


def make_frames(molecule, n=400, seed=0, variables=(PHI, PSI, ENDS)):
    """Alanine dipeptide with phi and psi turned at random and all coordinates shaken a little."""
    rng = torch.Generator().manual_seed(seed)
    z_matrix = ZMatrix.from_topology(molecule.topology, variables=[PHI, PSI])
    x = torch.as_tensor(np.asarray(molecule.positions), dtype=torch.float64)
    shaken = x + 0.003 * torch.randn(n, 22, 3, generator=rng, dtype=torch.float64)
    internal = z_matrix.to_internal(shaken)
    for cv in (PHI, PSI):
        column = z_matrix.coordinate_of(cv).column
        internal.torsions[:, column] = 6.28 * torch.rand(n, generator=rng) - 3.14
    x = z_matrix.to_cartesian(internal).numpy().astype(np.float32)
    columns = {
        PHI: [torsion(p, PHI.atoms) for p in x.astype(float)],
        PSI: [torsion(p, PSI.atoms) for p in x.astype(float)],
        ENDS: np.linalg.norm(x[:, 1] - x[:, 18], axis=1),
    }
    cvs = np.array([columns[v] for v in variables], dtype=float).T
    order, zeros = np.arange(n), np.zeros(n)
    return Frames(x, cvs, zeros, order, zeros, np.ones(n, np.int64), zeros.astype(bool),
                  tuple(variables), np.arange(22), None, 300.0,
                  topology_hash(molecule.topology))  # fmt: skip
