"""A run on disk: OpenMM's checkpoint, and what each object beside it has gathered.

Such an object is a `Keeper`: a bias, a reporter. `save_run` asks each for its `SavedState`, and
`restore_run` gives it back, so that the run goes on as if it had never stopped.

saved_states  what a keeper has gathered: arrays, and how long its files are
run_file      a saved run as one file
portable      the State as XML, where OpenMM can not read its own checkpoint
running       save_run and restore_run
"""

from openmm_cgan.checkpoints.run_file import BIAS, SavedRun, read_run, write_run
from openmm_cgan.checkpoints.running import (
    AnotherRunError,
    Keeper,
    restore_run,
    save_run,
    to_go_back_to,
)
from openmm_cgan.checkpoints.saved_states import (
    SavedState,
    cut_to,
    require_files,
    saved_array,
    saved_text,
    text_array,
)

__all__ = [
    "BIAS",
    "AnotherRunError",
    "Keeper",
    "SavedRun",
    "SavedState",
    "cut_to",
    "read_run",
    "require_files",
    "restore_run",
    "save_run",
    "saved_array",
    "saved_text",
    "text_array",
    "to_go_back_to",
    "write_run",
]
