"""What a flow is told of contacts: distances, slopes, which pairs, what a file keeps."""

import copy
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from openmm_cgan.cgan import ConditionalGAN, TrainingSettings
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import ConditionEncoding, PlainFeatures, ZMatrixFeatures, skeleton_of
from openmm_cgan.generators import Contacts, FlowGenerator, fitted_contacts
from openmm_cgan.generators.contact_pairs import CHANGE, NEAR
from openmm_cgan.generators.contacts import ANGLES, FARTHEST, felt
from openmm_cgan.generators.posed_skeleton import distances, distances_turned
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.shaken_alanine import ENDS, PSI, make_frames

# no angle, a coordinate all the same, and in another unit
BOND = CollectiveVariable("bond", "A", None, "DISTANCE", (4, 6))
QUICK = TrainingSettings(
    generator="FlowGenerator", steps=20, batch=32, width=16, report_every=10, symmetrise=False
)


@pytest.fixture(scope="module")
def molecule():
    return alanine_dipeptide()


@pytest.fixture(scope="module")
def frames(molecule):
    """Phi turns and is no CV; the CVs are a bond, a distance that nothing places, and psi."""
    made = make_frames(molecule, variables=(ENDS, PSI))
    bond = 10 * np.linalg.norm(made.positions[:, 4] - made.positions[:, 6], axis=1)
    cvs = np.column_stack([bond, made.cvs])
    return replace(made, cvs=cvs, variables=(BOND, ENDS, PSI))


@pytest.fixture(scope="module")
def features(frames, molecule):
    return ZMatrixFeatures.fit(frames, molecule.topology)


@pytest.fixture(scope="module")
def conditions(frames):
    return ConditionEncoding.fit(frames.variables, torch.from_numpy(frames.cvs))


@pytest.fixture(scope="module")
def encoded(features, conditions, frames):
    positions = torch.from_numpy(frames.positions[:, features.atoms].astype(float))
    condition = conditions.encode(torch.from_numpy(frames.cvs))
    return features.encode(positions).float(), condition.float()


@pytest.fixture(scope="module")
def contacts(features, conditions, encoded):
    found = fitted_contacts(skeleton_of(features, conditions), *encoded)
    assert found is not None
    return found.double()


def at_rest(features, torsions, cvs):
    """Positions whose stiff coordinates are all at their means."""
    mean = torch.zeros(len(torsions), features.n_linear)
    return features.decode(torch.cat([mean, torsions.cos(), torsions.sin()], dim=1), cvs)


def turned(features, n=20, seed=3):
    """Torsions and CVs that no frame has."""
    rng = torch.Generator().manual_seed(seed)
    angle = lambda k: (2 * torch.rand(n, k, generator=rng).double() - 1) * math.pi  # noqa: E731
    bond = 1.3 + 0.1 * torch.rand(n, 1, generator=rng).double()
    return angle(features.n_pairs), torch.cat([bond, 0.5 + 0 * bond, angle(1)], dim=1)


def test_a_condition_tells_each_cv(conditions, frames):
    cvs = torch.from_numpy(frames.cvs)
    condition = conditions.encode(cvs)
    for cv, variable in enumerate(frames.variables):
        (first, second), slope, offset = conditions.told(cv)
        told = condition[:, first]
        if variable.domain is not None:
            told = torch.atan2(condition[:, second], told)
        found = (slope * told + offset).numpy()
        assert np.abs(variable.difference(found, frames.cvs[:, cv])).max() < 1e-12


def test_distances_are_those_of_the_molecule_at_rest(contacts, features, conditions):
    torsions, cvs = turned(features)
    x = at_rest(features, torsions, cvs).numpy()
    i, j = np.array(contacts.settings["near"]).T
    expected = np.linalg.norm(x[:, i] - x[:, j], axis=2)
    assert expected.min() > 0.05, "else it would count as that"
    positions = contacts.posed(torsions, conditions.encode(cvs))
    found = distances(positions, contacts.pairs).T.numpy()
    # buffers were float32 when they were filled: 6e-8 of a nm at a time, 20 atoms along a chain
    assert np.abs(found - expected).max() < 1e-5


