"""What keeps a bias from acting, or has it act as it was earlier, is refused, mended or said."""

import gc
import logging

import numpy as np
import openmm
import pytest
from openmm import app, unit

from openmm_cgan.free_energy.hills import tiwary_log_weights
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.bias.watch import integrated_groups
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.potentials import system_without
from openmm_cgan.testsystems import alanine_dipeptide

PHI = "phi: TORSION ATOMS=5,7,9,15\n"
RESTRAINT = PHI + "RESTRAINT ARG=phi AT=-2.5 KAPPA=400\n"
METAD = PHI + (
    "METAD ARG=phi SIGMA=0.35 HEIGHT=1 PACE=10 GRID_MIN=-pi GRID_MAX=pi GRID_BIN=50\n"
    "PRINT ARG=phi STRIDE=10 FILE=COLVAR\n"
)


def langevin():
    made = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    made.setRandomNumberSeed(3)
    return made


def simulation_of(bias, integrator=None, system=None, **add):
    """Alanine dipeptide with a bias, which is not attached."""
    molecule = alanine_dipeptide()
    system = system or molecule.system
    bias.add_to(system, **add)
    platform = openmm.Platform.getPlatformByName("Reference")
    made = app.Simulation(molecule.topology, system, integrator or langevin(), platform)
    made.context.setPositions(molecule.positions)
    return made


INTEGRATORS = {
    "Langevin": (langevin(), set(range(32))),
    "some groups": (openmm.VerletIntegrator(0.001), {0, 5}),
    "MTS": (openmm.MTSIntegrator(0.002, [(0, 1), (1, 2)]), {0, 1}),
    "MTSLangevin": (openmm.MTSLangevinIntegrator(300, 1, 0.004, [(0, 1), (3, 2)]), {0, 3}),
    "aMD": (openmm.AMDIntegrator(0.002, 1, 0), set(range(32))),
    "dual aMD": (openmm.AMDForceGroupIntegrator(0.002, 2, 1, 0), set(range(32))),
    "NoseHoover": (openmm.NoseHooverIntegrator(300, 1, 0.002), set(range(32))),
}


def monte_carlo(energy, force=""):
    made = openmm.CustomIntegrator(0.001)
    made.addGlobalVariable("E", 0)
    made.addPerDofVariable("old", 0)
    made.addComputeGlobal("E", energy)
    made.addComputePerDof("x", f"x + 0.01*gaussian{force}")
    return made


INTEGRATORS |= {
    "Monte Carlo": (monte_carlo("energy"), set(range(32))),
    "Monte Carlo of groups": (monte_carlo("energy0 + energy3"), {0, 3}),
    "what measures energies": (monte_carlo("energy", " + f1"), {1}),
}
INTEGRATORS["some groups"][0].setIntegrationForceGroups({0, 5})


@pytest.mark.parametrize(("integrator", "groups"), INTEGRATORS.values(), ids=INTEGRATORS)
def test_the_groups_that_an_integrator_feels_are_known(integrator, groups):
    assert integrated_groups(integrator) == groups


def test_of_a_compound_integrator_all_parts_must_feel_the_bias():
    compound = openmm.CompoundIntegrator()
    compound.addIntegrator(openmm.VerletIntegrator(0.001))
    part = openmm.VerletIntegrator(0.001)
    part.setIntegrationForceGroups({0, 1})
    compound.addIntegrator(part)
    assert integrated_groups(compound) == {0, 1}


def test_a_bias_that_is_not_integrated_is_refused_and_acts_where_its_group_is_named():
    """The mean of a stiff harmonic restraint is its centre, where it acts."""
    refused = PlumedBias(RESTRAINT)
    mts = openmm.MTSLangevinIntegrator(300, 1, 0.002, [(0, 1), (1, 2)])
    with pytest.raises(ValueError, match=r"force group 31, and MTSLangevinIntegrator.*\[0, 1\]"):
        refused.attach(simulation_of(refused, mts))
    bias = PlumedBias(RESTRAINT)
    mts = openmm.MTSLangevinIntegrator(300, 1, 0.002, [(0, 1), (7, 2)])
    mts.setRandomNumberSeed(1)
    simulation = simulation_of(bias, mts, force_group=7)
    bias.attach(simulation)
    simulation.step(1000)
    seen = []
    for _ in range(100):
        simulation.step(10)
        state = simulation.context.getState(positions=True)
        seen.append(bias.values(simulation, state)[0][0])
    # kT / KAPPA is 0.08 rad squared; a hundred frames in 2 ps are at least ten independent ones
    assert np.mean(seen) == pytest.approx(-2.5, abs=4 * 0.079 / np.sqrt(10) + 0.05)
    simulation.integrator.setIntegrationForceGroups({0})  # MTS names its groups itself
    simulation.step(1)


