"""Why an estimate is no number, said in the words of its route."""

import numpy as np
import pytest

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.explore.claims import claim_by_weights, claim_by_windows
from openmm_cgan.free_energy import BiasedFrames, GeneratedFrames
from openmm_cgan.free_energy.differences import StateDifference

X = CollectiveVariable("x", "nm")
DIFFERENCE = StateDifference.of("x:-9..0|0..9")


def test_configurations_of_which_one_is_in_a_state_have_no_error_and_no_windows() -> None:
    x = np.abs(np.random.default_rng(1).normal(0, 1, (400, 1)))
    x[7] = -1.0
    made = GeneratedFrames(x, np.zeros(400), 300.0, (X,))
    claim, _ = claim_by_weights(made, DIFFERENCE)
    assert np.isnan(claim.error)
    assert claim.unknown.startswith("so few configurations are in one of the states")


@pytest.mark.filterwarnings("ignore")
def test_windows_with_a_gap_do_not_all_overlap() -> None:
    rng, windows = np.random.default_rng(1), []
    for centre in (-3.0, -3.0, 3.0, 3.0):

        def bias(cvs: np.ndarray, centre: float = centre) -> np.ndarray:
            return 1000.0 * (cvs[:, 0] - centre) ** 2

        x = centre + 0.03 * rng.normal(size=(200, 1))
        windows.append(BiasedFrames(x, bias, 300.0, (X,), f"at {centre}"))
    claim, _ = claim_by_windows(windows, [(0, 1), (2, 3)], DIFFERENCE)
    assert np.isinf(claim.error)
    assert claim.unknown == "the windows do not all overlap"
