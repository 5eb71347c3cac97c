"""FrameReporter in real simulations: OpenMM's protocol, kills, restarts, what others can read."""

import contextlib
import copy
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan import FrameReporter, PlumedBias
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import read_frames, read_segments, segments, topology_hash
from openmm_cgan.frames.h5md import open_segment, read_header
from openmm_cgan.frames.set_aside import PATTERN, TEMPERED
from openmm_cgan.testsystems import (
    PHI_ATOMS,
    PSI_ATOMS,
    DoubleWell2D,
    alanine_dipeptide,
    torsion,
)
from tests.cases import ROOT
from tests.cases.frame_runs import PhiPsi, make_alanine
from tests.cases.other_processes import PATIENCE, next_line
from tests.cases.water import dipeptide_in_water

INPUT = """phi: TORSION ATOMS=5,7,9,15
psi: TORSION ATOMS=7,9,15,17
RESTRAINT ARG=phi,psi AT=-1.0,1.0 KAPPA=20,30
"""


class Height:
    """The x coordinate of a particle in the double well."""

    variables = (CollectiveVariable("x", "nm"),)
    static = False
    temperature = None
    backend = "none"
    text = ""

    def require_acting(self, simulation):
        pass

    def values(self, simulation, state):
        return state.getPositions(asNumpy=True)._value[0, :1], 0.0


def make_well(periodic=False):
    well = DoubleWell2D()
    system = well.system()
    topology = well.topology()
    if periodic:
        nonbonded = openmm.NonbondedForce()
        nonbonded.addParticle(0, 0.3, 0)
        nonbonded.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        nonbonded.setCutoffDistance(0.4)
        system.addForce(nonbonded)
        system.setDefaultPeriodicBoxVectors([1, 0, 0], [0.1, 1, 0], [0, 0.2, 1.5])
    platform = openmm.Platform.getPlatformByName("Reference")
    integrator = openmm.LangevinMiddleIntegrator(300, 5, 0.005)
    simulation = app.Simulation(topology, system, integrator, platform)
    simulation.context.setPositions([[0.3, 0.15, 0.0]])
    return simulation


