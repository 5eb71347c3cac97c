"""What one task of a job array does: run its window.

    python -m openmm_cgan.windows.array_task LIST INDEX

LIST is the file that `slurm_array.write_job` wrote. The exit code is 0 where the window has
finished, 1 where it failed, 75 where another process has it, 128 and more after a signal.
"""

from __future__ import annotations

import sys
from pathlib import Path

from openmm_cgan.json_files import read_json
from openmm_cgan.signals import StoppedBySignalError
from openmm_cgan.windows.slurm_array import listed
from openmm_cgan.windows.worker import WindowTakenError, run_window

TAKEN = 75  # EX_TEMPFAIL of sysexits.h


def main(path: str, index: str) -> int:
    """Run a window of a list.

    Parameters
    ----------
    path : str
        The list.
    index : str
        Number of the window in it, from 0.

    Returns
    -------
    int
        Exit code.
    """
    name, _ = listed(Path(path))[int(index)]
    platform, threads = read_json(Path(path))["machine"]
    folder = Path(path).parent.parent / name
    try:
        record = run_window(str(folder), platform, threads)
    except StoppedBySignalError as stopped:
        print(stopped.told(folder, "the task"))
        return 128 + stopped.number
    except WindowTakenError as error:
        print(error)
        return TAKEN
    print(f"{folder}: {record['status']} at step {record['step']} {record['error']}")
    return 0 if record["status"] == "finished" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
