"""JSON files that hold one record: what a run or a window is, and how far it got."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openmm_cgan.atomic_files import require_readable, write_atomically

MAX_BYTES = 2**30


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a record of plain JSON types, all or nothing."""
    write_atomically(path, json.dumps(record, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no JSON object; the message names the file.
    """
    require_readable(path, MAX_BYTES)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file, or is damaged: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} holds a {type(record).__name__}, expected a JSON object")
    return record
