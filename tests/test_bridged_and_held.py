"""What holds a protein together beside its chain: disulphides, metals, what its pocket holds."""

import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from openmm import app, unit

from openmm_cgan import PlumedBias, ProposalReporter
from openmm_cgan.cgan import ConditionalGenerator, TrainingSettings
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import AlignedFeatures, ZMatrixFeatures
from openmm_cgan.frames import Frames
from openmm_cgan.internal_coordinates.local_geometry import MENDED
from openmm_cgan.proposals import Rest, Screen
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.states import positions_of
from openmm_cgan.testsystems import Molecule, alanine_pentapeptide
from tests.cases.cystine import SULPHURS, cystine

FEW = TrainingSettings(steps=20, batch=64, width=16, report_every=10)
REFERENCE = openmm.Platform.getPlatformByName("Reference")
AT = "phi: TORSION ATOMS=5,7,9,15\nRESTRAINT ARG=phi AT=0 KAPPA=0\n"


def distance(x: NDArray, one: int, other: int) -> NDArray:
    return np.linalg.norm(x[..., one, :] - x[..., other, :], axis=-1)


def moving(molecule: Molecule) -> app.Simulation:
    integrator = openmm.LangevinMiddleIntegrator(300, 2.0, 0.004)
    integrator.setRandomNumberSeed(1)
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, REFERENCE)
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(300, 1)
    return simulation


# ---- a disulphide


@pytest.fixture(scope="module")
def bridged() -> tuple[Molecule, Frames]:
    """Two chains that a disulphide makes one molecule, and frames of it."""
    molecule = cystine()
    simulation, x = moving(molecule), []
    for _ in range(160):
        simulation.step(25)
        x.append(positions_of(simulation.context.getState(positions=True)))
    bias = PlumedBias(AT, molecule.topology, temperature=300)
    cvs = bias.cv_values(np.array(x))
    return molecule, Frames.of_arrays(np.array(x), cvs, bias.variables, temperature=300.0)


@pytest.fixture(scope="module")
def made(bridged: tuple[Molecule, Frames]) -> dict[str, ConditionalGenerator]:
    molecule, frames = bridged
    return {
        kind.__name__: ConditionalGenerator.fit(frames, molecule.topology, FEW, featurize=kind.fit)
        for kind in (AlignedFeatures, ZMatrixFeatures)
    }


@pytest.mark.parametrize("kind", ["AlignedFeatures", "ZMatrixFeatures"])
def test_a_disulphide_holds_in_what_is_generated(
    bridged: tuple[Molecule, Frames], made: dict[str, ConditionalGenerator], kind: str
) -> None:
    molecule, frames = bridged
    x = made[kind].sample(frames.cvs[::16], seed=1)
    seen = distance(frames.positions, *SULPHURS)
    lengths = distance(x, *SULPHURS)
    spread = seen.max() - seen.min()
    assert lengths.min() > seen.min() - spread
    assert lengths.max() < seen.max() + spread
    screen = Screen(molecule.topology, molecule.positions)
    assert (screen.check(x) != "bond length").all()
    parted = molecule.positions.copy()
    parted[22:] += 0.1 * (parted[SULPHURS[1]] - parted[SULPHURS[0]]) / 0.2034
    assert screen.check(parted[None])[0] == "bond length"


def test_a_bridged_molecule_is_seeded_in_a_run(
    bridged: tuple[Molecule, Frames], made: dict[str, ConditionalGenerator], tmp_path: Path
) -> None:
    molecule, frames = bridged
    copied = Molecule(
        molecule.topology, openmm.XmlSerializer.clone(molecule.system), molecule.positions
    )
    bias = PlumedBias(AT, molecule.topology, temperature=300, directory=tmp_path)
    bias.add_to(copied.system)
    simulation = moving(copied)
    bias.attach(simulation)
    targets = np.percentile(frames.cvs, [30, 50, 70])[:, None]
    reporter = ProposalReporter(
        tmp_path / "p.csv", 25, made["AlignedFeatures"], bias, targets, "seed",
        settings=ProposalSettings(batch=16),
    )  # fmt: skip
    simulation.reporters.append(reporter)
    simulation.step(100)
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["accepted"] == "1" for row in rows) >= 3, [row["reason"] for row in rows]
    x = positions_of(simulation.context.getState(positions=True))
    assert distance(x, *SULPHURS) == pytest.approx(0.2034, abs=0.02)


# ---- a metal

LOOP = list(range(22, 42))  # the second to the fourth alanine of five
OXYGEN = 35  # of the third, in the loop
ZINC, SODIUM = 62, 63


