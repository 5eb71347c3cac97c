"""The names of files in the folder of a run, as `openmm-cgan run` leaves them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

RECORD = "run.json"  # the settings
FRAMES, INPUT = "frames", "plumed.dat"
TOPOLOGY, SYSTEM = "topology.pdb", "system.xml"  # the start; the System without the bias
BONDS = "topology.json"  # reading the PDB file may give other bonds
PROPOSALS = "proposals.csv"
COMMANDS = "commands.txt"  # what was typed, one command a line


def record_command(folder: Path, words: Sequence[str]) -> None:
    """Add a command, as it was typed, to those that made a folder."""
    with (folder / COMMANDS).open("a", encoding="utf-8") as file:
        file.write(shlex.join(words).replace("\n", " ") + "\n")


def recorded_commands(folder: Path) -> list[str]:
    """The commands that made a folder; none where nobody wrote them down."""
    path = folder / COMMANDS
    if not path.is_file():
        return []
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def require_each_once(paths: Iterable[str | Path]) -> None:
    """Refuse a file or folder that is named twice, whatever it is called.

    Raises
    ------
    ValueError
        Naming the first of them: what is in it would count twice, and errors come out too small.
    """
    counts = Counter(Path(path).resolve() for path in paths)
    if twice := sorted(path for path, count in counts.items() if count > 1):
        raise ValueError(
            f"{twice[0]} is given {counts[twice[0]]} times, by its own name, another one or that "
            "of its folder: what is in it would count as often; give each once"
        )
