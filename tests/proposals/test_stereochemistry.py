"""Stereocentres, amides and double bonds are known from chemistry: the truth of every case here."""

import numpy as np
import pytest
from openmm import app

from openmm_cgan.proposals import Screen, ScreenSettings
from openmm_cgan.proposals.graph_classes import graph_classes
from openmm_cgan.proposals.stereo_axes import flat_cumulenes, hands_of_axes
from openmm_cgan.proposals.stereochemistry import BondGraph
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.bond_graphs import ATOMIC_NUMBERS, graph_of

RING = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)]
MOLECULES = {
    # name: (graph, heavy atoms that are stereocentres)
    "glycine": (["N", "C", "C", "O", "O"], [(0, 1), (1, 2), (2, 3), (2, 4)], [2, 2, 0, 0, 1], []),
    "alanine": (
        ["N", "C", "C", "O", "O", "C"],
        [(0, 1), (1, 2), (2, 3), (2, 4), (1, 5)],
        [2, 1, 0, 0, 1, 3],
        [1],
    ),
    "threonine": (
        ["N", "C", "C", "O", "O", "C", "O", "C"],
        [(0, 1), (1, 2), (2, 3), (2, 4), (1, 5), (5, 6), (5, 7)],
        [2, 1, 0, 0, 1, 1, 1, 3],
        [1, 5],
    ),
    "valine": (
        ["N", "C", "C", "O", "O", "C", "C", "C"],
        [(0, 1), (1, 2), (2, 3), (2, 4), (1, 5), (5, 6), (5, 7)],
        [2, 1, 0, 0, 1, 1, 3, 3],
        [1],
    ),
    # what tells the branches apart is seven bonds away: one round of refinement is not enough
    "5-propyl-nonane and one carbon more": (
        ["C"] * 10,
        [(0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (5, 6), (6, 7), (0, 8), (8, 9)],
        [1, 2, 2, 3, 2, 2, 2, 3, 2, 3],
        [0],
    ),
    "ethyl methyl sulfoxide": (
        ["S", "O", "C", "C", "C"],
        [(0, 1), (0, 2), (0, 3), (3, 4)],
        [0, 0, 3, 2, 3],
        [0],
    ),
    "dimethyl sulfoxide": (["S", "O", "C", "C"], [(0, 1), (0, 2), (0, 3)], [0, 0, 3, 3], []),
    "ethyl methyl amine, which inverts": (
        ["N", "C", "C", "C"],
        [(0, 1), (0, 2), (2, 3)],
        [1, 3, 2, 3],
        [],
    ),
    "a thioether on a metal, which inverts": (
        ["S", "Pt", "C", "C", "C"],
        [(0, 1), (0, 2), (0, 3), (3, 4)],
        [0, 0, 3, 2, 3],
        [],
    ),
    "ethyl methyl propyl phosphine": (
        ["P", "C", "C", "C", "C", "C", "C"],
        [(0, 1), (0, 2), (2, 3), (0, 4), (4, 5), (5, 6)],
        [0, 3, 2, 3, 2, 2, 3],
        [0],
    ),
    # the third carbon of xylitol and ribitol: its branches differ by their hands alone
    "pentane-1,2,3,4,5-pentol": (
        ["C", "C", "C", "C", "C", "O", "O", "O", "O", "O"],
        [(0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (1, 6), (2, 7), (3, 8), (4, 9)],
        [2, 1, 1, 1, 2, 1, 1, 1, 1, 1],
        [1, 2, 3],
    ),
    "pentan-3-ol": (
        ["C", "C", "C", "C", "C", "O"],
        [(0, 1), (1, 2), (2, 3), (3, 4), (2, 5)],
        [3, 2, 1, 2, 3, 1],
        [],
    ),
    "4-propylheptane": (
        ["C"] * 10,
        [(0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (5, 6), (0, 7), (7, 8), (8, 9)],
        [1, 2, 2, 3, 2, 2, 3, 2, 2, 3],
        [],
    ),
    "1,4-dimethylcyclohexane": (
        ["C"] * 8,
        [*RING, (0, 6), (3, 7)],
        [1, 2, 2, 1, 2, 2, 3, 3],
        [0, 3],
    ),
    "cyclohexane": (["C"] * 6, RING, [2] * 6, []),
    "dimethyl phosphate": (
        ["P", "O", "O", "O", "O", "C", "C"],
        [(0, 1), (0, 2), (0, 3), (0, 4), (3, 5), (4, 6)],
        [0, 0, 0, 0, 0, 3, 3],
        [],
    ),
    # amines invert, but for those in rings of three and those that bridges hold
    "1,2-dimethylaziridine": (
        ["C", "C", "N", "C", "C"],
        [(0, 1), (1, 2), (2, 0), (1, 3), (2, 4)],
        [2, 1, 0, 3, 3],
        [1, 2],
    ),
    "1-methylaziridine, whose invertomers are one": (
        ["C", "C", "N", "C"],
        [(0, 1), (1, 2), (2, 0), (2, 3)],
        [2, 2, 0, 3],
        [],
    ),
    "1-acetyl-2-methylaziridine, which inverts": (
        ["C", "C", "N", "C", "C", "O", "C"],
        [(0, 1), (1, 2), (2, 0), (1, 3), (2, 4), (4, 5), (4, 6)],
        [2, 1, 0, 3, 0, 0, 3],
        [1],
    ),
    "1,2-dimethylpiperidine, which inverts": (
        ["N", *["C"] * 7],
        [*RING, (1, 6), (0, 7)],
        [0, 1, 2, 2, 2, 2, 3, 3],
        [1],
    ),
    "1,3-diazabicyclo[2.2.1]heptane": (
        ["N", "C", "N", "C", "C", "C", "C"],
        [(0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (5, 3), (0, 6), (6, 3)],
        [0, 2, 1, 1, 2, 2, 2],
        [0, 3],
    ),
    "quinolizidine, whose nitrogen inverts": (
        ["N", *["C"] * 9],
        [*RING, (0, 6), (6, 7), (7, 8), (8, 9), (9, 1)],
        [0, 1, *[2] * 8],
        [1],
    ),
    "a square planar complex": (
        ["Pt", "Cl", "N", "O", "C"],
        [(0, 1), (0, 2), (0, 3), (0, 4)],
        [0, 0, 3, 2, 3],
        [],
    ),
}


@pytest.mark.parametrize("name", MOLECULES)
def test_stereocentres_are_those_of_the_molecule(name: str) -> None:
    heavy, bonds, hydrogens, expected = MOLECULES[name]
    graph = graph_of(heavy, bonds, hydrogens)
    assert graph.stereocentres()[:, 0].tolist() == expected


AMIDES = {
    # name: (graph, the C and N of the amides that have isomers)
    "N-methylacetamide": (
        ["C", "C", "O", "N", "C"],
        [(0, 1), (1, 2), (1, 3), (3, 4)],
        [3, 0, 0, 1, 3],
        [(1, 3)],
    ),
    "acetamide": (["C", "C", "O", "N"], [(0, 1), (1, 2), (1, 3)], [3, 0, 0, 2], []),
    "dimethylacetamide": (
        ["C", "C", "O", "N", "C", "C"],
        [(0, 1), (1, 2), (1, 3), (3, 4), (3, 5)],
        [3, 0, 0, 0, 3, 3],
        [],
    ),
    "pyrrolidone, a lactam": (
        ["C", "O", "N", "C", "C", "C"],
        [(0, 1), (0, 2), (2, 3), (3, 4), (4, 5), (5, 0)],
        [0, 0, 1, 2, 2, 2],
        [],
    ),
    "acetyl-2-methylpyrrolidine": (
        ["C", "C", "O", "N", "C", "C", "C", "C", "C"],
        [(0, 1), (1, 2), (1, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 3), (4, 8)],
        [3, 0, 0, 0, 1, 2, 2, 2, 3],
        [(1, 3)],
    ),
    "methyl acetate, an ester": (
        ["C", "C", "O", "O", "C"],
        [(0, 1), (1, 2), (1, 3), (3, 4)],
        [3, 0, 0, 0, 3],
        [],
    ),
    "an amine": (["C", "C", "N", "C"], [(0, 1), (1, 2), (2, 3)], [3, 2, 1, 3], []),
}


@pytest.mark.parametrize("name", AMIDES)
def test_amides_are_those_that_have_isomers(name: str) -> None:
    heavy, bonds, hydrogens, expected = AMIDES[name]
    amides = graph_of(heavy, bonds, hydrogens).amides()
    assert [(carbon, nitrogen) for _, carbon, nitrogen, _ in amides] == expected
    assert all(heavy[oxygen] == "O" for oxygen in amides[:, 0])
    assert all(side < len(heavy) for side in amides[:, 3]), "a heavy atom where there is one"


def refined(keys: list[int], neighbours: list[list[int]]) -> list[int]:
    """Classes by rounds over all atoms, until their number stays."""
    classes, n_classes = list(keys), 0
    while len(set(classes)) > n_classes:
        n_classes = len(set(classes))
        told = [
            (own, sorted(classes[j] for j in near))
            for own, near in zip(classes, neighbours, strict=True)
        ]
        classes = [sorted(map(repr, told)).index(repr(one)) for one in told]
    return classes


def test_classes_of_graphs_are_those_of_rounds_over_all_atoms(rng: np.random.Generator) -> None:
    for _ in range(100):
        n = int(rng.integers(1, 15))
        joined = np.triu(rng.random((n, n)) < rng.uniform(0.05, 0.4), 1)
        neighbours = [np.flatnonzero(row).tolist() for row in joined | joined.T]
        keys = rng.integers(2, size=n).tolist()
        found, expected = graph_classes(keys, neighbours).tolist(), refined(keys, neighbours)
        pairs = set(zip(found, expected, strict=True))
        assert len(pairs) == len(set(found)) == len(set(expected))


def test_classes_of_a_long_chain_are_those_from_its_ends() -> None:
    n = 60_001  # by rounds over all atoms it would take 30,000 of them
    neighbours = [[j for j in (i - 1, i + 1) if 0 <= j < n] for i in range(n)]
    ranks = BondGraph((6,) * n, tuple(map(tuple, neighbours))).ranks
    assert (ranks == ranks[::-1]).all()
    assert len(set(ranks.tolist())) == n // 2 + 1


def test_alanine_dipeptide_has_one_stereocentre_and_two_amides() -> None:
    graph = BondGraph.from_topology(alanine_dipeptide().topology)
    assert graph.stereocentres().tolist() == [[8, 6, 9, 10, 14]]  # CA: N, HA, CB, C
    assert graph.amides().tolist() == [[5, 4, 6, 8], [15, 14, 16, 18]]


def test_ranks_do_not_depend_on_the_order_of_the_atoms(rng: np.random.Generator) -> None:
    graph = BondGraph.from_topology(alanine_dipeptide().topology)
    order = rng.permutation(len(graph.elements))
    new = np.argsort(order)  # new[i]: where atom i went
    shuffled = BondGraph(
        tuple(graph.elements[i] for i in order),
        tuple(tuple(sorted(int(new[j]) for j in graph.neighbours[i])) for i in order),
    )
    assert shuffled.ranks.tolist() == graph.ranks[order].tolist()


def test_a_part_of_a_topology_keeps_the_bonds_within_it() -> None:
    topology = alanine_dipeptide().topology
    chain = topology.addChain()
    water = topology.addResidue("HOH", chain)
    atoms = [
        topology.addAtom(name, app.element.Element.getBySymbol(name[0]), water)
        for name in ("O", "H1", "H2")
    ]
    topology.addAtom("M", None, water)
    topology.addBond(atoms[0], atoms[1])
    topology.addBond(atoms[0], atoms[2])
    graph = BondGraph.from_topology(topology, [22, 23, 24, 25])
    assert graph.elements == (8, 1, 1, 0)
    assert graph.bonds.tolist() == [[0, 1], [0, 2]]
    assert len(BondGraph.from_topology(topology, range(22)).stereocentres()) == 1


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.mark.parametrize(("size", "amides"), [(4, 0), (5, 0), (7, 0), (8, 1), (9, 1), (20, 1)])
def test_only_small_rings_hold_an_amide_in_cis(size: int, amides: int) -> None:
    """Lactams of up to seven atoms are cis; wider rings, as disulphides close, allow both."""
    heavy = ["C", "N", *["C"] * (size - 2), "O"]
    bonds = [(i, i + 1) for i in range(size - 1)] + [(size - 1, 0), (0, size)]
    hydrogens = [0, 1, *[2] * (size - 2), 0]
    assert len(graph_of(heavy, bonds, hydrogens).amides()) == amides


# ---- double bonds


def ethene(length: float, turned: float = 0.0, trans: bool = True) -> np.ndarray:
    """X and H on two atoms joined along x [nm]: X0 A1 B2 X3 H4 H5, B's side turned about x."""
    up = np.array([-0.05, 0.09, 0.0])
    down = up * [1, -1, 1]
    side = -np.array([up, down]) if trans else np.array([up, down]) * [-1, 1, 1]
    cosine, sine = np.cos(turned), np.sin(turned)
    side = side @ np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])
    b = np.array([length, 0.0, 0.0])
    return np.array([up, [0, 0, 0], b, b + side[0], down, b + side[1]])


BONDS = [(0, 1), (1, 2), (2, 3), (1, 4), (2, 5)]


def planar(symbols: str, order: float | None = None) -> BondGraph:
    """Six atoms joined as in `ethene`."""
    numbers = {"F": 9, "C": 6, "N": 7, "H": 1, "S": 16, "L": 17}
    neighbours = [[b if a == i else a for a, b in BONDS if i in (a, b)] for i in range(6)]
    orders = {} if order is None else {(1, 2): order}
    elements = tuple(numbers[symbol] for symbol in symbols)
    return BondGraph(elements, tuple(map(tuple, map(sorted, neighbours))), orders)


@pytest.mark.parametrize(
    ("symbols", "order", "length", "turned", "found"),
    [
        ("FCCFHH", None, 0.134, 0.0, 1),
        ("FCCFHH", None, 0.147, 0.0, 0),  # as between the double bonds of butadiene
        ("FCCFHH", None, 0.134, np.pi / 2, 0),  # not flat
        ("FCCFHH", 2, 0.147, 0.0, 1),  # the order is known: the length does not count
        ("FCCFHH", 1, 0.134, 0.0, 0),
        ("HCCFHH", None, 0.134, 0.0, 0),  # two like substituents at one end
        ("FCCFFH", None, 0.134, 0.0, 0),
        ("FCCLHF", None, 0.134, 0.0, 1),
        ("FCNFHH", None, 0.128, 0.0, 1),  # a protonated imine
        ("FCNFHH", None, 0.142, 0.0, 0),  # longer than heat makes an iminium
        ("FNNFHH", None, 0.145, 0.0, 0),  # a hydrazine
    ],
)
def test_double_bonds_are_short_and_flat_or_known(symbols, order, length, turned, found) -> None:
    bonds = planar(symbols, order).double_bonds(ethene(length, turned))
    assert len(bonds) == found
    assert [sorted(bond[1:3]) for bond in bonds.tolist()] == [[1, 2]] * found


def test_an_imine_and_an_azo_group_have_one_substituent_at_nitrogen() -> None:
    imine = BondGraph((6, 6, 7, 8, 1), ((1,), (0, 2, 4), (1, 3), (2,), (1,)))  # an aldoxime's core
    x = ethene(0.129)[[0, 1, 2, 3, 4]]
    assert imine.double_bonds(x).tolist() == [[0, 1, 2, 3]]
    azo = BondGraph((6, 7, 7, 6), ((1,), (0, 2), (1, 3), (2,)))
    assert azo.double_bonds(ethene(0.125)[:4]).tolist() == [[0, 1, 2, 3]]
    assert azo.double_bonds(ethene(0.145)[:4]).tolist() == []


@pytest.mark.parametrize(("size", "found"), [(5, 0), (6, 0), (7, 0), (8, 1), (12, 1)])
def test_only_small_rings_hold_a_double_bond(size: int, found: int) -> None:
    """trans-Cyclooctene is the smallest that can be kept."""
    heavy = ["C"] * size
    bonds = [(i, (i + 1) % size) for i in range(size)]
    graph = graph_of(heavy, bonds, [1, 1, *[2] * (size - 2)])
    x = np.random.default_rng(1).normal(size=(len(graph.elements), 3))
    x[[size - 1, 0, 1, 2]] = ethene(0.134)[:4]
    graph = BondGraph(graph.elements, graph.neighbours, {(0, 1): 2.0})
    assert len(graph.double_bonds(x)) == found


def test_amides_and_proteins_have_no_double_bonds_besides() -> None:
    test = alanine_dipeptide()
    graph = BondGraph.from_topology(test.topology)
    assert graph.double_bonds(test.positions).tolist() == []
    thioamide = graph_of(
        ["C", "C", "S", "N", "C"], [(0, 1), (1, 2), (1, 3), (3, 4)], [3, 0, 0, 1, 3]
    )
    assert thioamide.amides()[:, :3].tolist() == [[2, 1, 3]]


def test_the_screen_tells_e_from_z_by_the_orders_of_a_topology() -> None:
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    elements = [app.element.Element.getBySymbol(symbol) for symbol in "FCCFHH"]
    atoms = [topology.addAtom(f"A{i}", element, residue) for i, element in enumerate(elements)]
    for one, two in BONDS:
        kind = app.topology.Double if (one, two) == (1, 2) else None
        topology.addBond(atoms[one], atoms[two], kind)
    e, z = (ethene(0.145, trans=trans) for trans in (True, False))
    for reference, other in ((e, z), (z, e)):
        screen = Screen(topology, reference)
        assert screen.check(np.stack([reference, other])).tolist() == ["", "cis/trans"]
        lenient = Screen(topology, reference, settings=ScreenSettings(cis_trans=False))
        assert lenient.check(other[None]).tolist() == [""]
        assert not lenient.knows_isomers
        assert screen.knows_isomers


def test_a_carbon_with_hydrogen_and_deuterium_has_a_hand() -> None:
    topology = app.Topology()
    residue = topology.addResidue("ETD", topology.addChain())
    symbols = ["C", "C", "O", "H", "D", "H", "H", "H", "H"]  # CH3-CHD-OH
    atoms = [topology.addAtom(s, app.Element.getBySymbol(s), residue) for s in symbols]
    for i, j in [(0, 1), (1, 2), (1, 3), (1, 4), (0, 5), (0, 6), (0, 7), (2, 8)]:
        topology.addBond(atoms[i], atoms[j])
    graph = BondGraph.from_topology(topology)
    assert graph.stereocentres()[:, 0].tolist() == [1]
    light = BondGraph(graph.elements, graph.neighbours)
    assert not len(light.stereocentres())


# ---- axes


def in_screen(graph: BondGraph, x: np.ndarray, **settings) -> Screen:
    """A Screen of atoms of a graph."""
    topology = app.Topology()
    residue = topology.addResidue("LIG", topology.addChain())
    symbols = {number: symbol for symbol, number in (ATOMIC_NUMBERS | {"F": 9}).items()}
    atoms = [
        topology.addAtom(f"A{i}", app.Element.getBySymbol(symbols[number]), residue)
        for i, number in enumerate(graph.elements)
    ]
    for i, j in graph.bonds:
        topology.addBond(atoms[i], atoms[j])
    return Screen(topology, x, settings=ScreenSettings(**settings))


def test_a_sulfoxide_is_not_turned_inside_out() -> None:
    graph = BondGraph((16, 8, 6, 17), ((1, 2, 3), (0,), (0,), (0,)))
    x = np.array([[0, 0.06, 0], [-0.08, 0, 0.11], [0.17, 0, 0], [-0.1, 0, -0.15]])
    screen = in_screen(graph, x)
    assert screen.check(np.array([x, x * [1, -1, 1]])).tolist() == ["", "chirality"]


@pytest.mark.parametrize("height", [0.0, 0.01])
def test_three_neighbours_in_a_plane_have_no_hand(height: float) -> None:
    """Of phosphorus with O, N and C about it: heat bends it to either side."""
    graph = BondGraph((15, 8, 7, 6), ((1, 2, 3), (0,), (0,), (0,)))
    x = np.array([[0, height, 0], [0.15, 0, 0], [-0.08, 0, 0.14], [-0.09, 0, -0.16]])
    screen = in_screen(graph, x)
    assert screen.check(np.array([x, x * [1, -1, 1]])).tolist() == ["", ""]


def bonded(elements: str, bonds: list[tuple[int, int]]) -> BondGraph:
    numbers = ATOMIC_NUMBERS | {"L": 17, "F": 9}
    around = [
        tuple(sorted(a + b - i for a, b in bonds if i in (a, b))) for i in range(len(elements))
    ]
    return BondGraph(tuple(numbers[e] for e in elements), tuple(around))


def cumulene(n_inner: int, length: float, angle: float) -> tuple[BondGraph, np.ndarray]:
    """Cl, C, H at both ends of a row of carbons, the second end turned about the row."""
    n = n_inner + 2
    row = np.cumsum([0, length, *[0.131] * (n_inner - 1), length])[:, None] * [1, 0, 0]
    across = np.array([[0, np.cos(angle), np.sin(angle)]])
    first = np.array([[-0.06, 0.12, 0], [-0.05, -0.09, 0]])
    last = row[-1] + [[0.06, 0, 0], [0.05, 0, 0]] + [[0.12], [-0.09]] * across
    ends = [(0, n), (0, n + 1), (n - 1, n + 2), (n - 1, n + 3)]
    graph = bonded("C" * n + "LHLH", [(k, k + 1) for k in range(n - 1)] + ends)
    return graph, np.concatenate([row, first, last])


def test_an_allene_has_a_hand() -> None:
    graph, x = cumulene(1, 0.131, np.pi / 2)
    rows, ends = hands_of_axes(graph, x)
    assert rows.tolist() == [[1, 3, 4, 5, 6]]
    assert ends.tolist() == [[0, 2]]
    screen = in_screen(graph, x)
    assert screen.check(np.array([x, x * [1, 1, -1]])).tolist() == ["", "chirality"]
    assert not in_screen(graph, x, chirality=False).check(x[None] * [1, 1, -1])[0]
    same = BondGraph((6, 6, 6, 17, 17, 17, 1), graph.neighbours)
    assert not len(hands_of_axes(same, x)[0])
    bent = x.copy()
    bent[1] += [0, 0.09, 0]  # a CH2 of beads that have no hydrogens
    assert not len(hands_of_axes(graph, bent)[0])


def test_a_butatriene_is_cis_or_trans_and_a_diyne_turns() -> None:
    graph, x = cumulene(2, 0.131, np.pi)
    assert flat_cumulenes(graph, x).tolist() == [[4, 0, 3, 6]]
    assert not len(hands_of_axes(graph, x)[0])
    turned = cumulene(2, 0.131, 0.0)[1]
    assert in_screen(graph, x).check(np.array([x, turned])).tolist() == ["", "cis/trans"]
    graph, x = cumulene(2, 0.145, np.pi)  # C=C-C#C-C=C
    assert not len(flat_cumulenes(graph, x))


@pytest.mark.parametrize(("length", "order", "angle"), [
    (0.139, None, np.pi),  # of rings beside a triple bond, shortened by heat
    (0.131, 1.0, np.pi),  # the order is known: the length does not count
    (0.131, None, np.pi / 2),  # neither cis nor trans
])  # fmt: skip
def test_what_turns_about_a_triple_bond_has_no_isomers(length, order, angle) -> None:
    graph, x = cumulene(2, length, angle)
    orders = {} if order is None else {(0, 1): order, (1, 2): 3.0, (2, 3): order}
    graph = BondGraph(graph.elements, graph.neighbours, orders)
    assert not len(flat_cumulenes(graph, x))
    known = BondGraph(graph.elements, graph.neighbours, {(0, 1): 2.0, (2, 3): 2.0})
    assert len(flat_cumulenes(known, x)) == (angle == np.pi)


def test_a_ring_that_holds_a_stereocentre_opposite_has_two_like_sides() -> None:
    """Of 4-(C*HFCl)-phenyl: a half turn exchanges the ortho carbons, and nothing else."""
    bonds = [(i, (i + 1) % 6) for i in range(6)]
    bonds += [(3, 6), (0, 7), (7, 8), (6, 9), (6, 10), (6, 11), (7, 12), (8, 13), (8, 14)]
    graph = bonded("CCCCCC" + "C" + "CC" + "HFL" + "HHL", bonds)
    assert graph.stereocentres()[:, 0].tolist() == [6]
    assert not graph.apart(0, 1, 5)
    x = np.random.default_rng(1).normal(size=(len(graph.elements), 3))
    x[[1, 0, 7, 8]] = ethene(0.1405)[:4]  # a styrene's single bond, shortened by heat
    assert not len(graph.double_bonds(x)[graph.double_bonds(x)[:, 1] == 0])


def biaryl(angle: float, ortho: str) -> tuple[BondGraph, np.ndarray]:
    """Two rings of carbon joined at atoms 0 and 6, with four atoms in ortho."""
    turns = np.arange(6) * np.pi / 3
    ring = 0.14 * np.stack([1 - np.cos(turns), np.sin(turns), 0 * turns], axis=1)
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])
    rings = ring, (ring * [-1, 1, 1] - [0.149, 0, 0]) @ turn
    places = [own.mean(axis=0) + 2.1 * (own[k] - own.mean(axis=0)) for own in rings for k in (1, 5)]
    bonds = [(start + i, start + (i + 1) % 6) for start in (0, 6) for i in range(6)]
    joined = [(0, 6), (1, 12), (5, 13), (7, 14), (11, 15)]
    return bonded("C" * 12 + ortho, bonds + joined), np.concatenate([*rings, places])


