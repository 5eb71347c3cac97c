"""Actions as numbers, as torch and as OpenMM forces; PlumedBias on the native backend."""

import math
import re

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.actions.biases.bias import SeparableBias
from openmm_cgan.plumed.actions.variables.variable import Variable
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError, read_statements
from openmm_cgan.testsystems import alanine_dipeptide

REFERENCE = "Reference"
PHI_PSI = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
GRID = "GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=60,60"


def make_simulation(bias, seed=1):
    system = alanine_dipeptide()
    bias.add_to(system.system)
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName(REFERENCE)
    simulation = app.Simulation(system.topology, system.system, integrator, platform)
    simulation.context.setPositions(system.positions)
    simulation.context.setVelocitiesToTemperature(300, seed)
    return simulation


def particles(n, box=None):
    """A system of free particles, and a way to evaluate a bias on it."""
    system = openmm.System()
    for _ in range(n):
        system.addParticle(12.0)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
        force = openmm.NonbondedForce()
        force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        for _ in range(n):
            force.addParticle(0, 1, 0)
        system.addForce(force)
    return system


def energy_and_forces(system, bias, positions):
    bias.add_to(system)
    integrator = openmm.VerletIntegrator(0.001)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(REFERENCE))
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True, groups=bias.force_groups())
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


INPUTS = {
    "torsion": "t: TORSION ATOMS=1-4\nRESTRAINT ARG=t AT=3 KAPPA=10 SLOPE=2",
    "angle": "a: ANGLE ATOMS=1,2,3\nRESTRAINT ARG=a AT=1 KAPPA=10",
    "distance": "d: DISTANCE ATOMS=1,4\nRESTRAINT ARG=d AT=0.1 KAPPA=100",
    "walls": "d: DISTANCE ATOMS=1,4\na: ANGLE ATOMS=2,3,4\n"
    "UPPER_WALLS ARG=d,a AT=0.3,1 KAPPA=50,5 EXP=2,3 EPS=0.5,1 OFFSET=0.1,0\n"
    "LOWER_WALLS ARG=d AT=0.8 KAPPA=50 OFFSET=0.1",
    "combine": "t: TORSION ATOMS=1-4\nd: DISTANCE ATOMS=1,3\n"
    "c: COMBINE ARG=t,d COEFFICIENTS=1,3 PARAMETERS=1,0.1 POWERS=2,1 PERIODIC=NO\n"
    "p: COMBINE ARG=t COEFFICIENTS=2 PERIODIC=-pi,pi\n"
    "RESTRAINT ARG=c,p AT=1,3 KAPPA=3,4",
    "units": "UNITS LENGTH=A ENERGY=kcal/mol\nd: DISTANCE ATOMS=2,4\nRESTRAINT ARG=d AT=2 KAPPA=1",
}


@pytest.mark.parametrize("text", INPUTS.values(), ids=INPUTS.keys())
def test_openmm_forces_are_the_gradient_of_the_torch_value(text):
    rng = np.random.default_rng(3)
    for _ in range(5):
        positions = rng.normal(scale=0.4, size=(4, 3))
        actions = read_actions(read_statements(text), 4)
        x = torch.tensor(positions, requires_grad=True)
        found, total = {}, 0.0
        for action in actions:
            arguments = [found[value.name] for value in action.arguments]
            if isinstance(action, Variable):
                found[action.label] = action.value(x)
            elif isinstance(action, SeparableBias):
                total = total + action.energy(arguments) * action.units.energy
            elif action.outputs:
                found[action.label] = action.value(arguments)
        (gradient,) = torch.autograd.grad(total, x)
        bias = PlumedBias(text + "\n", backend="native")
        energy, forces = energy_and_forces(particles(4), bias, positions)
        assert energy == pytest.approx(float(total.detach()), rel=1e-10)
        np.testing.assert_allclose(forces, -gradient.numpy(), rtol=1e-8, atol=1e-8)
        assert bias._engine.evaluate(positions, None, 0)[1] == pytest.approx(energy, rel=1e-10)