def test_groups_taken_from_the_integrator_later_are_noticed():
    bias = PlumedBias(RESTRAINT)
    simulation = simulation_of(bias)
    bias.attach(simulation)
    simulation.step(2)
    simulation.integrator.setIntegrationForceGroups({0})
    with pytest.raises(ValueError, match="it would not act"):
        simulation.step(1)


def test_a_force_group_that_is_taken_is_refused():
    with pytest.raises(ValueError, match=r"force_group is 0: .* without other forces"):
        PlumedBias(RESTRAINT).add_to(alanine_dipeptide().system, force_group=0)


def test_groups_numbered_anew_after_add_to_are_followed():
    """As scripts do that take energies apart; what leaves the bias out would leave out another."""
    bias = PlumedBias(RESTRAINT)
    simulation = simulation_of(bias)
    for number, force in enumerate(simulation.system.getForces()):
        force.setForceGroup(number)
    last = simulation.system.getNumForces() - 1
    assert bias.force_groups() == {last}
    left = system_without(simulation.system, bias.force_groups())
    assert [f.getName() for f in left.getForces() if f.getName().startswith("PLUMED")] == []
    simulation.context.reinitialize(preserveState=True)
    bias.attach(simulation)
    simulation.step(1)
    state = simulation.context.getState(positions=True, energy=True, groups={last})
    _, energy = bias.values(simulation, state)
    assert state.getPotentialEnergy()._value == pytest.approx(energy, rel=1e-6)


def test_a_group_that_other_forces_have_come_into_is_refused():
    bias = PlumedBias(RESTRAINT)
    simulation = simulation_of(bias)
    for force in simulation.system.getForces():
        force.setForceGroup(0)
    with pytest.raises(ValueError, match=r"force groups \[0\] hold the bias and other forces"):
        bias.attach(simulation)


@pytest.mark.parametrize("attached", [True, False])
def test_a_bias_whose_forces_were_removed_is_refused(attached):
    bias = PlumedBias(RESTRAINT)
    simulation = simulation_of(bias)
    if attached:
        bias.attach(simulation)
        simulation.system.addForce(openmm.CMMotionRemover())  # others may come, and go
        simulation.step(1)
        simulation.system.removeForce(simulation.system.getNumForces() - 1)
        simulation.step(1)
    names = [force.getName() for force in simulation.system.getForces()]
    for number in reversed(range(len(names))):
        if names[number].startswith("PLUMED"):
            simulation.system.removeForce(number)
    simulation.context.reinitialize(preserveState=True)
    with pytest.raises(RuntimeError, match="forces of the bias were removed from its System"):
        simulation.step(1) if attached else bias.require_acting(simulation)


def test_a_bias_that_was_never_attached_is_said(tmp_path, caplog):
    for text in (METAD, RESTRAINT):
        bias = PlumedBias(text, temperature=300, directory=tmp_path)
        simulation_of(bias).step(1)
        del bias
        gc.collect()
    assert caplog.text.count("never attached") == 1  # the restraint acts without
    bias = PlumedBias(METAD, temperature=300, directory=tmp_path)
    bias.attach(simulation_of(bias))
    bias.close()
    del bias
    gc.collect()
    assert caplog.text.count("never attached") == 1


@pytest.mark.parametrize("looked_at", [False, True], ids=["alone", "with a reporter"])
def test_what_a_static_bias_does_not_print_is_said_once(looked_at, tmp_path, caplog):
    """Its forces act without being attached, and its COLVAR is not written."""
    text = RESTRAINT + "PRINT ARG=phi FILE=COLVAR STRIDE=10\n"
    bias = PlumedBias(text, temperature=300, directory=tmp_path)
    simulation = simulation_of(bias)
    if looked_at:  # by a FrameReporter, before the first step
        for _ in range(2):
            bias.require_acting(simulation)
    simulation.step(10)
    assert caplog.text.count("nothing written") == looked_at
    del bias
    gc.collect()
    assert caplog.text.count("nothing written") == 1
    assert not list(tmp_path.iterdir())
    bias = PlumedBias(text, temperature=300, directory=tmp_path)
    bias.attach(simulation := simulation_of(bias))
    bias.require_acting(simulation)
    bias.close()
    del bias
    gc.collect()
    assert caplog.text.count("nothing written") == 1


