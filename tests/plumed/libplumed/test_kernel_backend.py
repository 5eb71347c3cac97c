"""The kernel backend: libplumed through a PythonForce, against formulas and ordinary PLUMED."""

import copy
import ctypes
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInput, PlumedInputError, read_statements
from openmm_cgan.plumed.libplumed import kernel
from openmm_cgan.plumed.libplumed.instance import MDSettings, Plumed, find_kernel
from openmm_cgan.plumed.libplumed.kernel import KernelBackend
from openmm_cgan.plumed.libplumed.schedule import NEVER_UPDATED, UPDATE_STRIDES, update_strides
from openmm_cgan.testsystems import PHI_ATOMS, PSI_ATOMS, alanine_dipeptide, torsion
from tests.cases.biased_runs import biased_alanine
from tests.cases.other_processes import PATIENCE

pytestmark = pytest.mark.plumed

PHI_PSI = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
METAD = (
    PHI_PSI + "m: METAD ARG=phi,psi SIGMA=0.3,0.3 HEIGHT=1.2 PACE=20 BIASFACTOR=10 FILE=HILLS\n"
    "PRINT ARG=phi,psi,m.bias STRIDE=10 FILE=COLVAR\n"
)
TIMESTEP = 0.002


@pytest.fixture(scope="module")
def molecule():
    return alanine_dipeptide("C7eq")


def make(text, folder, read=("phi", "psi"), restart=False, temperature=300.0):
    given = PlumedInput.read(text, "<input>", folder)
    return KernelBackend(given, temperature=temperature, restart=restart, read=read)


def particles(n, mass=12.0):
    """A system of free particles."""
    system = openmm.System()
    for i in range(n):
        system.addParticle(mass + i)
    return system


def context_of(system, positions, platform="Reference", box=None):
    integrator = openmm.LangevinMiddleIntegrator(300, 1, TIMESTEP)
    integrator.setRandomNumberSeed(7)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform))
    if box is not None:
        context.setPeriodicBoxVectors(*box)
    context.setPositions(positions)
    return context


def positions_of(context):
    return context.getState(positions=True).getPositions(asNumpy=True)._value


def energy_and_forces(context):
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def started(molecule, backend):
    """A context with the bias, at the start of a run that writes."""
    system = copy.deepcopy(molecule.system)
    for force in backend.forces(system):
        system.addForce(force)
    context = context_of(system, molecule.positions)
    context.setVelocitiesToTemperature(300, 3)
    backend.start(TIMESTEP)
    return context


def run(backend, context, n_steps, between=lambda context: None):
    """What PlumedBias's reporter does, every 10 steps."""
    step = context.getStepCount()
    if step == 0:
        backend.update(positions_of(context), None, 0)
    for now in range(step + 10, step + n_steps + 1, 10):
        context.getIntegrator().step(10)
        backend.update(positions_of(context), None, now)
        between(context)


# ---- finding PLUMED


def test_the_kernel_is_found_where_plumed_kernel_says(monkeypatch, tmp_path):
    monkeypatch.delenv("PLUMED_KERNEL", raising=False)
    found = find_kernel()
    assert found.name.startswith("libplumedKernel")
    monkeypatch.setenv("PLUMED_KERNEL", str(tmp_path / "nowhere.so"))
    with pytest.raises(FileNotFoundError, match="PLUMED_KERNEL"):
        find_kernel()
    copied = tmp_path / "libplumedKernel.so"
    copied.symlink_to(found)
    monkeypatch.setenv("PLUMED_KERNEL", str(copied))
    assert find_kernel() == copied


def test_without_plumed_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(kernel, "find_kernel", lambda: None)
    with pytest.raises(RuntimeError, match="pip install --no-deps hillclimber"):
        make(PHI_PSI, tmp_path)


def test_a_file_that_is_no_kernel_is_refused(monkeypatch, tmp_path):
    (tmp_path / "libplumedKernel.so").write_text("no library")
    monkeypatch.setenv("PLUMED_KERNEL", str(tmp_path / "libplumedKernel.so"))
    with pytest.raises(RuntimeError, match="can not be used as PLUMED's kernel"):
        make(PHI_PSI, tmp_path).check(22)


