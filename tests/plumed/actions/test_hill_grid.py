"""Hills on a grid: exact at its nodes, PLUMED's splines between, an error off it."""

import math

import numpy as np
import pytest

from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.actions.metad.axis import Axis
from openmm_cgan.plumed.actions.metad.gaussian import CUTOFF, STRETCH
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.input.language import read_statements


def exact_hill(d2, height):
    """PLUMED's stretched Gaussian of half the squared distance."""
    return np.where(d2 < CUTOFF, height * (STRETCH * np.exp(-d2) + 1 - STRETCH), 0.0)


def test_the_grid_holds_the_hill_at_its_nodes_and_its_slopes_between():
    value = Value("s", domain=(-math.pi, math.pi), domain_text=("-pi", "pi"))
    plain = Value("d")
    axes = (Axis(value, -math.pi, math.pi, 50), Axis(plain, 0.0, 2.0, 41))
    grid = HillGrid(axes)
    centre, sigma = np.array([3.0, 1.9]), np.array([0.4, 0.11])
    grid.add(centre, sigma, 1.5)
    s, d = np.meshgrid(
        -math.pi + np.arange(50) * axes[0].step, np.arange(42) * axes[1].step, indexing="ij"
    )
    d2 = 0.5 * ((value.difference(centre[0], s) / sigma[0]) ** 2 + ((d - 1.9) / 0.11) ** 2)
    np.testing.assert_allclose(grid.nodes[0], exact_hill(d2, 1.5), atol=1e-14)
    h = 1e-6
    inside = d2 < 5  # the hill has a kink where it is cut
    for i, (ds, dd) in enumerate(((h, 0), (0, h))):

        def at(sign, ds=ds, dd=dd):
            q = value.difference(centre[0], s + sign * ds) / sigma[0]
            return exact_hill(0.5 * (q**2 + ((d + sign * dd - 1.9) / 0.11) ** 2), 1.5)

        numeric = (at(1) - at(-1)) / (2 * h) * axes[i].step
        np.testing.assert_allclose(grid.nodes[1 + i][inside], numeric[inside], atol=1e-8)
    nodes = grid.value([s[inside], d[inside]])
    np.testing.assert_allclose(nodes, grid.nodes[0][inside], atol=1e-12)


@pytest.mark.parametrize("height", [1.5, -1.5, 5e-8])
def test_slopes_count_where_a_node_is_not_flat_whatever_its_sign(height):
    """Half way between nodes the Hermite factors are 1/2 and, times the slope, 1/8 of a step."""
    axis = Axis(Value("d"), 0.0, 2.0, 20)
    grid = HillGrid([axis])
    grid.add([1.03], [0.3], height)
    value, slope = grid.nodes
    k = 8
    assert abs(slope[k] - slope[k + 1]) > 0.05 * abs(value[k])
    expected = 0.5 * (value[k] + value[k + 1])
    if abs(height) > 1e-7:  # below that PLUMED takes no slopes
        expected += 0.125 * (slope[k] - slope[k + 1])
    assert grid.at([axis.step * (k + 0.5)]) == pytest.approx(expected, rel=1e-12)


def test_values_off_the_grid_stop_the_run():
    text = (
        "d: DISTANCE ATOMS=1,2\n"
        "METAD ARG=d SIGMA=0.02 HEIGHT=1 PACE=10 GRID_MIN=0 GRID_MAX=0.3 FILE=H\n"
    )
    [_, metad] = read_actions(read_statements(text), 4)
    metad.check_inside([np.array(0.2)])
    with pytest.raises(RuntimeError, match="widen GRID_MIN and GRID_MAX"):
        metad.check_inside([np.array(0.31)])
