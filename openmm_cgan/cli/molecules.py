"""A molecule from a structure and a force field, as the commands take them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openmm_cgan.array_files import read_array
from openmm_cgan.cli.molecule_files import MoleculeFiles, molecule_of
from openmm_cgan.molecules import Molecule, read_molecule
from openmm_cgan.proposals import hangs_on_rest
from openmm_cgan.run_folders import require_each_once
from openmm_cgan.topology_records import read_topology
from openmm_cgan.windows.run_files import RECORD as WINDOW
from openmm_cgan.windows.run_files import START, read_system
from openmm_cgan.windows.runs import folders_of

if TYPE_CHECKING:
    from openmm_cgan.cgan import ConditionalGenerator


def each_window(folders: Sequence[Path]) -> list[Path]:
    """Folders, with those of its windows in place of one that holds windows.

    Raises
    ------
    ValueError
        If one is given twice: what is in it would count twice.
    """
    found: list[Path] = []
    for folder in folders:
        found += folders_of(folder) if any(folder.glob(f"*/{WINDOW}")) else [folder]
    require_each_once(found)
    return found


def runs_in(folders: Sequence[Path]) -> tuple[Molecule, list[Path]]:
    """The molecule of runs and of umbrella windows, and the folder of each run or window.

    Parameters
    ----------
    folders : sequence of Path
        Of runs, of single windows, or of all windows of `openmm-cgan windows`.

    Returns
    -------
    Molecule
        That of the first.
    list of Path
        Each has frames and an input.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or damaged.
    """
    found = each_window(folders)
    first = found[0]
    if not (first / WINDOW).is_file():
        return read_molecule(first), found
    system, topology = read_system(first.parent), read_topology(first.parent)
    return Molecule(topology, system, read_array(first / START)), found


def require_whole(model: Path, gan: ConditionalGenerator, n_atoms: int, why: str) -> None:
    """Refuse a model of a part of the atoms where the whole is made.

    Parameters
    ----------
    model : Path
        Its file.
    gan : ConditionalGenerator
    n_atoms : int
        Of the whole System.
    why : str
        What a part of the System by itself cannot be used for, and what to do.

    Raises
    ------
    ValueError
        If it makes fewer.
    """
    if gan.n_atoms == n_atoms:
        return
    makes = f"{model} makes {gan.n_atoms} of {n_atoms} atoms"
    if hangs_on_rest(gan):
        raise ValueError(
            f"{makes}, a part that hangs on the others: openmm-cgan run --model {model} --mode "
            "local proposes it among them as they stand, openmm-cgan refine trains it further, and "
            "nothing else can use it"
        )
    raise ValueError(f"{makes}: {why}")


def load_molecule(
    structure: str | Path, forcefield: Sequence[str], constraints: str = "HBonds"
) -> Molecule:
    """Make a System from a PDB file and OpenMM force-field files.

    Parameters
    ----------
    structure : str or Path
        PDB file; with a cell the System is periodic (PME, cutoff 1 nm at most), else no cutoff.
    forcefield : sequence of str
        Files of OpenMM (``amber96.xml``) or paths.
    constraints : str
        "HBonds", "AllBonds", "HAngles" or "None".

    Raises
    ------
    FileNotFoundError
        If there is no structure file.
    ValueError
        If OpenMM cannot read a file, the force field does not cover the molecule, or there are no
        such constraints.
    """
    return molecule_of(
        MoleculeFiles(Path(structure), forcefield=forcefield, constraints=constraints)
    )
