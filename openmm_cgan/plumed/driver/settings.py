"""How frames become steps of a PLUMED input: the options of ``plumed driver``, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.atomic_files import require_readable
from openmm_cgan.plumed.actions import Units, read_actions
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import lines_of, read_statements
from openmm_cgan.plumed.input.pdb import MAX_PDB_BYTES
from openmm_cgan.plumed.input.words import is_number_format


@dataclass(frozen=True)
class DriverSettings:
    """How frames become steps.

    Attributes
    ----------
    timestep : float
        Time of one step [ps]; the time of a frame is its step times this.
    trajectory_stride : int
        Steps from one frame to the next; 0 takes the step from the trajectory.
    initial_step : int
        Step of the first frame.
    length : float
        Unit of the frames' lengths, of `box` and of the forces' denominators [nm].
    kt : float or None
        Temperature of the trajectory as kT [kJ/mol], for inputs that need it.
    restart : bool
        Append to the files and read the hills, as if the input said RESTART.
    backend : str
        "native", "kernel" or "auto".
    directory : Path
        Where the files of the input are.
    masses : ndarray, shape (n_atoms,), optional
        Masses of the atoms [dalton]. Unknown by default, as in PLUMED: what needs them is an error.
    charges : ndarray, shape (n_atoms,), optional
        [e]
    box : ndarray, shape (3, 3), optional
        Box vectors as rows, in place of those of the frames.
    forces : Path, optional
        File that the forces of the bias on the atoms are written to.
    forces_format : str
        printf format of its numbers.
    full_virial : bool
        Nine numbers of the virial in that file, in place of the diagonal.
    debug_forces : Path, optional
        File that compares forces and virial with forward differences of the bias, for each frame
        as the bias is after it.
    """

    timestep: float = 1.0
    trajectory_stride: int = 1
    initial_step: int = 0
    length: float = 1.0
    kt: float | None = None
    restart: bool = False
    backend: str = "auto"
    directory: Path = Path(".")
    masses: NDArray[np.float64] | None = None
    charges: NDArray[np.float64] | None = None
    box: NDArray[np.float64] | None = None
    forces: Path | None = None
    forces_format: str = "%f"
    full_virial: bool = False
    debug_forces: Path | None = None


def read_masses(path: str | Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Masses and charges from a file as ``plumed driver`` takes them.

    Parameters
    ----------
    path : str or Path
        A PDB file (``--pdb``: the columns occupancy and beta), or one with the fields index, mass
        and charge, as DUMPMASSCHARGE writes it (``--mc``).

    Returns
    -------
    masses, charges : ndarray, shape (n_atoms,)
        [dalton], [e]; NaN for atoms that the file does not name.

    Raises
    ------
    ValueError
        If the file is neither.
    """
    path = Path(path)
    if path.suffix.lower() == ".pdb":
        require_readable(path, MAX_PDB_BYTES)
        lines = lines_of(path.read_text().split("\nEND\n")[0])
        rows = [line for line in lines if line.startswith(("ATOM", "HETATM"))]
        try:
            index = np.array([int(row[6:11]) - 1 for row in rows])
            numbers = [[float(row[i:j] or 0) for i, j in ((54, 60), (60, 66))] for row in rows]
        except ValueError as error:
            raise ValueError(f"{path} has no masses in its occupancy column: {error}") from None
        masses, charges = np.array(numbers).reshape(-1, 2).T
    else:
        columns = read_fields(path).columns
        if not {"index", "mass"} <= set(columns):
            names = ", ".join(columns)
            raise ValueError(f"{path} has the fields {names}, expected index and mass")
        index = np.asarray(columns["index"]).astype(int)
        masses = columns["mass"]
        charges = columns.get("charge", np.full(len(masses), np.nan))
    if len(index) == 0 or min(index) < 0:
        raise ValueError(f"{path} names no atoms, or some before the first")
    placed = np.full((2, max(index) + 1), np.nan)
    placed[:, index] = masses, charges
    return placed[0], placed[1]


def driver_settings(**options: Any) -> DriverSettings:
    """Settings from the options of the command line, named as PLUMED's with ``_`` for ``-``.

    Raises
    ------
    ValueError
        If one has no meaning.
    """
    masses = charges = None
    for name in ("pdb", "mc"):
        if options[name] is not None:
            masses, charges = read_masses(options[name])
    if not is_number_format(options["dump_forces_fmt"]):
        raise ValueError("--dump-forces-fmt: expected a format such as %10.6f")
    return DriverSettings(
        timestep=options["timestep"],
        trajectory_stride=options["trajectory_stride"],
        initial_step=options["initial_step"],
        length=length_unit(options["length_units"]),
        kt=options["kt"],
        restart=options["restart"],
        backend=options["backend"],
        directory=options["out"],
        masses=masses,
        charges=charges,
        box=None if options["box"] is None else read_box(options["box"]),
        forces=options["dump_forces"],
        forces_format=options["dump_forces_fmt"],
        full_virial=options["dump_full_virial"],
        debug_forces=options["debug_forces"],
    )


def length_unit(text: str) -> float:
    """A length unit [nm], by PLUMED's name or as a number.

    Raises
    ------
    ValueError
        If it is neither.
    """
    [statement] = read_statements(f"UNITS LENGTH={text}")
    [action] = read_actions([statement])
    assert isinstance(action, Units)
    return action.system.length


def read_box(text: str) -> NDArray[np.float64]:
    """Box vectors as rows of three or nine numbers with commas.

    Returns
    -------
    ndarray, shape (3, 3)
        In the unit of the numbers.

    Raises
    ------
    ValueError
        If it is something else.
    """
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (3, 9):
        raise ValueError(f"--box {text}: expected three or nine numbers with commas")
    return np.diag(numbers) if len(numbers) == 3 else np.reshape(numbers, (3, 3))
