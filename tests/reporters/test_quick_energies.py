"""Quick energies of a part of a large system differ from the whole ones by what they leave out."""

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray

from openmm_cgan.attached_parts import references_of
from openmm_cgan.potentials import Potential, system_without
from openmm_cgan.reporters.moves import quick_energies
from openmm_cgan.reporters.moves.quick_energies import quick_system
from tests.cases.water import dipeptide_in_water

METHYL = np.array([10, 11, 12, 13])  # CB and its hydrogens


@pytest.fixture(autouse=True)
def small_systems_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_energies, "WORTH_IT", 0)


def shaken(x: NDArray, n: int, size: float) -> NDArray:
    made = np.repeat(x[None], n, axis=0)
    made[:, METHYL] += np.random.default_rng(0).normal(scale=size, size=(n, len(METHYL), 3))
    return made


@pytest.mark.parametrize(
    ("switched", "most"), [(False, 500_000), (True, 500_000), (True, 0), (False, 0)]
)
def test_with_a_cutoff_the_differences_are_those_of_the_whole_system(
    switched: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick_energies, "AS_BONDS", most)
    molecule = dipeptide_in_water()
    system = openmm.XmlSerializer.clone(molecule.system)
    nonbonded = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    nonbonded.setUseSwitchingFunction(switched)
    nonbonded.setSwitchingDistance(0.45)
    near = [*METHYL, *references_of(molecule.topology, METHYL.tolist())]
    quick = quick_system(system_without(system, ()), METHYL, near)
    assert quick is not None
    kinds = {type(force) for force in quick.getForces()}
    assert (openmm.CustomNonbondedForce in kinds) == (most == 0)
    x = shaken(molecule.positions, 12, 0.02)
    whole, part = (Potential(s, n_contexts=1).energies(x) for s in (system, quick))
    assert np.ptp(whole) > 100, "kJ/mol"
    np.testing.assert_allclose(part - part[0], whole - whole[0], atol=1e-4, rtol=1e-7)


def test_of_a_lattice_sum_some_kilojoules_are_left_out() -> None:
    molecule = dipeptide_in_water()
    system = openmm.XmlSerializer.clone(molecule.system)
    nonbonded = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    nonbonded.setNonbondedMethod(nonbonded.PME)
    near = [*METHYL, *references_of(molecule.topology, METHYL.tolist())]
    quick = quick_system(system, METHYL, near)
    x = shaken(molecule.positions, 12, 0.02)
    whole, part = (Potential(s, n_contexts=1).energies(x) for s in (system, quick))
    off = (part - part[0]) - (whole - whole[0])
    assert 1e-3 < np.abs(off).max() < 5
    assert np.abs(off).max() < 0.05 * np.ptp(whole)


def test_where_there_is_nothing_to_gain_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    molecule = dipeptide_in_water()
    two = openmm.XmlSerializer.clone(molecule.system)
    two.addForce(openmm.NonbondedForce())
    assert quick_system(two, METHYL, METHYL) is None
    monkeypatch.undo()
    assert quick_system(molecule.system, METHYL, METHYL) is None, "few particles"