def open_with_mdanalysis(simulation, files, folder):
    import MDAnalysis

    positions = simulation.context.getState(positions=True).getPositions()
    with (folder / "top.pdb").open("w") as file:
        app.PDBFile.writeFile(simulation.topology, positions, file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about masses that it guesses, and elements
        return MDAnalysis.Universe(str(folder / "top.pdb"), [str(path) for path in files])


# ---- what stands in a frame


@pytest.fixture(scope="module")
def biased(tmp_path_factory):
    """1000 steps with a real restraint, and the States that OpenMM gives at the same steps."""
    folder = tmp_path_factory.mktemp("biased")
    bias = PlumedBias(INPUT, alanine_dipeptide().topology, temperature=300.0)
    simulation = make_alanine(bias)
    reporter = FrameReporter(folder / "frames", 50, bias)
    states = {}

    class Keep:
        def describeNextReport(self, simulation):
            return {"steps": 50 - simulation.currentStep % 50, "include": ["positions"]}

        def report(self, simulation, state):
            states[simulation.currentStep] = state

    simulation.reporters += [reporter, Keep()]
    simulation.step(1000)
    reporter.flush()
    return folder, simulation, bias, reporter, states


def test_frames_are_the_states_of_the_simulation(biased):
    folder, simulation, bias, _, states = biased
    frames = read_frames(folder / "frames")
    assert frames.step.tolist() == list(range(50, 1001, 50)) == sorted(states)
    for i, state in enumerate(states.values()):
        positions = state.getPositions(asNumpy=True)._value
        np.testing.assert_array_equal(frames.positions[i], positions.astype(np.float32))
        assert frames.time[i] == state.getTime()._value
        phi, psi = (torsion(positions, atoms) for atoms in (PHI_ATOMS, PSI_ATOMS))
        np.testing.assert_allclose(frames.cvs[i], [phi, psi], atol=1e-10)
        expected = 0.5 * 20 * (phi + 1.0) ** 2 + 0.5 * 30 * (psi - 1.0) ** 2
        assert frames.bias[i] == pytest.approx(expected, abs=1e-8)
    assert frames.variables == bias.variables
    assert frames.temperature == 300.0
    assert frames.topology_hash == topology_hash(simulation.topology)
    assert set(frames.segment) == {1}
    assert not frames.settling.any()


def test_mdanalysis_opens_the_list_with_the_variables(biased, tmp_path):
    folder, simulation, *_ = biased
    frames = read_frames(folder / "frames")
    universe = open_with_mdanalysis(simulation, sorted((folder / "frames").glob(PATTERN)), tmp_path)
    assert len(universe.trajectory) == len(frames)
    for i, ts in enumerate(universe.trajectory):
        assert ts.time == frames.time[i]
        assert ts.data["phi"] == frames.cvs[i, 0]
        assert ts.data["psi"] == frames.cvs[i, 1]
        assert ts.data["bias"] == frames.bias[i]
        assert ts.data["step"] == frames.step[i]
        assert (ts.data["segment"], ts.data["settling"]) == (1, 0)
        assert ts.dimensions is None
        np.testing.assert_allclose(ts.positions, 10 * frames.positions[i], rtol=1e-6)
    universe.trajectory.close()


def test_the_file_says_where_it_came_from(biased):
    from openmm_cgan.frames.h5md import open_segment, read_header

    folder, simulation, bias, *_ = biased
    with open_segment(folder / "frames" / "segment-00001.h5md") as file:
        header = read_header(file)
    assert header.plumed_input == bias.text
    assert header.about["backend"] == bias.backend
    assert header.about["report_interval"] == 50
    assert header.about["seeds"]["LangevinMiddleIntegrator"] == 1
    assert header.about["openmm"] == simulation.context.getPlatform().getOpenMMVersion()
    assert read_segments(folder / "frames")[0]["origin"] == {"kind": "initial"}


def test_a_subset_of_the_atoms(tmp_path):
    simulation = make_alanine()
    whole = FrameReporter(tmp_path / "whole", 10, PhiPsi())
    part = FrameReporter(tmp_path / "part", 10, PhiPsi(), atomSubset=[4, 6, 8, 10, 14, 16])
    simulation.reporters += [whole, part]
    simulation.step(50)
    everything, chosen = read_frames(tmp_path / "whole"), read_frames(tmp_path / "part")
    assert chosen.atoms.tolist() == [4, 6, 8, 10, 14, 16]
    np.testing.assert_array_equal(chosen.positions, everything.positions[:, chosen.atoms])
    np.testing.assert_array_equal(chosen.cvs, everything.cvs)
    assert chosen.topology_hash == everything.topology_hash
    whole.close()
    part.close()


def test_box_vectors_of_a_periodic_system(tmp_path):
    simulation = make_well(periodic=True)
    reporter = FrameReporter(tmp_path / "frames", 10, Height())
    simulation.reporters.append(reporter)
    simulation.step(20)
    simulation.context.setPeriodicBoxVectors([1.1, 0, 0], [0.1, 1, 0], [0, 0.2, 1.5])
    simulation.step(10)
    reporter.close()
    frames = read_frames(tmp_path / "frames")
    box = np.array([[1, 0, 0], [0.1, 1, 0], [0, 0.2, 1.5]], np.float32)
    np.testing.assert_array_equal(frames.box[0], box)
    assert frames.box[2][0, 0] == np.float32(1.1)
    universe = open_with_mdanalysis(
        simulation, [tmp_path / "frames" / "segment-00001.h5md"], tmp_path
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lengths = universe.trajectory[0].dimensions[:3]
    np.testing.assert_allclose(lengths, 10 * np.linalg.norm(box, axis=1), rtol=1e-5)
    universe.trajectory.close()


@pytest.mark.parametrize(
    "action", ["RESTRAINT ARG=p.x AT=3 KAPPA=1", "METAD ARG=p.x SIGMA=0.1 HEIGHT=1 PACE=4"]
)
def test_variables_are_those_of_the_run_where_molecules_are_put_into_the_box(tmp_path, action):
    """A variable with NOPBC is another one there."""
    molecule = dipeptide_in_water(40)
    system, n_atoms = copy.deepcopy(molecule.system), len(molecule.positions)
    length = system.getDefaultPeriodicBoxVectors()[0][0]._value
    text = f"p: POSITION ATOM=5 NOPBC\n{action}\nPRINT ARG=p.x FILE=COLVAR STRIDE=2"
    bias = PlumedBias(text, temperature=300.0, directory=tmp_path)
    bias.add_to(system)
    platform = openmm.Platform.getPlatformByName("Reference")
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.001)
    simulation = app.Simulation(molecule.topology, system, integrator, platform)
    away = np.zeros((n_atoms, 3))
    away[:] = [5.3 * length, 0, -0.8 * length]
    away[22:, 1] = 2.1 * length
    simulation.context.setPositions(molecule.positions + away)
    bias.attach(simulation)
    wrapped = FrameReporter(tmp_path / "wrapped", 2, bias, atoms="all")
    whole = FrameReporter(tmp_path / "whole", 2, bias, enforcePeriodicBox=False, atoms="protein")
    simulation.reporters += [wrapped, whole]
    simulation.step(4)
    for writer in (wrapped, whole, bias):
        writer.close()
    printed = np.loadtxt(tmp_path / "COLVAR")[1:, 1]
    assert printed.min() > 4 * length
    for folder, wraps, kept in (("wrapped", True, n_atoms), ("whole", False, 22)):
        frames = read_frames(tmp_path / folder)
        np.testing.assert_allclose(frames.cvs[:, 0], printed, atol=1e-5)
        state = simulation.context.getState(positions=True, enforcePeriodicBox=wraps)
        positions = state.getPositions(asNumpy=True)._value[:kept]
        np.testing.assert_allclose(frames.positions[-1], positions, atol=1e-5)


class Static(PlumedBias):
    """Says that it is a function of the positions alone, so that its values may wait."""

    static = True


def test_values_that_wait_are_those_of_each_frame(tmp_path):
    bias = Static(INPUT, alanine_dipeptide().topology, temperature=300.0)
    simulation = make_alanine(bias)
    waits = FrameReporter(tmp_path / "waits", 10, bias, atomSubset=[3, 4])
    asked = []

    class AtOnce:
        """The same bias, asked at every frame."""

        variables, text, backend, temperature = bias.variables, bias.text, "x", 300.0
        static = False

        def require_acting(self, simulation):
            pass

        def values(self, simulation, state):
            asked.append(simulation.currentStep)
            return bias.values(simulation, state)

    at_once = FrameReporter(tmp_path / "at_once", 10, AtOnce())
    simulation.reporters += [waits, at_once]
    simulation.step(300)
    assert asked == list(range(10, 301, 10))
    late, early = read_frames(tmp_path / "waits"), read_frames(tmp_path / "at_once")
    np.testing.assert_allclose(late.cvs, early.cvs, atol=1e-12)
    np.testing.assert_allclose(late.bias, early.bias, atol=1e-10)
    np.testing.assert_array_equal(late.positions, early.positions[:, [3, 4]])
    waits.close()
    at_once.close()


def test_values_that_wait_and_are_not_finite_stop_the_run(tmp_path):
    class Late(Height):
        static = True

        def cv_values(self, positions, box):
            x = positions[:, 0, :1]
            return np.where(np.arange(len(x))[:, None] == 2, np.nan, x)

        def bias_of_cvs(self, cvs):
            return np.zeros(len(cvs))

    simulation = make_well()
    reporter = FrameReporter(tmp_path / "frames", 10, Late())
    simulation.reporters.append(reporter)
    simulation.step(40)
    with pytest.raises(ValueError, match="not finite at step 30"):
        reporter.flush()
    assert read_frames(tmp_path / "frames").step.tolist() == [10, 20]
    reporter.close()


def test_a_grid_that_does_not_hold_zero_is_no_matter(tmp_path, caplog):
    """The warning was false, and the one to come when the run leaves the grid was spent."""
    rows = "".join(f"{0.2 + 0.1 * k:.1f} {k}.0 10.0\n" for k in range(11))
    (tmp_path / "e.dat").write_text(
        "#! FIELDS d e.bias der_d\n#! SET min_d 0.2\n#! SET max_d 1.2\n#! SET nbins_d 11\n"
        "#! SET periodic_d false\n" + rows
    )
    text = "d: DISTANCE ATOMS=2,19\ne: EXTERNAL ARG=d FILE=e.dat\n"
    bias = PlumedBias(text, alanine_dipeptide().topology, directory=tmp_path)
    FrameReporter(tmp_path / "frames", 10, bias)
    assert not caplog.records
    bias.bias_of_cvs([[0.0]])
    assert "outside the grid" in caplog.text


@pytest.mark.parametrize("bias", ["RESTRAINT AT=1 KAPPA=5", "METAD SIGMA=0.3 HEIGHT=1 PACE=5"])
def test_a_bias_on_more_than_the_cvs_of_frames_is_said(bias, tmp_path, caplog):
    torsions = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
    sine = "s: CUSTOM ARG=psi FUNC=sin(x) PERIODIC=NO\n"
    for names in (("phi", "psi"), ("phi",)):
        folder = tmp_path / "-".join(names)
        text = f"{torsions}{sine}{bias} ARG=s\n"
        own = PlumedBias(text, temperature=300.0, directory=folder, cvs=names)
        simulation = make_alanine(own)
        reporter = FrameReporter(folder / "frames", 10, own)
        simulation.reporters.append(reporter)
        simulation.step(1)
        reporter.close()
        own.close()
        said = "depends on psi, which is not among the collective variables phi" in caplog.text
        assert said == (names == ("phi",))


def test_values_do_not_wait_where_the_bias_needs_more_than_the_variables(tmp_path):
    bias = Static(INPUT, alanine_dipeptide().topology, temperature=300.0, cvs=("phi",))
    simulation = make_alanine(bias)
    simulation.reporters.append(FrameReporter(tmp_path / "frames", 10, bias))
    simulation.step(20)
    frames = read_frames(tmp_path / "frames")
    assert frames.cvs.shape == (2, 1)
    assert (frames.bias > 0.5 * 20 * (frames.cvs[:, 0] + 1.0) ** 2).all()
    simulation.reporters[-1].close()


# ---- OpenMM's protocol


def test_the_next_report_is_described_as_openmm_wants_it(tmp_path):
    simulation = make_well()
    reporter = FrameReporter(tmp_path / "frames", 70, Height())
    described = reporter.describeNextReport(simulation)
    assert described == {"steps": 70, "periodic": False, "include": ["positions"]}
    simulation.step(50)
    assert reporter.describeNextReport(simulation)["steps"] == 20
    simulation.step(20)
    assert reporter.describeNextReport(simulation)["steps"] == 70
    assert not list((tmp_path / "frames").glob(PATTERN))
    reporter.close()


def test_reports_follow_the_step_count_and_not_the_calls(tmp_path):
    simulation = make_well()
    simulation.reporters.append(FrameReporter(tmp_path / "frames", 100, Height()))
    for _ in range(7):
        simulation.step(73)
    frames = read_frames(tmp_path / "frames")
    assert frames.step.tolist() == [100, 200, 300, 400, 500]
    np.testing.assert_allclose(frames.time, 0.005 * frames.step, rtol=1e-12)
    simulation.reporters[0].close()


def test_it_works_beside_other_reporters_in_any_place(tmp_path):
    simulation = make_well(periodic=True)
    last = FrameReporter(tmp_path / "last", 30, Height(), enforcePeriodicBox=False)
    simulation.reporters += [
        FrameReporter(tmp_path / "first", 20, Height()),
        app.XTCReporter(str(tmp_path / "a.xtc"), 20),
        app.StateDataReporter(str(tmp_path / "log"), 30, step=True, potentialEnergy=True),
        last,
    ]
    simulation.step(120)
    assert read_frames(tmp_path / "first").step.tolist() == [20, 40, 60, 80, 100, 120]
    assert read_frames(tmp_path / "last").step.tolist() == [30, 60, 90, 120]
    simulation.reporters[0].close()
    last.close()


def test_reporting_leaves_the_trajectory_as_it_is(tmp_path):
    finals = []
    for interval in (None, 7):
        simulation = make_alanine(seed=5)
        if interval:
            simulation.reporters.append(FrameReporter(tmp_path / "frames", interval, PhiPsi()))
        simulation.step(200)
        state = simulation.context.getState(positions=True, velocities=True)
        finals.append([state.getPositions(asNumpy=True), state.getVelocities(asNumpy=True)])
    np.testing.assert_array_equal(*finals)
    simulation.reporters[0].close()


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        ([], "list of zero-based"),
        ([0.5], "list of zero-based"),
        ([[1, 2]], "list of zero-based"),
        ([-1, 2], "increasing order"),
        ([3, 2], "increasing order"),
        ([2, 2], "increasing order"),
    ],
)
def test_a_senseless_subset_is_refused_at_once(tmp_path, subset, message):
    with pytest.raises(ValueError, match=message):
        FrameReporter(tmp_path / "frames", 10, PhiPsi(), atomSubset=subset)
    assert not (tmp_path / "frames").exists()


