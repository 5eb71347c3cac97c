"""Molecules of a periodic run that belong together, at the images where they do.

OpenMM keeps each molecule wherever it has gone, or puts it into the box by itself: a ligand and the
chains around it may be box vectors apart. What is generated stands among them as in the frames that
it was learned from, where they are together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.frames.images import Tie, shifts_by, ties_among


class TiedMolecules:
    """Some molecules of a run, each tied to one that was next to it.

    Those that only surround what is generated are tied to each other first, so that a ligand that
    has left takes none of them along.

    Parameters
    ----------
    molecules : sequence of sequence of int
        All atoms of each molecule of the run.
    atoms, rest : ndarray of int, shape (n_generated,), (n_rest,)
        What is generated, and what it stands among.
    positions : ndarray, shape (n_atoms, 3)
        Of the run [nm], with what belongs together next to each other in some image.
    box : ndarray, shape (3, 3)
        Box vectors [nm].
    """

    def __init__(
        self,
        molecules: Sequence[Sequence[int]],
        atoms: NDArray[np.int64],
        rest: NDArray[np.int64],
        positions: NDArray[np.float64],
        box: NDArray[np.float64],
    ) -> None:
        wanted = np.concatenate([atoms, rest])
        whole = [np.array(m) for m in molecules if np.isin(m, wanted).any()]
        around = [m for m in whole if np.isin(m, rest).any()]
        others = [m for m in whole if not np.isin(m, rest).any()]
        # by the atoms that matter, of which there are few
        own, x = {int(a): i for i, a in enumerate(wanted)}, positions[wanted]
        number = {own[a]: m for m in whole for a in m.tolist() if a in own}
        first, then = (
            [np.array([own[a] for a in m.tolist() if a in own]) for m in group]
            for group in (around, others)
        )
        found = [*ties_among(x, box, first), *ties_among(x, box, then, first)]
        self._ties = [
            Tie(int(wanted[anchor]), int(wanted[atom]), number[atom]) for anchor, atom, _ in found
        ]

    def shifts(
        self, positions: NDArray[np.float64], box: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What brings them together, added to positions (n_atoms, 3) in a box (3, 3) [nm]."""
        return shifts_by(self._ties, positions[None], box[None])[0][0]
