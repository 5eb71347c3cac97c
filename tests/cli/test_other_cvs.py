"""CVs that frames did not record, from their positions: as MDAnalysis has them."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from MDAnalysis.lib.distances import calc_dihedrals

from openmm_cgan.cli.commands import main
from openmm_cgan.cli.other_cvs import run_with, samples_with
from openmm_cgan.cli.run_records import RunSettings
from openmm_cgan.cli.simulations import run_biased
from openmm_cgan.frames import read_frames
from openmm_cgan.free_energy import reweight_windows
from openmm_cgan.free_energy.biased_runs import BiasedRun
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.windows import (
    WindowSettings,
    read_window_frames,
    read_windows,
    run_windows,
    umbrella_windows,
)

TORSIONS = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
PSI = (6, 8, 14, 16)
OTHER = "t: TORSION ATOMS=2,5,7,9\n"
CENTRE = "c: COM ATOMS=1-6\nd: DISTANCE ATOMS=c,19\n"
HEAVY = 4.0  # dalton, of hydrogens


def psi_of(positions: np.ndarray) -> np.ndarray:
    """The torsion by MDAnalysis [rad]."""
    return calc_dihedrals(*(positions[:, k].astype(np.float32) for k in PSI))


def a_run(folder: Path, atoms: str | None = None) -> BiasedRun:
    text = TORSIONS + CENTRE + "METAD ARG=phi SIGMA=0.3 HEIGHT=1 PACE=20 FILE=HILLS\n"
    settings = RunSettings(platform="Reference", frames_every=10, atoms=atoms)
    molecule = alanine_dipeptide("C7eq")
    for atom in (a.index for a in molecule.topology.atoms() if a.element.symbol == "H"):
        molecule.system.setParticleMass(atom, HEAVY)
    run_biased(molecule, text, 400, folder, settings)
    return BiasedRun.of(read_frames(folder / "frames"), folder / "plumed.dat", folder)


def test_a_run_is_asked_for_a_cv_that_it_defines_and_did_not_bias(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    assert [v.name for v in run.frames.variables] == ["phi"]
    wider = run_with(run, ["psi", "phi"])
    assert [v.name for v in wider.frames.variables] == ["phi", "psi"]
    assert wider.frames.variables[1].period == pytest.approx(2 * np.pi)
    np.testing.assert_allclose(wider.frames.cvs[:, 1], psi_of(run.frames.positions), atol=1e-4)
    np.testing.assert_array_equal(wider.frames.cvs[:, 0], run.frames.cvs[:, 0])
    assert run_with(run, ["phi"]) is run
    centred = run_with(run, ["d"]).frames.cvs[:, 1]  # by the masses of the run, not of elements
    x, masses = run.frames.positions.astype(float), np.array([HEAVY, 12.011, *2 * [HEAVY]])
    masses = np.append(masses, [12.011, 15.999])  # H C H H, C O
    centre = np.einsum("fad,a->fd", x[:, :6], masses) / masses.sum()
    np.testing.assert_allclose(centred, np.linalg.norm(x[:, 18] - centre, axis=1), atol=1e-5)


def test_another_input_may_define_it(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    (tmp_path / "other.dat").write_text(OTHER)
    wider = run_with(run, ["t"], tmp_path / "other.dat")
    assert np.abs(wider.frames.cvs[:, 1]).min() > 2.0, "an amide, trans"
    out = tmp_path / "t.csv"
    asked = ["free-energy", str(run.folder), "--cv", "t", "--skip", "0", "--out", str(out)]
    told = CliRunner().invoke(main, asked)
    assert told.exit_code == 1
    assert "t" in told.output
    assert not out.exists()
    told = CliRunner().invoke(main, [*asked, "--plumed", str(tmp_path / "other.dat")])
    assert "40 frames" in told.output, told.output


def test_atoms_that_frames_do_not_hold_are_said(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", "index 0:14")
    with pytest.raises(ValueError, match=r"psi depends on atoms .* \(15 of 22\); run with --atoms"):
        run_with(run, ["psi"])


def test_windows_along_one_cv_are_asked_for_another(tmp_path: Path) -> None:
    molecule = alanine_dipeptide("C7eq")
    template = TORSIONS + "RESTRAINT ARG=phi AT=${phi} KAPPA=50\n"
    settings = WindowSettings(300.0, 600, 100, 10, seed=5)
    starts = np.repeat(molecule.positions[None], 2, axis=0)
    centres = np.array([[-1.5], [-1.3]])
    made = umbrella_windows(template, centres, starts, settings, tmp_path / "w", "given")
    run_windows(made, molecule.system, molecule.topology, platform="Reference")
    folders = [window.folder for window in made]
    samples = reweight_windows(read_windows(folders), n_bootstrap=2)
    wider = samples_with(samples, folders, ["psi"])
    expected = np.array([
        psi_of(read_window_frames(folders)[w].positions[f][None])[0]
        for w, f in zip(samples.window, samples.frame, strict=True)
    ])  # fmt: skip
    np.testing.assert_allclose(wider.cvs[:, wider.column("psi")], expected, atol=1e-4)
    np.testing.assert_array_equal(wider.log_weights, samples.log_weights)
