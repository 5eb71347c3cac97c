"""Local moves in living simulations: the end of a chain, and a methyl group in water."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openmm
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from openmm import app

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.cgan import ConditionalGenerator, TrainingSettings
from openmm_cgan.cli import main
from openmm_cgan.cli.window_starts import starts
from openmm_cgan.features import ZMatrixFeatures
from openmm_cgan.frames import Frames, read_frames
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import Screen, hangs_on_rest
from openmm_cgan.proposals import propose as propose_configurations
from openmm_cgan.reporters import FrameReporter, Learner, ProposalReporter, learner
from openmm_cgan.reporters.moves import quick_energies
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import Molecule, alanine_dipeptide
from openmm_cgan.windows.placement import Placement
from tests.cases.chain_end import INPUTS, ChainEnd
from tests.cases.exact_runs import CHAIN, FEW, HELD, Run, T, make_run, propose
from tests.cases.water import dipeptide_in_water

KT = GAS_CONSTANT * T
THETA = INPUTS["theta"] + "PRINT ARG=theta FILE=C STRIDE=100\n"
PHI_PSI = (
    "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
    "PRINT ARG=phi,psi FILE=C STRIDE=100\n"
)
METHYL = [10, 11, 12, 13]


def state_of(simulation: app.Simulation) -> tuple[NDArray, NDArray]:
    state = simulation.context.getState(positions=True, velocities=True)
    found = state.getPositions(asNumpy=True), state.getVelocities(asNumpy=True)
    return found[0]._value.copy(), found[1]._value.copy()


# ---- the end of a chain


def local_run(folder: Path, chain: Any = CHAIN, text: str = THETA) -> tuple[Run, ProposalReporter]:
    run = make_run(folder, text, chain)
    sampler = ChainEnd(chain, run.bias.variables)
    return run, propose(run, folder / "p.csv", 10, mode="local", sampler=sampler)


@pytest.mark.parametrize("chain", [CHAIN, HELD], ids=["flexible", "constrained"])
def test_the_well_of_the_end_has_its_population(chain: Any, tmp_path: Path) -> None:
    """Behind a barrier that dynamics never crosses."""
    run, reporter = local_run(tmp_path, chain)
    run.simulation.reporters.insert(0, FrameReporter(tmp_path / "frames", 10, run.bias))
    run.simulation.step(3000)
    run.bias.close()
    frames = read_frames(tmp_path / "frames")
    assert len(frames) == 300, "no settle window"
    phi = torsions(frames.positions.astype(float))
    rate = reporter.counts()["accepted"] / 300
    expected = chain.share_positive(T)
    error = np.sqrt(expected * (1 - expected) * (2 - rate) / rate / 300)
    assert error < 0.08
    assert abs((phi > 0).mean() - expected) < 3.5 * error


def torsions(x: NDArray) -> NDArray:
    a, b, c = np.moveaxis(np.diff(x, axis=1), 1, 0)
    one, two = np.cross(a, b), np.cross(b, c)
    sine = (np.cross(one, two) * b).sum(1) / np.linalg.norm(b, axis=1)
    return np.arctan2(sine, (one * two).sum(1))


def test_the_rest_keeps_its_positions_and_velocities(tmp_path: Path) -> None:
    run, reporter = local_run(tmp_path)
    context = run.simulation.context
    run.simulation.step(9)
    for _ in range(20):
        run.simulation.reporters.remove(reporter)
        run.simulation.step(1)
        before = state_of(run.simulation)
        run.simulation.reporters.append(reporter)
        state = context.getState(positions=True, energy=True)
        accepted = reporter.counts()["accepted"]
        reporter.report(run.simulation, state)
        after = state_of(run.simulation)
        moved = reporter.counts()["accepted"] > accepted
        for ours, theirs in zip(before, after, strict=True):
            assert (ours[:3] == theirs[:3]).all()
            assert (ours[3] != theirs[3]).all() == moved
            assert (ours == theirs).all() != moved
        run.simulation.step(9)
    assert 3 < reporter.counts()["accepted"] < 20


def test_velocities_obey_constraints_to_the_rest_and_the_temperature(tmp_path: Path) -> None:
    """All atoms of this chain are tied to the part: along bonds they do not move."""
    run, reporter = local_run(tmp_path, HELD)
    run.simulation.step(1)
    move, found = reporter._move, []
    context, masses = run.simulation.context, np.array(HELD.masses)
    rng = np.random.default_rng(5)
    for _ in range(200):
        x, v = state_of(run.simulation)
        context.setVelocities(move.potential.redrawn(v, KT, rng))
        context.applyVelocityConstraints(1e-8)
        drawn = state_of(run.simulation)[1]
        along = (np.diff(x, axis=0) * np.diff(drawn, axis=0)).sum(axis=1)
        assert np.abs(along).max() < 1e-5
        found.append((masses[:, None] * drawn**2).sum() / KT)
    assert np.mean(found) == pytest.approx(9, abs=4 * np.sqrt(2 * 9 / 200)), "12 less 3 bonds"


class Hopeless(ChainEnd):
    """Puts the atom where no energy allows it."""

    def sample_with_log_prob(
        self, cvs: NDArray, n: int | None = None, seed: int = 0
    ) -> tuple[NDArray, NDArray]:
        x, log_prob = super().sample_with_log_prob(cvs, n, seed)
        return x + 5.0, log_prob


def test_after_a_refused_move_the_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    found = []
    for name in ("with", "without"):
        run = make_run(tmp_path / name, THETA, CHAIN)
        if name == "with":
            sampler = Hopeless(CHAIN, run.bias.variables)
            reporter = propose(run, tmp_path / "p.csv", 10, mode="local", sampler=sampler)
        run.simulation.step(105)
        found.append(state_of(run.simulation))
    assert reporter.counts() == {"accepted": 0, "kept current": 10}
    for ours, theirs in zip(*found, strict=True):
        assert (ours == theirs).all()


def test_where_the_rest_is_not_as_trained_it_stays(tmp_path: Path) -> None:
    run = make_run(tmp_path, THETA, CHAIN)
    sampler = ChainEnd(CHAIN, run.bias.variables)
    sampler.cv_range = np.array([[0.1, 0.2]])
    reporter = propose(run, tmp_path / "p.csv", 10, mode="local", sampler=sampler)
    run.simulation.step(30)
    assert reporter.counts() == {"accepted": 0, "kept current: outside conditions": 3}


def test_a_part_that_the_generator_never_makes_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, reporter = local_run(tmp_path)
    log_prob = reporter.sampler.log_prob
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(
        ChainEnd, "log_prob",
        lambda self, x, c: log_prob(x, c) - (500.0 if len(x) == 1 else 0.0),
    )  # fmt: skip
    run.simulation.step(250)
    monkeypatch.undo()
    assert [r for r in caplog.records if "all but never makes" in r.message]
    assert reporter.counts()["accepted"] == 0


def test_a_force_that_is_changed_behind_a_local_move_stops_it(tmp_path: Path) -> None:
    run, _ = local_run(tmp_path)
    bonds = run.simulation.system.getForce(0)
    bonds.setBondParameters(0, 0, 1, 0.16, 20_000.0)
    bonds.updateParametersInContext(run.simulation.context)
    with pytest.raises(RuntimeError, match="a force changes in the run"):
        run.simulation.step(10)


# ---- a methyl group, trained in vacuum, moved in water


@pytest.fixture(scope="module")
def frames() -> Frames:
    """Vacuum dynamics of alanine dipeptide."""
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(PHI_PSI, molecule.topology, temperature=T)
    integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.002)
    integrator.setRandomNumberSeed(3)
    context = openmm.Context(
        molecule.system, integrator, openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(molecule.positions)
    x = []
    for _ in range(300):
        integrator.step(10)
        x.append(context.getState(positions=True).getPositions(asNumpy=True)._value.copy())
    made = Frames.of_arrays(np.array(x), bias.cv_values(np.array(x)), ["phi", "psi"], temperature=T)
    return dataclasses.replace(made, variables=bias.variables)


@pytest.fixture(scope="module")
def flow(frames: Frames, tmp_path_factory: pytest.TempPathFactory) -> ConditionalGenerator:
    """A flow of the methyl group, written and read again."""
    settings = TrainingSettings(
        generator="FlowGenerator", steps=60, width=16, batch=128, report_every=20
    )
    topology = alanine_dipeptide().topology
    featurize = ZMatrixFeatures.of_part(METHYL)
    made = ConditionalGenerator.fit(frames, topology, settings, featurize=featurize)
    path = made.save(tmp_path_factory.mktemp("flow") / "methyl.npz")
    return ConditionalGenerator.load(path, topology)


def test_a_flow_of_a_part_knows_what_it_hangs_on(
    flow: ConditionalGenerator, frames: Frames
) -> None:
    assert hangs_on_rest(flow)
    assert flow.atoms.tolist() == METHYL
    assert set(flow.rest) <= set(range(22)) - set(METHYL)
    assert sorted(map(sorted, flow.constant_bonds.tolist())) == [[10, k] for k in (11, 12, 13)]
    assert flow.constant_others == []
    x, cvs = frames.positions[:5].astype(float), frames.cvs[:5]
    here = flow.among(x[0][flow.rest])
    made, log_prob = here.sample_with_log_prob(cvs[0], n=5, seed=1)
    np.testing.assert_allclose(
        here.log_prob(made, np.repeat(cvs[:1], 5, axis=0)), log_prob, atol=1e-3
    )
    lengths = np.linalg.norm(made[:, 0] - x[0, 8], axis=1)
    np.testing.assert_allclose(lengths, 0.153, atol=0.02), "CB stands beside CA of that frame"
    others = flow.among(x[0][flow.rest] + 1.0).log_prob(made + 1.0, np.repeat(cvs[:1], 5, axis=0))
    np.testing.assert_allclose(others, log_prob, atol=1e-3)


def test_commands_that_make_whole_molecules_refuse_it_in_words(
    flow: ConditionalGenerator, frames: Frames, tmp_path: Path
) -> None:
    molecule, model = alanine_dipeptide(), str(flow.save(tmp_path / "methyl.npz"))
    pdb = tmp_path / "topology.pdb"
    with pdb.open("w") as file:
        app.PDBFile.writeFile(molecule.topology, molecule.positions * 10, file)
    (tmp_path / "cvs.dat").write_text(PHI_PSI)
    asked = ["--topology", str(pdb), "--plumed", str(tmp_path / "cvs.dat"), "--at", "phi=1,psi=1"]
    said = CliRunner().invoke(main, ["propose", model, *asked]).output
    assert "makes 4 of 22 atoms, a part that hangs on the others" in said
    assert f"run --model {model} --mode local" in said
    bias = PlumedBias(PHI_PSI, molecule.topology, temperature=T)
    run = SimpleNamespace(frames=frames, molecule=molecule, bias=bias)
    place = Placement(("phi",), np.array([[1.0]]), np.array([10.0]))
    with pytest.raises(ValueError, match="a part that hangs on the others"):
        starts(run, place, Path(model), seed=1)
    screen = Screen(molecule.topology, molecule.positions, bias)
    with pytest.raises(ValueError, match="mode='local' of a ProposalReporter"):
        propose_configurations(flow, frames.cvs[:2], screen, seed=1)


def water_run(
    folder: Path, molecule: Molecule, flow: ConditionalGenerator
) -> tuple[app.Simulation, ProposalReporter]:
    system = openmm.XmlSerializer.clone(molecule.system)
    system.addForce(openmm.MonteCarloBarostat(1.0, T, 5))
    bias = PlumedBias(PHI_PSI, molecule.topology, temperature=T, directory=folder)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.001)
    integrator.setRandomNumberSeed(4)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(T, 5)
    bias.attach(simulation)
    reporter = ProposalReporter(
        folder / "p.csv", 5, flow, bias, mode="local", settings=ProposalSettings(candidates=20)
    )
    simulation.reporters.append(reporter)
    return simulation, reporter


@pytest.mark.parametrize("is_quick", [False, True])
def test_a_methyl_group_turns_in_water(
    is_quick: bool, flow: ConditionalGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_quick:
        monkeypatch.setattr(quick_energies, "WORTH_IT", 0)
    molecule = dipeptide_in_water()
    simulation, reporter = water_run(tmp_path, molecule, flow)
    simulation.step(26)
    assert reporter.counts()["accepted"] > 0
    move = reporter._move
    assert move.is_moved.tolist() == [False, False]
    assert (move.potential.quick is not None) == is_quick
    assert move.potential.tied.atoms.tolist() == METHYL
    x = state_of(simulation)[0]
    assert np.isfinite(x).all()
    pairs, lengths = (
        move.potential.potential.constraints,
        move.potential.potential.constraint_lengths,
    )
    found = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)
    np.testing.assert_allclose(found, lengths, rtol=1e-4)


# ---- where it cannot be


def refusal(run: Run, sampler: Any, **arguments: Any) -> str:
    with pytest.raises(ValueError) as told:  # noqa: PT011  its words are looked at
        propose(run, run.bias.directory / "p.csv", 10, mode="local", sampler=sampler, **arguments)
    return str(told.value)


def test_local_is_refused_in_words(tmp_path: Path, flow: ConditionalGenerator) -> None:
    run = make_run(tmp_path, THETA, CHAIN)
    sampler = ChainEnd(CHAIN, run.bias.variables)
    assert "hangs on the rest; train one with featurize=ZMatrixFeatures" in refusal(
        run, run.sampler
    )
    sampler.has_density = False
    assert "has none; use mode='seed'" in refusal(run, sampler)
    sampler.has_density = True
    assert "targets are for seeds" in refusal(run, sampler, targets=[[1.9]])
    sampler.constant_bonds = np.array([[2, 3]])
    assert "constrains 0 distances of the generated atoms and the generator holds 1" in refusal(
        run, sampler
    )
    sampler.constant_bonds, sampler.constant_others = np.zeros((0, 2), int), ["angle 3-2-1"]
    assert "does not vary angle 3-2-1" in refusal(run, sampler)
    sampler.constant_others, sampler.rest = [], np.array([0, 1])
    assert "hangs on the atoms [2] here" in refusal(run, sampler)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda system: system.setParticleMass(3, 0.0), "virtual sites or fixed"),
        (lambda system: with_site(system), "virtual site 4 goes with atoms of the part"),
        (lambda system: system.addForce(openmm.DrudeForce()), "Drude particles"),
    ],
)
def test_particles_that_do_not_move_alone_are_refused(
    change: Any, told: str, tmp_path: Path
) -> None:
    run = with_another_particle(change, tmp_path)
    assert told in refusal(run, run.sampler)


def with_another_particle(change: Any, folder: Path) -> Run:
    """A run of the chain whose System was changed, with a particle more if that adds one."""
    system, topology = CHAIN.system(), CHAIN.topology()
    change(system)
    if system.getNumParticles() > 4:
        topology.addAtom("V", None, next(topology.residues()))
    bias = PlumedBias(THETA, topology, temperature=T, directory=folder)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.001)
    integrator.setRandomNumberSeed(7)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(topology, system, integrator, platform)
    place_chain(simulation)
    bias.attach(simulation)
    return Run(simulation, bias, ChainEnd(CHAIN, bias.variables))


def place_chain(simulation: app.Simulation) -> None:
    x = CHAIN.sample(1, T, seed=1)[0]
    n = simulation.system.getNumParticles()
    simulation.context.setPositions(np.concatenate([x, x[:1]])[:n])
    simulation.context.computeVirtualSites()


def with_mirrored_site(system: openmm.System) -> None:
    """Of an atom of the rest, on a spring to the part."""
    turn = openmm.Vec3(0, -1, 0), openmm.Vec3(1, 0, 0), openmm.Vec3(0, 0, 1)
    site = system.addParticle(0.0)
    system.setVirtualSite(site, openmm.SymmetrySite(0, *turn, openmm.Vec3(0.3, 0, 0.2), False))
    spring = openmm.HarmonicBondForce()
    spring.addBond(3, site, 0.2, 50.0)
    system.addForce(spring)


@pytest.mark.parametrize("has_positions", [True, False])
def test_sites_that_only_the_xml_tells_of_are_followed(has_positions: bool, tmp_path: Path) -> None:
    run = with_another_particle(with_mirrored_site, tmp_path)
    if not has_positions:
        run.simulation.context.reinitialize()
    reporter = propose(run, tmp_path / "p.csv", 5, mode="local")
    if not has_positions:
        place_chain(run.simulation)
    run.simulation.step(101)  # each attempt compares the run's energy with the copy's
    assert reporter.counts()["accepted"] > 0
    x = state_of(run.simulation)[0]
    np.testing.assert_allclose(x[4], [0.3 - x[0, 1], x[0, 0], 0.2 + x[0, 2]], atol=1e-6)


@pytest.mark.parametrize("mode", ["auto", "seed"])  # "local" forbids such forces
@pytest.mark.parametrize("has_positions", [True, False])
def test_sites_that_can_not_be_followed_are_refused_at_once(
    mode: str, has_positions: bool, tmp_path: Path
) -> None:
    def spoiled(system: openmm.System) -> None:
        with_mirrored_site(system)
        system.addForce(openmm.PythonForce(lambda state: (0.0, np.zeros((5, 3)))))

    run = with_another_particle(spoiled, tmp_path)
    if not has_positions:
        run.simulation.context.reinitialize()
    with pytest.raises(ValueError, match=r"virtual site 4 \(a SymmetrySite"):
        propose(run, tmp_path / "p.csv", 5, mode=mode)
    assert not (tmp_path / "p.csv").exists()


def with_site(system: openmm.System) -> None:
    system.addParticle(0.0)
    system.setVirtualSite(4, openmm.TwoParticleAverageSite(2, 3, 0.5, 0.5))


def test_exact_moves_of_a_part_are_refused_and_say_what_to_take(tmp_path: Path) -> None:
    run = make_run(tmp_path, THETA, CHAIN)
    sampler = ChainEnd(CHAIN, run.bias.variables)
    with pytest.raises(ValueError, match=re.escape("is moved exactly by mode='local'")):
        propose(run, tmp_path / "p.csv", 10, mode="exact", sampler=sampler)


def test_conditions_are_of_the_cvs_that_the_part_moves(tmp_path: Path) -> None:
    from openmm_cgan.proposals import UniformConditions

    run = make_run(tmp_path, THETA, CHAIN)
    sampler = ChainEnd(CHAIN, run.bias.variables)
    conditions = UniformConditions([[1.0, 2.0]], run.bias.variables)
    settings = dataclasses.replace(FEW, conditions=conditions)
    told = refusal(run, sampler, settings=settings)
    assert "the conditions are of 1 CVs; expected those that the part moves, []" in told


def test_another_sampler_of_the_same_part_takes_its_place_and_others_do_not(
    tmp_path: Path,
) -> None:
    run, reporter = local_run(tmp_path)
    run.simulation.step(10)
    better = ChainEnd(CHAIN, run.bias.variables)
    reporter.sampler = better
    run.simulation.step(10)
    assert reporter._move.sampler is better
    elsewhere = ChainEnd(CHAIN, run.bias.variables)
    elsewhere.rest = np.array([0, 1])
    with pytest.raises(ValueError, match="cannot make local proposals: it hangs on other atoms"):
        reporter.sampler = elsewhere


def test_a_learner_trains_a_part_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its worker is told that the atoms hang on others; the new part takes over in the run."""
    run, reporter = local_run(tmp_path)
    frames = FrameReporter(tmp_path / "frames", 5, run.bias)
    with pytest.raises(ValueError, match="whose density is not known"):
        Learner(tmp_path / "made", 10, reporter, tmp_path / "frames", TrainingSettings(), 200)
    settings = TrainingSettings(generator="FlowGenerator", steps=2, batch=16, width=8)
    made = Learner(tmp_path / "made", 10, reporter, tmp_path / "frames", settings, 200)
    run.simulation.reporters[-1:] = [frames, made, reporter]
    jobs: list[learner.Job] = []
    monkeypatch.setattr(learner, "WORKER", "")  # which ends at once, and the work is done here
    monkeypatch.setattr(learner.pickle, "dumps", lambda job: jobs.append(job) or b"")
    run.simulation.step(200)
    learner.train_on(*jobs)
    assert "history" in capsys.readouterr().out
    assert made._worker is not None
    made._worker.wait()
    run.simulation.step(20)
    assert (made.replaced, made.failed) == (1, 0)
    new: Any = reporter._move.sampler
    assert isinstance(new, ConditionalGenerator)
    assert (new.atoms.tolist(), sorted(new.rest.tolist())) == ([3], [0, 1, 2])
    assert reporter.sampler is new


def test_a_part_with_a_density_is_seeded_as_well_where_the_cvs_stand(
    flow: ConditionalGenerator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "openmm_cgan")
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(PHI_PSI, molecule.topology, temperature=T, directory=tmp_path)
    bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.001)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    bias.attach(simulation)
    settings = ProposalSettings(heal_steps=20, minimise_iterations=20)
    reporter = ProposalReporter(tmp_path / "s.csv", 5, flow, bias, mode="seed", settings=settings)
    simulation.reporters.append(reporter)
    simulation.step(5)
    assert "do not move phi, psi" in caplog.text
    assert reporter.counts()["accepted"] == 1


def test_auto_takes_local_for_a_part(tmp_path: Path) -> None:
    run = make_run(tmp_path, THETA, CHAIN)
    sampler = ChainEnd(CHAIN, run.bias.variables)
    assert propose(run, tmp_path / "p.csv", 10, mode="auto", sampler=sampler).mode == "local"
