"""Lists that depend on earlier steps, of kernels and of models, against real PLUMED."""

import functools

import numpy as np
import openmm
import pytest
from biased_runs import langevin, phase_point
from openmm import app
from test_backends import BOXES, N_ATOMS, random_frames, reference_pdbs

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.driver.driver import DriverSettings, run_driver
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.testsystems import alanine_dipeptide

plumed = pytest.mark.plumed

KT = 300 * GAS_CONSTANT
VARIABLES = "t: TORSION ATOMS=1,3,4,6\nd: DISTANCE ATOMS=5,8\n"


def walk(n, step=0.006, seed=0):
    """Frames along which an eight-atom molecule moves little by little."""
    rng = np.random.default_rng(seed)
    [start] = random_frames(None, rng, 1)
    moves = rng.normal(scale=step, size=(n, N_ATOMS, 3)) + step * rng.normal(size=(1, N_ATOMS, 3))
    return start + 0.3 * np.cumsum(moves, axis=0) + rng.normal(scale=step, size=moves.shape)


def driven(text, folder, frames, box=None, **settings):
    """Run an input over frames by both backends, each in its folder."""
    for backend in ("native", "kernel"):
        chosen = {"timestep": 0.002, "kt": KT, "forces": "forces"} | settings
        chosen |= {"backend": backend, "directory": folder / backend, "forces_format": "%14.7f"}
        run_driver(text, iter([Frame(x, box) for x in frames]), DriverSettings(**chosen))


def compare(folder, *files, tolerance=1e-6):
    """Header by header and number by number, one unit of the last digit printed."""
    for file in files:
        lines = [(folder / b / file).read_text().splitlines() for b in ("native", "kernel")]
        assert len(lines[0]) == len(lines[1])
        for ours, plumeds in zip(*lines, strict=True):
            if plumeds.startswith("#") or ours == plumeds:
                assert ours == plumeds
                continue
            numbers = [np.array(x.removeprefix("X ").split(), float) for x in (ours, plumeds)]
            size = np.max(np.abs(numbers[1])) if plumeds.startswith("X ") else 0  # of the force
            atol = tolerance * max(size, 1)
            np.testing.assert_allclose(*numbers, rtol=tolerance, atol=atol)


# ---- kernels

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
    bias, simulation = simulated(text, tmp_path / "native")
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
        action = bias._engine._stepwise.opes[0].action
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


# ---- models

LISTED = "p: PATHMSD REFERENCE={path} LAMBDA=60 NEIGH_SIZE=2 NEIGH_STRIDE=5{pbc}\n"
PATHS = {
    "restrained": "RESTRAINT ARG=p.sss,p.zzz AT=2,0 KAPPA=3,100\n",
    "on a grid": "METAD ARG=p.sss SIGMA=0.2 HEIGHT=1.2 PACE=6 GRID_MIN=0 GRID_MAX=6 GRID_BIN=60\n",
    "under OPES": "OPES_METAD ARG=p.zzz SIGMA=0.02 PACE=6 BARRIER=30\n",
    "in a function": "c: CUSTOM ARG=p.sss,p.zzz FUNC=x*x+10*y PERIODIC=NO\n"
    "UPPER_WALLS ARG=c AT=2 KAPPA=1\n",
    "printed only": "PRINT ARG=p.zzz STRIDE=4 FILE=OTHER\n",
    "in another unit": "UNITS LENGTH=A\n" + LISTED.replace("60", "0.6").replace("p:", "q:")
    + "RESTRAINT ARG=q.sss AT=3 KAPPA=2\n",
    "of any place": "RESTRAINT ARG=p.sss AT=3 KAPPA=2\n",
}  # fmt: skip


def path_input(kind, folder, pbc="", stride=3):
    text = LISTED + PATHS[kind] + f"PRINT ARG=*.sss,*.zzz STRIDE={stride} FILE=COLVAR FMT=%14.8f\n"
    if "UNITS" in text:  # must stand first
        text = "UNITS LENGTH=A\n" + text.replace("UNITS LENGTH=A\n", "").replace("=60 ", "=0.6 ")
    return text.format(pbc=pbc, **reference_pdbs(folder))