@pytest.mark.parametrize("nopbc", ["", " NOPBC"])
def test_periodic_box_and_nopbc(nopbc):
    box = np.array([[2.0, 0, 0], [0.5, 2.1, 0], [-0.6, 0.4, 2.2]])
    text = (
        f"t: TORSION ATOMS=1-4{nopbc}\nd: DISTANCE ATOMS=1,2{nopbc}\n"
        "RESTRAINT ARG=t,d AT=1,0.3 KAPPA=3,9\n"
    )
    rng = np.random.default_rng(5)
    compact = np.cumsum(rng.normal(scale=0.15, size=(4, 3)), axis=0)
    spread = compact + rng.integers(-2, 3, size=(4, 3)) @ box
    bias = PlumedBias(text, backend="native")
    energy, _ = energy_and_forces(particles(4, box), bias, spread)
    values, total = bias._engine.evaluate(spread, box, 0)
    assert total == pytest.approx(energy, rel=1e-9)
    unwrapped = PlumedBias(text).cv_values(compact)
    assert np.allclose(values, unwrapped) == (nopbc == "")


def test_torsion_sign_is_iupac():
    cis = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0], [1, math.cos(0.5), math.sin(0.5)]])
    assert PlumedBias("t: TORSION ATOMS=1-4\nPRINT ARG=t\n").cv_values(cis) == pytest.approx(0.5)


def metad_text(extra="PACE=20 HEIGHT=1.2 BIASFACTOR=10", file="HILLS"):
    return (
        f"{PHI_PSI}m: METAD ARG=phi,psi SIGMA=0.35,0.35 {extra} {GRID} FILE={file}\n"
        "PRINT ARG=phi,psi,m.bias STRIDE=10 FILE=COLVAR\n"
    )


def test_metadynamics_lays_hills_between_steps_only_and_restarts(tmp_path):
    bias = PlumedBias(metad_text(), temperature=300 * unit.kelvin, directory=tmp_path)
    simulation = make_simulation(bias)
    bias.attach(simulation)
    simulation.step(100)
    for _ in range(10):  # leaves no trace
        simulation.context.getState(energy=True)
        simulation.context.setVelocitiesToTemperature(300, 7)
    simulation.step(100)
    bias.close()
    hills, colvar = read_fields(tmp_path / "HILLS"), read_fields(tmp_path / "COLVAR")
    np.testing.assert_allclose(hills.columns["time"], 0.002 * np.arange(20, 201, 20))
    np.testing.assert_allclose(colvar.columns["time"], 0.002 * np.arange(0, 201, 10), atol=1e-6)
    assert colvar.columns["m.bias"][:3].tolist() == [0, 0, 0]
    assert hills.columns["height"][0] == pytest.approx(1.2 * 10 / 9)

    state = simulation.context.getState(positions=True, energy=True, groups=bias.force_groups())
    in_openmm = state.getPotentialEnergy()._value
    positions = state.getPositions(asNumpy=True)._value
    by_hills = bias.bias_of_cvs(bias.cv_values(positions)[None])[0]
    assert by_hills == pytest.approx(in_openmm, rel=1e-10)

    again = PlumedBias(metad_text(), temperature=300, directory=tmp_path, restart=True)
    resumed = make_simulation(again)
    again.attach(resumed)
    resumed.context.setPositions(positions)
    state = resumed.context.getState(energy=True, groups=again.force_groups())
    assert state.getPotentialEnergy()._value == pytest.approx(in_openmm, rel=1e-9)


def test_bias_printed_is_the_one_before_the_hill_of_the_step(tmp_path):
    bias = PlumedBias(metad_text("PACE=10 HEIGHT=1"), directory=tmp_path)
    simulation = make_simulation(bias)
    bias.attach(simulation)
    simulation.step(30)
    state = simulation.context.getState(positions=True)
    seen = bias.values(simulation, state)
    bias.close()
    colvar = read_fields(tmp_path / "COLVAR")
    assert seen[1] == pytest.approx(colvar.columns["m.bias"][-1], abs=1e-6)
    assert bias._engine.evaluate(state.getPositions(asNumpy=True)._value, None, 0)[1] > seen[1]


def test_force_of_a_metadynamics_grid_is_its_slope(tmp_path):
    bias = PlumedBias(metad_text("PACE=5 HEIGHT=2"), directory=tmp_path)
    simulation = make_simulation(bias)
    bias.attach(simulation)
    simulation.step(100)
    state = simulation.context.getState(positions=True, forces=True, groups=bias.force_groups())
    x, forces = (state.getPositions(asNumpy=True)._value, state.getForces(asNumpy=True)._value)
    h = 1e-6
    for atom in (4, 6, 8, 14, 16):
        for axis in range(3):
            moved = np.stack([x, x])
            moved[0, atom, axis] += h
            moved[1, atom, axis] -= h
            high, low = bias.bias_of_cvs(bias.cv_values(moved))
            assert forces[atom, axis] == pytest.approx(-(high - low) / (2 * h), abs=2e-5)


