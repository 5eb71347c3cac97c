"""Alanine dipeptide in vacuum, as the benchmarks of the generator use it.

Frames of umbrella windows on a grid of (phi, psi), made by one configuration that is dragged from
window to window; weights of what a generator makes; the reference free energy.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from openmm_cgan import GAS_CONSTANT, ConditionalGAN, PlumedBias
from openmm_cgan.frames import Frames, topology_hash
from openmm_cgan.free_energy.rounds import balanced
from openmm_cgan.platforms import platform_and_properties
from openmm_cgan.potentials import Potential
from openmm_cgan.proposals import Screen
from openmm_cgan.proposals.conditions import (
    Conditions,
    GridConditions,
    UniformConditions,
    log_density_of_mixture,
)
from openmm_cgan.proposals.even_draws import drawn_evenly
from openmm_cgan.proposals.screening import ScreenSettings
from openmm_cgan.reporters.moves import ExactMove
from openmm_cgan.testsystems import PHI_ATOMS, PSI_ATOMS, Molecule, alanine_dipeptide
from openmm_cgan.windows import LocalWorkers

TEMPERATURE = 300.0  # K
KT = GAS_CONSTANT * TEMPERATURE  # kJ/mol
TIME_STEP = 0.002  # ps
BASIN = (0.0, 2.3)  # rad, in phi
TORSIONS = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\nPRINT ARG=phi,psi\n"
KAPPA = 100.0  # kJ/mol/rad^2
SETTLE = 500  # steps in a window before its first frame
BATCH, BATCHES = 500, 120  # configurations weighed


def free_bias(molecule: Molecule) -> PlumedBias:
    """The CVs phi and psi, without any bias."""
    return PlumedBias(TORSIONS, molecule.topology, temperature=TEMPERATURE)


@dataclass(frozen=True)
class Umbrella:
    """Windows on a grid of n_side x n_side, each of some steps, a frame every stride."""

    n_side: int
    steps: int
    stride: int
    seed: int

    @property
    def evaluations(self) -> int:
        """Force evaluations of all windows."""
        return self.n_side**2 * (self.steps + SETTLE)

    @property
    def nanoseconds(self) -> float:
        """Length of all windows together."""
        return self.evaluations * TIME_STEP / 1000

    def centres(self, rows: range) -> NDArray[np.float64]:
        """Centres of the windows in some rows of the grid, back and forth, (n, 2)."""
        grid = -np.pi + 2 * np.pi * (np.arange(self.n_side) + 0.5) / self.n_side
        return np.array(
            [(grid[i], psi) for i in rows for psi in (grid if i % 2 == 0 else grid[::-1])]
        )


def umbrella_frames(umbrella: Umbrella) -> Frames:
    """Frames of all windows, half of the rows of the grid in each of two processes."""
    half = umbrella.n_side // 2
    parts = [range(half), range(half, umbrella.n_side)]
    with LocalWorkers(min(2, os.cpu_count() or 1)) as pool:
        made = list(pool.map(_dragged, [umbrella] * 2, parts))
    return Frames.concatenate(made)


def _dragged(umbrella: Umbrella, rows: range) -> Frames:
    molecule = alanine_dipeptide("C7eq")
    bias = free_bias(molecule)
    centres = umbrella.centres(rows)
    restraint = bias.restrained(centres[0], KAPPA)
    restraint.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 5.0, TIME_STEP)
    integrator.setRandomNumberSeed(umbrella.seed + rows[0])
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(molecule.system, integrator, platform)
    context.setPositions(molecule.positions)
    context.setVelocitiesToTemperature(TEMPERATURE, umbrella.seed)
    positions = []
    for centre in centres:
        restraint.move_restraint(context, centre)
        openmm.LocalEnergyMinimizer.minimize(context, 10, 20)
        context.setVelocitiesToTemperature(TEMPERATURE, umbrella.seed)
        integrator.step(SETTLE)
        for _ in range(umbrella.steps // umbrella.stride):
            integrator.step(umbrella.stride)
            positions.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    return frames_of(np.array(positions), bias, molecule)


def frames_of(positions: NDArray, bias: PlumedBias, molecule: Molecule) -> Frames:
    """Frames of positions (n, n_atoms, 3) [nm] with their CVs; steps count, the bias is 0."""
    n = len(positions)
    x = positions.astype(np.float32)
    zeros = np.zeros(n)
    return Frames(
        positions=x, cvs=bias.cv_values(x), bias=zeros, step=np.arange(n), time=zeros,
        segment=np.ones(n, np.int64), settling=np.zeros(n, bool), variables=bias.variables,
        atoms=np.arange(x.shape[1]), temperature=TEMPERATURE,
        topology_hash=topology_hash(molecule.topology),
    )  # fmt: skip


class Weigher:
    """Weights of generated configurations of one molecule.

    Parameters
    ----------
    gan : ConditionalGAN
    bias : PlumedBias
        Its CVs, and what is to be weighted for beside the energy.
    conditions : Conditions, optional
        That CV values are drawn from; evenly if omitted.
    """

    def __init__(
        self, gan: ConditionalGAN, bias: PlumedBias, conditions: Conditions | None = None
    ) -> None:
        molecule = alanine_dipeptide("C7eq")
        self.gan = gan
        self.potential = Potential(molecule.system)
        settings = replace(ScreenSettings(), clash_fraction=0.0, bond_tolerance=np.inf)
        self.screen = Screen(molecule.topology, molecule.positions, settings=settings)
        given = conditions or "uniform"
        self.move = ExactMove(gan, bias, self.potential, self.screen, KT, conditions=given)

    def log_weights(self, cvs: NDArray, seed: int) -> NDArray[np.float64]:
        """log of exp(-u) |J| |H|^(1/2) / q for one configuration at each row of CVs (n, n_cvs)."""
        x, log_prob = self.gan.sample_with_log_prob(cvs, seed=seed)
        weighed = self.move.weigh(x, cvs, log_prob)
        return weighed.log_weights + self.move.conditions.log_density(cvs)


def biased_simulation(
    molecule: Molecule, bias: PlumedBias, seed: int, platform: str = "Reference"
) -> app.Simulation:
    """A Simulation from the molecule's positions, the bias attached; on a platform, by its word."""
    bias.add_to(molecule.system)
    simulation = plain_simulation(molecule, seed, platform)
    bias.attach(simulation)
    return simulation


