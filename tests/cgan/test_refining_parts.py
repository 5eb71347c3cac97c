"""Refining of a part among its rest: an atom in the field of three others, its density exact."""

import copy
import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import openmm
import pytest
import torch
from numpy.typing import NDArray
from openmm import app

from openmm_cgan.cgan import (
    ConditionalGAN,
    ConditionalGenerator,
    RefiningSettings,
    TrainingSettings,
    part_targets,
    refine,
    rows_for,
)
from openmm_cgan.cgan.part_targets import PartTargets, Rests
from openmm_cgan.cgan.refinable import conditions_for
from openmm_cgan.cgan.refining import _Refining
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import ZMatrixFeatures
from openmm_cgan.frames import Frames
from openmm_cgan.internal_coordinates import Internal, PartZMatrix
from openmm_cgan.metrics import kish_effective_sample_size
from openmm_cgan.potentials import Potential
from openmm_cgan.testsystems import Chain, alanine_dipeptide, torsion
from tests.cases.finite_differences import difference

KT = 0.00831446261815324 * 300
THETA = CollectiveVariable("theta", "rad", None, "ANGLE", (0, 1, 2))  # of the rest alone
PHI = CollectiveVariable("phi", "rad", (-math.pi, math.pi), "TORSION", (0, 1, 2, 3))
BOND, STIFF_BOND = 0.15, 2e4  # nm, kJ/mol/nm^2
ANGLE, STIFF_ANGLE = 1.9, 250.0  # rad, kJ/mol/rad^2
TURN = 1.5 * KT  # the atom turns with theta to where phi is 2 theta
FLOW = TrainingSettings(
    generator="FlowGenerator", steps=5, batch=128, width=16, learning_rate=4e-3, seed=1
)
PART = ZMatrixFeatures.of_part([3])
# by OpenMM; the rest's own energy varies by thousands of kJ/mol
ENERGY = (
    f"0.5*{STIFF_BOND}*(distance(p3,p4)-{BOND})^2"
    f" + 0.5*{STIFF_ANGLE}*(angle(p2,p3,p4)-{ANGLE}-0.2*(angle(p1,p2,p3)-2))^2"
    f" - {TURN}*cos(dihedral(p1,p2,p3,p4)-2*angle(p1,p2,p3)) + 1e6*distance(p1,p2)^2"
)


def topology_of(n: int) -> app.Topology:
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    atoms = [topology.addAtom(f"C{k}", app.element.carbon, residue) for k in range(n)]
    for one, two in pairwise(atoms):
        topology.addBond(one, two)
    return topology


def system_of() -> openmm.System:
    system, force = openmm.System(), openmm.CustomCompoundBondForce(4, ENERGY)
    for _ in range(4):
        system.addParticle(12.0)
    force.addBond([0, 1, 2, 3], [])
    system.addForce(force)
    return system


def energy_of(q: Internal, theta: NDArray) -> NDArray:
    """The same without the rest's own."""
    r, angle, phi = (c.numpy()[:, 0] for c in q)
    bent = 0.5 * STIFF_ANGLE * (angle - ANGLE - 0.2 * (theta - 2)) ** 2
    return 0.5 * STIFF_BOND * (r - BOND) ** 2 + bent - TURN * np.cos(phi - 2 * theta)


