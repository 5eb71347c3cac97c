"""ProposalReporter in living simulations: what it changes, and what it must not."""

import copy
import csv
import dataclasses
import functools
import math
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from openmm import app, unit
from scipy import stats

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import read_frames, topology_hash
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.proposals import ScreenSettings
from openmm_cgan.reporters import FrameReporter, ProposalReporter
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.reporters.surroundings import Surroundings
from openmm_cgan.testsystems import (
    PHI_ATOMS,
    PSI_ATOMS,
    Molecule,
    alanine_dipeptide,
    torsion,
)
from tests.cases.water import dipeptide_in_water

KT = GAS_CONSTANT * 300
TORSIONS = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
WEAK = TORSIONS + "RESTRAINT ARG=phi,psi AT=-1.3,1.2 KAPPA=1,1\n"
METAD = TORSIONS + (
    "METAD ARG=phi,psi SIGMA=0.3,0.3 HEIGHT=1.0 PACE=40 BIASFACTOR=10 TEMP=300 LABEL=metad "
    "GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=60,60 FILE=HILLS\n"
    "PRINT ARG=phi,psi,metad.bias STRIDE=20 FILE=COLVAR\nFLUSH STRIDE=20\n"
)
QUICK = ProposalSettings(batch=4, heal_steps=50, minimise_iterations=50)
BACKENDS = ["native", pytest.param("kernel", marks=pytest.mark.plumed)]


@functools.cache
def built(basin: str) -> Molecule:
    return alanine_dipeptide(basin)


def molecule_in(basin: str) -> Molecule:
    """A molecule whose System is not shared: a bias is added to it."""
    return dataclasses.replace(built(basin), system=copy.deepcopy(built(basin).system))


class Turns:
    """A sampler: the C7eq structure turned to the CVs asked for, with a little noise."""

    def __init__(self, variables: tuple[CollectiveVariable, ...], noise: float = 0.001) -> None:
        self.variables = variables
        self.noise = noise
        self.start = built("C7eq").positions
        self.topology_hash, self.cv_range, self.has_density = "", None, False
        self.n_atoms, self.atoms = 22, np.arange(22)

    def sample(self, cvs: NDArray, n: int | None = None, seed: int = 0) -> NDArray:
        rng = np.random.default_rng(seed)
        made = np.stack([self._turned(target) for target in cvs])
        return made + self.noise * rng.standard_normal(made.shape)

    def _turned(self, target: NDArray) -> NDArray:
        x = self.start.copy()
        for atoms, first, angle in ((PHI_ATOMS, 9, target[0]), (PSI_ATOMS, 15, target[1])):
            origin, end = x[atoms[1]], x[atoms[2]]
            axis = (end - origin) / np.linalg.norm(end - origin)
            turn = angle - torsion(x, atoms)
            arms = x[first:] - end
            along = np.outer(arms @ axis, axis)
            across = math.cos(turn) * (arms - along) + math.sin(turn) * np.cross(axis, arms)
            x[first:] = end + along + across
        return x


class Spoiled(Turns):
    """The same, made wrong in one way."""

    def __init__(
        self, variables: tuple[CollectiveVariable, ...], spoil: Callable[[NDArray], NDArray]
    ) -> None:
        super().__init__(variables)
        self.spoil = spoil

    def sample(self, cvs: NDArray, n: int | None = None, seed: int = 0) -> NDArray:
        return self.spoil(super().sample(cvs, n, seed))


@dataclasses.dataclass
class Run:
    simulation: app.Simulation
    bias: PlumedBias


def make_run(
    folder: Path,
    text: str = WEAK,
    backend: str = "native",
    molecule: Molecule | None = None,
    integrator: openmm.Integrator | None = None,
    kind: type[PlumedBias] = PlumedBias,
) -> Run:
    molecule = molecule or molecule_in("C7eq")
    folder.mkdir(parents=True, exist_ok=True)
    bias = kind(text, molecule.topology, temperature=300, backend=backend, directory=folder)
    bias.add_to(molecule.system)
    if integrator is None:
        integrator = openmm.LangevinMiddleIntegrator(300, 1.0, 0.002)
        integrator.setRandomNumberSeed(11)
    simulation = app.Simulation(
        molecule.topology,
        molecule.system,
        integrator,
        openmm.Platform.getPlatformByName("Reference"),
    )
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(300, 12)
    bias.attach(simulation)
    return Run(simulation, bias)