def test_a_selection_is_looked_at_as_soon_as_it_can_be(tmp_path):
    for wrong, message in (
        ({"atoms": "resnam ALA"}, "no selection that MDAnalysis understands"),
        ({"atoms": "protein", "atomSubset": [0]}, "two words for one thing"),
        ({"atomSubset": "protein"}, "give a selection as atoms="),
    ):
        with pytest.raises(ValueError, match=message):
            FrameReporter(tmp_path / "frames", 10, PhiPsi(), **wrong)
    bias = PlumedBias("phi: TORSION ATOMS=5,7,9,15\nRESTRAINT ARG=phi AT=-1 KAPPA=5\n")
    simulation = make_alanine(bias)
    with pytest.raises(ValueError, match="finds none of the 22 atoms"):
        FrameReporter(tmp_path / "frames", 10, bias, atoms="resname LIG")
    assert not (tmp_path / "frames").exists()
    reporter = FrameReporter(tmp_path / "frames", 10, bias, atoms="name CA CB")
    simulation.reporters.append(reporter)
    simulation.step(10)
    reporter.close()
    assert read_frames(tmp_path / "frames").atoms.tolist() == [8, 10]
    assert app.PDBFile(str(tmp_path / "frames" / "atoms.pdb")).topology.getNumAtoms() == 2
    other_bias = PlumedBias(bias.text)
    again = make_alanine(other_bias)
    other = FrameReporter(tmp_path / "frames", 10, other_bias, append=True)
    again.reporters.append(other)
    with pytest.raises(ValueError, match=r"written of 2 atoms, .* writes 22 others"):
        again.step(10)