def plain_simulation(molecule: Molecule, seed: int, platform: str = "Reference") -> app.Simulation:
    """A Simulation of the molecule's System as it is."""
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, TIME_STEP)
    integrator.setRandomNumberSeed(seed)
    how = platform_and_properties(platform)
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, *how)
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, seed)
    return simulation


def bias_variables(width: float, n_grid: int) -> list[app.BiasVariable]:
    """phi and psi for OpenMM's own metadynamics and for openmm-opes."""
    variables = []
    for atoms in (PHI_ATOMS, PSI_ATOMS):
        force = openmm.CustomTorsionForce("theta")
        force.addTorsion(*atoms, [])
        variables.append(app.BiasVariable(force, -np.pi, np.pi, width, True, n_grid))
    return variables


@dataclass(frozen=True)
class Curve:
    """A free energy [kJ/mol] against force evaluations."""

    evaluations: NDArray[np.float64]
    values: NDArray[np.float64]

    def stays_from(self, reference: float, within: float) -> float:
        """Evaluations from which the value stays near the reference; infinite if it does not."""
        off = ~(np.abs(self.values - reference) <= within)
        if off[-1]:
            return float("inf")
        last = np.flatnonzero(off)
        return float(self.evaluations[0 if len(last) == 0 else last[-1] + 1])


def curve_of_weights(
    gan: ConditionalGAN,
    weigher: Weigher,
    spent: int,
    seed: int,
    value: Callable[[NDArray, NDArray], float],
    states: Callable[[NDArray], NDArray] | None = None,
) -> Curve:
    """A free energy from batches of configurations, each where the last ones found the weight.

    All are weighed by the mixture of the densities that they were drawn from (the balance
    heuristic of Veach and Guibas, doi 10.1145/218380.218498).

    Parameters
    ----------
    gan, weigher
        What makes them and what weighs them.
    spent : int
        Force evaluations before.
    seed : int
    value : callable
        Of CVs (n, n_cvs) and log weights (n,).
    states : callable, optional
        As for `generate_in_rounds`.
    """
    rng = np.random.default_rng(seed)
    everywhere = UniformConditions(gan.cv_range, gan.variables)
    drawn_from: list[UniformConditions | GridConditions] = [everywhere]
    cvs, own = np.zeros((0, len(gan.variables))), np.zeros(0)
    evaluations, values = [], []
    for k in range(BATCHES):
        fresh, _ = drawn_evenly(drawn_from[-1], BATCH, rng)
        cvs = np.concatenate([cvs, fresh])
        own = np.concatenate([own, weigher.log_weights(fresh, seed=1000 * seed + k)])
        log_weights = own - log_density_of_mixture(drawn_from, [BATCH] * len(drawn_from), cvs)
        evaluations.append(spent + BATCH * (k + 1))
        values.append(value(cvs, log_weights))
        asked = log_weights if states is None else balanced(log_weights, states(cvs))
        likely = GridConditions.from_weights(
            cvs, asked, gan.cv_range, gan.variables, bins=18, power=0.5
        )
        drawn_from.append(likely)
    return Curve(np.array(evaluations, dtype=float), np.array(values))


def grid_centres(n_side: int = 12) -> NDArray[np.float64]:
    """Centres (n_side^2, 2) of the cells of the (phi, psi) plane."""
    grid = -np.pi + 2 * np.pi * (np.arange(n_side) + 0.5) / n_side
    return np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)


def in_basin(phi: NDArray) -> NDArray[np.bool_]:
    """Whether phi, of any shape, is in the basin of C7ax [rad]."""
    return (phi > BASIN[0]) & (phi < BASIN[1])
