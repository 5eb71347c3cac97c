"""GROMACS index files: lists of atoms by name."""

from __future__ import annotations

from pathlib import Path

from openmm_cgan.atomic_files import require_readable
from openmm_cgan.plumed.input.language import lines_of

MAX_BYTES = 256 * 1024**2


def read_index_file(path: Path, group: str = "") -> list[int]:
    """Atoms of one group of an index file.

    Parameters
    ----------
    path : Path
    group : str
        The first one if empty.

    Returns
    -------
    list of int
        Zero-based, in the order of the file.

    Raises
    ------
    ValueError
        If there is no such file or group, or it holds something else than atom numbers.
    """
    try:
        require_readable(path, MAX_BYTES)
        lines = lines_of(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the index file {path} can not be read: {error}") from None
    groups: dict[str, list[str]] = {}
    words: list[str] = []
    for line in lines:
        told = line.split(";")[0].strip()  # what follows is a comment
        if told.startswith("["):
            words = groups.setdefault(told.strip("[]").strip(), [])
        else:
            words += told.split()
    name = group or next(iter(groups), "")
    if name not in groups:
        raise ValueError(f"{path} has no group '{name}'; it has: {', '.join(groups) or 'none'}")
    if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in groups[name]):
        raise ValueError(f"the group '{name}' of {path} holds something else than atom numbers")
    return [int(word) - 1 for word in groups[name]]