@pytest.fixture(scope="module")
def with_metal() -> tuple[app.Topology, Frames]:
    """A helix, a zinc that an oxygen of it holds at 0.21 nm, a sodium that goes by."""
    peptide = alanine_pentapeptide()
    topology = app.Modeller(peptide.topology, peptide.positions * unit.nanometer).topology
    for symbol in ("Zn", "Na"):
        residue = topology.addResidue(symbol.upper(), topology.addChain())
        topology.addAtom(symbol.upper(), app.Element.getBySymbol(symbol), residue)
    simulation, rng, x = moving(peptide), np.random.default_rng(1), []
    for _ in range(120):
        simulation.step(25)
        now = positions_of(simulation.context.getState(positions=True))
        out = now[OXYGEN] - now[OXYGEN - 1]
        zinc = now[OXYGEN] + rng.normal(0.21, 0.006) * out / np.linalg.norm(out)
        x.append(np.concatenate([now, [zinc], now[[5]] + rng.uniform(0.25, 0.9) * np.eye(3)[:1]]))
    phi = CollectiveVariable("phi", "rad", (-np.pi, np.pi), "TORSION", (24, 26, 28, 34))
    bias = PlumedBias("phi: TORSION ATOMS=25,27,29,35\nRESTRAINT ARG=phi AT=0 KAPPA=0\n")
    cvs = bias.cv_values(np.array(x))
    return topology, Frames.of_arrays(np.array(x), cvs, [phi], temperature=300.0)


def test_a_metal_that_is_held_belongs_to_the_rest_and_an_ion_does_not(
    with_metal: tuple[app.Topology, Frames],
) -> None:
    topology, frames = with_metal
    gan = ConditionalGenerator.fit(frames, topology, FEW, featurize=AlignedFeatures.of_part(LOOP))
    rest = gan.features.rest
    assert ZINC in rest
    assert SODIUM not in rest
    held = distance(frames.positions, OXYGEN, ZINC)
    asked = np.full((16, 1), np.median(frames.cvs))
    whole = frames.positions[100].astype(float)
    placed = gan.features.place(gan.sample(asked, seed=1), whole[rest], asked)
    made = np.linalg.norm(placed[:, OXYGEN - LOOP[0]] - whole[ZINC], axis=-1)
    assert made.min() > held.min() - MENDED
    assert made.max() < held.max() + MENDED
    # and the screen sees it: an atom of the loop on the metal
    screen = Screen(topology, whole[LOOP], None, None, LOOP, Rest(rest.tolist(), lambda: whole))
    assert (screen.check(placed) == "").all()
    moved = whole.copy()
    moved[ZINC] = placed[0, 0] + np.array([0.05, 0, 0])
    assert screen.check(placed[:1], whole=moved)[0] == "clash"


# ---- a ligand


@pytest.fixture(scope="module")
def pocket() -> tuple[app.Topology, Frames, NDArray[np.int64]]:
    """p-xylene in T4 lysozyme L99A (2,621 atoms), rocking and shaken; with the ligand's atoms."""
    spec = find_spec("openmmtools")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "data" / "T4-lysozyme-L99A-implicit"
    topology = app.AmberPrmtopFile(str(folder / "complex.prmtop")).topology
    found = app.AmberInpcrdFile(str(folder / "complex-minimized.crd")).getPositions(asNumpy=True)
    start = found.value_in_unit(unit.nanometer)
    ligand = np.arange(len(start) - 18, len(start))
    rng, x = np.random.default_rng(2), []
    for _ in range(60):
        now, centre = start + rng.normal(0, 0.002, start.shape), start[ligand].mean(axis=0)
        axis = rng.normal(0, 0.05, 3)
        arms = now[ligand] - centre
        now[ligand] = centre + arms + np.cross(axis, arms) + rng.normal(0, 0.01, 3)
        x.append(now)
    cv = CollectiveVariable("d", "nm", None, "DISTANCE", (int(ligand[0]), 1000))
    cvs = distance(np.array(x), *cv.atoms)[:, None]
    frames = Frames.of_arrays(np.array(x, dtype=np.float32), cvs, [cv], temperature=300.0)
    return topology, frames, ligand


def test_a_ligand_is_made_in_its_pocket(
    pocket: tuple[app.Topology, Frames, NDArray[np.int64]],
) -> None:
    topology, frames, ligand = pocket
    featurize = AlignedFeatures.of_part(ligand.tolist())
    gan = ConditionalGenerator.fit(frames, topology, FEW, featurize=featurize)
    rest = gan.features.rest
    assert 100 < len(rest) < 700, "the residues around it, not all"
    # the protein elsewhere, and turned: the ligand goes with it
    turn, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))
    turn *= np.linalg.det(turn)
    whole = frames.positions[50].astype(float) @ turn + np.array([3.0, -2.0, 1.0])
    asked = frames.cvs[:16]
    placed = gan.features.place(gan.sample(asked, seed=1), whole[rest], asked)
    assert np.abs(placed.mean(axis=(0, 1)) - whole[ligand].mean(axis=0)).max() < 0.03
    screen = Screen(
        topology, whole[ligand], None, None, ligand.tolist(), Rest(rest.tolist(), lambda: whole)
    )
    assert (screen.check(placed) == "").mean() > 0.8
    away = placed + (whole[rest[0]] - placed[:, :1])
    assert (screen.check(away) != "").all(), "on an atom of the pocket"
