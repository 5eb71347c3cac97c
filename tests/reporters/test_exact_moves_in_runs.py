"""Exact moves in living simulations: right populations, nothing changed when refused, refusals."""

import csv
import dataclasses
import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from openmm import app
from scipy import stats

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.frames import read_frames
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import GridConditions
from openmm_cgan.reporters import FrameReporter, ProposalReporter
from openmm_cgan.reporters.moves import settled_moves, why_not_exact
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import Chain, alanine_dipeptide
from tests.cases.chain_sampler import INPUTS, ChainSampler, internal_of
from tests.cases.exact_runs import CHAIN, FEW, HELD, PLAIN, Run, T, make_run, propose

KT = GAS_CONSTANT * T
RESTRAINT = INPUTS["theta"] + "RESTRAINT ARG=theta AT=1.7 KAPPA=30\n"
METAD = INPUTS["theta"] + (
    "METAD ARG=theta SIGMA=0.1 HEIGHT=0.5 PACE=20 FILE=HILLS GRID_MIN=0 GRID_MAX=pi GRID_BIN=200\n"
)
OPES = INPUTS["theta"] + "OPES_METAD ARG=theta PACE=20 BARRIER=20 TEMP=300 SIGMA=0.1\n"
WALL = "UPPER_WALLS ARG=theta AT=1.8 KAPPA=50\n"


def snapshot(simulation: app.Simulation) -> dict[str, object]:
    state = simulation.context.getState(positions=True, velocities=True)
    return {
        "positions": state.getPositions(asNumpy=True)._value.tobytes(),
        "velocities": state.getVelocities(asNumpy=True)._value.tobytes(),
        "step": simulation.currentStep,
        "time": state.getTime()._value,
    }


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---- the right populations, from frames of the run


@pytest.mark.parametrize(("chain", "text"), [(CHAIN, RESTRAINT), (HELD, PLAIN)])
def test_populations_across_a_barrier_are_the_analytic_ones(
    chain: Chain, text: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path, text, chain)
    run.simulation.reporters.append(FrameReporter(tmp_path / "frames", 20, run.bias))
    reporter = propose(run, tmp_path / "p.csv")
    run.simulation.step(16_000)
    run.bias.close()
    frames = read_frames(tmp_path / "frames")
    assert len(frames) == 800, "no settle window"
    found = internal_of(frames.positions.astype(float))
    positive = found["phi"] > 0
    # a frame is another one's copy, as to its well, unless a move came between: thinned to that
    rate = reporter.counts()["accepted"] / 800
    expected = chain.share_positive(T)
    error = math.sqrt(expected * (1 - expected) * (2 - rate) / rate / len(frames))
    assert error < 0.05
    assert abs(positive.mean() - expected) < 3.5 * error
    # the torsion within its wells, and the angle with its bias and its Fixman factor
    thin = slice(None, None, max(1, round(3 / rate)))
    for name, density in (("phi", torsion_density), ("theta0", angle_density)):
        grid, cumulative = density(chain, text)
        values = found[name][thin]
        assert (
            stats.kstest(values, lambda x, g=grid, c=cumulative: np.interp(x, g, c)).pvalue > 1e-3
        )


def torsion_density(chain: Chain, text: str) -> tuple[NDArray, NDArray]:
    grid = np.linspace(-math.pi, math.pi, 4001)
    return grid, normalised(chain.torsion_density(grid, T))


def angle_density(chain: Chain, text: str) -> tuple[NDArray, NDArray]:
    grid = np.linspace(0.0, math.pi, 1001)
    density = chain.angle_density(grid, T)
    if chain.bond_stiffness is None:
        both = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
        density = density * (chain.fixman(both).reshape(1001, -1) * density).sum(axis=1)
    if text == RESTRAINT:
        density = density * np.exp(-0.5 * 30 * (grid - 1.7) ** 2 / KT)
    return grid, normalised(density)


def normalised(density: NDArray) -> NDArray:
    total = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return total / total[-1]