def test_attaching_too_late_is_an_error():
    bias = PlumedBias(PHI_PSI + "RESTRAINT ARG=phi AT=0 KAPPA=1\n")
    system = alanine_dipeptide()
    simulation = app.Simulation(
        system.topology,
        system.system,
        openmm.VerletIntegrator(0.001),
        openmm.Platform.getPlatformByName(REFERENCE),
    )
    with pytest.raises(RuntimeError, match="call bias"):
        bias.attach(simulation)
    bias.add_to(system.system)
    with pytest.raises(RuntimeError, match="does not contain the bias"):
        bias.attach(simulation)
    with pytest.raises(RuntimeError, match="in a System already"):
        bias.add_to(system.system)


def test_atoms_beyond_the_system_are_refused():
    text = "d: DISTANCE ATOMS=1,23\nRESTRAINT ARG=d AT=0 KAPPA=1\n"
    with pytest.raises(PlumedInputError, match=r"<input>:1: .*23 is beyond the last atom 22"):
        PlumedBias(text).add_to(alanine_dipeptide().system)
    with pytest.raises(PlumedInputError, match="beyond the last atom 22"):
        PlumedBias(text, alanine_dipeptide().topology, backend="native")


def in_bath(bias, integrator, force=None):
    """Alanine dipeptide with a bias, held at 310 K by an integrator or a force, or by nothing."""
    made = alanine_dipeptide()
    bias.add_to(made.system)
    if force is not None:
        made.system.addForce(force)
    platform = openmm.Platform.getPlatformByName(REFERENCE)
    simulation = app.Simulation(made.topology, made.system, integrator, platform)
    simulation.context.setPositions(made.positions)
    return simulation


def test_a_missing_temperature_is_an_error_before_anything_runs(tmp_path):
    bias = PlumedBias(metad_text(), directory=tmp_path)
    simulation = in_bath(bias, openmm.VerletIntegrator(0.001))
    with pytest.raises(ValueError, match=re.escape("needs a temperature")):
        bias.attach(simulation)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bath", ["Langevin", "MTS", "Andersen"])
def test_where_no_temperature_is_given_that_of_the_simulation_counts(bath, tmp_path):
    """BIASFACTOR scales hills by a factor that depends on kT."""
    hills = []
    for given in (None, 310.0):
        integrator, force = {
            "Langevin": (openmm.LangevinMiddleIntegrator(310, 1, 0.001), None),
            "MTS": (openmm.MTSLangevinIntegrator(310, 1, 0.001, [(0, 1), (31, 1)]), None),
            "Andersen": (openmm.VerletIntegrator(0.001), openmm.AndersenThermostat(310, 1)),
        }[bath]
        (integrator if force is None else force).setRandomNumberSeed(1)  # or a kick tells in one
        folder = tmp_path / str(given)
        folder.mkdir()
        bias = PlumedBias(metad_text(), directory=folder, temperature=given)
        simulation = in_bath(bias, integrator, force)
        bias.attach(simulation)
        for _ in range(3):  # hills upon each other: the same positions again and again
            simulation.context.setPositions(alanine_dipeptide().positions)
            simulation.context.setVelocities(np.zeros((22, 3)))
            simulation.step(20)
        bias.close()
        assert bias.temperature == pytest.approx(310)
        hills.append(read_fields(folder / "HILLS").columns["height"])
    assert hills[0][-1] < hills[0][0]
    np.testing.assert_allclose(hills[0], hills[1], rtol=1e-3)


def test_a_bias_that_never_changes_needs_no_temperature(tmp_path, caplog):
    """And says nothing where that of the run changes, as in annealing."""
    bias = PlumedBias(PHI_PSI + "RESTRAINT ARG=phi AT=0 KAPPA=1\n", directory=tmp_path)
    simulation = make_simulation(bias)
    bias.attach(simulation)
    simulation.integrator.setTemperature(400)
    with caplog.at_level("WARNING", "openmm_cgan"):
        simulation.step(1)
    assert bias.temperature is None
    assert not caplog.records


