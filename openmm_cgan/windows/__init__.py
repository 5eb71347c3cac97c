"""Umbrella windows on any executor.

`platforms` picks the fastest, `run_files` are the files of a window and those that a run shares,
`dragging` makes starts the old way, `worker` runs one window, `jobs` has workers
do it that may die, `windows` makes and runs them all, `results` reads back what they have sampled.
"""

from openmm_cgan.windows.dragging import DragSettings, drag
from openmm_cgan.windows.results import read_window_frames, read_windows
from openmm_cgan.windows.windows import (
    Window,
    WindowResult,
    WindowSettings,
    run_windows,
    umbrella_windows,
)
from openmm_cgan.windows.worker import run_window

__all__ = [
    "DragSettings",
    "Window",
    "WindowResult",
    "WindowSettings",
    "drag",
    "read_window_frames",
    "read_windows",
    "run_window",
    "run_windows",
    "umbrella_windows",
]
