"""An input that is to be read from another folder than the one it was written for."""

from __future__ import annotations

import re
from pathlib import Path

from openmm_cgan.plumed.input.language import read_statements
from openmm_cgan.plumed.input.named_files import with_full_names


def text_elsewhere(text: str, source: str, folder: Path, home: Path | None = None) -> str:
    """The text of an input with the files that it reads by their full names.

    Parameters
    ----------
    text : str
    source : str
        The file that it is from: what is named is looked for beside it as well.
    folder : Path
        Its working folder.
    home : Path, optional
        Where it is to stand; files that lie there keep their names.

    Returns
    -------
    str
        With its comments and lines; a name of no file stays as it is.
    """
    for statement in read_statements(text, source):
        words = statement.words
        moved = with_full_names(statement.action, words, folder, source, home)
        for word, other in zip(words, moved, strict=True):
            if word != other:
                text = _replaced(word, other, text)
    return text


def _replaced(word: str, other: str, text: str) -> str:
    """A text with another word in place of one that stands between blanks."""
    return re.sub(rf"(?<!\S){re.escape(word)}(?!\S)", other.replace("\\", r"\\"), text)