# ---- forces and values


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("bystanders", [0, 5])
def test_a_restraint_is_that_of_the_formula(platform, bystanders, tmp_path):
    backend = make("d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=0.1 KAPPA=500\n", tmp_path, ("d",))
    system = particles(2 + bystanders)
    [force] = backend.forces(system)
    system.addForce(force)
    positions = np.random.default_rng(0).random((2 + bystanders, 3))
    context = context_of(system, positions, platform)
    energy_and_forces(context)
    energy, forces = energy_and_forces(context)  # nothing is left of the first
    bond = positions[1] - positions[0]
    length = np.linalg.norm(bond)
    rtol = 1e-12 if platform == "Reference" else 1e-5
    assert energy == pytest.approx(0.5 * 500 * (length - 0.1) ** 2, rel=rtol)
    expected = np.zeros_like(positions)
    expected[1] = -500 * (length - 0.1) * bond / length
    expected[0] = -expected[1]
    np.testing.assert_allclose(forces, expected, rtol=rtol, atol=1e-9)
    assert len(force.getParticles()) == (2 if bystanders else 0)


@pytest.mark.parametrize(
    "box",
    [
        np.diag([2.0, 2.5, 3.0]),
        np.array([[2.0, 0, 0], [0.6, 2.2, 0], [-0.7, 0.9, 2.1]]),
    ],
    ids=["orthorhombic", "triclinic"],
)
@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_distances_are_taken_to_the_nearest_image(box, platform, tmp_path):
    text = (
        "d: DISTANCE ATOMS=1,2\nr: DISTANCE ATOMS=1,2 NOPBC\n"
        "RESTRAINT ARG=d,r AT=0.0,0.0 KAPPA=2,20\n"
    )
    backend = make(text, tmp_path, ("d", "r"))
    system = particles(3)
    nonbonded = openmm.CustomNonbondedForce("0*r")
    nonbonded.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    nonbonded.setCutoffDistance(0.5)
    for _ in range(3):
        nonbonded.addParticle([])
    system.addForce(nonbonded)
    [force] = backend.forces(system)
    assert force.usesPeriodicBoundaryConditions()
    system.addForce(force)
    positions = np.array([[0.1, 0.1, 0.1], [1.8, 2.0, 1.9], [1.0, 1.0, 1.0]])
    context = context_of(system, positions, platform, box)
    shifts = np.array(list(np.ndindex(5, 5, 5))) - 2
    images = positions[1] - positions[0] + shifts @ box
    nearest = np.linalg.norm(images, axis=1).min()
    raw = np.linalg.norm(positions[1] - positions[0])
    energy, forces = energy_and_forces(context)
    assert energy == pytest.approx(nearest**2 + 10 * raw**2, rel=1e-5)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(backend.evaluate(positions, box, 0)[0], [nearest, raw])
    np.testing.assert_allclose(backend.cv_values(positions, box), [nearest, raw])
    np.testing.assert_allclose(backend.cv_values(positions, None), [raw, raw])


def test_forces_are_the_slope_of_the_energy(molecule, tmp_path):
    backend = make(METAD, tmp_path)
    context = started(molecule, backend)
    run(backend, context, 100)
    x = positions_of(context)
    forces = energy_and_forces(context)[1] - 0  # the whole system's: bias and force field
    slope = np.zeros_like(x)
    for i in range(22):
        for axis in range(3):
            ends = []
            for step in (1e-5, -1e-5):
                moved = x.copy()
                moved[i, axis] += step
                context.setPositions(moved)
                ends.append(energy_and_forces(context)[0])
            slope[i, axis] = (ends[1] - ends[0]) / 2e-5
    np.testing.assert_allclose(forces, slope, atol=0.02, rtol=1e-4)
    assert backend.evaluate(x, None, 100)[1] > 1


def test_values_agree_with_the_formula_and_leave_no_trace(molecule, tmp_path):
    rng = np.random.default_rng(1)
    frames = molecule.positions + 0.02 * rng.normal(size=(20, 22, 3))
    backend = make(METAD, tmp_path)
    expected = [[torsion(x, PHI_ATOMS), torsion(x, PSI_ATOMS)] for x in frames]
    np.testing.assert_allclose(backend.cv_values(frames, None), expected, atol=1e-12)
    np.testing.assert_allclose(backend.cv_values(frames[0], None), expected[0], atol=1e-12)
    assert list(tmp_path.iterdir()) == []


