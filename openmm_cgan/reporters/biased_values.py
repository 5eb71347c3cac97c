"""Whether the bias of frames is a function of the CVs that they keep."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from openmm_cgan.collective_variable import NotOfTheCVsError

logger = logging.getLogger("openmm_cgan")


@runtime_checkable
class OfCVs(Protocol):
    """A bias that can be asked at CV values, as a PlumedBias."""

    @property
    def variables(self) -> Any:
        """The CVs."""
        ...

    @property
    def static(self) -> bool:
        """Whether it is the same function at all times."""
        ...

    def bias_of_cvs(self, cvs: Any) -> np.ndarray:
        """The bias (n,) [kJ/mol] at CV values (n, n_cvs)."""
        ...


def values_can_wait(bias: OfCVs) -> bool:
    """Whether CVs and bias may be computed later, for many frames at once."""
    try:
        return bias.static and bias.bias_of_cvs(_nowhere(bias)).shape == (0,)
    except ValueError:  # it depends on more than the CVs that are kept
        return False


def tell_of_other_variables(bias: Any, folder: Path) -> None:
    """Warn where frames are biased by more than their CVs, as far as that is known.

    Their bias energy is right, and what is weighed by it. Generators learn p(x | cv) from frames
    as they are.
    """
    if not isinstance(bias, OfCVs):
        return
    try:
        bias.bias_of_cvs(_nowhere(bias))
    except NotOfTheCVsError as told:
        logger.warning(
            "frames in %s: %s. What is learned from them at values of the CVs is learned under "
            "that bias", folder, told,
        )  # fmt: skip
    except ValueError:  # only PLUMED itself knows
        return


def _nowhere(bias: OfCVs) -> np.ndarray:
    """No CV values: any that are made up may lie off a grid, and be told of."""
    return np.zeros((0, len(bias.variables)))