def snapshot(simulation: app.Simulation) -> dict[str, object]:
    state = simulation.context.getState(positions=True, velocities=True, parameters=True)
    return {
        "positions": state.getPositions(asNumpy=True)._value.tobytes(),
        "velocities": state.getVelocities(asNumpy=True)._value.tobytes(),
        "box": state.getPeriodicBoxVectors(asNumpy=True)._value.tobytes(),
        "step": simulation.currentStep,
        "time": state.getTime()._value,
    }


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def nan(x: NDArray) -> NDArray:
    return np.full_like(x, np.nan)


def mirrored(x: NDArray) -> NDArray:
    return x * [1, 1, -1]


def torn(x: NDArray) -> NDArray:
    """The first methyl group 0.1 nm away from its carbon."""
    made = x.copy()
    made[:, :4] += (
        0.1
        * (x[:, [1]] - x[:, [4]])
        / np.linalg.norm(x[:, [1]] - x[:, [4]], axis=-1, keepdims=True)
    )
    return made


def off_target(x: NDArray) -> NDArray:
    """The other basin, whatever was asked for."""
    return np.broadcast_to(built("C7ax").positions, x.shape)


# ---- after a refusal nothing has changed


REFUSALS = {
    "not finite": (nan, QUICK),
    "chirality": (mirrored, QUICK),
    "bond length": (torn, QUICK),
    "cv error": (off_target, QUICK),
    # these two are refused only after minimisation and dynamics in the second Context
    "energy too high": (None, dataclasses.replace(QUICK, max_energy=1e-9)),
    "left target": (
        None,
        dataclasses.replace(QUICK, kappa=1e-3, heal_steps=400, max_energy=1e9),
    ),
}


def followed(
    folder: Path, backend: str, add_reporter: Callable[[Run], None]
) -> tuple[list[dict[str, object]], NDArray]:
    """State after each of four stretches, and the bias at some places where it is known."""
    run = make_run(folder, METAD, backend)
    add_reporter(run)
    states = []
    for _ in range(4):
        run.simulation.step(50)
        states.append(snapshot(run.simulation))
    run.bias.close()
    cvs = np.random.default_rng(1).uniform(-3, 3, (20, 2))
    return states, run.bias.bias_of_cvs(cvs) if backend == "native" else np.zeros(0)


@pytest.mark.parametrize(
    ("reason", "backend"),
    [
        *((reason, "native") for reason in REFUSALS),
        pytest.param("energy too high", "kernel", marks=pytest.mark.plumed),
    ],
)
def test_after_a_refusal_the_run_goes_on_bit_for_bit(
    tmp_path: Path, reason: str, backend: str
) -> None:
    spoil, settings = REFUSALS[reason]
    reporters = []

    def add_reporter(run: Run) -> None:
        variables = run.bias.variables
        sampler = Turns(variables) if spoil is None else Spoiled(variables, spoil)
        # a strained place, which a molecule that is hardly held leaves at once
        targets = np.array([[0.3, -2.4] if reason == "left target" else [-1.0, 0.5]])
        reporters.append(
            ProposalReporter(
                tmp_path / "p.csv", 50, sampler, run.bias, targets=targets, settings=settings
            )
        )
        run.simulation.reporters.append(reporters[0])

    # one after the other: on the Reference platform they draw from the same stream
    states, bias = followed(tmp_path / "run", backend, add_reporter)
    expected_states, expected_bias = followed(tmp_path / "plain", backend, lambda run: None)
    assert reporters[0].counts() == {"accepted": 0, reason: 4}
    assert [row["reason"] for row in rows_of(tmp_path / "p.csv")] == [reason] * 4
    assert states == expected_states
    np.testing.assert_array_equal(bias, expected_bias)
    for name in ("HILLS", "COLVAR"):
        assert (tmp_path / "run" / name).read_text() == (tmp_path / "plain" / name).read_text()