@plumed
@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize("kind", PATHS)
def test_a_list_of_models_is_plumeds(kind, first, tmp_path):
    frames = random_frames(None, np.random.default_rng(9), 5)[0] + walk(60, 0.01) - walk(60)[0]
    box = BOXES["triclinic"] if kind == "of any place" else None
    pbc = " NOPBC" if kind == "of any place" else ""
    text = path_input(kind, tmp_path, pbc)
    driven(text, tmp_path, frames, box, initial_step=first)
    compare(tmp_path, "COLVAR", "forces")
    ours = read_fields(tmp_path / "native" / "COLVAR").columns["p.zzz"]
    driven(
        text.replace("NEIGH_SIZE=2 NEIGH_STRIDE=5", ""),
        tmp_path / "all",
        frames,
        box,
        initial_step=first,
    )
    every = read_fields(tmp_path / "all" / "native" / "COLVAR").columns["p.zzz"]
    assert len(set(np.abs(ours - every) > 1e-6)) == 2  # the list shows, not always


@plumed
@pytest.mark.parametrize("stride", [1, 3, 10])
@pytest.mark.parametrize("kind", ["restrained", "on a grid", "printed only"])
def test_rows_of_a_run_are_those_of_its_frames_in_plumed(kind, stride, tmp_path):
    """PLUMED is given every step; natively only those are asked for that renew the list."""
    text = path_input(kind, tmp_path, stride=stride)
    bias, simulation = simulated(text, tmp_path / "native")
    frames = []
    for _ in range(60):
        frames.append(phase_point(simulation)[0])
        simulation.step(1)
    frames.append(phase_point(simulation)[0])
    bias.close()
    rows = (tmp_path / "native" / "COLVAR").read_text()
    driven(text, tmp_path, frames, initial_step=0, timestep=0.001)
    (tmp_path / "native" / "COLVAR").write_text(rows)
    compare(tmp_path, "COLVAR", tolerance=2e-6)


def simulated(text, folder, checkpoint=None, restart=False):
    """Eight carbon atoms in a chain, along a path."""
    topology, system = app.Topology(), openmm.System()
    residue = topology.addResidue("MOL", topology.addChain())
    bonds = openmm.HarmonicBondForce()
    for i in range(N_ATOMS):
        topology.addAtom("C", app.element.carbon, residue)
        system.addParticle(12.0)
        if i:
            bonds.addBond(i - 1, i, 0.15, 3e4)
    system.addForce(bonds)
    bias = PlumedBias(text, temperature=300.0, directory=folder, restart=restart)
    assert bias.backend == "native"
    bias.add_to(system)
    simulation = langevin(topology, system, seed=4)
    if isinstance(checkpoint, bytes):  # OpenMM's, without the bias
        simulation.context.loadCheckpoint(checkpoint)
        checkpoint = None
    elif checkpoint is None:
        simulation.context.setPositions(random_frames(None, np.random.default_rng(9), 5)[0])
        simulation.context.setVelocitiesToTemperature(300, 5)
    bias.attach(simulation, checkpoint=checkpoint)
    return bias, simulation


@pytest.mark.parametrize("kind", ["restrained", "on a grid", "under OPES"])
@pytest.mark.parametrize("at", [100, 101, 103])
def test_a_run_goes_on_bitwise_with_its_list(kind, at, tmp_path):
    text = path_input(kind, tmp_path)
    bias, simulation = simulated(text, tmp_path / "one")
    simulation.step(200)
    bias.close()
    expected = phase_point(simulation)
    bias, simulation = simulated(text, tmp_path / "two")
    simulation.step(at)
    bias.save_checkpoint(tmp_path / "run.chk")
    simulation.step(33)  # lost
    bias.close()
    bias, simulation = simulated(text, tmp_path / "two", tmp_path / "run.chk")
    simulation.step(200 - at)
    bias.close()
    np.testing.assert_array_equal(phase_point(simulation), expected)
    one, two = ((tmp_path / f / "COLVAR").read_bytes() for f in ("one", "two"))
    assert one == two


