"""The bias that is added to an input without one."""

from pathlib import Path

import numpy as np
import pytest

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.explore.added_bias import has_bias, widths_of, with_metadynamics
from openmm_cgan.plumed.bias import PlumedBias

PHI = CollectiveVariable("phi", "rad", (-np.pi, np.pi))
D = CollectiveVariable("d", "nm")
TEXT = "phi: TORSION ATOMS=5,7,9,15\nd: DISTANCE ATOMS=5,15\nPRINT ARG=phi,d\n"


def test_a_bias_is_found_in_an_included_file_too(tmp_path: Path) -> None:
    (tmp_path / "bias.dat").write_text("RESTRAINT ARG=phi AT=0 KAPPA=1\n")
    (tmp_path / "plumed.dat").write_text("phi: TORSION ATOMS=1,2,3,4\nINCLUDE FILE=bias.dat\n")
    assert has_bias(tmp_path / "plumed.dat")
    assert not has_bias(TEXT)


def test_widths_are_those_within_a_basin() -> None:
    """A torsion that jumps between wells across pi, and a distance."""
    rng = np.random.default_rng(1)
    wells = np.repeat([3.1, -0.5], 2000)
    phi = np.mod(wells + rng.normal(0, 0.2, 4000) + np.pi, 2 * np.pi) - np.pi
    cvs = np.stack([phi, rng.normal(0.4, 0.03, 4000)], axis=1)
    error = 4 / np.sqrt(2 * 400)
    assert widths_of(cvs, [PHI, D]) == pytest.approx([0.2, 0.03], rel=error)
    free = rng.uniform(-np.pi, np.pi, (4000, 1))
    assert widths_of(free, [PHI]) == pytest.approx([2 * np.pi / 12])
    with pytest.raises(ValueError, match="does not move"):
        widths_of(np.zeros((100, 1)), [D])
    with pytest.raises(ValueError, match="20 are needed"):
        widths_of(np.zeros((19, 1)), [D])


def test_the_input_runs_and_its_hills_are_as_high_as_said() -> None:
    text, action = with_metadynamics(TEXT, [PHI, D], np.array([0.3, 0.02]), 300.0, 50.0)
    assert text.endswith(action + "\n")
    assert "GRID" not in action  # the distance has no bounds
    assert [v.name for v in PlumedBias(text, temperature=300.0).variables] == ["phi", "d"]
    periodic, action = with_metadynamics(TEXT, [PHI], np.array([0.3]), 300.0, 50.0)
    assert "GRID_MIN=-pi GRID_MAX=pi GRID_BIN=105" in action
    assert PlumedBias(periodic, temperature=300.0).backend == "native"
    _, other = with_metadynamics(
        "UNITS ENERGY=kcal/mol\n" + TEXT, [PHI], np.array([0.3]), 300.0, 50.0
    )
    kT = GAS_CONSTANT * 300.0
    heights = [float(a.split("HEIGHT=")[1].split()[0]) for a in (action, other)]
    assert heights == pytest.approx([1.2 * kT, 1.2 * kT / 4.184], rel=1e-3)
