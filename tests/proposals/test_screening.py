"""Every reason a proposal is refused for, triggered by a geometry made to be wrong in that way."""

import dataclasses
import itertools
import math

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from openmm import app
from scipy.sparse.csgraph import shortest_path

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.proposals import Screen, ScreenSettings, cv_tolerances, propose
from openmm_cgan.radii import VAN_DER_WAALS
from openmm_cgan.testsystems import PHI_ATOMS, PSI_ATOMS, alanine_dipeptide, torsion

VARIABLES = (
    CollectiveVariable("phi", "rad", (-math.pi, math.pi)),
    CollectiveVariable("psi", "rad", (-math.pi, math.pi)),
)
N, CA, C_ACE, O_ACE, HA, CB = 6, 8, 4, 5, 9, 10
BEHIND_CA_C = list(range(15, 22))


class Torsions:
    """A restriction: phi and psi, one configuration after another."""

    variables = VARIABLES

    def cv_values(self, positions: NDArray) -> NDArray:
        return np.array([[torsion(x, PHI_ATOMS), torsion(x, PSI_ATOMS)] for x in positions])


@pytest.fixture(scope="module")
def molecule():
    return alanine_dipeptide("C7eq")


@pytest.fixture
def screen(molecule) -> Screen:
    return Screen(molecule.topology, molecule.positions, Torsions())


@pytest.fixture
def target(molecule) -> NDArray:
    return Torsions().cv_values(molecule.positions[None])[0]


def turned(x: NDArray, origin: int, end: int, behind: list[int], angle: float) -> NDArray:
    """Rodrigues' rotation of some atoms about a bond."""
    axis = (x[end] - x[origin]) / np.linalg.norm(x[end] - x[origin])
    made, arms = x.copy(), x[behind] - x[end]
    along = np.outer(arms @ axis, axis)
    made[behind] = (
        x[end] + along + math.cos(angle) * (arms - along) + math.sin(angle) * np.cross(axis, arms)
    )
    return made


def with_swapped_hydrogen_and_methyl(x: NDArray) -> NDArray:
    """D-alanine: HA and CB change places about CA, the methyl hydrogens move along."""
    made = x.copy()
    to_ha, to_cb = x[HA] - x[CA], x[CB] - x[CA]
    ha, cb = (v / np.linalg.norm(v) for v in (to_ha, to_cb))
    # half a turn about the bisector of the two bonds exchanges their directions
    axis = (ha + cb) / np.linalg.norm(ha + cb)
    group = [HA, CB, 11, 12, 13]
    arms = x[group] - x[CA]
    made[group] = x[CA] + 2 * np.outer(arms @ axis, axis) - arms
    return made


def wrong_geometries(x: NDArray) -> dict[str, NDArray]:
    """A configuration for each reason, made from a right one."""
    made = {"": turned(x, 0, 1, [0], 0.0)}
    made["not finite"] = x.copy()
    made["not finite"][3, 1] = np.nan
    made["bond length"] = x.copy()
    made["bond length"][0] += 1.4 * (x[0] - x[1])
    made["chirality"] = with_swapped_hydrogen_and_methyl(x)
    made["cis/trans"] = turned(x, N, C_ACE, [0, 1, 2, 3, O_ACE], math.pi)
    made["cv error"] = turned(x, CA, 14, BEHIND_CA_C, 0.2)
    return made


@pytest.mark.parametrize("reason", ["", "not finite", "bond length", "cv error"])
def test_a_wrong_geometry_has_its_reason(molecule, screen, target, reason) -> None:
    wrong = wrong_geometries(molecule.positions)[reason]
    assert screen.check(wrong[None], target) == [reason]


def test_frames_of_hot_dynamics_pass(molecule, screen) -> None:
    integrator = openmm.LangevinMiddleIntegrator(600, 5, 0.002)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(molecule.system, integrator, platform)
    context.setPositions(molecule.positions)
    frames = []
    for _ in range(100):
        integrator.step(50)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    assert set(screen.check(np.array(frames))) == {""}


def test_mirror_image_has_the_wrong_hand_at_any_cv(molecule, screen) -> None:
    mirror = molecule.positions * [1, 1, -1]
    assert screen.check(mirror[None]) == ["chirality"]


def test_d_alanine_is_refused_though_its_energy_is_finite(molecule, screen, target) -> None:
    wrong = wrong_geometries(molecule.positions)["chirality"]
    lenient = Screen(
        molecule.topology, molecule.positions, Torsions(), ScreenSettings(clash_fraction=0.1)
    )
    assert lenient.check(wrong[None], target) == ["chirality"]
    off = dataclasses.replace(lenient.settings, chirality=False)
    assert Screen(molecule.topology, molecule.positions, None, off).check(wrong[None]) == [""]


