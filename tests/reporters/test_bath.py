"""The heat bath of healing, against exact distributions of positions and velocities."""

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.reporters.bath import Bath
from openmm_cgan.states import positions_of, velocities_of

KT = GAS_CONSTANT * 300.0
N = 1000
STEP = 0.004  # ps
EVERY = 7  # steps between two draws
ROUNDS = 60


def run(system: openmm.System, start: NDArray, seed: int) -> tuple[NDArray, NDArray]:
    """Positions and velocities (ROUNDS - 20, n_atoms, 3) before each draw, once it is warm."""
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(STEP), platform)
    context.setPositions(start)
    bath, rng = Bath(system), np.random.default_rng(seed)
    everything = np.ones(len(start), dtype=bool)
    seen = []
    for _ in range(ROUNDS):
        bath.touch(context, everything, 300.0, EVERY * STEP, rng)
        context.getIntegrator().step(EVERY)
        state = context.getState(positions=True, velocities=True)
        seen.append((positions_of(state), velocities_of(state)))
    x, v = zip(*seen[20:], strict=True)
    return np.array(x), np.array(v)


def mean_and_error(values: NDArray) -> tuple[float, float]:
    """Of values (times, atoms): atoms are independent, times need not be."""
    means = values.mean(axis=0)
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))


@pytest.mark.parametrize("frequency", [50.0, 250.0])
def test_a_vibration_has_its_energy_however_long_the_step(frequency: float) -> None:
    """Also where velocities of the whole step would leave it 33 % too hot, (w step)^2 / 4."""
    mass = 2.0
    system, springs = openmm.System(), openmm.CustomExternalForce("0.5*k*(x^2+y^2+z^2)")
    springs.addGlobalParameter("k", mass * frequency**2)
    for i in range(N):
        system.addParticle(mass)
        springs.addParticle(i)
    system.addForce(springs)
    x, v = run(system, np.zeros((N, 3)), seed=5)
    for values in (mass * frequency**2 * x**2, mass * v**2):
        mean, error = mean_and_error(values.mean(axis=-1) / KT)
        assert error < 0.01
        assert abs(mean - 1) < 4 * error


def test_a_rigid_rod_in_a_field_is_turned_as_langevin_says() -> None:
    """Librations of 0.6 rad a step, of atoms held at a distance."""
    length, masses, strength = 0.1, (1.0, 16.0), 80.0
    system, field = openmm.System(), openmm.CustomExternalForce("pull*z")
    field.addPerParticleParameter("pull")
    start = np.zeros((2 * N, 3))
    for i in range(N):
        for k, mass in enumerate(masses):
            system.addParticle(mass)
            field.addParticle(2 * i + k, [(-1) ** (k + 1) * strength * KT / length])
        system.addConstraint(2 * i, 2 * i + 1, length)
        start[2 * i, 2] = length
    system.addForce(field)
    x, _ = run(system, start, seed=6)
    lengths = np.linalg.norm(x[:, ::2] - x[:, 1::2], axis=-1)
    np.testing.assert_allclose(lengths, length, rtol=1e-4)
    cosine, error = mean_and_error((x[:, ::2] - x[:, 1::2])[..., 2] / length)
    expected = 1 / np.tanh(strength) - 1 / strength
    assert abs(cosine - expected) < 4 * error
