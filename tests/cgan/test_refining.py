"""Refining on the energy: a flow trained on wrong data becomes the density of the energy."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from openmm import app

from openmm_cgan.cgan import ConditionalGAN, RefiningSettings, TrainingSettings, refine
from openmm_cgan.cgan.dataset import Dataset
from openmm_cgan.cgan.refining import _Refining
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames
from openmm_cgan.internal_coordinates import Internal, ZMatrix
from openmm_cgan.metrics import kish_effective_sample_size

TURN = CollectiveVariable("turn", "rad", (-math.pi, math.pi), "TORSION", (0, 1, 2, 3))
KT = 0.00831446261815324 * 300
LENGTH, STIFF_BOND = 0.15, 2e4  # nm, kJ/mol/nm^2
ANGLE, STIFF_ANGLE = 1.9, 300.0  # rad, kJ/mol/rad^2; the first angle depends on the torsion
FLOW = TrainingSettings(
    generator="FlowGenerator", steps=300, batch=256, width=24, learning_rate=4e-3, seed=1
)


def chain():
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    atoms = [topology.addAtom(f"C{k}", app.element.carbon, residue) for k in range(4)]
    for one, two in pairwise(atoms):
        topology.addBond(one, two)
    return topology


def energy_of(z_matrix, x):
    q = z_matrix.to_internal(x)
    bent = ANGLE + 0.1 * torch.cos(q.torsions)
    stretch = 0.5 * STIFF_BOND * (q.bonds - LENGTH).square().sum(1)
    return stretch + 0.5 * STIFF_ANGLE * (q.angles - bent).square().sum(1)


class Chain:
    """The Energy of a chain of four atoms, with torch's derivatives."""

    def __init__(self, z_matrix):
        self.z_matrix, self.calls = z_matrix, 0

    def energies_and_gradients(self, positions):
        self.calls += len(positions)
        x = torch.from_numpy(positions).requires_grad_()
        with torch.enable_grad():
            energy = energy_of(self.z_matrix, x)
            (gradient,) = torch.autograd.grad(energy.sum(), x)
        return energy.detach().numpy(), gradient.numpy()

    def half_log_det(self, positions):
        return positions[:, 0, 0] * 0