def test_pairs_come_near_and_part(contacts, features, encoded, frames):
    assert features.n_pairs == 1, "phi"
    torsions = torch.atan2(encoded[0][:, -1:], encoded[0][:, -2:-1])
    x = at_rest(features, torsions, torch.from_numpy(frames.cvs)).numpy()
    i, j = np.triu_indices(22, 1)
    distances = np.linalg.norm(x[:, i] - x[:, j], axis=2)
    expected = (distances.min(0) < NEAR) & (np.ptp(distances, axis=0) > CHANGE)
    assert contacts.settings["near"] == np.column_stack([i, j])[expected].tolist()
    assert 50 < expected.sum() < 150, "neither all of the 231 nor few"


def test_what_is_seen_has_the_right_slopes(contacts, features, conditions):
    torsions, cvs = turned(features, n=2)
    condition = conditions.encode(cvs)
    given = torsions.requires_grad_(), condition.requires_grad_()
    assert torch.autograd.gradcheck(contacts, given, eps=1e-6, atol=1e-5)


@pytest.fixture(scope="module")
def free(molecule):
    """Alanine dipeptide whose phi and psi both turn, the first before the second."""
    frames = make_frames(molecule, variables=(ENDS,))
    features = ZMatrixFeatures.fit(frames, molecule.topology)
    conditions = ConditionEncoding.fit(frames.variables, torch.from_numpy(frames.cvs))
    condition = conditions.encode(torch.from_numpy(frames.cvs)).float()
    encoded = features.encode(torch.from_numpy(frames.positions[:, features.atoms].astype(float)))
    assert features.n_pairs == 2
    contacts = fitted_contacts(skeleton_of(features, conditions), encoded.float(), condition)
    cosine, sine = encoded[:, -4:].double().split(2, dim=1)
    return features, contacts.double(), condition.double(), torch.atan2(sine, cosine)


def test_what_a_torsion_meets_is_where_it_would_be(free):
    """Distances at other angles are those of the molecule made there, whatever comes later."""
    features, contacts, condition, _ = free
    torsions, _ = turned(features, n=len(condition))
    positions = contacts.posed(torsions, condition)
    for k, met in enumerate(contacts.met):
        assert met.n_seen == (ANGLES * 4 if k else 0), "the first has nothing before it"
        angles = (2 * math.pi * torch.arange(ANGLES) / ANGLES - math.pi).double()
        for angle in angles:
            there = torsions.clone()
            there[:, k], there[:, k + 1 :] = angle, 0.3
            expected = distances(contacts.posed(there, condition), met.pairs)
            found = distances_turned(positions, met.pairs, met.axis, angle - torsions[None, :, k])
            assert not met.n_seen or (found[0] - expected).abs().max() < 1e-8


