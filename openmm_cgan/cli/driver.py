"""A PLUMED input run over the frames of a trajectory, as ``plumed driver`` does.

Nothing is integrated: each frame is one step of the input, which prints its COLVAR, lays its
hills and so on, with the frame's positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.colvar import read_fields
from openmm_cgan.plumed.native import KB

# kB as PlumedBias multiplies a temperature with it, so that kT arrives as it was given

# MDAnalysis readers of the formats that need no topology, by the names of PLUMED's options
READERS = {"mf_xtc": "XTC", "mf_trr": "TRR", "mf_dcd": "DCD"}
FORMATS = (*READERS, "mf_pdb", "ixyz")
# columns of the lengths and angles of a PDB file's cell
_CRYST1 = ((6, 15), (15, 24), (24, 33), (33, 40), (40, 47), (47, 54))

Frame = tuple[NDArray[np.float64], NDArray[np.float64] | None]


@dataclass(frozen=True)
class DriverSettings:
    """How frames become steps.

    Attributes
    ----------
    timestep : float
        Time of one step [ps]; the time of a frame is its step times this.
    trajectory_stride : int
        Steps from one frame to the next.
    kt : float or None
        Temperature of the trajectory as kT [kJ/mol], for inputs that need it.
    backend : str
        "native", "kernel" or "auto".
    directory : Path
        Where the files of the input are written.
    masses : ndarray, shape (n_atoms,), optional
        Masses of the atoms [dalton]. Unknown by default, as in PLUMED: what needs them is NaN with
        the native backend, an error with the kernel.
    """

    timestep: float = 1.0
    trajectory_stride: int = 1
    kt: float | None = None
    backend: str = "auto"
    directory: Path = Path(".")
    masses: NDArray[np.float64] | None = None


def read_trajectory(path: str | Path, kind: str) -> Iterator[Frame]:
    """Positions and boxes of a trajectory file, one frame at a time.

    Parameters
    ----------
    path : str or Path
        The file.
    kind : str
        One of `FORMATS`, PLUMED's own option names. The numbers of an xyz file are nm and its
        comment line holds the box (three or nine numbers), as for ``plumed driver --ixyz``.

    Yields
    ------
    positions : ndarray, shape (n_atoms, 3)
        [nm]
    box : ndarray, shape (3, 3), or None
        Box vectors as rows [nm].

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the kind is unknown or an xyz file is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such trajectory")
    if kind not in FORMATS:
        raise ValueError(f"format is {kind!r}, expected one of {', '.join(FORMATS)}")
    if kind in READERS:
        yield from _read_binary(path, READERS[kind])
    else:
        yield from (_read_xyz if kind == "ixyz" else _read_pdb)(path)


def read_masses(path: str | Path) -> NDArray[np.float64]:
    """Masses from a file as ``plumed driver`` takes them.

    Parameters
    ----------
    path : str or Path
        A PDB file (``--pdb``: the occupancy column), or one with the fields index and mass, as
        DUMPMASSCHARGE writes it (``--mc``).

    Returns
    -------
    ndarray, shape (n_atoms,)
        [dalton]

    Raises
    ------
    ValueError
        If the file is neither.
    """
    path = Path(path)
    if path.suffix.lower() == ".pdb":
        lines = path.read_text().splitlines()
        column = [line[54:60] for line in lines if line.startswith(("ATOM", "HETATM"))]
        return np.array(column, dtype=float)
    columns = read_fields(path).columns
    if not {"index", "mass"} <= set(columns):
        raise ValueError(f"{path} has the fields {', '.join(columns)}, expected index and mass")
    return np.asarray(columns["mass"])[np.argsort(columns["index"])]


def run_driver(plumed_input: str | Path, frames: Iterator[Frame], settings: DriverSettings) -> int:
    """Run a PLUMED input over frames; the files that it asks for are what comes out.

    Parameters
    ----------
    plumed_input : str or Path
        The input file, or its text if it contains a newline.
    frames : iterator of (positions, box)
        As `read_trajectory` gives them; the first frame says whether there is a box.
    settings : DriverSettings

    Returns
    -------
    int
        Number of frames.

    Raises
    ------
    PlumedInputError
        If the input cannot be used.
    ValueError
        If there are no frames, or their numbers of atoms differ.
    """
    first = next(frames, None)
    if first is None:
        raise ValueError("the trajectory holds no frames")
    temperature = None if settings.kt is None else settings.kt / KB
    settings.directory.mkdir(parents=True, exist_ok=True)
    bias = PlumedBias(
        plumed_input,
        temperature=temperature,
        backend=settings.backend,
        directory=settings.directory,
    )
    masses = _checked_masses(settings.masses, len(first[0]))
    simulation = _still_simulation(bias, *first, masses=masses, timestep=settings.timestep)
    reporter = simulation.reporters[0]
    count = 0
    for positions, box in chain([first], frames):
        if len(positions) != len(first[0]):
            raise ValueError(
                f"frame {count} has {len(positions)} atoms, the first has {len(first[0])}"
            )
        if box is not None:
            simulation.context.setPeriodicBoxVectors(*box)
        simulation.context.setPositions(positions)
        simulation.currentStep = count * settings.trajectory_stride
        if count == 0:
            reporter.describeNextReport(simulation)  # acts at the first step, as in a run
        else:
            reporter.report(simulation, simulation.context.getState(positions=True))
        count += 1
    bias.close()
    return count