def test_a_subset_beyond_the_molecule_is_refused_before_the_first_step(tmp_path):
    simulation = make_alanine()
    simulation.reporters.append(FrameReporter(tmp_path, 10, PhiPsi(), atomSubset=[0, 22]))
    with pytest.raises(ValueError, match="atom 22 but the topology has 22 atoms"):
        simulation.step(10)
    assert simulation.currentStep == 0


def test_senseless_arguments_are_refused_at_once(tmp_path):
    for interval in (0, -5, 2.5):
        with pytest.raises(ValueError, match=f"reportInterval is {interval}"):
            FrameReporter(tmp_path, interval, PhiPsi())
    with pytest.raises(TypeError, match="bias is str, expected a PlumedBias"):
        FrameReporter(tmp_path, 10, "plumed.dat")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file, expected the name of a folder"):
        FrameReporter(tmp_path / "file", 10, PhiPsi())
    reporter = FrameReporter(tmp_path / "frames", 10, PhiPsi())
    assert reporter.segment == 0
    with pytest.raises(RuntimeError, match="before the run"):
        reporter.start_segment({})


def test_an_exploding_simulation_stops_with_the_step_and_keeps_its_frames(tmp_path):
    simulation = make_well()
    simulation.reporters.append(FrameReporter(tmp_path / "frames", 10, Height()))
    simulation.step(30)
    simulation.context.setPositions([[np.nan, 0, 0]])
    with pytest.raises(ValueError, match=r"a position is not finite at step 40.*checkpoint"):
        simulation.step(10)
    assert sorted(os.listdir(tmp_path / "frames"))[0] == "segment-00001.h5md"
    assert read_frames(tmp_path / "frames").step.tolist() == [10, 20, 30]
    simulation.reporters[0].close()


