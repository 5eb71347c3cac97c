"""ConditionalGenerator: fit, sample, save, load; what it places exactly and what it refuses."""

import io
import json
import logging
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from openmm import app

from openmm_cgan.cgan import (
    ConditionalGAN,
    TrainingSettings,
    artefact,
    flat_weights,
)
from openmm_cgan.cgan.dataset import default_featurize
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import frames_of_atoms, topology_hash
from openmm_cgan.internal_coordinates import ZMatrix
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import alanine_dipeptide, torsion
from openmm_cgan.topologies import part_of
from tests.cases.shaken_alanine import DOMAIN, ENDS, PHI, PSI, make_frames

QUICK = TrainingSettings(steps=30, batch=32, width=16, report_every=10)


@pytest.fixture(scope="module")
def molecule():
    return alanine_dipeptide()


@pytest.fixture(scope="module")
def frames(molecule):
    return make_frames(molecule)


@pytest.fixture(scope="module")
def gan(frames, molecule):
    return ConditionalGAN.fit(frames, molecule.topology, QUICK)


def targets(n, seed=1):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(-np.pi, np.pi, (n, 2)), rng.uniform(0.5, 0.7, n)])


def test_cvs_of_the_z_matrix_are_placed_exactly(gan):
    asked = targets(50)
    for x, row in zip(gan.sample(asked), asked, strict=True):
        for cv, value in zip((PHI, PSI), row, strict=False):
            assert abs(cv.difference(torsion(x, cv.atoms), value)) < 1e-10


def test_samples_have_the_chirality_of_the_frames(gan, frames):
    def handedness(x):
        a, b, c = (x[:, k] - x[:, 8] for k in (6, 14, 10))
        return np.sign(np.einsum("ni,ni->n", np.cross(a, b), c))

    assert set(handedness(gan.sample(targets(200)))) == set(handedness(frames.positions))


def test_one_row_many_rows_and_none(gan):
    row = targets(1)[0]
    assert gan.sample(row).shape == (1, 22, 3)
    assert gan.sample(row, n=5).shape == (5, 22, 3)
    assert gan.sample(row, 0).shape == (0, 22, 3)
    assert gan.sample(targets(3)).shape == (3, 22, 3)
    assert gan.sample(targets(3), n=3).dtype == np.float64
    assert np.array_equal(gan.sample(np.tile(row, (5, 1))), gan.sample(row, 5))


def test_the_same_seed_gives_the_same_configurations(gan):
    asked = targets(4)
    assert np.array_equal(gan.sample(asked, seed=3), gan.sample(asked, seed=3))
    assert not np.array_equal(gan.sample(asked, seed=3), gan.sample(asked, seed=4))


def test_configurations_made_in_chunks_are_as_good(gan, monkeypatch):
    monkeypatch.setattr("openmm_cgan.cgan.targets.CHUNK", 7)
    asked = targets(20)
    x = gan.sample(asked)
    assert np.isfinite(x).all()
    assert abs(PHI.difference(torsion(x[19], PHI.atoms), asked[19, 0])) < 1e-10
    assert np.ptp(x[:, 5], axis=0).min() > 0


def test_a_turn_too_many_is_the_same_condition(gan):
    row = np.array([3.0, -3.0, 0.7])
    moved = row - [2 * np.pi, -2 * np.pi, 0]
    assert np.allclose(gan.sample(row), gan.sample(moved), atol=1e-5)  # the network is float32


