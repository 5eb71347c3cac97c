"""From words to options to actions: what is parsed before an action exists, and what it enters."""

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from openmm_cgan.plumed.actions import ACTIONS, read_actions, read_known
from openmm_cgan.plumed.actions.action import Given
from openmm_cgan.plumed.actions.metad.axis import Axis
from openmm_cgan.plumed.actions.metad.heights import HeightOptions
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.metad.metad import Metad
from openmm_cgan.plumed.actions.metad.totals import rct_of
from openmm_cgan.plumed.actions.opes.settings import settings_at
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.chains import Distance, Torsion, TorsionOfVectors
from openmm_cgan.plumed.actions.variables.components import DistanceComponents
from openmm_cgan.plumed.input.language import PlumedInputError, read_statements

KT = 2.494
VALUES = "t: TORSION ATOMS=1,2,3,4\nd: DISTANCE ATOMS=5,6\n"
METAD = (
    "m: METAD ARG=t,d SIGMA=0.3,0.1 HEIGHT=1.5 PACE=5 BIASFACTOR=8 GRID_MIN=-pi,0 GRID_MAX=pi,2 "
    "GRID_BIN=20,20 ACCELERATION FREQUENCY_ADAPTIVE UPDATE_FROM=3 WALKERS_N=3 WALKERS_ID=1\n"
)


def last(text):
    return read_actions(read_statements(VALUES + text), 30)[-1]


def messages(text):
    return [str(problem) for problem in read_known(read_statements(text), 30)[1]]


# ---- options


def test_what_a_metad_is_told_is_frozen_and_stands_apart_from_its_state():
    one, other = last(METAD), last(METAD)
    assert one.options == other.options
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.options.pace = 3
    before = copy.deepcopy(one.options)
    one.start(KT, 0.002)
    one.deposit([0.1, 1.0], 0.0)
    one.pacing.update(7.0)
    one.window.move_to(4, 5.0, first=True)
    assert one.options == before
    assert one.pace == 35
    assert other.pace == 5
    assert other.hills.at([0.1, 1.0]) == 0.0 < one.hills.at([0.1, 1.0])


def test_the_parts_of_a_metads_options():
    options = last(METAD).options
    assert [axis.cells for axis in options.grid.axes] == [20, 20]
    assert (options.walkers.number, options.walkers.index, options.walkers.stride) == (3, 1, 1)
    assert options.window == (3.0, math.inf)
    assert options.acceleration.pacing.every == 5
    assert options.transition is options.widths is options.near_hills is None


def test_a_wrong_word_is_told_before_there_is_a_metad(monkeypatch):
    monkeypatch.setattr(Metad, "error", None)  # nothing asks a half-made one
    for wrong, word in (("PACE=5", "PACE=0"), ("WALKERS_ID=1", "WALKERS_ID=7")):
        [message] = messages(VALUES + METAD.replace(wrong, word))
        assert message.startswith(f"plumed.dat:3: {word.partition('=')[0]}: must be")


def test_a_bias_factor_that_is_no_number_is_told_with_all_else():
    opes = "o: OPES_METAD ARG=t PACE=5 BARRIER=20 BIASFACTOR=much\nRESTRAINT ARG=u AT=1\n"
    first, second = messages(VALUES + opes)
    assert first.startswith("plumed.dat:3: BIASFACTOR: 'much' is not a number")
    assert second.startswith("plumed.dat:4: ARG=u")


# ---- heights and c(t) of METAD, settings of OPES


@pytest.mark.parametrize("bias_factor", [None, 1.0, 6.0])
def test_a_height_that_was_written_is_read_again(bias_factor):
    heights = HeightOptions(1.2, 0.0, bias_factor, 0.0)
    assert heights.read(heights.written(0.7)) == pytest.approx(0.7, rel=1e-15)


def test_well_tempered_heights_fall_with_the_bias():
    heights = HeightOptions(1.2, 0.0, 6.0, 0.0)
    height = heights.tempered_height(1.2, 3.0, KT, None, None)
    assert height == pytest.approx(1.2 * math.exp(-3.0 / (KT * 5.0)), rel=1e-15)