def test_a_bias_that_is_not_finite_stops_the_run(tmp_path):
    class Broken(Height):
        def values(self, simulation, state):
            return np.array([0.1]), np.inf if simulation.currentStep == 20 else 0.0

    simulation = make_well()
    simulation.reporters.append(FrameReporter(tmp_path / "frames", 10, Broken()))
    with pytest.raises(ValueError, match=r"the bias \(inf\) or a CV .* is not finite at step 20"):
        simulation.step(30)
    assert read_frames(tmp_path / "frames").step.tolist() == [10]
    simulation.reporters[0].close()


# ---- segments


def test_an_injection_starts_a_segment_and_a_settle_window(tmp_path):
    simulation = make_well()
    reporter = FrameReporter(tmp_path / "frames", 10, Height())
    simulation.reporters.append(reporter)
    simulation.step(25)
    simulation.context.setPositions([[-0.3, -0.15, 0.0]])
    origin = {"kind": "proposal", "number": 3, "mode": "seed"}
    assert reporter.start_segment(origin, settle_steps=20) == reporter.segment == 2
    simulation.step(35)
    frames = read_frames(tmp_path / "frames", settling=True)
    assert frames.step.tolist() == [10, 20, 30, 40, 50, 60]
    assert frames.segment.tolist() == [1, 1, 2, 2, 2, 2]
    assert frames.settling.tolist() == [False, False, True, True, False, False]
    assert (np.sign(frames.positions[:, 0, 0]) == [1, 1, -1, -1, -1, -1]).all()
    assert read_segments(tmp_path / "frames")[1] == {
        "segment": 2, "step": 25, "settled": 45, "origin": origin,
    }  # fmt: skip
    reporter.close()