@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_what_must_be_attached_is_refused_in_words_that_hold_for_any_input(backend, tmp_path):
    """PLUMED's kernel does not say whether an input lays or moves anything."""
    text = METAD if backend == "native" else RESTRAINT
    bias = PlumedBias(text, temperature=300, backend=backend, directory=tmp_path)
    with pytest.raises(RuntimeError, match=r"between steps \(hills, moving centres, files\)"):
        bias.require_acting(simulation_of(bias))


@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_a_bias_that_is_no_number_is_refused_before_it_spoils_the_positions(backend, tmp_path):
    text = PHI + "f: CUSTOM ARG=phi FUNC=log(-1-x*x) PERIODIC=NO\nRESTRAINT ARG=f AT=0 KAPPA=1\n"
    bias = PlumedBias(text, backend=backend, directory=tmp_path)
    simulation = simulation_of(bias)
    before = simulation.context.getState(positions=True).getPositions(asNumpy=True)
    bias.attach(simulation)
    with pytest.raises((ValueError, openmm.OpenMMException), match="the bias is nan"):
        simulation.step(1)
    assert np.isfinite(before).all()
    bias.close()


@pytest.mark.parametrize("backend", ["native", "kernel"])
@pytest.mark.parametrize(
    "text",
    [
        "c: COM ATOMS=1-6\nd: DISTANCE ATOMS=c,16\n",
        "d: GYRATION ATOMS=1-6 MASS_WEIGHTED\n",
        "d: GYRATION ATOMS=1-6 MASS_WEIGHTED TYPE=ASPHERICITY\n",
    ],
)
def test_atoms_without_mass_are_not_weighed_by_mass(text, backend, tmp_path):
    """PLUMED itself says nothing: it gives NaN, or does not come back."""
    system = alanine_dipeptide(constraints=None).system
    for atom in range(6):
        system.setParticleMass(atom, 0.0)
    bias = PlumedBias(text + "RESTRAINT ARG=d AT=1 KAPPA=1\n", backend=backend, directory=tmp_path)
    with pytest.raises(ValueError, match=r"<input>:1: .* have mass 0"):
        bias.add_to(system)


def test_cleared_reporters_cost_no_hill(tmp_path, caplog):
    bias = PlumedBias(METAD, temperature=300, directory=tmp_path)
    simulation = simulation_of(bias)
    bias.attach(simulation)
    simulation.step(100)
    simulation.reporters.clear()
    simulation.step(50)
    simulation.reporters = []
    simulation.step(50)
    bias.close()
    assert len(read_fields(tmp_path / "HILLS")) == 20
    assert len(read_fields(tmp_path / "COLVAR")) == 21
    assert caplog.text.count("was taken from simulation.reporters") == 2


def test_a_reporter_put_back_by_hand_lays_no_hill_twice(tmp_path, caplog):
    bias = PlumedBias(METAD, temperature=300, directory=tmp_path)
    simulation = simulation_of(bias)
    bias.attach(simulation)
    kept = list(simulation.reporters)
    simulation.reporters.clear()
    simulation.step(100)
    simulation.reporters.extend(kept)  # of the script, which took it out itself
    simulation.step(100)
    bias.close()
    assert len(read_fields(tmp_path / "HILLS")) == 20
    assert len(read_fields(tmp_path / "COLVAR")) == 21
    assert caplog.text.count("stood 2 times in simulation.reporters") == 1


@pytest.mark.parametrize("how", ["checkpoint", "state", "currentStep"])
def test_a_simulation_that_goes_back_without_its_bias_is_refused(how, tmp_path):
    bias = PlumedBias(METAD, temperature=300, directory=tmp_path)
    simulation = simulation_of(bias)
    bias.attach(simulation)
    simulation.step(20)
    simulation.saveCheckpoint(str(tmp_path / "chk"))
    simulation.saveState(str(tmp_path / "xml"))
    simulation.step(20)
    if how == "checkpoint":
        simulation.loadCheckpoint(str(tmp_path / "chk"))
    elif how == "state":
        simulation.loadState(str(tmp_path / "xml"))
    else:
        simulation.currentStep = 0
    with pytest.raises(RuntimeError, match="gone back from step 40 to"):
        simulation.step(1)


