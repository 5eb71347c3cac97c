"""Features of a Z-matrix and of CVs: inverse, exact placement, known statistics."""

import math

import numpy as np
import pytest
import torch
from openmm import app

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import ConditionEncoding, ZMatrixFeatures
from openmm_cgan.frames import Frames
from openmm_cgan.internal_coordinates import NM, Internal, ZMatrix
from openmm_cgan.plumed.actions.units import LENGTHS
from openmm_cgan.testsystems import alanine_dipeptide

DOMAIN = (-math.pi, math.pi)
PHI = CollectiveVariable("phi", "rad", DOMAIN, "TORSION", (4, 6, 8, 14))
PSI = CollectiveVariable("psi", "rad", DOMAIN, "TORSION", (6, 8, 14, 16))
CHAIN = [(0, -1, -1, -1), (1, 0, -1, -1), (2, 1, 0, -1), (3, 2, 1, 0), (4, 3, 2, 1), (5, 4, 3, 2)]
N = 20_000
ELSEWHERE = (CollectiveVariable("elsewhere"),)


def chain_internal(n=N, seed=0):
    """Six atoms in a chain: one rigid bond; torsions uniform, narrow about pi, rarely cis."""
    rng = np.random.default_rng(seed)
    bonds = 0.15 + 0.003 * rng.normal(size=(n, 5))
    bonds[:, 2] = 0.1 + 1e-8 * rng.normal(size=n)
    angles = 1.9 + 0.05 * rng.normal(size=(n, 4))
    torsions = np.empty((n, 3))
    torsions[:, 0] = rng.uniform(-np.pi, np.pi, n)
    torsions[:, 1] = (np.pi + 0.1 * rng.normal(size=n) + np.pi) % (2 * np.pi) - np.pi
    torsions[:, 2] = np.where(rng.random(n) < 0.01, np.pi, 0.0) + 0.1 * rng.normal(size=n)
    return Internal(*(torch.from_numpy(c) for c in (bonds, angles, torsions)))


def chain_features(variables=ELSEWHERE):
    internal = chain_internal()
    return ZMatrixFeatures.of_internal(ZMatrix(CHAIN), variables, internal), internal


def difference(one, two):
    return (one - two + math.pi) % (2 * math.pi) - math.pi


def test_each_coordinate_gets_the_scaling_that_suits_it():
    features, internal = chain_features()
    assert features.n_linear == 4 + 4 + 1  # the rigid bond is a constant
    assert features.wide.tolist() == [
        9,
        11,
    ]  # the uniform torsion, and the one that is cis at times
    encoded = features.encode_internal(internal)
    assert encoded.shape == (N, 9 + 2 * 2)
    standardised = encoded[:, :9]
    assert standardised[:, :8].mean(0).abs().max() < 1e-10
    assert standardised[:, 8].mean().abs() < 1e-4  # a torsion's mean is that on the circle
    assert (standardised.std(0, correction=0) - 1).abs().max() < 1e-10
    assert (encoded[:, 9:11] ** 2 + encoded[:, 11:] ** 2 - 1).abs().max() < 1e-14
    # the narrow torsion: mean pi and deviation 0.1, within 5 standard errors
    assert abs(difference(features.centre[10], math.pi)) < 5 * 0.1 / math.sqrt(N)
    assert abs(features.scale[10] - 0.1) < 5 * 0.1 / math.sqrt(2 * N)


def test_decoding_inverts_encoding():
    features, internal = chain_features()
    back = features.decode_internal(features.encode_internal(internal), torch.zeros(N, 1))
    assert (back.bonds - internal.bonds).abs().max() < 1e-7  # the rigid bond is now its mean
    assert (back.angles - internal.angles).abs().max() < 1e-14
    assert difference(back.torsions, internal.torsions).abs().max() < 1e-13
    assert back.torsions.min() >= -math.pi
    assert back.torsions.max() <= math.pi


def test_a_narrow_torsion_is_continuous_where_its_angle_jumps():
    features, _ = chain_features()
    near = chain_internal(2)
    for torsion, value in zip(near.torsions, (math.pi - 1e-6, -math.pi + 1e-6), strict=True):
        torsion[1] = value
    encoded = features.encode_internal(near)
    column = features.linear.tolist().index(10)
    assert abs(encoded[0, column] - encoded[1, column]) < 1e-4


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (CollectiveVariable("t", "rad", DOMAIN, "TORSION", (3, 2, 1, 0)), 2.5),
        (CollectiveVariable("s", "rad", DOMAIN, "TORSION", (0, 2, 1, 3)), -0.7),
        (CollectiveVariable("a", "rad", None, "ANGLE", (4, 3, 2)), 1.2),
        (CollectiveVariable("d", "A", None, "DISTANCE", (3, 2)), 1.1),
        (CollectiveVariable("d", "0.1", None, "DISTANCE", (0, 1)), 1.6),
    ],
)
def test_a_cv_of_the_z_matrix_is_placed_exactly(variable, value):
    z_matrix = ZMatrix(CHAIN)
    found = z_matrix.coordinate_of(variable)
    internal = chain_internal()
    features = ZMatrixFeatures.of_internal(z_matrix, [variable], internal)
    assert features.placed_variables == (0,)
    rng = torch.Generator().manual_seed(1)
    made = torch.randn(7, features.n_linear + 2 * features.n_pairs, generator=rng)
    targets = torch.full((7, 1), value, dtype=torch.float64)
    x = features.decode(made, targets)
    again = getattr(z_matrix.to_internal(x), found.kind + "s")[:, found.column]
    assert (found.scale * again - value).abs().max() < 1e-12
    [(_, _, values)] = features.placed_values(z_matrix.to_internal(x))
    assert (values - value).abs().max() < 1e-12


