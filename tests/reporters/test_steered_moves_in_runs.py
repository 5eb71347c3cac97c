"""Steered moves in live runs: populations, particles that no generator makes, what is refused."""

import dataclasses
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from openmm import app, unit

from openmm_cgan.cgan import ConditionalGenerator, TrainingSettings
from openmm_cgan.frames import Frames
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import GridConditions
from openmm_cgan.reporters import Learner, ProposalReporter
from openmm_cgan.reporters.moves import Asked, Start, SteeredMove, possible_moves
from openmm_cgan.reporters.moves.steering import Steering
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import PHI_ATOMS, PSI_ATOMS, Chain, alanine_dipeptide
from tests.cases.chain_flow import chain_flow
from tests.cases.chain_sampler import INPUTS, ChainSampler, internal_of
from tests.cases.exact_runs import CHAIN, Run, T, make_run

PHI = INPUTS["phi"] + "PRINT ARG=phi FILE=C STRIDE=1000\n"
QUICK = ProposalSettings(switching_steps=60)
STEEP = Chain(barrier=40.0, tilt=1.5)  # 16 kT: not crossed without moves


def steered(run: Run, path: Path, interval: int = 10, **arguments: Any) -> ProposalReporter:
    arguments = {
        "sampler": chain_flow(run.sampler.chain, run.bias.variables),
        "settings": QUICK,
        "mode": "steered",
        **arguments,
    }
    made = ProposalReporter(path, interval, bias=run.bias, **arguments)
    run.simulation.reporters.append(made)
    return made


def where_the_wells_are(chain: Chain, bias: PlumedBias) -> ProposalSettings:
    middles = np.linspace(-np.pi, np.pi, 30, endpoint=False) + np.pi / 30
    density = chain.torsion_density(middles, T)
    conditions = GridConditions(density, [(-np.pi, np.pi)], bias.variables)
    return ProposalSettings(switching_steps=120, switching_timestep=0.004, conditions=conditions)


def state_of(run: Run) -> tuple[np.ndarray, np.ndarray]:
    state = run.simulation.context.getState(positions=True, velocities=True)
    x, v = state.getPositions(asNumpy=True), state.getVelocities(asNumpy=True)
    return x._value, v._value


def test_two_wells_have_their_populations(tmp_path: Path) -> None:
    run = make_run(tmp_path, PHI, STEEP)
    run.simulation.integrator.setStepSize(0.004)
    settings = where_the_wells_are(STEEP, run.bias)
    reporter = steered(run, tmp_path / "p.csv", settings=settings)
    right = []
    for _ in range(250):
        run.simulation.step(10)
        right.append(internal_of(state_of(run)[0][None])["phi"][0] > 0)
    rate = np.count_nonzero(np.diff(right)) / 250
    assert rate > 0.05
    exact = STEEP.share_positive(T)
    variance = exact * (1 - exact)
    error = np.sqrt(variance * (4 * variance / rate - 1) / 250)  # of a chain of two states
    assert abs(np.mean(right) - exact) < 3.5 * error
    assert "accepted with a probability of" in reporter.summary()
    assert "over 120 steps" in reporter.summary()


CUBE = np.diag([2.5] * 3)
OCTAHEDRON = 2.9 * np.array([[1, 0, 0], [1 / 3, 8**0.5 / 3, 0], [-1 / 3, 2**0.5 / 3, 6**0.5 / 3]])


def membrane_barostat() -> openmm.Force:
    kind = openmm.MonteCarloMembraneBarostat
    return kind(100.0, 0.0, T, kind.XYIsotropic, kind.ZFree, 5)


def anisotropic_barostat() -> openmm.Force:
    return openmm.MonteCarloAnisotropicBarostat((100.0, 100.0, 100.0), T, True, True, True, 5)


@pytest.mark.parametrize(
    ("box", "barostat"),
    [
        (CUBE, lambda: openmm.MonteCarloBarostat(100.0, T, 5)),
        (OCTAHEDRON, lambda: openmm.MonteCarloBarostat(100.0, T, 5)),
        (CUBE, membrane_barostat),
        (CUBE, anisotropic_barostat),
    ],
)
def test_in_a_box_with_a_barostat_all_else_moves_and_the_box_stays(
    box: np.ndarray, barostat: Callable[[], openmm.Force], tmp_path: Path
) -> None:
    """Particles that no generator makes: a gas of them around the chain."""
    system, rng = STEEP.system(), np.random.default_rng(3)
    topology = STEEP.topology()
    residue = topology.addResidue("GAS", topology.addChain())
    repulsion = openmm.CustomNonbondedForce("2*(0.3/r)^12")
    repulsion.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    repulsion.setCutoffDistance(0.6)
    for _ in range(20):
        topology.addAtom("AR", app.Element.getBySymbol("Ar"), residue)
        system.addParticle(40.0)
    for k in range(24):
        repulsion.addParticle()
        for other in range(k):
            if k < 4:
                repulsion.addExclusion(other, k)
    system.addForce(repulsion)
    system.addForce(barostat())
    system.setDefaultPeriodicBoxVectors(*box)
    bias = PlumedBias(PHI, topology, temperature=T, directory=tmp_path)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.004)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(topology, system, integrator, platform)
    grid = 0.7 * np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3) + 0.35
    x = np.concatenate([STEEP.sample(1, T, 1)[0] + [1.2, 1.2, 1.0], grid[rng.permutation(27)[:20]]])
    simulation.context.setPositions(x)
    simulation.minimizeEnergy(maxIterations=20)
    bias.attach(simulation)
    run = Run(simulation, bias, ChainSampler(STEEP, bias.variables))
    settings = where_the_wells_are(STEEP, bias)
    reporter = steered(run, tmp_path / "p.csv", 20, settings=settings)
    boxes, moved = set(), 0.0
    for _ in range(25):
        simulation.step(19)
        (before, _), accepted = state_of(run), reporter.counts()["accepted"]
        simulation.step(1)  # the move is after it
        after, _ = state_of(run)
        if reporter.counts()["accepted"] > accepted:
            moved = max(moved, np.abs(after - before)[4:].max())
        boxes.add(simulation.context.getState().getPeriodicBoxVolume()._value)
    assert len(boxes) > 3, "the barostat works beside it"
    assert moved > 0.05, "the gas has moved with it"