def test_each_candidate_is_counted_by_its_reason(tmp_path: Path) -> None:
    wrong = [lambda x: x, nan, mirrored, torn, off_target]

    def one_of_each(x: NDArray) -> NDArray:
        return np.stack([wrong[i % 5](x[i : i + 1])[0] for i in range(len(x))])

    run = make_run(tmp_path)
    settings = dataclasses.replace(QUICK, batch=10)
    reporter = ProposalReporter(
        tmp_path / "p.csv",
        20,
        Spoiled(run.bias.variables, one_of_each),
        run.bias,
        targets=np.array([[-1.0, 0.5]]),
        settings=settings,
    )
    run.simulation.reporters.append(reporter)
    run.simulation.step(60)
    expected = dict.fromkeys(["accepted", "not finite", "chirality", "bond length", "cv error"], 6)
    assert reporter.candidate_counts() == expected
    assert sum(reporter.counts().values()) == 3
    assert np.isfinite(run.simulation.context.getState(energy=True).getPotentialEnergy()._value)


# ---- what an injection is


@pytest.fixture(scope="module")
def injected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray]:
    """150 injections: energies, velocities and constraint errors just after each."""
    run = make_run(tmp_path_factory.mktemp("injected"), TORSIONS + "PRINT ARG=phi,psi FILE=C\n")
    simulation = run.simulation
    reporter = ProposalReporter(
        run.bias.directory / "p.csv",
        4,
        Turns(run.bias.variables),
        run.bias,
        targets=np.array([[-1.4, 1.2], [-1.3, 1.0], [-2.5, 2.6]]),
        settings=dataclasses.replace(QUICK, batch=1, heal_steps=25, max_energy=100),
    )
    simulation.reporters.append(reporter)
    system = simulation.system
    pairs = [system.getConstraintParameters(i) for i in range(system.getNumConstraints())]
    first, second = np.array([pair[:2] for pair in pairs]).T
    lengths = np.array([pair[2]._value for pair in pairs])
    found: dict[str, list] = {"kinetic": [], "stretch": [], "along": [], "cvs": []}
    while reporter.counts()["accepted"] < 150:
        before = reporter.counts()["accepted"]
        simulation.step(4)
        if reporter.counts()["accepted"] == before:
            continue
        state = simulation.context.getState(positions=True, velocities=True)
        x, v = state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value
        masses = np.array([system.getParticleMass(i)._value for i in range(22)])
        found["kinetic"].append(0.5 * (masses[:, None] * v**2).sum())
        bonds = x[first] - x[second]
        found["stretch"].append(np.abs(np.linalg.norm(bonds, axis=1) / lengths - 1).max())
        found["along"].append(np.abs(((v[first] - v[second]) * bonds).sum(1) / lengths).max())
        found["cvs"].append(run.bias.cv_values(x))
    return {name: np.array(values) for name, values in found.items()}


def test_kinetic_temperature_is_that_of_the_run(injected: dict[str, NDArray]) -> None:
    n_dof = 3 * 22 - 12
    kinetic = injected["kinetic"]
    error = KT * math.sqrt(n_dof / 2 / len(kinetic))
    assert abs(kinetic.mean() - n_dof / 2 * KT) < 3.5 * error
    # the whole distribution, not only its mean
    assert stats.kstest(2 * kinetic / KT, stats.chi2(n_dof).cdf).pvalue > 1e-3


def test_constraints_hold_in_positions_and_velocities(injected: dict[str, NDArray]) -> None:
    assert injected["stretch"].max() < 1e-5  # OpenMM's default tolerance
    assert injected["along"].max() < 1e-5  # nm/ps; thermal velocities are of order 1


def test_injections_are_at_their_targets(injected: dict[str, NDArray]) -> None:
    targets = np.array([[-1.4, 1.2], [-1.3, 1.0], [-2.5, 2.6]])
    offsets = np.abs(injected["cvs"][:, None] - targets).max(axis=2).min(axis=1)
    assert offsets.max() < 0.1 + 3 * 0.05  # the tolerance, and three deviations of the restraint


