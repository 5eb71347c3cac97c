"""What is given with units is converted, or refused when it is made; never fails later, oddly."""

import math

import numpy as np
import pytest
from openmm import Vec3, unit

from openmm_cgan.cgan import RefiningSettings, TrainingSettings
from openmm_cgan.closures import Grid, ReducedDynamics, Trajectories, kramers_moyal
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import free_energy_at_points, free_energy_profile, reweight
from openmm_cgan.free_energy.samples import BiasedFrames, unbiased
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.bias.reporters import BiasCheckpointReporter
from openmm_cgan.proposals import Screen, ScreenSettings, UniformConditions
from openmm_cgan.quantities import (
    kelvin,
    nanometers,
    number_of_steps,
    numbers_of,
    positive,
    same_temperature,
)
from openmm_cgan.reporters import FrameReporter, RunCheckpointReporter
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.windows import WindowSettings
from openmm_cgan.windows.dragging import DragSettings

PHI = CollectiveVariable("phi", "rad", (-math.pi, math.pi), "TORSION", (4, 6, 8, 14))
TWO_PS = 2 * unit.picosecond


def test_a_temperature_is_the_same_to_a_thousandth():
    assert same_temperature(300.29, 300.0)
    assert same_temperature(299.71, 300.0)
    assert not same_temperature(300.31, 300.0)
    assert not same_temperature(299.69, 300.0)


def test_temperatures_and_times_with_and_without_units():
    assert kelvin(None) is None
    assert kelvin(300) == kelvin(300 * unit.kelvin) == 300.0
    assert positive(2 * unit.femtosecond, "ps", "timestep") == pytest.approx(0.002)
    assert positive(1 / unit.femtosecond, "1/ps", "friction") == pytest.approx(1000)
    assert positive(1 * unit.kilocalorie_per_mole, "kJ/mol", "kT") == pytest.approx(4.184)


@pytest.mark.parametrize("wrong", [0, -1, math.nan, "warm", TWO_PS, [300, 310]])
def test_what_is_no_temperature_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=r"temperature is .*expected a positive number \[K\]"):
        kelvin(wrong)


def test_lengths_in_all_forms_that_openmm_gives():
    points = [Vec3(1, 2, 3), Vec3(4, 5, 6)]
    expected = np.array([[1.0, 2, 3], [4, 5, 6]])
    for given in (points, expected, points * unit.nanometer, 10 * expected * unit.angstrom):
        np.testing.assert_allclose(nanometers(given), expected)
    each = [point * unit.nanometer for point in points]  # a list of Quantities
    np.testing.assert_allclose(nanometers(each), expected)
    with pytest.raises(ValueError, match="expected lengths"):
        nanometers(TWO_PS)


@pytest.mark.parametrize("wrong", [TWO_PS, 2.5, 0, math.nan, math.inf, "many", None])
def test_what_is_no_number_of_steps_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=r"pace is .*expected a number of steps >= 1"):
        number_of_steps(wrong, "pace")
    assert number_of_steps(np.int64(5), "pace") == number_of_steps(5.0, "pace") == 5


@pytest.mark.parametrize(
    "wrong", [1 * unit.radian, [1 * unit.radian, 2.0], np.array([1 * unit.radian]), "x"]
)
def test_cv_values_are_numbers(wrong):
    with pytest.raises(ValueError, match=r"targets: expected numbers \[CV units\]"):
        numbers_of(wrong, "targets")


ANGLE = 1 * unit.radian
BIAS = "phi: TORSION ATOMS=5,7,9,15\nRESTRAINT ARG=phi AT=-1 KAPPA=50\n"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kappa": 200 * unit.kilojoule_per_mole / unit.radian**2},
        {"kappa": (1.0, -1.0)},
        {"temperature": TWO_PS},
        {"temperature": -3},
        {"max_energy": 5 * unit.kilojoule_per_mole},
        {"heal_steps": TWO_PS},
        {"settle_steps": TWO_PS},
        {"settle_steps": -1},
        {"minimise_iterations": -1},
        {"batch": 2.5},
    ],
)
def test_proposal_settings_are_refused_when_made(wrong):
    [name] = wrong
    with pytest.raises(ValueError, match=name):
        ProposalSettings(**wrong)


def test_proposal_settings_take_a_temperature_with_units():
    assert ProposalSettings(temperature=300 * unit.kelvin).kappa is None
    with pytest.raises(
        ValueError, match="max_energy is 5 kJ/mol; expected a plain number"
    ) as caught:
        ProposalSettings(max_energy=5 * unit.kilojoule_per_mole)
    assert "PLUMED" not in str(caught.value)


