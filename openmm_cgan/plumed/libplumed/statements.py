"""What the statements of an input say where nobody compiles them: which bias, which write."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from openmm_cgan.plumed.actions import read_known
from openmm_cgan.plumed.actions.setup import Units
from openmm_cgan.plumed.files.contents import has_text
from openmm_cgan.plumed.files.fields import read_tables
from openmm_cgan.plumed.input.language import PlumedInputError, Problem, Statement
from openmm_cgan.plumed.input.named_files import with_full_names
from openmm_cgan.plumed.input.words import keywords_of, split_vector, unbrace
from openmm_cgan.quantities import numbers_of

# Actions of PLUMED that only bias or write: left out when only the variables are wanted
# fmt: off
BIASES = {
    "RESTRAINT", "MOVINGRESTRAINT", "UPPER_WALLS", "LOWER_WALLS", "METAD", "PBMETAD",
    "OPES_METAD", "OPES_METAD_EXPLORE", "OPES_EXPANDED", "BIASVALUE", "EXTERNAL", "ABMD",
    "EXTENDED_LAGRANGIAN", "MAXENT",
}
OUTPUTS = {
    "PRINT", "FLUSH", "COMMITTOR", "DUMPATOMS", "DUMPDERIVATIVES", "DUMPFORCES", "DUMPGRID",
    "DUMPMASSCHARGE", "HISTOGRAM", "STATS",
}
# fmt: on

# Files that are written without being named
USUAL_FILES = {
    "METAD": "HILLS",
    "OPES_METAD": "KERNELS",
    "OPES_METAD_EXPLORE": "KERNELS",
    "OPES_EXPANDED": "DELTAFS",
}

# Keywords that list atoms by number
ATOM_KEYWORDS = ("ATOM", "GROUP", "ENTITY", "CENTER", "VECTOR", "AXIS", "START", "END", "SPECIES")


def only_variables(statements: Sequence[Statement]) -> list[Statement]:
    """The statements that neither bias nor write."""
    return [s for s in statements if s.action not in BIASES | OUTPUTS]


def has_biases(statements: Sequence[Statement]) -> bool:
    """Whether any of them biases."""
    return any(statement.action in BIASES for statement in statements)


def arguments_of_biases(statements: Sequence[Statement]) -> tuple[str, ...]:
    """Arguments of the biases, each once, in order; of PRINT where there is no bias.

    Names with wildcards, and regular expressions, stand for no value.
    """
    for users in (BIASES, {"PRINT"}):
        names: dict[str, None] = {}
        for statement in statements:
            for word in statement.words if statement.action in users else ():
                key, _, value = word.partition("=")
                if key.upper() == "ARG":
                    names.update(dict.fromkeys(split_vector(value)))
        if plain := tuple(name for name in names if "*" not in name and "(" not in name):
            return plain
    return ()


def highest_serial(statements: Sequence[Statement]) -> int:
    """The largest number that may be the serial of an atom; 0 where there is none."""
    words = [word for statement in statements for word in statement.words]
    lists = [word for word in words if word.upper().startswith(ATOM_KEYWORDS)]
    return max((int(n) for word in lists for n in re.findall(r"\d{1,7}", word)), default=0)


def output_folders(folder: Path, statements: Sequence[Statement]) -> set[Path]:
    """Folders that the file names of an input can lie in."""
    folders = {folder}
    for statement in statements:
        for word in statement.words:
            value = unbrace(word.partition("=")[2])
            if "/" in value and len(value) < 1000:
                path = folder / value
                folders |= {place for place in (path, path.parent) if place.is_dir()}
    return folders


def written_files(statements: Sequence[Statement], folder: Path) -> set[Path]:
    """Files that an input writes by its own names or the usual ones; no device."""
    named = [
        keywords_of(s.words).get("FILE", USUAL_FILES.get(s.action, ""))
        for s in statements
        if s.action in USUAL_FILES or s.action in OUTPUTS
    ]
    paths = {(folder / name).resolve() for name in named if name and len(name) < 1000}
    return {path for path in paths if path.is_file() or not path.exists()}


def require_regular_files(statements: Sequence[Statement], folder: Path) -> None:
    """Refuse names of files that are devices, pipes or folders: PLUMED would rename them.

    Parameters
    ----------
    statements : sequence of Statement
    folder : Path
        Where the names begin.

    Raises
    ------
    PlumedInputError
        With the first; /dev/null alone PLUMED knows and leaves in place.
    """
    for statement in statements:
        named = keywords_of(statement.words)
        named = {key: value for key, value in named.items() if "FILE" in key and value}
        if (usual := USUAL_FILES.get(statement.action)) is not None:
            named.setdefault("FILE", usual)
        for key, name in named.items():
            path = folder / name
            if len(name) < 1000 and path.exists() and not path.is_file() and name != os.devnull:
                message = "is no regular file, and PLUMED would rename it; give another name"
                raise PlumedInputError([Problem(statement.location, f"{key}={name}", message)])


def require_tables(statements: Sequence[Statement], folder: Path, restart: bool) -> None:
    """Refuse hills, kernels, states and grids to begin with that hold no numbers.

    PLUMED reads them without a word, and the bias is none from then on.

    Parameters
    ----------
    statements : sequence of Statement
    folder : Path
        Where the names of files begin.
    restart : bool
        Whether the run restarts, if the input says nothing.

    Raises
    ------
    ValueError
        With file and line of a number that is none, or of a width that is not positive.
    """
    for statement in statements:
        if statement.action == "RESTART":
            restart = "NO" not in statement.words
        named = keywords_of(statement.words)
        words_in_state = statement.action == "OPES_EXPANDED"  # names of its states
        keys = ("GRID_RFILE",) if words_in_state else ("GRID_RFILE", "STATE_RFILE")
        names = [named[key] for key in keys if key in named]
        names += split_vector(named.get("GRID_RFILES", ""))
        own = named.get("RESTART", "AUTO").upper()
        if statement.action in USUAL_FILES and (own == "YES" or (restart and own != "NO")):
            left = named.get("FILE", USUAL_FILES[statement.action])
            path = folder / left
            # METAD goes on from a file that no hill was written to yet, the others do not
            if statement.action != "METAD" or (path.is_file() and has_text(path)):
                names.append(left)
        for path in (folder / name for name in names):
            if path.is_file():
                _require_numbers(path)


def _require_numbers(path: Path) -> None:
    for table in read_tables(path):
        table.require_finite(name for name in table.columns if name not in ("biasf", "clock"))
        sigmas = [f"sigma_{name}" for name in table.columns]
        table.require_positive([name for name in sigmas if name in table.columns])


def restrained_text(
    statements: Sequence[Statement],
    folder: Path,
    names: Sequence[str],
    centres: np.ndarray,
    kappa: np.ndarray | float,
) -> str:
    """An input of the same variables that only restrains them, and writes no file.

    Parameters
    ----------
    statements : sequence of Statement
    folder : Path
        Where the names of files begin.
    names : sequence of str
        The variables, n_cvs of them.
    centres : array_like, shape (n_cvs,)
        [CV units]
    kappa : float or array_like, shape (n_cvs,)
        [kJ/mol per CV unit squared], whatever the energy unit of the input is.
    """
    centres = numbers_of(centres, "centres")
    kappa = numbers_of(kappa, "kappa", "kJ/mol per CV unit squared")
    at = ",".join(repr(float(c)) for c in np.broadcast_to(centres, len(names)))
    known, _ = read_known(list(statements), folder=folder)
    energy = next((a.system.energy for a in known if isinstance(a, Units)), 1.0)
    strengths = ",".join(repr(float(k) / energy) for k in np.broadcast_to(kappa, len(names)))
    line = f"RESTRAINT ARG={','.join(names)} AT={at} KAPPA={strengths}"
    variables = [_elsewhere(s, folder) for s in only_variables(statements)]
    return "\n".join([*(s.text for s in variables), line, ""])


def _elsewhere(statement: Statement, folder: Path) -> Statement:
    """A statement that says the same in an input of any folder."""
    words = with_full_names(statement.action, statement.words, folder, statement.location.file)
    return replace(statement, words=words)


def with_centres(statements: Sequence[Statement], centres: np.ndarray) -> list[Statement]:
    """The statements with the centres of their only RESTRAINT moved.

    Parameters
    ----------
    statements : sequence of Statement
    centres : ndarray, shape (n_arguments,)
        [units of the arguments]

    Raises
    ------
    ValueError
        If there is not exactly one RESTRAINT.
    """
    found = [i for i, s in enumerate(statements) if s.action == "RESTRAINT"]
    if len(found) != 1:
        raise ValueError(f"the input has {len(found)} RESTRAINT actions; expected one to move")
    [i] = found
    at = "AT=" + ",".join(repr(float(centre)) for centre in centres)
    words = [at if w.upper().startswith("AT=") else w for w in statements[i].words]
    moved = replace(statements[i], words=tuple(words))
    return [*statements[:i], moved, *statements[i + 1 :]]
