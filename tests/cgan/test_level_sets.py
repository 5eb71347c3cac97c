"""Generated configurations moved onto the CV values asked for."""

import logging
import math

import numpy as np
import pytest
import torch

from openmm_cgan.cgan import ConditionalGenerator, TrainingSettings, sample_on_level_sets
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames
from openmm_cgan.testsystems.multiscale import AngleRadius, HalfMoon

BRIEF = TrainingSettings(steps=30, batch=64, width=16, report_every=10)
TURNING = CollectiveVariable("u", "rad", (-math.pi, math.pi))


def trained(system, variable):
    """A generator that has seen little, and so comes only near the values asked for."""
    x = system.sample(1500, seed=0)
    z = system.slow(torch.from_numpy(x)).numpy()
    return ConditionalGenerator.fit(Frames.of_arrays(x, z, [variable]), settings=BRIEF), z[:400]


def measured(system):
    return lambda positions: system.slow(positions.flatten(1)[:, : system.n_dims])


@pytest.mark.parametrize(("system", "variable"), [(HalfMoon(), "z"), (AngleRadius(), TURNING)],
                         ids=["half-moon", "angle"])  # fmt: skip
def test_curved_cvs_come_out_as_asked(system, variable):
    generator, asked = trained(system, variable)
    before = generator.sample(asked, seed=1)
    after = sample_on_level_sets(generator, asked, measured(system), seed=1)
    off = measured(system)(torch.from_numpy(after)).numpy() - asked
    off -= 2 * math.pi * np.round(off / (2 * math.pi)) if variable is TURNING else 0
    was = measured(system)(torch.from_numpy(before)).numpy() - asked
    assert np.abs(off).max() < 1e-6
    assert np.abs(was).std() > 0.01
    np.testing.assert_array_equal(
        sample_on_level_sets(generator, asked, measured(system), seed=1), after
    )
    # one row for many
    many = sample_on_level_sets(generator, asked[0], measured(system), n=7, seed=2)
    assert many.shape == (7, 1, 3)


def test_cvs_that_are_placed_stay_so_beside_those_that_are_moved():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 4))
    cvs = np.stack([x[:, 2], x[:, 0] ** 2 + x[:, 1]], axis=1)
    generator = ConditionalGenerator.fit(Frames.of_arrays(x, cvs, ["a", "b"]), settings=BRIEF)
    assert generator.features.placed_variables == (0,)

    def both(p):
        p = p.flatten(1)
        return torch.stack([p[:, 2], p[:, 0] ** 2 + p[:, 1]], dim=1)

    made = sample_on_level_sets(generator, cvs[:300], both, seed=3)
    found = both(torch.from_numpy(made)).numpy()
    np.testing.assert_allclose(found[:, 0], cvs[:300, 0], atol=1e-14)
    np.testing.assert_allclose(found[:, 1], cvs[:300, 1], atol=1e-6)
    assert not made.reshape(300, -1)[:, 4:].any()  # what fills up the second particle


def test_the_law_along_the_level_set_is_left_as_it_is():
    """A cloud that is off by little keeps its moments along the set, to second order."""
    system, n, blur = HalfMoon(), 1500, 0.05
    generator, _ = trained(system, "z")
    z = np.full((n, 1), 0.5)
    exact = system.sample_conditional(z[:1], n, seed=4)[0]
    blurred = exact + np.random.default_rng(5).normal(0, blur, (n, 2))
    moved = sample_on_level_sets(
        _Fixed(generator, system.positions(blurred)), z, measured(system), seed=0
    )
    y, y0 = system.coordinates(moved)[:, 1], exact[:, 1]
    # y moves by at most the blur, which adds its square to the variance of y, 1/2
    error = (y - y0).std() / math.sqrt(n) + blur**2
    assert abs((y - y0).mean()) < 5 * error
    assert abs((y**2 - y0**2).mean()) < 5 * (y**2 - y0**2).std() / math.sqrt(n) + 2 * blur**2


class _Fixed:
    """A generator whose configurations are given."""

    def __init__(self, generator, positions):
        self.features, self.conditions = generator.features, generator.conditions
        self.variables, self.positions = generator.variables, positions

    def sample(self, cvs, n=None, seed=0):
        return self.positions.copy()


def test_values_that_cannot_be_reached_are_counted(caplog):
    generator, asked = trained(HalfMoon(), "z")

    def bounded(positions):
        return torch.tanh(positions[:, 0, :1])

    beyond = np.where(np.arange(len(asked))[:, None] < 3, 1.5, 0.0)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        made = sample_on_level_sets(generator, beyond, bounded, seed=1)
    assert "3 of 400 configurations could not be moved" in caplog.text
    np.testing.assert_array_equal(made[:3], generator.sample(beyond, seed=1)[:3])
    assert np.abs(np.tanh(made[3:, 0, 0])).max() < 1e-6
