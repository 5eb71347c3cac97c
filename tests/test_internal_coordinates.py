"""ZMatrix: truth from formulas, autograd, finite rotations and MDAnalysis."""

import logging
import warnings
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import shortest_path

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.internal_coordinates import Coordinate, Internal, ZMatrix
from openmm_cgan.internal_coordinates.molecule import choose_rows
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.molecules import MOLECULES, molecule, random_rotation

PHI = CollectiveVariable("phi", "rad", (-np.pi, np.pi), "TORSION", (4, 6, 8, 14))
PSI = CollectiveVariable("psi", "rad", (-np.pi, np.pi), "TORSION", (6, 8, 14, 16))


def superposed(moving, fixed):
    """``moving`` (n, 3) turned and moved onto ``fixed``; never mirrored."""
    a, b = moving - moving.mean(0), fixed - fixed.mean(0)
    u, _, vt = torch.linalg.svd(a.T @ b)
    u[:, -1] *= torch.det(u @ vt)
    return a @ u @ vt + fixed.mean(0)


def numpy_dihedral(x, i, j, k, l):  # noqa: E741
    """IUPAC torsion (J. Mol. Biol. 52, 1 (1970)): angle between two half-planes, right-handed."""
    axis = (x[k] - x[j]) / np.linalg.norm(x[k] - x[j])
    first, last = (v - (v @ axis) * axis for v in (x[i] - x[j], x[l] - x[k]))
    return np.arctan2(np.cross(axis, first) @ last, first @ last)


@pytest.fixture(scope="module")
def alanine():
    return alanine_dipeptide()


@pytest.fixture(scope="module")
def z_matrix(alanine):
    return ZMatrix.from_topology(alanine.topology, variables=[PHI, PSI])


