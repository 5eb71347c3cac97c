"""Where steered torsions are sent: densities that integrate to one, of which draws come."""

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from openmm import app
from scipy import stats

from openmm_cgan.cgan.torsion_map import TorsionMap
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import ConditionEncoding, ZMatrixFeatures
from openmm_cgan.generators import FlowGenerator
from openmm_cgan.internal_coordinates import Internal, ZMatrix
from openmm_cgan.proposals import GridConditions, UniformConditions
from openmm_cgan.reporters.moves import torsion_targets
from openmm_cgan.reporters.moves.steering import Steering
from openmm_cgan.reporters.moves.torsion_targets import TorsionTargets
from openmm_cgan.testsystems import Chain
from tests.cases.chain_flow import chain_flow
from tests.cases.chain_sampler import RANGES
from tests.cases.chain_targets import RIGHT

TURN = (-np.pi, np.pi)
ANY, ONE = np.zeros(2), np.zeros(1)  # CVs of the configuration: if atoms move them of no use
CIRCLE = np.linspace(-np.pi, np.pi, 181)[:-1] + np.pi / 180


class Sampler:
    """What a TorsionSampler is asked for here: four torsions, one of a methyl group.

    The first is a CV, with the other sign; the second CV is no torsion.
    """

    def __init__(self) -> None:
        n = 7
        rows = [(i, *(i - k if i >= k else -1 for k in (1, 2, 3))) for i in range(n)]
        self.z_matrix = ZMatrix(rows)
        # the torsion of atoms 3 2 1 0 with its ends exchanged has the other sign
        phi = CollectiveVariable("phi", "rad", TURN, action="TORSION", atoms=(0, 2, 1, 3))
        self.variables = (phi, CollectiveVariable("d", "nm"))
        rng = np.random.default_rng(0)
        internal = Internal(
            torch.from_numpy(rng.normal(0.15, 0.003, (300, n - 1))),
            torch.from_numpy(rng.normal(1.9, 0.05, (300, n - 2))),
            torch.from_numpy(rng.uniform(-np.pi, np.pi, (300, n - 3))),
        )
        features = ZMatrixFeatures.of_internal(self.z_matrix, self.variables, internal)
        self.cv_range = np.array([TURN, (0.3, 0.6)])
        cvs = torch.from_numpy(rng.uniform(*self.cv_range.T, (300, 2)))
        conditions = ConditionEncoding.fit(self.variables, cvs)
        torch.manual_seed(1)
        flow = FlowGenerator(features.n_linear, 3, conditions.n_condition, bins=6, folds=[1, 3, 1])
        with torch.no_grad():
            for network in flow.splines:
                for parameter in network[-1].parameters():
                    parameter.mul_(100)
        self.made = TorsionMap(flow, features, conditions)
        self.features = features

    def torsion_map(self) -> TorsionMap:
        return self.made


@pytest.fixture(autouse=True)
def few_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torsion_targets, "LISTED", 8)


@pytest.fixture(scope="module")
def sampler() -> Any:
    return Sampler()


def density_of(targets: TorsionTargets, places: NDArray, k: int) -> NDArray:
    """Along torsion k, all others at places, with one CV."""
    along = np.tile(places, (len(CIRCLE), 1))
    along[:, k] = CIRCLE
    return np.exp([targets.log_density(one, ONE) for one in along])


@pytest.mark.parametrize("name", RANGES)
def test_torsions_of_a_chain_are_drawn_as_the_density_says(name: str) -> None:
    domain = TURN if name == "phi" else None
    atoms = {"phi": (0, 1, 2, 3), "theta": (0, 1, 2), "d": (0, 3)}[name]
    action = {"phi": "TORSION", "theta": "ANGLE", "d": "DISTANCE"}[name]
    variable = CollectiveVariable(name, "rad", domain, action=action, atoms=atoms)
    flow = chain_flow(Chain(), (variable,), wrong=3.0)
    given: Any = "uniform"
    if name == "phi":
        given = GridConditions([1.0, 4.0, 2.0, 9.0], [TURN], [variable])
    targets, rng = TorsionTargets(flow, given), np.random.default_rng(2)
    density = density_of(targets, np.zeros(1), 0)
    assert density.sum() * 2 * np.pi / 180 == pytest.approx(1, abs=2e-3)
    assert density.max() > 1.5 * density.min()
    drawn = np.array([targets.drawn(np.zeros(1), ONE, rng)[0][0] for _ in range(400)])
    cumulative = np.concatenate([[0], density.cumsum()]) * 2 * np.pi / 180
    edges = np.linspace(-np.pi, np.pi, 181)
    assert stats.kstest(drawn, lambda x: np.interp(x, edges, cumulative)).pvalue > RIGHT
    turned = targets.log_density(np.array([1.0 + 4 * np.pi]), ONE)
    assert turned == pytest.approx(targets.log_density(np.array([1.0]), ONE), abs=1e-9)


