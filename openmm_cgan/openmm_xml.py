"""OpenMM's objects in XML, read as data.

A PythonForce is kept in XML as a pickle, which runs code when it is read: such files are refused,
unless the environment says that they are trusted, as for PLUMED's LOAD.
"""

from __future__ import annotations

import os
import re
from typing import TypeVar

import openmm

ALLOW = "OPENMM_CGAN_ALLOW_LOAD"
# A type written by references to characters, or by an entity, would be read as what it stands for.
# OpenMM takes `type=>"..."` for `type="..."`, so no place is told apart: it writes no references
# but to control characters (&#x0A;) and the five with names.
HIDDEN = re.compile(r"<!|&(?!#x[01][0-9A-F];|(amp|lt|gt|quot|apos);)")

Kind = TypeVar("Kind", openmm.System, openmm.State)


def from_xml(text: str, kind: type[Kind], source: object) -> Kind:
    """Read a System or a State.

    Parameters
    ----------
    text : str
        As OpenMM's XmlSerializer writes it.
    kind : type
        openmm.System or openmm.State.
    source : object
        What messages call it, a file.

    Raises
    ------
    ValueError
        If it is no such object, is damaged, or would run code.
    """
    require_no_code(text, source)
    try:
        found = openmm.XmlSerializer.deserialize(text)
    except (ValueError, openmm.OpenMMException) as error:
        raise ValueError(f"{source} is no {kind.__name__} in XML, or is damaged: {error}") from None
    if not isinstance(found, kind):
        raise ValueError(f"{source} is a {type(found).__name__}, expected a {kind.__name__}")
    return found


def require_no_code(text: str, source: object) -> None:
    """Refuse XML that would run code when OpenMM reads it.

    Raises
    ------
    ValueError
        If it has a PythonForce, or hides what it has.
    """
    if os.environ.get(ALLOW) == "1":
        return
    if "PythonForce" in text or HIDDEN.search(text):
        raise ValueError(
            f"{source} holds a PythonForce or hides a type: reading it would run code from the "
            f"file. Set {ALLOW}=1 if you trust it"
        )
