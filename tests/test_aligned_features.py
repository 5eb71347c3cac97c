"""AlignedFeatures and LocalGeometry: what modes get wrong is mended, and nothing else is moved."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit

from openmm_cgan.cgan import ConditionalGenerator, TrainingSettings
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import AlignedFeatures, Featurization, ZMatrixFeatures
from openmm_cgan.features.modes import LEFT_OUT
from openmm_cgan.frames import Frames
from openmm_cgan.internal_coordinates.local_geometry import LocalGeometry, Tie
from openmm_cgan.internal_coordinates.molecule import MoleculeGraph
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import Rest, Screen
from openmm_cgan.reporters.moves.move import Asked, Start
from openmm_cgan.reporters.moves.seed import SeedMove
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.rotors import exchange_hydrogens, find_rotors
from openmm_cgan.testsystems import MIDDLE_ATOMS, Molecule, alanine_pentapeptide, torsion

PHI = CollectiveVariable("phi", "rad", (-np.pi, np.pi), "TORSION", MIDDLE_ATOMS[0])
FEW = TrainingSettings(steps=20, batch=64, width=16, report_every=10)


@pytest.fixture(scope="module")
def peptide() -> Molecule:
    return alanine_pentapeptide()


@pytest.fixture(scope="module")
def frames(peptide: Molecule) -> Frames:
    """A helix at 300 K, a frame each 0.2 ps, turned and moved at random."""
    integrator = openmm.LangevinMiddleIntegrator(300, 5.0, 0.004)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("CPU")
    simulation = app.Simulation(
        peptide.topology, peptide.system, integrator, platform, {"Threads": "1"}
    )
    simulation.context.setPositions(peptide.positions)
    simulation.context.setVelocitiesToTemperature(300, 1)
    rng, x = np.random.default_rng(1), []
    for _ in range(150):
        simulation.step(50)
        state = simulation.context.getState(positions=True)
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        rotation *= np.linalg.det(rotation)
        x.append(positions @ rotation + rng.uniform(-5, 5, 3))
    phi = [[torsion(one, PHI.atoms)] for one in x]
    return Frames.of_arrays(np.array(x), phi, [PHI], temperature=300.0)


@pytest.fixture(scope="module")
def features(frames: Frames, peptide: Molecule) -> AlignedFeatures:
    return AlignedFeatures.fit(frames, peptide.topology)


def geometry_of(peptide: Molecule, x: np.ndarray) -> LocalGeometry:
    molecule = MoleculeGraph.from_topology(peptide.topology, list(range(len(x[0]))), None)
    return LocalGeometry.of_frames(molecule, x, np.ones(len(x[0]), dtype=bool))


def rms(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(((x - y) ** 2).sum(-1).mean().sqrt())


def test_it_meets_the_contract(features: AlignedFeatures) -> None:
    contract: Featurization = features
    assert contract.n_pairs == 0
    assert contract.constant_others
    with pytest.raises(ValueError, match="knows no density"):
        contract.decode_with_log_det(torch.zeros(1, features.n_linear), torch.zeros(1, 1))


def test_features_are_whitened_and_carry_the_motion(
    features: AlignedFeatures, frames: Frames
) -> None:
    x = torch.from_numpy(frames.positions).double()
    z = features.encode(x)
    covariance = z.T @ z / len(z)
    # alignment on the final mean and on the one before differ a little
    assert (covariance - torch.eye(len(covariance))).abs().max() < 0.02
    back = (z * features.scale) @ features.modes + features.mean.flatten()
    again = features.encode(back.reshape(-1, 62, 3))
    assert (again - z).abs().max() < 0.05
    left_out = x.new_tensor(0.0)
    for one, two in zip(back.reshape(-1, 62, 3), x, strict=True):
        a, b = one - one[features.fitted].mean(0), two - two[features.fitted].mean(0)
        u, _, vt = torch.linalg.svd(b[features.fitted].T @ a[features.fitted])
        u[:, 2] *= torch.det(u @ vt)
        moved = b @ u @ vt
        heavy = features.fitted
        left_out = left_out + ((moved[heavy] - a[heavy]) ** 2).sum(1).mean() / len(x)
    assert 0 < float(left_out.sqrt()) < 1.5 * LEFT_OUT


def test_features_do_not_see_place_orientation_and_names_of_hydrogens(
    features: AlignedFeatures, frames: Frames, peptide: Molecule
) -> None:
    x = frames.positions[:20].astype(float)
    rotors = find_rotors(peptide.topology, range(62), PHI.atoms)
    assert len(rotors) == 7
    exchanged = exchange_hydrogens(x, rotors, np.random.default_rng(0))
    assert np.abs(exchanged - x).max() > 0.1
    rotation, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((3, 3)))
    rotation *= np.linalg.det(rotation)
    moved = torch.from_numpy(exchanged @ rotation + [1.0, -2.0, 3.0])
    assert (features.encode(moved) - features.encode(torch.from_numpy(x))).abs().max() < 1e-9


def test_what_is_chemistry_is_left_alone(peptide: Molecule, frames: Frames) -> None:
    x = frames.positions.astype(float)
    mended = geometry_of(peptide, x).mend(torch.from_numpy(x[:10]))
    assert (mended - torch.from_numpy(x[:10])).abs().max() < 1e-6


def test_what_is_wrong_is_mended(peptide: Molecule, frames: Frames) -> None:
    x = frames.positions.astype(float)
    geometry = geometry_of(peptide, x)
    rng = np.random.default_rng(3)
    shaken = x[:20] + 0.03 * rng.standard_normal((20, 62, 3))
    screen = Screen(peptide.topology, peptide.positions)
    assert (screen.check(shaken) != "").all()
    mended = geometry.mend(torch.from_numpy(shaken)).numpy()
    assert (screen.check(mended) == "").all()
    apart = np.linalg.norm(
        mended[:, geometry.pairs[:, 0]] - mended[:, geometry.pairs[:, 1]], axis=2
    )
    shortest, longest = geometry.distances
    assert np.maximum(shortest - apart, apart - longest).max() < 0.01
    assert rms(torch.from_numpy(mended), torch.from_numpy(shaken)) < 0.06


def test_a_mirrored_centre_is_turned_back(peptide: Molecule, frames: Frames) -> None:
    x = frames.positions.astype(float)
    screen = Screen(peptide.topology, peptide.positions)
    centre, *around = screen.stereocentres[2].tolist()
    hydrogen = next(a for a in around if screen.graph.elements[a] == 1)
    wrong = x[:1].copy()
    wrong[0, hydrogen] = 2 * wrong[0, centre] - wrong[0, hydrogen]
    assert screen.check(wrong)[0] == "chirality"
    mended = geometry_of(peptide, x).mend(torch.from_numpy(wrong)).numpy()
    assert screen.check(mended)[0] == ""


def test_held_atoms_do_not_move(peptide: Molecule, frames: Frames) -> None:
    x = frames.positions.astype(float)
    molecule = MoleculeGraph.from_topology(peptide.topology, list(range(62)), None)
    movable = np.arange(62) >= 30
    geometry = LocalGeometry.of_frames(molecule, x, movable)
    shaken = torch.from_numpy(x[:5] + 0.02 * np.random.default_rng(4).standard_normal((5, 62, 3)))
    mended = geometry.mend(shaken)
    assert torch.equal(mended[:, :30], shaken[:, :30])
    assert (mended[:, 30:] - shaken[:, 30:]).abs().max() > 0.01


def measured(action: str, x: np.ndarray, atoms: tuple[int, ...]) -> float:
    first, second = x[atoms[0]] - x[atoms[1]], x[atoms[-1]] - x[atoms[-2]]
    if action == "TORSION":
        return float(torsion(x, atoms))
    if action == "DISTANCE":
        return float(np.linalg.norm(first))
    return float(np.arccos(first @ second / np.linalg.norm(first) / np.linalg.norm(second)))


@pytest.mark.parametrize(
    ("action", "atoms"), [("TORSION", PHI.atoms), ("DISTANCE", (0, 55)), ("ANGLE", (4, 24, 55))]
)
def test_a_tied_variable_has_its_value(
    peptide: Molecule, frames: Frames, action: str, atoms: tuple[int, ...]
) -> None:
    x = frames.positions.astype(float)
    value = np.percentile([measured(action, one, atoms) for one in x], 90)
    tie = Tie(action, atoms, torch.full((5,), value, dtype=torch.float64))
    before = [measured(action, one, atoms) for one in x[:5]]
    assert np.abs(np.array(before) - value).max() > 0.03
    y = geometry_of(peptide, x).mend(torch.from_numpy(x[:5]), [tie]).numpy()
    found = [measured(action, one, atoms) for one in y]
    np.testing.assert_allclose(found, value, atol=0.015)
    assert (Screen(peptide.topology, peptide.positions).check(y) == "").all()


def test_mending_is_differentiable(peptide: Molecule, frames: Frames) -> None:
    x = frames.positions.astype(float)
    geometry = geometry_of(peptide, x)
    start = torch.from_numpy(x[:1] + 0.02 * np.random.default_rng(5).standard_normal((1, 62, 3)))
    direction = torch.from_numpy(np.random.default_rng(6).standard_normal((1, 62, 3)))
    weight = torch.from_numpy(np.random.default_rng(7).standard_normal((1, 62, 3)))
    along = start.clone().requires_grad_()
    (slope,) = torch.autograd.grad((weight * geometry.mend(along)).sum(), along)
    step = 1e-7
    forward, back = (
        (weight * geometry.mend(start + sign * step * direction)).sum() for sign in (1, -1)
    )
    expected = float(forward - back) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(expected, rel=1e-3)


def test_a_generator_over_it_passes_the_screen_and_is_kept(
    frames: Frames, peptide: Molecule, tmp_path: Path
) -> None:
    gan = ConditionalGenerator.fit(frames, peptide.topology, FEW, featurize=AlignedFeatures.fit)
    asked = np.linspace(*np.percentile(frames.cvs[:, 0], [10, 90]), 16)[:, None]
    x = gan.sample(asked, seed=1)
    assert (Screen(peptide.topology, peptide.positions).check(x) == "").mean() > 0.9
    phi = np.array([torsion(one, PHI.atoms) for one in x])
    assert np.abs(phi - asked[:, 0]).max() < 0.02
    again = ConditionalGenerator.load(gan.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.sample(asked, seed=1), x)


LOOP = list(range(22, 42))  # the second to the fourth residue: attached at both ends


@pytest.fixture(scope="module")
def loop(frames: Frames, peptide: Molecule) -> ConditionalGenerator:
    featurize = AlignedFeatures.of_part(LOOP)
    return ConditionalGenerator.fit(frames, peptide.topology, FEW, featurize=featurize)


def test_a_part_is_made_among_the_rest(
    loop: ConditionalGenerator, frames: Frames, peptide: Molecule, tmp_path: Path
) -> None:
    assert loop.keeps_place
    assert loop.atoms.tolist() == LOOP
    rest = loop.features.rest
    assert not set(rest.tolist()) & set(LOOP)
    asked = np.full((12, 1), np.median(frames.cvs))
    x = loop.sample(asked, seed=1)
    again = ConditionalGenerator.load(loop.save(tmp_path / "loop"), peptide.topology)
    np.testing.assert_array_equal(again.sample(asked, seed=1), x)
    for k in (10, 140):  # wherever the rest stands, the part is bonded to it, and clashes nowhere
        whole = frames.positions[k].astype(float)
        placed = loop.features.place(x, whole[rest], asked)
        screen = Screen(
            peptide.topology, whole[LOOP], None, None, LOOP, Rest(rest.tolist(), lambda w=whole: w)
        )
        assert (screen.check(placed) == "").all()
        assert rms(torch.from_numpy(placed), torch.from_numpy(whole[LOOP])) < 0.4
        # as generated it stands elsewhere: the screen sees the bonds to the rest
        assert (screen.check(x) != "").all()
        away = screen.check(placed, whole=whole + np.array([0.2, 0.0, 0.0]))
        assert (away != "").all()


def test_a_part_needs_frames_of_itself_and_of_what_is_around(
    frames: Frames, peptide: Molecule
) -> None:
    alone = replace(frames, positions=frames.positions[:, LOOP], atoms=np.array(LOOP))
    with pytest.raises(ValueError, match="less than three heavy atoms"):
        AlignedFeatures.of_part(LOOP)(alone, peptide.topology)
    with pytest.raises(ValueError, match=r"the frames lack the atoms \[5\]"):
        AlignedFeatures.of_part([5, *LOOP])(alone, peptide.topology)


def test_a_part_is_put_into_a_run_and_the_rest_stays(
    loop: ConditionalGenerator, frames: Frames, peptide: Molecule, tmp_path: Path
) -> None:
    atoms = ",".join(str(a + 1) for a in PHI.atoms)
    text = f"phi: TORSION ATOMS={atoms}\nRESTRAINT ARG=phi AT=-1.2 KAPPA=0\n"
    bias = PlumedBias(text, peptide.topology, temperature=300, directory=tmp_path)
    system = openmm.XmlSerializer.clone(peptide.system)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(300, 1.0, 0.004)
    integrator.setRandomNumberSeed(2)
    platform = openmm.Platform.getPlatformByName("CPU")
    simulation = app.Simulation(peptide.topology, system, integrator, platform, {"Threads": "1"})
    whole = frames.positions[40].astype(float)
    simulation.context.setPositions(whole)
    bias.attach(simulation)
    settings = ProposalSettings(batch=8, heal_steps=30, settle_steps=0)
    asked = Asked(loop, bias, frames.cvs[40:41], settings, 100)
    start = Start(simulation, loop.atoms, whole, None, 300.0)
    move = SeedMove.prepare(asked, start)
    attempt = move.attempt(whole, None, np.random.default_rng(1))
    assert attempt.candidates.refused == {}
    assert attempt.reason == ""
    moved = np.linalg.norm(attempt.positions - whole, axis=1)
    others = np.setdiff1d(np.arange(62), LOOP)
    assert moved[others].mean() < 0.1  # 30 steps of 4 fs, and a minimisation


def test_large_and_several_molecules_are_aligned(peptide: Molecule, monkeypatch) -> None:
    from openmm_cgan.cgan import dataset

    x = np.repeat(peptide.positions[None], 30, axis=0)
    frames = Frames.of_arrays(x, np.linspace(0, 1, 30), ["x"])
    topology, flow = peptide.topology, TrainingSettings(generator="FlowGenerator")
    chosen = dataset.default_featurize(frames, topology, FEW)
    assert chosen == ZMatrixFeatures.fit
    monkeypatch.setattr(dataset, "LARGE", 50)
    assert dataset.default_featurize(frames, topology, FEW) == AlignedFeatures.fit
    assert dataset.default_featurize(frames, topology, flow) == ZMatrixFeatures.fit
    monkeypatch.setattr(dataset, "LARGE", 500)
    both = app.Modeller(topology, peptide.positions * unit.nanometer)
    both.add(topology, (peptide.positions + np.array([0.0, 0.0, 2.0])) * unit.nanometer)
    x = np.repeat(np.array(both.positions.value_in_unit(unit.nanometer))[None], 30, axis=0)
    frames = Frames.of_arrays(x, np.linspace(0, 1, 30), ["x"])
    assert dataset.default_featurize(frames, both.topology, FEW) == AlignedFeatures.fit
    assert dataset.default_featurize(frames, None, FEW).__self__.__name__ == "PlainFeatures"


def test_ions_that_nothing_holds_together_are_placed_at_their_distance() -> None:
    rng, sodium = np.random.default_rng(4), app.Element.getBySymbol("Na")
    topology = app.Topology()
    for _ in range(3):
        topology.addAtom("NA", sodium, topology.addResidue("NA", topology.addChain()))
    places = np.array([[0, 0, 0], [0.6, 0, 0], [0, 0.6, 0]])
    x = places + rng.normal(0, 0.03, (100, 3, 3))
    variable = CollectiveVariable("d", "nm", None, "DISTANCE", (0, 1))
    ions = Frames.of_arrays(x, np.linalg.norm(x[:, 0] - x[:, 1], axis=1), [variable])
    made = ConditionalGenerator.fit(ions, topology, FEW).sample([0.55], 10)
    assert np.linalg.norm(made[:, 0] - made[:, 1], axis=1) == pytest.approx(0.55, abs=0.003)


def test_two_particles_that_no_bond_joins_have_nothing_to_learn() -> None:
    topology = app.Topology()
    for symbol in ("Na", "Cl"):
        residue = topology.addResidue(symbol, topology.addChain())
        topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
    x = np.random.default_rng(0).normal(size=(30, 2, 3))
    with pytest.raises(ValueError, match="no shape but their distance"):
        ConditionalGenerator.fit(Frames.of_arrays(x, x[:, 0, 0], ["x"]), topology, FEW)
