"""Biases on ENERGY: their forces are those of a function of the potential energy."""

import numpy as np
import openmm
import pytest
from openmm import app, unit

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.testsystems import alanine_dipeptide

KB = 0.0083144621  # kJ/mol/K, PLUMED's
CASES = {
    "restraint": "RESTRAINT ARG=e AT=-20 KAPPA=0.02\n",
    "of a function": "f: CUSTOM ARG=e,d FUNC=x*y^2 PERIODIC=NO\nBIASVALUE ARG=f\n",
    "wall": "LOWER_WALLS ARG=e AT=500 KAPPA=0.001\n",
    "moving": "MOVINGRESTRAINT ARG=e STEP0=0 AT0=0 KAPPA0=0.01 STEP1=5 AT1=50\n",
    "metadynamics": "METAD ARG=e,d SIGMA=20,0.1 HEIGHT=3 PACE=1 {grid}\n",
    "a sum of hills": "METAD ARG=e,d SIGMA=20,0.1 HEIGHT=3 PACE=1\n",
    "parallel bias": "PBMETAD ARG=e,d SIGMA=20,0.1 HEIGHT=3 PACE=1 {grid}\n",
    "expanded": "x: ECV_MULTITHERMAL ARG=e TEMP_MAX=900 TEMP_STEPS=5\n"
    "OPES_EXPANDED ARG=x.* PACE=1 OBSERVATION_STEPS=2\n",
}
GRID = "GRID_MIN=-1000,0 GRID_MAX=3000,3"


def _simulation(bias, *, seed=1, temperature=300, before=None):
    molecule = alanine_dipeptide("C7eq")
    bias.add_to(molecule.system)
    if before is not None:
        before(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(temperature, 5, 0.001)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(temperature, seed)
    return simulation


@pytest.mark.parametrize("unit_of_energy", ["kj/mol", "kcal/mol"])
@pytest.mark.parametrize("case", CASES)
def test_forces_are_the_slopes_of_the_bias(case, unit_of_energy, tmp_path):
    """The biases' energy by the input's own arithmetic, by differences along a direction."""
    head = f"UNITS ENERGY={unit_of_energy}\ne: ENERGY\nd: DISTANCE ATOMS=1,19\n"
    text = head + CASES[case].format(grid=GRID) + "PRINT ARG=e,d FILE=COLVAR\n"
    bias = PlumedBias(text, temperature=300, directory=tmp_path, backend="native")
    simulation = _simulation(bias)
    bias.attach(simulation)
    simulation.step(4)
    groups = bias.force_groups()
    state = simulation.context.getState(positions=True, forces=True, groups=groups)
    x, forces = (
        np.array(v._value)
        for v in (state.getPositions(asNumpy=True), state.getForces(asNumpy=True))
    )
    direction = np.random.default_rng(0).normal(size=x.shape)
    step, found = 1e-6, []
    for sign in (1, -1):
        simulation.context.setPositions(x + sign * step * direction)
        moved = simulation.context.getState(positions=True)
        found.append(bias.values(simulation, moved)[1])
        energy = simulation.context.getState(energy=True, groups=groups).getPotentialEnergy()
        assert energy._value == pytest.approx(found[-1], rel=1e-9, abs=1e-9)
    slope = (found[0] - found[1]) / (2 * step)
    assert abs(slope) > 1e-3
    assert -np.sum(forces * direction) == pytest.approx(slope, rel=1e-5)


def test_a_bias_that_scales_the_energy_gives_another_temperature(tmp_path):
    """V = (300/450 - 1) U at 300 K is the canonical ensemble at 450 K."""
    scaled = "f: CUSTOM ARG=e FUNC=x*(300/450-1) PERIODIC=NO\nBIASVALUE ARG=f\n"
    found = {}
    for name, text, temperature in (("biased", scaled, 300), ("warm", "", 450), ("cold", "", 300)):
        text = f"e: ENERGY\n{text}PRINT ARG=e FILE={name} STRIDE=50\n"
        bias = PlumedBias(text, temperature=temperature, directory=tmp_path)
        simulation = _simulation(bias, temperature=temperature)
        bias.attach(simulation)
        simulation.step(20_000)
        bias.close()
        blocks = read_fields(tmp_path / name).columns["e"][80:400].reshape(16, -1).mean(axis=1)
        found[name] = blocks.mean(), blocks.std(ddof=1) / 4
    (biased, error), (warm, other), (cold, third) = found.values()
    assert abs(biased - warm) < 4 * np.hypot(error, other)
    assert biased - cold > 4 * np.hypot(error, third)


def test_a_force_that_comes_after_the_bias_is_noticed(tmp_path):
    def more(system):
        force = openmm.CustomExternalForce("100*x^2")
        for i in range(system.getNumParticles()):
            force.addParticle(i)
        system.addForce(force)

    text = "e: ENERGY\nRESTRAINT ARG=e AT=0 KAPPA=0.01\nPRINT ARG=e FILE=COLVAR\n"
    bias = PlumedBias(text, temperature=300, directory=tmp_path)
    simulation = _simulation(bias, before=more)
    bias.attach(simulation)
    with pytest.raises(RuntimeError, match="its forces are others than when"):
        simulation.step(1)


@pytest.mark.parametrize(
    "bias", ["RESTRAINT ARG=e AT=0 KAPPA=0.01", "MOVINGRESTRAINT ARG=e STEP0=0 AT0=0 KAPPA0=0.01"]
)
def test_parameters_of_the_system_are_followed(bias, tmp_path):
    """A bias on the energy knows what a script has set since."""
    text = f"e: ENERGY\nb: {bias}\nPRINT ARG=e,b.bias FILE=COLVAR\n"
    bias = PlumedBias(text, temperature=300, directory=tmp_path)
    molecule = alanine_dipeptide("C7eq")
    force = openmm.CustomExternalForce("strength*x^2")
    force.addGlobalParameter("strength", 0.0)
    for i in range(molecule.system.getNumParticles()):
        force.addParticle(i)
    molecule.system.addForce(force)
    bias.add_to(molecule.system)
    platform = openmm.Platform.getPlatformByName("Reference")
    integrator = openmm.VerletIntegrator(0.001)
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    bias.attach(simulation)
    simulation.step(1)
    for strength in (0.0, 900.0):
        simulation.context.setParameter("strength", strength)
        others = set(range(32)) - bias.force_groups()
        u = simulation.context.getState(energy=True, groups=others).getPotentialEnergy()
        v = simulation.context.getState(energy=True, groups=bias.force_groups())
        expected = 0.005 * u.value_in_unit(unit.kilojoule_per_mole) ** 2
        assert v.getPotentialEnergy()._value == pytest.approx(expected, rel=1e-9)


@pytest.mark.plumed
def test_libplumed_refuses_a_bias_on_it_that_acts_at_some_steps(tmp_path):
    """OpenMM gives it no energy: the restraint was on 0 kJ/mol, without a force."""
    text = "e: ENERGY\nRESTRAINT ARG=e AT=-20 KAPPA=0.01 STRIDE=2\n"
    bias = PlumedBias(text, temperature=300, directory=tmp_path, backend="kernel")
    with pytest.raises(PlumedInputError, match="ENERGY: a bias acts on it"):
        bias.add_to(alanine_dipeptide().system)
    printed = (
        "e: ENERGY\nPRINT ARG=e STRIDE=2\nd: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=0.1 KAPPA=1"
    )
    bias = PlumedBias(
        printed + " STRIDE=2\n", temperature=300, directory=tmp_path, backend="kernel"
    )
    bias.add_to(alanine_dipeptide().system)
