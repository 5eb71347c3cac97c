"""ECV_UMBRELLAS_LINE and ECV_UMBRELLAS_FILE: harmonic windows along a line, or from a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.expanded.expansions import (
    EXPANSION_KEYWORDS,
    MAX_STATES,
    Expansion,
)
from openmm_cgan.plumed.files.fields import read_fields

_WINDOW_KEYWORDS = (
    Keyword("BARRIER", "real", "guess of the free-energy barrier"),
    Keyword("ADD_P0", "flag", "the run without a window is a state too"),
    Keyword("LOWER_HALF_ONLY", "flag", "a window pushes up only"),
)


class Umbrellas(Expansion):
    """States ``u_k = sum over values (s - centre_k)^2 / 2 sigma_k^2``.

    Attributes
    ----------
    centres, sigmas : ndarray, shape (n_windows, n_arguments)
    """

    centres: np.ndarray
    sigmas: np.ndarray

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        barrier = given.options["BARRIER"]
        self._barrier: float = math.inf if barrier is None else barrier
        self._plain = int(given.options["ADD_P0"])
        self._lower: bool = given.options["LOWER_HALF_ONLY"]
        self._kt = math.nan

    @property
    def names(self) -> list[str]:
        plain = ["_".join(["P0"] * len(self.arguments))] * self._plain
        return plain + ["_".join(f"{x:g}" for x in centre) for centre in self.centres]

    def start(self, kt: float) -> None:
        self._kt = kt

    def reduced(self, arguments: Sequence[Any]) -> list[Any]:
        return [self._with_plain(0.5 * way**2) for way in self._ways(arguments)]

    def reduced_slopes(self, arguments: Sequence[float]) -> list[np.ndarray]:
        ways = enumerate(self._ways(arguments))
        return [self._with_plain(way / self.sigmas[:, i]) for i, way in ways]

    def guessed(self, arguments: Sequence[float]) -> np.ndarray:
        limit = self._barrier / self._kt
        return np.sum([np.minimum(limit, u) for u in self.reduced(arguments)], axis=0)

    def _ways(self, arguments: Sequence[Any]) -> list[Any]:
        """Distances from the centres over SIGMA, shape (..., n_windows) for each value."""
        ways = []
        for i, (value, s) in enumerate(zip(self.arguments, arguments, strict=True)):
            x = np.asarray(s, dtype=float)[..., None]
            way = value.difference(self.centres[:, i], x) / self.sigmas[:, i]
            ways.append(np.minimum(way, 0.0) if self._lower else way)
        return ways

    def _with_plain(self, of_windows: Any) -> Any:
        if not self._plain:
            return of_windows
        return np.concatenate([np.zeros_like(of_windows[..., :1]), of_windows], axis=-1)


class EcvUmbrellasLine(Umbrellas):
    """Windows of one width along a line."""

    name = "ECV_UMBRELLAS_LINE"
    summary = "harmonic windows along a line, for OPES_EXPANDED"
    keywords = (
        *EXPANSION_KEYWORDS,
        Keyword("CV_MIN", "reals", "where the line begins", compulsory=True),
        Keyword("CV_MAX", "reals", "where the line ends", compulsory=True),
        Keyword("SIGMA", "real", "width of a window", compulsory=True),
        Keyword("SPACING", "real", "distance of windows in units of SIGMA", default=1.0),
        *_WINDOW_KEYWORDS,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.sigma: float = options["SIGMA"]
        if not self.sigma > 0 or not options["SPACING"] > 0:
            raise self.error("SIGMA", "SIGMA and SPACING must be positive")
        self.centres = self._line(options["CV_MIN"], options["CV_MAX"], options["SPACING"])
        self.sigmas = np.full_like(self.centres, self.sigma)

    def _line(self, begin: Sequence[float], end: Sequence[float], spacing: float) -> np.ndarray:
        a, b = np.array(begin), np.array(end)
        windows = float(np.linalg.norm(b - a)) / (self.sigma * spacing)
        if windows > MAX_STATES:
            raise self.error("SPACING", f"more than {MAX_STATES} windows")
        n, goes_round = 1 + math.floor(windows + 0.5), True  # half a window is one, as C++ rounds
        for value, low, high in zip(self.arguments, begin, end, strict=True):
            if value.domain is not None and (low < value.domain[0] or high > value.domain[1]):
                raise self.error("CV_MIN", f"the line leaves the domain of {value.name}")
            goes_round &= value.domain == (low, high)
        if n == 1:
            return ((a + b) / 2)[None]
        centres = np.array([a + k * (b - a) / (n - 1) for k in range(n)])
        return centres[:-1] if goes_round else centres


class EcvUmbrellasFile(Umbrellas):
    """Windows whose centres and widths stand in a file, such as KERNELS of OPES."""

    name = "ECV_UMBRELLAS_FILE"
    summary = "harmonic windows from a file of centres and widths, for OPES_EXPANDED"
    keywords = (
        *EXPANSION_KEYWORDS,
        Keyword(
            "FILE", "text", "with columns time, of values, and sigma_ of each", compulsory=True
        ),
        *_WINDOW_KEYWORDS,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        name, names = given.options["FILE"], [value.name for value in self.arguments]
        widths = [f"sigma_{name}" for name in names]
        try:
            table = read_fields(given.folder / name)
            if missing := [x for x in ("time", *names, *widths) if x not in table.columns]:
                raise ValueError(f"{name} has no column {missing[0]}")
            table.require_finite([*names, *widths])
        except (OSError, ValueError) as error:
            raise self.error(f"FILE={name}", str(error)) from None
        self.centres, self.sigmas = (
            np.stack([table.columns[name] for name in columns], axis=-1)
            for columns in (names, widths)
        )
        if not 1 <= len(self.centres) <= MAX_STATES or np.any(self.sigmas == 0):
            raise self.error(f"FILE={name}", f"expected 1 to {MAX_STATES} windows of some width")
