"""Lists of near pairs against all pairs, in boxes of all forms and of any size."""

import numpy as np
import openmm
import pytest
import torch

from openmm_cgan import PlumedBias
from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.actions.variables import contacts
from openmm_cgan.plumed.geometry import near_pairs, pair_blocks
from openmm_cgan.plumed.geometry.lattices import nearest_image
from openmm_cgan.plumed.geometry.near_pairs import PairList, is_crowded, pairs_within
from openmm_cgan.plumed.input.language import PlumedInputError, read_statements

EDGES = np.array([2.2, 2.6, 3.0])
TILTED = np.diag(EDGES) + np.array([[0, 0, 0], [0.7, 0, 0], [-0.9, 0.8, 0]])
FORMS = {
    "no box": lambda rng: None,
    "rectangular": lambda rng: np.diag(rng.uniform(0.5, 3, 3)),
    "triclinic": lambda rng: np.tril(rng.uniform(-1, 1, (3, 3)), -1) + np.diag(EDGES),
    "any": lambda rng: rng.normal(0, 1, (3, 3)) + 2 * np.eye(3)[rng.permutation(3)],
}  # fmt: skip


def all_within(a, b, box, reach):
    vectors = tuple(b[None, :, k] - a[:, None, k] for k in range(3))
    x, y, z = vectors if box is None else nearest_image(vectors, box)
    return np.nonzero(x * x + y * y + z * z <= reach * reach)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_pairs_within_reach_are_those_of_all_pairs(form):
    """In boxes from a fifth of the reach on, with points anywhere and on the faces."""
    rng = np.random.default_rng(5)
    count = 0
    for _ in range(60):
        box = form(rng)
        a, b = (rng.normal(0, 2, (rng.integers(1, 40), 3)) for _ in range(2))
        if box is not None:
            b[0], a[0] = box[0], -box[1] - box[2]
        reach = rng.uniform(0.1, 2.5)
        found, expected = pairs_within(a, b, box, reach), all_within(a, b, box, reach)
        np.testing.assert_array_equal(found, expected)
        count += len(found[0])
    assert count > 500


def test_points_that_are_not_finite_are_near_to_nothing():
    points = np.array([[0.0, 0, 0], [np.nan, 0, 0], [0.1, 0, 0], [np.inf, 0, 0]])
    for box in (None, np.eye(3) * 2):
        first, second = pairs_within(points, points, box, 0.5)
        assert list(zip(first, second, strict=True)) == [(0, 0), (0, 2), (2, 0), (2, 2)]
    assert is_crowded(points, points, None, 0.1)


@pytest.mark.parametrize("box", [None, np.diag(EDGES), TILTED], ids=["no", "rectangular", "tilted"])
@pytest.mark.parametrize("once", [False, True])
def test_a_list_never_misses_a_pair_while_points_move(box, once, monkeypatch):
    """It holds while nothing has moved far, in small steps; it is made anew after jumps."""
    rng = np.random.default_rng(3)
    made = []
    monkeypatch.setattr(
        near_pairs, "pairs_within", lambda *given: made.append(1) or pairs_within(*given)
    )
    a = rng.random((50, 3)) * EDGES
    b = a if once else rng.random((60, 3)) * EDGES
    listed = PairList(np.arange(50), np.arange(50) if once else np.arange(20, 80), once)
    for step in range(60):
        before = a, b
        far = step % 20 == 19  # now and then an atom jumps, or the box breathes
        a = a + rng.normal(0, 0.01, a.shape) + far * (rng.random((50, 1)) < 0.1) * 0.9
        b = a if once else b + rng.normal(0, 0.01, b.shape)
        if box is not None and step == 30:
            box = box * 0.9
            a, b = before
        first, second = listed.pairs(a, b, box, 0.6)
        i, j = all_within(a, b, box, 0.6)
        counts = i < j if once else i != 20 + j
        expected = set(zip(i[counts], j[counts], strict=True))
        assert expected <= set(zip(first, second, strict=True))
        assert np.all(np.diff(first * 1000 + second) > 0)
    assert 4 <= len(made) < 40


