"""Selections in the languages of MDAnalysis (``@mda:``) and mdtraj (``@mdt:``) on a PDB file.

Both are loaded where a selection asks for them; mdtraj is no dependency.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from openmm_cgan.plumed.input.words import NotNativeError, unbrace

PACKAGES = {"mda": "MDAnalysis", "mdt": "mdtraj"}


def select_by_package(path: Path, selector: str) -> list[int]:
    """Zero-based atoms of a selector such as ``mda:resid 3:5``, by their places in the file.

    Parameters
    ----------
    path : Path
        Of the PDB file.
    selector : str
        Without its ``@``; what is behind the colon may stand in braces.

    Raises
    ------
    ValueError
        If the package does not understand it, it selects no atom, or the package is missing.
    """
    kind, _, text = selector.partition(":")
    package, text = PACKAGES[kind], unbrace(text)
    try:
        module = import_module(package)
    except ImportError:
        raise NotNativeError(f"'@{selector}' needs {package}: pip install {package}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the file does not tell: chains, elements ...
        loaded = _loaded(module, path, path.stat().st_mtime_ns)
        try:
            chosen = loaded.select_atoms(text).indices if kind == "mda" else loaded.select(text)
        except Exception as error:  # each package raises many kinds
            raise ValueError(f"'@{selector}': {package} says: {error}") from None
    if len(chosen) == 0:
        raise ValueError(f"'@{selector}' selects no atom of {path}")
    return [int(atom) for atom in chosen]


@lru_cache(maxsize=4)
def _loaded(module: Any, path: Path, _: int) -> Any:
    """What selects atoms of a file, as it was at a time."""
    if module.__name__ == "MDAnalysis":
        return module.Universe(str(path))
    return module.load(str(path)).topology
