"""Biases with STRIDE: what OpenMM's potential energy has of them."""

from pathlib import Path

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from openmm import app

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import alanine_dipeptide

TEXT = (
    "phi: TORSION ATOMS=5,7,9,15\nd: DISTANCE ATOMS=2,19\nr: RESTRAINT ARG=phi AT=0 KAPPA=100 "
    "STRIDE=3\nu: UPPER_WALLS ARG=d AT=0.1 KAPPA=70 STRIDE=2\n"
)
STEPS = 7


def run_under(
    text: str, folder: Path, backend: str = "native", barostat: openmm.Force | None = None
) -> tuple[NDArray, NDArray, NDArray]:
    """Energies (STEPS,) of the bias, the largest of its forces, and positions, step by step."""
    folder.mkdir(exist_ok=True)
    molecule = alanine_dipeptide()
    system = openmm.XmlSerializer.clone(molecule.system)
    if barostat is not None:
        system.setDefaultPeriodicBoxVectors((4, 0, 0), (0, 4, 0), (0, 0, 4))
        for force in system.getForces():
            if isinstance(force, openmm.NonbondedForce):
                force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        system.addForce(barostat)
    bias = PlumedBias(text, molecule.topology, temperature=300, directory=folder, backend=backend)
    bias.add_to(system)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(
        molecule.topology, system, openmm.VerletIntegrator(0.0005), platform
    )
    simulation.context.setPositions(molecule.positions)
    bias.attach(simulation)
    energies, forces, positions = [], [], []
    for _ in range(STEPS):
        groups = bias.force_groups()
        state = simulation.context.getState(energy=True, forces=True, positions=True, groups=groups)
        energies.append(state.getPotentialEnergy()._value)
        forces.append(np.abs(state.getForces(asNumpy=True)._value).max())
        positions.append(state.getPositions(asNumpy=True)._value.copy())
        simulation.step(1)
    bias.close()
    return np.array(energies), np.array(forces), np.array(positions)


@pytest.mark.plumed
def test_energy_and_forces_are_plumed_s(tmp_path: Path) -> None:
    energies, forces, *_ = run_under(TEXT, tmp_path / "native")
    theirs, their_forces, *_ = run_under(TEXT, tmp_path / "kernel", "kernel")
    np.testing.assert_allclose(energies, theirs, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(forces, their_forces, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(energies[[1, 5]], 0.0)


def test_the_energy_is_once_the_bias_and_the_force_so_many_times(tmp_path: Path) -> None:
    energies, forces, *_ = run_under(TEXT, tmp_path / "some")
    once, force, *_ = run_under(TEXT.replace("STRIDE=3", "").replace("STRIDE=2", ""), tmp_path)
    assert energies[0] == pytest.approx(once[0], rel=1e-9)
    assert forces[0] / force[0] == pytest.approx(3, rel=1e-9), "of an atom of the torsion alone"


def test_under_a_barostat_the_energy_is_there_at_all_steps(tmp_path: Path) -> None:
    """It accepts volumes by how the energy changes, at any step."""
    barostat = openmm.MonteCarloBarostat(1.0, 300.0, 2)
    energies, forces, positions = run_under(TEXT, tmp_path, barostat=barostat)
    plain = TEXT.replace("STRIDE=3", "").replace("STRIDE=2", "")
    same = PlumedBias(plain, alanine_dipeptide().topology, temperature=300, cvs=("phi", "d"))
    cvs = same.cv_values(positions, np.tile(4 * np.eye(3), (STEPS, 1, 1)))
    np.testing.assert_allclose(energies, same.bias_of_cvs(cvs), rtol=1e-6)
    assert (forces[[1, 5]] == 0).all()
    assert (forces[[0, 2, 3, 4, 6]] > 0).all()


@pytest.mark.plumed
@pytest.mark.parametrize("stride", [1, 3])
def test_plumed_s_own_is_told_to_be_missed_by_a_barostat(
    stride: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"phi: TORSION ATOMS=5,7,9,15\nRESTRAINT ARG=phi AT=0 KAPPA=100 STRIDE={stride}\n"
    run_under(text, tmp_path / "a", "kernel")
    assert "barostat" not in caplog.text
    run_under(text, tmp_path / "b", "kernel", openmm.MonteCarloAnisotropicBarostat((1, 1, 1), 300))
    told = [m for m in caplog.messages if "the barostat accepts volumes there as if" in m]
    assert len(told) == (stride > 1)