def test_a_sum_over_a_list_does_not_hang_on_the_steps_before(monkeypatch):
    monkeypatch.setattr(pair_blocks, "BLOCK", 50)
    text = "c: COORDINATION GROUPA=1-30 GROUPB=31-80 SWITCH={RATIONAL R_0=0.2 D_MAX=0.5}"
    walked, fresh = (read_actions(read_statements(text, "<input>"))[0] for _ in range(2))
    rng = np.random.default_rng(1)
    positions = rng.random((80, 3)) * EDGES
    before = walked.gradient(0, positions, TILTED)
    for _ in range(5):
        positions = positions + rng.normal(0, 0.01, positions.shape)
        value, slopes = walked.gradient(0, positions, TILTED)
    again, by_fresh = fresh.gradient(0, positions, TILTED)
    assert value == again != before[0]
    np.testing.assert_array_equal(slopes, by_fresh)
    many = walked.value(np.stack([positions, positions + 0.1]), TILTED)
    np.testing.assert_allclose(many, [value, value], rtol=1e-12)


NUMBERS = (
    "SPECIES=1-30 {} MEAN MORE_THAN={{RATIONAL R_0=1.5}} MOMENTS=2",
    "SPECIESA=1-10 SPECIESB=5-30 {} LOWEST",
)


@pytest.mark.parametrize("box", [None, np.diag(EDGES), TILTED], ids=["no", "rectangular", "tilted"])
@pytest.mark.parametrize("numbers", NUMBERS)
def test_coordination_numbers_from_a_list_are_those_of_all_pairs(numbers, box, monkeypatch):
    monkeypatch.setattr(pair_blocks, "BLOCK", 20)
    switch = "SWITCH={RATIONAL R_0=0.3 D_MAX=0.55}"
    text = f"UNITS LENGTH=0.9\nc: COORDINATIONNUMBER {numbers.format(switch)}"
    action = read_actions(read_statements(text, "<input>"))[-1]
    positions = np.random.default_rng(2).random((30, 3)) * EDGES
    tensor = torch.tensor(positions, requires_grad=True)
    edges = None if box is None else torch.tensor(box)
    assert action._near(positions, box) is not None
    for index, expected in enumerate(action.values(tensor, edges)):
        (slopes,) = torch.autograd.grad(expected, tensor, retain_graph=True)
        value, gradient = action.gradient(index, positions, box)
        assert value == action.values(positions, box)[index]
        assert value == pytest.approx(float(expected.detach()), rel=1e-12)
        total = np.zeros_like(positions)
        np.add.at(total, list(action.sites), gradient)
        np.testing.assert_allclose(total, slopes.numpy(), atol=1e-10)
        strain = action.strain_slope(index, positions, box)
        monkeypatch.setattr(pair_blocks, "BLOCK", 10**6)
        np.testing.assert_allclose(strain, action.strain_slope(index, positions, box), atol=1e-10)
        monkeypatch.setattr(pair_blocks, "BLOCK", 20)


