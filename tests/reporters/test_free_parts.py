"""Local moves of a part that is a molecule by itself: it hangs on the nearest image of another."""

import copy
from pathlib import Path
from typing import Self

import numpy as np
import openmm
import pytest
import torch
from numpy.typing import NDArray
from openmm import app
from scipy import stats

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.internal_coordinates import Internal, PartZMatrix, part_z_matrix
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.reporters.moves import Asked, LocalMove, Start
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import Chain, alanine_dipeptide

T, BOX, R, K = 300.0, 2.0, 0.3, 800.0
KT = GAS_CONSTANT * T
CHAIN = Chain(barrier=3.0)  # beside it a fifth particle, tied to its second atom
DISTANCE = "d: DISTANCE ATOMS=2,5\nPRINT ARG=d FILE=C STRIDE=100\n"


class Satellite:
    """The fifth particle: normal distances about a wrong mean, all directions alike."""

    topology_hash, has_density, keeps_place, n_atoms = "", True, True, 1
    atoms, rest = np.array([4]), np.array([1, 0, 2])
    condition_noise, cv_range = np.array([0.05]), np.array([[0.1, 0.6]])
    constant_bonds: NDArray = np.zeros((0, 2), dtype=int)
    constant_others: tuple[str, ...] = ()

    def __init__(self, variables: tuple[CollectiveVariable, ...], held: NDArray) -> None:
        self.variables = variables
        self.z = PartZMatrix([(0, 1, 2, 3)], [4], [1, 0, 2], held)

    def among(self, held: NDArray) -> Self:
        made = copy.copy(self)
        made.z = self.z.among(held)
        return made

    def sample(self, cvs: NDArray, n: int | None = None, seed: int = 0) -> NDArray:
        return self.sample_with_log_prob(cvs, n, seed)[0]

    def sample_with_log_prob(
        self, cvs: NDArray, n: int | None = None, seed: int = 0
    ) -> tuple[NDArray, NDArray]:
        rng, m = np.random.default_rng(seed), len(cvs)
        made = (
            rng.normal(R + 0.03, 0.08, m),
            np.arccos(rng.uniform(-1, 1, m)),
            rng.uniform(-3.1415926, 3.1415926, m),
        )
        internal = Internal(
            *(torch.from_numpy(np.abs(c) if k < 2 else c)[:, None] for k, c in enumerate(made))
        )
        x = self.z.to_cartesian(internal).numpy()
        return x, self.log_prob(x, cvs)

    def log_prob(self, positions: NDArray, cvs: NDArray) -> NDArray:
        r = np.linalg.norm(positions[:, 0] - self.z.held[0], axis=1)
        return stats.norm(R + 0.03, 0.08).logpdf(r) - 2 * np.log(r)


def move_of(folder: Path, shift: float) -> tuple[LocalMove, NDArray]:
    """A move where the chain stands some boxes away from the particle."""
    system, topology = CHAIN.system(), CHAIN.topology()
    system.addParticle(20.0)
    residue = topology.addResidue("LIG", topology.addChain())
    topology.addAtom("C", app.element.carbon, residue)
    tie = openmm.HarmonicBondForce()
    tie.addBond(1, 4, R, K)
    tie.setUsesPeriodicBoundaryConditions(True)
    system.addForce(tie)
    system.setDefaultPeriodicBoxVectors(*(BOX * np.eye(3)))
    bias = PlumedBias(DISTANCE, topology, temperature=T, directory=folder)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.001)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(topology, system, integrator, platform)
    chain = CHAIN.sample(1, T, seed=1)[0]
    away = shift * BOX * np.array([1.0, 0.0, -1.0])
    x = np.concatenate([chain + away, chain[1:2] + np.array([0.0, 0.0, R])])
    simulation.context.setPositions(x)
    bias.attach(simulation)
    sampler = Satellite(bias.variables, chain[[1, 0, 2]])
    asked = Asked(sampler, bias, "uniform", ProposalSettings(candidates=3), 10)
    assert LocalMove.refusal_in(asked, simulation) is None
    box = BOX * np.eye(3)
    return LocalMove.prepare(asked, Start(simulation, sampler.atoms, x, box, T)), x


def test_the_distance_has_its_density_whatever_image_stands_near(tmp_path: Path) -> None:
    move, x = move_of(tmp_path, shift=3.0)
    rng, found, moved = np.random.default_rng(2), [], 0
    for _ in range(400):
        move.follow(move._running, T)
        attempt = move.attempt(x, BOX * np.eye(3), rng)
        if attempt.positions is not None:
            x, moved = attempt.positions, moved + 1
            move._running.setPositions(x)
        way = x[4] - x[1]
        way -= BOX * np.round(way / BOX)
        found.append(np.linalg.norm(way))
    assert moved > 120
    assert np.abs(x[4]).max() < 1.5, "it stays near where it was, not near the chain's own place"
    grid = np.linspace(0, 0.8, 4001)
    density = grid**2 * np.exp(-0.5 * K * (grid - R) ** 2 / KT)
    cumulative = np.cumsum(density) / density.sum()
    thin = found[:: int(np.ceil(3 * 400 / moved))]
    assert stats.kstest(thin, lambda r: np.interp(r, grid, cumulative)).pvalue > 1e-3


def test_a_ligand_hangs_on_the_nearest_atom_of_another_molecule() -> None:
    solute = alanine_dipeptide("C7eq")
    topology = app.Topology()
    chain, new = topology.addChain(), {}
    for residue in solute.topology.residues():
        own = topology.addResidue(residue.name, chain)
        for atom in residue.atoms():
            new[atom] = topology.addAtom(atom.name, atom.element, own)
    for one, two in solute.topology.bonds():
        topology.addBond(new[one], new[two])
    residue = topology.addResidue("ETH", topology.addChain())
    ligand = [topology.addAtom(f"C{k}", app.element.carbon, residue) for k in range(3)]
    topology.addBond(*ligand[:2])
    topology.addBond(*ligand[1:])
    place = solute.positions[14] + [0.0, 0.3, 0.1]
    x = np.concatenate(
        [solute.positions, place + 0.15 * np.array([[-1, 0, 0], [0, 0, 0], [0, 1, 0]])]
    )
    z = part_z_matrix(topology, np.array([22, 23, 24]), (), range(25), x)
    every = np.concatenate([z.atoms, z.rest])
    first = every[z.rows[0]].tolist()
    assert first[0] == 23
    nearest = np.linalg.norm(x[:22] - x[23], axis=1)
    heavy = [a.index for a in solute.topology.atoms() if a.element.symbol != "H"]
    assert first[1] in sorted(heavy, key=lambda a: nearest[a])[:3]
    internal = z.to_internal(torch.from_numpy(x[None, z.atoms]))
    np.testing.assert_allclose(z.to_cartesian(internal)[0], x[z.atoms], atol=1e-12)
    n = 3

    def cartesian(q: torch.Tensor) -> torch.Tensor:
        return z.to_cartesian(Internal(*q[None].split([n, n, n], dim=1))).flatten()

    jacobian = torch.autograd.functional.jacobian(cartesian, torch.cat(internal, dim=1)[0])
    np.testing.assert_allclose(z.log_det(internal)[0], torch.linalg.slogdet(jacobian)[1], atol=1e-9)
    with pytest.raises(ValueError, match="hold no other that it can hang on"):
        part_z_matrix(topology, np.array([22, 23, 24]), (), [22, 23, 24], x)
