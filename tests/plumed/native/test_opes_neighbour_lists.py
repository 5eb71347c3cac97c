"""Lists of OPES kernels, which depend on earlier steps, against real PLUMED."""

import numpy as np
import pytest

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError
from tests.cases.biased_runs import phase_point
from tests.cases.driver_runs import compare, driven, walk
from tests.cases.eight_atoms import chain_simulation

plumed = pytest.mark.plumed
VARIABLES = "t: TORSION ATOMS=1,3,4,6\nd: DISTANCE ATOMS=5,8\n"


OPES = {
    "tight": "o: OPES_METAD ARG=t,d SIGMA=0.1,0.01 PACE=4 BARRIER=15 NLIST_PARAMETERS=1.1,0.1 "
    "STATE_WFILE=STATE STATE_WSTRIDE=60",
    "as it comes": "o: OPES_METAD ARG=t SIGMA=0.05 PACE=3 BARRIER=10 NLIST CALC_WORK",
    "reset": "o: OPES_METAD ARG=t,d SIGMA=0.1,0.01 PACE=7 BARRIER=15 NLIST_PACE_RESET "
    "COMPRESSION_THRESHOLD=0.3 RECURSIVE_MERGE_OFF CALC_WORK",
    "short": "o: OPES_METAD ARG=t,d SIGMA=0.1,0.02 PACE=2 BARRIER=15 KERNEL_CUTOFF=1.1 "
    "COMPRESSION_THRESHOLD=1.05 NLIST_PARAMETERS=1.01,0.16 FIXED_SIGMA",
    "never merged": "o: OPES_METAD_EXPLORE ARG=d SIGMA=0.003 PACE=2 BARRIER=20 NLIST "
    "NLIST_PARAMETERS=1.5,0.2 COMPRESSION_THRESHOLD=0",
    "adaptive": "o: OPES_METAD ARG=d,t ADAPTIVE_SIGMA_STRIDE=20 PACE=5 BARRIER=12 NLIST",
}
PRINT = "PRINT ARG=t,d,o.* STRIDE=3 FILE=COLVAR\n"


@plumed
@pytest.mark.parametrize("text", OPES.values(), ids=OPES.keys())
def test_opes_with_a_neighbour_list_is_plumeds(text, tmp_path):
    there = walk(75)
    frames = np.concatenate([there, there[::-1]])  # back to where kernels are
    driven(f"{VARIABLES}{text} FMT=%14.8f\n{PRINT}", tmp_path, frames)
    compare(tmp_path, "COLVAR", "KERNELS", "forces")
    columns = read_fields(tmp_path / "native" / "COLVAR").columns
    assert np.any(columns["o.nlker"] < columns["o.nker"])  # something is left out
    assert np.any(columns["o.nlsteps"] > 1)
    if "STATE" in text:
        compare(tmp_path, "STATE")


@plumed
@pytest.mark.parametrize("source", ["KERNELS", "STATE"])
def test_a_restart_begins_a_new_list_as_plumed_does(source, tmp_path):
    text = f"{VARIABLES}{OPES['tight']} FMT=%14.8f\n{PRINT}"
    frames = walk(180)
    driven(text, tmp_path, frames[:90])
    for backend in ("native", "kernel"):
        (tmp_path / backend / "STATE").rename(tmp_path / backend / "BEFORE")
    if source == "STATE":
        text = text.replace("STATE_WFILE", "STATE_RFILE=BEFORE STATE_WFILE")
    driven(text, tmp_path, frames[90:], restart=True, initial_step=90)
    compare(tmp_path, "COLVAR", "KERNELS", "STATE", "forces", tolerance=2e-6)


@plumed
def test_rows_of_a_run_with_opes_are_those_of_its_frames_in_plumed(tmp_path):
    text = f"{VARIABLES}{OPES['tight']} FMT=%14.8f\n{PRINT}"
    bias, simulation = chain_simulation(text, tmp_path / "native")
    frames = [phase_point(simulation)[0]]
    for _ in range(90):
        simulation.step(1)
        frames.append(phase_point(simulation)[0])
    bias.close()
    names = ("COLVAR", "KERNELS", "STATE")
    found = {name: (tmp_path / "native" / name).read_text() for name in names}
    driven(text, tmp_path, frames, timestep=0.001)
    for name, rows in found.items():
        (tmp_path / "native" / name).write_text(rows)
    compare(tmp_path, *names, tolerance=2e-6)
    assert len(set(read_fields(tmp_path / "native" / "COLVAR").columns["o.nlsteps"])) > 3


def test_evaluations_leave_no_trace_on_a_neighbour_list(tmp_path):
    text = f"{VARIABLES}{OPES['tight']} FMT=%14.8f\n{PRINT}"
    frames, elsewhere = walk(120), walk(50, step=0.05, seed=3)
    rows = []
    for look in (False, True):
        bias = PlumedBias(text, temperature=300.0, directory=tmp_path / str(look))
        bias._engine.start(0.002)
        for step, frame in enumerate(frames):
            bias._engine.update(frame, None, step)
            if look:
                bias._engine.evaluate(elsewhere[step % 50], None, step)
                bias.bias_of_cvs([[0.1, 0.2]])
        bias.close()
        rows.append((tmp_path / str(look) / "COLVAR").read_text())
    assert rows[0] == rows[1]


def test_the_list_leaves_out_what_is_far_and_only_that(tmp_path):
    """With a wide list the bias is that of all kernels, at every point of the walk."""
    found = []
    for word in ("", " NLIST"):
        text = f"{VARIABLES}o: OPES_METAD ARG=t,d SIGMA=0.1,0.01 PACE=4 BARRIER=15{word}\n"
        bias = PlumedBias(text, temperature=300.0, directory=tmp_path / word.strip())
        bias._engine.start(0.002)
        frames = walk(300)
        for step, frame in enumerate(frames):
            bias._engine.update(frame, None, step)
        found.append([bias._engine.evaluate(frame, None, 300)[1] for frame in frames])
        [action] = [a for a in bias._engine.actions if a.name == "OPES_METAD"]
        bias.close()
    assert len(action.neighbours.index) < len(action.kernels)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("NLIST_PARAMETERS=3", "1 numbers; expected two"),
        ("NLIST_PARAMETERS=1,0.1", "must be above 1"),
        ("NLIST_PARAMETERS=3,0.7", "at most 0.58"),
        ("NLIST_PARAMETERS=3,0", "above 0"),
    ],
)
def test_bad_parameters_of_a_list_are_refused(words, message):
    text = f"{VARIABLES}OPES_METAD ARG=t SIGMA=0.1 PACE=4 BARRIER=30 {words}\n"
    with pytest.raises(PlumedInputError, match=message):
        PlumedBias(text, temperature=300.0, backend="native")
