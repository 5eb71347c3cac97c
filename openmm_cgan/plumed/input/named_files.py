"""The files that an input names: where they are looked for, and the text in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from openmm_cgan.plumed.input.limits import MAX_INPUT_BYTES
from openmm_cgan.plumed.input.words import split_vector, unbrace

TEXT_ITSELF = "<input>"  # the name of an input that is no file

# Keywords that name a file which is only read
READ_FILES = frozenset({"STRUCTURE", "REFERENCE", "NDX_FILE", "TEMPLATE"})
# those that do so in one action only
READ_BY = {
    "PYTORCH_MODEL": {"FILE"},
    "EXTERNAL": {"FILE"},
    "METAD": {"TARGET", "GRID_RFILE", "ACCELERATION_RFILE"},
    "PBMETAD": {"GRID_RFILES"},
    "OPES_METAD": {"STATE_RFILE"},
    "OPES_METAD_EXPLORE": {"STATE_RFILE"},
    "OPES_EXPANDED": {"STATE_RFILE"},
    "ECV_UMBRELLAS_FILE": {"FILE"},
    "INCLUDE": {"FILE"},
}
INDEX_FILE = re.compile(r"@ndx:\{*([^\s{},]+)", re.IGNORECASE)  # in a list of atoms


def places(folder: Path, source: str) -> list[Path]:
    """Folders where a file is looked for: the working folder, then beside the input.

    Of a text that is in no file: then the current folder, that of the script.

    Parameters
    ----------
    folder : Path
    source : str
        The file that names it.
    """
    beside = Path() if source == TEXT_ITSELF else Path(source).parent
    same = beside.absolute() == folder.absolute()
    return [folder] if same else [folder, beside]


def found_file(name: str, folder: Path, source: str) -> Path:
    """A file where it is found first; in the working folder where it is found nowhere."""
    paths = [place / name for place in places(folder, source)]
    return next((path for path in paths if path.is_file()), paths[0])


def names_of_read(action: str, words: Sequence[str], restarts: bool = False) -> list[str]:
    """Names of the files that a statement reads, as it has them.

    Parameters
    ----------
    action : str
    words : sequence of str
    restarts : bool
        Hills and the like are read, which are written otherwise.
    """
    read = READ_FILES | READ_BY.get(action, set()) | ({"FILE"} if restarts else set())
    names: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        names += _names(action, value) if equals and key.upper() in read else []
        names += INDEX_FILE.findall(word)
    return names


def _names(action: str, value: str) -> list[str]:
    """The names in a value: one, but for a PBMETAD."""
    return split_vector(value) if action == "PBMETAD" else unbrace(value).split(",")


def with_files_found(
    action: str, words: Sequence[str], folder: Path, source: str
) -> tuple[str, ...]:
    """The words of a statement, those naming a file that lies beside the input by its full name."""

    def full(name: str) -> str:
        path = found_file(name, folder, source)
        return name if path == folder / name else str(path.absolute())

    return _renamed(action, words, full)


def with_full_names(
    action: str, words: Sequence[str], folder: Path, source: str, home: Path | None = None
) -> tuple[str, ...]:
    """The words of a statement that is to stand elsewhere: files that are there by full names.

    Parameters
    ----------
    action : str
    words : sequence of str
    folder : Path
        The working folder of the input.
    source : str
        The file that it stands in.
    home : Path, optional
        Where it is to stand; files that lie there keep their names.
    """

    def full(name: str) -> str:
        path = found_file(name, folder, source).absolute()
        at_home = home is not None and path == home.absolute() / name
        return str(path) if path.is_file() and not at_home else name

    return _renamed(action, words, full)


def _renamed(action: str, words: Sequence[str], full: Callable[[str], str]) -> tuple[str, ...]:
    """The words of a statement, the files that they read by other names."""
    renamed = []
    read = READ_FILES | READ_BY.get(action, set())

    def full_index(match: re.Match[str]) -> str:
        return match[0].removesuffix(match[1]) + full(match[1])

    for word in words:
        key, equals, value = word.partition("=")
        if equals and key.upper() in read:
            names = _names(action, value)
            if [full(name) for name in names] != names:
                word = f"{key}={','.join(map(full, names))}"
        renamed.append(INDEX_FILE.sub(full_index, word))
    return tuple(renamed)


def text_of(path: Path) -> str:
    r"""The text of an input file, its lines ended by ``\n``; comments may be in Latin-1.

    Raises
    ------
    ValueError
        If it is not a text file of reasonable size.
    """
    if path.stat().st_size > MAX_INPUT_BYTES:
        raise ValueError(f"{path} has more than {MAX_INPUT_BYTES} bytes: not a PLUMED input")
    data = path.read_bytes()  # bytes, for a text file would give a line to each carriage return
    try:
        text = data.decode("utf-8-sig")  # some editors begin a file with a mark
    except UnicodeDecodeError:
        text = data.decode("latin-1")
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.partition("#")[0].isascii():
                raise ValueError(f"{path}:{number} is not text in UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{path} is not a text file")
    return text.replace("\r\n", "\n")