@pytest.mark.parametrize("reporter_first", [True, False])
def test_the_frame_at_the_step_of_an_injection(tmp_path, reporter_first):
    """Injections made from a reporter's report, before or after the frame of the same step."""
    simulation = make_well()
    frames_out = FrameReporter(tmp_path / "frames", 10, Height())

    class Inject:
        def describeNextReport(self, simulation):
            return {"steps": 20 - simulation.currentStep % 20, "include": ["positions"]}

        def report(self, simulation, state):
            x = state.getPositions(asNumpy=True)._value[0, 0]
            simulation.context.setPositions([[-x, 0.0, 0.0]])
            frames_out.start_segment({}, settle_steps=5)

    simulation.reporters += [frames_out, Inject()] if reporter_first else [Inject(), frames_out]
    simulation.step(50)
    frames = read_frames(tmp_path / "frames", settling=True)
    assert frames.segment.tolist() == [1, 1, 2, 2, 3]
    uncertain = [False, not reporter_first, False, not reporter_first, False]
    assert frames.settling.tolist() == uncertain
    frames_out.close()


# ---- restarts and kills


def test_frames_of_an_earlier_run_are_not_overwritten(tmp_path):
    simulation = make_well()
    reporter = FrameReporter(tmp_path / "frames", 10, Height())
    late = FrameReporter(tmp_path / "frames", 10, Height())  # the folder is still empty
    simulation.reporters.append(reporter)
    simulation.step(30)
    reporter.close()
    with pytest.raises(FileExistsError, match=r"earlier run.*append=True.*nothing has been"):
        FrameReporter(tmp_path / "frames", 10, Height())
    other = make_well()
    other.reporters.append(late)
    with pytest.raises(FileExistsError, match=r"append=True"):
        other.step(10)
    assert read_frames(tmp_path / "frames").step.tolist() == [10, 20, 30]


@pytest.mark.parametrize("how", ["checkpoint", "state"])
def test_a_restart_from_an_earlier_checkpoint_gives_each_step_once(tmp_path, how):
    simulation = make_alanine()
    simulation.reporters.append(FrameReporter(tmp_path / "frames", 10, PhiPsi()))
    simulation.step(45)
    if how == "checkpoint":
        simulation.saveCheckpoint(str(tmp_path / "saved"))
    else:
        simulation.saveState(str(tmp_path / "saved"))
    simulation.step(40)
    simulation.reporters[0].flush()  # then the machine fails

    again = make_alanine(seed=9)
    (again.loadCheckpoint if how == "checkpoint" else again.loadState)(str(tmp_path / "saved"))
    reporter = FrameReporter(tmp_path / "frames", 5, PhiPsi(), append=True)
    again.reporters.append(reporter)
    again.step(30)
    reporter.close()
    frames = read_frames(tmp_path / "frames")
    assert frames.step.tolist() == [10, 20, 30, 40, 50, 55, 60, 65, 70, 75]
    np.testing.assert_allclose(frames.time, 0.002 * frames.step, rtol=1e-12)
    assert (np.diff(frames.time) > 0).all()
    files = sorted((tmp_path / "frames").glob(PATTERN))
    assert len(files) == 2
    universe = open_with_mdanalysis(again, files, tmp_path)
    assert [ts.time for ts in universe.trajectory] == frames.time.tolist()
    assert [ts.data["phi"] for ts in universe.trajectory] == frames.cvs[:, 0].tolist()
    universe.trajectory.close()
    assert read_frames(tmp_path / "frames" / "bck.0.segment-00001.h5md").step.max() == 80