def test_after_a_refused_move_the_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    hopeless = dataclasses.replace(QUICK, switching_steps=1, steering_kappa=1e5)
    moved = make_run(tmp_path / "moved", PHI)
    reporter = steered(moved, tmp_path / "p.csv", settings=hopeless)
    moved.simulation.step(60)
    plain = make_run(tmp_path / "plain", PHI)  # after it: they share their random numbers
    plain.simulation.step(60)
    assert reporter.counts() == {"accepted": 0, "kept current": 6}
    for one, other in zip(state_of(moved), state_of(plain), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_not_finite_is_refused_and_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path, PHI)
    settings = dataclasses.replace(QUICK, switching_timestep=10 * unit.picosecond)
    reporter = steered(run, tmp_path / "p.csv", settings=settings)
    run.simulation.step(30)
    assert reporter.counts() == {"accepted": 0, "kept current: energy not finite": 3}
    assert reporter.candidate_counts() == {"accepted": 0, "energy not finite": 3}


def test_steps_are_those_of_the_run_but_not_longer_than_two_femtoseconds(tmp_path: Path) -> None:
    found = []
    for k, (step, asked) in enumerate([(0.001, None), (0.004, None), (0.004, 0.003)]):
        run = make_run(tmp_path / str(k), PHI)
        run.simulation.integrator.setStepSize(step)
        settings = dataclasses.replace(QUICK, switching_timestep=asked, switching_steps=2)
        reporter = steered(run, tmp_path / f"{k}.csv", settings=settings)
        run.simulation.step(10)
        move: Any = reporter._move
        found.append(move.switching.context.getIntegrator().getStepSize()._value)
    assert found == [0.001, 0.002, 0.003]


def test_temperature_and_sampler_may_change(tmp_path: Path) -> None:
    run = make_run(tmp_path, PHI)
    reporter = steered(run, tmp_path / "p.csv")
    run.simulation.step(10)
    move: Any = reporter._move
    run.simulation.integrator.setTemperature(600.0)
    reporter.sampler = chain_flow(CHAIN, run.bias.variables, seed=3)
    run.simulation.step(10)
    assert move.kT == pytest.approx(2 * 2.494, rel=1e-3)
    assert len(move._costs) == 1
    with pytest.raises(ValueError, match="ChainSampler has no torsion_map"):
        reporter.sampler = run.sampler


# ---- refused in words


def refusal(run: Run, folder: Path, **arguments: Any) -> str:
    with pytest.raises(ValueError, match="steered") as raised:
        steered(run, folder / "refused.csv", **arguments)
    return str(raised.value)


