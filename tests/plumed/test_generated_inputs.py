"""Inputs and frames that hypothesis makes, native against real PLUMED: values, bias and forces.

``GENERATED_INPUTS=5000 pytest tests/plumed/test_generated_inputs.py`` tries more than the
suite, others each time.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.eight_atoms import N_ATOMS, TOLERANCE, made, random_frames

pytestmark = pytest.mark.plumed

ATOMS = st.integers(1, N_ATOMS)
SWITCHES = st.sampled_from(
    (
        "R_0={r}", "R_0={r} NN=8 MM=14", "R_0={r} D_0=0.1", "SWITCH={{RATIONAL R_0={r} D_MAX=1.2}}",
        "SWITCH={{EXP R_0={r} D_0=0.05}}", "SWITCH={{GAUSSIAN R_0={r} D_MAX=1}}",
        "SWITCH={{TANH R_0={r}}}", "SWITCH={{SMAP R_0={r} A=8 B=4}}",
        "SWITCH={{CUSTOM R_0={r} FUNC=1/(1+x^4)}}",
    )
)  # fmt: skip


@st.composite
def boxes(draw):
    """No box, or one in OpenMM's reduced form that the frames' molecules fit into."""
    if draw(st.booleans()):
        return None
    a, b, c = (draw(st.floats(3.2, 5)) for _ in range(3))
    if draw(st.booleans()):
        return np.diag([a, b, c])
    tilt = st.floats(-0.49, 0.49)
    return np.array([[a, 0, 0], [a * draw(tilt), b, 0], [a * draw(tilt), b * draw(tilt), c]])


@st.composite
def several_atoms(draw, number):
    return ",".join(map(str, draw(st.lists(ATOMS, min_size=number, max_size=number, unique=True))))


@st.composite
def variables(draw, number):
    """Statements that define the value of label x<number>, and what it may be restrained with."""
    x = f"x{number}"
    pbc = draw(st.sampled_from(("", "", " NOPBC")))
    kind = draw(st.integers(0, 7))
    if kind == 0:
        return f"{x}: TORSION ATOMS={draw(several_atoms(4))}{pbc}\n"
    if kind == 1:
        return f"{x}: ANGLE ATOMS={draw(several_atoms(3))}{pbc}\n"
    if kind == 2:
        return f"{x}: DISTANCE ATOMS={draw(several_atoms(2))}{pbc}\n"
    if kind == 3:
        switch = draw(SWITCHES).format(r=round(draw(st.floats(0.1, 0.5)), 3))
        groups = f"GROUPA={draw(several_atoms(3))} GROUPB={draw(several_atoms(2))}"
        return f"{x}: COORDINATION {groups} {switch}{pbc}\n"
    if kind == 4:
        switch = draw(SWITCHES).format(r=0.3)
        switch = switch if switch.startswith("SWITCH") else f"SWITCH={{RATIONAL {switch}}}"
        pairs = f"ATOMS1={draw(several_atoms(2))} ATOMS2={draw(several_atoms(2))}"
        return f"{x}: CONTACTMAP {pairs} {switch} SUM{pbc}\n"
    group = draw(several_atoms(draw(st.integers(3, 6))))
    if kind == 5:
        return f"{x}: GYRATION ATOMS={group}{pbc}\n"
    centre = draw(st.sampled_from(("COM", "CENTER", "CENTER MASS")))
    shape, more = draw(st.sampled_from((("DISTANCE", 1), ("ANGLE", 2), ("TORSION", 3))))
    others = draw(several_atoms(more))
    name, _, flag = centre.partition(" ")
    return (
        f"c{number}: {name} ATOMS={group} {flag}{pbc}\n{x}: {shape} ATOMS=c{number},{others}{pbc}\n"
    )


@st.composite
def inputs(draw):
    """Up to three variables, functions of them, and biases."""
    number = draw(st.integers(1, 3))
    text = draw(st.sampled_from(("", "UNITS LENGTH=A ENERGY=kcal/mol\n")))
    text += "".join(draw(variables(i)) for i in range(number))
    names = [f"x{i}" for i in range(number)]
    if draw(st.booleans()):
        text += f"f: CUSTOM ARG={','.join(names)} VAR={','.join('pqr'[:number])} "
        text += f"FUNC={draw(st.sampled_from(('sin(p)', 'p*p+1', 'exp(-p)', 'abs(p-0.7)')))} "
        text += "PERIODIC=NO\n"
        names.append("f")
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(names))
        at, kappa = round(draw(st.floats(-2, 3)), 3), round(draw(st.floats(0.1, 9)), 3)
        bias = draw(st.sampled_from(("RESTRAINT", "UPPER_WALLS", "LOWER_WALLS")))
        text += f"{bias} ARG={name} AT={at} KAPPA={kappa}\n"
    return text


@settings(
    max_examples=int(os.environ.get("GENERATED_INPUTS", "60")), deadline=None,
    derandomize="GENERATED_INPUTS" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(text=inputs(), box=boxes(), seed=st.integers(0, 1000))
def test_native_is_plumed(text: str, box: np.ndarray | None, seed: int, tmp_path: Path) -> None:
    """Molecules bonded along the chain of atoms; whole, as a run has them, but in any image."""
    rng = np.random.default_rng(seed)
    frames = random_frames(box, rng, n=3, torn=False)
    if box is not None:
        frames += rng.integers(-1, 2, size=(3, 1, 3)) @ box
    (ours, our_context), (theirs, their_context) = (
        made(text, backend, box, tmp_path, frames[:0], bonded=True)
        for backend in ("native", "kernel")
    )
    for frame in frames:
        found = []
        for bias, context in ((ours, our_context), (theirs, their_context)):
            context.setPositions(frame)
            state = context.getState(energy=True, forces=True, groups=bias.force_groups())
            values, energy = bias._engine.evaluate(frame, box, 0)
            assert energy == pytest.approx(state.getPotentialEnergy()._value, rel=1e-9, abs=1e-9)
            found.append((values, energy, state.getForces(asNumpy=True)._value))
        for mine, plumeds in zip(*found, strict=True):
            assert np.max(np.abs(mine - plumeds) / (1 + np.abs(plumeds))) < TOLERANCE
    ours.close()
    theirs.close()