def test_a_cis_amide_is_refused_unless_it_is_let_through(molecule, target) -> None:
    wrong = wrong_geometries(molecule.positions)["cis/trans"]
    settings = ScreenSettings(clash_fraction=0.3)
    strict = Screen(molecule.topology, molecule.positions, None, settings)
    assert strict.check(wrong[None]) == ["cis/trans"]
    settings = dataclasses.replace(settings, cis_trans=False)
    assert Screen(molecule.topology, molecule.positions, None, settings).check(wrong[None]) == [""]
    # what counts is the reference, not trans
    reference = Screen(molecule.topology, wrong, None, ScreenSettings(clash_fraction=0.3))
    assert reference.check(np.stack([wrong, molecule.positions])).tolist() == ["", "cis/trans"]


def chain_and_carbon(gap: float) -> tuple[app.Topology, NDArray]:
    """Four bonded carbons and one more, ``gap`` from the first."""
    topology = app.Topology()
    chain = topology.addChain()
    residue = topology.addResidue("X", chain)
    atoms = [topology.addAtom(f"C{i}", app.element.carbon, residue) for i in range(5)]
    for one, two in itertools.pairwise(atoms[:4]):
        topology.addBond(one, two)
    x = np.array([[0.15 * i, 0.02 * (i % 2), 0] for i in range(4)] + [[0.0, -gap, 0]])
    return topology, x


@pytest.mark.parametrize(("gap", "reason"), [(0.34 * 0.6 + 1e-6, ""), (0.34 * 0.6 - 1e-6, "clash")])
def test_two_carbons_clash_below_a_fraction_of_their_radii(gap: float, reason: str) -> None:
    topology, reference = chain_and_carbon(0.5)
    screen = Screen(topology, reference, None, ScreenSettings(clash_fraction=0.6))
    assert screen.check(chain_and_carbon(gap)[1][None]) == [reason]


def test_atoms_three_bonds_apart_cannot_clash_unless_asked() -> None:
    topology, reference = chain_and_carbon(0.5)
    bent = reference.copy()
    bent[3] = bent[0] + [0.1, 0.1, 0.0]  # a 1-4 pair at 0.14 nm
    loose = ScreenSettings(bond_tolerance=10.0)
    assert Screen(topology, reference, None, loose).check(bent[None]) == [""]
    strict = dataclasses.replace(loose, excluded_bonds=2)
    assert Screen(topology, reference, None, strict).check(bent[None]) == ["clash"]


def bonded(topology: app.Topology) -> NDArray:
    """Which atoms are bonded, shape (n_atoms, n_atoms)."""
    matrix = np.zeros((topology.getNumAtoms(),) * 2)
    for bond in topology.bonds():
        matrix[bond[0].index, bond[1].index] = matrix[bond[1].index, bond[0].index] = 1
    return matrix


def test_the_clash_check_in_pieces_says_the_same(molecule, rng, monkeypatch) -> None:
    screen = Screen(molecule.topology, molecule.positions)
    x = molecule.positions + 0.05 * rng.standard_normal((300, 22, 3))
    whole = screen.check(x)
    monkeypatch.setattr("openmm_cgan.proposals.clashes.CHUNK", 1000)
    np.testing.assert_array_equal(screen.check(x), whole)
    # by a tree of neighbours, as for large molecules
    monkeypatch.setattr("openmm_cgan.proposals.clashes.ALL_PAIRS", 0)
    by_tree = Screen(molecule.topology, molecule.positions)
    np.testing.assert_array_equal(by_tree.check(x), whole)
    # recomputed pair by pair
    far = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1)
    bonds_apart = shortest_path(bonded(molecule.topology), unweighted=True)
    radius = np.array([VAN_DER_WAALS[z] for z in screen.graph.elements])
    closest = np.array(
        [
            [0.55 * (radius[a] + radius[b]) * (bonds_apart[a, b] > 3) for b in range(22)]
            for a in range(22)
        ]
    )
    clashing = (far < closest).any(axis=(1, 2))
    assert 0 < clashing.sum() < 300
    unbroken = whole != "bond length"
    np.testing.assert_array_equal(whole[unbroken] == "clash", clashing[unbroken])


def test_reasons_do_not_depend_on_place_and_orientation(molecule, screen, target, rng) -> None:
    x = np.stack(list(wrong_geometries(molecule.positions).values()))
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    np.testing.assert_array_equal(
        screen.check(x @ rotation.T + [300, -20, 7], target), screen.check(x, target)
    )


def test_numbers_that_overflow_are_refused_without_a_warning(molecule, screen) -> None:
    x = np.stack([molecule.positions * 1e200, np.full((22, 3), np.inf), np.zeros((22, 3))])
    assert screen.check(x).tolist() == ["bond length", "not finite", "bond length"]