def test_a_bias_that_is_the_same_at_any_step_goes_back_with_its_simulation(tmp_path, caplog):
    text = RESTRAINT + "PRINT ARG=phi STRIDE=10 FILE=COLVAR\n"
    bias = PlumedBias(text, directory=tmp_path)
    simulation = simulation_of(bias)
    bias.attach(simulation)
    simulation.step(20)
    simulation.currentStep = 0
    simulation.step(20)
    bias.close()
    times = read_fields(tmp_path / "COLVAR").columns["time"]
    np.testing.assert_allclose(times, [0, 0.02, 0.04, 0.02, 0.04])
    assert "gone back from step 20 to 0" in caplog.text


def test_steps_behind_the_back_of_the_simulation_are_said(tmp_path, caplog):
    bias = PlumedBias(METAD, temperature=300, directory=tmp_path)
    simulation = simulation_of(bias)
    bias.attach(simulation)
    simulation.step(10)
    simulation.integrator.step(25)
    simulation.step(5)
    assert "come to step 35 without simulation.step" in caplog.text
    assert "from step 20 on" in caplog.text


def test_where_nothing_is_due_nothing_is_left_out(caplog):
    bias = PlumedBias(RESTRAINT, temperature=300)
    simulation = simulation_of(bias)
    bias.attach(simulation)
    simulation.integrator.step(5)
    simulation.step(5)
    simulation.integrator.step(5)
    bias.close()
    assert "without simulation.step" not in caplog.text


@pytest.mark.parametrize("ends_so", [False, True])
def test_steps_behind_the_back_of_a_simulation_that_has_made_none_are_said(
    ends_so, tmp_path, caplog
):
    bias = PlumedBias(METAD, temperature=300, directory=tmp_path)
    simulation = simulation_of(bias)
    bias.attach(simulation)
    simulation.integrator.step(25)
    if not ends_so:
        simulation.step(5)
    bias.close()
    bias.close()
    assert caplog.text.count("come to step 25 without simulation.step") == 1
    assert "from step 0 on" in caplog.text


def test_a_system_read_back_from_xml_is_refused_with_what_to_do(caplog):
    bias = PlumedBias(METAD, temperature=300)
    system = alanine_dipeptide().system
    bias.add_to(system)
    copied = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    read = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    topology = alanine_dipeptide().topology
    platform = openmm.Platform.getPlatformByName("Reference")
    with pytest.raises(RuntimeError, match=r"read\s+back from a file.*removeForce"):
        bias.attach(app.Simulation(topology, copied, langevin(), platform))
    assert "forces of a bias that is not here" not in caplog.text
    PlumedBias(RESTRAINT).add_to(system)  # beside the one that is here
    assert "forces of a bias that is not here" not in caplog.text
    PlumedBias(METAD, temperature=300).add_to(copied)
    assert "forces of a bias that is not here: PLUMED METAD" in caplog.text
    simulation = app.Simulation(topology, read, langevin(), platform)
    with pytest.raises(RuntimeError, match=r"read\s+back from a file.*removeForce"):
        PlumedBias(METAD, temperature=300).attach(simulation)


def test_a_temperature_that_is_not_the_bias_ones_is_said_once(caplog):
    bias = PlumedBias(RESTRAINT, temperature=300)
    simulation = simulation_of(bias)
    bias.attach(simulation)
    simulation.step(100)
    assert caplog.records == []
    simulation.integrator.setTemperature(600 * unit.kelvin)
    simulation.integrator.setStepSize(0.001)
    for _ in range(200):
        simulation.step(1)
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(told) == 2
    assert "held at 600 K, and its bias counts with 300 K" in told[0]
    assert "time step is 0.001 ps, and was 0.002" in told[1]


