"""Refining on the energy: a flow trained on wrong data becomes the density of the energy."""

import math
import signal
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from openmm import app

from openmm_cgan.cgan import ConditionalGAN, RefiningSettings, TrainingSettings, refine, rows_for
from openmm_cgan.cgan.dataset import Dataset
from openmm_cgan.cgan.divergences import Target, held
from openmm_cgan.cgan.effective_share import EACH, PLACES, Places, effective_share
from openmm_cgan.cgan.refinable import temperature_for
from openmm_cgan.cgan.refining import ROUND, _Refining
from openmm_cgan.cgan.refining_checkpoint import save_refining
from openmm_cgan.cgan.training_data import TrainingData
from openmm_cgan.cgan.weighed_torsions import EACH as WEIGHED_EACH
from openmm_cgan.cgan.weighed_torsions import WeighedTorsions
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames
from openmm_cgan.internal_coordinates import Internal, ZMatrix
from openmm_cgan.metrics import kish_effective_sample_size
from tests.cases.finite_differences import difference

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


def right(n, turn=None):
    """Positions of the chain at the temperature, with the Jacobian, by rejection; torsions."""
    rng = np.random.default_rng(1)
    z_matrix = ZMatrix.from_topology(chain(), variables=[TURN])
    turn = rng.uniform(-math.pi, math.pi, n) if turn is None else turn
    turn = turn[:, None]

    def drawn(centre, stiffness, jacobian):
        x = np.full(np.broadcast_shapes(np.shape(centre), (n, 3)), np.nan)
        while (left := np.isnan(x)).any():
            tried = centre + math.sqrt(KT / stiffness) * rng.standard_normal(x.shape)
            taken = left & (rng.random(x.shape) < jacobian(tried))
            x[taken] = tried[taken]
        return x

    bonds = drawn(LENGTH, STIFF_BOND, lambda r: (r / 0.25) ** 2)
    angles = drawn(ANGLE + 0.1 * np.cos(turn), STIFF_ANGLE, np.sin)[:, :2]
    internal = Internal(*(torch.from_numpy(a) for a in (bonds, angles, turn)))
    return z_matrix.to_cartesian(internal), torch.from_numpy(turn)


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

    def loss():
        refining.rng.manual_seed(5)
        return refining.loss()[0]

    (gradient,) = torch.autograd.grad(loss(), bias)
    for k in (0, 3, len(bias) // 2 + 1):
        # the score that is left out has mean 0 and, for a scale of z, deviation below 2
        off = difference(loss, bias, k) - gradient[k].item()
        assert abs(off) < 4 * 2 / math.sqrt(20_000) + 0.02


def test_the_held_flow_moves_with_the_weights_and_takes_no_derivative():
    layer = torch.nn.Linear(2, 1)
    copied, x = held(layer), torch.ones(1, 2)
    layer(x).sum().backward()
    torch.optim.Adam(layer.parameters(), 0.1, fused=True).step()
    assert torch.equal(copied(x), layer(x))
    layer.load_state_dict({"weight": torch.zeros(1, 2), "bias": torch.ones(1)})
    assert torch.equal(copied(x), torch.ones(1, 1))
    assert not copied(x).requires_grad


def gradients_of_frames(gan, batches=40, batch=250):
    """Of the last biases of the stiff part: path gradient and that of -log q, for each batch."""
    x, cvs = right(batches * batch)
    features, condition = gan.features.encode(x).float(), gan.conditions.encode(cvs).float()
    none = torch.zeros(0, 1)
    frames = TrainingData(features, condition, none, features[:0], condition[:0], cvs, cvs[:0])
    energy = Chain(gan.features.z_matrix)
    refining = _Refining(gan, energy, KT, cvs, RefiningSettings(), frames)
    stiff = (*refining.generator.scalings, *refining.generator.couplings)
    biases = [network[-1].bias for network in stiff]
    found = []
    for rows in torch.arange(len(x)).split(batch):
        log_q = refining.generator.log_prob(features[rows], condition[rows])
        (seen,) = refining.compared([refining.seen_at(rows)])
        for loss in (seen.mean(), -log_q.mean()):
            found.append(torch.cat(torch.autograd.grad(loss, biases)))
    by_path, by_likelihood = torch.stack(found).double().unflatten(0, (batches, 2)).unbind(1)
    return by_path, by_likelihood


def test_the_path_gradient_of_frames_is_that_of_their_likelihood(cold):
    by_path, by_likelihood = gradients_of_frames(cold)
    off, n = by_path - by_likelihood, len(by_path)
    error = off.std(0) / math.sqrt(n)
    assert float((off.mean(0).abs() / error).max()) < 4.5  # of some hundred
    size = by_likelihood.mean(0).abs() / (by_likelihood.std(0) / math.sqrt(n))
    assert float(size.max()) > 20  # there is something to agree about


def test_at_the_right_density_the_path_gradient_of_frames_has_little_noise(refined):
    by_path, by_likelihood = gradients_of_frames(refined[0])
    assert float(by_path.var(0).mean()) < 0.1 * float(by_likelihood.var(0).mean())


class TwoWells:
    """A generator of one torsion that stays within the wells it is given, and its features."""

    n_pairs = 1

    def __init__(self, share):
        self.share = share  # of its density in the right half of the circle

    def sample_with_log_prob(self, condition, rng):
        n = len(condition)
        right = torch.rand(n, generator=rng) < self.share
        angle = math.pi * torch.rand(n, generator=rng, dtype=torch.float64)
        features = torch.where(right, angle, -angle)[:, None]
        return features, self.log_prob(features, condition)

    def log_prob(self, features, condition):
        share = torch.where(features[:, 0] > 0, self.share, 1 - self.share)
        return (share / math.pi).log()

    def torsions_of(self, features):
        return features

    def decode_with_log_det(self, features, cvs):
        return features, features[:, 0] * 0

    def within(self, features):
        return torch.ones(len(features), dtype=torch.bool)


class Flat:
    """An energy that is the same everywhere."""

    def energies_and_gradients(self, positions):
        return np.zeros(len(positions)), np.zeros_like(positions)

    def half_log_det(self, positions):
        return positions[:, 0] * 0


def test_the_effective_share_is_that_of_the_weights_and_sees_a_lost_well():
    frames = torch.tensor([[1.0], [-1.0]] * 200, dtype=torch.float64)
    places = Places(torch.zeros(400, 1), torch.zeros(400, 1), frames)
    alone = Places(places.cvs, places.condition, frames[:0])

    def share(of_right, where):
        generator = TwoWells(of_right)
        return effective_share(generator, Target(generator, Flat(), KT), where)

    assert share(0.5, places) == pytest.approx(1.0)
    assert share(0.5, alone) == pytest.approx(1.0)
    # weights 1 / (2 s) in a share s: Kish's is 1 / (1 / (4 s) + 1 / (4 (1 - s)))
    assert share(0.8, alone) == pytest.approx(4 * 0.8 * 0.2, rel=0.05)
    lost = 1 - 1e-9
    assert share(lost, alone) == pytest.approx(1.0)
    # half of the places have a frame that outweighs all
    assert share(lost, places) == pytest.approx((EACH + 1) ** -0.5, rel=0.01)


def weighed(of_right, frames=None, n=200):
    """Torsions of a flow of two wells that should be alike, and what they weigh."""
    generator, none = TwoWells(of_right), torch.zeros(0, 1, dtype=torch.float64)
    places = Places(torch.zeros(n, 1), torch.zeros(n, 1), none if frames is None else frames)
    target, rng = Target(generator, Flat(), KT), torch.Generator().manual_seed(4)
    return WeighedTorsions.made_at(torch.arange(n), generator, target, places, rng)


def of_right_well(found):
    """Share of the weights, and its standard error by the places."""
    each = torch.where(found.torsions[:, 0] > 0, found.weights, 0.0)
    shares = torch.zeros(1 + int(found.rows.max()), dtype=torch.float64)
    shares.index_add_(0, found.rows, each)
    return float(shares.mean()), float(shares.std()) / math.sqrt(len(shares))


def test_torsions_weigh_what_the_energy_says_whichever_flow_made_them():
    for of_right in (0.5, 0.3, 0.8):
        share, error = of_right_well(weighed(of_right))
        assert abs(share - 0.5) < 4 * error + 1e-12
        assert error < 0.01
    both = WeighedTorsions.joined([weighed(0.3), weighed(0.8)], most=10**6)
    share, error = of_right_well(both)
    assert abs(share / 2 - 0.5) < 4 * error  # two parts at each place


def test_what_is_drawn_to_learn_from_is_in_proportion_to_the_weights():
    drawn = weighed(0.8, n=2000).drawn(40_000, torch.Generator().manual_seed(1))
    share = float((drawn.torsions > 0).double().mean())
    # of what was drawn, and of what it was drawn from: 0.8 on one side, 0.64 effective
    error = math.hypot(0.5 / math.sqrt(40_000), 0.5 / math.sqrt(0.64 * 2000 * WEIGHED_EACH))
    assert abs(share - 0.5) < 4 * error


def test_the_frame_of_a_place_is_one_among_many_whichever_well_it_is_of():
    frames = torch.tensor([[1.0], [-1.0]] * 100, dtype=torch.float64)
    for of_right in (0.5, 1 - 1e-9):  # the second has lost the wells of half of the frames
        found = weighed(of_right, frames)
        assert torch.equal(found.torsions.view(200, -1)[:, -1:], frames.float())
        assert torch.allclose(found.weights, torch.full_like(found.weights, 1 / WEIGHED_EACH))


def test_one_configuration_does_not_decide():
    found = weighed(0.998).weights.view(200, -1)  # one in 500 weighs 250 times the others
    assert float(found.max()) == pytest.approx(WEIGHED_EACH**-0.5)


def test_where_nothing_counts_nothing_is_learned():
    none = WeighedTorsions(torch.zeros(4, 1), torch.arange(4), torch.zeros(4))
    assert len(none.drawn(10, torch.Generator().manual_seed(0)).rows) == 0


class SharesByPlace(TwoWells):
    """Two wells whose shares are the conditions."""

    def sample_with_log_prob(self, condition, rng):
        right = torch.rand(len(condition), generator=rng) < condition[:, 0]
        angle = math.pi * torch.rand(len(condition), generator=rng, dtype=torch.float64)
        features = torch.where(right, angle, -angle)[:, None]
        return features, self.log_prob(features, condition)

    def log_prob(self, features, condition):
        share = condition[:, 0]
        return (torch.where(features[:, 0] > 0, share, 1 - share) / math.pi).log()


def test_weights_are_those_of_the_density_at_each_place():
    shares = torch.linspace(0.3, 0.7, 40, dtype=torch.float64)[:, None]
    generator, none = SharesByPlace(None), torch.zeros(0, 1, dtype=torch.float64)
    found = WeighedTorsions.made_at(
        torch.arange(40), generator, Target(generator, Flat(), KT), Places(shares, shares, none),
        torch.Generator().manual_seed(4),
    )  # fmt: skip
    logs = -generator.log_prob(found.torsions, shares[found.rows]).view(40, -1)
    torch.testing.assert_close(found.weights.view(40, -1), logs.softmax(1))


def test_the_latest_is_kept():
    old, new = weighed(0.3, n=3), weighed(0.8, n=2)
    for kept, of_new in zip(WeighedTorsions.joined([old, new], len(new.rows)), new, strict=True):
        assert torch.equal(kept, of_new)


STRETCH = CollectiveVariable("stretch", "nm", None, "DISTANCE", (0, 1))
BARRIER, TILT = 25 * KT, 0.75 * KT  # between wells at -pi/2 and pi/2, which differ by 2 TILT


class Wells(Chain):
    """The chain with two wells of its torsion, which nothing passes between."""

    def energies_and_gradients(self, positions):
        x = torch.from_numpy(positions).requires_grad_()
        with torch.enable_grad():
            torsion = self.z_matrix.to_internal(x).torsions[:, 0]
            energy = energy_of(self.z_matrix, x)
            energy = energy + BARRIER * torsion.cos().square() + TILT * torsion.sin()
            (gradient,) = torch.autograd.grad(energy.sum(), x)
        return energy.detach().numpy(), gradient.numpy()


@pytest.fixture(scope="module")
def even():
    """Frames that visited both wells alike, and the flow that was trained on them."""
    rng, n = np.random.default_rng(2), 3000
    x, _ = right(n, rng.choice([-0.5, 0.5], n) * math.pi + rng.normal(0, 0.14, n))
    frames = replace(
        too_cold(n), positions=x.numpy().astype(np.float32), variables=(STRETCH,),
        cvs=(x[:, 1] - x[:, 0]).norm(dim=1)[:, None].numpy(),
    )  # fmt: skip
    return frames, ConditionalGAN.fit(frames, chain(), replace(FLOW, steps=150))


def test_wells_visited_out_of_proportion_come_to_their_weights(even):
    frames, even = even
    energy = Wells(even.features.z_matrix)
    settings = RefiningSettings(steps=200, batch=64, learning_rate=1e-2)
    made, _ = refine(even, energy, settings=settings, frames=rows_for(even, frames, chain()))

    def log_odds(gan):
        x = torch.from_numpy(gan.sample(frames.cvs, seed=1))
        share = float((energy.z_matrix.to_internal(x).torsions > 0).double().mean())
        return math.log(share / (1 - share))

    phi = np.linspace(0, math.pi, 2001)
    cosine, sine = np.cos(phi), np.sin(phi)
    up, down = (np.exp(-(BARRIER * cosine**2 + t * sine) / KT).sum() for t in (TILT, -TILT))
    exact, before = math.log(up / down), log_odds(even)
    assert abs(before) < 5 * math.sqrt(4 / 3000) + 0.1  # as they were visited
    assert exact < -1.3
    assert abs(log_odds(made) - exact) < 0.2 * abs(before - exact)


def test_refining_that_would_make_it_worse_leaves_it_as_it_was(refined, caplog):
    good = refined[0]
    rows = Dataset.prepare(too_cold(), chain(), FLOW).rows
    settings = RefiningSettings(steps=40, batch=64, learning_rate=0.5, average=0.5)
    energy = Chain(good.features.z_matrix)
    with caplog.at_level("WARNING", "openmm_cgan"):
        kept, history = refine(good, energy, CVS, settings, frames=rows)
    assert history[-1]["effective"] < 0.5  # such a learning rate does harm
    assert np.array_equal(kept.sample([0.3], 5), good.sample([0.3], 5))
    assert "it stays as it was" in caplog.text


def test_the_given_one_is_left_as_it_is_and_the_same_seed_repeats(cold):
    before = {k: v.clone() for k, v in cold.generator.state_dict().items()}
    energy = Chain(cold.features.z_matrix)
    settings = RefiningSettings(steps=3, batch=16)
    (one, history), (two, _) = (refine(cold, energy, CVS, settings) for _ in range(2))
    judged = 2 * PLACES * EACH  # before and after
    assert energy.calls == 2 * (3 * 16 + judged)
    assert history[-1]["energies"] == 3 * 16 + judged
    assert all(torch.equal(v, before[k]) for k, v in cold.generator.state_dict().items())
    assert np.array_equal(one.sample([0.3], 5), two.sample([0.3], 5))
    assert not np.array_equal(one.sample([0.3], 5), cold.sample([0.3], 5))


def test_a_refining_goes_on_as_if_it_had_never_stopped(cold, tmp_path, monkeypatch):
    """Killed between two rows of the history, and by a signal in the midst of one."""
    energy, path = Chain(cold.features.z_matrix), tmp_path / "refining.chk"
    rows = Dataset.prepare(too_cold(200), chain(), FLOW).rows
    settings = RefiningSettings(steps=7, batch=16, report_every=2)
    whole, history = refine(cold, energy, CVS, settings, frames=rows)

    def once_stopped(by):
        with monkeypatch.context() as patch:
            patch.setattr(_Refining, "go_on", by)
            with pytest.raises(KeyboardInterrupt):
                refine(cold, energy, CVS, settings, frames=rows, checkpoint=path)

    made = _Refining.go_on

    def killed(refining):
        if refining.step == 3:  # the checkpoint is of step 2
            raise KeyboardInterrupt
        made(refining)

    def told_to_stop(refining):
        made(refining)
        if refining.step == 5:
            signal.raise_signal(signal.SIGTERM)

    once_stopped(killed)
    once_stopped(told_to_stop)
    assert torch.load(path, weights_only=True)["step"] == 5
    for other, said in (
        ({"settings": replace(settings, seed=1)}, "other settings"),
        ({"conditions": CVS[:10]}, "other model or frames"),
        ({"frames": Dataset.prepare(too_cold(100), chain(), FLOW).rows}, "other model or frames"),
        ({"temperature": 310.0}, "other kT"),
        ({"energy": Scaled(energy, 2.0)}, "another energy"),
    ):
        given = {"energy": energy, "conditions": CVS, "settings": settings, "frames": rows}
        with pytest.raises(ValueError, match=said):
            refine(cold, **(given | other), checkpoint=path)
    again, rest = refine(cold, energy, CVS, settings, frames=rows, checkpoint=path)
    done, last = refine(cold, energy, CVS, settings, frames=rows, checkpoint=path)
    for one, other in zip(history, rest, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert last == rest
    for name, tensor in whole.generator.state_dict().items():
        assert torch.equal(again.generator.state_dict()[name], tensor)
        assert torch.equal(done.generator.state_dict()[name], tensor)


class Scaled(NamedTuple):
    """Another energy."""

    energy: Chain
    by: float

    def energies_and_gradients(self, positions):
        energies, gradients = self.energy.energies_and_gradients(positions)
        return self.by * energies, self.by * gradients

    def half_log_det(self, positions):
        return self.energy.half_log_det(positions)


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


@pytest.mark.parametrize(("at", "share"), [(None, 0.5), (None, 0.0), ([[0.15]], 0.5)])
def test_a_step_costs_what_is_said(even, at, share):
    """The frames at the CVs of what is weighed are weighed with it, where these are theirs."""
    frames, flow = even
    energy, rows = Wells(flow.features.z_matrix), rows_for(flow, frames, chain())
    settings = RefiningSettings(steps=2, batch=32, frames_share=share)
    _, history = refine(flow, energy, at, settings, frames=rows)
    steps = 2 * 32 * (2 if share else 1)
    weighed = ROUND * 32 // WEIGHED_EACH * (WEIGHED_EACH + (1 if at is None else 0))
    judged = 2 * PLACES * (EACH + 1)
    assert history[-1]["energies"] == steps + weighed + judged


def test_what_has_no_torsions_costs_no_weights(cold):
    energy = Chain(cold.features.z_matrix)
    _, history = refine(cold, energy, CVS, RefiningSettings(steps=2, batch=32))
    assert history[-1]["energies"] == 2 * 32 + 2 * PLACES * EACH


def test_the_frame_of_each_place_is_weighed_with_what_is_made_there(even):
    frames, flow = even
    rows = rows_for(flow, frames, chain())
    energy = Wells(flow.features.z_matrix)
    refining = _Refining(flow, energy, KT, None, RefiningSettings(batch=32), rows)
    refining.weigh()
    found = refining.weighed
    at = found.rows.view(-1, WEIGHED_EACH + 1)
    torsions = found.torsions.view(len(at), -1)
    assert torch.equal(at[:, 0], at[:, -1])
    assert torch.equal(torsions[:, -1:], flow.generator.torsions_of(rows.features[at[:, 0]]))


def test_torsions_are_weighed_where_frames_are_drawn(even):
    frames, flow = even
    rows = rows_for(flow, frames, chain())
    energy = Wells(flow.features.z_matrix)
    refining = _Refining(flow, energy, KT, None, RefiningSettings(batch=32), rows)
    refining.cumulative = (torch.arange(len(rows.cvs)) >= 5).double()  # the sixth has all weight
    refining.weigh()
    assert set(refining.weighed.rows.tolist()) == {5}


def test_what_was_weighed_goes_on_with_the_rest(even, tmp_path, monkeypatch):
    frames, flow = even
    energy, path = Wells(flow.features.z_matrix), tmp_path / "refining.chk"
    rows = rows_for(flow, frames, chain())
    monkeypatch.setattr("openmm_cgan.cgan.refining.ROUND", 2)
    monkeypatch.setattr("openmm_cgan.cgan.refining.ROUNDS_KEPT", 2)
    settings = RefiningSettings(steps=7, batch=16, report_every=1)
    whole, _ = refine(flow, energy, None, settings, frames=rows)
    made = _Refining.go_on

    def killed(refining):
        if refining.step == 5:
            assert len(refining.weighed.rows) == 2 * (WEIGHED_EACH + 1)
            raise KeyboardInterrupt
        made(refining)

    monkeypatch.setattr(_Refining, "go_on", killed)
    with pytest.raises(KeyboardInterrupt):
        refine(flow, energy, None, settings, frames=rows, checkpoint=path)
    monkeypatch.setattr(_Refining, "go_on", made)
    again, _ = refine(flow, energy, None, settings, frames=rows, checkpoint=path)
    for name, tensor in whole.generator.state_dict().items():
        assert torch.equal(again.generator.state_dict()[name], tensor)


def test_what_is_kept_of_what_was_weighed_is_bounded_in_bytes(even, tmp_path, monkeypatch):
    """It is in each checkpoint: of many torsions it was hundreds of megabytes."""
    frames, flow = even
    rows, energy = rows_for(flow, frames, chain()), Wells(flow.features.z_matrix)
    refining = _Refining(flow, energy, KT, None, RefiningSettings(batch=32), rows)
    each = (WEIGHED_EACH + 1) * (4 * flow.generator.n_pairs + 16)
    limit = 10 * each
    monkeypatch.setattr("openmm_cgan.cgan.weighed_torsions.MOST_BYTES", limit)
    for _ in range(4):
        refining.weigh()
    found = refining.weighed
    assert len(found.rows) == 10 * (WEIGHED_EACH + 1)  # of 24 places
    assert all(part.untyped_storage().nbytes() == part.nbytes for part in found)
    at = found.rows.view(-1, WEIGHED_EACH + 1)
    assert torch.equal(at[:, 0], at[:, -1])  # whole places, each with its frame
    refining.start()
    save_refining(refining, tmp_path / "bounded.chk")
    refining.weighed = None
    save_refining(refining, tmp_path / "without.chk")
    sizes = [(tmp_path / f"{name}.chk").stat().st_size for name in ("bounded", "without")]
    assert sizes[0] - sizes[1] < limit + 10_000


def test_a_checkpoint_of_before_torsions_were_weighed_goes_on(even, tmp_path):
    frames, flow = even
    energy, path = Wells(flow.features.z_matrix), tmp_path / "refining.chk"
    rows, settings = rows_for(flow, frames, chain()), RefiningSettings(steps=3, batch=16)
    refining = _Refining(flow, energy, KT, None, settings, rows)
    refining.start()
    refining.go_on()
    save_refining(refining, path)
    state = torch.load(path, weights_only=True)
    assert state.pop("weighed") is not None
    torch.save(state, path)
    made, history = refine(flow, energy, None, settings, frames=rows, checkpoint=path)
    assert history[-1]["step"] == 3
    assert np.isfinite(made.sample(frames.cvs[:5], seed=1)).all()


@pytest.mark.parametrize("flatten", [0.0, 1.0])
def test_rare_cvs_are_refined_as_much_as_others(cold, flatten):
    rows = rows_for(cold, too_cold(2000), chain())
    n, k = len(rows.cvs), len(rows.cvs) // 10
    cvs = torch.cat([torch.linspace(-3.1, -0.1, n - k), torch.linspace(0.1, 3.1, k)]).double()
    settings = RefiningSettings(flatten=flatten)
    rows = replace(rows, cvs=cvs[:, None])
    refining = _Refining(cold, Chain(cold.features.z_matrix), KT, None, settings, rows)
    drawn = float((cvs[refining._rows(20_000)] > 0).double().mean())
    # a tenth of the mean count is added to that of each cell
    common, rare = (share / (share + 0.1 / 2) ** flatten for share in (1 - k / n, k / n))
    error = math.sqrt(0.25 / 20_000)
    assert abs(drawn - rare / (common + rare)) < 5 * error + 0.02 * flatten  # cells are coarse


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
    with pytest.raises(ValueError, match="turn is not: "):
        refine(replace(cold, condition_noise=np.array([0.1])), energy, CVS)
    with pytest.raises(ValueError, match="no temperature"):
        refine(replace(cold, temperature=None), energy, CVS)
    for wrong in ({"steps": 0}, {"learning_rate": -1.0}, {"batch": 0}, {"frames_share": 1.5}):
        with pytest.raises(ValueError, match="expected"):
            RefiningSettings(**wrong)


def test_what_can_not_be_refined_is_named_with_what_to_do() -> None:
    pair = [CollectiveVariable(name, "nm") for name in ("d", "rg")]
    blurred = SimpleNamespace(
        has_density=True, variables=pair, condition_noise=np.array([0.1, 0.2]), rest=[]
    )
    with pytest.raises(ValueError, match=r"d, rg are not: .* Take the model as it is"):
        temperature_for(blurred, 300.0)
