"""Coordinates learned in rounds: over a barrier that plain dynamics does not cross, resumable."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.explore.coordinate_rounds import (
    Round,
    RoundSettings,
    learn_in_rounds,
    nothing_new,
)
from openmm_cgan.learned_variable import Inputs
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.testsystems import Molecule
from openmm_cgan.testsystems.multiscale import HalfMoon
from openmm_cgan.testsystems.multiscale.wells import QuarticWell

KT = GAS_CONSTANT * 300
# wells at u = -1 and 1 with 10 kT between them, bent: x = u + y^2
BENT = HalfMoon(kT=KT, well=QuarticWell(10 * KT, 1.0), fast_stiffness=100.0)
INPUTS = Inputs("p: POSITION ATOM=1\n", ("p.x", "p.y"), (None, None))
SETTINGS = RoundSettings(
    steps=1500, pace=50, height=1.0, n_coordinates=1, n_landmarks=60, patience=3, most=9,
    timestep=0.02,
)  # fmt: skip


def particle() -> Molecule:
    """The system, in its left well."""
    return Molecule(BENT.topology(), BENT.system(), np.array([[-1.0, 0.0, 0.0]]))


def table_of(folder: Path) -> np.ndarray:
    """Inputs at all frames of all rounds, (n, 2)."""
    rounds = sorted(folder.glob("round-*"))
    return np.concatenate([read_fields(own / "COLVAR").taken(INPUTS.names) for own in rounds])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("rounds")
    learned = learn_in_rounds(particle(), INPUTS, found, SETTINGS)
    assert learned.n_coordinates == 1
    return found


def test_they_cross_a_barrier_of_10_kT_and_tell_the_wells_apart(folder: Path) -> None:
    """Plain dynamics crosses it once in some 20 ns; these are 0.3."""
    table = table_of(folder)
    slow = table[:, 0] - table[:, 1] ** 2
    assert slow[:31].max() < -0.5, "the first round has no bias"
    assert slow.max() > 0.8
    learned = learn_in_rounds(particle(), INPUTS, folder, SETTINGS, resume=True)
    left, right = (learned(table[where])[:, 0] for where in (slow < -0.7, slow > 0.7))
    in_order = (left[:, None] < right).mean()
    assert max(in_order, 1 - in_order) > 0.9, "0.5 where it tells nothing, by 0.02"


def test_each_round_takes_over_the_hills_of_those_before(folder: Path) -> None:
    """The bias at its start is the sum of all hills where the new coordinate has them."""
    before, own = folder / "round-003", folder / "round-004"
    hills = read_fields(own / "HILLS")
    old = [read_fields(folder / f"round-{k:03d}" / "HILLS") for k in (1, 2, 3)]
    each = SETTINGS.steps // SETTINGS.pace
    heights = np.concatenate([h.columns["height"][-each:] for h in old])
    np.testing.assert_allclose(hills.columns["height"][: 3 * each], heights, rtol=1e-8)
    bias = PlumedBias((own / "plumed.dat").read_text(), directory=before, cvs=("cv.node-0",))
    x = np.zeros((3 * each, 1, 3))
    names = ("round-001", "round-002", "round-003")
    tables = [read_fields(folder / name / "COLVAR") for name in names]
    x[:, 0, :2] = np.concatenate([t.taken(INPUTS.names)[t.columns["time"] > 0] for t in tables])
    np.testing.assert_allclose(
        bias.cv_values(x)[:, 0], hills.columns["cv.node-0"][: 3 * each], rtol=1e-6, atol=1e-6
    )


def test_killed_and_resumed_they_leave_the_same_files(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "again")
    rounds = sorted((tmp_path / "again").glob("round-*"))
    for own in rounds[6:]:
        (own / "round.json").unlink()  # the last thing that a round writes
    (rounds[6] / "COLVAR").write_text("#! FIELDS time p.x")
    with pytest.raises(FileExistsError, match="holds rounds already"):
        learn_in_rounds(particle(), INPUTS, tmp_path / "again", SETTINGS)
    learn_in_rounds(particle(), INPUTS, tmp_path / "again", SETTINGS, resume=True)
    for own in sorted(folder.glob("round-*")):
        for name in ("COLVAR", "HILLS", "round.json", "state.xml"):
            if (own / name).exists():
                there = tmp_path / "again" / own.name / name
                assert there.read_bytes() == (own / name).read_bytes(), (own.name, name)


def test_rounds_of_other_settings_are_not_gone_on_with(folder: Path) -> None:
    other = RoundSettings(steps=2000, pace=50, n_coordinates=1, seed=2)
    with pytest.raises(ValueError, match=r"another .*timestep, seed"):
        learn_in_rounds(particle(), INPUTS, folder, other, resume=True)


@pytest.mark.parametrize(
    ("new", "scales", "expected"),
    [
        ([1.0, 0.001, 0.0, 0.002], [5.0, 5.1, 5.0], True),
        ([1.0, 0.001, 0.2, 0.002], [5.0, 5.1, 5.0], False),  # it went somewhere
        ([1.0, 0.001, 0.0, 0.002], [5.0, 9.0, 5.0], False),  # the map changed
        ([0.001, 0.0, 0.002], [5.0, 5.1, 5.0], False),  # too few rounds
    ],
)
def test_nothing_new_is_said_of_rounds_that_went_nowhere(
    new: list[float], scales: list[float], expected: bool
) -> None:
    padded = [np.array([5.0])] * (len(new) - len(scales)) + [np.array([s]) for s in scales]
    rounds = [
        Round(np.zeros((1, 2)), np.zeros(1), share, scale)
        for share, scale in zip(new, padded, strict=True)
    ]
    assert nothing_new(rounds, RoundSettings(patience=3)) is expected


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"steps": 1000}, "10 frames; at least 20"),
        ({"bias_factor": 1.0}, "more than 1"),
        ({"patience": 0}, "patience is 0"),
        ({"temperature": -300.0}, "temperature"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        RoundSettings(**wrong)  # type: ignore[arg-type]