@pytest.fixture(scope="module")
def shaken(alanine):
    """Alanine dipeptide, each atom displaced at random by 0.01 nm: (20, 22, 3)."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(20, 22, 3, generator=generator, dtype=torch.float64)
    return torch.as_tensor(np.asarray(alanine.positions), dtype=torch.float64) + 0.01 * noise


def test_coordinates_are_those_of_the_formulas(z_matrix, shaken):
    x = shaken[0].numpy()
    bonds, angles, torsions = (c[0].numpy() for c in z_matrix.to_internal(shaken))
    for row, (atom, p, g, t) in enumerate(z_matrix.rows.tolist()):
        if row > 0:
            assert bonds[row - 1] == pytest.approx(np.linalg.norm(x[atom] - x[p]), abs=1e-14)
        if row > 1:
            u, v = x[atom] - x[p], x[g] - x[p]
            cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
            assert angles[row - 2] == pytest.approx(np.arccos(cosine), abs=1e-12)
        if row > 2:
            assert torsions[row - 3] == pytest.approx(numpy_dihedral(x, atom, p, g, t), abs=1e-12)


def test_coordinates_agree_with_mdanalysis(alanine, shaken):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import MDAnalysis
        from MDAnalysis.analysis.bat import BAT

        bonds = [(b[0].index, b[1].index) for b in alanine.topology.bonds()]
        universe = MDAnalysis.Universe.empty(22, trajectory=True)
        universe.add_TopologyAttr(
            "masses", [a.element.mass._value for a in alanine.topology.atoms()]
        )
        universe.add_TopologyAttr("bonds", bonds)
        universe.load_new(10 * shaken.numpy())
        bat = BAT(universe.atoms).run()
    root = bat._root.indices.tolist()
    rows = [(root[0], -1, -1, -1), (root[1], root[0], -1, -1), (root[2], root[1], root[0], -1)]
    rows += [tuple(t.indices.tolist()) for t in bat._torsions]
    z_matrix = ZMatrix(rows)
    ours = z_matrix.to_internal(shaken)
    place = {tuple(row): i for i, row in enumerate(z_matrix.rows.tolist())}
    order = [place[row] for row in rows]  # theirs in our rows
    n = 22 - 3
    theirs = bat.results.bat[:, 9:]
    assert (
        np.abs(theirs[:, :n] / 10 - ours.bonds.numpy()[:, [i - 1 for i in order[3:]]]).max() < 1e-6
    )
    assert (
        np.abs(theirs[:, n : 2 * n] - ours.angles.numpy()[:, [i - 2 for i in order[3:]]]).max()
        < 1e-5
    )
    torsions = ours.torsions.numpy()[:, [i - 3 for i in order[3:]]]
    # BAT gives torsions about a bond that has one already as the difference from that one.
    first = np.array(bat._primary_torsion_indices)
    shifts = np.where(first == np.arange(n), 0.0, torsions[:, first])
    difference = theirs[:, 2 * n :] - (torsions - shifts)
    assert np.abs(np.angle(np.exp(1j * difference))).max() < 2e-5  # they are given float32


def test_round_trip_keeps_positions_and_chirality(z_matrix, shaken):
    back = z_matrix.to_cartesian(z_matrix.to_internal(shaken))
    for moving, fixed in zip(back, shaken, strict=True):
        assert (superposed(moving, fixed) - fixed).abs().max() < 1e-12
    mirrored = shaken * torch.tensor([1.0, 1.0, -1.0])
    back = z_matrix.to_cartesian(z_matrix.to_internal(mirrored))
    assert (superposed(back[0], shaken[0]) - shaken[0]).abs().max() > 0.05
    assert torch.allclose(
        z_matrix.to_internal(mirrored).torsions, -z_matrix.to_internal(shaken).torsions
    )


@pytest.mark.parametrize("name", MOLECULES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31 - 1), scale=st.floats(0.05, 3.0))
def test_round_trip_of_any_molecule_in_any_shape(name, seed, scale):
    z_matrix = ZMatrix.from_topology(molecule(*MOLECULES[name]))
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(4, z_matrix.n_atoms, 3, generator=generator, dtype=torch.float64)
    internal = z_matrix.to_internal(x)
    back = z_matrix.to_cartesian(internal)
    # Nearly straight triples lose digits: positions are as exact as 1/sin of the worst angle.
    sines = internal.angles.sin().abs().amin() if internal.angles.numel() else 1.0
    error = torch.stack([superposed(a, b) - b for a, b in zip(back, x, strict=True)]).abs().max()
    assert error < 1e-12 * scale * max(1.0, float(1 / sines)) ** 2


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31 - 1), size=st.integers(4, 30), rings=st.integers(0, 4))
def test_random_graphs_get_a_valid_z_matrix(seed, size, rings):
    rng = np.random.default_rng(seed)
    bonds = [(i, int(rng.integers(i))) for i in range(1, size)]
    bonds += [tuple(rng.choice(size, 2, replace=False).tolist()) for _ in range(rings)]
    symbols = rng.choice(["C", "N", "H"], size)
    z_matrix = ZMatrix.from_topology(molecule(symbols, bonds))  # the constructor checks the rows
    bonded = {frozenset(b) for b in bonds}
    assert all(frozenset(row[:2].tolist()) in bonded for row in z_matrix.rows[1:])


def by_definition(symbols, bonds):
    """Atoms and parents of a Z-matrix without CVs, by looking at all atoms for each next one."""
    n = len(symbols)
    around = [sorted({a + b - i for a, b in bonds if i in (a, b) and a != b}) for i in range(n)]
    matrix = np.zeros((n, n))
    for a, b in bonds:
        matrix[a, b] = matrix[b, a] = a != b
    reach = shortest_path(matrix, unweighted=True).max(axis=1)
    hydrogen = [s == "H" for s in symbols]
    around = [sorted(near, key=lambda a: (hydrogen[a], a)) for near in around]
    start = min(
        (sum(hydrogen[x] for x in (a, b, c)), reach[b], a, b, c)
        for b in range(n)
        for a, c in combinations(around[b], 2)
    )[2:]
    order = {a: i for i, a in enumerate(start)}
    placed = [(start[0], -1), (start[1], start[0]), (start[2], start[1])]
    while len(order) < n:
        _, first, atom = min(
            (hydrogen[a], min(order[b] for b in around[a] if b in order), a)
            for a in range(n)
            if a not in order and any(b in order for b in around[a])
        )
        placed.append((atom, list(order)[first]))
        order[atom] = len(order)
    return placed


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31 - 1), size=st.integers(4, 60), rings=st.integers(0, 4))
def test_atoms_are_placed_in_the_order_of_the_definition(seed, size, rings):
    """Models on disk stay what they are: a quicker choice of the rows must choose the same."""
    rng = np.random.default_rng(seed)
    bonds = [(i, int(rng.integers(max(0, i - 5), i))) for i in range(1, size)]
    bonds += [tuple(rng.choice(size, 2, replace=False).tolist()) for _ in range(rings)]
    symbols = rng.choice(["N", "O", "H"], size)  # no carbon, which would count as linear
    rows, _ = choose_rows(molecule(symbols, bonds))
    assert [row[:2] for row in rows] == by_definition(symbols, bonds)


def test_internal_coordinates_do_not_see_rotation_and_translation(z_matrix, shaken):
    generator = torch.Generator().manual_seed(2)
    moved = shaken @ random_rotation(generator).T + torch.tensor([1.0, -2.0, 3.0])
    for one, two in zip(z_matrix.to_internal(shaken), z_matrix.to_internal(moved), strict=True):
        assert torch.allclose(one, two, atol=1e-11)


def test_batch_shapes_and_dtypes(z_matrix, shaken):
    many = z_matrix.to_cartesian(z_matrix.to_internal(shaken.reshape(4, 5, 22, 3)))
    assert many.shape == (4, 5, 22, 3)
    one = z_matrix.to_cartesian(z_matrix.to_internal(shaken[7]))
    assert torch.allclose(one, many[1, 2], atol=1e-14)
    single = z_matrix.to_cartesian(z_matrix.to_internal(shaken.float()))
    assert single.dtype == torch.float32
    assert (single - many.reshape(20, 22, 3)).abs().max() < 1e-5
    assert z_matrix.to_cartesian(z_matrix.to_internal(shaken[:0])).shape == (0, 22, 3)


def test_derivatives_are_those_of_finite_differences(shaken):
    topology = molecule("CNCOH", [(0, 1), (1, 2), (2, 3), (3, 4)])
    z_matrix = ZMatrix.from_topology(topology)
    x = shaken[:2, [4, 6, 8, 14, 16]].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: tuple(z_matrix.to_internal(x)), (x,))
    internal = [c.detach().requires_grad_() for c in z_matrix.to_internal(x)]
    assert torch.autograd.gradcheck(lambda *c: z_matrix.to_cartesian(Internal(*c)), internal)


@pytest.mark.parametrize("name", ["water", "nitrogen", "acetonitrile", "proline"])
@pytest.mark.parametrize("turn", [0.0, 1.3])
def test_log_det_is_the_determinant_that_autograd_finds(name, turn):
    """log|J| of (internal, translation, rotation vector) -> Cartesian, at finite rotations too."""
    z_matrix = ZMatrix.from_topology(molecule(*MOLECULES[name]))
    n = z_matrix.n_atoms
    generator = torch.Generator().manual_seed(n)
    x = 0.2 * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    internal = z_matrix.to_internal(x)
    widths = [c.shape[-1] for c in internal]
    anywhere = random_rotation(generator)
    free = 3 if n > 2 else 2  # two atoms have no rotation about their axis

    def cartesian(q):
        *parts, move, rotation = q.split([*widths, 3, free])
        x, y, w = rotation if free == 3 else (0.0 * rotation[0], *rotation)
        zero = torch.zeros_like(y)
        rows = [torch.stack(r) for r in ((zero, -w, y), (w, zero, -x), (-y, x, zero))]
        turned = torch.linalg.matrix_exp(torch.stack(rows)) @ anywhere
        if free == 2:
            turned = torch.linalg.matrix_exp(torch.stack(rows))
        return (z_matrix.to_cartesian(Internal(*parts)) @ turned.T + move).flatten()

    rotation = torch.zeros(free, dtype=torch.float64)
    haar = 0.0
    if turn and free == 3:
        rotation = turn * torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
        haar = np.log(2 * (1 - np.cos(turn)) / turn**2)  # Haar density of a rotation vector
    q = torch.cat([*internal, torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), rotation])
    jacobian = torch.autograd.functional.jacobian(cartesian, q)
    expected = torch.linalg.slogdet(jacobian).logabsdet
    assert z_matrix.log_det(internal) + haar == pytest.approx(float(expected), abs=1e-9)


def test_phi_and_psi_are_coordinates(z_matrix, shaken):
    internal = z_matrix.to_internal(shaken)
    for cv in (PHI, PSI):
        found = z_matrix.coordinate_of(cv)
        assert found is not None
        assert found.kind == "torsion"
        expected = numpy_dihedral(shaken[3].numpy(), *cv.atoms)
        value = found.scale * internal.torsions[3, found.column]
        assert value == pytest.approx(expected, abs=1e-12)


def test_permuted_and_scaled_variables_keep_their_values(z_matrix, shaken):
    internal = z_matrix.to_internal(shaken)
    x = shaken[0].numpy()
    for atoms in ((14, 8, 6, 4), (14, 6, 8, 4), (4, 8, 6, 14)):
        found = z_matrix.coordinate_of(CollectiveVariable("t", "rad", None, "TORSION", atoms))
        expected = numpy_dihedral(x, *atoms)
        value = found.scale * internal.torsions[0, found.column]
        assert value == pytest.approx(expected, abs=1e-12)
    for unit, factor in (("nm", 1.0), ("A", 10.0)):
        for atoms in ((6, 8), (8, 6)):
            found = z_matrix.coordinate_of(CollectiveVariable("d", unit, None, "DISTANCE", atoms))
            expected = factor * np.linalg.norm(x[6] - x[8])
            assert found.scale * internal.bonds[0, found.column] == pytest.approx(expected)
    angle = z_matrix.coordinate_of(CollectiveVariable("a", "rad", None, "ANGLE", (8, 6, 4)))
    assert angle.kind == "angle"
    assert angle.scale == 1.0


@pytest.mark.parametrize(
    ("action", "unit", "atoms"),
    [
        ("TORSION", "rad", (0, 1, 2, 3)),  # not a path of bonds
        ("DISTANCE", "nm", (0, 21)),
        ("DISTANCE", "furlong", (6, 8)),
        ("COORDINATION", "", ()),
        ("DISTANCE", "nm", ()),
        ("ANGLE", "rad", (4, 6, 99)),
    ],
)
def test_other_variables_are_no_coordinates(z_matrix, action, unit, atoms):
    assert z_matrix.coordinate_of(CollectiveVariable("x", unit, None, action, atoms)) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_torsion_angle_or_distance_anywhere_becomes_a_coordinate(alanine, seed):
    bonds = [(b[0].index, b[1].index) for b in alanine.topology.bonds()]
    around = {a: [b for bond in bonds for b in bond if a in bond and b != a] for a in range(22)}
    rng = np.random.default_rng(seed)
    chains = [
        (a, b, c, d)
        for b, c in bonds + [bond[::-1] for bond in bonds]
        for a in around[b]
        for d in around[c]
        if a != c and b != d
    ]
    torsion = chains[rng.integers(len(chains))]
    for action, atoms in (
        ("TORSION", torsion),
        ("ANGLE", torsion[:3]),
        ("DISTANCE", torsion[1:3]),
    ):
        cv = CollectiveVariable("x", "nm", None, action, atoms)
        z_matrix = ZMatrix.from_topology(alanine.topology, variables=[cv])
        assert isinstance(z_matrix.coordinate_of(cv), Coordinate)


def test_several_torsions_at_once_become_coordinates(alanine):
    omega = CollectiveVariable("omega", "rad", None, "TORSION", (8, 14, 16, 18))
    methyl = CollectiveVariable("methyl", "rad", None, "TORSION", (0, 1, 4, 6))
    both = [omega, PHI, methyl, PSI]
    z_matrix = ZMatrix.from_topology(alanine.topology, variables=both)
    assert len({z_matrix.coordinate_of(cv) for cv in both}) == 4


def test_a_torsion_turns_all_atoms_beyond_its_bond_alike(z_matrix, shaken):
    internal = z_matrix.to_internal(shaken[0])
    turned = internal.torsions.clone()
    turned[z_matrix.coordinate_of(PHI).column] += 1.0
    before = z_matrix.to_cartesian(internal)
    after = z_matrix.to_cartesian(internal._replace(torsions=turned))
    n_side, ca_side = [0, 1, 2, 3, 4, 5, 6, 7, 8], [6, *range(8, 22)]
    for side in (n_side, ca_side):
        assert torch.allclose(torch.cdist(before[side], before[side]),
                              torch.cdist(after[side], after[side]), atol=1e-12)  # fmt: skip
    assert (torch.cdist(before, before) - torch.cdist(after, after)).abs().max() > 0.05


def test_only_chosen_atoms_are_taken():
    symbols, bonds = (
        "OHHCHHHHOHH",
        [(0, 1), (0, 2), (3, 4), (3, 5), (3, 6), (3, 7), (8, 9), (8, 10)],
    )
    topology = molecule(symbols, bonds)
    z_matrix = ZMatrix.from_topology(topology, atoms=[3, 4, 5, 6, 7])
    assert z_matrix.n_atoms == 5
    assert z_matrix.atoms.tolist() == [3, 4, 5, 6, 7]
    found = z_matrix.coordinate_of(CollectiveVariable("d", "nm", None, "DISTANCE", (3, 7)))
    assert found is not None
    with pytest.raises(ValueError, match=r"no bonds lead from atom 0 \(MOL O0\) to 3 \(MOL C3\)"):
        ZMatrix.from_topology(topology)
    with pytest.raises(ValueError, match=r"atoms \[11\] are not in the topology"):
        ZMatrix.from_topology(topology, atoms=[0, 11])


def test_straight_pieces_are_told_and_got_round(caplog):
    topology = molecule(*MOLECULES["acetonitrile"])
    third = 2 * np.pi / 3
    x = np.array(
        [[0.0, 0, 0], [0.15, 0, 0], [0.26, 0, 0]]
        + [[-0.04, 0.1 * np.cos(third * i), 0.1 * np.sin(third * i)] for i in range(3)]
    )
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        z_matrix = ZMatrix.from_topology(topology, reference=x)
    assert "linear fragment: atoms 0 (MOL C0), 1 (MOL C1), 2 (MOL N2)" in caplog.text
    positions = torch.tensor(x)
    internal = z_matrix.to_internal(positions)
    assert internal.angles.sin().min() > 0.4
    back = z_matrix.to_cartesian(internal)
    assert (superposed(back, positions) - positions).abs().max() < 1e-12


def bent_by(degrees, symbols="CCCC"):
    """Four atoms in a row, straight but for bends at the inner two; a hydrogen at both ends."""
    angle = np.radians(degrees)
    along, up = 0.15 * np.cos(angle), 0.15 * np.sin(angle)
    ends = [[0.12 + along, up, 0], [-0.19, 0.1, 0], [0.16 + along, 0, 0.1 + up]]
    x = np.array([[-along, up, 0], [0, 0, 0], [0.12, 0, 0], *ends])
    return molecule(symbols + "HH", [(0, 1), (1, 2), (2, 3), (0, 4), (3, 5)]), x


@pytest.mark.parametrize(
    ("symbols", "degrees", "straight"),
    [
        ("CCCC", 0, True),
        ("CCCC", 14, True),  # a triple bond between, bent by heat
        ("CNNN", 14, True),
        ("CCCC", 60, False),  # of beads without hydrogens
        ("CNNC", 60, False),  # an azo group
        ("CSSC", 20, False),
    ],
)
def test_what_heat_bends_is_straight(symbols, degrees, straight):
    """Else angles near a half turn are learned, about which torsions jump."""
    topology, x = bent_by(degrees, symbols)
    rows = ZMatrix.from_topology(topology, reference=x).rows
    along = [set(atoms[:3]) <= {0, 1, 2, 3} for atoms in rows.tolist()[2:]]
    assert any(along) is not straight
    angles = ZMatrix.from_topology(topology, reference=x).to_internal(torch.tensor(x)).angles
    assert angles.sin().min() > 0.15


def test_a_wholly_straight_molecule_is_told(caplog):
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        ZMatrix.from_topology(molecule("OCO", [(0, 1), (1, 2)]))
    assert "is ill-defined" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, -1, -1)], r"rows has shape \(1, 3\)"),
        ([(0, -1, -1, -1), (0, 0, -1, -1)], "each of 0 ... 1 once"),
        ([(0, -1, -1, -1), (1, 2, -1, -1), (2, 0, 1, -1)], r"row 1 .* no earlier row places"),
        ([(0, -1, -1, -1), (1, 0, -1, -1), (2, 0, 0, -1)], "row 2 .* names an atom twice"),
        ([(0, 1, -1, -1), (1, 0, -1, -1)], "row 0"),
    ],
)
def test_impossible_rows_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        ZMatrix(rows)


def test_wrong_shapes_are_refused(z_matrix):
    with pytest.raises(ValueError, match=r"shape \(21, 3\), expected \(..., 22, 3\)"):
        z_matrix.to_internal(torch.zeros(21, 3))
    wrong = Internal(torch.zeros(21), torch.zeros(20), torch.zeros(20))
    with pytest.raises(ValueError, match=r"internal has \(21, 20, 20\)"):
        z_matrix.to_cartesian(wrong)
