"""What both backends that PLUMED itself runs answer alike: what only native forces can give."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

import numpy as np
import openmm

from openmm_cgan.checkpoints import SavedState
from openmm_cgan.plumed.input.language import Problem
from openmm_cgan.plumed.libplumed.instance import flush_all


class RunByPlumed:
    """An input that PLUMED runs: it keeps its state itself, and gives values without derivatives.

    Attributes
    ----------
    name : str
        Of the backend.
    """

    name: ClassVar[str]
    static = False  # for all that is known
    remembers = False
    needs_energy = False  # unless the kernel finds that it does

    @property
    def why_not_saved(self) -> str:
        """Why the state can not go into a checkpoint."""
        return (
            f"backend='{self.name}': PLUMED keeps its state in its own files; go on with "
            "PlumedBias(..., restart=True)"
        )

    @property
    def why_no_derivatives(self) -> str:
        """Why the values are no differentiable tensors."""
        return (
            f"the CVs are those of the {self.name} backend, which has no derivatives for"
            " torch; write the input with natively known actions"
        )

    def flush(self) -> None:
        """Hand PLUMED's files to the operating system."""
        flush_all()

    def refusals(self, system: openmm.System) -> list[Problem]:
        """None: whatever PLUMED can not do, it says where it reads the input."""
        return []

    def resume(self, positions: np.ndarray, box: np.ndarray | None, step: int) -> None:
        """Nothing to do: PLUMED begins its lists itself.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            Box vectors in rows [nm].
        step : int
        """

    def tell_energy(self, potential: float) -> None:
        """Nothing to do: openmm-plumed takes no input with ENERGY."""

    def cv_columns(self, positions: Any) -> NoReturn:
        """Refuse: there are no derivatives.

        Raises
        ------
        ValueError
        """
        raise ValueError(self.why_no_derivatives)

    def bias_of_cvs(self, cvs: np.ndarray, step: int) -> NoReturn:
        """Refuse: PLUMED knows the bias of configurations alone.

        Parameters
        ----------
        cvs : ndarray, shape (n, n_read)
            [CV units]
        step : int

        Raises
        ------
        ValueError
        """
        raise ValueError(f"the bias as a function of CVs is not known to backend='{self.name}'")

    def saved(self, step: int) -> NoReturn:
        """Refuse: see `why_not_saved`.

        Raises
        ------
        ValueError
        """
        raise ValueError(self.why_not_saved)

    def go_on(self, timestep: float, state: SavedState) -> NoReturn:
        """Refuse: see `why_not_saved`.

        Raises
        ------
        ValueError
        """
        raise ValueError(self.why_not_saved)
