"""Frames of a part of a system: what it hangs on is found, and the rest of the frames left out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.atom_selection import Atoms, selected_atoms
from openmm_cgan.frames.parts import frames_of_atoms
from openmm_cgan.internal_coordinates import PartZMatrix, part_z_matrix

if TYPE_CHECKING:
    from openmm_cgan.features.featurization import Featurization
    from openmm_cgan.frames import Frames


@dataclass(frozen=True)
class PartOfFrames:
    """Featurizes frames by a part of their atoms: `ZMatrixFeatures.of_part`.

    Parameters
    ----------
    part : str, sequence of int or AtomGroup
    fit : callable
        PartZMatrix and frames to fitted features.
    """

    part: Atoms
    fit: Callable[[PartZMatrix, "Frames"], "Featurization"]

    def __call__(self, frames: "Frames", topology: Any) -> "Featurization":
        """Features of the part, fitted to frames."""
        return self.fit(self._z_matrix(frames, topology), frames)

    def narrowed(self, frames: "Frames", topology: Any) -> "Frames":
        """The frames of the part and of the atoms that it hangs on."""
        z_matrix = self._z_matrix(frames, topology)
        return frames_of_atoms(frames, np.concatenate([z_matrix.atoms, z_matrix.rest]))

    def held(self, frames: "Frames", topology: Any) -> NDArray[np.int64]:
        """Atoms of frames that are not of the part."""
        return np.setdiff1d(frames.atoms, selected_atoms(topology, self.part))

    def _z_matrix(self, frames: "Frames", topology: Any) -> PartZMatrix:
        chosen = selected_atoms(topology, self.part)
        if len(missing := np.setdiff1d(chosen, frames.atoms)):
            raise ValueError(
                f"the frames lack the atoms {missing.tolist()} of the part: expected frames of the"
                " part and of what it hangs on"
            )
        known, reference = frames.atoms.tolist(), first_positions(frames)
        return part_z_matrix(topology, chosen, frames.variables, known, reference)


def first_positions(frames: "Frames") -> NDArray[np.float64]:
    """Positions of the first frame by numbers of the topology (1 + largest, 3); zeros elsewhere."""
    reference = np.zeros((1 + int(frames.atoms.max()), 3))
    reference[frames.atoms] = frames.positions[0]
    return reference
