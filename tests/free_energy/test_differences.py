"""Named differences: what is read, which states CV values lie in, and the number."""

import math

import numpy as np
import pytest

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import BiasedFrames, basin_difference, reweight
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.free_energy.samples import unbiased

PHI = CollectiveVariable("phi", "rad", (-math.pi, math.pi))
D = CollectiveVariable("d", "nm")
KT = GAS_CONSTANT * 300.0


def test_numbers_and_parts_of_pi_are_read() -> None:
    read = StateDifference.of(" phi : -pi .. 0 | 0..2pi/3")
    assert (read.name, read.first) == ("phi", (-math.pi, 0.0))
    assert read.second == pytest.approx((0.0, 2 * math.pi / 3))
    assert StateDifference.of("a:b.c:0..1e-1").name == "a:b.c"


@pytest.mark.parametrize(
    "text", ["phi", "phi:", "phi:0", "phi:0..", "phi:0..0", "phi:0..1|", ":0..1", "phi:0..pi/0",
             "phi:0..1|1..2|2..3", "phi:0..x", "phi:0....1", "phi:nan..1"],
)  # fmt: skip
def test_what_is_no_difference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected such as"):
        StateDifference.of(text)


def test_an_interval_goes_round_the_end_of_a_period() -> None:
    phi = np.array([[3.0], [-3.0], [0.0], [1.5]])
    sides = StateDifference.of("phi:2.3..-2.3|0..2.3").sides(phi, [PHI])
    assert sides.tolist() == [0, 0, 1, 1]
    assert StateDifference.of("phi:1..2").sides(phi, [PHI]).tolist() == [0, 0, 0, 1]
    assert StateDifference.of("phi:-0.5..0.5|1..2").sides(phi, [PHI]).tolist() == [-1, -1, 0, 1]


def test_states_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        StateDifference.of("d:0.5..0.2").sides(np.zeros((1, 1)), [D])
    with pytest.raises(ValueError, match="no CV 'psi'"):
        StateDifference.of("psi:0..1").sides(np.zeros((1, 1)), [PHI])
    for text, words in (  # of values that are nowhere near, too
        ("d:0..2|1..3", "overlap"), ("d:1..3|0..2", "overlap"), ("phi:2..-2|3..3.1", "overlap"),
        ("phi:-pi..pi", "leaves no rest"), ("phi:0..120", "give both ends in its unit"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            StateDifference.of(text).sides(np.array([[-1.0]]), [D, PHI][text[0] == "p" :])


@pytest.mark.parametrize(
    "text",
    ["phi:-pi..0|0..pi", "phi:-2pi/3..2pi/3|2pi/3..-2pi/3", "phi:2..-2|-2..2", "d:0..1|1..2"],
)
def test_states_that_touch_do_not_overlap(text: str) -> None:
    variable = D if text[0] == "d" else PHI
    sides = StateDifference.of(text).sides(np.linspace(-3.1, 3.1, 50)[:, None], [variable])
    assert set(sides) >= {0, 1}


def test_the_number_is_that_of_the_weights() -> None:
    """Of a normal density, by the error function; less the rest, as basin_difference has it."""
    rng = np.random.default_rng(1)
    x = rng.normal(0.0, 1.0, (20_000, 1))
    frames = BiasedFrames(x, unbiased, 300.0, (D,))
    samples = reweight([frames])
    found = StateDifference.of("d:-1..0|1..2").estimate(samples)
    cdf = [0.5 * (1 + math.erf(z / math.sqrt(2))) for z in (-1, 0, 1, 2)]
    exact = -KT * math.log((cdf[3] - cdf[2]) / (cdf[1] - cdf[0]))
    assert abs(found.value - exact) < 4 * found.error < 0.3
    rest = StateDifference.of("d:1..2").estimate(samples)
    inside = (samples.cvs[:, 0] >= 1) & (samples.cvs[:, 0] < 2)
    assert rest == pytest.approx(basin_difference(samples, inside))
    with pytest.raises(ValueError, match="no sample lies in the second state"):
        StateDifference.of("d:0..1|90..91").estimate(samples)
