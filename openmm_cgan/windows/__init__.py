"""Umbrella windows on any executor.

`platforms` picks the fastest, `run_files` are the files a run shares, `dragging` makes starts the
old way, `worker` runs one window, `windows` makes and runs them all.
"""

from openmm_cgan.windows.dragging import DragSettings, drag
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
    "run_window",
    "run_windows",
    "umbrella_windows",
]