@pytest.mark.parametrize("box", [None, EDGES], ids=["no box", "box"])
def test_with_nlist_openmm_has_the_forces_of_all_pairs(box, tmp_path, monkeypatch):
    monkeypatch.setattr(contacts, "LISTED_PAIRS", 100)
    monkeypatch.setattr(pair_blocks, "BLOCK", 100)
    text = "c: COORDINATION GROUPA=1-20 GROUPB=21-60 SWITCH={{RATIONAL R_0=0.2 D_MAX=0.5}} {}\n"
    text += "RESTRAINT ARG=c AT=90 KAPPA=2"
    positions = np.random.default_rng(4).random((60, 3)) * EDGES
    states, leaves = [], []
    for words in ("", "NLIST NL_CUTOFF=0.6 NL_STRIDE=10"):
        system = openmm.System()
        for _ in range(60):
            system.addParticle(10.0)
        if box is not None:
            system.setDefaultPeriodicBoxVectors(*np.diag(box))
            periodic = openmm.CustomBondForce("0")
            periodic.setUsesPeriodicBoundaryConditions(True)
            system.addForce(periodic)
        bias = PlumedBias(text.format(words), backend="native", directory=tmp_path)
        (force,) = bias.add_to(system)
        is_python = isinstance(force, openmm.PythonForce)
        leaves.append(type(force if is_python else force.getCollectiveVariable(0)).__name__)
        platform = openmm.Platform.getPlatformByName("Reference")
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
        context.setPositions(positions)
        states.append(context.getState(energy=True, forces=True))
    assert leaves == ["CustomBondForce", "PythonForce"]
    plain, listed = states
    energies = [state.getPotentialEnergy()._value for state in states]
    assert energies[0] == pytest.approx(energies[1], rel=1e-12)
    forces = [state.getForces(asNumpy=True)._value for state in (plain, listed)]
    assert np.abs(forces[0]).max() > 1
    np.testing.assert_allclose(*forces, atol=1e-9)


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ("R_0=0.3 NLIST NL_CUTOFF=0.5 NL_STRIDE=10", "WARNING"),
        ("R_0=0.3 NLIST NL_CUTOFF=1.0 NL_STRIDE=10", "INFO"),
        ("SWITCH={RATIONAL R_0=0.3 D_MAX=0.5} NLIST NL_CUTOFF=0.5 NL_STRIDE=10", None),
        ("R_0=0.3 NL_CUTOFF=0.5", None),
    ],
)
def test_a_list_that_plumed_cuts_short_is_told(words, level, caplog):
    caplog.set_level("INFO", "openmm_cgan")
    read_actions(read_statements(f"c: COORDINATION GROUPA=1-4 GROUPB=5-9 {words}", "<input>"))
    assert [record.levelname for record in caplog.records] == ([level] if level else [])
    assert all("NL_CUTOFF" in record.getMessage() for record in caplog.records)


LIQUID = (
    "c: COORDINATION GROUPA=1-4000 SWITCH={CUBIC D_0=0.3 D_MAX=0.4}",
    "c: COORDINATIONNUMBER SPECIES=1-4000 SWITCH={CUBIC D_0=0.3 D_MAX=0.4} SUM",
)


@pytest.mark.parametrize("text", LIQUID)
def test_of_millions_of_pairs_the_near_ones_are_listed(text):
    """Against all pairs of one atom after the other."""
    (action,) = read_actions(read_statements(text, "<input>"))
    positions, edge = np.random.default_rng(6).random((4000, 3)) * 4.0, 4.0
    expected = 0.0
    for k in range(3999):
        gaps = positions[k + 1 :] - positions[k]
        gaps -= edge * np.round(gaps / edge)
        x = (np.sqrt((gaps**2).sum(axis=1)).clip(0.3, 0.4) - 0.3) / 0.1
        expected += ((x - 1) ** 2 * (1 + 2 * x)).sum()
    expected *= 2 if "NUMBER" in text else 1
    value, gradient = action.gradient(0, positions, np.eye(3) * edge)
    assert value == pytest.approx(expected, rel=1e-10)
    assert abs(gradient.sum()) < 1e-6 < abs(gradient).max()
    frames = np.stack([positions, positions + 1.0])
    assert action.values(frames, np.eye(3) * edge)[0] == pytest.approx([value] * 2, rel=1e-10)
    with pytest.raises(ValueError, match="all at once"):
        action.values(torch.tensor(positions))
    spread = text.replace("CUBIC D_0=0.3 D_MAX=0.4", "RATIONAL R_0=0.3")
    with pytest.raises(PlumedInputError, match="000 pairs"):
        read_actions(read_statements(spread, "<input>"))
