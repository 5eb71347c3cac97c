"""Results as files for other programs: tables as CSV, configurations as PDB, DCD or XTC."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openmm_cgan.atomic_files import replacing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from openmm_cgan.free_energy import Estimate, FreeEnergy
    from openmm_cgan.proposals import Proposals

STRUCTURES = (".pdb", ".dcd", ".xtc")


def write_table(path: str | Path, columns: Mapping[str, ArrayLike]) -> None:
    """Write columns of equal length as a CSV file with a header.

    Parameters
    ----------
    path : str or Path
        The file; it is replaced whole or not at all.
    columns : mapping of str to array_like, shape (n_rows,)
        Column by name; floats are written with all their digits. A name that a spreadsheet would
        run, such as @0.bias, gets an apostrophe before it.

    Raises
    ------
    ValueError
        If the columns differ in length.
    """
    with replacing(path) as unfinished, unfinished.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(map(_no_formula, columns))
        # plain numbers: numpy's own would be written as np.float64(...)
        plain = [np.asarray(column).tolist() for column in columns.values()]
        rows.writerows(zip(*plain, strict=True))


def _no_formula(name: str) -> str:
    """A name that no spreadsheet takes as a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


def write_structures(path: str | Path, topology: Any, positions: NDArray) -> None:
    """Write configurations as a PDB, DCD or XTC file.

    Parameters
    ----------
    path : str or Path
        The file; its ending says the format. It is replaced whole or not at all.
    topology : openmm.app.Topology
        Of the atoms in ``positions``.
    positions : ndarray, shape (n, n_atoms, 3)
        Configurations [nm].

    Raises
    ------
    ValueError
        If the ending is not one of .pdb, .dcd, .xtc, or there is nothing to write.
    """
    path = Path(path)
    check_structure_ending(path)
    if len(positions) == 0:
        raise ValueError(f"there is no configuration to write to {path}")
    with replacing(path) as unfinished:
        writers = {".pdb": _write_pdb, ".dcd": _write_dcd, ".xtc": _write_xtc}
        writers[path.suffix](unfinished, topology, np.asarray(positions, dtype=float))


def check_structure_ending(path: Path) -> None:
    """Refuse what `write_structures` could not write, before work is done for it."""
    if path.suffix not in STRUCTURES:
        raise ValueError(f"{path} ends in {path.suffix!r}, expected one of {', '.join(STRUCTURES)}")


def proposal_columns(proposals: Proposals, names: Sequence[str]) -> dict[str, ArrayLike]:
    """Columns of a table of proposals: what was asked for, what was made, why it was refused.

    Returns
    -------
    dict of str to array_like, shape (n_proposals,)
        ``proposal`` (from 1), for each CV ``NAME_asked`` and ``NAME`` [CV units], ``result``.
    """
    columns: dict[str, ArrayLike] = {"proposal": np.arange(1, len(proposals) + 1)}
    for k, name in enumerate(names):
        columns[f"{name}_asked"] = proposals.targets[:, k]
        columns[name] = proposals.cvs[:, k]
    reasons = [str(reason) for reason in proposals.reasons]
    return {**columns, "result": [reason or "accepted" for reason in reasons]}


def estimate_text(estimate: Estimate) -> str:
    """A free energy with its error [kJ/mol] in words; no number where its error is not known."""
    if np.isfinite([estimate.value, estimate.error]).all():
        return f"{estimate.value:.2f} +- {estimate.error:.2f} kJ/mol"
    if np.isposinf(estimate.error):
        return "not known: the windows do not all overlap, see the warning"
    return "not known: too few independent frames for an error"


def profile_columns(profile: FreeEnergy) -> dict[str, ArrayLike]:
    """Columns of a profile, of shape (n_bins,) each.

    CV [CV units], free energy and error [kJ/mol], effective number of samples; the error is nan
    where it is not known (one sample in a bin) and inf across a gap between windows, whose parts
    are then numbered in one more column.
    """
    columns: dict[str, ArrayLike] = {
        profile.variables[0].name: profile.centres[0],
        "free_energy": profile.free_energy,
        "error": profile.error,
    }
    if profile.effective_samples is not None:
        columns["effective_samples"] = profile.effective_samples.round(1)
    if profile.part is not None and profile.part.max() > 0:
        columns["part"] = profile.part
    return columns


def surface_columns(surface: FreeEnergy) -> dict[str, ArrayLike]:
    """Columns of a surface, of shape (n_bins * n_bins,) each, the second CV changing fastest.

    Both CVs [CV units], free energy and error [kJ/mol] as in `profile_columns`.
    """
    points = np.meshgrid(*surface.centres, indexing="ij")
    columns: dict[str, ArrayLike] = {
        variable.name: values.ravel()
        for variable, values in zip(surface.variables, points, strict=True)
    }
    columns |= {"free_energy": surface.free_energy.ravel(), "error": surface.error.ravel()}
    if surface.part is not None and surface.part.max() > 0:
        columns["part"] = surface.part.ravel()
    return columns


def _write_pdb(path: Path, topology: Any, positions: NDArray) -> None:
    from openmm import unit
    from openmm.app import PDBFile

    from openmm_cgan.topology_records import told_apart

    topology = told_apart(topology)
    with path.open("w") as file:
        PDBFile.writeHeader(topology, file)
        for number, frame in enumerate(positions, start=1):
            PDBFile.writeModel(topology, frame * unit.nanometer, file, number, keepIds=True)
        PDBFile.writeFooter(topology, file)


def _write_dcd(path: Path, topology: Any, positions: NDArray) -> None:
    from openmm import unit
    from openmm.app import DCDFile

    with path.open("wb") as file:
        trajectory = DCDFile(file, topology, dt=1.0 * unit.picosecond)
        for frame in positions:
            trajectory.writeModel(frame * unit.nanometer)


def _write_xtc(path: Path, topology: Any, positions: NDArray) -> None:
    from openmm import unit
    from openmm.app import XTCFile

    trajectory = XTCFile(str(path), topology, dt=1.0 * unit.picosecond)
    for frame in positions:
        trajectory.writeModel(frame * unit.nanometer)