def test_steered_is_refused_in_words(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    flow = chain_flow(CHAIN, run.bias.variables)
    assert "ChainSampler has no torsion_map" in refusal(run, tmp_path, sampler=run.sampler)
    assert "targets are for seeds" in refusal(run, tmp_path, targets="least_visited")
    flow.generator.folds = [3]  # as of a methyl group
    assert "hydrogens are alike" in refusal(run, tmp_path, sampler=flow)
    short = chain_flow(Chain(masses=(15.0, 14.0, 14.0)), run.bias.variables)
    assert "no torsion turns" in refusal(run, tmp_path, sampler=short)
    mlp: Any = dataclasses.replace(flow, generator=types.SimpleNamespace(has_density=False))
    assert "mode='steered' needs the density" in refusal(run, tmp_path, sampler=mlp)


def test_colder_particles_and_other_ensembles_are_refused(tmp_path: Path) -> None:
    system = CHAIN.system()
    system.addForce(openmm.DrudeForce())
    assert "Drude" in refusal(make_run(tmp_path, system=system), tmp_path)
    run = make_run(tmp_path / "other")
    run.bias.bias_of_cvs = _unknown
    assert "not known as a function of the CVs" in refusal(run, tmp_path)


def _unknown(cvs: Any) -> Any:
    raise ValueError("that of another program")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"switching_steps": 0}, "switching_steps is 0"),
        ({"switching_timestep": 0.0}, "switching_timestep"),
        ({"steering_kappa": -1.0}, "steering_kappa is -1.0; expected a positive number"),
        ({"steering_kappa": (300.0, 200.0)}, "expected one number"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProposalSettings(**settings)


def test_a_learner_must_train_a_flow(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    reporter = steered(run, tmp_path / "p.csv")
    gan = TrainingSettings(generator="MLPGenerator")
    with pytest.raises(ValueError, match="in mode 'steered'"):
        Learner(tmp_path / "made", 10, reporter, tmp_path / "frames", gan, 100)


def test_auto_never_takes_steered_moves(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    flow = chain_flow(CHAIN, run.bias.variables)
    asked = Asked(flow, run.bias, "uniform", QUICK, 20)
    assert SteeredMove.refusal(asked) is None
    assert SteeredMove.refusal_in(asked, run.simulation) is None
    assert SteeredMove not in possible_moves("auto", asked)
    assert possible_moves("steered", asked) == [SteeredMove]


def test_auto_says_that_steered_moves_would_be_exact(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = []
    for folder, is_flow in (("flow", True), ("other", False)):
        system = CHAIN.system()
        system.getForce(0).setUsesPeriodicBoundaryConditions(True)  # nothing is exact but these
        run = make_run(tmp_path / folder, system=system)
        sampler: Any = chain_flow(CHAIN, run.bias.variables) if is_flow else run.sampler
        caplog.clear()
        with caplog.at_level("INFO", "openmm_cgan"):
            made = ProposalReporter(tmp_path / f"{folder}.csv", 20, sampler, run.bias)
        assert made.mode == "seed"
        told.append("mode='steered' would be exact" in caplog.text)
    assert told == [True, False]


# ---- a molecule


def test_a_dipeptide_is_led_and_its_methyl_groups_are_not(tmp_path: Path) -> None:
    molecule, rng = alanine_dipeptide("C7eq"), np.random.default_rng(0)
    text = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\nPRINT ARG=phi,psi FILE=C\n"
    bias = PlumedBias(text, molecule.topology, temperature=T, directory=tmp_path)
    bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.002)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(T, 1)
    bias.attach(simulation)
    x = np.repeat(molecule.positions[None], 200, axis=0)
    x += 0.003 * rng.standard_normal(x.shape)
    frames = Frames.of_arrays(x, bias.cv_values(x), variables=bias.variables, temperature=T)
    tiny = TrainingSettings(generator="FlowGenerator", steps=2, width=8, batch=16)
    flow = ConditionalGenerator.fit(_turned(frames, rng), molecule.topology, tiny)
    made = flow.torsion_map()
    assert made.rows[:2].tolist() in (
        [[*PHI_ATOMS], [*PSI_ATOMS]],
        [[*PHI_ATOMS[::-1]], [*PSI_ATOMS[::-1]]],
    )
    assert sorted(made.folds.tolist()) == [1, 1, 3, 3, 3]
    anywhere = dataclasses.replace(flow, cv_range=np.array([(-np.pi, np.pi)] * 2))
    settings = ProposalSettings(switching_steps=300)
    asked = Asked(anywhere, bias, "uniform", settings, 20)
    start = Start(simulation, np.arange(22), molecule.positions, None, T)
    move = SteeredMove.prepare(asked, start)
    simulation.step(200)
    here = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
    led, rows = [], move.targets.rows.tolist()
    assert sorted(move.steering.rows.tolist()) == sorted(rows[:2]), "methyl groups are free"
    remembered = move.switching.made

    def made_and_kept(*given: Any) -> Any:
        led.append((given[3], remembered(*given)))
        return led[-1][1]

    asked_of, log_density = [], move.targets.log_density

    def density_and_kept(torsions: np.ndarray, cvs: np.ndarray) -> float:
        asked_of.append(torsions)
        return log_density(torsions, cvs)

    move.switching.made, move.targets.log_density = made_and_kept, density_and_kept
    for _ in range(2):
        move.attempt(here, None, rng)
    every, is_free = Steering(move.targets.rows, 1.0), ~move.targets.is_drawn
    there = [switched.positions for _, switched in led]
    for torsions, x in zip(asked_of, [there[0], here, there[1], here], strict=True):
        # methyl groups as they stand where a move begins: back from its end, there from here
        np.testing.assert_allclose(torsions[is_free], every.values(x)[is_free])
    for places, switched in led:
        found = move.steering.values(switched.positions)
        assert np.abs(move.steering.ways(places, found)).max() < 0.6
        assert abs(switched.change) < 400


def _turned(frames: Frames, rng: np.random.Generator) -> Frames:
    """Frames whose methyl groups are turned by a third of a circle at random."""
    x = frames.positions.copy()
    for hydrogens in ((0, 2, 3), (11, 12, 13), (19, 20, 21)):
        for k in range(len(x)):
            x[k, list(hydrogens)] = x[k, list(np.roll(hydrogens, rng.integers(3)))]
    return dataclasses.replace(frames, positions=x)