def rests_of(n: int, seed: int) -> tuple[NDArray, NDArray]:
    """Three atoms, anywhere and turned anyhow (n, 3, 3), and their angles (n,)."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(1.6, 2.4, n)
    x = np.zeros((n, 3, 3))
    x[:, 0, 0] = rng.uniform(0.12, 0.18, n)
    x[:, 2, 0], x[:, 2, 1] = 0.15 * np.cos(theta), 0.15 * np.sin(theta)
    turns = np.linalg.qr(rng.standard_normal((n, 3, 3)))[0]
    turns *= np.linalg.det(turns)[:, None, None]
    return np.einsum("nij,nkj->nki", turns, x) + rng.normal(0, 1, (n, 1, 3)), theta


def matrix(held: NDArray) -> PartZMatrix:
    return PartZMatrix([(0, 3, 2, 1)], [3], [0, 1, 2], held)


def frames_of(x: NDArray, cvs: NDArray, variables: tuple[CollectiveVariable, ...]) -> Frames:
    n = len(x)
    return Frames(
        positions=x.astype(np.float32), cvs=cvs, bias=np.zeros(n), step=np.arange(n),
        time=np.arange(n) * 1.0, segment=np.ones(n, np.int64), settling=np.zeros(n, bool),
        box=None, variables=variables, atoms=np.arange(x.shape[1]), temperature=300.0,
    )  # fmt: skip


def too_cold(n: int = 2000) -> Frames:
    """The atom at a third of the temperature, without the Jacobian, at any torsion."""
    rng = np.random.default_rng(0)
    rests, theta = rests_of(n, seed=1)
    r = BOND + math.sqrt(KT / 3 / STIFF_BOND) * rng.standard_normal(n)
    angle = ANGLE + 0.2 * (theta - 2) + math.sqrt(KT / 3 / STIFF_ANGLE) * rng.standard_normal(n)
    phi = rng.uniform(-math.pi, math.pi, n)
    q = Internal(*(torch.from_numpy(a[:, None]) for a in (r, angle, phi)))
    x = np.concatenate([rests, matrix(rests).to_cartesian(q).numpy()], axis=1)
    return frames_of(x, theta[:, None], (THETA,))


@pytest.fixture(scope="module")
def frames() -> Frames:
    return too_cold()


@pytest.fixture(scope="module")
def cold(frames: Frames) -> ConditionalGenerator:
    return ConditionalGAN.fit(frames, topology_of(4), FLOW, featurize=PART)


@dataclass(frozen=True)
class Weighed:
    """Configurations among rests that nothing was trained on: log of exp(-u)/q, and 1/Z."""

    log_weights: NDArray  # (n_rests, n)
    normalisations: NDArray  # (n_rests,)

    def share(self) -> float:
        """Mean of Kish's effective share among a rest."""
        return float(np.mean([kish_effective_sample_size(row) for row in self.log_weights])) / 200


def weighed(gan: ConditionalGenerator) -> Weighed:
    rests, theta = rests_of(30, seed=9)
    logs = []
    for k, (rest, angle) in enumerate(zip(rests, theta, strict=True)):
        x, log_q = gan.among(rest[gan.rest]).sample_with_log_prob([angle], n=200, seed=k)
        q = matrix(rest).to_internal(torch.from_numpy(x))
        logs.append(-energy_of(q, angle) / KT - log_q)
    # exact: a product of three integrals, none of which depends on the centre of the torsion
    r, phi = BOND + np.linspace(-0.08, 0.08, 4001), np.linspace(-math.pi, math.pi, 4001)
    bond = (r**2 * np.exp(-STIFF_BOND * (r - BOND) ** 2 / 2 / KT)).sum() * (r[1] - r[0])
    turn = np.exp(TURN * np.cos(phi) / KT)[1:].sum() * (phi[1] - phi[0])
    bent = np.linspace(0, math.pi, 4001)
    off = bent - ANGLE - 0.2 * (theta[:, None] - 2)
    angles = (np.sin(bent) * np.exp(-STIFF_ANGLE * off**2 / 2 / KT)).sum(1) * (bent[1] - bent[0])
    return Weighed(np.array(logs), bond * turn * angles)


@pytest.fixture(scope="module")
def refined(frames: Frames, cold: ConditionalGenerator) -> Any:
    settings = RefiningSettings(steps=100, batch=64, learning_rate=1e-2, average=0.9)
    rows = rows_for(cold, frames, topology_of(4))
    return refine(cold, Potential(system_of()), settings=settings, frames=rows)


def test_it_finds_the_density_among_rests_that_it_has_not_seen(
    cold: ConditionalGenerator, refined: Any
) -> None:
    hot, history = refined
    before, after = weighed(cold), weighed(hot)
    assert before.share() < 0.5
    assert after.share() > 0.9
    assert history[-1]["too_high"] == 0  # though energies of rests differ by more than all bounds
    ratios = np.exp(after.log_weights) / after.normalisations[:, None]
    error = ratios.std() / math.sqrt(ratios.size)
    assert abs(ratios.mean() - 1) < 4 * error
    assert error < 0.01
    assert hot.atoms.tolist() == [3]
    assert hot.rest.tolist() == cold.rest.tolist()


