"""Two reporters that move two parts of a run, after each other at a step and at different ones."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray

from openmm_cgan import restore_run, save_run
from openmm_cgan.frames import read_frames
from openmm_cgan.internal_coordinates import PartZMatrix
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.reporters import FrameReporter, ProposalReporter, ProposalSettings
from openmm_cgan.testsystems import Chain, torsion
from tests.cases.chain_end import INPUTS, ChainEnd
from tests.cases.chain_sampler import ChainSampler
from tests.cases.exact_runs import CHAIN, FEW, Run, T, make_run, propose

DISTANCE = INPUTS["d"] + "PRINT ARG=d FILE=C STRIDE=100\n"
SEEDS = ProposalSettings(batch=4, settle_steps=25, minimise_iterations=20, heal_steps=20)


class OtherEnd(ChainEnd):
    """The first atom of the chain, which is the same from both ends."""

    def __init__(self, chain: Chain, variables: Any) -> None:
        super().__init__(chain, variables)
        self.atoms, self.rest = np.array([0]), np.array([3, 2, 1])
        held = chain.sample(1, T, 0)[0][self.rest]
        self.z = PartZMatrix([(0, 3, 2, 1)], [0], self.rest, held)


def state_of(run: Run) -> tuple[NDArray, NDArray]:
    state = run.simulation.context.getState(positions=True, velocities=True)
    found = state.getPositions(asNumpy=True), state.getVelocities(asNumpy=True)
    return found[0]._value.copy(), found[1]._value.copy()


def both_ends(
    folder: Path, intervals: tuple[int, int] = (10, 10), **arguments: Any
) -> tuple[Run, list[ProposalReporter]]:
    run = make_run(folder, DISTANCE, CHAIN)
    made = []
    for kind, interval, name in zip((ChainEnd, OtherEnd), intervals, "ab", strict=True):
        sampler = kind(CHAIN, run.bias.variables)
        given = {"mode": "local", **arguments}
        made.append(propose(run, folder / f"{name}.csv", interval, sampler=sampler, **given))
    return run, made


def rows_of(reporter: ProposalReporter) -> NDArray:
    return np.genfromtxt(reporter.path, delimiter=",", names=True, dtype=None, encoding=None)


@pytest.mark.parametrize("intervals", [(10, 10), (10, 15)])
def test_two_parts_moved_in_turn_have_their_populations(
    intervals: tuple[int, int], tmp_path: Path
) -> None:
    run, reporters = both_ends(tmp_path, intervals)
    run.simulation.reporters.insert(0, FrameReporter(tmp_path / "frames", 10, run.bias))
    run.simulation.step(1500)
    run.bias.close()
    x = read_frames(tmp_path / "frames").positions.astype(float)
    phi = np.array([torsion(one, (0, 1, 2, 3)) for one in x])
    one, two = (r.counts()["accepted"] / len(rows_of(r)) for r in reporters)
    rate = 1 - (1 - one) * (1 - two)  # that one of them has moved since the frame before
    expected = CHAIN.share_positive(T)
    error = np.sqrt(expected * (1 - expected) * (2 - rate) / rate / len(phi))
    assert error < 0.1
    assert abs((phi > 0).mean() - expected) < 3.5 * error


def test_the_second_goes_on_from_what_the_first_has_put_in(tmp_path: Path) -> None:
    run, (one, two) = both_ends(tmp_path, settings=dataclasses.replace(FEW, candidates=100))
    run.simulation.step(9)
    moved = 0
    for _ in range(25):
        del run.simulation.reporters[-2:]
        run.simulation.step(1)
        run.simulation.reporters += [one, two]
        state = run.simulation.context.getState(positions=True, energy=True)  # for both
        found = [state_of(run)[0]]
        for reporter in (one, two):
            reporter.report(run.simulation, state)
            found.append(state_of(run)[0])
        before, between, after = found
        is_moved = [not np.array_equal(a, b) for a, b in ((before, between), (between, after))]
        np.testing.assert_array_equal(before[:3], between[:3])
        np.testing.assert_array_equal(between[1:], after[1:])
        moved += all(is_moved)
        run.simulation.step(9)
    assert moved > 0


def test_each_draws_numbers_of_its_own(tmp_path: Path) -> None:
    run, (one, two) = both_ends(tmp_path / "both")
    run.simulation.step(40)
    ours, theirs = rows_of(one)["seed"], rows_of(two)["seed"]
    assert len(ours) == len(theirs) == 4
    assert not set(ours.tolist()) & set(theirs.tolist())
    alone, (first, _) = both_ends(tmp_path / "alone")
    alone.simulation.reporters.pop()
    alone.simulation.step(40)
    assert rows_of(first)["seed"].tolist() == ours.tolist()


# ---- stopped and gone on with


def begin(folder: Path, steps: int) -> dict[str, Any]:
    """Begin or go on to a step, and save the run there."""
    folder.mkdir(exist_ok=True)
    goes_on = (folder / "run.chk").exists()
    bias = PlumedBias(DISTANCE, CHAIN.topology(), temperature=T, directory=folder)
    system = CHAIN.system()
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.001)
    integrator.setRandomNumberSeed(11)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = openmm.app.Simulation(CHAIN.topology(), system, integrator, platform)
    simulation.context.setPositions(CHAIN.sample(1, T, seed=1)[0])
    simulation.context.setVelocitiesToTemperature(T, 12)
    keepers: dict[str, Any] = {"bias": bias}
    keepers["frames"] = FrameReporter(folder / "frames", 7, bias, append=goes_on)
    for name, kind, interval in (("a", ChainEnd, 10), ("b", OtherEnd, 15)):
        keepers[name] = ProposalReporter(
            folder / f"{name}.csv", interval, kind(CHAIN, bias.variables), bias, mode="local",
            append=goes_on, settings=FEW,
        )  # fmt: skip
    if goes_on:
        restore_run(folder / "run.chk", simulation, keepers)
    else:
        bias.attach(simulation)
        simulation.reporters += [keepers[name] for name in ("frames", "a", "b")]
    simulation.step(steps - simulation.currentStep)
    save_run(folder / "run.chk", simulation, keepers)
    keepers["frames"].close()
    bias.close()
    run = Run(simulation, bias, ChainSampler(CHAIN, bias.variables))
    return {"state": state_of(run), "keepers": keepers, "simulation": simulation}


def test_a_run_with_two_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = begin(tmp_path / "whole", 90)
    begin(tmp_path / "halves", 30)  # a step of both
    halves = begin(tmp_path / "halves", 90)
    for ours, theirs in zip(whole["state"], halves["state"], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name in ("a.csv", "b.csv"):
        text = (tmp_path / "whole" / name).read_text()
        assert text == (tmp_path / "halves" / name).read_text()
        assert len(text.splitlines()) > 5
    frames = [read_frames(tmp_path / folder / "frames") for folder in ("whole", "halves")]
    np.testing.assert_array_equal(frames[0].positions, frames[1].positions)
    np.testing.assert_array_equal(frames[0].segment, frames[1].segment)


def test_the_state_of_one_is_not_taken_for_that_of_another(tmp_path: Path) -> None:
    keepers = begin(tmp_path / "run", 30)["keepers"]
    saved = keepers["a"].saved()
    other = ProposalReporter(
        tmp_path / "run" / "b.csv", 10, keepers["b"].sampler, keepers["bias"], mode="local",
        append=True, settings=FEW,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"was saved by proposals in a\.csv"):
        other.check_saved(saved, None, tmp_path / "run.chk")


# ---- seeds beside other moves


def test_a_settle_window_goes_on_whatever_others_put_in(tmp_path: Path) -> None:
    run = make_run(tmp_path, DISTANCE, CHAIN)
    frames = FrameReporter(tmp_path / "frames", 5, run.bias)
    run.simulation.reporters.append(frames)
    sampler = ChainSampler(CHAIN, run.bias.variables)
    seeds = propose(run, tmp_path / "s.csv", 60, sampler=sampler, mode="seed", settings=SEEDS)
    end = ChainEnd(CHAIN, run.bias.variables)
    local = propose(run, tmp_path / "l.csv", 10, sampler=end, mode="local")
    run.simulation.step(240)
    assert seeds.counts()["accepted"] > 1
    assert local.counts()["accepted"] > 5
    found = read_frames(tmp_path / "frames", settling=True)
    rows = rows_of(seeds)
    windows = [(s, s + 25) for s in rows["step"][rows["accepted"] == 1]]
    expected = [any(low < step < high for low, high in windows) for step in found.step]
    assert found.settling.tolist() == expected
    moved = rows_of(local)
    inside = [any(low < s < high for low, high in windows) for s in moved["step"]]
    assert (moved["accepted"] == 1)[inside].any(), "a move in a window, which it does not end"


def test_several_of_seeds_need_windows_that_are_given(tmp_path: Path) -> None:
    run = make_run(tmp_path, DISTANCE, CHAIN)
    sampler = ChainSampler(CHAIN, run.bias.variables)
    measured = dataclasses.replace(SEEDS, settle_steps=None)
    propose(run, tmp_path / "a.csv", 20, sampler=sampler, mode="seed", settings=SEEDS)
    propose(run, tmp_path / "b.csv", 30, sampler=copy.copy(sampler), mode="seed", settings=measured)
    with pytest.raises(ValueError, match=r"give all of them settings=ProposalSettings\(settle_"):
        run.simulation.step(1)
    run.simulation.reporters.pop()
    propose(run, tmp_path / "c.csv", 30, sampler=copy.copy(sampler), mode="seed", settings=SEEDS)
    run.simulation.step(60)
    assert len(rows_of(run.simulation.reporters[-1])) == 2


def test_what_can_not_stand_beside_each_other_is_refused(tmp_path: Path) -> None:
    run, reporters = both_ends(tmp_path)
    run.simulation.reporters.insert(2, FrameReporter(tmp_path / "frames", 10, run.bias))
    with pytest.raises(RuntimeError, match="FrameReporter comes after ProposalReporter"):
        run.simulation.step(10)
    run.simulation.reporters[:] = reporters[:1]
    end = OtherEnd(CHAIN, run.bias.variables)
    propose(run, reporters[0].path, 10, mode="local", sampler=end, append=True)
    with pytest.raises(ValueError, match=r"2 reporters of this run write to .*a\.csv"):
        run.simulation.step(10)
