"""Proposals to a particle in an external field: it is put where it belongs, not superposed."""

import dataclasses

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.cgan import ConditionalGenerator, TrainingSettings
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import PlainFeatures
from openmm_cgan.frames import Frames
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import ScreenSettings, keeps_place
from openmm_cgan.reporters import ProposalReporter
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import DoubleWell2D
from tests.cases.chain_sampler import ChainSampler
from tests.cases.exact_runs import CHAIN

T = 300.0
WELL = DoubleWell2D(barrier=60.0, tilt=1.0)
INPUT = "p: POSITION ATOM=1\nx: CUSTOM ARG=p.x FUNC=x PERIODIC=NO\nPRINT ARG=x FILE=C STRIDE=1000\n"


@pytest.fixture(scope="module")
def flow():
    """A flow over both wells and what lies between them, as a biased run would train it."""
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [rng.uniform(-0.45, 0.45, 1500), rng.normal(-0.3, 0.02, 600), rng.normal(0.3, 0.02, 600)]
    )
    mean, deviation = WELL.conditional(x, T)
    others = rng.normal(0, deviation, (2, len(x)))
    positions = np.stack([x, mean + others[0], others[1]], axis=1)
    frames = Frames.of_arrays(positions, x, ["x"], temperature=T)
    settings = TrainingSettings(generator="FlowGenerator", steps=60, width=16, report_every=20)
    return ConditionalGenerator.fit(frames, settings=settings)


def run(folder):
    topology, system = WELL.topology(), WELL.system()
    bias = PlumedBias(INPUT, topology, temperature=T, directory=folder, cvs=["x"])
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.002)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(topology, system, integrator, platform)
    simulation.context.setPositions([[-0.3, -0.15, 0.0]])
    simulation.context.setVelocitiesToTemperature(T, 2)
    bias.attach(simulation)
    return simulation, bias


def x_of(simulation):
    return simulation.context.getState(positions=True).getPositions()[0][0]._value


def test_exact_moves_cross_a_barrier_of_24_kT_in_the_right_proportion(flow, tmp_path):
    assert keeps_place(flow)
    simulation, bias = run(tmp_path)
    settings = ProposalSettings(candidates=10)
    move = ProposalReporter(tmp_path / "m.csv", 10, flow, bias, mode="exact", settings=settings)
    simulation.reporters.append(move)
    right = []
    for _ in range(250):
        simulation.step(10)
        right.append(x_of(simulation) > 0)
    exact = 1 / (1 + np.exp(WELL.well_difference(T) / (GAS_CONSTANT * T)))
    # moves are accepted nearly always, so that at least half of them count
    accepted = move.counts()["accepted"] / 250
    assert accepted > 0.5
    error = np.sqrt(exact * (1 - exact) / 125)
    assert abs(np.mean(right) - exact) < 4 * error


def test_seeds_are_put_where_they_were_generated(flow, tmp_path):
    simulation, bias = run(tmp_path)
    screen = dataclasses.replace(ScreenSettings(), clash_fraction=0.0)
    settings = ProposalSettings(screen=screen, settle_steps=1)
    reporter = ProposalReporter(
        tmp_path / "s.csv", 5, flow, bias, mode="seed", targets=[[0.3]], settings=settings, seed=3
    )
    simulation.reporters.append(reporter)
    simulation.step(5)
    assert reporter.counts()["accepted"] == 1
    assert x_of(simulation) == pytest.approx(0.3, abs=0.05)


def test_a_molecule_does_not_take_the_place_of_a_particle(flow, tmp_path):
    _, bias = run(tmp_path)
    reporter = ProposalReporter(tmp_path / "m.csv", 10, flow, bias, mode="exact")

    class Free(PlainFeatures):
        keeps_place = False

    own = flow.features
    free = Free(own.atoms, own.centre, own.scale, own.linear, own.placed)
    with pytest.raises(ValueError, match="stand where they belong"):
        reporter.sampler = dataclasses.replace(flow, features=free)
    reporter.sampler = dataclasses.replace(flow)


def test_other_samplers_may_be_moved_as_a_whole():
    assert not keeps_place(ChainSampler(CHAIN, (CollectiveVariable("theta"),)))