def test_what_is_met_has_the_right_slopes(free):
    """That by the torsion itself is none: what it meets is there wherever it stands."""
    features, contacts, condition, _ = free
    torsions, _ = turned(features, n=2)

    def met(torsions, condition):
        return contacts.met[1](contacts.posed(torsions, condition), torsions[:, 1])

    given = torsions.requires_grad_(), condition[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(met, given, eps=1e-6, atol=1e-5)
    slopes = torch.autograd.grad(met(*given).sum(), torsions)[0]
    assert slopes[:, 1].abs().max() < 1e-9 < slopes[:, 0].abs().min()


def test_densities_are_those_of_what_is_drawn(free):
    """Torsions drawn one after another, each by what it meets, are found as dense afterwards."""
    features, contacts, _, _ = free
    torch.manual_seed(4)
    sizes = {"width": 16, "depth": 2, "folds": [1, 3], "contacts": copy.deepcopy(contacts)}
    flow = FlowGenerator.of_size(features.n_linear, 2, 2, **sizes).double()
    with torch.no_grad():
        for layer in flow.contacts.met:
            layer.channels.mul_(20.0)  # so that what is met matters
        for network in flow.splines:
            network[-1].weight.mul_(50.0)  # last layers are nearly nothing at the start
        condition = 2 * torch.randn(50, 2, dtype=torch.float64)
        made, log_prob = flow.sample_with_log_prob(condition, torch.Generator().manual_seed(2))
        assert (flow.log_prob(made, condition) - log_prob).abs().max() < 1e-6
        each = flow.log_prob_of_each_torsion(flow.torsions_of(made), condition)
        posed = []  # the stiff part is told of the molecule at the torsions that were drawn
        flow.contacts.register_forward_pre_hook(lambda _, given: posed.append(given[0]))
        flow.log_prob_of_stiff(made, condition)
        assert (posed[0] - flow.torsions_of(made)).abs().max() < 1e-12
        flow.contacts.met[1].channels.zero_()
        other = flow.log_prob_of_each_torsion(flow.torsions_of(made), condition)
    assert (other - each)[:, 1].abs().max() > 0.1, "what is met matters"
    assert torch.equal(other[:, 0], each[:, 0]), "the first has nothing before it"


def test_near_atoms_repel_and_all_attract():
    felt_of = torch.cat(felt(torch.tensor([[0.06], [0.3]]).double().square()))[:, 0]
    expected = torch.tensor([math.exp(-2), math.exp(-10), 50 / 3, 10 / 3]).double()
    torch.testing.assert_close(felt_of, expected, rtol=1e-6, atol=0)


def test_what_is_seen_is_standardised(free):
    """Over the frames, and of what is met over all angles; what is far off stays bounded."""
    _, contacts, condition, torsions = free
    positions, met = contacts.posed(torsions, condition), contacts.met[1]
    near = torch.cat(felt(distances(positions, contacts.pairs).square()))
    at_each = [torch.cat(both) for both in met.felt(positions, torsions[:, 1])]
    met_there = torch.cat(at_each, dim=1)
    for layer, values in ((contacts, near), (met, met_there)):
        deviations = (values - layer.centre[:, None]) / layer.scale[:, None]
        # centre and scale are float32, as the frames are of which they were taken
        assert deviations.mean(1).abs().max() < 1e-3
        assert (deviations.std(1, correction=0) - 1).abs().max() < 1e-3
    deviations = ((near - contacts.centre[:, None]) / contacts.scale[:, None]).T
    bounded = deviations / (1 + (deviations / FARTHEST) ** 2).sqrt()
    assert torch.allclose(contacts(torsions, condition), contacts.seen(bounded), atol=1e-9)
    with torch.no_grad():
        met = copy.deepcopy(met)
        met.channels.zero_()[:, 0] = math.sqrt(met.channels.shape[1])  # the first is seen alone
        first = torch.stack([some[0] for some in at_each])
        first = (first - met.centre[0]) / met.scale[0]
        first = (first / (1 + (first / FARTHEST) ** 2).sqrt()).T
        seen = met(positions, torsions[:, 1]).reshape(-1, ANGLES, 4)
        assert (seen - first[..., None]).abs().max() < 1e-6
        met.centre.add_(1e6 * met.scale)
        met.channels.abs_()
        assert (met(positions, torsions[:, 1]) + FARTHEST).abs().max() < 1e-3


def test_of_many_pairs_the_nearest_are_looked_at(
    contacts, features, conditions, encoded, monkeypatch
):
    monkeypatch.setattr("openmm_cgan.generators.contact_pairs.FEWEST", 1)
    monkeypatch.setattr("openmm_cgan.generators.contact_pairs.MOST", 10)
    few = fitted_contacts(skeleton_of(features, conditions), *encoded).double()
    torsions = torch.atan2(encoded[0][:, -1:], encoded[0][:, -2:-1]).double()
    positions = few.posed(torsions, encoded[1].double())
    of_all, of_few = (distances(positions, c.pairs).amin(1) for c in (contacts, few))
    torch.testing.assert_close(of_few.sort().values, of_all.sort().values[:10])
    monkeypatch.setattr("openmm_cgan.generators.contact_pairs.MOST", 1000)
    monkeypatch.setattr("openmm_cgan.generators.contact_pairs.NEAR", 0.35)
    near = fitted_contacts(skeleton_of(features, conditions), *encoded)
    assert 10 < near.pairs.shape[1] == (of_all < 0.35).sum() < len(of_all)


def test_small_molecules_are_told_none(features, conditions, encoded, monkeypatch):
    skeleton = skeleton_of(features, conditions)
    monkeypatch.setattr("openmm_cgan.generators.contact_pairs.NEAR", 0.2)
    assert fitted_contacts(skeleton, *encoded) is None


def test_a_flow_with_contacts_is_kept_whole(frames, molecule, tmp_path):
    flow = ConditionalGAN.fit(frames, molecule.topology, QUICK)
    assert isinstance(flow.generator.contacts, Contacts)
    asked = frames.cvs[:20]
    x, log_prob = flow.sample_with_log_prob(asked)
    again = ConditionalGAN.load(flow.save(tmp_path / "flow"), molecule.topology)
    x_again, log_prob_again = again.sample_with_log_prob(asked)
    np.testing.assert_array_equal(x_again, x)
    np.testing.assert_array_equal(log_prob_again, log_prob)
    # contacts matter: without what is seen of them, other configurations are made
    with torch.no_grad():
        again.generator.contacts.seen[0].weight.mul_(5.0)
    assert np.abs(again.sample(asked) - x).max() > 1e-5


def altered(path, change):
    """Change the settings of a saved generator in place."""
    with np.load(path) as file:
        arrays = dict(file)
    metadata = json.loads(arrays["metadata"].tobytes())
    change(metadata, arrays)
    arrays["metadata"] = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def saved(frames, molecule, tmp_path_factory):
    """The file of a flow with two torsions that turn and a bond that is placed."""
    two = replace(frames, cvs=frames.cvs[:, :2], variables=(BOND, ENDS))
    flow = ConditionalGAN.fit(two, molecule.topology, replace(QUICK, steps=1))
    path = flow.save(tmp_path_factory.mktemp("flow") / "flow")
    altered(path, lambda *_: None)
    ConditionalGAN.load(path)  # a file that is only written anew is none that is refused
    return path


CHANGES = {
    "a far atom": lambda c: c["near"].__setitem__(0, [0, 22]),
    "a far column": lambda c: c["turning"].__setitem__(0, 10**6),
    "a far partner": lambda c: c["met"].__setitem__(1, [[0, -1]]),
    "more pairs": lambda c: c.update(near=100 * c["near"]),
    "fewer that turn": lambda c: c["turns"].pop(),
    "more that meet": lambda c: c["met"].append([]),
    "more torsions": lambda c: (
        [c[key].append(c[key][0]) for key in ("turns", "met")]
        + [c["turning"].append(c["turning"][0] + 1)]
    ),
    "a torsion twice": lambda c: c["turning"].__setitem__(0, c["turning"][1]),
    "a torsion that is placed": lambda c: c["placed"][0].__setitem__(0, c["turning"][0]),
    "torsions in another order": lambda c: c["turning"].reverse(),
    "others that turn": lambda c: c["turns"].reverse(),
    "a pair of the later torsion": lambda c: c["met"].reverse(),
    "pairs the other way round": lambda c: [pair.reverse() for pair in c["met"][1]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_contacts_that_cannot_be_are_refused(saved, tmp_path, change):
    """Also those by which densities would be wrong and nothing else."""
    path = shutil.copy(saved, tmp_path)
    altered(path, lambda metadata, _: CHANGES[change](metadata["generator"]["contacts"]))
    with pytest.raises(ValueError, match="is damaged"):
        ConditionalGAN.load(path)


def test_a_flow_of_version_3_had_none(frames, molecule, tmp_path, monkeypatch):
    monkeypatch.setattr("openmm_cgan.cgan.networks.skeleton_of", lambda *_: None)
    flow = ConditionalGAN.fit(frames, molecule.topology, QUICK)
    path = flow.save(tmp_path / "flow")

    def older(metadata, _):
        metadata["format_version"] = 3
        del metadata["generator"]["contacts"]

    altered(path, older)
    again = ConditionalGAN.load(path)
    assert again.generator.contacts is None
    np.testing.assert_array_equal(again.sample(frames.cvs[:5]), flow.sample(frames.cvs[:5]))


def test_what_has_no_z_matrix_has_no_skeleton(frames, conditions):
    plain = PlainFeatures.fit(replace(frames, variables=frames.variables), None)
    assert skeleton_of(plain, conditions) is None


def test_a_skeleton_is_no_straighter_than_what_is_decoded(features, conditions):
    """Where it is straight, torsions about it are of no meaning and distances of rounding."""
    centre = features.centre.clone()
    centre[21] = math.pi  # the first angle
    names = ("scale", "linear", "wide")
    scaling = {name: getattr(features, name) for name in names}
    straight = type(features)(features.z_matrix, features.variables, centre=centre, **scaling)
    skeleton = skeleton_of(straight, conditions)
    assert skeleton.at_rest[21] < math.pi - 0.01
    assert torch.equal(skeleton.at_rest[22:], features.centre[22:])
