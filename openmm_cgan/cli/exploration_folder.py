"""The folder of an exploration: its runs, its models, and what is known from them alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm

from openmm_cgan.cli.run_records import RunSettings
from openmm_cgan.cli.simulations import run_biased
from openmm_cgan.explore.added_bias import has_bias
from openmm_cgan.explore.settings import ExploreSettings
from openmm_cgan.explore.torsions import TurningTorsion, turning_torsions
from openmm_cgan.frames import Frames, read_frames
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.json_files import read_json
from openmm_cgan.molecules import Molecule
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.run_folders import FRAMES, RECORD, TOPOLOGY

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOOK, HOT, INPUT = "look", "hot", "plumed.dat"
GENTLE = "plumed_gentle.dat"  # for frames that are weighed
RETRIES = 3


@dataclass(frozen=True)
class ExplorationFolder:
    """Where an exploration works.

    Attributes
    ----------
    molecule : Molecule
        Its System without a bias.
    plumed_input : Path
    folder : Path
    settings : ExploreSettings
    platform : str or None
    workers : int or None
        Processes for windows.
    device : str
        Of torch, for generators.
    """

    molecule: Molecule
    plumed_input: Path
    folder: Path
    settings: ExploreSettings
    platform: str | None = None
    workers: int | None = None
    device: str = "cpu"

    @property
    def needs_bias(self) -> bool:
        """Whether the input has no bias of its own."""
        return not has_bias(self.plumed_input)

    @property
    def difference(self) -> StateDifference:
        """The difference that is wanted."""
        return StateDifference.of(self.settings.difference)

    def check(self) -> None:
        """See before any work is done that input, CVs and difference belong together.

        Raises
        ------
        ValueError
            If they do not.
        """
        bias = self.cvs()
        self.difference.sides(np.zeros((1, len(bias.variables))), bias.variables)

    def cvs(self) -> PlumedBias:
        """The CVs of the input, under no bias."""
        bias = PlumedBias(
            self.plumed_input, self.molecule.topology, temperature=self.settings.temperature
        )
        return bias.restrained(np.zeros(len(bias.variables)), 0.0)

    def run(
        self, name: str, plumed: str | Path, end: int, start: NDArray | None = None, **changes: Any
    ) -> None:
        """A run to a step, from where it is."""
        settings = self.settings
        run = RunSettings(
            temperature=settings.temperature,
            timestep=settings.timestep,
            platform=self.platform,
            frames_every=settings.frames_every,
            seed=settings.seed + sum(name.encode()),
            retries=RETRIES,
            atoms="all" if self.molecule.system.usesPeriodicBoundaryConditions() else None,
        )
        run = replace(run, **changes)
        molecule = self.molecule if start is None else replace(self.molecule, positions=start)
        folder = self.folder / name
        begun, before = (folder / RECORD).exists(), self.steps_of(name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        asked = None if before == end else end - before
        if begun and before < end:
            run_biased(_fresh(molecule), plumed, None, folder, run, True)
        run_biased(_fresh(molecule), plumed, asked, folder, run, begun)

    def steps_of(self, name: str) -> int:
        """The step that a run was last to go to; 0 where it has not begun."""
        record = self.folder / name / RECORD
        return int(read_json(record)["end_step"]) if record.exists() else 0

    def input(self) -> str | Path:
        """The input of biased runs."""
        return self.folder / INPUT if self.needs_bias else self.plumed_input

    def cvs_file(self) -> Path:
        """The CVs alone, as a file."""
        return self.folder / LOOK / INPUT

    def structure_file(self) -> Path:
        """The molecule with its System beside it, as a file."""
        return self.folder / LOOK / TOPOLOGY

    def hidden(self) -> list[TurningTorsion]:
        """Torsions that no CV is."""
        return turning_torsions(self.molecule.topology, self.cvs().variables, hydroxyls=True)

    def frames(self, name: str) -> Frames:
        """Of a run."""
        return read_frames(self.folder / name / FRAMES)

    def all_biased(self) -> list[Frames]:
        """Frames of each biased run."""
        return [read_frames(folder / FRAMES) for folder in sorted(self.folder.glob("biased-*"))]

    def data(self, number: int) -> list[Path]:
        """Runs that the n-th generator is trained on: the biased ones, and chains before it."""
        found = sorted(self.folder.glob("biased-*"))
        for earlier in range(1, number):
            found += sorted((self.folder / f"chains-{earlier}").glob("*"))
            found += sorted((self.folder / f"moves-{earlier}").glob("*"))
        return found

    def best(self, number: int) -> Path:
        """The better of the n-th generator before and after it was refined."""
        return self.folder / f"best-{number}.npz"

    def model(self, number: int) -> Path:
        """The n-th generator as it is used."""
        best = self.best(number)
        return best if best.exists() else self.folder / f"model-{number}.npz"


def _fresh(molecule: Molecule) -> Molecule:
    return replace(molecule, system=openmm.XmlSerializer.clone(molecule.system))