def test_every_border_converts_or_refuses(tmp_path):
    test = alanine_dipeptide()
    bias = PlumedBias(BIAS)
    refused = {
        "reportInterval": [
            lambda: FrameReporter(tmp_path / "frames", TWO_PS, bias),
            lambda: RunCheckpointReporter(tmp_path / "run.chk", TWO_PS, {}),
            lambda: BiasCheckpointReporter(tmp_path / "bias.chk", TWO_PS, bias),
        ],
        "centres": [lambda: bias.restrained([ANGLE], 10.0)],
        "kappa": [
            lambda: bias.restrained([1.0], 10 * unit.kilojoule_per_mole),
            lambda: DragSettings(temperature=300, kappa=ANGLE),
        ],
        "cvs": [lambda: bias.bias_of_cvs([[ANGLE]])],
        "cv_range": [lambda: UniformConditions([[-1 * unit.radian, ANGLE]], [PHI])],
        "cv_tolerance": [
            lambda: Screen(test.topology, test.positions, bias, ScreenSettings(ANGLE))
        ],
        "timestep": [lambda: WindowSettings(300, 10, 0, timestep=300 * unit.kelvin)],
        "steps": [lambda: WindowSettings(300, TWO_PS, 0)],
        "kT": [lambda: free_energy_at_points([[0.0, 0.0]], kT=300 * unit.kelvin)],
    }
    for name, calls in refused.items():
        for call in calls:
            with pytest.raises(ValueError, match=name):
                call()
    assert list(tmp_path.iterdir()) == []  # nothing was made before
    frames = BiasedFrames(np.zeros((3, 1)), unbiased, 300 * unit.kelvin, (PHI,))
    assert frames.temperature == 300.0
    assert DragSettings(300 * unit.kelvin, 1.0, timestep=2 * unit.femtosecond).timestep == 0.002
    screen = Screen(test.topology, test.positions * unit.nanometer, bias)
    in_angstrom = 10 * test.positions[None] * unit.angstrom
    assert screen.check(in_angstrom).tolist() == [""]


def test_closures_count_in_the_units_given():
    """kT in kcal/mol, times in fs; edges and bounds of a CV have no unit but its own."""
    d = CollectiveVariable("d", "nm")
    grid = Grid.over([d], 20, [(0.2, 0.6)])
    well, flat = 100 * (grid.axes[0] - 0.4) ** 2, np.full((20, 1, 1), 0.01)
    kcal = ReducedDynamics(grid, well, flat, 0.6 * unit.kilocalorie_per_mole)
    plain = ReducedDynamics(grid, well, flat, 0.6 * 4.184)
    np.testing.assert_allclose(kcal.density, plain.density)
    paths = [kcal.simulate([[0.4]], 5, dt, seed=0) for dt in (0.001, 1 * unit.femtosecond)]
    np.testing.assert_allclose(*paths)
    runs = Trajectories((np.random.default_rng(0).random((200, 1)),), 0.01, (d,))
    assert len(runs.after(20 * unit.femtosecond).cvs[0]) == len(runs.after(0.02).cvs[0]) == 198
    slope = {"bias_slope": np.ones_like, "bandwidth": 0.3, "n_bootstrap": 0}
    drifts = [
        kramers_moyal(runs, [0.5], [1, 2], kT=kT, **slope).drift[0].value
        for kT in (2.0 * unit.kilocalorie_per_mole, 8.368)
    ]
    np.testing.assert_allclose(*drifts)
    samples = reweight([BiasedFrames(runs.cvs[0], unbiased, 300, (d,))], n_bootstrap=0)
    edges = np.array([2.0, 6.0]) * unit.angstrom
    for wrong in (
        lambda: Grid.over([d], 5, [edges]),
        lambda: free_energy_profile(samples, "d", edges),
        lambda: kramers_moyal(runs, [0.5], [1, 2], **slope),
        lambda: runs.after(300 * unit.kelvin),
    ):
        with pytest.raises(ValueError, match=r"expected numbers \[CV units\]|kT|a time \[ps\]"):
            wrong()


@pytest.mark.parametrize(
    ("settings", "name"),
    [(TrainingSettings, "steps"), (TrainingSettings, "condition_noise"),
     (RefiningSettings, "batch"), (ScreenSettings, "clash_fraction")],
)  # fmt: skip
def test_what_has_no_units_is_refused_with_them(settings, name):
    with pytest.raises(ValueError, match=rf"{name}\b.* 2 ps.*expected|{name}=2 ps\): expected"):
        settings(**{name: TWO_PS})


def test_only_a_restraint_is_moved():
    bias = PlumedBias("phi: TORSION ATOMS=5,7,9,15\nPRINT ARG=phi\n")
    with pytest.raises(ValueError, match="one restraint of a bias that `restrained` has made"):
        bias.move_restraint(None, [1.0])
