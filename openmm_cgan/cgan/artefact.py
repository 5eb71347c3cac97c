"""The file of a trained generator: a zip of arrays that ``numpy.load`` reads, without pickle.

Beside the arrays stands ``metadata``, a JSON text: what the file holds, CVs, units, versions, how
it was trained. Version 4 has flows that are told of contacts, and reads version 3, which had none;
these name the featurization, whose arrays are those under ``features.``. Version 2 knew none but
the Z-matrix, and is read as one.
"""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from openmm_cgan import __version__
from openmm_cgan.array_files import read_arrays
from openmm_cgan.atomic_files import require_readable, write_atomically

FORMAT = "openmm_cgan.ConditionalGAN"  # the name of the class when the format was made
FORMAT_VERSION = 4
SUFFIX = ".npz"
MAX_BYTES = 2**30  # of an artefact once unpacked

Arrays = dict[str, np.ndarray]


def artefact_path(path: str | os.PathLike[str]) -> Path:
    """The file of a name: with ``.npz``, unless it has another ending."""
    named = Path(path)
    return named if named.suffix else named.with_name(named.name + SUFFIX)


def write_artefact(path: Path, metadata: dict[str, Any], arrays: Arrays) -> None:
    """Write a whole artefact or nothing.

    Parameters
    ----------
    path : Path
    metadata : dict
        Of plain JSON types; format and version are added.
    arrays : dict of str to ndarray
        Of any shapes.
    """
    named = {"format": FORMAT, "format_version": FORMAT_VERSION, **metadata}
    text = json.dumps(named, indent=1).encode()
    buffer = io.BytesIO()
    own = {"metadata": np.frombuffer(text, np.uint8)}
    np.savez(buffer, allow_pickle=False, **own, **arrays)
    write_atomically(path, buffer.getvalue())


def read_artefact(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Metadata and arrays of an artefact, as version 4 has them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no artefact, is damaged, or of a version that is not known.
    """
    require_readable(path, MAX_BYTES)
    with path.open("rb") as file:  # FileNotFoundError, PermissionError speak for themselves
        try:
            arrays = read_arrays(file, MAX_BYTES)
            _require_numbers(arrays)
            metadata = json.loads(arrays.pop("metadata").tobytes())
            known = isinstance(metadata, dict) and metadata.get("format") == FORMAT
        except Exception as error:
            raise ValueError(
                f"{path} is no saved ConditionalGenerator, or is damaged: {type(error).__name__}:"
                f" {error}"
            ) from error
    if not known:
        raise ValueError(
            f"{path} is no saved ConditionalGenerator: it does not name the format {FORMAT}"
        )
    version = metadata.get("format_version")
    if version == 2:
        return _from_version_2(metadata, arrays)
    if version not in (3, FORMAT_VERSION):
        raise ValueError(
            f"{path} has format version {version}, this openmm_cgan ({__version__}) reads 2 to"
            f" {FORMAT_VERSION}: use the release that wrote it ({metadata.get('versions')}) or"
            " train again"
        )
    return metadata, arrays


def _require_numbers(arrays: Arrays) -> None:
    """Refuse NaN and infinite numbers: what is made of them need not show it at once."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} holds a number that is not finite")


def prefixed(parts: dict[str, Arrays]) -> Arrays:
    """The arrays of several parts, each by ``part.name``."""
    return {f"{part}.{name}": a for part, own in parts.items() for name, a in own.items()}


def under(arrays: Arrays, prefix: str) -> Arrays:
    """Arrays whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _from_version_2(metadata: dict[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
    """What version 2 held, by the names of later ones."""
    names = {
        "rows": "features.rows",
        "atoms": "features.atoms",
        "features.cv_centre": "conditions.centre",
        "features.cv_scale": "conditions.scale",
    }
    renamed = {names.get(name, name): array for name, array in arrays.items()}
    settings = {"energy_score": 0.0, **metadata["settings"]}  # trained before there was one
    return metadata | {"featurization": "ZMatrixFeatures", "settings": settings}, renamed
