"""Which bonds are double is known from chemistry, whatever their lengths are at a moment."""

import numpy as np
import pytest

from openmm_cgan.proposals.stereochemistry import BondGraph
from openmm_cgan.proposals.valence import is_double
from tests.cases.bond_graphs import graph_of

CHAIN = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
RING = [*CHAIN, (5, 0)]


DIENE = "CCCCCC", CHAIN, [3, 1, 1, 1, 1, 3]
AMIDINE = "CCNNC", [(0, 1), (1, 2), (1, 3), (2, 4)]  # CC(N)NC
STYRENE = "CCCCCCCCC", [*RING, (0, 6), (6, 7), (7, 8)], [0, 1, 1, 1, 1, 1, 1, 1, 3]
ENYNE = "CCCCCC", CHAIN, [2, 1, 0, 0, 1, 2]
BONDS = {
    # name: (graph, bond, whether it is double)
    "2,4-hexadiene": (DIENE, (1, 2), True),
    "2,4-hexadiene, between": (DIENE, (2, 3), False),
    "N-methylacetamidine": ((*AMIDINE, [3, 0, 0, 2, 3]), (1, 2), True),
    "N-methylacetamidine, to its NH2": ((*AMIDINE, [3, 0, 0, 2, 3]), (1, 3), False),
    "N-methylacetamidinium": ((*AMIDINE, [3, 0, 1, 2, 3]), (1, 2), None),
    "an enamine, C=C": (("CCCNC", CHAIN[:4], [3, 1, 1, 1, 3]), (1, 2), True),
    "an enamine, C-N": (("CCCNC", CHAIN[:4], [3, 1, 1, 1, 3]), (2, 3), False),
    "a vinylogous amide, C-N": (("OCCCNC", CHAIN, [0, 1, 1, 1, 1, 3]), (3, 4), False),
    "an iminium": (("CCCNC", CHAIN[:4], [3, 2, 1, 1, 3]), (2, 3), True),
    "a protonated Schiff base, C-C": (("CCCCNC", CHAIN, [3, 1, 1, 1, 1, 3]), (2, 3), False),
    "a hydrazone, C=N": (("CCNNC", CHAIN[:4], [3, 1, 0, 1, 3]), (1, 2), True),
    "a hydrazone, N-N": (("CCNNC", CHAIN[:4], [3, 1, 0, 1, 3]), (2, 3), False),
    "butenedial, between": (
        ("OCCCCO", CHAIN, [0, 1, 1, 1, 1, 0]), (1, 2), False  # not as of O--C=C-C=C-O-
    ),
    "styrene, to the ring": (STYRENE, (0, 6), False),
    "styrene, beside it": (STYRENE, (6, 7), True),
    "divinylacetylene, beside the triple bond": (ENYNE, (1, 2), False),
    "vinylallene, between": (("CCCCC", CHAIN[:4], [2, 1, 1, 0, 2]), (1, 2), False),
    "butane": (("CCCC", CHAIN[:3], [3, 2, 2, 3]), (1, 2), False),
    "a vinylsulfone": (
        ("CCSOOC", [(0, 1), (1, 2), (2, 3), (2, 4), (2, 5)], [2, 1, 0, 0, 0, 3]), (0, 1), True
    ),
    "an allyl cation": (("CCCCC", CHAIN[:4], [3, 1, 1, 1, 3]), (1, 2), None),
}  # fmt: skip


@pytest.mark.parametrize("name", BONDS)
def test_bonds_are_double_where_valences_say_it(name: str) -> None:
    molecule, bond, expected = BONDS[name]
    graph = graph_of(*molecule)
    assert is_double(*bond, graph.elements, graph.neighbours) is expected


def test_large_conjugated_pieces_are_left_open() -> None:
    n = 400
    graph = graph_of("C" * n, [(i, i + 1) for i in range(n - 1)], [2, *[1] * (n - 2), 2])
    assert is_double(10, 11, graph.elements, graph.neighbours) is None


def zigzag(graph: BondGraph, n_heavy: int, lengths: list[float]) -> np.ndarray:
    """Heavy atoms of a chain in a plane; where its hydrogens are does not matter."""
    x = np.random.default_rng(1).normal(size=(len(graph.elements), 3))
    turns = np.where(np.arange(len(lengths)) % 2, 1, -1) * np.pi / 6
    steps = np.array(lengths)[:, None] * np.stack([np.cos(turns), np.sin(turns), 0 * turns], 1)
    x[:n_heavy] = np.concatenate([[np.zeros(3)], np.cumsum(steps, axis=0)])
    return x


