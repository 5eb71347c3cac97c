"""Inputs with many pairs, many actions or many frames, for ``plumed_speed.py``."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import openmm
from openmm import app

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.geometry.vectors import shortest_image

EDGE = 3.2  # nm
PAIRS = {
    "COORDINATION of 500 x 500 atoms": "R_0=0.3",
    "the same with NLIST": "R_0=0.3 NLIST NL_CUTOFF=1.0 NL_STRIDE=20",
    "the same with NLIST and D_MAX": "SWITCH={RATIONAL R_0=0.3 D_MAX=0.8} "
    "NLIST NL_CUTOFF=1.0 NL_STRIDE=20",
}


def milliseconds_a_step(text: str, backend: str, n_atoms: int, steps: int) -> float:
    """CPU time of a step of heavy atoms without forces of their own, on the Reference platform."""
    system = openmm.System()
    for _ in range(n_atoms):
        system.addParticle(100.0)
    system.setDefaultPeriodicBoxVectors(*np.diag([EDGE] * 3))
    nothing = openmm.CustomBondForce("0")
    nothing.setUsesPeriodicBoundaryConditions(True)
    system.addForce(nothing)
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for _ in range(n_atoms):
        topology.addAtom("X", None, residue)
    bias = PlumedBias(text, backend=backend, directory=tempfile.mkdtemp())
    bias.add_to(system)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(topology, system, openmm.VerletIntegrator(0.001), platform)
    simulation.context.setPositions(np.random.default_rng(0).random((n_atoms, 3)) * EDGE)
    bias.attach(simulation)
    simulation.step(3)
    start = time.process_time()
    simulation.step(steps)
    taken = time.process_time() - start
    bias.close()
    return 1e3 * taken / steps


def pair_times(switch: str, rounds: int) -> tuple[float, float]:
    """Milliseconds a step, native and by libplumed, medians over rounds in turns."""
    text = f"c: COORDINATION GROUPA=1-500 GROUPB=501-1000 {switch}\n"
    text += "RESTRAINT ARG=c AT=100 KAPPA=0.0001\n"
    found = [
        [milliseconds_a_step(text, backend, 1000, 40) for backend in ("native", "kernel")]
        for _ in range(rounds)
    ]
    native, kernel = (statistics.median(column) for column in zip(*found, strict=True))
    return native, kernel


def superposition_times(rounds: int) -> tuple[float, float]:
    """Milliseconds a step under PATHMSD of 30 models of 100 atoms, native and by libplumed."""
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    models = rng.random((100, 3)) + 0.02 * np.cumsum(rng.normal(size=(30, 100, 3)), axis=0)
    path = write_models(folder / "path.pdb", models)
    text = f"p: PATHMSD REFERENCE={path} LAMBDA=100\nRESTRAINT ARG=p.sss,p.zzz AT=9,0 KAPPA=1,1\n"
    found = [
        [milliseconds_a_step(text, backend, 100, 100) for backend in ("native", "kernel")]
        for _ in range(rounds)
    ]
    native, kernel = (statistics.median(column) for column in zip(*found, strict=True))
    return native, kernel


def write_models(path: Path, models: np.ndarray) -> Path:
    """A PDB file of models, shape (n, n_atoms, 3) [nm]; its own path."""
    lines = []
    for model in 10 * models:
        for serial, (x, y, z) in enumerate(model, start=1):
            place = f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  1.00"
            lines.append(f"ATOM  {serial:5d}  C   ALA A   1    {place}")
        lines.append("END")
    path.write_text("\n".join([*lines, ""]))
    return path


def frames_times() -> dict[str, tuple[float, float]]:
    """Microseconds a frame of 200, all at once and one by one, for what is superposed."""
    rng = np.random.default_rng(0)
    frames = rng.random((100, 3)) + 0.02 * rng.normal(size=(200, 100, 3))
    folder = Path(tempfile.mkdtemp())
    path = write_models(folder / "path.pdb", frames[:30])
    one = write_models(folder / "one.pdb", frames[:1])
    inputs = {
        "PATHMSD of 30 models": f"p: PATHMSD REFERENCE={path} LAMBDA=100\nPRINT ARG=p.sss",
        "RMSD": f"r: RMSD REFERENCE={one} TYPE=OPTIMAL\nPRINT ARG=r",
        "FIT_TO_TEMPLATE": f"FIT_TO_TEMPLATE REFERENCE={one} TYPE=OPTIMAL\n"
        "d: DISTANCE ATOMS=7,90 COMPONENTS\nPRINT ARG=d.x,d.y",
    }
    found = {}
    for name, text in inputs.items():
        bias = PlumedBias(text + " FILE=COLVAR\n", backend="native", directory=folder)
        times = []
        for ask in (
            lambda bias=bias: bias.cv_values(frames, None),
            lambda bias=bias: [bias.cv_values(frame[None], None) for frame in frames],
        ):
            ask()
            best = np.inf
            for _ in range(5):
                start = time.process_time()
                ask()
                best = min(best, time.process_time() - start)
            times.append(1e6 * best / len(frames))
        found[name] = (times[0], times[1])
    return found


def driver_times(rounds: int) -> tuple[float, float]:
    """Milliseconds a frame of ``--dump-forces`` of a COORDINATION of 60 x 100, both backends."""
    rng = np.random.default_rng(0)
    frames = [Frame(rng.random((160, 3)) * 2.0, np.eye(3) * 2.0) for _ in range(120)]
    text = "c: COORDINATION GROUPA=1-60 GROUPB=61-160 R_0=0.3\nRESTRAINT ARG=c AT=10 KAPPA=0.1\n"

    def taken(backend: str, count: int) -> float:
        settings = DriverSettings(backend=backend, directory=Path(tempfile.mkdtemp()), forces="f")
        start = time.process_time()
        run_driver(text, iter(frames[:count]), settings)
        return time.process_time() - start

    found = [
        [1e3 * (taken(b, 120) - taken(b, 20)) / 100 for b in ("native", "kernel")]
        for _ in range(rounds)
    ]
    native, kernel = (statistics.median(column) for column in zip(*found, strict=True))
    return native, kernel


def seconds_to_compile(n_actions: int) -> float:
    """CPU time of reading and compiling an input of distances, half of them restrained."""
    lines = []
    for i in range(n_actions // 2):
        lines.append(f"d{i}: DISTANCE ATOMS={i % 90 + 1},{i % 90 + 3}")
        lines.append(f"RESTRAINT ARG=d{i} AT=1 KAPPA=1")
    system = openmm.System()
    for _ in range(100):
        system.addParticle(1.0)
    start = time.process_time()
    text = "\n".join([*lines, "PRINT ARG=* FILE=COLVAR", ""])
    PlumedBias(text, backend="native", directory=tempfile.mkdtemp()).add_to(system)
    return time.process_time() - start


def seconds_per_images() -> tuple[float, float]:
    """Seconds for the nearest images of 16,384 vectors: in a turned triclinic and a plain box."""
    triclinic = np.array([[3.0, 0, 0], [1.0, 2.8, 0], [-1.4, 1.2, 2.5]])[:, [1, 2, 0]]
    x, y, z = np.random.default_rng(0).uniform(-3, 3, size=(3, 16_384))
    best = [np.inf, np.inf]
    for _ in range(20):
        for k, box in enumerate((triclinic, np.diag([3.0, 2.8, 2.5]))):
            start = time.process_time()
            shortest_image((x, y, z), box)
            best[k] = min(best[k], time.process_time() - start)
    return best[0], best[1]