def test_without_moves_the_barrier_is_not_crossed(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.simulation.reporters.append(FrameReporter(tmp_path / "frames", 20, run.bias))
    run.simulation.step(10_000)
    phi = internal_of(read_frames(tmp_path / "frames").positions.astype(float))["phi"]
    assert (phi > 0).all() or (phi < 0).all()


@pytest.mark.parametrize("text", [METAD, OPES, RESTRAINT + WALL], ids=["METAD", "OPES", "walls"])
def test_the_energy_is_that_of_the_run_with_its_bias(text: str, tmp_path: Path) -> None:
    run = make_run(tmp_path, text)
    reporter = propose(run, tmp_path / "p.csv")
    seen = []
    for _ in range(5):
        run.simulation.step(45)
        state = run.simulation.context.getState(positions=True, energy=True)
        x = state.getPositions(asNumpy=True)._value[None]
        move = reporter._move
        weighed = move.weigh(x, run.bias.cv_values(x), np.zeros(1))
        seen.append(weighed.bias[0])
        total = weighed.energies[0] + weighed.bias[0]
        assert total == pytest.approx(state.getPotentialEnergy()._value, abs=1e-3)
    run.bias.close()
    assert np.abs(seen).max() > 0.3, "the bias matters"


# ---- what a move leaves behind


class Hopeless(ChainSampler):
    """Candidates that cannot win: not finite, off their CV, or of next to no weight."""

    def sample_with_log_prob(
        self, cvs: NDArray, n: int | None = None, seed: int = 0
    ) -> tuple[NDArray, NDArray]:
        x, log_prob = super().sample_with_log_prob(cvs, n, seed)
        x[::3] = np.nan
        x[1::3, 0] += 0.05
        log_prob[2::3] += 1e4
        return x, log_prob


def test_after_a_refused_move_the_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def followed(folder: Path, with_moves: bool) -> list[dict[str, object]]:
        run = make_run(folder, METAD)
        if with_moves:
            run.sampler = Hopeless(CHAIN, run.bias.variables)
            reporters.append(propose(run, folder / "p.csv", 10))
        states = []
        for _ in range(5):
            run.simulation.step(20)
            states.append(snapshot(run.simulation))
        run.bias.close()
        return states

    reporters: list[ProposalReporter] = []
    states = followed(tmp_path / "run", with_moves=True)
    assert states == followed(tmp_path / "plain", with_moves=False)
    assert reporters[0].counts() == {"accepted": 0, "kept current": 10}
    assert reporters[0].candidate_counts() == {"accepted": 60, "not finite": 70, "cv error": 70}
    assert (tmp_path / "run/HILLS").read_text() == (tmp_path / "plain/HILLS").read_text()
    for row in rows_of(tmp_path / "run/p.csv"):
        assert row["refused"] == "cv error 7; not finite 7"
        # those not finite cost no energy
        assert (row["candidates"], row["energies"]) == ("20", "14")


def test_an_accepted_move_starts_a_segment_that_need_not_settle(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    asked = []

    class Recording(FrameReporter):
        def start_segment(self, origin: dict, settle_steps: int = 0) -> int:
            asked.append((origin, settle_steps))
            return super().start_segment(origin, settle_steps)

    run.simulation.reporters.append(Recording(tmp_path / "frames", 10, run.bias))
    reporter = propose(run, tmp_path / "p.csv")
    run.simulation.step(400)
    rows = rows_of(tmp_path / "p.csv")
    accepted = [row for row in rows if row["accepted"] == "1"]
    assert reporter.mode == "exact"
    assert 0 < len(accepted) == len(asked) == reporter.counts()["accepted"]
    assert all(origin["mode"] == "exact" and steps == 0 for origin, steps in asked)
    frames = read_frames(tmp_path / "frames", settling=True)
    assert not frames.settling.any()
    assert int(rows[-1]["segment"]) == 1 + len(accepted)
    # the frame of a step is taken before the move of that step
    assert frames.segment[-1] == 1 + sum(row["step"] != "400" for row in accepted)
    for row in rows:
        assert row["mode"] == "exact"
        assert row["theta_generated"] == row["theta_healed"]
        assert row["reason"] in ("", "kept current")
        assert 1 <= float(row["effective_sample_size"]) <= 20
        assert 0.05 <= float(row["largest_weight"]) <= 1
    for row in accepted:  # the angle is a coordinate of the generator
        assert float(row["theta_target"]) == pytest.approx(float(row["theta_generated"]), abs=1e-6)
    summary = reporter.summary()
    assert f"{len(accepted)} of 20 proposals accepted (mode exact), effective sample" in summary


def test_the_molecule_does_not_jump_and_obeys_its_constraints(tmp_path: Path) -> None:
    run = make_run(tmp_path, PLAIN, HELD)
    reporter = propose(run, tmp_path / "p.csv", 5)
    run.simulation.step(4)
    centre = np.array([0.0, 0.0, 0.0])
    while reporter.counts()["accepted"] < 10:
        before = run.simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
        run.simulation.step(5)
        x = run.simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
        centre = np.maximum(centre, np.abs(x.mean(axis=0) - before.mean(axis=0)))
        np.testing.assert_allclose(np.linalg.norm(np.diff(x, axis=0), axis=1), 0.15, rtol=1e-5)
    assert centre.max() < 0.05


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run = make_run(tmp_path / name)
        propose(run, tmp_path / name / "p.csv", seed=seed)
        run.simulation.step(200)
        texts.append((tmp_path / name / "p.csv").read_text())
    assert texts[0] == texts[1] != texts[2]


# ---- where the current configuration has no weight it stays


def test_outside_the_conditions_or_the_generator_it_stays(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.sampler.cv_range = np.array([[2.7, 2.9]])
    reporter = propose(run, tmp_path / "p.csv", 10)
    called = run.sampler.calls  # by the check and the pilot
    run.simulation.step(50)
    assert reporter.counts() == {"accepted": 0, "kept current: outside conditions": 5}
    assert run.sampler.calls == called, "nothing is generated in vain"
    run = make_run(tmp_path)
    log_prob = run.sampler.log_prob
    run.sampler.log_prob = lambda x, c: np.full(1, np.inf) if len(x) == 1 else log_prob(x, c)
    reporter = propose(run, tmp_path / "p.csv", 10)
    run.simulation.step(50)
    assert reporter.counts() == {"accepted": 0, "kept current: outside generator": 5}


class Mirrored:
    """Alanine dipeptide and its mirror image in turn, at whatever CVs are asked for."""

    has_density, n_atoms, atoms = True, 22, np.arange(22)
    topology_hash, cv_range = "", None
    condition_noise = np.array([0.5, 0.5])
    constant_bonds: NDArray = np.zeros((0, 2), dtype=int)
    constant_others: tuple[str, ...] = ()

    def __init__(self, variables: Any, x: NDArray) -> None:
        self.variables, self.x = variables, x

    def sample_with_log_prob(
        self, cvs: NDArray, n: int | None = None, seed: int = 0
    ) -> tuple[NDArray, NDArray]:
        x = np.repeat(self.x[None], len(cvs), axis=0)
        x[::2] *= [1, 1, -1]
        return x, np.zeros(len(cvs))

    def sample(self, cvs: NDArray, n: int | None = None, seed: int = 0) -> NDArray:
        return self.sample_with_log_prob(cvs, n, seed)[0]

    def log_prob(self, positions: NDArray, cvs: NDArray) -> NDArray:
        return np.zeros(len(cvs))


def test_mirror_images_have_no_weight_and_cost_no_energy(tmp_path: Path) -> None:
    molecule = alanine_dipeptide("C7eq", constraints=None)
    text = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\nPRINT ARG=phi,psi FILE=C\n"
    bias = PlumedBias(text, molecule.topology, temperature=T, directory=tmp_path)
    bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(T, 1.0, 0.0005)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    bias.attach(simulation)
    sampler = Mirrored(bias.variables, molecule.positions)
    reporter = propose(Run(simulation, bias, sampler), tmp_path / "p.csv", 10)
    simulation.step(20)
    assert reporter.candidate_counts() == {"accepted": 20, "chirality": 20}
    assert [row["energies"] for row in rows_of(tmp_path / "p.csv")] == ["11", "11"]


# ---- what it says


def test_weights_dominated_by_a_few_are_told(tmp_path: Path, caplog) -> None:
    run = make_run(tmp_path)
    run.sampler.spread = 0.02  # far too narrow, and shifted
    uniform = ProposalSettings(candidates=20, conditions="uniform")
    propose(run, tmp_path / "p.csv", 2, settings=uniform)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        run.simulation.step(100)
        told = [r for r in caplog.records if "dominated by a few" in r.message]
    assert len(told) == 1, "not again and again"


def test_candidates_tell_where_the_generator_is_poor(tmp_path: Path) -> None:
    from openmm_cgan.metrics import effective_sample_sizes

    run = make_run(tmp_path, RESTRAINT)
    run.sampler.cv_range = np.array([[1.2, 2.6]])
    reporter = propose(run, tmp_path / "p.csv", 5)
    cvs, log_weights = reporter.weighed_candidates()
    assert cvs.shape == (0, 1)
    run.simulation.step(200)
    cvs, log_weights = reporter.weighed_candidates()
    assert cvs.shape == (40 * 20, 1)
    sizes = effective_sample_sizes(cvs, log_weights, run.sampler.cv_range, bins=4)
    assert sizes.counts.sum() == len(cvs)
    assert (sizes.share > 0.05).all()
    assert (sizes.share < 0.9).all()
    # they are weights against the unbiased ensemble: its angles are right although a bias acted
    w = np.exp(log_weights - log_weights.max())
    grid, cumulative = angle_density(CHAIN, PLAIN)
    expected = np.interp(1.9, grid, cumulative)
    below = (cvs[:, 0] < 1.9) - expected
    assert abs(w @ below) < 4 * math.sqrt(w**2 @ below**2)


# ---- where it cannot be exact


def with_box(run: Run) -> None:
    force = openmm.NonbondedForce()
    for _ in range(4):
        force.addParticle(0.0, 0.1, 0.0)
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    run.simulation.system.addForce(force)


def with_a_ghost(run: Run) -> None:
    run.simulation.system.setParticleMass(3, 0.0)


def with_angles_held(run: Run) -> None:
    run.simulation.system.addConstraint(0, 2, 0.25)


def missing_atoms(run: Run) -> None:
    run.sampler.atoms = np.arange(3)
    run.sampler.n_atoms = 3


def still_others(run: Run) -> None:
    run.sampler.constant_others = ["angle 1-2-3"]


def unknown_density(run: Run) -> None:
    run.sampler.has_density = False


def other_bias(run: Run) -> None:
    def refuse(cvs: NDArray) -> NDArray:
        raise ValueError("the bias b depends on d")

    run.bias.bias_of_cvs = refuse


def listed_models(run: Run) -> None:
    run.bias = SimpleNamespace(
        remembers=True, variables=run.bias.variables, simulation=None, temperature=None
    )


CANNOT = {
    with_box: "periodic box",
    with_a_ghost: r"fixed particles \(mass 0\)",
    with_angles_held: r"constrains 1 distances .* holds 0 bonds.*\[0, 2\]",
    missing_atoms: "1 of the System's particles are not generated",
    still_others: "does not vary angle 1-2-3",
    unknown_density: "no known density|density of what is proposed",
    other_bias: "the bias b depends on d",
    listed_models: "depends on the steps before",
}


@pytest.mark.parametrize("spoil", CANNOT)
def test_exact_is_refused_before_anything_moves_and_auto_takes_seed(
    spoil: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path)
    assert why_not_exact(run.sampler, run.simulation, run.bias) == ""
    spoil(run)
    before = snapshot(run.simulation)

    def attempt() -> None:
        propose(run, tmp_path / "p.csv")
        run.simulation.step(20)

    with pytest.raises(ValueError, match=CANNOT[spoil]):
        attempt()
    assert snapshot(run.simulation) == before
    run = make_run(tmp_path)
    spoil(run)
    if spoil is with_a_ghost:  # a seed would move it as well
        with pytest.raises(ValueError, match=r"atoms \[3\] have mass 0"):
            propose(run, tmp_path / "q.csv", mode="auto")
        return
    with caplog.at_level(logging.INFO, "openmm_cgan"):
        reporter = propose(run, tmp_path / "p.csv", mode="auto")
        kind, *_ = settled_moves(reporter._wanted, reporter._asked, run.simulation)
    assert kind.mode == "seed"
    assert any("mode='auto' takes 'seed'" in record.message for record in caplog.records)


def test_auto_takes_exact_where_it_can(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    reporter = propose(run, tmp_path / "p.csv", mode="auto")
    run.simulation.step(20)
    assert reporter.mode == "exact"
    # targets are for seeds
    assert propose(run, tmp_path / "q.csv", mode="auto", targets="least_visited").mode == "seed"
    with pytest.raises(ValueError, match="targets are for seeds"):
        propose(run, tmp_path / "q.csv", targets=np.array([[1.9]]))


def test_forces_from_outside_are_refused(tmp_path: Path) -> None:
    system = CHAIN.system()
    place = openmm.CustomExternalForce("100*x^2")
    place.addParticle(0)
    system.addForce(place)
    run = make_run(tmp_path, system=system)
    with pytest.raises(ValueError, match="moved and turned as a whole"):
        propose(run, tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists(), "nothing is begun"


def test_auto_takes_seed_where_forces_hold_a_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    system = CHAIN.system()
    place = openmm.CustomExternalForce("100*x^2")
    place.addParticle(0)
    system.addForce(place)
    run = make_run(tmp_path, system=system)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        assert propose(run, tmp_path / "p.csv", mode="auto").mode == "seed"
    assert "mode='auto' takes 'seed': exact proposals need forces that do not" in caplog.text


def test_other_lengths_than_the_constraints_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, PLAIN, HELD)
    run.sampler.chain = dataclasses.replace(HELD, bond=0.151)
    with pytest.raises(ValueError, match=r"holds the atoms \[\d, \d\] at 0.15100 nm"):
        propose(run, tmp_path / "p.csv")


def test_conditions_that_the_generator_refuses_are_found_before_a_step(tmp_path: Path) -> None:
    class Narrow(ChainSampler):
        def sample_with_log_prob(
            self, cvs: NDArray, n: int | None = None, seed: int = 0
        ) -> tuple[NDArray, NDArray]:
            if cvs.max() > 2.0:
                raise ValueError("training saw 1 to 2")
            return super().sample_with_log_prob(cvs, n, seed)

    run = make_run(tmp_path)
    run.sampler = Narrow(CHAIN, run.bias.variables)
    wide = GridConditions(np.ones(4), [[1.0, 2.5]], run.bias.variables)
    settings = dataclasses.replace(FEW, conditions=wide)
    before = snapshot(run.simulation)
    with pytest.raises(ValueError, match="training saw 1 to 2"):
        propose(run, tmp_path / "p.csv", settings=settings)
    assert snapshot(run.simulation) == before


def test_settings_of_exact_moves_are_checked() -> None:
    with pytest.raises(ValueError, match="candidates is 0"):
        ProposalSettings(candidates=0)
    with pytest.raises(ValueError, match="conditions is 'all'"):
        ProposalSettings(conditions="all")


# ---- beside something else that changes


@pytest.mark.parametrize("other", ["METAD on a grid", "MOVINGRESTRAINT", "Metadynamics"])
def test_exact_moves_beside_another_bias_that_changes_are_refused(
    other: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path)
    system = run.simulation.system
    if other == "Metadynamics":
        angle = openmm.CustomAngleForce("theta")
        angle.addAngle(0, 1, 2, [])
        variable = app.BiasVariable(angle, 0, math.pi, 0.1)
        app.Metadynamics(system, [variable], 300, 5, 1, 100)
    else:
        moving = (
            INPUTS["theta"] + "MOVINGRESTRAINT ARG=theta STEP0=0 AT0=1 KAPPA0=9 STEP1=9 AT1=2\n"
        )
        text = METAD if other.startswith("METAD") else moving
        PlumedBias(text, temperature=T, directory=tmp_path / "other").add_to(system)
    again = app.Simulation(
        run.simulation.topology,
        system,
        openmm.LangevinMiddleIntegrator(T, 1, 0.002),
        run.simulation.context.getPlatform(),
    )
    again.context.setPositions(run.simulation.context.getState(positions=True).getPositions())
    assert "may change during the run" in why_not_exact(run.sampler, again, run.bias)


def test_a_force_that_is_changed_behind_an_exact_move_stops_it(tmp_path: Path) -> None:
    """A restraint of another bias is moved in the Context: the copy cannot know."""
    run = make_run(tmp_path)
    propose(run, tmp_path / "p.csv")
    run.simulation.step(100)
    [bond, *_] = [f for f in run.simulation.system.getForces() if hasattr(f, "getNumBonds")]
    i, j, length, *stiffness = bond.getBondParameters(0)
    bond.setBondParameters(0, i, j, length * 1.1, *stiffness)
    bond.updateParametersInContext(run.simulation.context)
    with pytest.raises(RuntimeError, match=r"in the run and .* in the copy that weighs"):
        run.simulation.step(100)


def test_a_temperature_that_changes_often_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Simulated tempering, as OpenMM does it: by the integrator's temperature, between steps."""
    run = make_run(tmp_path)
    reporter = propose(run, tmp_path / "p.csv")
    for temperature in (T, 1.1 * T, T, 1.2 * T, T):
        run.simulation.integrator.setTemperature(temperature)
        run.simulation.step(20)
        move = reporter._move
        assert move is not None
        assert move.kT == pytest.approx(KT * temperature / T)
    [told] = [r.message for r in caplog.records if "proposals go on at" in r.message]
    assert "330.0 K" in told


def test_a_changed_temperature_is_that_of_the_weights_and_velocities(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    reporter = propose(run, tmp_path / "p.csv")
    run.simulation.step(40)
    run.simulation.integrator.setTemperature(2 * T)
    run.simulation.step(40)
    move = reporter._move
    assert move is not None
    assert move.kT == pytest.approx(2 * KT)
    assert reporter._temperature == pytest.approx(2 * T)
