"""What an energy asks of a part, in each of the frames among whose other atoms it stands.

A part s among a rest r has the density p(s|r, CVs), in proportion to exp(-U(s, r)/kT), and a flow
knows of r no more than the CVs and where the part hangs: what it can learn is the mean over the
rests that go with the same CVs. The rest is taken from frames as it was seen. A bias is a function
of the CVs, and no factor of p.

Energies are those of the whole System, less that of the frame: what the rest has by itself may be
large, differs from frame to frame, and says nothing of the part.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.cgan.divergences import Target
from openmm_cgan.large_arrays import PIECE
from openmm_cgan.short_reprs import short_repr


class Tied(Protocol):
    """A part, and the atoms that constraints connect with it: `constraints.TiedAtoms`."""

    atoms: NDArray[np.int64]

    def half_log_det(self, positions: Any) -> Any:
        """log of their Fixman factor (n,) at (n, n_tied, 3) [nm]; of tensors, differentiable."""


@runtime_checkable
class WholeEnergy(Protocol):
    """What knows the energy of a whole System, such as a Potential."""

    def energies_and_gradients(
        self, positions: NDArray[np.float64], boxes: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As of an Energy, in boxes (n, 3, 3) [nm]."""

    def tied_to(self, part: NDArray[np.int64]) -> Tied:
        """What goes with a part (n_part,); ValueError if the System does not let it move."""


@dataclass(frozen=True, eq=False, repr=False)
class Rests:
    """Frames of a whole System, and which of them each row of a training is of.

    Attributes
    ----------
    positions : ndarray, shape (n_frames, n_atoms, 3)
        [nm]
    box : ndarray, shape (n_frames, 3, 3), or None
        [nm]
    frame, held_frame : ndarray of int, shape (n,), (n_held,)
        Of the rows, and of those held out.
    """

    positions: NDArray[Any]
    box: NDArray[Any] | None
    frame: NDArray[np.int64]
    held_frame: NDArray[np.int64]

    __repr__ = short_repr

    def some(self, frames: NDArray[np.int64], atoms: NDArray[np.int64]) -> NDArray[np.float64]:
        """Positions (m, k, 3) of some atoms (k,) in some frames (m,) [nm]."""
        return self.positions[frames[:, None], atoms].astype(float)


class PartTargets:
    """The target of a part in each frame.

    Parameters
    ----------
    features : ZMatrixFeatures
        Of the part.
    energy : WholeEnergy
    kT : float
        [kJ/mol]
    rests : Rests

    Raises
    ------
    ValueError
        If the System does not let the part move by itself.
    """

    def __init__(self, features: Any, energy: WholeEnergy, kT: float, rests: Rests) -> None:
        self._features, self._energy, self._kT, self._rests = features, energy, kT, rests
        self._tied = energy.tied_to(features.atoms)
        self._own = np.full(len(rests.positions), np.nan)  # energies of frames, once asked for

    def at(self, frames: NDArray[np.int64]) -> Target:
        """The target in some frames (m,).

        What it is asked of stands in each of these frames as often, one frame after the other: n
        configurations are n // m in each.

        Raises
        ------
        ValueError
            If the energy of a frame is no finite number.
        """
        unknown = np.unique(frames[np.isnan(self._own[frames])])
        if len(unknown):
            self._own[unknown] = self._energies_of(unknown)
        held = self._rests.some(frames, self._features.rest)
        energy = self._among(frames, self._own[frames])
        return Target(self._features.among(held), energy, self._kT)

    def _among(self, frames: NDArray[np.int64], own: NDArray[np.float64]) -> "EnergyAmong":
        return EnergyAmong(self._energy, self._rests, frames, self._tied, self._features.atoms, own)

    def _energies_of(self, frames: NDArray[np.int64]) -> NDArray[np.float64]:
        """Energies (m,) [kJ/mol] of frames as they are."""
        as_seen = self._rests.some(frames, self._features.atoms)
        energies, _ = self._among(frames, np.zeros(len(frames))).energies_and_gradients(as_seen)
        if not np.isfinite(energies).all():
            bad = frames[~np.isfinite(energies)]
            raise ValueError(
                f"the energy of {len(bad)} frames, the first number {bad[0]}, is not finite: the"
                " frames are not of this System, or their atoms in another order"
            )
        return energies


class EnergyAmong:
    """The Energy of a part among rests, whose own is taken off.

    Parameters
    ----------
    energy : WholeEnergy
    rests : Rests
    frames : ndarray of int, shape (m,)
        In each of which as many configurations stand, one frame after the other.
    tied : Tied
    atoms : ndarray of int, shape (n_part,)
    own : ndarray, shape (m,)
        Energies that are taken off [kJ/mol].
    """

    def __init__(
        self,
        energy: WholeEnergy,
        rests: Rests,
        frames: NDArray[np.int64],
        tied: Tied,
        atoms: NDArray[np.int64],
        own: NDArray[np.float64],
    ) -> None:
        self._energy, self._rests, self._tied = energy, rests, tied
        self._frames, self._atoms, self._own = frames, atoms, own

    def energies_and_gradients(
        self, positions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energies (n,) [kJ/mol], gradients (n, n_part, 3) [kJ/mol/nm] at (n, n_part, 3) [nm]."""
        each = len(positions) // len(self._frames)
        frames, own = np.repeat(self._frames, each), np.repeat(self._own, each)
        energies, gradients = np.empty(len(positions)), np.empty(positions.shape)
        step = max(1, PIECE // (8 * self._rests.positions[0].size))
        for start in range(0, len(positions), step):
            rows = slice(start, start + step)
            whole = self._rests.positions[frames[rows]].astype(float)
            whole[:, self._atoms] = positions[rows]
            box = self._rests.box
            given = (whole,) if box is None else (whole, box[frames[rows]].astype(float))
            energies[rows], of_all = self._energy.energies_and_gradients(*given)
            gradients[rows] = of_all[:, self._atoms]
        return energies - own, gradients

    def half_log_det(self, positions: Tensor) -> Tensor:
        """log of Fixman's factor (n,) of the constraints that are connected with the part."""
        tied = torch.from_numpy(self._rests.some(self._frames, self._tied.atoms)).to(positions)
        tied = tied.repeat_interleave(len(positions) // len(tied), dim=0)
        places = torch.from_numpy(np.searchsorted(self._tied.atoms, self._atoms))
        log_det: Tensor = self._tied.half_log_det(
            tied.index_copy(1, places.to(positions.device), positions)
        )
        return log_det