def test_a_restraint_moves_in_a_living_context():
    bias = PlumedBias(PHI_PSI + "METAD ARG=phi,psi SIGMA=1,1 HEIGHT=1 PACE=9 " + GRID + "\n")
    restraint = bias.restrained([0.0, 0.0], 100.0)
    simulation = make_simulation(restraint)
    simulation.minimizeEnergy()
    restraint.move_restraint(simulation.context, [-1.2, 2.8])
    simulation.minimizeEnergy()
    simulation.step(500)
    positions = simulation.context.getState(positions=True).getPositions(asNumpy=True)
    phi, psi = restraint.variables
    values = restraint.cv_values(positions)
    # within 6 standard deviations sqrt(kT / kappa) = 0.16 rad, besides the pull of the molecule
    assert abs(phi.difference(-1.2, values[0])) < 0.95
    assert abs(psi.difference(2.8, values[1])) < 0.95
    state = simulation.context.getState(
        positions=True, energy=True, groups=restraint.force_groups()
    )
    expected = 50 * (phi.difference(-1.2, values[0]) ** 2 + psi.difference(2.8, values[1]) ** 2)
    assert state.getPotentialEnergy()._value == pytest.approx(expected, rel=1e-9)


def test_the_default_variables_are_the_arguments_of_the_biases():
    bias = PlumedBias(PHI_PSI + "d: DISTANCE ATOMS=1,5\nRESTRAINT ARG=psi AT=0\nPRINT ARG=*\n")
    assert [v.name for v in bias.variables] == ["psi"]
    assert bias.variables[0] == CollectiveVariable(
        "psi", "rad", (-math.pi, math.pi), "TORSION", (6, 8, 14, 16)
    )
    chosen = PlumedBias(PHI_PSI + "PRINT ARG=phi,psi\n", cvs=("psi", "phi"))
    assert [v.name for v in chosen.variables] == ["psi", "phi"]
    with pytest.raises(ValueError, match="names no collective variables"):
        PlumedBias("GROUP LABEL=g ATOMS=1\n")
    with pytest.raises(ValueError, match="no value 'nothing'"):
        PlumedBias(PHI_PSI, cvs=("nothing",))


def test_bias_of_cvs_says_when_it_depends_on_more():
    text = PHI_PSI + "RESTRAINT ARG=phi,psi AT=1,0 KAPPA=2,0\n"
    np.testing.assert_allclose(PlumedBias(text).bias_of_cvs([[2.0, 0.0], [0.0, 1.0]]), [1.0, 1.0])
    with pytest.raises(ValueError, match="depends on psi"):
        PlumedBias(text, cvs=("phi",)).bias_of_cvs([[2.0]])
    with pytest.raises(ValueError, match="expected"):
        PlumedBias(text).bias_of_cvs([2.0, 0.0])


def test_the_bias_reporter_lets_others_have_their_steps(tmp_path):
    bias = PlumedBias(PHI_PSI + "RESTRAINT ARG=phi AT=0 KAPPA=1\n", directory=tmp_path)
    simulation = make_simulation(bias)
    bias.attach(simulation)  # has nothing to do between steps
    seen = []

    class Probe:
        def describeNextReport(self, simulation):
            return {"steps": 7 - simulation.currentStep % 7, "include": []}

        def report(self, simulation, state):
            seen.append(simulation.currentStep)

    simulation.reporters.append(Probe())
    simulation.step(21)
    assert seen == [7, 14, 21]


def test_a_saved_state_is_loaded_into_the_same_system_made_again(tmp_path):
    text = PHI_PSI + "c: COMBINE ARG=phi,psi PERIODIC=NO\nRESTRAINT ARG=c AT=0 KAPPA=1\n"
    first = make_simulation(PlumedBias(text))
    first.saveState(str(tmp_path / "state.xml"))
    second = make_simulation(PlumedBias(text))
    second.loadState(str(tmp_path / "state.xml"))
    energies = [
        s.context.getState(energy=True).getPotentialEnergy()._value for s in (first, second)
    ]
    assert energies[0] == pytest.approx(energies[1], rel=1e-12)


def test_two_biases_in_one_system_add_up():
    texts = [
        PHI_PSI + f"c: COMBINE ARG=phi PERIODIC=NO\nRESTRAINT ARG=c AT={at} KAPPA=9\n"
        for at in (0, 2)
    ]
    biases = [PlumedBias(text) for text in texts]
    biases[0].add_to(system := alanine_dipeptide().system)
    biases[1].add_to(system)
    assert biases[0].force_groups().isdisjoint(biases[1].force_groups())
    platform = openmm.Platform.getPlatformByName(REFERENCE)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    positions = alanine_dipeptide().positions
    context.setPositions(positions)
    for bias in biases:
        state = context.getState(energy=True, groups=bias.force_groups())
        expected = bias.bias_of_cvs(bias.cv_values(positions)[None])[0]
        assert state.getPotentialEnergy()._value == pytest.approx(expected, rel=1e-10)


