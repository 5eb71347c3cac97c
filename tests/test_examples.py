"""The example runs as it stands, only shorter."""

import csv
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.frames import read_frames
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.reporters import ProposalSettings
from tests.cases import ROOT

SHORT = TrainingSettings(steps=5)


def rows_of(table: str) -> int:
    with open(table, newline="") as file:
        return len(list(csv.DictReader(file)))


@pytest.fixture(autouse=True)
def in_a_folder_with_the_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plumed_inputs").symlink_to(ROOT / "plumed_inputs")


def test_the_example_runs() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "alanine_dipeptide.py"))
    example["main"](steps=2000, training=SHORT)
    assert len(read_frames("frames", settling=True)) == 40
    assert Path("model.npz").exists()
    assert rows_of("proposals.csv") == 2


def test_the_example_in_water_runs() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "explicit_solvent.py"))
    example["main"](steps=100, training=SHORT, box=1.8, every=50)
    frames = read_frames("frames", settling=True)
    assert frames.positions.shape == (40, 22, 3)
    assert rows_of("proposals.csv") == 2


def test_the_loop_of_a_protein_runs() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "protein_loop.py"))
    few = ProposalSettings(batch=4, heal_steps=5, minimise_iterations=5, max_energy=1e6)
    gan = example["main"](steps=40, training=SHORT, every=20, settings=few, solvent=())
    assert len(gan.atoms) == 168
    assert rows_of("proposals.csv") == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # OpenMM's readers
@pytest.mark.parametrize(
    ("name", "n_atoms", "rows"), [("amber", 22, 4), ("charmm", 14, 2), ("gromacs", 14, 2)]
)
def test_scripts_for_the_files_of_others_run(name: str, n_atoms: int, rows: int) -> None:
    pytest.importorskip("openmmtools", exc_type=ImportError)
    example = runpy.run_path(str(ROOT / "examples" / f"from_{name}.py"))
    training = replace(example.get("LEARNED", SHORT), steps=5, batch=16)
    example["main"](steps=100, training=training, every=5)
    frames = read_frames("frames", settling=True)
    assert frames.positions.shape == (40, n_atoms, 3)
    assert Path("model.npz").exists()
    assert rows_of("proposals.csv") == rows


def test_the_half_moon_closes() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "closures_half_moon.py"))
    times = example["main"](steps=20, n_bursts=300)
    assert set(times) == {"exact", "from the GAN", "from frames"}
    # From frames alone, which need no training: within a factor, from a twentieth of the bursts.
    assert 0.2 < times["from frames"] / times["exact"] < 5.0
    assert Path("closures_half_moon.png").exists()


def test_alanine_dipeptide_closes() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "alanine_closure.py"))
    times = example["main"](steps=1500, every=10)
    assert times["closure"] > 0
    assert Path("alanine_closure.png").exists()


def test_coordinates_are_learned_and_biased() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "alanine_diffusion_map.py"))
    example["main"](steps=2000, n_landmarks=20)
    assert Path("diffusion_map.png").exists()
    columns = read_fields(Path("learned") / "COLVAR").columns
    assert np.all(np.isfinite(columns["cv.node-1"]))
    assert len(columns["cv.node-2"]) == 21


@pytest.mark.filterwarnings("ignore")  # of what mlcolvar imports
def test_a_model_of_mlcolvar_is_biased() -> None:
    pytest.importorskip("mlcolvar", exc_type=ImportError)
    example = runpy.run_path(str(ROOT / "examples" / "mlcolvar_variable.py"))
    example["main"](steps=1000)
    assert len(read_fields("COLVAR").columns["cv.node-0"]) == 5
