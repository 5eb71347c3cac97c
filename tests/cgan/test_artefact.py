"""The file of a trained generator: its name, what it says of itself, files of earlier versions."""

import json
from pathlib import Path

import numpy as np
import pytest

from openmm_cgan.cgan import ConditionalGenerator
from openmm_cgan.cgan.artefact import artefact_path
from openmm_cgan.features import ZMatrixFeatures
from openmm_cgan.testsystems import Chain, torsion

# A perceptron for a chain of four atoms (phi, and the distance d of its ends), saved as "model.pt"
# by the last commit that wrote version 2.
VERSION_2 = Path(__file__).parent / "data" / "model_version_2.pt"


@pytest.fixture
def old() -> ConditionalGenerator:
    return ConditionalGenerator.load(VERSION_2, Chain().topology())


def test_a_file_of_version_2_is_read_as_the_z_matrix(old: ConditionalGenerator) -> None:
    with np.load(VERSION_2, allow_pickle=False) as file:
        held = dict(file)
    assert json.loads(held["metadata"].tobytes())["format_version"] == 2
    assert isinstance(old.features, ZMatrixFeatures)
    np.testing.assert_array_equal(old.features.z_matrix.rows, held["rows"])
    np.testing.assert_array_equal(old.atoms, held["atoms"])
    for name in ("centre", "scale", "linear", "wide"):
        np.testing.assert_array_equal(old.features.arrays()[name], held[f"features.{name}"])
    for name in ("centre", "scale"):
        np.testing.assert_array_equal(old.conditions.arrays()[name], held[f"features.cv_{name}"])
    for name, tensor in old.generator.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), held[f"generator.{name}"])
    np.testing.assert_array_equal(old.cv_range, held["cv_range"])
    assert [variable.name for variable in old.variables] == ["phi", "d"]
    made = old.sample([1.0, 0.3], 20)
    assert all(torsion(x, (0, 1, 2, 3)) == pytest.approx(1.0, abs=1e-10) for x in made)


def test_it_is_written_again_as_version_3_and_is_the_same(
    old: ConditionalGenerator, tmp_path: Path
) -> None:
    written = old.save(tmp_path / "model")
    assert written == tmp_path / "model.npz"
    assert list(tmp_path.iterdir()) == [written]
    with np.load(written, allow_pickle=False) as file:
        metadata = json.loads(file["metadata"].tobytes())
    assert metadata["format_version"] == 4
    assert metadata["featurization"] == "ZMatrixFeatures"
    again = ConditionalGenerator.load(written)
    np.testing.assert_array_equal(again.sample([1.0, 0.3], 9), old.sample([1.0, 0.3], 9))


@pytest.mark.parametrize(
    ("named", "written"),
    [("model", "model.npz"), ("model.npz", "model.npz"), ("model.pt", "model.pt")],
)
def test_a_name_without_an_ending_gets_one(named: str, written: str) -> None:
    assert artefact_path(Path("runs.d") / named) == Path("runs.d") / written


def test_it_is_found_by_the_name_it_was_given(old: ConditionalGenerator, tmp_path: Path) -> None:
    old.save(tmp_path / "model")
    again = ConditionalGenerator.load(tmp_path / "model")
    assert again.temperature == old.temperature
    # an old file without an ending is itself
    (tmp_path / "bare").write_bytes(VERSION_2.read_bytes())
    assert ConditionalGenerator.load(tmp_path / "bare").cv_range.shape == (2, 2)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        ConditionalGenerator.load(tmp_path / "nowhere")
