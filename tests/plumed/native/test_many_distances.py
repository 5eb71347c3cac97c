"""Many distances at once: against distances one by one, PLUMED, and finite differences."""

import itertools

import numpy as np
import pytest

from benchmarks.eight_atoms import BOXES, TOLERANCE, deviation, made, random_frames

PAIRS = list(itertools.combinations(range(1, 6), 2))


def distances(options="", name="d"):
    lines = (f"{name}{i}: DISTANCE ATOMS={a},{b} {options}\n" for i, (a, b) in enumerate(PAIRS))
    return "".join(lines), [f"{name}{i}" for i in range(len(PAIRS))]


@pytest.mark.plumed
@pytest.mark.parametrize("box", BOXES)
def test_they_act_as_plumeds_do(box, tmp_path):
    (lines, names), (more, others) = distances(), distances("NOPBC", "e")
    asked = [*names, "t", *others]
    text = f"UNITS LENGTH=A\n{lines}t: TORSION ATOMS=1,3,5,8\n{more}METAD ARG={','.join(asked)} "
    text += f"HEIGHT=1.2 PACE=5 SIGMA={','.join(['1.5'] * len(asked))}"
    found = deviation(text, BOXES[box], tmp_path, n=6)
    assert max(found.values, found.energy, found.forces) < TOLERANCE


@pytest.mark.plumed
def test_hills_that_follow_their_gradients_are_plumeds(tmp_path):
    lines, names = distances()
    text = f"{lines}t: TORSION ATOMS=1,3,5,8\nMETAD ARG={','.join([*names[:8], 't'])} "
    found = deviation(text + "HEIGHT=1.2 PACE=5 SIGMA=0.05 ADAPTIVE=GEOM", None, tmp_path, n=6)
    assert max(found.values, found.energy, found.forces) < TOLERANCE


def test_two_atoms_that_meet_are_not_pulled_apart(tmp_path):
    lines, names = distances()
    text = f"{lines}METAD ARG={','.join(names)} SIGMA={','.join(['0.1'] * 10)} HEIGHT=1 PACE=5"
    laid = random_frames(None, np.random.default_rng(0), 3)
    bias, context = made(text, "native", None, tmp_path, laid)
    frame = laid[0] + 0.01 * np.random.default_rng(1).normal(size=laid[0].shape)
    frame[1] = frame[0]
    context.setPositions(frame)
    state = context.getState(energy=True, forces=True, groups=bias.force_groups())
    forces = state.getForces(asNumpy=True)._value
    assert state.getPotentialEnergy()._value == pytest.approx(
        bias._engine.evaluate(frame, None, 5)[1], rel=1e-12
    )
    assert np.isfinite(forces).all()
    move = np.random.default_rng(2).normal(size=frame.shape)
    move[1] = move[0]  # so that they still meet
    ends = [bias._engine.evaluate(frame + s * move, None, 5)[1] for s in (1e-6, -1e-6)]
    assert np.sum(forces * move) == pytest.approx((ends[1] - ends[0]) / 2e-6, rel=1e-6)