def test_hills_that_nobody_has_read_yet_are_no_bias_of_zero(tmp_path):
    for restart in (False, True):
        bias = PlumedBias(metad_text(), temperature=300, directory=tmp_path, restart=restart)
        if restart:
            with pytest.raises(ValueError, match="files are read when the bias is attached"):
                bias.bias_of_cvs([[0.0, 0.0]])
        else:
            assert bias.bias_of_cvs([[0.0, 0.0]]) == 0, "none yet"
        simulation = make_simulation(bias)
        bias.attach(simulation)
        here = bias.cv_values(alanine_dipeptide().positions)[None]
        assert (bias.bias_of_cvs(here)[0] > 0) == restart
        simulation.step(60)
        bias.close()


@pytest.mark.parametrize(
    "bias",
    [
        "METAD ARG=phi PACE=5 HEIGHT=1 SIGMA=0.3 RESTART=YES",
        "METAD ARG=phi PACE=5 HEIGHT=1 SIGMA=0.3 WALKERS_N=2 WALKERS_ID=0",
        "PBMETAD ARG=phi PACE=5 HEIGHT=1 SIGMA=0.3 RESTART=YES",
        "OPES_METAD ARG=phi PACE=5 BARRIER=20 SIGMA=0.3 RESTART=YES",
    ],
)
def test_no_bias_is_asked_before_its_files_are_read(bias):
    text = f"phi: TORSION ATOMS=5,7,9,15\nb: {bias}\n"
    with pytest.raises(ValueError, match=r":2: .* goes on from an earlier run, or with other"):
        PlumedBias(text, temperature=300).bias_of_cvs([[0.0]])


def test_a_run_that_ended_before_its_first_hill_goes_on(tmp_path):
    for restart in (False, True):
        bias = PlumedBias(metad_text(), temperature=300, directory=tmp_path, restart=restart)
        simulation = make_simulation(bias)
        bias.attach(simulation)
        simulation.step(15)
        bias.close()
    assert (tmp_path / "HILLS").read_text() == "", "the header comes with the first hill"


def test_a_centre_of_mass_has_its_masses_from_the_topology_until_a_system_is_known():
    text = "c: COM ATOMS=1-6\nd: DISTANCE ATOMS=c,22\nPRINT ARG=d\n"
    molecule = alanine_dipeptide()
    with pytest.raises(ValueError, match="needs the masses"):
        PlumedBias(text).cv_values(molecule.positions)
    masses = [a.element.mass._value for a in molecule.topology.atoms()][:6]
    centre = np.average(molecule.positions[:6], axis=0, weights=masses)
    expected = np.linalg.norm(molecule.positions[21] - centre)
    assert PlumedBias(text, molecule.topology).cv_values(molecule.positions) == pytest.approx(
        expected
    )


@pytest.mark.parametrize(
    "line",
    ["c: COM ATOMS=1-6", "c: CENTER ATOMS=1-6 MASS", "g: GYRATION ATOMS=1-6 MASS_WEIGHTED"],
    ids=["COM", "CENTER MASS", "GYRATION"],
)
def test_masses_that_add_up_to_nothing_are_refused_before_a_step(line):
    value = "g" if line.startswith("g") else "d"
    text = f"{line}\nd: DISTANCE ATOMS={'1,9' if value == 'g' else 'c,9'}\n"
    bias = PlumedBias(text + f"RESTRAINT ARG={value} AT=1 KAPPA=10\n", backend="native")
    system = alanine_dipeptide().system
    for atom in range(6):
        system.setParticleMass(atom, 0.0)
    for i in reversed(range(system.getNumConstraints())):  # OpenMM holds no constraints of those
        if min(system.getConstraintParameters(i)[:2]) < 6:
            system.removeConstraint(i)
    n_forces = system.getNumForces()
    with pytest.raises(ValueError, match=r"<input>:1: .* mass 0"):
        bias.add_to(system)
    assert system.getNumForces() == n_forces
    system.setParticleMass(0, 1.0)  # some mass is enough
    PlumedBias(text + f"RESTRAINT ARG={value} AT=1 KAPPA=10\n", backend="native").add_to(system)