def test_step_time_and_box_go_on_through_an_injection(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    reporter = ProposalReporter(
        tmp_path / "p.csv", 25, Turns(run.bias.variables), run.bias, settings=QUICK
    )
    run.simulation.reporters.append(reporter)
    box = snapshot(run.simulation)["box"]
    run.simulation.step(100)
    assert reporter.counts()["accepted"] > 0
    now = snapshot(run.simulation)
    assert (now["step"], now["box"]) == (100, box)
    assert now["time"] == pytest.approx(0.2)
    rows = rows_of(tmp_path / "p.csv")
    assert [int(row["step"]) for row in rows] == [25, 50, 75, 100]
    np.testing.assert_allclose([float(row["time"]) for row in rows], [0.05, 0.1, 0.15, 0.2])


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_hill_and_no_row_for_a_candidate(tmp_path: Path, backend: str) -> None:
    run = make_run(tmp_path, METAD, backend)
    there: dict[int, NDArray] = {}

    class Watch:
        """CVs of the frames that were really there, taken before any injection."""

        def describeNextReport(self, simulation: app.Simulation) -> dict:
            steps = 20 - simulation.currentStep % 20
            return {"steps": steps, "periodic": False, "include": ["positions"]}

        def report(self, simulation: app.Simulation, state: openmm.State) -> None:
            positions = state.getPositions(asNumpy=True)._value
            there[simulation.currentStep] = run.bias.cv_values(positions)

    run.simulation.reporters.append(Watch())
    reporter = ProposalReporter(
        tmp_path / "p.csv", 40, Turns(run.bias.variables), run.bias, settings=QUICK, seed=2
    )
    run.simulation.reporters.append(reporter)
    run.simulation.step(401)
    run.bias.close()
    assert reporter.counts()["accepted"] >= 3
    colvar, hills = read_fields(tmp_path / "COLVAR"), read_fields(tmp_path / "HILLS")
    np.testing.assert_allclose(colvar.columns["time"], 0.04 * np.arange(21), atol=1e-6)
    np.testing.assert_allclose(hills.columns["time"], 0.08 * np.arange(1, 11), atol=1e-6)
    for table, stride in ((colvar, 20), (hills, 40)):
        steps = range(stride, 401, stride)
        shift = len(table) - len(steps)
        for name, k in (("phi", 0), ("psi", 1)):
            expected = [there[step][k] for step in steps]
            np.testing.assert_allclose(table.columns[name][shift:], expected, atol=2e-6)


class LikeThePlugin(PlumedBias):
    """With a force that, as openmm-plumed's, updates at the first evaluation of each step."""

    def add_to(self, system: openmm.System) -> list[openmm.Force]:
        self.updated: dict[int, NDArray] = {}

        def update(state: openmm.State) -> tuple[float, NDArray]:
            positions = state.getPositions(asNumpy=True)._value
            self.updated.setdefault(state.getStepCount(), np.array(positions))
            return 0.0, np.zeros((22, 3))

        made = super().add_to(system)
        force = openmm.PythonForce(update)
        force.setForceGroup(next(iter(self.force_groups())))
        self._attachment._presence._forces.append(force)  # as if the backend had made it
        system.addForce(force)
        return [*made, force]


def test_a_plugin_updates_at_the_frames_that_were_there(tmp_path: Path) -> None:
    run = make_run(tmp_path, kind=LikeThePlugin)
    there: dict[int, NDArray] = {}

    class Watch:
        def describeNextReport(self, simulation: app.Simulation) -> dict:
            return {"steps": 1, "periodic": False, "include": ["positions"]}

        def report(self, simulation: app.Simulation, state: openmm.State) -> None:
            there[simulation.currentStep] = np.array(state.getPositions(asNumpy=True)._value)

    run.simulation.reporters.append(Watch())
    reporter = ProposalReporter(
        tmp_path / "p.csv", 5, Turns(run.bias.variables), run.bias, settings=QUICK
    )
    run.simulation.reporters.append(reporter)
    run.simulation.step(31)
    assert reporter.counts()["accepted"] >= 3
    for step in range(1, 31):
        np.testing.assert_array_equal(run.bias.updated[step], there[step])


def test_an_injection_starts_a_segment_with_a_settle_window(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    frames = FrameReporter(tmp_path / "frames", 10, run.bias)
    run.simulation.reporters.append(frames)
    reporter = ProposalReporter(
        tmp_path / "p.csv",
        100,
        Turns(run.bias.variables),
        run.bias,
        settings=dataclasses.replace(QUICK, settle_steps=40),
    )
    run.simulation.reporters.append(reporter)
    run.simulation.step(400)
    rows = rows_of(tmp_path / "p.csv")
    injections = [int(row["step"]) for row in rows if row["accepted"] == "1"]
    assert len(injections) >= 2
    everything = read_frames(tmp_path / "frames", settling=True)
    for step, segment, settling in zip(
        everything.step, everything.segment, everything.settling, strict=True
    ):
        earlier = [injection for injection in injections if injection < step]
        assert segment == 1 + len(earlier)
        assert settling == bool(earlier and step < earlier[-1] + 40)
    assert len(read_frames(tmp_path / "frames")) == (~everything.settling).sum()
    assert [int(row["segment"]) for row in rows] == [
        1 + sum(injection <= int(row["step"]) for injection in injections) for row in rows
    ]


def test_settle_window_is_one_over_friction(tmp_path: Path) -> None:
    integrator = openmm.LangevinMiddleIntegrator(300, 4.0, 0.001)
    run = make_run(tmp_path, integrator=integrator)
    asked = []

    class Recording(FrameReporter):
        def start_segment(self, origin: dict, settle_steps: int = 0) -> int:
            asked.append((origin, settle_steps))
            return super().start_segment(origin, settle_steps)

    run.simulation.reporters.append(Recording(tmp_path / "frames", 1000, run.bias))
    reporter = ProposalReporter(
        tmp_path / "p.csv", 10, Turns(run.bias.variables), run.bias, settings=QUICK, seed=5
    )
    run.simulation.reporters.append(reporter)
    run.simulation.step(50)
    assert reporter.counts()["accepted"] == len(asked) > 0
    origin, settle_steps = asked[0]
    assert settle_steps == 250  # 1 / (4 / ps) in steps of 1 fs
    row = next(row for row in rows_of(tmp_path / "p.csv") if row["accepted"] == "1")
    assert origin["mode"] == "seed"
    assert (origin["seed"], origin["step"]) == (int(row["seed"]), int(row["step"]))
    assert origin["target"] == [float(row["phi_target"]), float(row["psi_target"])]


# ---- seeds, files, targets


def run_with_seed(folder: Path, seed: int) -> str:
    run = make_run(folder)
    run.simulation.reporters.append(
        ProposalReporter(
            folder / "p.csv", 50, Turns(run.bias.variables), run.bias, seed=seed, settings=QUICK
        )
    )
    run.simulation.step(300)
    return (folder / "p.csv").read_text()


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    first, again = run_with_seed(tmp_path / "a", 3), run_with_seed(tmp_path / "b", 3)
    assert first == again
    assert run_with_seed(tmp_path / "c", 4) != first


def test_append_adds_rows_below_the_same_header(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    for append in (False, True):
        run = make_run(tmp_path)
        run.simulation.reporters.append(
            ProposalReporter(
                path, 50, Turns(run.bias.variables), run.bias, append=append, settings=QUICK
            )
        )
        run.simulation.step(100)
    assert [row["step"] for row in rows_of(path)] == ["50", "100"] * 2
    path.write_text("step,other\n")
    with pytest.raises(ValueError, match="step,other; expected step,time,phi_target"):
        ProposalReporter(path, 50, Turns(run.bias.variables), run.bias, append=True)


def test_least_visited_goes_where_the_run_was_not(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    reporter = ProposalReporter(
        tmp_path / "p.csv",
        5,
        Spoiled(run.bias.variables, nan),  # all refused: the run stays where it is
        run.bias,
        targets="least_visited",
        settings=QUICK,
    )
    run.simulation.reporters.append(reporter)
    run.simulation.step(500)
    here = np.array([-1.4, 1.2])
    targets = np.array(
        [[float(r["phi_target"]), float(r["psi_target"])] for r in rows_of(tmp_path / "p.csv")]
    )
    assert (np.abs(targets - here).max(axis=1) > 0.3).mean() > 0.95
    assert (np.abs(targets) <= math.pi).all()


# ---- with solvent


@pytest.fixture(scope="module")
def solvated() -> Molecule:
    """Alanine dipeptide among TIP4P-Ew waters (with virtual sites) in a periodic box."""
    bare = molecule_in("C7eq")
    field = app.ForceField("amber96.xml", "tip4pew.xml")
    modeller = app.Modeller(bare.topology, bare.positions * unit.nanometer)
    modeller.addSolvent(field, model="tip4pew", numAdded=80)
    system = field.createSystem(
        modeller.topology,
        nonbondedMethod=app.CutoffPeriodic,
        nonbondedCutoff=0.6,
        constraints=app.HBonds,
    )
    system.addForce(openmm.MonteCarloBarostat(1.0, 300, 10))
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer))
    return Molecule(modeller.topology, system, positions)


def test_a_solute_is_replaced_within_its_solvent(solvated: Molecule, tmp_path: Path) -> None:
    run = make_run(tmp_path, molecule=solvated)
    simulation = run.simulation
    openmm.LocalEnergyMinimizer.minimize(simulation.context, 10, 30)
    simulation.context.setVelocitiesToTemperature(300, 1)
    sampler = Turns(run.bias.variables)
    reporter = ProposalReporter(
        tmp_path / "p.csv",
        10,
        sampler,
        run.bias,
        targets=np.array([[-1.3, 1.0]]),
        settings=dataclasses.replace(QUICK, batch=2, minimise_iterations=20, heal_steps=10),
    )
    simulation.reporters.append(reporter)
    simulation.step(9)
    before = simulation.context.getState(positions=True)
    simulation.step(1)
    assert reporter.counts() == {"accepted": 1}
    after = simulation.context.getState(positions=True, energy=True)
    x, y = (s.getPositions(asNumpy=True)._value for s in (before, after))
    assert np.linalg.norm(x[:22].mean(0) - y[:22].mean(0)) < 0.1, "the solute stays in its place"
    np.testing.assert_allclose(run.bias.cv_values(y, None), [-1.3, 1.0], atol=0.25)
    # each virtual site is where its three atoms put it: on the bisector, 0.0125 nm from O
    oxygen, hydrogen, _, site = (y[22 + k :: 4] for k in range(4))
    np.testing.assert_allclose(np.linalg.norm(site - oxygen, axis=1), 0.0125, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(hydrogen - oxygen, axis=1), 0.09572, atol=1e-5)
    assert np.isfinite(after.getPotentialEnergy()._value)


def test_water_goes_on_as_it_was_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is near: 12 steps of 2 fs later it still has most of its velocity."""
    monkeypatch.setattr(Surroundings, "near", lambda self, x, reach: np.zeros(len(x), dtype=bool))
    water = dipeptide_in_water()
    molecule = dataclasses.replace(water, system=copy.deepcopy(water.system))
    run = make_run(tmp_path, molecule=molecule)
    settings = dataclasses.replace(QUICK, heal_steps=12, max_energy=1e9)
    reporter = ProposalReporter(
        tmp_path / "p.csv",
        10,
        Turns(run.bias.variables),
        run.bias,
        targets=np.array([[-1.3, 1.0]]),
        settings=settings,
    )
    run.simulation.reporters.append(reporter)
    run.simulation.step(9)
    velocities = []
    for _ in range(2):
        state = run.simulation.context.getState(velocities=True)
        velocities.append(state.getVelocities(asNumpy=True)._value[22::3].ravel())
        run.simulation.step(1)
    assert reporter.counts() == {"accepted": 1}
    assert np.corrcoef(*velocities)[0, 1] > 0.5


def test_after_a_refusal_in_water_the_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """A barostat and Langevin's noise draw from the one stream that the platform has."""

    def followed_in_water(name: str, settings: ProposalSettings | None) -> list[dict[str, object]]:
        water = dipeptide_in_water()
        molecule = dataclasses.replace(water, system=copy.deepcopy(water.system))
        molecule.system.addForce(openmm.MonteCarloBarostat(1.0, 300, 10))
        molecule.system.getForces()[-1].setRandomNumberSeed(3)
        run = make_run(tmp_path / name, molecule=molecule)
        if settings is not None:
            reporter = ProposalReporter(
                tmp_path / f"{name}.csv", 15, Turns(run.bias.variables), run.bias, settings=settings
            )
            run.simulation.reporters.append(reporter)
        states = []
        for _ in range(2):
            run.simulation.step(20)
            states.append(snapshot(run.simulation))
        if settings is not None:
            counts = reporter.counts()
            assert (counts["accepted"], sum(counts.values())) == (0, 2), counts
        return states

    refused = dataclasses.replace(QUICK, max_energy=1e-9, heal_steps=20, batch=2)
    assert followed_in_water("with", refused) == followed_in_water("without", None)


# ---- errors before anything moves


def with_attributes(sampler: Turns, **attributes: object) -> Turns:
    for name, value in attributes.items():
        setattr(sampler, name, value)
    return sampler


PHI, PSI = (CollectiveVariable(name, "rad", (-math.pi, math.pi)) for name in ("phi", "psi"))


@pytest.mark.parametrize(
    ("sampler", "arguments", "message"),
    [
        (
            types.SimpleNamespace(variables=(PSI, PHI)),
            {},
            r"in the same order.*cvs=\['psi', 'phi'\]",
        ),
        (
            types.SimpleNamespace(variables=(PHI, CollectiveVariable("psi", "rad"))),
            {},
            "psi with the domain None rad, the bias has the domain",
        ),
        (
            types.SimpleNamespace(variables=(PHI, dataclasses.replace(PSI, unit="deg"))),
            {},
            "deg, the bias has",
        ),
        (None, {"mode": "exact"}, "mode='exact' needs the density"),
        (
            None,
            {"mode": "precise"},
            "expected 'auto', 'seed', 'exact', 'annealed', 'local' or 'steered'",
        ),
        (None, {"targets": np.array([[4.0, 0.0, 1.0]])}, r"expected \(m, 2\)"),
        (None, {"targets": "here"}, "expected 'uniform'"),
        (None, {"reportInterval": 0}, "expected a number of steps >= 1"),
        (None, {"seed": -1}, "expected 0 or a positive number"),
    ],
)
def test_bad_arguments_are_refused_at_once(tmp_path, sampler, arguments, message) -> None:
    run = make_run(tmp_path)
    arguments = {"reportInterval": 10, **arguments}
    with pytest.raises(ValueError, match=message):
        ProposalReporter(
            tmp_path / "p.csv",
            sampler=sampler or Turns(run.bias.variables),
            bias=run.bias,
            **arguments,
        )
    assert not (tmp_path / "p.csv").exists(), "a file of an earlier run is not overwritten"


def test_a_target_outside_the_trained_range_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    sampler = with_attributes(
        Turns(run.bias.variables), cv_range=np.array([[-3.0, 0.0], [-3.0, 3.0]])
    )
    with pytest.raises(ValueError, match=r"phi outside the range \[-3, 0\] rad"):
        ProposalReporter(tmp_path / "p.csv", 10, sampler, run.bias, targets=np.array([[1.0, 0.0]]))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"n_atoms": 21}, "makes 21 atoms, the simulation has 22"),
        ({"atoms": np.arange(1, 23)}, "makes 22 atoms"),
        ({"topology_hash": "0" * 64}, "another topology"),
    ],
)
def test_a_sampler_of_other_atoms_is_refused_before_a_step(tmp_path, attributes, message) -> None:
    run = make_run(tmp_path)
    sampler = with_attributes(Turns(run.bias.variables), **attributes)
    before = snapshot(run.simulation)
    with pytest.raises(ValueError, match=message):
        ProposalReporter(tmp_path / "p.csv", 10, sampler, run.bias)
    assert snapshot(run.simulation) == before


