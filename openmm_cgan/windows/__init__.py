"""Umbrella windows on any executor.

`platforms` picks the fastest, `run_files` are the files of a window and those that a run shares,
`dragging` makes starts the old way, `worker` runs one window, `jobs` has workers do it that may
die: `local_workers`, `parsl_workers` and `slurm_array`, which `executors` makes as a `cluster`
says. `windows` makes windows, `runs` runs them all, `results` reads back what they have sampled.
"""

from openmm_cgan.windows.cluster import Cluster
from openmm_cgan.windows.dragging import DragSettings, drag
from openmm_cgan.windows.executors import executor_of
from openmm_cgan.windows.local_workers import LocalWorkers
from openmm_cgan.windows.results import read_window_frames, read_windows
from openmm_cgan.windows.runs import WindowResult, run_prepared, run_windows
from openmm_cgan.windows.windows import Window, WindowSettings, umbrella_windows
from openmm_cgan.windows.worker import run_window

__all__ = [
    "Cluster",
    "DragSettings",
    "LocalWorkers",
    "Window",
    "WindowResult",
    "WindowSettings",
    "drag",
    "executor_of",
    "read_window_frames",
    "read_windows",
    "run_prepared",
    "run_window",
    "run_windows",
    "umbrella_windows",
]
