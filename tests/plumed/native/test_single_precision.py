"""What GPUs work out in single precision: expressions whose numbers and slopes must stay right.

Shown in double precision, where the same loss comes nearer to the point, or further away from it.
"""

import numpy as np
import openmm
import pytest

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.geometry.switching import read_switch


def energy_and_force(force, *points, n=1):
    """Energy, and force along x on the last particle, at points of it on the x axis."""
    system = openmm.System()
    for _ in range(n):
        system.addParticle(1.0)
    system.addForce(force)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    found = []
    for x in points:
        context.setPositions([(0, 0, 0)] * (n - 1) + [(x, 0, 0)])
        state = context.getState(energy=True, forces=True)
        energy = state.getPotentialEnergy()._value
        found.append((energy, state.getForces(asNumpy=True)._value[-1, 0]))
    return np.array(found).T


def switched(text, *distances):
    force = openmm.CustomBondForce(read_switch(text).expression("r"))
    force.addBond(0, 1, [])
    return energy_and_force(force, *distances, n=2)


@pytest.mark.parametrize(("n", "m"), [(8, 12), (6, 10), (7, 16), (12, 6), (5, 64)])
def test_a_rational_switch_has_its_slope_next_to_r_0(n, m):
    """(1 - x^n) / (1 - x^m) is 0/0 there: its slope was noise, of all its size within 1e-8."""
    x = 1 + np.array([-3e-8, -1.2e-8, 0, 1.2e-8, 3e-8, 1e-6])
    values, forces = switched(f"RATIONAL R_0=0.3 NN={n} MM={m}", *(0.3 * x))
    np.testing.assert_allclose(values, n / m, rtol=1e-4)
    np.testing.assert_allclose(forces, -0.5 * n * (n - m) / m / 0.3, rtol=1e-3)


@pytest.mark.parametrize("numbers", [(8, 12), (6, 12), (7, 16), (12, 16), (5, 9)])
def test_a_rational_switch_is_the_fraction_elsewhere(numbers):
    n, m = numbers
    x = np.array([0.05, 0.4, 0.8, 1.25, 2.0, 7.0])
    values, forces = switched(f"RATIONAL R_0=0.3 NN={n} MM={m}", *(0.3 * x))
    top, bottom = 1 - x**n, 1 - x**m
    np.testing.assert_allclose(values, top / bottom, rtol=1e-10)
    slopes = (-n * x ** (n - 1) * bottom + m * x ** (m - 1) * top) / bottom**2
    np.testing.assert_allclose(forces, -slopes / 0.3, rtol=1e-8, atol=1e-12)
    here = read_switch(f"RATIONAL R_0=0.3 NN={n} MM={m}")
    np.testing.assert_allclose(here.value(0.3 * x), top / bottom, rtol=1e-10)


def test_the_other_switches_are_what_they_are_said_to_be():
    x = np.array([0.05, 0.4, 0.8, 1.0, 1.25, 2.0, 7.0])
    values, _ = switched("SMAP R_0=0.3 A=10 B=5", *(0.3 * x))
    np.testing.assert_allclose(values, (1 + 3 * x**10) ** -0.5, rtol=1e-10)
    values, forces = switched("Q R_0=1 REF=0.2 LAMBDA=1.5 BETA=30", *(0.3 * x))
    power = np.exp(30 * (0.3 * x - 0.3))
    np.testing.assert_allclose(values, 1 / (1 + power), rtol=1e-10)
    np.testing.assert_allclose(forces, 30 * power / (1 + power) ** 2, rtol=1e-8)


@pytest.mark.parametrize("distance", [20.0, 1e3])
def test_a_contact_far_apart_has_no_force(distance):
    """exp(BETA r) is infinite there, on a GPU from 1.8 nm on, and its slope was no number."""
    values, forces = switched("Q R_0=1 REF=0.2", distance)
    np.testing.assert_allclose([values, forces], 0, atol=1e-30)


@pytest.mark.parametrize("least", [-10.0, 700.0, 5000.0])
def test_a_path_that_is_far_away_is_still_a_path(tmp_path, least):
    """All weights were zero, from LAMBDA times 745 on, and 88 on a GPU."""
    text = "d: DISTANCE ATOMS=1,2\n" + "".join(
        f"c{k}: CUSTOM ARG=d FUNC=(x-{k})^2+{least} PERIODIC=NO\n" for k in range(3)
    )
    text += "p: FUNCPATHMSD ARG=c0,c1,c2 LAMBDA=1.3\nBIASVALUE ARG=p.s,p.z\n"
    system = openmm.System()
    for _ in range(2):
        system.addParticle(12.0)
    PlumedBias(text, temperature=300.0, directory=tmp_path).add_to(system)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions([(0, 0, 0), (0.7, 0, 0)])
    state = context.getState(energy=True, forces=True)

    def bias(d):
        x = np.array([(d - k) ** 2 for k in range(3)])
        w = np.exp(-1.3 * x)  # less what all have
        return w @ [1, 2, 3] / w.sum() - np.log(w.sum()) / 1.3 + least

    assert state.getPotentialEnergy()._value == pytest.approx(bias(0.7), rel=1e-9)
    slope = (bias(0.70001) - bias(0.69999)) / 2e-5
    assert state.getForces(asNumpy=True)._value[1, 0] == pytest.approx(-slope, rel=1e-4)