def test_energies_are_in_kilojoules_whatever_the_units_of_the_input(tmp_path):
    text = (
        "UNITS LENGTH=A ENERGY=kcal/mol\nd: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=1.0 KAPPA=3.0\n"
    )
    backend = make(text, tmp_path, ("d",))
    [described] = backend.describe(("d",))
    assert (described.name, described.unit, described.atoms) == ("d", "A", (0, 1))
    backend.forces(particles(2))
    positions = np.array([[0, 0, 0], [0.3, 0, 0]])
    values, energy = backend.evaluate(positions, None, 0)
    assert values == pytest.approx([3.0])
    assert energy == pytest.approx(0.5 * 3.0 * 2.0**2 * 4.184)


def test_masses_and_charges_are_those_of_the_system(tmp_path):
    text = "c: COM ATOMS=1-2\nd: DISTANCE ATOMS=c,3\nq: DIPOLE GROUP=1-3\n"
    backend = make(text, tmp_path, ("d", "q"))
    positions = np.array([[0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    with pytest.raises(ValueError, match="add_to"):
        backend.cv_values(positions, None)
    system = particles(3)
    nonbonded = openmm.NonbondedForce()
    for charge in (1.0, -0.5, -0.5):
        nonbonded.addParticle(charge, 1, 0)
    system.addForce(nonbonded)
    backend.forces(system)
    x = 13.0 / 25.0
    expected = [math.hypot(x, 1), math.hypot(0.5, 0.5)]
    np.testing.assert_allclose(backend.cv_values(positions, None), expected)
    np.testing.assert_allclose(backend.evaluate(positions, None, 0)[0], expected)


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize(
    "line",
    [
        "q: DIPOLE GROUP=1-3",
        "q: CUSTOM ARG=@charges FUNC=x PERIODIC=NO",
        "DUMPMASSCHARGE FILE=mc",
    ],
)
def test_charges_that_no_or_several_forces_have_are_refused(tmp_path, count, line):
    """The last of two forces counted, and without one a dipole was 0."""
    system = particles(3)
    for k in range(count):
        nonbonded = openmm.NonbondedForce()
        for charge in (1.0, -0.5, -0.5):
            nonbonded.addParticle(charge if k == 0 else 0.0, 1, 0)
        system.addForce(nonbonded)
    backend = make(f"d: DISTANCE ATOMS=1,3\n{line}\n", tmp_path, ("d",))
    with pytest.raises(ValueError, match=r":2: \w+: the charges are those of .* none or several"):
        backend.forces(system)
    needs_none = "d: DISTANCE ATOMS=1,3\nDUMPMASSCHARGE FILE=mc ONLY_MASSES\n"
    backend = make(needs_none, tmp_path, ("d",))
    backend.forces(system)
    positions = np.array([[0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    assert backend.cv_values(positions, None) == pytest.approx(1.0)


def test_domains_are_what_plumed_says(tmp_path):
    text = (
        PHI_PSI + "d: DISTANCE ATOMS=1,2\ns: DISTANCE ATOMS=1,2 SCALED_COMPONENTS\n"
        "twice: CUSTOM ARG=phi FUNC=2*x PERIODIC=-2*pi,2*pi\n"
        "METAD ARG=d SIGMA=0.1 HEIGHT=1 PACE=10\nPRINT ARG=* FILE=COLVAR\nENDPLUMED\nnonsense\n"
    )
    backend = make(text, tmp_path, ("phi", "d", "s.a", "twice"))
    assert backend.domains() == {
        "phi": pytest.approx((-math.pi, math.pi)),
        "d": None,
        "s.a": (-0.5, 0.5),
        "twice": pytest.approx((-2 * math.pi, 2 * math.pi)),
    }
    [phi, d] = backend.describe(("phi", "d"))
    assert (phi.action, phi.atoms, phi.unit) == ("TORSION", PHI_ATOMS, "rad")
    assert (d.action, d.unit, d.domain) == ("DISTANCE", "nm", None)


def test_atoms_needed_only_now_and_then_are_there(molecule, tmp_path):
    text = (
        PHI_PSI + "r: GYRATION ATOMS=1-20\nc: COORDINATION GROUPA=1-9 GROUPB=10-20 R_0=0.3 NLIST "
        "NL_CUTOFF=0.6 NL_STRIDE=10\nRESTRAINT ARG=phi,c AT=-1,30 KAPPA=10,0.1\n"
        "PRINT ARG=r STRIDE=20 FILE=COLVAR\n"
    )
    backend = make(text, tmp_path, ("phi", "r", "c"))
    context = started(molecule, backend)
    [force] = [f for f in context.getSystem().getForces() if isinstance(f, openmm.PythonForce)]
    assert force.getParticles() == tuple(range(20))
    run(backend, context, 40)
    x = positions_of(context)
    values, _ = backend.evaluate(x, None, 40)
    gyration = math.sqrt(x[:20].var(axis=0).sum())
    assert values[1] == pytest.approx(gyration)
    backend.close()
    table = read_fields(tmp_path / "COLVAR")
    assert table.columns["time"] == pytest.approx([0, 0.04, 0.08])
    assert table.columns["r"][-1] == pytest.approx(gyration, abs=1e-6)


# ---- what a run leaves behind


def ordinary_run(molecule, folder, n_steps):
    """PLUMED as MD codes call it: calculate, then update, once a step."""
    system = copy.deepcopy(molecule.system)
    masses = np.array([system.getParticleMass(i)._value for i in range(22)])
    settings = MDSettings(folder, masses, np.zeros(22), kT=GAS_CONSTANT * 300, timestep=TIMESTEP)
    plumed = Plumed(settings, read_statements(METAD))
    seen = set()

    def compute(state):
        step = state.getStepCount()
        plumed.positions[:] = state.getPositions(asNumpy=True)._value
        plumed.forces.fill(0)
        energy = plumed.calculate(step)
        if step not in seen:
            plumed.update()
        seen.add(step)
        return energy, plumed.forces

    system.addForce(openmm.PythonForce(compute))
    context = context_of(system, molecule.positions)
    context.setVelocitiesToTemperature(300, 3)
    trajectory = []
    for _ in range(n_steps // 10):
        context.getIntegrator().step(10)
        trajectory.append(positions_of(context))
    context.getState(energy=True)
    plumed.close()
    return np.array(trajectory)


def disturb(context):
    """Force evaluations of all kinds, with the state put back after."""
    for _ in range(10):
        context.getState(energy=True)
    state = context.getState(positions=True, velocities=True)
    context.setVelocitiesToTemperature(300, 3)
    openmm.LocalEnergyMinimizer.minimize(context, 10, 3)
    context.setPositions(state.getPositions())
    context.setVelocities(state.getVelocities())


def test_hills_and_rows_are_those_of_ordinary_plumed_whatever_is_evaluated(molecule, tmp_path):
    expected = ordinary_run(molecule, tmp_path / "ordinary", 300)
    for name, between in (("quiet", lambda context: None), ("disturbed", disturb)):
        backend = make(METAD, tmp_path / name)
        context = started(molecule, backend)
        trajectory = []

        def watch(context, trajectory=trajectory, between=between):
            trajectory.append(positions_of(context))
            between(context)

        run(backend, context, 300, watch)
        backend.close()
        # a hill has no slope at its own centre, so it does not matter that it is laid before the
        # force of its step is evaluated and not after
        np.testing.assert_allclose(trajectory, expected, atol=1e-9)
        for file in ("COLVAR", "HILLS"):
            ours = (tmp_path / name / file).read_text()
            assert ours == (tmp_path / "ordinary" / file).read_text()
    hills = read_fields(tmp_path / "quiet" / "HILLS")
    assert hills.columns["time"] == pytest.approx(0.04 * np.arange(1, 16))  # none at step 0
    rows = read_fields(tmp_path / "quiet" / "COLVAR")
    assert rows.columns["time"] == pytest.approx(0.02 * np.arange(31))
    assert rows.columns["m.bias"][2] == 0  # step 20, before its hill
    assert rows.columns["m.bias"][3] > 0


def test_nothing_is_written_before_a_run_starts(molecule, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "COLVAR").write_text("of an earlier run\n")
    text = METAD + "PRINT ARG=phi FILE=sub/PHI\nDUMPATOMS ATOMS=1-22 FILE=out.gro STRIDE=10\n"
    for restart in (False, True):
        if restart:
            make_hills(tmp_path / "HILLS")
        before = sorted(tmp_path.rglob("*"))
        backend = make(text, tmp_path, restart=restart)
        backend.describe(("phi", "psi"))
        backend.check(22)
        system = copy.deepcopy(molecule.system)
        system.addForce(backend.forces(system)[0])
        context = context_of(system, molecule.positions)
        context.getIntegrator().step(20)
        backend.evaluate(molecule.positions, None, 20)
        backend.cv_values(molecule.positions, None)
        assert sorted(tmp_path.rglob("*")) == before
        assert (tmp_path / "COLVAR").read_text() == "of an earlier run\n"
    assert backend.evaluate(molecule.positions, None, 0)[1] > 0  # the hills of the earlier run


def make_hills(path):
    path.write_text(
        "#! FIELDS time phi psi sigma_phi sigma_psi height biasf\n#! SET multivariate false\n"
        "#! SET kerneltype stretched-gaussian\n#! SET min_phi -pi\n#! SET max_phi pi\n"
        "#! SET min_psi -pi\n#! SET max_psi pi\n 0.04 -1.2 1.3 0.3 0.3 1.0 10\n"
    )


@pytest.mark.parametrize("cut", [60, 70], ids=["at a hill", "one row before a hill"])
def test_a_restarted_run_goes_on_as_if_it_had_not_stopped(cut, molecule, tmp_path):
    whole = make(METAD, tmp_path / "whole")
    run(whole, context := started(molecule, whole), 120)
    expected = whole.evaluate(molecule.positions, None, 120)[1]
    whole.close()
    first = make(METAD, tmp_path / "parts")
    context = started(molecule, first)
    run(first, context, cut)
    checkpoint = context.createCheckpoint()
    first.close()
    second = make(METAD, tmp_path / "parts", restart=True)
    context = started(molecule, second)
    context.loadCheckpoint(checkpoint)
    run(second, context, 120 - cut)
    # HILLS keeps 16 digits
    assert second.evaluate(molecule.positions, None, 120)[1] == pytest.approx(expected, rel=1e-9)
    second.close()
    for file in ("COLVAR", "HILLS"):
        tables = [read_fields(tmp_path / folder / file) for folder in ("whole", "parts")]
        for name, column in tables[0].columns.items():
            np.testing.assert_allclose(tables[1].columns[name], column, atol=2e-6, err_msg=name)
    assert [path.name for path in (tmp_path / "parts").glob("bck*.COLVAR")] == []


def test_a_fresh_run_backs_up_what_is_there(molecule, tmp_path):
    (tmp_path / "HILLS").write_text("precious\n")
    started(molecule, make(METAD, tmp_path))
    assert (tmp_path / "bck.0.HILLS").read_text() == "precious\n"


def test_files_go_where_they_belong_and_the_current_folder_stays(molecule, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backend = make(METAD, Path("new/run"))
    run(backend, started(molecule, backend), 20)
    backend.close()
    assert Path.cwd() == tmp_path
    names = {path.name for path in Path("new/run").iterdir()}
    assert names == {"COLVAR", "HILLS", "plumed.log"}
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_rows_reach_the_disk_while_the_run_lasts(molecule, tmp_path, monkeypatch):
    monkeypatch.setattr(kernel, "FLUSH_SECONDS", 0.0)
    backend = make(METAD, tmp_path)
    run(backend, started(molecule, backend), 50)
    assert len(read_fields(tmp_path / "COLVAR")) == 6


def test_several_backends_live_side_by_side(molecule, tmp_path):
    backends = [make(METAD, tmp_path / str(i)) for i in range(3)]
    contexts = [started(molecule, backend) for backend in backends]
    for _ in range(2):
        for backend, context in zip(backends, contexts, strict=True):
            run(backend, context, 20)
    centres = []
    for i, (backend, context) in enumerate(zip(backends, contexts, strict=True)):
        backend.close()
        hills = read_fields(tmp_path / str(i) / "HILLS").columns
        assert hills["time"] == pytest.approx([0.04, 0.08])
        assert hills["phi"][-1] == pytest.approx(torsion(positions_of(context), PHI_ATOMS))
        centres.append(hills["phi"][-1])
    assert len(set(centres)) == 3


def test_an_input_that_only_restrains_writes_no_file_at_all(molecule, tmp_path):
    backend = make(PHI_PSI + "RESTRAINT ARG=phi,psi AT=-1,1 KAPPA=10,10\n", tmp_path)
    context = started(molecule, backend)
    run(backend, context, 20)
    assert backend.strides == []
    assert list(tmp_path.iterdir()) == []


def test_a_restraint_can_be_moved(molecule, tmp_path):
    backend = make(PHI_PSI + "RESTRAINT ARG=phi,psi AT=-1,1 KAPPA=10,20\n", tmp_path)
    context = started(molecule, backend)
    phi, psi = backend.cv_values(molecule.positions, None)
    for centre in ([phi, psi], [phi + 0.2, psi - 0.1]):
        backend.move(context, np.array(centre))
        expected = 5 * (phi - centre[0]) ** 2 + 10 * (psi - centre[1]) ** 2
        energy = backend.evaluate(molecule.positions, None, 0)[1]
        assert energy == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="0 RESTRAINT"):
        make(METAD, tmp_path).move(context, np.zeros(2))


# ---- what goes wrong


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (PHI_PSI + "\nd: DISTANCE ATOMS=1,2 NOSUCH\n", ":4: DISTANCE.*NOSUCH"),
        (PHI_PSI + "x: NONSENSE ARG=phi\n", ":3: NONSENSE.*not known"),
        (PHI_PSI + "RESTRAINT ARG=chi AT=0 KAPPA=1\n", ":3: RESTRAINT.*chi"),
        ("phi: TORSION ATOMS=5,7,9,150\n", ":1: TORSION.*150"),
    ],
)
def test_a_bad_input_is_refused_with_its_line_and_plumeds_words(text, word, tmp_path):
    with pytest.raises(PlumedInputError, match=r"<input>" + word):
        make(text, tmp_path).check(22)
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_is_not_defined_or_not_one_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="chi"):
        make(PHI_PSI, tmp_path).describe(("phi", "chi"))
    backend = make("d: DISTANCE ATOMS1=1,2 ATOMS2=1,3\n", tmp_path, ("d",))
    with pytest.raises(ValueError, match="vector of 2"):
        backend.cv_values(np.eye(3), None)


@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_energy_is_openmms_without_the_bias(backend, tmp_path):
    molecule = alanine_dipeptide("C7eq")
    text = (
        f"{PHI_PSI}e: ENERGY\nf: CUSTOM ARG=e,phi FUNC=x+y PERIODIC=NO\n"
        "RESTRAINT ARG=phi AT=1 KAPPA=50\nPRINT ARG=e,f,phi FILE=COLVAR STRIDE=5 FMT=%14.6f\n"
    )
    bias = PlumedBias(text, backend=backend, directory=tmp_path)
    bias.add_to(molecule.system)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(
        molecule.topology, molecule.system, openmm.VerletIntegrator(0.0005), platform
    )
    simulation.context.setPositions(molecule.positions)
    bias.attach(simulation)
    others = set(range(32)) - bias.force_groups()
    expected = []
    for _ in range(3):
        simulation.step(5)
        state = simulation.context.getState(energy=True, groups=others)
        expected.append(state.getPotentialEnergy()._value)
    bias.close()
    columns = read_fields(tmp_path / "COLVAR").columns
    np.testing.assert_allclose(columns["e"][-3:], expected, atol=1e-4)
    np.testing.assert_allclose(columns["f"], columns["e"] + columns["phi"], atol=1e-5)


def test_a_bias_on_energy_is_refused_with_its_line(molecule, tmp_path):
    text = PHI_PSI + "e: ENERGY\nRESTRAINT ARG=e AT=0 KAPPA=1\nPRINT ARG=e FILE=COLVAR\n"
    with pytest.raises(PlumedInputError, match=r":3: ENERGY: a bias acts on it"):
        make(text, tmp_path).forces(molecule.system)
    with pytest.raises(ValueError, match="no function of the positions"):
        make(PHI_PSI + "e: ENERGY\nPRINT ARG=e\n", tmp_path, ("e",)).cv_values(
            np.zeros((22, 3)), None
        )


def test_a_missing_temperature_is_an_error_before_the_run(molecule, tmp_path):
    backend = make(METAD, tmp_path, temperature=None)
    with pytest.raises(PlumedInputError, match=r":3: METAD.*(?i:temp|kbt)"):
        backend.forces(molecule.system)


def test_leaving_the_grid_is_an_exception_and_no_end(molecule, tmp_path):
    text = (
        "d: DISTANCE ATOMS=5,15\nMETAD ARG=d SIGMA=0.02 HEIGHT=1 PACE=10 GRID_MIN=0 GRID_MAX=1 "
        "GRID_BIN=100\n"
    )
    backend = make(text, tmp_path, ("d",))
    context = started(molecule, backend)
    fine = energy_and_forces(context)[0]
    with pytest.raises(RuntimeError, match="outside the grid"):
        backend.evaluate(10 * molecule.positions, None, 0)
    context.setPositions(10 * molecule.positions)
    with pytest.raises(openmm.OpenMMException, match="outside the grid"):
        context.getState(energy=True)
    context.setPositions(molecule.positions)
    assert energy_and_forces(context)[0] == fine


def test_nan_never_reaches_plumed(molecule, tmp_path):
    backend = make(METAD, tmp_path)
    context = started(molecule, backend)
    bad = molecule.positions.copy()
    bad[4, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        backend.evaluate(bad, None, 0)
    context.setPositions(bad)
    with pytest.raises(openmm.OpenMMException, match="NaN"):
        context.getState(energy=True)


def test_positions_of_the_wrong_shape_are_refused(molecule, tmp_path):
    backend = make(METAD, tmp_path)
    started(molecule, backend)
    with pytest.raises(ValueError, match=r"\(21, 3\); expected \(22, 3\)"):
        backend.evaluate(molecule.positions[:21], None, 0)
    with pytest.raises(ValueError, match="21 atoms"):
        backend.cv_values(molecule.positions[:21], None)


def test_committor_stops_the_run_with_its_row_written(molecule, tmp_path):
    text = PHI_PSI + "COMMITTOR ARG=phi STRIDE=10 BASIN_LL1=-3.2 BASIN_UL1=3.2 FILE=COMMIT\n"
    backend = make(text, tmp_path, ("phi",))
    context = started(molecule, backend)
    with pytest.raises(RuntimeError, match="asks the run to stop"):
        run(backend, context, 20)
    rows = (tmp_path / "COMMIT").read_text().splitlines()
    assert len([row for row in rows if row.startswith(" 0.0000")]) == 1


def test_calls_in_the_wrong_order_say_so(molecule, tmp_path):
    backend = make(METAD, tmp_path)
    with pytest.raises(RuntimeError, match="add_to"):
        backend.evaluate(molecule.positions, None, 0)
    with pytest.raises(RuntimeError, match="add_to"):
        backend.start(TIMESTEP)
    backend = make(METAD, tmp_path)
    backend.forces(molecule.system)
    with pytest.raises(RuntimeError, match="start"):
        backend.update(molecule.positions, None, 0)
    backend.close()
    with pytest.raises(RuntimeError, match="closed"):
        backend.evaluate(molecule.positions, None, 0)


def test_a_copy_of_the_system_asks_the_same_plumed(molecule, tmp_path):
    backend = make(METAD, tmp_path)
    context = started(molecule, backend)
    run(backend, context, 60)
    system = copy.deepcopy(context.getSystem())
    x = positions_of(context)
    twin = context_of(system, x)
    assert energy_and_forces(twin)[0] == energy_and_forces(context)[0]
    assert pickle.loads(pickle.dumps(backend)) is backend
    file = tmp_path / "system.xml"
    file.write_text(openmm.XmlSerializer.serialize(system))
    code = (
        "import sys, openmm\n"
        "system = openmm.XmlSerializer.deserialize(open(sys.argv[1]).read())\n"
        "platform = openmm.Platform.getPlatformByName('Reference')\n"
        "context = openmm.Context(system, openmm.VerletIntegrator(1), platform)\n"
        "context.setPositions([(i, 0, 0) for i in range(22)])\n"
        "context.getState(energy=True)\n"
    )
    command = [sys.executable, "-c", code, str(file)]
    elsewhere = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert elsewhere.returncode == 1
    assert "OpenMMException: this System was copied from a process where" in elsewhere.stderr


def test_an_instance_that_is_let_go_is_ended(tmp_path):
    settings = MDSettings(tmp_path, np.ones(3), np.zeros(3))
    statements = read_statements("d: DISTANCE ATOMS=1,2\nPRINT ARG=d FILE=COLVAR\n")
    plumed = Plumed(settings, statements)
    plumed.positions[:] = np.eye(3)
    plumed.calculate(0)
    plumed.update()
    del plumed
    assert len(read_fields(tmp_path / "COLVAR")) == 1  # its buffer was written
    ctypes.CDLL(None).fflush(None)
    plumed = Plumed(settings, statements)
    plumed.close()
    plumed.close()
    with pytest.raises(RuntimeError, match="closed"):
        plumed.calculate(0)


# ---- when `update` is needed


@pytest.mark.parametrize(
    ("text", "strides"),
    [
        (METAD, [10, 20]),
        (PHI_PSI, []),
        ("PRINT ARG=x", [1]),
        ("PRINT ARG=x STRIDE=@replicas:1,2", [1]),
        ("FLUSH STRIDE=1000\nDUMPATOMS ATOMS=1 FILE=a STRIDE={50}", [50, 1000]),
        ("METAD ARG=x SIGMA=1 PACE=500 ADAPTIVE=DIFF", [1]),
        ("METAD ARG=x SIGMA=1 PACE=500 GRID_WFILE=G GRID_WSTRIDE=5000", [500, 5000]),
        ("OPES_METAD ARG=x PACE=500 BARRIER=40", [1]),
        ("OPES_METAD ARG=x SIGMA=0.1 PACE=500 BARRIER=40 STATE_WSTRIDE=2500", [500, 2500]),
        ("OPES_METAD ARG=x SIGMA=ADAPTIVE PACE=500 BARRIER=40", [1]),
        ("SOMETHING_NEW ARG=x STRIDE=7\nPRINT ARG=x STRIDE=100", [1]),
    ],
)
def test_strides_of_an_input(text, strides):
    assert update_strides(read_statements(text)) == strides


def test_strides_of_an_included_file_count(tmp_path):
    (tmp_path / "inner.dat").write_text("PRINT ARG=x STRIDE=30\nENDPLUMED\nNOISE\n")
    (tmp_path / "outer.dat").write_text("INCLUDE FILE=inner.dat\nFLUSH STRIDE=50\n")
    assert update_strides(read_statements("INCLUDE FILE=outer.dat"), tmp_path) == [30, 50]
    (tmp_path / "inner.dat").write_text("INCLUDE FILE=outer.dat\n")
    assert update_strides(read_statements("INCLUDE FILE=outer.dat"), tmp_path) == [1]
    assert update_strides(read_statements("INCLUDE FILE=missing.dat"), tmp_path) == [1]


def test_actions_said_to_do_nothing_between_steps_exist(tmp_path):
    settings = MDSettings(tmp_path, np.ones(3), np.zeros(3))
    plumed = Plumed(settings, [])

    def known(name):
        found = ctypes.c_int(0)
        plumed.command(f"checkAction {name}", ctypes.byref(found))
        return bool(found.value)

    if not known("OPES_METAD"):
        pytest.skip("this PLUMED was built without its optional modules")
    names = NEVER_UPDATED | UPDATE_STRIDES.keys()
    assert [name for name in names if not known(name)] == []


def test_a_bias_that_rests_is_not_taken_for_none(tmp_path):
    """PLUMED leaves a bias with STRIDE out between its steps: no frame may weigh with that."""
    text = PHI_PSI + "RESTRAINT ARG=phi AT=1 KAPPA=10 STRIDE=2\nPRINT ARG=psi STRIDE=3 FILE=C\n"
    bias, simulation = biased_alanine(text, tmp_path, backend="kernel")
    whole, _ = biased_alanine(text, tmp_path / "native")
    found = []
    for step in range(1, 7):
        simulation.step(1)
        state = simulation.context.getState(positions=True)
        if step % 2:
            with pytest.raises(ValueError, match=f"STRIDE=2: .* at step {step}; take frames at"):
                bias.values(simulation, state)
        else:
            known = whole.cv_values(state.getPositions())
            found.append(bias.values(simulation, state)[1] - whole.bias_of_cvs(known[None])[0])
    assert np.abs(found).max() < 1e-9
    bias.close()


def test_masses_and_charges_are_dumped(tmp_path):
    text = PHI_PSI + "RESTRAINT ARG=phi AT=1 KAPPA=10\nDUMPMASSCHARGE FILE=mc\n"
    for backend in ("native", "kernel"):
        bias, simulation = biased_alanine(text, tmp_path / backend, backend)
        simulation.step(1)
        bias.close()
    ours, plumeds = ((tmp_path / b / "mc").read_text() for b in ("native", "kernel"))
    assert ours == plumeds


def test_a_grid_that_excludes_all_zeros_is_no_obstacle(tmp_path):
    text = "d: DISTANCE ATOMS=1,2\nm: METAD ARG=d SIGMA=0.01 HEIGHT=1 PACE=5 GRID_MIN=0.3 "
    text += "GRID_MAX=0.9 CALC_WORK\nPRINT ARG=d,m.work FILE=C\n"
    bias = PlumedBias(text, backend="kernel", directory=tmp_path)
    assert [variable.name for variable in bias.variables] == ["d"]


def test_files_of_an_earlier_run_stay_until_one_begins(tmp_path):
    (tmp_path / "PROJ").write_text("earlier\n")
    text = "d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=1 KAPPA=1\nDUMPPROJECTIONS ARG=d FILE=PROJ\n"
    PlumedBias(text, backend="kernel", directory=tmp_path).add_to(particles(2))
    assert [path.name for path in tmp_path.iterdir()] == ["PROJ"]
