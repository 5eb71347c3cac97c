"""Where windows stand and how stiff they are, against free energies with known curvature."""

import logging
import re
from string import Template

import numpy as np
import pytest
from scipy.special import erfc

from openmm_cgan import GAS_CONSTANT, PlumedBias
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import FreeEnergy
from openmm_cgan.windows import WindowSettings, umbrella_windows
from openmm_cgan.windows.placement import place_windows, window_template, windows_needed

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE
PHI = CollectiveVariable("phi", "rad", (-np.pi, np.pi))
D = CollectiveVariable("d", "nm")


def profile(values: np.ndarray, variable=PHI, n: int = 24) -> FreeEnergy:
    low, high = variable.domain or (0.0, 1.0)
    centres = low + (high - low) * (np.arange(n) + 0.5) / n
    return FreeEnergy((variable,), (centres,), values, np.zeros(n))


def shared(width: float, spacing: float) -> float:
    """What two normal densities have in common, by quadrature."""
    x = np.linspace(-8 * width, spacing + 8 * width, 20001)
    both = [np.exp(-0.5 * ((x - at) / width) ** 2) for at in (0.0, spacing)]
    return float(np.minimum(*both).sum() / both[0].sum())


def test_neighbours_on_flat_ground_share_a_third() -> None:
    placed = place_windows(profile(np.zeros(24)), TEMPERATURE, 60.0)
    assert placed.centres.shape == (24, 1)
    width, spacing = np.sqrt(KT / placed.kappa[0]), 2 * np.pi / 24
    assert shared(width, spacing) == pytest.approx(0.317, abs=0.001)
    assert shared(width, spacing) == pytest.approx(erfc(spacing / width / np.sqrt(8)), abs=1e-3)


def test_a_restraint_holds_against_what_bends_down() -> None:
    """Four times the curvature of A cos 2 phi at its top, 4 A, by differences of the bins."""
    n, height = 24, 40.0
    s = profile(np.zeros(n)).centres[0]
    placed = place_windows(profile(height * np.cos(2 * s)), TEMPERATURE, 60.0)
    spacing = 2 * np.pi / n
    exact = 4 * 4 * height * np.cos(spacing)  # the bin next to the top, not the top itself
    assert placed.kappa[0] == pytest.approx(exact, rel=0.03)
    assert placed.kappa[0] > KT * (2 / spacing) ** 2


def least_shared(height: float, centres: np.ndarray, kappa: float) -> float:
    """What neighbours share least, of windows on A cos 2 phi, by quadrature."""
    s = np.linspace(-np.pi, np.pi, 4001)
    off = np.mod(s - centres[:, None] + np.pi, 2 * np.pi) - np.pi
    u = (height * np.cos(2 * s) + 0.5 * kappa * off**2) / KT
    p = np.exp(-u + u.min(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return float(np.minimum(p, np.roll(p, 1, axis=0)).sum(axis=1).min())


def test_as_many_windows_as_are_needed_overlap(caplog) -> None:
    height, n = 50.0, 12
    few = profile(height * np.cos(2 * profile(np.zeros(n), n=n).centres[0]), n=n)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        placed = place_windows(few, TEMPERATURE, 200.0)
    number = int(re.findall(r"give (\d+) windows or more, not 12", caplog.text)[0])
    assert number == windows_needed(few, TEMPERATURE, 200.0)
    assert least_shared(height, placed.centres[:, 0], placed.kappa[0]) < 0.01
    enough = profile(np.zeros(number), n=number)
    many = profile(height * np.cos(2 * enough.centres[0]), n=number)
    placed = place_windows(many, TEMPERATURE, 200.0)
    assert least_shared(height, placed.centres[:, 0], placed.kappa[0]) > 0.03


def test_high_and_unknown_places_have_no_window() -> None:
    values = np.zeros(24)
    values[3], values[7] = 61.0, np.nan
    placed = place_windows(profile(values), TEMPERATURE, 60.0)
    missing = np.setdiff1d(profile(values).centres[0], placed.centres[:, 0])
    np.testing.assert_allclose(missing, profile(values).centres[0][[3, 7]])
    with pytest.raises(ValueError, match="nowhere is the free energy known and below 60"):
        place_windows(profile(np.full(24, np.nan)), TEMPERATURE, 60.0)


def test_ends_that_do_not_meet_are_no_neighbours() -> None:
    steep = profile(np.linspace(0, 50, 20), D, 20)  # a straight line bends nowhere
    placed = place_windows(steep, TEMPERATURE, 60.0)
    assert placed.kappa[0] == pytest.approx(KT * (2 / 0.05) ** 2)


def test_two_cvs_have_windows_of_their_own_stiffness() -> None:
    first, second = profile(np.zeros(6), PHI, 6), profile(np.zeros(5), D, 5)
    values = np.zeros((6, 5))
    values[2, 1] = 99
    surface = FreeEnergy((PHI, D), (first.centres[0], second.centres[0]), values, 0 * values)
    placed = place_windows(surface, TEMPERATURE, 60.0)
    assert placed.names == ("phi", "d")
    assert len(placed.centres) == 29
    np.testing.assert_allclose(placed.kappa, KT * (2 / np.array([2 * np.pi / 6, 0.2])) ** 2)
    given = place_windows(surface, TEMPERATURE, 60.0, [3.0, 4.0])
    np.testing.assert_allclose(given.kappa, [3, 4])


INPUT = """UNITS ENERGY=kcal/mol
phi: TORSION ATOMS=1,2,3,4
d: DISTANCE ATOMS=1,4 COMPONENTS
METAD ARG=phi,d.x SIGMA=0.1,0.1 HEIGHT=1 PACE=10
PRINT ARG=phi FILE=C
"""


def test_a_template_restrains_some_and_keeps_the_others(tmp_path) -> None:
    bias = PlumedBias(INPUT, temperature=TEMPERATURE, cvs=("phi", "d.x"), directory=tmp_path)
    text = window_template(bias, {"d.x": 250.0})
    settings = WindowSettings(TEMPERATURE, 10, 1)
    [window] = umbrella_windows(text, [[0.3]], np.zeros((1, 4, 3)), settings, tmp_path, "given")
    made = PlumedBias(window.plumed, temperature=TEMPERATURE, directory=tmp_path)
    assert [v.name for v in made.variables] == ["d.x", "phi"]
    points = np.array([[0.1, 2.0], [0.5, -1.0]])
    np.testing.assert_allclose(made.bias_of_cvs(points), 0.5 * 250 * (points[:, 0] - 0.3) ** 2)
    assert "$" not in Template(text).safe_substitute(cv0=0.3)
    with pytest.raises(ValueError, match=r"no CV psi among phi, d\.x"):
        window_template(bias, {"psi": 1.0})