@pytest.mark.parametrize(
    ("cvs", "n", "message"),
    [
        ([0.0, np.nan, 0.7], None, "psi = nan"),
        (
            [[0.0, 0.0, 0.7], [np.inf, 0.0, 0.7]],
            None,
            r"phi = inf rad is asked for \(1 of 2 rows\)",
        ),
        ([-80.0, 80.0, 0.7], None, r"phi = -80 rad .*from -6.283 to 6.283"),
        ([0.0, 0.0, 3.0], None, "ends = 3 nm .*training saw 0"),
        ([0.0, 0.0], None, r"shape \(2,\) .* 3 CVs \(phi, psi, ends\)"),
        ([[0.0, 0.0]], None, r"shape \(1, 2\)"),
        ([[0.0, 0.0, 0.7]] * 2, 5, r"shape \(2, 3\) with n=5"),
        (0.0, 1, r"shape \(\)"),
    ],
)
def test_impossible_conditions_are_refused(gan, cvs, n, message):
    with pytest.raises(ValueError, match=message):
        gan.sample(cvs, n)


def test_saving_and_loading_change_nothing(gan, molecule, tmp_path):
    gan.save(tmp_path / "model.npz")
    again = ConditionalGAN.load(tmp_path / "model.npz", molecule.topology)
    asked = targets(5)
    assert np.array_equal(gan.sample(asked), again.sample(asked))
    assert again.variables == (PHI, PSI, ENDS)
    assert again.n_atoms == 22
    assert again.topology_hash == gan.topology_hash == topology_hash(molecule.topology)
    assert np.array_equal(again.cv_range, gan.cv_range)
    assert again.settings == QUICK
    assert again.temperature == 300.0
    assert again.versions == gan.versions
    assert [row["held_out"] for row in again.history] == [row["held_out"] for row in gan.history]
    assert list(tmp_path.iterdir()) == [tmp_path / "model.npz"]


def test_the_same_seed_gives_the_same_file(gan, frames, molecule, tmp_path):
    state = torch.random.get_rng_state()
    torch.manual_seed(99)  # the global generator is neither used nor changed
    other = torch.random.get_rng_state()
    ConditionalGAN.fit(frames, molecule.topology, QUICK).save(tmp_path / "two.npz")
    assert torch.equal(torch.random.get_rng_state(), other)
    torch.random.set_rng_state(state)
    gan.save(tmp_path / "one.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_the_file_tells_what_it_holds(gan, tmp_path):
    gan.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        metadata = json.loads(file["metadata"].tobytes())
    assert metadata["units"] == {"length": "nm", "angle": "rad", "temperature": "K"}
    assert [v["name"] for v in metadata["variables"]] == ["phi", "psi", "ends"]
    assert metadata["variables"][0]["domain"] == list(DOMAIN)
    assert metadata["settings"]["seed"] == 0
    assert set(metadata["versions"]) == {"openmm_cgan", "torch"}


def rewritten(path, **changes):
    """Change metadata or arrays of a saved artefact; None leaves one out."""
    with np.load(path) as file:
        arrays = dict(file)
    metadata = json.loads(arrays["metadata"].tobytes())
    for key, value in changes.items():
        if key in metadata:
            metadata[key] = value
        else:
            arrays[key] = value
    arrays["metadata"] = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **{k: v for k, v in arrays.items() if v is not None})
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 1}, "has format version 1, this openmm_cgan .* reads 2 to 4"),
        ({"featurization": "os.system"}, "is damaged: KeyError"),
        ({"format": "other"}, "is no saved ConditionalGenerator: it does not name the format"),
        ({"generator": {"kind": "os.system"}}, "is damaged: KeyError"),
        ({"variables": []}, "is damaged"),
        ({"features.rows": np.zeros((22, 4), np.int64)}, "is damaged: ValueError"),
        ({"features.rows": None}, "is damaged: KeyError"),
        ({"features.linear": np.array([10**6])}, "is damaged"),
        ({"generator.mean": np.full((17, 3), np.nan, np.float32)}, "is damaged"),
        ({"cv_range": np.full((3, 2), np.nan)}, "is damaged"),
        (
            {"features.centre": np.array([{}], dtype=object)},
            "no saved ConditionalGenerator, or is damaged",
        ),
    ],
)
def test_altered_files_are_refused(gan, tmp_path, changes, message):
    path = tmp_path / "model.npz"
    gan.save(path)
    rewritten(path, **changes)
    with pytest.raises(ValueError, match=message):
        ConditionalGAN.load(path)