@pytest.mark.parametrize(
    ("ortho", "angle", "found"),
    [
        ("LCLC", 1.5, 1),
        ("LCLH", 1.5, 1),  # three are enough
        ("LHLH", 1.5, 0),  # turns
        ("LFLH", 1.5, 0),
        ("LLLC", 1.5, 0),  # one end with two like sides
        ("LCLC", 0.1, 0),  # flat: nothing says which
    ],
)
def test_a_crowded_biaryl_has_a_hand(ortho: str, angle: float, found: int) -> None:
    graph, x = biaryl(angle, ortho)
    _, ends = hands_of_axes(graph, x)
    assert ends.tolist() == [[0, 6]] * found
    if found:
        screen = in_screen(graph, x, clash_fraction=0.0)
        assert screen.check(np.array([x, x * [1, 1, -1]])).tolist() == ["", "chirality"]
        turning = in_screen(graph, x, clash_fraction=0.0, turning=((6, 0),))
        assert not turning.check(x[None] * [1, 1, -1])[0]


def test_ligands_about_a_metal_are_said_not_to_be_looked_at(caplog) -> None:
    """Cis and trans of a square with two and two; three and one have no isomers."""
    around = ((1, 2, 3, 4), (0,), (0,), (0,), (0,))
    graph = BondGraph((78, 17, 17, 8, 8), around)
    x = 0.2 * np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1.0, 0]])
    in_screen(graph, x, clash_fraction=0.0)
    assert "isomers about atoms [0]" in caplog.text
    caplog.clear()
    in_screen(BondGraph((78, 17, 17, 17, 8), around), x, clash_fraction=0.0)
    assert not caplog.records