def test_the_right_topology_hash_is_accepted(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    right = topology_hash(run.simulation.topology)
    sampler = with_attributes(Turns(run.bias.variables), topology_hash=right)
    run.simulation.reporters.append(
        ProposalReporter(tmp_path / "p.csv", 10, sampler, run.bias, settings=QUICK)
    )
    run.simulation.step(10)


def test_an_integrator_without_temperature_needs_one_given(tmp_path: Path) -> None:
    run = make_run(tmp_path, integrator=openmm.VerletIntegrator(0.002))
    sampler = Turns(run.bias.variables)
    run.bias.temperature = None  # else it is that of the bias
    with pytest.raises(ValueError, match="VerletIntegrator has no temperature"):
        ProposalReporter(tmp_path / "p.csv", 10, sampler, run.bias)
    given = dataclasses.replace(QUICK, temperature=300 * unit.kelvin)
    run.simulation.reporters.append(
        ProposalReporter(tmp_path / "p.csv", 10, sampler, run.bias, settings=given)
    )
    run.simulation.step(20)


def test_no_reporter_of_positions_may_come_after(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    reporter = ProposalReporter(
        tmp_path / "p.csv", 10, Turns(run.bias.variables), run.bias, settings=QUICK
    )
    run.simulation.reporters.append(reporter)
    log = tmp_path / "log.csv"
    run.simulation.reporters.append(app.StateDataReporter(str(log), 10, potentialEnergy=True))
    run.simulation.step(10)
    run.simulation.reporters.append(FrameReporter(tmp_path / "frames", 10, run.bias))
    with pytest.raises(RuntimeError, match="FrameReporter comes after ProposalReporter"):
        run.simulation.step(10)


@pytest.mark.parametrize(
    "wrong", [{"batch": 0}, {"choose_from": 0}, {"heal_steps": 0}, {"max_energy": math.nan}]
)
def test_bad_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ProposalSettings(**wrong)


def test_screen_settings_reach_the_screen(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    strict = dataclasses.replace(QUICK, screen=ScreenSettings(cv_tolerance=1e-7))
    reporter = ProposalReporter(
        tmp_path / "p.csv", 10, Turns(run.bias.variables), run.bias, settings=strict
    )
    run.simulation.reporters.append(reporter)
    run.simulation.step(10)
    assert reporter.counts() == {"accepted": 0, "cv error": 1}


def proposing(folder: Path, molecule: Molecule, integrator: openmm.Integrator | None = None) -> Run:
    run = make_run(folder, molecule=molecule, integrator=integrator)
    sampler = Turns(run.bias.variables)
    run.simulation.reporters.append(
        ProposalReporter(folder / "p.csv", 20, sampler, run.bias, mode="seed", settings=QUICK)
    )
    return run


def test_atoms_that_are_held_in_place_are_not_moved(tmp_path: Path) -> None:
    molecule = molecule_in("C7eq")
    while molecule.system.getNumConstraints():
        molecule.system.removeConstraint(0)
    molecule.system.setParticleMass(4, 0.0)
    with pytest.raises(ValueError, match=r"atoms \[4\] have mass 0.*train .* of the others"):
        proposing(tmp_path, molecule)
    for atom in range(10):
        molecule.system.setParticleMass(atom, 0.0)
    with pytest.raises(ValueError, match=r"atoms \[0, 1, .* 7\] and 2 others have mass 0"):
        proposing(tmp_path, molecule)


def test_drude_particles_are_refused(tmp_path: Path) -> None:
    molecule = molecule_in("C7eq")
    molecule.system.addForce(openmm.DrudeForce())
    with pytest.raises(ValueError, match="Drude particles have a bath of their own"):
        proposing(tmp_path, molecule).simulation.step(20)


def test_seeds_heal_beside_an_integrator_with_long_outer_steps(tmp_path: Path) -> None:
    """Verlet at the outer step of 4 fs, without constraints, would blow up."""
    molecule = molecule_in("C7eq")
    system = app.ForceField("amber96.xml").createSystem(molecule.topology, constraints=None)
    molecule = dataclasses.replace(molecule, system=system)
    for force in system.getForces():
        force.setForceGroup(int(not isinstance(force, openmm.NonbondedForce)))
    groups = [(0, 1), (1, 8), (31, 8)]
    mts = openmm.MTSLangevinIntegrator(300, 1.0, 0.004, groups)
    mts.setRandomNumberSeed(2)
    run = proposing(tmp_path, molecule, mts)
    run.simulation.step(100)
    [reporter] = [r for r in run.simulation.reporters if isinstance(r, ProposalReporter)]
    assert reporter.counts()["accepted"] >= 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, "batch is 0; expected a whole number >= 1"),
        ({"heal_steps": 0}, "heal_steps is 0; expected a number of steps >= 1"),
        ({"kappa": np.inf}, "kappa is inf; expected a positive number"),
    ],
)
def test_settings_are_refused_when_made(settings, message):
    with pytest.raises(ValueError, match=message):
        ProposalSettings(**settings)