def test_phi_and_psi_of_alanine_dipeptide_are_placed_and_chirality_kept():
    molecule = alanine_dipeptide()
    z_matrix = ZMatrix.from_topology(molecule.topology, variables=[PHI, PSI])
    rng = torch.Generator().manual_seed(2)
    x = torch.as_tensor(np.asarray(molecule.positions), dtype=torch.float64)
    x = x + 0.003 * torch.randn(200, 22, 3, generator=rng, dtype=torch.float64)
    internal = z_matrix.to_internal(x)
    features = ZMatrixFeatures.of_internal(z_matrix, [PHI, PSI], internal)
    assert features.placed_variables == (0, 1)
    targets = 6.28 * torch.rand(200, 2, generator=rng, dtype=torch.float64) - 3.14
    made = features.decode(features.encode(x), targets)
    values = torch.stack([v for _, _, v in features.placed_values(z_matrix.to_internal(made))], 1)
    assert difference(values, targets).abs().max() < 1e-12

    def handedness(x):
        a, b, c = (x[:, k] - x[:, 8] for k in (6, 14, 10))
        return (torch.linalg.cross(a, b) * c).sum(1).sign()

    assert (handedness(made) == handedness(x)).all()


def test_two_names_of_one_coordinate_are_placed_once():
    twice = [
        CollectiveVariable("t", "rad", DOMAIN, "TORSION", (3, 2, 1, 0)),
        CollectiveVariable("u", "rad", DOMAIN, "TORSION", (0, 1, 2, 3)),
    ]
    features, _ = chain_features(twice)
    assert features.placed_variables == (0,)


def test_decoded_geometry_stays_possible_whatever_a_network_says():
    features, _ = chain_features()
    wild = 1e3 * torch.ones(2, features.n_linear + 2 * features.n_pairs)
    wild[1] *= -1
    internal = features.decode_internal(wild, torch.zeros(2, 1))
    assert internal.bonds.min() > 0.05
    assert internal.angles.min() > 0
    assert internal.angles.max() < math.pi


def test_condition_is_periodic_and_standardised():
    distance = CollectiveVariable("d", "nm")
    turn = CollectiveVariable("t", "", (0.0, 4.0))
    rng = torch.Generator().manual_seed(3)
    cvs = torch.stack(
        [6.28 * torch.rand(N, generator=rng), 4 * torch.rand(N, generator=rng),
         3.0 + 0.5 * torch.randn(N, generator=rng)], dim=1
    ).double()  # fmt: skip
    encoding = ConditionEncoding.fit([PHI, turn, distance], cvs)
    condition = encoding.encode(cvs)
    assert condition.shape == (N, encoding.n_condition)
    assert encoding.n_condition == 4 * 4 + 2
    moved = cvs + torch.tensor([2 * math.pi, -4.0, 0.0], dtype=torch.float64)
    assert torch.allclose(encoding.encode(moved), condition, atol=1e-12)
    assert condition[:, -2].mean().abs() < 1e-10
    assert abs(condition[:, -2].std() - 1) < 1e-4
    assert torch.equal(condition[:, -1], condition[:, -2] ** 2)
    # cos of the sum of both angles: phi and 2 pi t / 4
    expected = torch.cos(cvs[:, 0] + math.pi * cvs[:, 1] / 2)
    assert any(torch.allclose(c.abs(), expected.abs(), atol=1e-9) for c in condition.T)


def test_features_survive_their_arrays():
    features, internal = chain_features()
    again = ZMatrixFeatures.from_arrays(features.arrays(), features.variables)
    assert torch.equal(again.encode_internal(internal), features.encode_internal(internal))


def test_length_units_are_those_of_plumed():
    assert NM == LENGTHS


@pytest.mark.parametrize(("length", "width"), [(0.47, 0.05), (0.3, 0.1)], ids=["beads", "soft"])
def test_long_bonds_that_a_model_has_are_no_cut_molecules(length, width):
    """Beads of a coarse model are 0.47 nm apart, and 0.6 now and then; no boundary cuts those."""
    topology = app.Topology()
    residue = topology.addResidue("BB", topology.addChain())
    one, two = (topology.addAtom(name, None, residue) for name in ("B1", "B2"))
    topology.addBond(one, two)
    rng = np.random.default_rng(1)
    x = np.zeros((2000, 2, 3))
    x[:, 1, 0] = np.clip(rng.normal(length, width, 2000), 0.1, 2.5 * length)
    assert x.max() > 0.6
    distance = CollectiveVariable("d", "nm", None, "DISTANCE", (0, 1))
    frames = Frames.of_arrays(x, x[:, 1, 0], [distance])
    assert ZMatrixFeatures.fit(frames, topology).n_atoms == 2
    cut = x.copy()
    cut[:500, 1, 0] += 3.0
    frames = Frames.of_arrays(cut, cut[:, 1, 0], [distance])
    with pytest.raises(ValueError, match=r"cut by the periodic boundary.*choose a part by atoms="):
        ZMatrixFeatures.fit(frames, topology)