def test_a_restart_that_forgot_the_clock_is_told_before_it_runs(tmp_path):
    simulation = make_well()
    simulation.reporters.append(FrameReporter(tmp_path / "frames", 10, Height()))
    simulation.step(30)
    simulation.reporters[0].close()
    again = make_well()
    again.currentStep = 30
    again.reporters.append(FrameReporter(tmp_path / "frames", 10, Height(), append=True))
    with pytest.raises(ValueError, match=r"step 30 and 0 ps.*setTime"):
        again.step(10)
    assert again.currentStep == 30
    again.context.setTime(0.15)
    again.step(10)
    assert read_frames(tmp_path / "frames").step.tolist() == [10, 20, 30, 40]
    again.reporters[0].close()


def test_append_to_nothing_is_a_new_run(tmp_path):
    simulation = make_well()
    simulation.reporters.append(FrameReporter(tmp_path / "a" / "frames", 10, Height(), append=True))
    simulation.step(20)
    assert read_frames(tmp_path / "a" / "frames").step.tolist() == [10, 20]
    simulation.reporters[0].close()


CHILD = """
import sys
import openmm
from openmm import app
from openmm_cgan import FrameReporter
sys.path.insert(0, {root!r})
from tests.cases.frame_runs import PhiPsi, make_alanine

simulation = make_alanine()
simulation.reporters.append(FrameReporter({folder!r}, 100, PhiPsi()))
simulation.reporters.append(app.CheckpointReporter({checkpoint!r}, 5000))
if {end}:
    simulation.step({end})
    print("ready", flush=True)
    {afterwards}
while True:
    simulation.step(1000)
    print(simulation.currentStep, flush=True)
"""


def start_child(folder, end=0, afterwards="pass"):
    code = CHILD.format(
        root=str(ROOT),
        folder=str(folder / "frames"),
        checkpoint=str(folder / "checkpoint"),
        end=end,
        afterwards=afterwards,
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_killed_run_leaves_whole_files_and_goes_on(tmp_path):
    child = start_child(tmp_path)
    moment = np.random.default_rng(os.getpid()).uniform(0.0, 1.5)  # random, and not at a report
    try:
        seen = 0
        while seen < 3:  # frames come to disk while the run goes on
            assert next_line(child), "the run has ended"
            with contextlib.suppress(FileNotFoundError):
                seen = len(read_frames(tmp_path / "frames"))
        time.sleep(moment)
        seen = len(read_frames(tmp_path / "frames"))
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=PATIENCE)
    frames = read_frames(tmp_path / "frames")
    assert len(frames) >= seen
    assert frames.step.tolist() == [100 * (i + 1) for i in range(len(frames))]
    for positions, (phi, psi) in zip(frames.positions[::50], frames.cvs[::50], strict=True):
        assert torsion(positions, PHI_ATOMS) == pytest.approx(phi, abs=1e-4)
        assert torsion(positions, PSI_ATOMS) == pytest.approx(psi, abs=1e-4)

    again = make_alanine()
    if (tmp_path / "checkpoint").exists():
        again.loadCheckpoint(str(tmp_path / "checkpoint"))
    start = again.currentStep
    again.reporters.append(FrameReporter(tmp_path / "frames", 100, PhiPsi(), append=True))
    again.step(300)
    joined = read_frames(tmp_path / "frames")
    kept = min(start, int(frames.step[-1])) // 100
    assert joined.step.tolist() == [
        *range(100, 100 * kept + 1, 100), *range(start + 100, start + 301, 100),
    ]  # fmt: skip
    np.testing.assert_allclose(joined.time, 0.002 * joined.step, rtol=1e-9)
    again.reporters[0].close()
    files = sorted((tmp_path / "frames").glob(PATTERN))
    universe = open_with_mdanalysis(again, files, tmp_path)
    assert len(universe.trajectory) == len(joined)
    universe.trajectory.close()