def too_cold(n=4000):
    """Frames of the chain at a third of the temperature, without the Jacobian."""
    rng = np.random.default_rng(0)
    z_matrix = ZMatrix.from_topology(chain(), variables=[TURN])
    turn = rng.uniform(-math.pi, math.pi, (n, 1))
    bonds = LENGTH + math.sqrt(KT / 3 / STIFF_BOND) * rng.standard_normal((n, 3))
    angles = ANGLE + 0.1 * np.cos(turn)
    angles = angles + math.sqrt(KT / 3 / STIFF_ANGLE) * rng.standard_normal((n, 2))
    internal = Internal(*(torch.from_numpy(a) for a in (bonds, angles, turn)))
    x = z_matrix.to_cartesian(internal).numpy()
    return Frames(
        positions=x.astype(np.float32), cvs=turn, bias=np.zeros(n), step=np.arange(n),
        time=np.arange(n) * 1.0, segment=np.ones(n, np.int64), settling=np.zeros(n, bool),
        box=None, variables=(TURN,), atoms=np.arange(4), temperature=300.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cold():
    return ConditionalGAN.fit(too_cold(), chain(), FLOW)


@pytest.fixture(scope="module")
def refined(cold):
    """The refined flow, and the history of its refining."""
    settings = RefiningSettings(steps=300, batch=256, learning_rate=3e-3)
    return refine(cold, Chain(cold.features.z_matrix), CVS, settings)


CVS = np.linspace(-math.pi, math.pi, 500)[:, None]


def log_weights(gan, seed=3):
    """log of exp(-u) / q, for configurations at torsions all round."""
    x, log_q = gan.sample_with_log_prob(np.tile(CVS, (4, 1)), seed=seed)
    return -energy_of(gan.features.z_matrix, torch.from_numpy(x)).numpy() / KT - log_q


def test_it_finds_the_density_of_the_energy(cold, refined):
    hot, history = refined
    before, after = (kish_effective_sample_size(log_weights(g)) / 2000 for g in (cold, hot))
    assert before < 0.3
    assert after > 0.97
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["too_high"] == 0


def test_the_normalisation_is_the_known_one(refined):
    weights = np.exp(log_weights(refined[0]))
    mean, error = weights.mean(), weights.std() / math.sqrt(len(weights))
    # exact: bonds and angles are integrated on a grid, for each torsion
    r = LENGTH + np.linspace(-0.08, 0.08, 4001)
    bond = (r**2 * np.exp(-STIFF_BOND * (r - LENGTH) ** 2 / 2 / KT)).sum() * (r[1] - r[0])
    theta = np.linspace(0, math.pi, 4001)[1:-1]
    centre = ANGLE + 0.1 * np.cos(CVS)
    angle = (np.sin(theta) * np.exp(-STIFF_ANGLE * (theta - centre) ** 2 / 2 / KT)).sum(1)
    exact = (bond**3 * (angle * (theta[1] - theta[0])) ** 2).mean()
    assert abs(mean - exact) < 4 * error
    assert error < 0.01 * exact


def test_the_path_gradient_is_the_gradient(cold):
    """On average: the loss with the whole derivative, by finite differences of one weight."""
    energy = Chain(cold.features.z_matrix)
    settings = RefiningSettings(batch=20_000)
    refining = _Refining(cold, energy, KT, torch.from_numpy(CVS), settings)
    bias = refining.generator.scalings[0][-1].bias
    cvs = torch.from_numpy(np.tile(CVS, (40, 1)))

    def loss():
        refining.rng.manual_seed(5)
        return refining.loss(cvs)[0]

    (gradient,) = torch.autograd.grad(loss(), bias)
    with torch.no_grad():
        for k in (0, 3, len(bias) // 2 + 1):
            found = []
            for sign in (1, -1):
                bias[k] += sign * 0.02
                found.append(loss().item())
                bias[k] -= sign * 0.02
            difference = (found[0] - found[1]) / 0.04
            # the score that is left out has mean 0 and, for a scale of z, deviation below 2
            assert abs(difference - gradient[k].item()) < 4 * 2 / math.sqrt(20_000) + 0.02


def test_the_given_one_is_left_as_it_is_and_the_same_seed_repeats(cold):
    before = {k: v.clone() for k, v in cold.generator.state_dict().items()}
    energy = Chain(cold.features.z_matrix)
    settings = RefiningSettings(steps=3, batch=16)
    one, two = (refine(cold, energy, CVS, settings)[0] for _ in range(2))
    assert energy.calls == 2 * 3 * 16
    assert all(torch.equal(v, before[k]) for k, v in cold.generator.state_dict().items())
    assert np.array_equal(one.sample([0.3], 5), two.sample([0.3], 5))
    assert not np.array_equal(one.sample([0.3], 5), cold.sample([0.3], 5))


def test_a_share_of_the_likelihood_holds_it_to_the_frames(cold, refined):
    rows = Dataset.prepare(too_cold(), chain(), FLOW).rows
    likelihoods = []
    for share in (0.0, 0.5, 1.0):
        settings = RefiningSettings(steps=80, batch=128, learning_rate=3e-3, likelihood=share)
        energy = Chain(cold.features.z_matrix)
        mixed, _ = refine(refined[0], energy, CVS, settings, frames=rows)
        with torch.no_grad():
            log_q = mixed.generator.log_prob(rows.held_features, rows.held_condition)
        likelihoods.append(float(log_q.mean()))
    # five standardised coordinates of a third of the variance: wide, between, and as narrow
    assert likelihoods[0] + 0.3 < likelihoods[1] < likelihoods[2] - 0.1


def test_energies_that_cannot_be_had_are_left_out(cold):
    class Broken(Chain):
        def energies_and_gradients(self, positions):
            energies, gradients = super().energies_and_gradients(positions)
            energies[::2], gradients[::2] = np.inf, 0.0
            return energies, gradients

    settings = RefiningSettings(steps=2, batch=32, report_every=1)
    refined, history = refine(cold, Broken(cold.features.z_matrix), CVS, settings)
    assert [row["too_high"] for row in history] == [0.5, 0.5]
    assert np.isfinite(refined.sample([0.3], 5)).all()


def test_it_stops_in_time(cold):
    settings = RefiningSettings(steps=10**6, batch=16, max_seconds=0.2)
    _, history = refine(cold, Chain(cold.features.z_matrix), CVS, settings)
    assert history[-1]["seconds"] < 5


def test_what_cannot_be_refined_is_refused(cold):
    energy = Chain(cold.features.z_matrix)
    perceptron = ConditionalGAN.fit(
        too_cold(200), chain(), TrainingSettings(steps=1, batch=16, width=8)
    )
    with pytest.raises(ValueError, match="a MLPGenerator has none"):
        refine(perceptron, energy, CVS)
    with pytest.raises(ValueError, match="turn is none"):
        refine(replace(cold, condition_noise=np.array([0.1])), energy, CVS)
    with pytest.raises(ValueError, match="no temperature"):
        refine(replace(cold, temperature=None), energy, CVS)
    for wrong in ({"steps": 0}, {"learning_rate": -1.0}, {"batch": 0}, {"likelihood": 1.5}):
        with pytest.raises(ValueError, match="expected"):
            RefiningSettings(**wrong)