def _read_binary(path: Path, name: str) -> Iterator[Frame]:
    # MDAnalysis takes a second to load, which --help should not wait for
    from MDAnalysis.coordinates import DCD, TRR, XTC

    modules: dict[str, Any] = {"XTC": XTC, "TRR": TRR, "DCD": DCD}
    with getattr(modules[name], f"{name}Reader")(str(path)) as reader:
        for ts in reader:
            box = None if ts.dimensions is None else _cell_vectors(ts.dimensions)
            yield ts.positions.astype(float) / 10, box


def _checked_masses(masses: NDArray | None, n_atoms: int) -> NDArray[np.float64]:
    if masses is None:
        return np.full(n_atoms, np.nan)
    if masses.shape != (n_atoms,):
        raise ValueError(f"there are masses of {len(masses)} atoms, the frames have {n_atoms}")
    return masses


def _still_simulation(
    bias: PlumedBias,
    positions: NDArray,
    box: NDArray | None,
    masses: NDArray,
    timestep: float,
) -> app.Simulation:
    """A Simulation that is never stepped: it only carries frames to the bias."""
    system = openmm.System()
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for i, mass in enumerate(masses):
        system.addParticle(mass)
        topology.addAtom(str(i + 1), None, residue)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
        periodic = openmm.NonbondedForce()
        periodic.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        periodic.setCutoffDistance(0.1 * float(np.diag(box).min()))
        for _ in positions:
            periodic.addParticle(0.0, 1.0, 0.0)
        system.addForce(periodic)
    bias.add_to(system)
    simulation = app.Simulation(
        topology,
        system,
        openmm.VerletIntegrator(timestep),
        openmm.Platform.getPlatformByName("Reference"),
    )
    bias.attach(simulation)
    return simulation


def _read_pdb(path: Path) -> Iterator[Frame]:
    """Models of a PDB file by their columns: atom names may repeat, which libraries drop."""
    box, rows = None, []
    for line in chain(path.read_text().splitlines(), ["END"]):
        record = line[:6].strip()
        if record == "CRYST1":
            box = _cell_vectors([float(line[i:j]) for i, j in _CRYST1])
        elif record in ("ATOM", "HETATM"):
            rows.append([float(line[i : i + 8]) / 10 for i in (30, 38, 46)])
        elif record in ("ENDMDL", "END") and rows:
            yield np.array(rows), box
            rows = []


def _cell_vectors(cell: Sequence[float] | NDArray) -> NDArray[np.float64] | None:
    """Box vectors as rows [nm] from lengths [Angstrom] and angles [degrees]; None if zero."""
    if not np.all(np.asarray(cell[:3]) > 1):  # "1 1 1 90 90 90" says that there is no cell
        return None
    a, b, c = (float(x) / 10 for x in cell[:3])
    vectors = app.internal.unitcell.computePeriodicBoxVectors(a, b, c, *np.radians(cell[3:]))
    return np.array(vectors.value_in_unit(unit.nanometer))


def _read_xyz(path: Path) -> Iterator[Frame]:
    with path.open() as file:
        while line := file.readline():
            if not line.strip():
                continue
            try:
                n_atoms = int(line)
                box = _xyz_box([float(word) for word in file.readline().split()])
                rows = [file.readline().split()[1:4] for _ in range(n_atoms)]
                positions = np.array(rows, dtype=float).reshape(n_atoms, 3)
            except (ValueError, IndexError) as error:
                raise ValueError(
                    f"{path} is no xyz file as PLUMED reads it (number of atoms; box as 3 or 9 "
                    f"numbers; one line for each atom): {error}"
                ) from None
            yield positions, box


def _xyz_box(numbers: list[float]) -> NDArray[np.float64] | None:
    """Box vectors as rows [nm] of the comment line's numbers; zeros are no box."""
    if not np.any(numbers):
        return None
    return np.diag(numbers) if len(numbers) == 3 else np.reshape(numbers, (3, 3))