def test_alike_hydrogens_stay_and_the_others_are_given_them(sampler: Any) -> None:
    targets, rng = TorsionTargets(sampler), np.random.default_rng(4)
    assert targets.is_drawn.tolist() == [True, True, False, True]
    now = np.array([0.3, -1.2, 2.0, 0.7])
    drawn = np.array([targets.drawn(now, ANY, rng)[0] for _ in range(50)])
    assert (drawn[:, 2] == 2.0).all()
    assert (np.abs(drawn - now).min(axis=0)[[0, 1, 3]] > 0).all()
    others = [targets.log_density(one + np.array([0, 0, 2.1, 0]), ANY) for one in (now, drawn[0])]
    before = [targets.log_density(one, ANY) for one in (now, drawn[0])]
    assert abs(np.diff(others) - np.diff(before)) > 1e-3, "the last is given them"
    # of all that is drawn the density integrates to one: by draws from a uniform density
    uniform = rng.uniform(-np.pi, np.pi, (500, 4))
    uniform[:, 2] = 2.0
    weights = (2 * np.pi) ** 3 * np.exp([targets.log_density(one, ANY) for one in uniform])
    assert abs(weights.mean() - 1) < 4 * weights.std() / np.sqrt(500)


def test_torsions_are_those_of_the_atoms_named(sampler: Any) -> None:
    targets, rng = TorsionTargets(sampler), np.random.default_rng(5)
    drawn, condition = targets.drawn(np.zeros(4), ANY, rng)
    stiff = torch.zeros(1, sampler.features.n_linear)
    turned = torch.from_numpy(drawn[None, 1:])
    features = torch.cat([stiff, turned.cos(), turned.sin()], dim=1)
    x = sampler.features.decode(features, torch.from_numpy(condition[None]))[0].numpy()
    found = Steering(targets.rows, 1.0)
    np.testing.assert_allclose(found.ways(drawn, found.values(x)), 0.0, atol=1e-5)


def test_cvs_that_the_part_does_not_move_are_conditions_as_they_stand(sampler: Any) -> None:
    targets = TorsionTargets(sampler, is_moved=np.array([True, False]))
    torsions, rng = np.array([0.3, -1.2, 2.0, 0.7]), np.random.default_rng(6)
    found = []
    for d in (0.35, 0.55):
        here = np.array([9.0, d])  # the first is a torsion that is drawn, whatever it is here
        _, condition = targets.drawn(torsions, here, rng)
        assert condition[1] == d
        each = sampler.made.log_prob(torsions[None], np.array([[torsions[0] * -1, d]]))[0]
        found.append(targets.log_density(torsions, here))
        assert found[-1] == pytest.approx(each[[1, 3]].sum() - np.log(2 * np.pi), abs=1e-9)
    assert abs(np.diff(found)) > 1e-3
    beyond = np.array([0.0, 0.61])
    assert not targets.can_be_drawn(torsions, beyond)
    assert targets.log_density(torsions, beyond) == -np.inf
    both = UniformConditions(sampler.cv_range, sampler.variables)
    with pytest.raises(ValueError, match=r"of 2 CVs; expected those .* move, \['phi'\]"):
        TorsionTargets(sampler, both, is_moved=np.array([True, False]))


def topology_of(symbols: str) -> app.Topology:
    """A chain of atoms."""
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    atoms = [
        topology.addAtom(f"{s}{k}", app.Element.getBySymbol(s), residue)
        for k, s in enumerate(symbols)
    ]
    for one, two in pairwise(atoms):
        topology.addBond(one, two)
    return topology


def test_what_turns_hydrogens_alone_is_led_where_it_is_a_cv_or_nothing_else_turns(
    sampler: Any,
) -> None:
    targets = TorsionTargets(sampler, topology=topology_of("HCCCCCH"))
    assert targets.is_drawn.tolist() == [True, True, False, False]
    flow = chain_flow(Chain(), (CollectiveVariable("d", "nm", None, "DISTANCE", (0, 3)),))
    assert TorsionTargets(flow, topology=topology_of("HCCH")).is_drawn.tolist() == [True]


def test_a_cv_that_is_a_torsion_of_the_part_is_moved_by_it(sampler: Any) -> None:
    """It may be drawn from beyond what was trained on, and the others may not."""
    narrow = copy.copy(sampler)
    narrow.cv_range = np.array([(-1.0, 1.0), sampler.cv_range[1]])
    anywhere = UniformConditions([TURN], sampler.variables[:1])
    torsions, here = np.array([-2.0, -1.2, 2.0, 0.7]), np.array([2.0, 0.4])
    found = [
        TorsionTargets(narrow, anywhere, is_moved=np.array([known, False])).log_density(
            torsions, here
        )
        for known in (True, False)
    ]
    assert found[0] == found[1] > -np.inf


def test_given_conditions_are_of_torsions_or_of_others(sampler: Any) -> None:
    given = UniformConditions(sampler.cv_range, sampler.variables)
    with pytest.raises(ValueError, match=r"\['phi'\] are torsions of the generator and others"):
        TorsionTargets(sampler, given)
    variable = CollectiveVariable("d", "nm", action="DISTANCE", atoms=(0, 3))
    flow = chain_flow(Chain(), (variable,))
    near = UniformConditions([[0.25, 0.3]], [variable])
    targets = TorsionTargets(flow, near)
    conditions = [
        targets.drawn(np.zeros(1), ONE, np.random.default_rng(k))[1][0] for k in range(20)
    ]
    assert 0.25 <= min(conditions) < max(conditions) <= 0.3