def test_a_time_scale_sets_the_first_height():
    assert HeightOptions(None, 4.0, 6.0, 0.0).first(KT, 0.01) == pytest.approx(KT * 5 / 4 * 0.01)
    assert HeightOptions(None, 4.0, None, 3.0).first(KT, 0.01) == pytest.approx(KT * 3 / 4 * 0.01)


@pytest.mark.parametrize("bias_factor", [None, 6.0])
def test_c_of_t_of_a_level_bias_is_that_bias(bias_factor):
    grid = HillGrid([Axis(Value("d"), 0.0, 2.0, 10)])
    grid.nodes[0] = 4.5
    assert rct_of(grid, KT, bias_factor) == pytest.approx(4.5, rel=1e-14)


def test_what_follows_from_a_barrier_and_a_temperature():
    opes = last("o: OPES_METAD ARG=t,d PACE=5 BARRIER=30 SIGMA=0.1,0.2\n")
    settings = settings_at(KT, opes.options, False, opes.error)
    factor = 30 / KT
    assert settings.bias_factor == pytest.approx(factor)
    assert settings.prefactor == pytest.approx(1 - 1 / factor)
    assert settings.epsilon == pytest.approx(math.exp(-30 / (1 - 1 / factor) / KT))
    assert settings.cutoff == pytest.approx(math.sqrt(2 * 30 / KT / (1 - 1 / factor)))
    with pytest.raises(PlumedInputError, match=r"BIASFACTOR: is 0\.5; must be above 1"):
        settings_at(60.0, opes.options, False, opes.error)


# ---- classes, and what actions enter


CHOSEN = {
    "DISTANCE ATOMS=1,2": Distance,
    "DISTANCE ATOMS=1,2 COMPONENTS": DistanceComponents,
    "DISTANCE ATOMS=1,2 SCALED_COMPONENTS": DistanceComponents,
    "TORSION ATOMS=1,2,3,4 COSINE": Torsion,
    "TORSION VECTORA=1,2 AXIS=3,4 VECTORB=5,6": TorsionOfVectors,
}


@pytest.mark.parametrize(("text", "cls"), CHOSEN.items(), ids=CHOSEN)
def test_keywords_choose_the_class(text, cls):
    assert type(last(f"x: {text}\n")) is cls


def test_an_action_leaves_its_options_as_they_were_given():
    atoms = {"ATOM": (3,), "SCALED_COMPONENTS": False, "NOPBC": True}
    vectors = {
        **dict.fromkeys(("ATOMS", "VECTORA", "VECTORB")),
        "AXIS": (2, 3),
        "VECTOR1": (0, 1),
        "VECTOR2": (4, 5),
        "COSINE": True,
        "NOPBC": False,
    }
    for name, options in (("POSITION", atoms), ("TORSION", vectors)):
        [statement] = read_statements(f"x: {name}\n")
        given = Given("x", statement, UnitSystem(), Path(), dict(options))
        assert ACTIONS[name].made(given).sites
        assert given.options == options


def test_a_problem_names_the_keyword_of_the_input():
    assert messages("POSITION ATOM=1,2\n") == [
        "plumed.dat:1: ATOM: POSITION takes 1 atoms here, 2 given"
    ]


def test_settings_stand_first():
    assert messages("MOLINFO STRUCTURE=nothing.pdb\nUNITS LENGTH=A\n")[1:] == []
    assert messages(VALUES + "UNITS LENGTH=A\n") == [
        "plumed.dat:3: UNITS: must stand before all other actions"
    ]
    assert messages("RESTART\nUNITS LENGTH=A\nRESTART NO\n") == []


def test_what_is_entered_is_there_below_and_not_above():
    text = "d: DISTANCE ATOMS=c,g\nc: COM ATOMS=1-3\ng: GROUP ATOMS=4\ne: DISTANCE ATOMS=c,g\n"
    [above] = messages(text)
    assert above.startswith("plumed.dat:1: ATOMS=c,g: 'c' is not an atom number")
    *_, e = read_actions(read_statements(text.partition("\n")[2]), 30)
    assert e.sites[1] == 3
    np.testing.assert_array_equal(e.sites[0].atoms, (0, 1, 2))
