"""Windows of a run under a barostat start in the box that the frame had."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from openmm_cgan.cli.window_starts import Starts, windows_from
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
