"""The plumed command of the installed PLUMED."""

import shutil
import sys
from pathlib import Path


def plumed_command() -> str:
    """The command that came with the installed PLUMED."""
    beside = Path(sys.executable).with_name("plumed")
    command = str(beside) if beside.exists() else shutil.which("plumed")
    assert command, "real PLUMED is not installed: see the README"
    return command