def test_foreign_and_truncated_files_are_refused(gan, tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    gan.save(path)
    whole = path.read_bytes()
    torch.save({"a": torch.zeros(2)}, tmp_path / "other")
    with zipfile.ZipFile(tmp_path / "zip", "w") as file:
        file.writestr("metadata.npy", b"nonsense")
    contents = [b"", b"words", whole[:100], whole[: len(whole) // 2], whole[:-1]]
    contents += [(tmp_path / name).read_bytes() for name in ("other", "zip")]
    contents += [whole[:5000] + b"\0\1\2\3" * 50 + whole[5200:]]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no saved ConditionalGenerator, or is damaged"):
            ConditionalGAN.load(path)
    path.write_bytes(whole)
    monkeypatch.setattr(artefact, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="larger than 1000 bytes"):
        ConditionalGAN.load(path)
    with pytest.raises(FileNotFoundError):
        ConditionalGAN.load(tmp_path / "nowhere")


def other_topology():
    topology = app.Topology()
    topology.addAtom("C", app.element.carbon, topology.addResidue("C", topology.addChain()))
    return topology


def test_another_topology_is_refused(gan, frames, tmp_path):
    gan.save(tmp_path / "model.npz")
    with pytest.raises(ValueError, match=r"up to number 21, .* this one has 1"):
        ConditionalGAN.load(tmp_path / "model.npz", other_topology())
    with pytest.raises(ValueError, match="frames belong to another topology"):
        ConditionalGAN.fit(frames, other_topology(), QUICK)


def nan_in(array, index):
    array = array.copy()
    array[index] = np.nan
    return array


def test_frames_that_cannot_be_trained_on_are_refused(frames, molecule):
    cut = frames.positions.copy()
    cut[3, 18:] += 3.0
    shifted = frames.cvs + np.array([0.1, 0, 0])
    none = replace(frames, variables=(), cvs=np.zeros((len(frames), 0)))
    for wrong, message in [
        (none, "no CVs"),
        (frames.select(slice(5)), "there are 5 frames, expected at least 20"),
        (replace(frames, positions=nan_in(frames.positions, 7)), "1 frames have positions that"),
        (replace(frames, cvs=nan_in(frames.cvs, (7, 1))), "1 frames have cvs that are not finite"),
        (replace(frames, positions=cut), "a bond is .* cut by the periodic boundary"),
        (
            replace(frames, cvs=shifted),
            "phi of the frames differs from the TORSION .* by up to 0.1",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            ConditionalGAN.fit(wrong, molecule.topology, QUICK)


def test_it_learns_from_some_atoms_of_a_larger_system(molecule):
    topology = app.Topology()
    chain = topology.addChain()
    water = topology.addResidue("HOH", chain)
    oxygen = topology.addAtom("O", app.element.oxygen, water)
    for name in ("H1", "H2"):
        topology.addBond(oxygen, topology.addAtom(name, app.element.hydrogen, water))
    copies = {}
    for residue in molecule.topology.residues():
        new = topology.addResidue(residue.name, chain)
        copies |= {a: topology.addAtom(a.name, a.element, new) for a in residue.atoms()}
    for bond in molecule.topology.bonds():
        topology.addBond(copies[bond[0]], copies[bond[1]])
    moved = [replace(v, atoms=tuple(a + 3 for a in v.atoms)) for v in (PHI, PSI)]
    frames = make_frames(molecule, variables=(PHI, PSI))
    frames = replace(frames, atoms=np.arange(3, 25), variables=tuple(moved), topology_hash="")
    gan = ConditionalGAN.fit(frames, topology, QUICK)
    assert gan.features.placed_variables == (0, 1)
    assert gan.atoms.tolist() == list(range(3, 25))
    x = gan.sample([1.0, -2.0])[0]
    assert torsion(x, PHI.atoms) == pytest.approx(1.0, abs=1e-10)


def test_many_frames_are_thinned(frames, molecule):
    settings = replace(QUICK, max_frames=100, steps=1)
    assert ConditionalGAN.fit(frames, molecule.topology, settings).n_atoms == 22


def test_training_goes_on_from_a_checkpoint(gan, frames, molecule, tmp_path, caplog):
    checkpoint = tmp_path / "checkpoint"
    ConditionalGAN.fit(frames, molecule.topology, QUICK, checkpoint=checkpoint)
    with caplog.at_level(logging.INFO, "openmm_cgan"):
        again = ConditionalGAN.fit(frames, molecule.topology, QUICK, checkpoint=checkpoint)
    assert "goes on from step 30" in caplog.text
    assert np.array_equal(again.sample(targets(3)), gan.sample(targets(3)))


def test_weights_make_visited_cvs_alike():
    rng = np.random.default_rng(0)
    x = CollectiveVariable("x")
    cvs = np.concatenate([rng.uniform(0, 1, 18_000), rng.uniform(1, 2, 2_000)])[:, None]
    assert np.ptp(flat_weights(cvs, [x], 0.0)) == 0
    weights = flat_weights(cvs, [x], 1.0)
    share = weights[:18_000].sum() / weights.sum()
    # 48 cells; a tenth of the mean count is added to counts nine times apart
    few, many, mean = 4_000 / 48, 36_000 / 48, 20_000 / 48
    expected = many / (many + 0.1 * mean) / (many / (many + 0.1 * mean) + few / (few + 0.1 * mean))
    assert share == pytest.approx(expected, abs=0.01)
    assert expected == pytest.approx(0.5, abs=0.1)


def test_consistency_brings_cvs_to_their_targets(molecule, frames):
    """A CV that is no coordinate is met better if the CVs of what is generated count."""
    text = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
    bias = PlumedBias(f"{text}ends: DISTANCE ATOMS=2,19\nPRINT ARG=phi,psi,ends\n")
    asked = frames.cvs[:300]  # phi and psi all but fix the distance of the ends
    misses = []
    for weight in (0.0, 300.0):
        settings = replace(QUICK, steps=600, learning_rate=5e-3, average=0.9, consistency=weight)
        made = ConditionalGAN.fit(
            frames, molecule.topology, settings, restriction=bias.differentiable_cvs
        )
        off = bias.cv_values(made.sample(asked))[:, 2] - asked[:, 2]
        misses.append(np.sqrt((off**2).mean()))
    # over 20 seeds of frames and training the ratio is 0.414 with a deviation of 0.033
    assert misses[1] < 0.7 * misses[0]


def test_consistency_needs_a_restriction(molecule, frames):
    with pytest.raises(ValueError, match="needs what measures the CVs"):
        ConditionalGAN.fit(frames, molecule.topology, replace(QUICK, consistency=1.0))


def test_the_density_of_a_flow(molecule, frames):
    """Density of what is made is the one that is found again, for placed and blurred CVs."""
    settings = replace(QUICK, generator="FlowGenerator", symmetrise=True)
    flow = ConditionalGAN.fit(frames, molecule.topology, settings)
    assert flow.has_density
    assert flow.generator.settings["folds"].count(3) == 3  # methyl groups
    assert (flow.condition_noise[:2] == 0).all()
    assert flow.condition_noise[2] == pytest.approx(0.1 * frames.cvs[:, 2].std(), rel=0.05)
    x, log_prob = flow.sample_with_log_prob(targets(50))
    assert np.array_equal(x, flow.sample(targets(50)))
    inside = np.isfinite(log_prob)
    assert inside.sum() > 40
    # float32 networks; stiff bonds of 2 pm as features of size one
    found = flow.log_prob(x, targets(50))
    assert np.abs(found - log_prob)[inside].max() < 1e-2
    assert (log_prob[~inside] == np.inf).all()
    # beyond what can be decoded no density is known: the weight is zero, the chain stays
    pressed = x[inside][:10].astype(np.float64)
    pressed[:5, 5] += 0.7 * (pressed[:5, 4] - pressed[:5, 5])  # an oxygen into its carbon
    found = flow.log_prob(pressed, targets(50)[inside][:10])
    assert (found[:5] == np.inf).all()
    assert np.isfinite(found[5:]).all()


def test_a_perceptron_has_no_density(gan):
    assert not gan.has_density
    assert (gan.condition_noise == 0).all()
    with pytest.raises(ValueError, match="density of a MLPGenerator is not known"):
        gan.sample_with_log_prob(targets(2))
    with pytest.raises(ValueError, match="density of a MLPGenerator is not known"):
        gan.log_prob(np.zeros((2, 22, 3)), targets(2))


def test_what_does_not_vary_is_named(molecule):
    x = np.repeat(np.asarray(molecule.positions)[None], 50, axis=0)
    rng = np.random.default_rng(0)
    z_matrix = ZMatrix.from_topology(molecule.topology, variables=[PHI, PSI])
    internal = z_matrix.to_internal(torch.from_numpy(x))
    for cv in (PHI, PSI):
        internal.torsions[:, z_matrix.coordinate_of(cv).column] = torch.from_numpy(
            rng.uniform(-3, 3, 50)
        )
    internal.bonds[:, 3] += 0.01 * torch.from_numpy(rng.standard_normal(50))
    internal.angles[:, 1:] += 0.05 * torch.from_numpy(rng.standard_normal((50, 19)))
    internal.torsions[:, 5:] += 0.05 * torch.from_numpy(rng.standard_normal((50, 14)))
    frames = make_frames(molecule, 50, variables=(PHI, PSI))
    x = z_matrix.to_cartesian(internal).numpy()
    cvs = np.array([[torsion(p, v.atoms) for v in (PHI, PSI)] for p in x])
    frames = replace(frames, positions=x.astype(np.float32), cvs=cvs)
    flow = ConditionalGAN.fit(
        frames, molecule.topology, replace(QUICK, generator="FlowGenerator", symmetrise=False)
    )
    assert len(flow.constant_bonds) == 20  # of 21; one varies
    varying = tuple(z_matrix.rows[4, :2])
    assert set(varying) not in [set(bond) for bond in flow.constant_bonds.tolist()]
    assert any(name.startswith("angle") for name in flow.constant_others)


def test_a_topology_is_found_in_what_has_one(gan, frames, molecule, tmp_path):
    path = gan.save(tmp_path / "model")
    modeller = app.Modeller(molecule.topology, molecule.positions)
    for given in (molecule, modeller, molecule.topology):
        assert ConditionalGAN.load(path, given).topology_hash == gan.topology_hash
    with pytest.raises(TypeError, match="a list is no topology: give an openmm"):
        ConditionalGAN.fit(frames, [molecule], QUICK)
    with pytest.raises(FileNotFoundError, match="no such structure file"):
        ConditionalGAN.fit(frames, tmp_path / "nowhere.pdb", QUICK)


def test_a_molecule_whose_bonds_nobody_told_is_said(molecule, frames, caplog):
    """Alanine as a ligand of a PDB file without CONECT records."""
    bare = part_of(molecule.topology, range(22))
    bare._bonds = [b for b in bare._bonds if {a.residue.name for a in b} != {"ALA"}]
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        default_featurize(frames, bare, TrainingSettings())
    assert "no bonds of 7 atoms that are learned, first of H (ALA)" in caplog.text


def test_a_part_that_is_cut_from_its_molecule_is_said(molecule, frames, caplog):
    some = frames_of_atoms(frames.select(np.arange(40)), np.arange(6, 16))
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        default_featurize(some, molecule.topology, TrainingSettings())
    assert "2 bonds join the atoms that are learned to others" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        default_featurize(frames, molecule.topology, TrainingSettings())
    assert not caplog.text
