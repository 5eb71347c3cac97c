"""What is generated and what it stands among, in several images of a triclinic box."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from openmm import app, unit

from openmm_cgan import PlumedBias, ProposalReporter
from openmm_cgan.proposals import ScreenSettings
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.reporters.surroundings import superpose
from openmm_cgan.reporters.tied_molecules import TiedMolecules
from openmm_cgan.states import positions_of
from openmm_cgan.testsystems import Molecule, alanine_dipeptide

BOX = np.array([[3.0, 0, 0], [1.0, 2.8, 0], [-1.0, 1.3, 2.5]])  # nm
REFERENCE = openmm.Platform.getPlatformByName("Reference")
JUMP = np.array([2.0, -1.0, 1.0]) @ BOX
CHAIN, LIGAND, OTHER = np.arange(22), np.arange(22, 44), np.arange(44, 66)
PROTEIN = np.concatenate([CHAIN, OTHER])


def test_whole_molecules_are_brought_together() -> None:
    """Three of five atoms each, of which only some matter; the fourth molecule none at all."""
    rng = np.random.default_rng(1)
    true = rng.normal(scale=0.05, size=(4, 5, 3)) + 0.4 * np.arange(4)[:, None, None]
    molecules = np.arange(20).reshape(4, 5)
    shifts = rng.integers(-2, 3, size=(4, 1, 3)) @ BOX
    start = (true + shifts).reshape(20, 3)
    tied = TiedMolecules(molecules, np.array([5, 6]), np.array([0, 1, 12]), start, BOX)
    again = rng.integers(-2, 3, size=(4, 1, 3)) @ BOX
    found = tied.shifts((true + again).reshape(20, 3), BOX).reshape(4, 5, 3)
    together = (true + again + found)[:3]
    np.testing.assert_allclose(together - true[:3], (together - true[:3])[:1, :1] + 0 * true[:3])
    np.testing.assert_array_equal(found[3], 0)


def test_a_ligand_that_has_left_takes_no_part_of_its_pocket_along() -> None:
    """Which lay between two chains, nearest to both."""
    x = np.array([[0.0, 0, 0], [0.8, 0, 0], [0.4, 0, 0]])
    tied = TiedMolecules([[0], [1], [2]], np.array([2]), np.array([0, 1]), x, BOX)
    x[2] += [1.4, 0.3, 0.2]
    shifts = tied.shifts(x + np.outer([0, 1, 0], BOX[0]), BOX)
    np.testing.assert_allclose(shifts[1] - shifts[0], [-3.0, 0, 0])


# ---- in a run


@pytest.fixture(scope="module")
def three() -> Molecule:
    """Three dipeptides that touch, in a triclinic box."""
    one = alanine_dipeptide("C7eq")
    modeller = app.Modeller(one.topology, one.positions * unit.nanometer)
    for z in (0.45, -0.45):
        modeller.add(one.topology, (one.positions + np.array([0, 0, z])) * unit.nanometer)
    modeller.topology.setPeriodicBoxVectors(BOX * unit.nanometer)
    system = app.ForceField("amber96.xml").createSystem(
        modeller.topology,
        nonbondedMethod=app.CutoffPeriodic,
        nonbondedCutoff=0.9,
        constraints=app.HBonds,
    )
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), REFERENCE)
    context.setPositions(modeller.positions)
    openmm.LocalEnergyMinimizer.minimize(context, 10)
    return Molecule(modeller.topology, system, positions_of(context.getState(positions=True)))


class Pose:
    """A sampler of the ligand among the protein, or of both: shaken a little."""

    has_density, cv_range, topology_hash = False, np.array([[-np.pi, np.pi]]), ""

    def __init__(self, three: Molecule, variables: Any, is_part: bool) -> None:
        self.variables, self._x, self.keeps_place = tuple(variables), three.positions, is_part
        self.atoms = LIGAND if is_part else np.arange(66)
        self.n_atoms = len(self.atoms)
        if is_part:
            self.features = self
        self.rest = PROTEIN

    def sample(self, cvs: NDArray, n: int | None = None, seed: int = 0) -> NDArray:
        shaken = np.random.default_rng(seed).normal(0, 0.001, (len(cvs), self.n_atoms, 3))
        return self._x[self.atoms] + shaken + [0.02, 0, 0] * np.isin(self.atoms, LIGAND)[:, None]

    def place(self, positions: NDArray, rest: NDArray, cvs: NDArray) -> NDArray:
        known = self._x[PROTEIN]
        onto = superpose(known[None], rest)[0]
        turn = np.linalg.lstsq(known - known.mean(0), onto - onto.mean(0), rcond=None)[0]
        return (positions - known.mean(0)) @ turn + rest.mean(0)


def seeded(three: Molecule, start: NDArray, is_part: bool, folder: Path) -> tuple[list, NDArray]:
    """The rows of one attempt, and where the run then is."""
    folder.mkdir()
    text = "phi: TORSION ATOMS=27,29,31,37\nRESTRAINT ARG=phi AT=0 KAPPA=0\n"
    system = openmm.XmlSerializer.clone(three.system)
    bias = PlumedBias(text, three.topology, temperature=300, directory=folder)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.001)
    integrator.setRandomNumberSeed(1)
    simulation = app.Simulation(three.topology, system, integrator, REFERENCE)
    simulation.context.setPositions(start)
    bias.attach(simulation)
    at = bias.cv_values(three.positions)[None]
    settings = ProposalSettings(
        batch=4,
        minimise_iterations=3,
        heal_steps=12,
        max_energy=50,
        screen=ScreenSettings(cv_tolerance=1.0),
    )
    sampler = Pose(three, bias.variables, is_part)
    reporter = ProposalReporter(
        folder / "p.csv", 2, sampler, bias, at, mode="seed", settings=settings
    )
    simulation.reporters.append(reporter)
    simulation.step(2)
    with (folder / "p.csv").open(newline="") as file:
        return list(csv.DictReader(file)), positions_of(simulation.context.getState(positions=True))


@pytest.mark.parametrize("is_part", [True, False], ids=["a ligand in its pocket", "a complex"])
def test_seeds_do_not_depend_on_the_images_of_molecules(
    three: Molecule, is_part: bool, tmp_path: Path
) -> None:
    apart = three.positions.copy()
    apart[LIGAND] += JUMP
    apart[OTHER] -= 2 * JUMP
    [row], end = seeded(three, three.positions, is_part, tmp_path / "together")
    [other], elsewhere = seeded(three, apart, is_part, tmp_path / "apart")
    assert row["accepted"] == other["accepted"] == "1", (row["reason"], other["reason"])
    for name in ("phi_generated", "phi_healed", "energy_before", "energy_after"):
        assert float(other[name]) == pytest.approx(float(row[name]), rel=1e-5, abs=1e-3)
    moved = elsewhere - end
    np.testing.assert_allclose(moved, apart - three.positions, atol=1e-4)
