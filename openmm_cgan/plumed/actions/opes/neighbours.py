"""The neighbour list of OPES: the kernels around a point, renewed where the variables move on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.opes.kernels import Kernels

COUNTS = ("steps", "due", "shown_size", "shown_steps")


@dataclass(frozen=True)
class Neighbours:
    """A list of kernels, as it stands after one step.

    Attributes
    ----------
    reach : float
        Squared distance of the farthest kernel that is listed, in that at which kernels end.
    patience : float
        Squared way, in the mean square distance of the kernels, after which the list is renewed.
    index : ndarray of int, shape (n_listed,)
        Ascending.
    centre, spread : ndarray, shape (n_arguments,)
        Where the list was made, and the mean square distance of its kernels from there.
    steps : int
        Steps since then.
    due : bool
        Whether the next step renews it in any case.
    shown_size, shown_steps : int
        What ``nlker`` and ``nlsteps`` are: how many are listed, and how old the last list became.
    """

    reach: float
    patience: float
    index: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    steps: int = 0
    due: bool = True
    shown_size: int = 0
    shown_steps: int = 0

    def after_step(self, point: list[float], kernels: Kernels) -> Neighbours:
        """The list after one more step, at a point of length n_arguments."""
        steps = self.steps + 1
        if len(kernels) == 0 or not (self.due or self._is_left(point, kernels)):
            return replace(self, steps=steps)
        index = np.flatnonzero(kernels.squares_from(point) <= self.reach * kernels.cutoff2)
        spread = np.zeros(len(point))
        for i, value in enumerate(kernels.arguments):
            away = value.difference(point[i], kernels.centres[index, i])
            # where no kernel is apart from the point, the width of the newest one
            spread[i] = np.mean(away * away) if np.any(away) else kernels.sigmas[-1, i] ** 2
        return replace(
            self,
            index=index,
            centre=np.array(point),
            spread=spread,
            steps=0,
            due=False,
            shown_size=len(index),
            shown_steps=steps,
        )

    def _is_left(self, point: list[float], kernels: Kernels) -> bool:
        for i, value in enumerate(kernels.arguments):
            away = float(value.difference(float(self.centre[i]), point[i]))
            if away * away > self.patience * float(self.spread[i]):
                return True
        return False

    def after_kernel(self, kernels: Kernels, due: bool) -> Neighbours:
        """The list once a kernel was laid, which `kernels` have listed themselves."""
        assert kernels.listed is not None
        index = kernels.listed
        return replace(self, index=index, shown_size=len(index), due=self.due or due)

    def saved(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps.

        ``list`` (n_listed,), ``list_centre`` (n_arguments,) [units of the arguments],
        ``list_spread`` (n_arguments,) [their squares], and counts of shape ().
        """
        arrays = {"list": self.index, "list_centre": self.centre, "list_spread": self.spread}
        return arrays | {f"list_{name}": np.array(int(vars(self)[name])) for name in COUNTS}

    def restored(self, arrays: dict[str, np.ndarray], n_kernels: int) -> Neighbours:
        """The list that a checkpoint has kept.

        Raises
        ------
        ValueError
            If it is of other shapes, or lists what is not there.
        """
        n = len(self.centre)
        index = saved_array(arrays, "list", (None,)).astype(int)
        if np.any(np.diff(index) <= 0) or np.any(index < 0) or np.any(index >= n_kernels):
            raise ValueError(f"the list of kernels in shape {index.shape} is none of {n_kernels}")
        steps, due, size, shown = (int(saved_array(arrays, f"list_{k}", ()).item()) for k in COUNTS)
        return replace(
            self,
            index=index,
            centre=saved_array(arrays, "list_centre", (n,)).copy(),
            spread=saved_array(arrays, "list_spread", (n,)).copy(),
            steps=steps,
            due=bool(due),
            shown_size=size,
            shown_steps=shown,
        )