@pytest.mark.parametrize(
    "action",
    [
        "DUMPATOMS ATOMS=1-3 STRIDE=1 FILE",
        "DUMPDERIVATIVES ARG=phi STRIDE=1 FILE",
        "PRINT ARG=phi STRIDE=1 FILE",
        "METAD ARG=phi PACE=1 SIGMA=1 HEIGHT=1 GRID_MIN=-pi GRID_MAX=pi GRID_WSTRIDE=1 GRID_WFILE",
        "OPES_METAD ARG=phi PACE=1 BARRIER=9 SIGMA=0.3 STATE_WSTRIDE=1 STATE_WFILE",
    ],
)
def test_folders_of_output_files_are_made(action, tmp_path):
    bias = PlumedBias(
        f"{PHI}{action}=new/OUT\nRESTRAINT ARG=phi AT=1 KAPPA=1\n",
        temperature=300,
        directory=tmp_path,
    )
    simulation = simulation_of(bias)
    bias.attach(simulation)
    simulation.step(1)
    assert (tmp_path / "new" / "OUT").exists()
    bias.close()


def test_steps_of_no_fixed_length_tell_no_time_whenever_the_bias_begins(tmp_path):
    """The latest one has some length: times by it were those of no clock, and others after a
    checkpoint."""
    text = "phi: TORSION ATOMS=5,7,9,15\nPRINT ARG=phi FILE=COLVAR STRIDE=1\n"

    def begun(text, **given):
        bias = PlumedBias(text, temperature=300.0, directory=tmp_path)
        simulation = simulation_of(bias, openmm.VariableLangevinIntegrator(300, 5, 0.001))
        simulation.step(3)
        assert simulation.integrator.getStepSize()._value > 0
        bias.attach(simulation, **given)
        return bias, simulation

    bias, simulation = begun(text)
    simulation.step(2)
    bias.save_checkpoint(tmp_path / "bias.chk")
    bias.close()
    bias, simulation = begun(text, checkpoint=tmp_path / "bias.chk")
    simulation.step(2)
    bias.close()
    assert read_fields(tmp_path / "COLVAR").columns["time"].tolist() == [0.0] * 5
    for word, by_time in (
        ("UPDATE_FROM", "PRINT ARG=phi FILE=LATE STRIDE=1 UPDATE_FROM=1"),
        ("UPDATE_UNTIL", "METAD ARG=phi SIGMA=0.3 HEIGHT=1 PACE=5 UPDATE_UNTIL=5"),
        ("TIME", "t: TIME\nPRINT ARG=t FILE=TIMES"),
    ):
        with pytest.raises(PlumedInputError, match=f"{word}: depends on the time, and the steps"):
            begun(text + by_time)


def test_steps_of_no_fixed_length_are_said_and_give_hills_no_height(tmp_path, caplog):
    """Before its first step such an integrator has a time step of 0: so had hills by TAU."""
    metad = "phi: TORSION ATOMS=5,7,9,15\nMETAD ARG=phi SIGMA=0.35 {} PACE=5 BIASFACTOR=6\n"
    found = []
    for height in ("TAU=1", "HEIGHT=1"):
        folder = tmp_path / height
        bias = PlumedBias(metad.format(height), temperature=300.0, directory=folder)
        simulation = simulation_of(bias, openmm.VariableLangevinIntegrator(300, 5, 0.001))
        found.append((bias, simulation))
    (by_time, simulation), (plain, other) = found
    with pytest.raises(ValueError, match=r"TAU follows from the time step.*Give HEIGHT"):
        by_time.attach(simulation)
    plain.attach(other)
    assert "steps of VariableLangevinIntegrator differ in length" in caplog.text
    other.step(10)
    plain.close()
    hills = read_fields(tmp_path / "HEIGHT=1" / "HILLS")
    with pytest.raises(ValueError, match=r"all 2 hills are of the time 0"):
        tiwary_log_weights([0.1], [0.0], hills, 300.0, UnitSystem())


@pytest.mark.parametrize("text", [METAD, RESTRAINT, METAD.replace("GRID_", "#")])
def test_a_parameter_of_the_context_that_changes_is_said_once(text, tmp_path, caplog):
    """An alchemical lambda: frames of two potentials would be weighed as of one."""
    system = alanine_dipeptide().system
    soft = openmm.CustomBondForce("lambda*(r-0.5)^2")
    soft.addGlobalParameter("lambda", 0.0)
    soft.addBond(0, 18, [])
    system.addForce(soft)
    bias = PlumedBias(text, temperature=300.0, directory=tmp_path)
    simulation = simulation_of(bias, system=system)
    bias.attach(simulation)
    simulation.step(150)
    assert "the parameter" not in caplog.text
    simulation.context.setParameter("lambda", 0.5)
    simulation.step(150)
    simulation.step(150)
    assert caplog.text.count("the parameter lambda of the Context is 0.5, and was 0 when") == 1
    assert caplog.text.count("the parameter") == 1
    bias.close()