def test_heat_makes_no_bond_double_and_none_single() -> None:
    """Of 2,4-hexadiene, with all bonds as long as those of benzene, and with long double ones."""
    graph = graph_of(*DIENE)
    for lengths in ([0.139] * 5, [0.150, 0.143, 0.139, 0.143, 0.150]):
        bonds = graph.double_bonds(zigzag(graph, 6, lengths))
        assert bonds[:, 1:3].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(("third", "found"), [("C", 1), ("N", 0)])
def test_an_amidinium_keeps_its_isomer_and_a_guanidinium_turns(third: str, found: int) -> None:
    bonds = [(0, 1), (1, 2), (2, 3), (1, 4), (4, 5)]  # third, C, N, C, N, C
    hydrogens = [{"C": 3, "N": 2}[third], 0, 1, 3, 1, 3]
    graph = graph_of(f"{third}CNCNC", bonds, hydrogens)
    x = zigzag(graph, 4, [0.134, 0.132, 0.146])
    assert len(graph.double_bonds(x)) == found


def test_a_double_bond_that_a_ring_twists_is_found() -> None:
    """As those of E,Z-1,4-cyclooctadiene, with a torsion of 108 degrees."""
    graph = graph_of("C" * 8, [(i, (i + 1) % 8) for i in range(8)], [1, 1, *[2] * 6])
    x = np.random.default_rng(1).normal(size=(len(graph.elements), 3))
    angle = np.radians(108)
    x[[7, 0, 1, 2]] = [
        [-0.07, 0.13, 0], [0, 0, 0], [0.135, 0, 0],
        [0.2, 0.13 * np.cos(angle), 0.13 * np.sin(angle)],
    ]  # fmt: skip
    assert graph.double_bonds(x)[:, 1:3].tolist() == [[0, 1]]


@pytest.mark.parametrize(("substituent", "found"), [(True, 1), (False, 0)])
def test_a_ring_with_two_faces_tells_the_sides_of_a_bond_to_it(substituent, found) -> None:
    """Oximes of 4-methylcyclohexanone have a hand, that of cyclohexanone has not."""
    bonds, hydrogens = [*RING, (0, 6), (6, 7)], [0, 2, 2, 2, 2, 2, 0, 1]
    if substituent:
        bonds, hydrogens = [*bonds, (3, 8)], [0, 2, 2, 1, 2, 2, 0, 1, 3]
    graph = graph_of("CCCCCCNO" + "C" * substituent, bonds, hydrogens)
    x = np.random.default_rng(1).normal(size=(len(graph.elements), 3))
    x[[1, 0, 6, 7]] = [[-0.07, 0.13, 0], [0, 0, 0], [0.129, 0, 0], [0.19, -0.12, 0]]
    assert len(graph.double_bonds(x)) == found


@pytest.mark.parametrize(
    ("heavy", "hydrogens", "found"),
    [
        ("CNNN", [3, 0, 0, 0], 0),  # an azide is straight: there is no side of it
        ("CCNN", [3, 1, 0, 0], 0),  # diazoethane
        ("CCNO", [3, 1, 0, 1], 1),  # an oxime
        ("CNNC", [3, 0, 0, 3], 1),
    ],
)
def test_what_is_straight_has_no_isomers(heavy, hydrogens, found) -> None:
    graph = graph_of(heavy, CHAIN[:3], hydrogens)
    assert len(graph.double_bonds(zigzag(graph, 4, [0.147, 0.125, 0.115]))) == found


@pytest.mark.parametrize(("length", "found"), [(0.132, 1), (0.138, 1), (0.145, 0)])
def test_a_nitrosamine_keeps_its_isomer(length: float, found: int) -> None:
    """Its barrier, 96 kJ/mol, is that of amides; no valence asks for the double bond."""
    graph = graph_of("CNNO", CHAIN[:3], [3, 1, 0, 0])
    assert len(graph.double_bonds(zigzag(graph, 4, [0.146, length, 0.123]))) == found
