"""An exploration without CVs: which coordinates are learned, and the file that names them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from openmm_cgan.atom_selection import solute_atoms
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.cli.exploration_folder import ExplorationFolder
from openmm_cgan.explore.coordinate_bias import LABEL, coordinate_names
from openmm_cgan.explore.coordinate_rounds import MODEL, RoundSettings, learn_in_rounds
from openmm_cgan.explore.torsions import turning_hydrogens, turning_torsions
from openmm_cgan.learned_variable import Inputs, LearnedVariable
from openmm_cgan.molecules import Molecule
from openmm_cgan.windows.platforms import fastest_platform

COORDINATES, CVS = "coordinates", "cvs.dat"


def torsion_inputs(molecule: Molecule) -> Inputs:
    """The torsions about all bonds of the solute that turn, as lines of PLUMED.

    Raises
    ------
    ValueError
        If there are none.
    """
    found = turning_torsions(molecule.topology, (), solute_atoms(molecule.topology).tolist())
    if not found:
        raise ValueError(
            "no bond of the molecule turns that has heavy atoms at both ends: no coordinates are "
            "learned of torsions; give CVs by --plumed"
        )
    names = tuple(f"t{k}" for k in range(1, len(found) + 1))
    lines = [
        f"{name}: TORSION ATOMS={','.join(str(a + 1) for a in torsion.atoms)}  # {torsion.name}"
        for name, torsion in zip(names, found, strict=True)
    ]
    return Inputs("\n".join(lines) + "\n", names, (2 * np.pi,) * len(found))


def find_coordinates(
    molecule: Molecule, folder: Path, settings: RoundSettings, say: Callable[[str], None]
) -> LearnedVariable:
    """Learn coordinates from one structure, and write the file that names them, ``cvs.dat``.

    The rounds that the folder holds already are gone on with.
    """
    inputs = torsion_inputs(molecule)
    say(f"coordinates are learned of {len(inputs.names)} torsions: a diffusion map in rounds")
    if unseen := turning_hydrogens(molecule.topology, solute_atoms(molecule.topology).tolist()):
        say(
            f"how {', '.join(unseen)} turn they do not see, having heavy atoms at both ends: where "
            "that is slow, or holds a hydrogen bond that counts, give CVs of it by --plumed"
        )
    place = folder / COORDINATES
    learned = learn_in_rounds(molecule, inputs, place, settings, resume=True)
    path = (place / MODEL).absolute()
    if not learned.is_in(path):  # a run goes on with the very file that it began with
        learned.save(path)
    names = ",".join(coordinate_names(learned))
    lines = learned.variable_lines(path, LABEL)
    wall = learned.plumed_lines(path, LABEL).splitlines()[-1]
    remark = f"# a bias along them needs a wall where nothing was learned:\n# {wall}\n"
    write_atomically(folder / CVS, f"{lines}{remark}PRINT ARG={names} STRIDE=100 FILE=COLVAR\n")
    say(
        f"{learned.n_coordinates} coordinates after {rounds_made(folder)} rounds of "
        f"{settings.steps} steps; eigenvalues {learned.found.eigenvalues.round(3).tolist()}; "
        f"{folder / CVS} names them"
    )
    return learned


def rounds_made(folder: Path) -> int:
    """How many rounds an exploration has made, or begun."""
    return len(list((folder / COORDINATES).glob("round-*")))


def rounds_of(place: ExplorationFolder) -> RoundSettings:
    """Rounds under the conditions of an exploration, on the platform that is the quickest.

    Raises
    ------
    ValueError
        If the budget is less than one round.
    """
    settings = place.settings
    most = min(RoundSettings.most, settings.budget_steps // RoundSettings.steps)
    if most == 0:
        raise ValueError(
            f"a budget of {settings.budget_steps:,} steps is less than one round, which has "
            f"{RoundSettings.steps:,}: give more by --budget-steps"
        )
    return RoundSettings(
        most=most,
        temperature=settings.temperature,
        timestep=settings.timestep,
        platform=place.platform
        or fastest_platform(place.molecule.system, place.molecule.positions),
        seed=settings.seed,
    )