def test_without_better_weights_it_stays_as_it_was(
    frames: Frames, refined: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hot = refined[0]
    settings = RefiningSettings(steps=4, batch=16, learning_rate=0.5, average=0.1)
    rows = rows_for(hot, frames, topology_of(4))
    with caplog.at_level("WARNING", "openmm_cgan"):
        kept, _ = refine(hot, Potential(system_of()), settings=settings, frames=rows)
    assert "it stays as it was" in caplog.text
    np.testing.assert_array_equal(kept.sample([2.0], 5), hot.sample([2.0], 5))


def test_the_gradient_of_the_loss_is_that_by_finite_differences(
    frames: Frames, cold: ConditionalGenerator
) -> None:
    rows = rows_for(cold, frames, topology_of(4))
    n = 4800
    settings = RefiningSettings(batch=n)
    refining = _Refining(cold, Potential(system_of()), KT, None, settings, rows)
    refining.seen, refining.share = None, 0.0  # of what is made alone
    bias = refining.generator.scalings[0][-1].bias

    def loss() -> torch.Tensor:
        refining.rng.manual_seed(5)
        return refining.loss()[1].mean()

    (gradient,) = torch.autograd.grad(loss(), bias)
    for k in (0, len(bias) // 2):
        slope = difference(loss, bias, k)
        # the score that is left out has mean 0 and, for a scale of z, deviation below 2
        assert k == 0 or slope < -0.5  # too narrow
        assert abs(slope - gradient[k].item()) < 4 * 2 / math.sqrt(n) + 0.02


# ---- the target: where the part stands, what is counted

# constrained, a light atom between heavy ones, where Fixman's factor is largest
HELD = Chain(masses=(30.0, 30.0, 1.0, 30.0), bond_stiffness=None, angle=2.2, angle_stiffness=15.0)


def chain_frames(n: int) -> NDArray:
    """Of the constrained chain, turned and put anywhere."""
    x, rng = HELD.sample(n, 300.0, seed=2), np.random.default_rng(3)
    turns = np.linalg.qr(rng.standard_normal((n, 3, 3)))[0]
    turns *= np.linalg.det(turns)[:, None, None]
    return np.einsum("nij,nkj->nki", turns, x) + rng.normal(0, 1, (n, 1, 3))


def angles_of(x: torch.Tensor) -> NDArray:
    """Both angles (n, 2) of chains."""
    arms = x[:, :-1] - x[:, 1:]
    first, second = -arms[:, :-1], arms[:, 1:]
    cosines = (first * second).sum(-1) / (first.norm(dim=-1) * second.norm(dim=-1))
    return cosines.arccos().numpy()


def test_the_target_is_the_density_beside_each_rest() -> None:
    x = chain_frames(40)
    angles = angles_of(torch.from_numpy(x))
    features = PART(frames_of(x, angles[:, :1], (THETA,)), topology_of(4))
    rests = Rests(x, None, np.arange(0), np.arange(0))
    frames, each = np.array([7, 3, 7, 20]), 3
    target = PartTargets(features, Potential(HELD.system()), KT, rests).at(frames)
    rng = torch.Generator().manual_seed(0)
    made = torch.randn(len(frames) * each, 3, generator=rng, dtype=torch.float64)
    made.requires_grad_()
    cvs = torch.from_numpy(angles[frames, :1]).repeat_interleave(each, 0)
    u = target.reduced_energy(made, cvs)
    placed = target.features.decode(made, cvs)
    around = torch.from_numpy(x[frames]).repeat_interleave(each, 0)
    whole = torch.cat([around[:, :3], placed], dim=1).detach()
    bent = angles_of(whole)
    np.testing.assert_allclose(bent[:, 0], cvs[:, 0], atol=1e-12)
    phi = torch.atan2(made[:, 2], made[:, 1]).detach().numpy()
    density = HELD.angle_density(bent[:, 1], 300.0) * HELD.fixman(bent)
    expected = -np.log(density * HELD.torsion_density(phi, 300.0)).reshape(4, each)
    found = u.detach().numpy().reshape(4, each)
    off = found - expected
    np.testing.assert_allclose(off - off[:, :1], 0, atol=1e-8)
    assert np.ptp(off[:, 0]) > 0.01  # what stands for the frame itself differs
    assert torch.autograd.gradcheck(target.reduced_energy, (made, cvs))


def in_box(charges: tuple[float, ...]) -> openmm.System:
    """The chain with charges, in a periodic box."""
    system, force = HELD.system(), openmm.NonbondedForce()
    system.setDefaultPeriodicBoxVectors(*(2.5 * np.eye(3)))
    for charge in charges:
        force.addParticle(charge, 0.1, 0.1)
    force.setNonbondedMethod(force.CutoffPeriodic)
    force.setCutoffDistance(1.0)
    system.addForce(force)
    return system


def test_each_frame_has_its_box(monkeypatch: pytest.MonkeyPatch) -> None:
    x, potential = chain_frames(6), Potential(in_box((0.5, -0.5, 0.5, -0.5)), n_contexts=2)
    x[:, 0] += [2.3, 0.0, 0.0]  # torn from the others: at a distance only in a large box
    boxes = np.array([np.eye(3) * side for side in (2.2, 2.4, 2.6, 2.2, 2.4, 2.6)])
    expected = []
    for row, box in zip(x, boxes, strict=True):
        alone = in_box((0.5, -0.5, 0.5, -0.5))
        alone.setDefaultPeriodicBoxVectors(*box)
        expected.append(Potential(alone).energies(row[None])[0])
    before = potential.energies(x)
    energies, _ = potential.energies_and_gradients(x, boxes)
    np.testing.assert_allclose(energies, expected)
    assert np.abs(energies - before).min() > 1.0
    np.testing.assert_array_equal(potential.energies(x), before)  # its own box is as it was

    features = PART(frames_of(chain_frames(6), np.zeros((6, 1)), (replace(THETA, atoms=()),)),
                    topology_of(4))  # fmt: skip
    rests = Rests(x, boxes, np.arange(0), np.arange(0))
    target = PartTargets(features, potential, KT, rests).at(np.array([1, 5]))
    moved = x[[1, 5], 3:] + 0.01
    whole = x[[1, 5]].copy()
    whole[:, 3:] = moved
    off, _ = potential.energies_and_gradients(whole, boxes[[1, 5]])
    found, _ = target.energy.energies_and_gradients(moved)
    np.testing.assert_allclose(found, off - energies[[1, 5]], atol=1e-9)
    monkeypatch.setattr(part_targets, "PIECE", 1)  # one whole System at a time
    again, _ = target.energy.energies_and_gradients(moved)
    np.testing.assert_allclose(again, found, atol=1e-9)


# ---- rows, and what is refused


def test_conditions_are_of_the_cvs_that_the_part_moves() -> None:
    x = chain_frames(30)
    theta = angles_of(torch.from_numpy(x))[:, :1]
    phi = np.array([[torsion(one, PHI.atoms)] for one in x])
    both = frames_of(x, np.concatenate([theta, phi], axis=1), (THETA, PHI))
    gan = ConditionalGAN.fit(both, topology_of(4), replace(FLOW, steps=1), featurize=PART)
    rows = rows_for(gan, both, topology_of(4))
    # CVs that are conditions as they stand are not blurred
    np.testing.assert_array_equal(rows.cvs[:, 0], theta[rows.rests.frame, 0])
    asked = np.array([[0.5], [1.0]])
    made = conditions_for(gan, Potential(HELD.system()), asked, rows, seed=0)
    assert set(made[:, 1].tolist()) == {0.5, 1.0}
    np.testing.assert_array_equal(made[:, 0], rows.cvs[:, 0])
    with pytest.raises(
        ValueError, match=r"shape \(2, 2\); expected the CVs that the part moves, phi"
    ):
        conditions_for(gan, Potential(HELD.system()), np.zeros((2, 2)), rows, seed=0)


def test_what_cannot_be_refined_is_refused(frames: Frames, cold: ConditionalGenerator) -> None:
    energy, rows = Potential(system_of()), rows_for(cold, frames, topology_of(4))
    with pytest.raises(ValueError, match="a part is refined among the rest of frames"):
        refine(cold, energy, [[2.0]])
    with pytest.raises(ValueError, match="the CVs that the part moves, none: leave them out"):
        refine(cold, energy, [[2.0]], frames=rows)
    with pytest.raises(TypeError, match="float: expected a Potential of the whole System"):
        refine(cold, 1.0, frames=rows)
    for atoms in ((), (0, 1, 3)):  # not known, or moved by the part and not placed
        known = copy.copy(cold.conditions)
        known.variables = (replace(THETA, atoms=atoms),)
        with pytest.raises(ValueError, match="TORSION, ANGLE, DISTANCE of other atoms; theta is"):
            refine(replace(cold, conditions=known), energy, frames=rows)
    system = system_of()
    system.setParticleMass(3, 0.0)
    with pytest.raises(ValueError, match=r"the atoms \[3\] of the part are virtual sites or fixed"):
        refine(cold, Potential(system), frames=rows)
    bad = rows.rests.positions.copy()
    bad[rows.rests.held_frame, 0] = np.nan
    broken = replace(rows, rests=replace(rows.rests, positions=bad))
    with pytest.raises(ValueError, match="is not finite: the frames are not of this System"):
        refine(cold, energy, frames=broken)


def test_frames_must_hold_all_that_stands_around() -> None:
    x, rng = chain_frames(30), np.random.default_rng(5)
    x = np.concatenate([x, rng.normal(0, 1, (30, 1, 3))], axis=1)  # something that is not bonded
    topology = topology_of(4)
    topology.addAtom("N", app.element.nitrogen, next(topology.residues()))
    theta = angles_of(torch.from_numpy(x[:, :4]))[:, :1]
    whole = frames_of(x, theta, (THETA,))
    gan = ConditionalGAN.fit(whole, topology, replace(FLOW, steps=1), featurize=PART)
    rows = rows_for(gan, whole, topology)
    assert rows.rests.positions.shape == (30, 5, 3)
    few = replace(whole, positions=whole.positions[:, :4], atoms=np.arange(4))
    with pytest.raises(ValueError, match="the frames lack 1 of the 5 atoms, the first number 4"):
        rows_for(gan, few, topology)
    elsewhere = replace(gan, features=gan.features, molecule_hash="", topology_hash="")
    elsewhere.features.z_matrix.rest = np.array([0, 1, 4])
    with pytest.raises(ValueError, match=r"hangs on the atoms \[2\] here"):
        rows_for(elsewhere, whole, topology)


def test_a_part_of_another_system_or_torn_off_is_refused(
    frames: Frames, cold: ConditionalGenerator
) -> None:
    far = frames.positions.copy()
    far[7, 3, 0] += 2.5
    with pytest.raises(ValueError, match="a part strays from what it hangs on"):
        rows_for(cold, replace(frames, positions=far), topology_of(4))
    loose = topology_of(3)  # with the part beside it, bonded to nothing
    loose.addAtom("C3", app.element.carbon, next(loose.residues()))
    with pytest.raises(ValueError, match="a molecule by itself, and was trained among others"):
        rows_for(cold, frames, loose)


def test_each_row_goes_with_its_frame_whichever_hydrogens_are_exchanged() -> None:
    molecule = alanine_dipeptide()
    rng = np.random.default_rng(4)
    x = molecule.positions + rng.normal(0, 0.003, (24, 22, 3)) + rng.normal(0, 1, (24, 1, 3))
    psi = CollectiveVariable("psi", "rad", (-math.pi, math.pi), "TORSION", (6, 8, 14, 16))
    values = np.array([[torsion(one, psi.atoms)] for one in x])
    seen = frames_of(x, values, (psi,))
    part, settings = [10, 11, 12, 13], replace(FLOW, steps=1, max_frames=21)
    featurize = ZMatrixFeatures.of_part(part)
    gan = ConditionalGAN.fit(seen, molecule.topology, settings, featurize=featurize)
    rows = rows_for(gan, seen, molecule.topology)
    assert len(rows.features) == 20 * 3  # copies with other hydrogens
    for features, cvs, frame in (
        (rows.features, rows.cvs, rows.rests.frame),
        (rows.held_features, rows.held_cvs, rows.rests.held_frame),
    ):
        np.testing.assert_array_equal(cvs[:, 0], values[frame, 0])
        among = gan.features.among(rows.rests.positions[frame][:, gan.rest])
        made = among.decode(features, cvs).numpy()
        there = rows.rests.positions[frame][:, part]
        np.testing.assert_allclose(made[:, 0], there[:, 0], atol=1e-5)
        away = np.linalg.norm(made[:, 1:, None] - there[:, None, 1:], axis=-1)
        assert (away.argmin(axis=2) + 1).sum(axis=1).tolist() == [6] * len(made)
        assert away.min(axis=2).max() < 1e-5
