"""A run that is gone on with in another way than it was begun: refused, and kept as it is."""

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from click.testing import CliRunner
from openmm import app

from openmm_cgan.cli import main
from openmm_cgan.cli.molecules import read_molecule
from openmm_cgan.cli.run_records import RunSettings, told_of_part
from openmm_cgan.cli.simulations import run_biased
from openmm_cgan.testsystems import Molecule, alanine_dipeptide
from tests.cases import ROOT

STRUCTURE = ROOT / "openmm_cgan" / "data" / "alanine_dipeptide.pdb"
INPUT = "phi: TORSION ATOMS=5,7,9,15\nMETAD ARG=phi SIGMA=0.3 HEIGHT=1 PACE=5\n"
SETTINGS = RunSettings(platform="Reference", frames_every=5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a molecule that was drawn by hand: all bonds are a third too long."""
    molecule = alanine_dipeptide()
    folder = tmp_path_factory.mktemp("run") / "run"
    run_biased(replace(molecule, positions=1.33 * molecule.positions), INPUT, 10, folder, SETTINGS)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_run_that_has_ended_is_said_to_have_no_steps_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in.dat").write_text(INPUT)
    words = ["run", str(STRUCTURE), "--forcefield", "amber96.xml", "--platform", "Reference",
             "--plumed", str(tmp_path / "in.dat"), "--no-report", "--frames-every", "5",
             "--out", str(tmp_path / "run")]  # fmt: skip
    assert CliRunner().invoke(main, [*words, "--steps", "10"]).exit_code == 0
    kept = contents(tmp_path / "run" / "frames")
    assert not caplog.messages
    told = CliRunner().invoke(main, [*words, "--resume"])
    assert told.exit_code == 0
    assert [m for m in caplog.messages if "it has no steps left" in m]
    assert "all 10 steps under" in told.output
    assert contents(tmp_path / "run" / "frames") == kept


def lighter() -> Molecule:
    molecule = alanine_dipeptide()
    molecule.system.setParticleMass(0, 2.0)
    return molecule


@pytest.mark.parametrize(
    ("molecule", "settings", "message"),
    [
        (alanine_dipeptide(), replace(SETTINGS, temperature=310.0), "begun with --temperature 300"),
        (alanine_dipeptide(), replace(SETTINGS, timestep=0.001), "begun with --timestep 0.002"),
        (alanine_dipeptide(), replace(SETTINGS, frames_every=2), "begun with --frames-every 5"),
        (alanine_dipeptide(), replace(SETTINGS, model=Path("m.npz")), "begun without --model"),
        (lighter(), SETTINGS, "begun with another System: .* --system "),
    ],
    ids=["temperature", "time step", "frames", "model", "System"],
)
def test_another_way_is_refused_and_changes_nothing(
    molecule: Molecule, settings: RunSettings, message: str, run: Path, caplog
) -> None:
    before = contents(run)
    with pytest.raises(ValueError, match=message):
        run_biased(molecule, INPUT, 10, run, settings, restart=True)
    gc.collect()
    assert contents(run) == before
    assert not caplog.messages  # nor that the bias of this attempt was never attached


def test_the_start_that_is_kept_is_minimised(run: Path) -> None:
    """Screens hold what is proposed against its bonds."""
    kept, right = read_molecule(run), alanine_dipeptide()
    bonds = np.array([(a.index, b.index) for a, b in right.topology.bonds()])
    lengths = [np.linalg.norm(x[bonds[:, 0]] - x[bonds[:, 1]], axis=1)
               for x in (kept.positions, right.positions)]  # fmt: skip
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=0.1)
    assert isinstance(kept.system, openmm.System)


def test_what_frames_of_the_solute_alone_are_not_for_is_told_before_the_run() -> None:
    topology, system, box = app.Topology(), openmm.System(), openmm.NonbondedForce()
    for name, symbols in (("LIG", "CO"), ("HOH", "OHH")):
        residue = topology.addResidue(name, topology.addChain())
        for symbol in symbols:
            topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
            system.addParticle(1.0)
    wet = Molecule(topology, system, np.zeros((5, 3)))
    assert told_of_part(wet, SETTINGS) == ""  # no box: all are kept
    box.setNonbondedMethod(box.CutoffPeriodic)
    system.addForce(box)
    assert told_of_part(wet, SETTINGS).startswith("frames keep the solute, 2 of 5 atoms: ")
    assert told_of_part(wet, replace(SETTINGS, atoms="all")) == ""


def test_another_input_is_refused_with_where_the_run_s_own_is(run: Path) -> None:
    with pytest.raises(ValueError, match=r"begun with another input: .* --plumed .*plumed\.dat"):
        run_biased(alanine_dipeptide(), INPUT + "PRINT ARG=phi\n", 10, run, SETTINGS, restart=True)


def test_what_plumed_itself_runs_is_said_to_be_saved_at_the_end_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed, it is to begin anew: nobody said so before."""
    text = "phi: TORSION ATOMS=5,7,9,15\nx: EXTENDED_LAGRANGIAN ARG=phi KAPPA=100 TAU=0.1 TEMP=300"
    (tmp_path / "plumed.dat").write_text(text)
    folder, settings = tmp_path / "run", RunSettings(platform="Reference", frames_every=10)
    run_biased(alanine_dipeptide(), tmp_path / "plumed.dat", 20, folder, settings, False)
    assert "a run that is killed otherwise is to begin anew" in caplog.text
    (folder / "state.xml").unlink()
    with pytest.raises(FileNotFoundError, match="nothing to restart from; a run by PLUMED itself"):
        run_biased(alanine_dipeptide(), tmp_path / "plumed.dat", None, folder, settings, True)
