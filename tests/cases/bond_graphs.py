"""Bond graphs by heavy atoms, as chemists write them."""

from collections.abc import Sequence

from openmm_cgan.proposals.stereochemistry import BondGraph

ATOMIC_NUMBERS = {
    "H": 1, "B": 5, "C": 6, "N": 7, "O": 8, "P": 15, "S": 16, "Cl": 17, "Pt": 78,
}  # fmt: skip


def graph_of(heavy: Sequence[str], bonds: list[tuple[int, int]], hydrogens: list[int]) -> BondGraph:
    """Heavy atoms, their bonds, and the number of hydrogens on each."""
    elements = [ATOMIC_NUMBERS[symbol] for symbol in heavy]
    neighbours: list[list[int]] = [[] for _ in heavy]
    for i, j in bonds:
        neighbours[i].append(j)
        neighbours[j].append(i)
    for i, count in enumerate(hydrogens):
        for _ in range(count):
            neighbours[i].append(len(elements))
            neighbours.append([i])
            elements.append(1)
    return BondGraph(tuple(elements), tuple(tuple(sorted(bonded)) for bonded in neighbours))
