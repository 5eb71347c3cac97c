"""Where windows of a run start: the box of a frame, which of the configurations of a model."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from openmm_cgan.cli.window_runs import Starts, drawn_by_weight, windows_from
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.windows import WindowSettings
from openmm_cgan.windows.placement import Placement

PLACEMENT = Placement(("d",), np.array([[0.3], [0.4]]), np.array([1000.0]))


@pytest.mark.parametrize("periodic", [True, False])
def test_a_window_begins_in_the_box_of_its_frame(periodic: bool, tmp_path: Path) -> None:
    boxes = np.eye(3) * np.array([2.0, 2.1, 2.2])[:, None, None]
    frames = SimpleNamespace(positions=np.zeros((3, 2, 3)), box=boxes if periodic else None)
    begun = Starts.of_frames(frames, np.array([2, 0]))
    begun.seeded[1] = True
    bias = PlumedBias("d: DISTANCE ATOMS=1,2\nPRINT ARG=d\n")
    made = windows_from(begun, bias, PLACEMENT, WindowSettings(300.0, 100, 10), tmp_path)
    assert [window.origin for window in made] == ["frame", "seeded"]
    if periodic:
        assert [window.box[0, 0] for window in made] == [2.2, 2.0]
    else:
        assert [window.box for window in made] == [None, None]


def test_of_what_a_model_makes_one_is_drawn_by_weight() -> None:
    """Refused ones never, whatever they weigh; none where all are."""
    n, weights = 4000, np.array([1.0, 3.0, 6.0])
    logs = np.concatenate([[-np.inf], np.log(weights) - 700.0])
    drawn = drawn_by_weight(np.tile(logs, (n, 1)), np.random.default_rng(1)) - 4 * np.arange(n)
    share = weights / weights.sum()
    found = np.bincount(drawn, minlength=4) / n
    assert found[0] == 0
    assert (np.abs(found[1:] - share) < 4 * np.sqrt(share * (1 - share) / n)).all()
    none = drawn_by_weight(np.array([[-np.inf, -np.inf], [-np.inf, 0.0]]), np.random.default_rng(1))
    assert none.tolist() == [-1, 3]
