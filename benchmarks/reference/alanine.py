"""Alanine dipeptide in vacuum as both reference methods see it: system, angles, handedness.

The system comes from openmmtools and the angles from numpy, so that nothing of openmm_cgan takes
part in the numbers that openmm_cgan is judged by.
"""

from __future__ import annotations

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from openmmtools.testsystems import AlanineDipeptideVacuum

TEMPERATURE = 300.0  # K
KT = 8.31446261815324e-3 * TEMPERATURE  # kJ/mol
PHI, PSI = (4, 6, 8, 14), (6, 8, 14, 16)
OMEGAS = ((1, 4, 6, 8), (8, 14, 16, 18))
N_CA_C_CB = (6, 8, 14, 10)
BASIN = (0.0, 2.3)  # rad: the C7ax side of phi


def system() -> tuple[openmm.System, app.Topology, NDArray[np.float64]]:
    """AMBER ff96, no cutoff, bonds to hydrogen constrained; positions (22, 3) in nm."""
    made = AlanineDipeptideVacuum(constraints=app.HBonds)
    return made.system, made.topology, np.asarray(made.positions.value_in_unit(unit.nanometer))


def simulation(system: openmm.System, topology: app.Topology, seed: int) -> app.Simulation:
    """Langevin dynamics at 300 K, 1/ps, 2 fs, on Reference, the fastest platform for 22 atoms."""
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, 0.002)
    integrator.setRandomNumberSeed(seed)
    return app.Simulation(
        topology, system, integrator, openmm.Platform.getPlatformByName("Reference")
    )


def torsion(positions: NDArray, atoms: tuple[int, ...]) -> NDArray[np.float64]:
    """Torsion in (-pi, pi] of positions (..., n_atoms, 3), IUPAC sign."""
    a, b, c, d = (positions[..., i, :] for i in atoms)
    axis = c - b
    axis = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    v = (a - b) - ((a - b) * axis).sum(-1, keepdims=True) * axis
    w = (d - c) - ((d - c) * axis).sum(-1, keepdims=True) * axis
    return np.arctan2((np.cross(axis, v) * w).sum(-1), (v * w).sum(-1))


def is_trans_l(positions: NDArray) -> NDArray[np.bool_]:
    """Whether frames (..., n_atoms, 3) are still L-alanine with both amides trans."""
    n, ca, c, cb = (positions[..., i, :] for i in N_CA_C_CB)
    handed = (np.cross(n - ca, c - ca) * (cb - ca)).sum(-1) > 0.0
    trans = [np.abs(torsion(positions, atoms)) > np.pi / 2 for atoms in OMEGAS]
    return handed & trans[0] & trans[1]


def in_basin(phi: NDArray) -> NDArray[np.bool_]:
    """Whether phi, of any shape, is in the basin of C7ax, 0 < phi < 2.3 rad."""
    return (phi > BASIN[0]) & (phi < BASIN[1])