@plumed
@pytest.mark.parametrize("at", [20, 21, 23])
def test_a_restart_makes_its_list_where_plumed_does(at, tmp_path):
    text = path_input("restrained", tmp_path, stride=1)
    bias, simulation = simulated(text, tmp_path / "first")
    simulation.step(at)
    state = simulation.context.createCheckpoint()
    bias.close()
    bias, simulation = simulated(text, tmp_path / "again", state, restart=True)
    frames = [phase_point(simulation)[0]]
    for _ in range(20):
        simulation.step(1)
        frames.append(phase_point(simulation)[0])
    bias.close()
    driven(text, tmp_path, frames, initial_step=at, timestep=0.001)
    ours, plumeds = (read_fields(tmp_path / f / "COLVAR") for f in ("again", "kernel"))
    for name, column in plumeds.columns.items():  # the first row is of the run before
        np.testing.assert_allclose(ours.columns[name], column[1:], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("kind", PATHS)
def test_a_bias_on_listed_models_is_no_function_of_the_positions(kind, tmp_path):
    """Exact proposals must not be made under it."""
    text = path_input(kind, tmp_path)
    assert PlumedBias(text, directory=tmp_path).remembers == (kind != "printed only")
    everything = text.replace("NEIGH_SIZE=2 NEIGH_STRIDE=5", "")
    assert not PlumedBias(everything, directory=tmp_path).remembers


def test_single_frames_are_seen_by_all_models_and_leave_the_list_as_it_is(tmp_path):
    text = path_input("restrained", tmp_path)
    bias, simulation = simulated(text, tmp_path / "run")
    simulation.step(23)
    path = bias._engine.actions[0]
    before = path.nearest.index
    assert len(before) == 2
    [x, _] = phase_point(simulation)
    without = PlumedBias(text.replace("NEIGH_SIZE=2", "NEIGH_SIZE=5"), directory=tmp_path / "all")
    np.testing.assert_array_equal(bias.cv_values(x), without.cv_values(x))
    state = simulation.context.getState(positions=True, energy=True, groups=bias.force_groups())
    values, energy = bias.values(simulation, state)
    assert state.getPotentialEnergy()._value == pytest.approx(energy, rel=1e-9)
    assert not np.allclose(values, bias.cv_values(x), rtol=1e-7)
    simulation.context.setPositions(x + np.random.default_rng(1).normal(scale=0.02, size=x.shape))
    simulation.context.getState(energy=True, forces=True)
    assert path.nearest.index is before
    bias.close()


def test_lists_that_can_not_be_are_refused(tmp_path):
    files = reference_pdbs(tmp_path)
    for words, message in (
        ("NEIGH_SIZE=2 NEIGH_STRIDE=0", "must be positive"),
        ("NEIGH_SIZE=2 NEIGH_STRIDE=5\nPRINT ARG=p.sss,p.zzz _ROTATE=2", "not always used"),
    ):
        text = f"p: PATHMSD REFERENCE={files['path']} LAMBDA=60 {words}\n"
        with pytest.raises(PlumedInputError, match=message):
            PlumedBias(text, backend="native", directory=tmp_path)


# ---- rows of one value at a time


@plumed
@pytest.mark.parametrize("rotate", [1, 2, 3])
def test_a_print_that_rotates_is_plumeds(rotate, tmp_path):
    text = f"{VARIABLES}u: TORSION ATOMS=2,4,5,7\nr: RESTRAINT ARG=t AT=0 KAPPA=1\n"
    text += f"PRINT ARG=t,d,u,r.bias STRIDE=2 _ROTATE={rotate} FILE=COLVAR\n"
    driven(text, tmp_path, walk(40))
    ours, plumeds = ((tmp_path / b / "COLVAR").read_text() for b in ("native", "kernel"))
    assert ours == plumeds


def test_rows_that_rotate_go_on_from_a_checkpoint(tmp_path):
    text = "phi: TORSION ATOMS=5,7,9,15\nd: DISTANCE ATOMS=5,7\n"
    text += "PRINT ARG=phi,d STRIDE=2 _ROTATE=3 FILE=COLVAR\n"

    def run(folder, parts):
        for i, n_steps in enumerate(parts):
            molecule = alanine_dipeptide("C7eq")
            bias = PlumedBias(text, directory=tmp_path / folder)
            bias.add_to(molecule.system)
            make = functools.partial(app.Simulation, molecule.topology, molecule.system)
            simulation = make(
                openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
            )
            simulation.context.setPositions(molecule.positions)
            bias.attach(simulation, checkpoint=tmp_path / "run.chk" if i else None)
            simulation.step(n_steps)
            bias.save_checkpoint(tmp_path / "run.chk")
            bias.close()
        return (tmp_path / folder / "COLVAR").read_text()

    assert run("one", [40]) == run("two", [18, 22])