def test_cv_tolerance_is_measured_round_the_circle(molecule, target) -> None:
    for offset, tolerance, reason in [
        (2 * math.pi, 0.05, ""),
        (0.2, (0.3, 0.3), ""),
        (0.2, (0.3, 0.1), "cv error"),
    ]:
        settings = ScreenSettings(cv_tolerance=tolerance)
        screen = Screen(molecule.topology, molecule.positions, Torsions(), settings)
        assert screen.check(molecule.positions[None], target + offset) == [reason]


def test_the_default_tolerance_is_a_fraction_of_what_is_known_of_the_cv() -> None:
    variables = [
        CollectiveVariable("phi", "rad", (-math.pi, math.pi)),
        CollectiveVariable("psi", "rad", (-math.pi, math.pi)),
        CollectiveVariable("d", "nm"),
    ]
    known = np.array([[-3.1, 3.1], [0.2, 1.2], [0.30, 0.35]])  # d: a distance of two centres
    found = cv_tolerances(ScreenSettings(), variables, known)
    np.testing.assert_allclose(found, [2 * math.pi / 60, 1.0 / 20, 0.05 / 20])
    given = cv_tolerances(ScreenSettings(cv_tolerance=0.02), variables, known)
    np.testing.assert_array_equal(given, [0.02, 0.02, 0.02])
    np.testing.assert_allclose(cv_tolerances(ScreenSettings(), variables[:2], None), math.pi / 30)
    with pytest.raises(ValueError, match=r"no range is known of d, .*cv_tolerance"):
        cv_tolerances(ScreenSettings(), variables, None)
    for wrong in (0.0, -1.0, math.nan, (0.1, 0.1)):
        with pytest.raises(ValueError, match=r"expected (one|a) positive number"):
            cv_tolerances(ScreenSettings(cv_tolerance=wrong), variables, known)


def test_proposals_are_screened_by_the_range_that_the_sampler_knows(molecule) -> None:
    values = Torsions().cv_values(molecule.positions[None])
    sampler = WrongSampler(molecule.positions[None])
    for width, reason in ((2.0, ""), (0.5, "cv error")):  # a twentieth is 0.1, or 0.025
        sampler.cv_range = np.concatenate([values - width / 2, values + width / 2]).T
        screen = Screen(molecule.topology, molecule.positions, Torsions())
        made = propose(sampler, values + 0.05, screen, seed=0)
        assert made.reasons.tolist() == [reason]


class WrongSampler:
    """Gives one configuration for each reason in turn."""

    variables = VARIABLES
    topology_hash, cv_range, has_density = "", None, False

    def __init__(self, configurations: NDArray) -> None:
        self.configurations = configurations
        self.n_atoms = configurations.shape[1]
        self.atoms = np.arange(self.n_atoms)

    def sample(self, cvs: NDArray, n: int | None = None, seed: int = 0) -> NDArray:
        return self.configurations[np.arange(len(cvs)) % len(self.configurations)]


def test_propose_counts_by_reason(molecule, screen, target) -> None:
    geometries = wrong_geometries(molecule.positions)
    sampler = WrongSampler(np.stack(list(geometries.values())))
    proposals = propose(sampler, np.tile(target, (12, 1)), screen, seed=3)
    assert len(proposals) == 12
    assert proposals.seed == 3
    assert sum(proposals.counts().values()) == 12
    assert proposals.counts()["accepted"] == proposals.accepted.sum() == 2
    assert proposals.counts()["not finite"] == 2
    finite = proposals.reasons != "not finite"
    assert np.isnan(proposals.cvs[~finite]).all()
    np.testing.assert_allclose(proposals.cvs[0], target, atol=1e-12)


