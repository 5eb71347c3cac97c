"""What both backends that PLUMED itself runs answer alike: what only native forces can give."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import openmm

from openmm_cgan.checkpoints import SavedState
from openmm_cgan.plumed.input.language import Problem, Statement
from openmm_cgan.plumed.libplumed.enquiries import require_charges, require_masses
from openmm_cgan.plumed.libplumed.instance import flush_all
from openmm_cgan.plumed.libplumed.schedule import bias_strides
from openmm_cgan.plumed.libplumed.statements import has_biases
from openmm_cgan.plumed.native.forces.system_box import MEASURES, has_barostat

log = logging.getLogger("openmm_cgan")


class RunByPlumed:
    """An input that PLUMED runs: it keeps its state itself, and gives values without derivatives.

    Attributes
    ----------
    name : str
        Of the backend.
    statements : list of Statement
        Of the input, those of included files in their places.
    folder : Path
        Where the names of its files begin.
    """

    name: ClassVar[str]
    statements: list[Statement]
    folder: Path
    _masses: np.ndarray | None = None  # until they are known
    _charges: np.ndarray | None = None
    static = False  # for all that is known
    remembers = False
    _told_barostat = False
    needs_energy = False  # unless the kernel finds that it does

    @property
    def force_name(self) -> str:
        """Of the force in a System."""
        return f"PLUMED {self.name}" if has_biases(self.statements) else MEASURES

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

    @cached_property
    def _bias_strides(self) -> list[tuple[str, int]]:
        return bias_strides(self.statements)

    def knows_bias(self, step: int) -> bool:
        """Whether all biases act at a step: those with STRIDE are not worked out at others."""
        return not any(step % stride for _, stride in self._bias_strides)

    def tell_barostat(self, context: openmm.Context) -> None:
        """Say, once, that a barostat misses a bias at steps at which PLUMED leaves it out."""
        if self._told_barostat or not self._bias_strides:
            return
        self._told_barostat = True
        if has_barostat(context.getParameters()):
            who, stride = self._bias_strides[0]
            log.warning(
                "%s has STRIDE=%d: at steps between PLUMED does not work out its bias, and the "
                "barostat accepts volumes there as if there were none: leave STRIDE out, or take "
                "backend='native' if that covers the input", who, stride,
            )  # fmt: skip

    def require_bias(self, step: int) -> None:
        """Refuse a step at which PLUMED leaves out a bias.

        Raises
        ------
        ValueError
        """
        for who, stride in self._bias_strides:
            if step % stride:
                raise ValueError(
                    f"{who} has STRIDE={stride}: PLUMED does not work out its bias at step {step}; "
                    f"take frames at multiples of {stride}, or MD steps with backend='native'"
                )

    def set_masses(self, masses: np.ndarray, charges: np.ndarray) -> None:
        """Take masses [dalton] and charges [e] of all atoms of the system, shape (n_atoms,).

        Raises
        ------
        ValueError
            If atoms are weighed by mass and have none: PLUMED divides by zero there, or hangs; if
            charges are needed and not known, which are NaN then.
        """
        require_masses(self.statements, self.folder, masses)
        require_charges(self.statements, charges)
        self._masses, self._charges = masses, charges

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
