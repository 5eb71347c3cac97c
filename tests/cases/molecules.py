"""Topologies with rings, straight pieces and branches, and rotations."""

import torch
from openmm import app

# symbols and bonds of molecules with rings, straight pieces and branches
MOLECULES = {
    "ring with a tail (toluene)": (
        "CCCCCCCHHHHHHHH",
        [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (0, 6)]
        + [(i, i + 6) for i in range(1, 6)]
        + [(6, 12), (6, 13), (6, 14)],
    ),
    "proline": (
        "NCCOCCCHHHHHHHHHOH",
        [(0, 1), (1, 2), (2, 3), (1, 4), (4, 5), (5, 6), (6, 0), (2, 16), (16, 17), (0, 7), (0, 8)]
        + [(a, a + 5) for a in (5, 6)]
        + [(1, 9), (4, 13), (4, 14), (5, 12), (6, 15)],
    ),
    "acetonitrile": ("CCNHHH", [(0, 1), (1, 2), (0, 3), (0, 4), (0, 5)]),
    "2-butyne": (
        "CCCCHHHHHH",
        [(0, 1), (1, 2), (2, 3), (0, 4), (0, 5), (0, 6), (3, 7), (3, 8), (3, 9)],
    ),
    "cubane's carbons": (
        "CCCCCCCC",
        [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4)]
        + [(i, i + 4) for i in range(4)],
    ),
    "water": ("OHH", [(0, 1), (0, 2)]),
    "nitrogen": ("NN", [(0, 1)]),
    "argon": (["Ar"], []),
}


def molecule(symbols, bonds):
    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    atoms = [
        topology.addAtom(f"{s}{i}", app.element.get_by_symbol(s), residue)
        for i, s in enumerate(symbols)
    ]
    for a, b in bonds:
        topology.addBond(atoms[a], atoms[b])
    return topology


def random_rotation(generator):
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()
    return q * torch.det(q)