def test_many_are_made_in_parts_the_first_as_by_itself(
    molecule, screen, target, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Drawn(WrongSampler):
        def sample(self, cvs: NDArray, n: int | None = None, seed: int = 0) -> NDArray:
            noise = np.random.default_rng(seed).normal(size=(len(cvs), self.n_atoms, 3))
            return self.configurations[:1] + 1e-4 * noise

    monkeypatch.setitem(propose.__globals__, "AT_ONCE", 4)
    sampler = Drawn(molecule.positions[None])
    made = propose(sampler, np.tile(target, (10, 1)), screen, seed=3).positions
    first = propose(sampler, np.tile(target, (4, 1)), screen, seed=3).positions
    np.testing.assert_array_equal(made[:4], first)
    assert len(np.unique(made[:, 0, 0])) == 10
    again = propose(sampler, np.tile(target, (10, 1)), screen, seed=3).positions
    np.testing.assert_array_equal(made, again)


def test_one_target_is_one_proposal(molecule, screen, target) -> None:
    assert len(propose(WrongSampler(molecule.positions[None]), target, screen, seed=0)) == 1


@pytest.mark.parametrize(
    ("targets", "shape", "message"),
    [
        (np.zeros((4, 3)), (22, 3), r"expected \(n, 2\).*phi, psi"),
        (np.zeros((4, 2)), (21, 3), r"expected \(4, 22, 3\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(screen, targets, shape, message) -> None:
    with pytest.raises(ValueError, match=message):
        propose(WrongSampler(np.zeros((1, *shape))), targets, screen, seed=0)


def test_a_screen_without_restriction_cannot_propose(molecule, target) -> None:
    screen = Screen(molecule.topology, molecule.positions)
    with pytest.raises(ValueError, match="with a restriction"):
        propose(WrongSampler(molecule.positions[None]), target, screen, seed=0)


def test_a_reference_that_cannot_be_one_is_refused(molecule) -> None:
    topology, x = molecule.topology, molecule.positions
    with pytest.raises(ValueError, match=r"shape \(21, 3\)"):
        Screen(topology, x[:21])
    with pytest.raises(ValueError, match=r"flat at the stereocentres \[8\]"):
        Screen(topology, x * [1, 1, 0])
    with pytest.raises(ValueError, match=r"in angstrom"):
        Screen(topology, x * 10)
    bare = app.Topology()
    residue = bare.addResidue("X", bare.addChain())
    for atom in topology.atoms():
        bare.addAtom(atom.name, atom.element, residue)
    with pytest.raises(ValueError, match="0 for 22 atoms"):
        Screen(bare, x)
    with pytest.raises(ValueError, match=r"cv_tolerance is .* 2 CVs"):
        Screen(topology, x, Torsions(), ScreenSettings(cv_tolerance=(0.1, 0.1, 0.1)))
    with pytest.raises(ValueError, match=r"expected \(n, 22, 3\)"):
        Screen(topology, x).check(x)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cv_tolerance": -1},
        {"cv_tolerance": (0.1, np.nan)},
        {"bond_tolerance": np.nan},
        {"clash_fraction": -0.5},
        {"excluded_bonds": -1},
    ],
)
def test_settings_that_would_refuse_or_pass_everything_are_refused_when_made(wrong):
    [name] = wrong
    with pytest.raises(ValueError, match=f"{name} is .*; expected"):
        ScreenSettings(**wrong)


class Omega:
    """The amide's own torsion."""

    variables = (
        CollectiveVariable("omega", "rad", (-math.pi, math.pi), "TORSION", (1, C_ACE, N, CA)),
    )

    def cv_values(self, positions: NDArray) -> NDArray:
        return np.array([[torsion(x, (1, C_ACE, N, CA))] for x in positions])


def test_an_amide_that_a_cv_turns_is_what_the_cv_says(molecule) -> None:
    """Omega of a proline or of an N-methylated residue: both isomers are what is looked for."""
    topology, x = molecule.topology, molecule.positions
    cis = wrong_geometries(x)["cis/trans"]
    free = Screen(topology, x, Omega(), ScreenSettings(clash_fraction=0.0))
    assert len(free.amides) == 1  # that of NME is kept
    assert free.check(np.stack([cis, x])).tolist() == ["", ""]
    settings = ScreenSettings(clash_fraction=0.0).turned_by(Omega.variables)
    part = [*range(1, 22), 0]  # by atoms of the topology, wherever they stand
    one = Screen(topology, x[part], settings=settings, atoms=part)
    assert one.check(cis[None, part]).tolist() == [""]
    strict = dataclasses.replace(settings, turning=())
    assert Screen(topology, x, settings=strict).check(cis[None]).tolist() == ["cis/trans"]


@pytest.mark.parametrize(
    ("symbol", "distance"),
    [("Zn", 0.190), ("Li", 0.182), ("Na", 0.205), ("Mg", 0.190), ("K", 0.245), ("Fe", 0.190)],
)
def test_an_ion_may_stand_where_ions_stand_at_an_oxygen(symbol: str, distance: float) -> None:
    """No bonds hold it: heat brings ions that near to a water of their first shell."""
    topology = app.Topology()
    residue = topology.addResidue("LIG", topology.addChain())
    elements = [app.Element.getBySymbol(name) for name in ("C", "O", "O", symbol)]
    atoms = [topology.addAtom(f"A{i}", element, residue) for i, element in enumerate(elements)]
    topology.addBond(atoms[0], atoms[1])
    topology.addBond(atoms[0], atoms[2])
    x = 0.125 * np.array([[0, 0, 0], [0, 1, 0], [0, -0.5, 0.87], [0, 1, 0]])
    ion = np.array([0, 0, 0, 1])[:, None] * [1, 0, 0]
    screen = Screen(topology, x + distance * ion)
    assert screen.check(np.array([x + 0.13 * ion]))[0] == "clash"