def test_a_force_that_changes_is_said_once(tmp_path, caplog, monkeypatch):
    """No parameter of the Context tells of it; hills of another program are told elsewhere."""
    monkeypatch.setattr("openmm_cgan.fingerprints.LOOKS", np.inf)  # always due
    system = alanine_dipeptide().system
    angle = openmm.CustomTorsionForce("theta")
    angle.addTorsion(4, 6, 8, 14)
    variable = app.BiasVariable(angle, -np.pi, np.pi, 0.3, True)
    grown = app.Metadynamics(system, [variable], 300.0, 5.0, 1.0, 50)
    bias = PlumedBias("phi: TORSION ATOMS=5,7,9,15\nPRINT ARG=phi STRIDE=50", directory=tmp_path)
    simulation = simulation_of(bias, system=system)
    bias.attach(simulation)
    grown.step(simulation, 150)
    assert "are others than" not in caplog.text
    (bonds,) = [f for f in system.getForces() if isinstance(f, openmm.HarmonicBondForce)]
    i, j, length, k = bonds.getBondParameters(0)
    bonds.setBondParameters(0, i, j, length, 0.5 * k)
    bonds.updateParametersInContext(simulation.context)
    for _ in range(3):
        simulation.step(150)
    assert caplog.text.count("parameters of HarmonicBondForce in the System are others") == 1
    assert caplog.text.count("are others than") == 1
    bias.close()


def _remove_bonds(system):
    (k,) = [
        k
        for k in range(system.getNumForces())
        if isinstance(system.getForce(k), openmm.HarmonicBondForce)
    ]
    system.removeForce(k)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda system: system.addForce(openmm.CustomExternalForce("x^2")),
            "CustomExternalForce, which was added, in the System are others than",
        ),
        (_remove_bonds, "HarmonicBondForce, which was removed, in the System are others than"),
        (
            lambda system: system.setConstraintParameters(0, 0, 1, 0.12),
            "parameters of the constraints in the System are others than",
        ),
        (lambda system: system.addForce(openmm.MonteCarloBarostat(1.0, 300.0)), ""),
        (lambda system: system.setParticleMass(1, 4.0), ""),  # configurations are none the wiser
    ],
)
def test_what_reinitialize_takes_up_is_said_where_it_is_another_potential(
    change, said, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr("openmm_cgan.fingerprints.LOOKS", np.inf)  # always due
    system = alanine_dipeptide().system
    bias = PlumedBias("phi: TORSION ATOMS=5,7,9,15\nPRINT ARG=phi STRIDE=50", directory=tmp_path)
    simulation = simulation_of(bias, system=system)
    bias.attach(simulation)
    simulation.step(1)
    change(system)
    if not isinstance(system.getForce(system.getNumForces() - 1), openmm.MonteCarloBarostat):
        simulation.context.reinitialize(preserveState=True)
    for _ in range(3):
        simulation.step(100)
    assert said in caplog.text
    assert caplog.text.count("are others than") == (1 if said else 0)
    bias.close()


def test_two_biases_of_a_simulation_do_not_write_one_file(tmp_path):
    """The second had put the live HILLS of the first aside, as bck.0.HILLS."""
    first = PlumedBias(METAD, temperature=300.0, directory=tmp_path)
    psi = METAD.replace("phi: TORSION ATOMS=5,7,9,15", "phi: TORSION ATOMS=7,9,15,17")
    second = PlumedBias(psi, temperature=300.0, directory=tmp_path / ".." / tmp_path.name)
    named = PlumedBias(
        psi.replace("PACE=10", "PACE=10 FILE=H").replace("COLVAR", "C"),
        temperature=300.0,
        directory=tmp_path,
    )
    system = alanine_dipeptide().system
    for bias in (second, named):
        bias.add_to(system)
    simulation = simulation_of(first, system=system)
    first.attach(simulation)
    with pytest.raises(ValueError, match=r"COLVAR is written by another bias.*its own FILE="):
        second.attach(simulation)
    named.attach(simulation)
    simulation.step(20)
    for bias in (first, named):
        bias.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["C", "COLVAR", "H", "HILLS"]
    again = PlumedBias(METAD, temperature=300.0, directory=tmp_path)
    other = simulation_of(again)
    again.attach(other)  # another run, as of a cell of a notebook
    again.close()
