"""Whose masses weigh atoms: those of the System wherever there is one, and else it is said."""

import csv
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openmm
import pytest
from click.testing import CliRunner
from openmm import app, unit

from openmm_cgan.cgan import ConditionalGAN, TrainingSettings
from openmm_cgan.cli.commands import main
from openmm_cgan.frames import Frames
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.report.page.models import try_beside
from openmm_cgan.run_folders import SYSTEM, TOPOLOGY
from openmm_cgan.testsystems import Molecule, alanine_dipeptide

INPUT = """heavy: COM ATOMS=1-6
d: DISTANCE ATOMS=heavy,19
g: GYRATION ATOMS=1-22 MASS_WEIGHTED
RESTRAINT ARG=d,g AT=0,0 KAPPA=1,1
"""


def with_heavy_hydrogens() -> Molecule:
    molecule = alanine_dipeptide()
    for atom in molecule.topology.atoms():
        if atom.element == app.element.hydrogen:
            molecule.system.setParticleMass(atom.index, 4.0)
    return molecule


HEAVY = with_heavy_hydrogens()


def values_by_hand(x: np.ndarray, molecule: Molecule) -> np.ndarray:
    m = np.array([molecule.system.getParticleMass(i)._value for i in range(22)])
    centre = np.average(x[:, :6], axis=1, weights=m[:6])
    arms = x - np.average(x, axis=1, weights=m)[:, None]
    size = np.sqrt(np.average((arms**2).sum(-1), axis=1, weights=m))
    return np.stack([np.linalg.norm(x[:, 18] - centre, axis=1), size], axis=1)


def shaken(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return HEAVY.positions + rng.normal(scale=0.002, size=(n, 22, 3))


@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_the_masses_of_a_system_count_before_the_bias_is_in_it(backend, caplog):
    x = shaken(3)
    bias = PlumedBias(INPUT, HEAVY, backend=backend)
    for measuring in (bias, bias.restrained([0.5, 0.3], 0.0)):
        np.testing.assert_allclose(measuring.cv_values(x), values_by_hand(x, HEAVY), atol=1e-6)
    assert not caplog.records


def test_a_restraint_has_the_masses_that_its_bias_met_in_a_system():
    x = shaken(3)
    bias = PlumedBias(INPUT, HEAVY.topology)
    bias.add_to(openmm.XmlSerializer.clone(HEAVY.system))
    found = bias.restrained([0.5, 0.3], 0.0).cv_values(x)
    np.testing.assert_allclose(found, values_by_hand(x, HEAVY), atol=1e-9)


def test_masses_by_element_are_told_of_once(caplog):
    plain, x = alanine_dipeptide(), shaken(3)
    bias = PlumedBias(INPUT, plain.topology)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        for _ in range(2):
            np.testing.assert_allclose(bias.cv_values(x), values_by_hand(x, plain), atol=1e-9)
    said = [
        told.partition(" is weighed by the masses of the elements")[0] for told in caplog.messages
    ]
    assert [told.split()[-1] for told in said] == ["heavy", "g"]
    caplog.clear()
    unweighed = INPUT.replace("COM", "CENTER").replace("MASS_WEIGHTED", "")
    PlumedBias(unweighed, plain.topology).cv_values(x)
    assert not caplog.records


def measured_frames() -> Frames:
    x = shaken(40)
    return Frames.of_arrays(x, values_by_hand(x, HEAVY), PlumedBias(INPUT, HEAVY).variables)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run with heavy hydrogens leaves, and a model of it."""
    folder = tmp_path_factory.mktemp("run")
    with (folder / TOPOLOGY).open("w") as file:
        app.PDBFile.writeFile(HEAVY.topology, HEAVY.positions * unit.nanometer, file)
    (folder / SYSTEM).write_text(openmm.XmlSerializer.serialize(HEAVY.system))
    (folder / "plumed.dat").write_text(INPUT)
    settings = TrainingSettings(steps=2, batch=8)
    ConditionalGAN.fit(measured_frames(), HEAVY.topology, settings).save(folder / "model.npz")
    return folder


def test_propose_measures_with_the_masses_of_the_run(run: Path, tmp_path: Path) -> None:
    at = "d={:.4f},g={:.4f}".format(*values_by_hand(shaken(40), HEAVY).mean(axis=0))
    words = [
        "propose", run / "model.npz", "--topology", run / TOPOLOGY, "--plumed", run / "plumed.dat",
        "--at", at, "-n", "5", "--tolerance", "1", "--out", tmp_path / "seeds.pdb",
    ]  # fmt: skip
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    with (tmp_path / "seeds.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["result"] == "accepted"]
    made = app.PDBFile(str(tmp_path / "seeds.pdb"))
    x = np.array([made.getPositions(True, k)._value for k in range(made.getNumFrames())])
    written = np.array([[float(row["d"]), float(row["g"])] for row in rows])
    np.testing.assert_allclose(written, values_by_hand(x, HEAVY), atol=3e-4)  # three decimals


def test_a_report_measures_with_the_masses_of_the_run(run: Path) -> None:
    model = ConditionalGAN.load(run / "model.npz", HEAVY.topology)
    found = SimpleNamespace(folder=run, frames=measured_frames())
    made = try_beside(model, found).proposals
    np.testing.assert_allclose(made.cvs, values_by_hand(made.positions, HEAVY), atol=1e-6)
