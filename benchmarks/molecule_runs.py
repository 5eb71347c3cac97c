"""Metadynamics of one of small_molecules.py, its frames kept: made once, read afterwards."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app
from small_molecules import Built, build

from openmm_cgan import GAS_CONSTANT, FrameReporter, PlumedBias
from openmm_cgan.frames import Frames, read_frames
from openmm_cgan.free_energy.biased_runs import BiasedRun

TEMPERATURE = 300.0  # K
KT = GAS_CONSTANT * TEMPERATURE
TIME_STEP = 0.004  # ps
FRAMES_EVERY = 25  # steps
ON_REFERENCE = 50  # atoms in implicit solvent, at most
PLUMED = "plumed.dat"


def torsion_lines(built: Built) -> str:
    """The CVs, as PLUMED has them."""
    return "".join(
        f"{name}: TORSION ATOMS={','.join(str(a + 1) for a in atoms)}\n"
        for name, atoms in built.cvs.items()
    )


def metad_input(built: Built) -> str:
    """Well-tempered metadynamics on the CVs, as plumed_inputs/alanine_phi_psi_metad.dat."""
    n = len(built.cvs)

    def each(value: str) -> str:
        return ",".join([value] * n)

    return (
        f"{torsion_lines(built)}METAD ARG={','.join(built.cvs)} SIGMA={each('0.3')} HEIGHT=1.0"
        f" BIASFACTOR=10 PACE=500 GRID_MIN={each('-pi')} GRID_MAX={each('pi')}"
        f" GRID_BIN={each('120')} FILE=HILLS\n"
    )


@dataclass(frozen=True)
class Run:
    """Which run: everything that its frames follow from.

    Attributes
    ----------
    name, solvent : str
        As for `build`.
    steps, seed : int
    """

    name: str
    solvent: str
    steps: int
    seed: int

    def folder(self, data: Path) -> Path:
        """Where it lies."""
        return data / f"{self.name}-{self.solvent}-{self.steps}-{self.seed}"


def biased_run(run: Run, data: Path) -> BiasedRun:
    """The run, made unless it is there."""
    folder = run.folder(data)
    if not folder.exists():
        making = folder.with_name(folder.name + ".making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        _make(run, making)
        making.rename(folder)
    return BiasedRun.of(frames_of(folder), folder / PLUMED, folder)


def frames_of(folder: Path) -> Frames:
    """Its frames."""
    return read_frames(folder / "frames")


def simulation_of(built: Built, bias: PlumedBias, solvent: str, seed: int) -> app.Simulation:
    """A Simulation with the bias attached, from the molecule's start."""
    system = openmm.XmlSerializer.clone(built.molecule.system)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, TIME_STEP)
    integrator.setRandomNumberSeed(seed)
    # below some 50 atoms the Reference platform is faster, on a busy machine by much
    on_cpu = solvent != "vacuum" and system.getNumParticles() > ON_REFERENCE
    platform = openmm.Platform.getPlatformByName("CPU" if on_cpu else "Reference")
    properties = {"Threads": "1"} if on_cpu else {}
    simulation = app.Simulation(built.molecule.topology, system, integrator, platform, properties)
    simulation.context.setPositions(built.molecule.positions)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, seed)
    bias.attach(simulation)
    return simulation


def _make(run: Run, folder: Path) -> None:
    built = build(run.name, run.solvent)
    text = metad_input(built)
    (folder / PLUMED).write_text(text)
    bias = PlumedBias(text, built.molecule.topology, temperature=TEMPERATURE, directory=folder)
    simulation = simulation_of(built, bias, run.solvent, run.seed)
    reporter = FrameReporter(folder / "frames", FRAMES_EVERY, bias)
    simulation.reporters.append(reporter)
    simulation.step(run.steps)
    reporter.close()
    bias.close()


def torsions(positions: NDArray, atoms: tuple[int, ...]) -> NDArray[np.float64]:
    """A torsion (n,) of positions (n, n_atoms, 3) [rad]."""
    a, b, c, d = (positions[:, i].astype(float) for i in atoms)
    first, second, third = b - a, c - b, d - c
    left, right = np.cross(first, second), np.cross(second, third)
    length = np.linalg.norm(second, axis=1)
    return np.arctan2(length * (first * right).sum(1), (left * right).sum(1))