def test_frames_come_to_disk_though_no_further_report_comes(tmp_path):
    """A program that stands still after its steps (training, waiting) is killed: all is there."""
    child = start_child(tmp_path, end=1000, afterwards="import time; time.sleep(1000)")
    try:
        assert next_line(child) == "ready\n"
        deadline = time.monotonic() + PATIENCE
        steps = []
        while len(steps) < 10 and time.monotonic() < deadline:
            time.sleep(0.05)
            with contextlib.suppress(FileNotFoundError):
                steps = read_frames(tmp_path / "frames").step.tolist()
    finally:
        child.kill()
        child.communicate(timeout=PATIENCE)
    assert steps == list(range(100, 1001, 100))


def test_the_end_of_the_program_writes_everything(tmp_path):
    child = start_child(tmp_path, end=1000, afterwards="raise SystemExit")
    child.communicate(timeout=PATIENCE)
    assert read_frames(tmp_path / "frames").step.tolist() == list(range(100, 1001, 100))
    assert sorted(os.listdir(tmp_path / "frames")) == ["segment-00001.h5md"]


def test_a_reporter_that_is_dropped_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "FLUSH_SECONDS", 0.2)
    simulation = make_well()
    simulation.reporters.append(FrameReporter(tmp_path / "frames", 10, Height()))
    simulation.step(50)
    timer = simulation.reporters[0]._writer._timer
    simulation.reporters.clear()
    timer.join(20)
    assert read_frames(tmp_path / "frames").step.tolist() == [10, 20, 30, 40, 50]


# ---- the temperature


def test_frames_are_of_the_temperature_that_the_run_is_held_at(tmp_path) -> None:
    """A script that anneals, and a bias that was told another temperature."""
    bias = Height()
    bias.temperature = 310.0
    simulation = make_well()
    reporter = FrameReporter(tmp_path, 2, bias)
    simulation.reporters.append(reporter)
    for kelvins in (300, 500, 300):
        simulation.integrator.setTemperature(kelvins)
        simulation.step(4)
    reporter.close()
    with pytest.raises(ValueError, match="differ in temperature"):
        read_frames(tmp_path)
    cold, hot = (read_frames(tmp_path, temperature=kelvins) for kelvins in (300, 500))
    assert (cold.step.tolist(), hot.step.tolist()) == ([2, 4, 10, 12], [6, 8])
    assert (cold.temperature, cold.bias_temperature) == (300.0, 310.0)
    assert hot.temperature == 500.0


def test_a_bias_that_was_told_another_temperature_is_no_change_of_it(tmp_path) -> None:
    """Else a restart at another temperature would be taken for one more change."""
    bias = Height()
    bias.temperature = 310.0
    simulation = make_well()
    reporter = FrameReporter(tmp_path, 2, bias)
    simulation.reporters.append(reporter)
    simulation.step(2)
    simulation.integrator.setTemperature(300.2)  # the same, to what is told apart
    simulation.step(2)
    reporter.close()
    (path,) = tmp_path.glob(PATTERN)
    with open_segment(path) as file:
        header = read_header(file)
    assert header.temperature == 300.0
    assert TEMPERED not in header.about


def test_simulated_tempering_gives_each_frame_its_temperature(tmp_path) -> None:
    simulation = make_well()
    reporter = FrameReporter(tmp_path, 5, Height())
    simulation.reporters.append(reporter)
    ladder = [300, 400, 500] * openmm.unit.kelvin
    tempering = app.SimulatedTempering(
        simulation, ladder, tempChangeInterval=5, reportInterval=10**6, reportFile=os.devnull
    )
    held = {}

    class Keep:
        def describeNextReport(self, simulation):
            return {"steps": 5 - simulation.currentStep % 5, "include": []}

        def report(self, simulation, state):
            held[simulation.currentStep] = simulation.integrator.getTemperature()._value

    simulation.reporters.insert(0, Keep())
    tempering.step(300)
    reporter.close()
    assert len(set(held.values())) > 1
    for kelvins in sorted(set(held.values())):
        steps = [step for step, value in held.items() if value == kelvins]
        assert read_frames(tmp_path, temperature=kelvins).step.tolist() == steps
    assert len(list(tmp_path.glob(PATTERN))) == len(set(held.values()))
