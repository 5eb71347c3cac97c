"""QuarticWell: a double well of one slow variable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class QuarticWell:
    r"""A(z) = h ((z/w)^2 - 1)^2 + t z/w.

    Parameters
    ----------
    barrier : float
        h [kJ/mol].
    half_width : float
        w, the distance of the wells from z = 0 [nm].
    tilt : float
        t [kJ/mol]: the right well lies about 2 t above the left one.
    """

    barrier: float = 3.0
    half_width: float = 1.5
    tilt: float = 0.0

    def energy(self, z: Any) -> Any:
        """[kJ/mol] at z [nm], arrays or tensors."""
        scaled = z / self.half_width
        return self.barrier * (scaled**2 - 1) ** 2 + self.tilt * scaled

    def slope(self, z: Any) -> Any:
        """Derivative [kJ/mol/nm] at z [nm], arrays or tensors."""
        scaled = z / self.half_width
        return (4 * self.barrier * scaled * (scaled**2 - 1) + self.tilt) / self.half_width

    def reach(self, kT: float) -> float:
        """|z| [nm] beyond which it is 40 kT and more above any tilt."""
        height = (40 * kT + 8 * abs(self.tilt)) / self.barrier
        return float(self.half_width * np.sqrt(1 + np.sqrt(height)))

    def expression(self, z: str) -> str:
        """The energy in OpenMM's words, for an expression z."""
        scaled = f"(({z})/{self.half_width!r})"
        return f"({self.barrier!r}*({scaled}^2 - 1)^2 + {self.tilt!r}*{scaled})"
