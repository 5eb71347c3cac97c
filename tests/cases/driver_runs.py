"""One input over frames of eight atoms by both backends' drivers, and their files compared."""

import numpy as np

from benchmarks.eight_atoms import N_ATOMS, random_frames
from openmm_cgan import GAS_CONSTANT
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame

KT = 300 * GAS_CONSTANT


def walk(n, step=0.006, seed=0):
    """Frames along which an eight-atom molecule moves little by little."""
    rng = np.random.default_rng(seed)
    [start] = random_frames(None, rng, 1)
    moves = rng.normal(scale=step, size=(n, N_ATOMS, 3)) + step * rng.normal(size=(1, N_ATOMS, 3))
    return start + 0.3 * np.cumsum(moves, axis=0) + rng.normal(scale=step, size=moves.shape)


def driven(text, folder, frames, box=None, **settings):
    """Run an input over frames by both backends, each in its folder."""
    for backend in ("native", "kernel"):
        chosen = {"timestep": 0.002, "kt": KT, "forces": "forces"} | settings
        chosen |= {"backend": backend, "directory": folder / backend, "forces_format": "%14.7f"}
        run_driver(text, iter([Frame(x, box) for x in frames]), DriverSettings(**chosen))


def compare(folder, *files, tolerance=1e-6):
    """Header by header and number by number, one unit of the last digit printed."""
    for file in files:
        lines = [(folder / b / file).read_text().splitlines() for b in ("native", "kernel")]
        assert len(lines[0]) == len(lines[1])
        for ours, plumeds in zip(*lines, strict=True):
            if plumeds.startswith("#") or ours == plumeds:
                assert ours == plumeds
                continue
            numbers = [np.array(x.removeprefix("X ").split(), float) for x in (ours, plumeds)]
            size = np.max(np.abs(numbers[1])) if plumeds.startswith("X ") else 0  # of the force
            atol = tolerance * max(size, 1)
            np.testing.assert_allclose(*numbers, rtol=tolerance, atol=atol)
