"""What is not known is said in words in tables and lines."""

import numpy as np

from openmm_cgan.cli.demo_analysis import DemoResult
from openmm_cgan.cli.exports import estimate_text, profile_columns
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import Estimate, FreeEnergy


def test_an_estimate_without_an_error_is_no_number() -> None:
    assert estimate_text(Estimate(4.756, 0.5)) == "4.76 +- 0.50 kJ/mol"
    for value, error in ((4.8, np.inf), (4.8, np.nan), (np.nan, np.nan)):
        text = estimate_text(Estimate(value, error))
        assert text.startswith("not known")
        assert "4.8" not in text


def test_a_profile_across_a_gap_has_its_parts_in_the_table() -> None:
    phi = CollectiveVariable("phi", "rad", (-np.pi, np.pi))
    numbers = np.arange(3.0)
    joined = FreeEnergy((phi,), (numbers,), numbers, numbers, numbers, np.zeros(3, dtype=int))
    assert "part" not in profile_columns(joined)
    parts = FreeEnergy((phi,), (numbers,), numbers, numbers, numbers, np.array([0, -1, 1]))
    assert profile_columns(parts)["part"].tolist() == [0, -1, 1]


def test_the_demos_table_says_unknown(tmp_path) -> None:
    phi = CollectiveVariable("phi", "rad", (-np.pi, np.pi))
    centres = np.linspace(-3.0, 3.0, 9)
    error = np.full(9, 0.2)
    error[4] = np.nan
    profile = FreeEnergy((phi,), (centres,), np.full(9, 5.0), error)
    names = ("delta_f", "reference", "delta_f_error", "reference_error", "seconds")
    summary = dict.fromkeys(names, 1.0)
    summary |= {"proposals": 1, "accepted": 1, "refused": {}, "md_steps": 1}
    lines = DemoResult(summary, profile, profile, tmp_path).text().splitlines()
    assert lines[3].split() == ["-128.9", "5.0", "+-", "0.2", "5.0", "+-", "0.2"]
    assert lines[4].split() == ["0.0", "unknown", "unknown"]
