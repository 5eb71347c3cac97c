"""Groups of atoms in GROMACS index files."""

from __future__ import annotations

from pathlib import Path

MAX_INDEX_BYTES = 512 * 1024**2


def read_index_group(path: Path, group: str = "") -> list[int]:
    """Zero-based atoms of a group of an index file; of the first if none is named.

    A group that stands several times is the sum of these.

    Raises
    ------
    ValueError
        If there is no such file or group, or a line is no list of atom numbers.
    """
    if not path.is_file():
        raise ValueError(f"no index file {path}")
    if path.stat().st_size > MAX_INDEX_BYTES:
        raise ValueError(f"{path} has more than {MAX_INDEX_BYTES} bytes")
    names: list[str] = []
    atoms: list[int] = []
    for number, line in enumerate(_lines(path), start=1):
        words = line.split()
        if len(words) >= 3 and words[0] == "[" and words[2] == "]":
            names.append(words[1])
        elif words and names and (names[-1] == group if group else len(names) == 1):
            if not all(_is_serial(word) for word in words):
                raise ValueError(f"{path}:{number}: expected atom numbers, or '[ name ]'")
            atoms += [int(word) - 1 for word in words]
    if not names or (group and group not in names):
        raise ValueError(
            f"{path} has no group '{group}'; it has: {', '.join(dict.fromkeys(names)) or 'none'}"
        )
    return atoms


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file in UTF-8") from None


def _is_serial(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 12 and int(word) > 0
