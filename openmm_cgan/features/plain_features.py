"""PlainFeatures: coordinates as they stand, scaled for a network; for particles without bonds.

Particles in an external field, the states of a stochastic differential equation, or any table of
numbers: nothing is turned, moved or measured, so that place and orientation are kept. What does not
vary becomes a constant. A CV that is a linear function of the coordinates, one of them above all,
is found in the frames and put back exactly at decoding, by solving it for one coordinate, which is
then no feature.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.rotors import Rotor

if TYPE_CHECKING:
    from openmm_cgan.frames import Frames

CONSTANT = (
    1e-6  # of its largest value: what a coordinate varies by at least; float32 rounds to 6e-8
)
ROUNDING = 3e-7  # of the largest value of a coordinate: errors of frames kept as float32
LINEAR = 1e-5  # of a CV's deviation: how far a linear function may be from it
WHOLE = 1e-6  # a slope that near to a whole number is that number
INDEPENDENT = 1e-3  # of a CV's slope: what must be left of it when others are solved for
ROWS = 2000  # frames that a linear function is fitted to, and as many again for each coordinate


@dataclass(frozen=True)
class LinearVariable:
    """A CV that is ``offset + slopes . coordinates``, and the coordinate that it is solved for.

    Attributes
    ----------
    cv : int
        Which CV.
    slopes : ndarray, shape (3 n_atoms,)
        [CV unit/nm]
    offset : float
        [CV unit]
    pivot : int
        Number of the coordinate.
    """

    cv: int
    slopes: NDArray[np.float64]
    offset: float
    pivot: int


class PlainFeatures:
    """A `Featurization` over Cartesian coordinates, or whatever else stands in their place.

    A feature vector holds the coordinates that vary, standardised, but for one of each linear CV.

    Parameters
    ----------
    atoms : ndarray of int, shape (n_atoms,)
        Of the frames.
    centre, scale : Tensor, shape (3 n_atoms,)
        Mean and standard deviation of each coordinate [nm], float64.
    linear : Tensor of int, shape (n_linear,)
        Coordinates that are features.
    placed : sequence of LinearVariable
        CVs that are linear functions of the coordinates.
    """

    n_pairs = 0
    keeps_place = True

    def __init__(
        self,
        atoms: NDArray[np.int64],
        centre: Tensor,
        scale: Tensor,
        linear: Tensor,
        placed: Sequence[LinearVariable],
    ) -> None:
        self.atoms = atoms
        self.centre, self.scale, self.linear = centre, scale, linear
        self.placed = tuple(placed)
        self.n_linear = len(linear)
        self.placed_variables = tuple(one.cv for one in self.placed)
        self._pivots = torch.tensor([one.pivot for one in self.placed], dtype=torch.int64)
        slopes = np.array([one.slopes for one in self.placed]).reshape(-1, len(centre))
        self._slopes = torch.from_numpy(slopes)
        self._offsets = torch.tensor([one.offset for one in self.placed], dtype=torch.float64)
        self._solved = torch.linalg.inv(self._slopes[:, self._pivots])

    @classmethod
    def fit(cls, frames: "Frames", topology: Any = None) -> Self:
        """Find the scaling of frames, and the CVs that are linear functions of their coordinates.

        Parameters
        ----------
        frames : Frames
            positions (n_frames, n_atoms, 3) [nm], as they are.
        topology : optional
            Of no use to it.
        """
        x = frames.positions.reshape(len(frames), -1).astype(np.float64)
        largest, scale = np.abs(x).max(axis=0), x.std(axis=0)
        varying = np.flatnonzero(scale > CONSTANT * largest)
        placed: list[LinearVariable] = []
        for k, variable in enumerate(frames.variables):
            if variable.domain is None:
                found = _linear_function(x[:, varying], frames.cvs[:, k], largest[varying])
                if found is not None:
                    slopes = np.zeros(x.shape[1])
                    slopes[varying] = found[0]
                    placed += _solvable(placed, k, slopes, found[1], scale)
        features = np.setdiff1d(varying, [one.pivot for one in placed])
        return cls(
            frames.atoms,
            torch.from_numpy(x.mean(axis=0)),
            torch.from_numpy(scale),
            torch.from_numpy(features),
            placed,
        )

    @property
    def encoded_atoms(self) -> NDArray[np.int64]:
        """The same atoms."""
        return self.atoms

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.atoms)

    @property
    def log_scale(self) -> float:
        """log of the volume of coordinates [nm] that a unit of features and CVs spans."""
        solved = torch.linalg.slogdet(self._solved)[1]
        return float(self.scale[self.linear].log().sum() + solved)

    @property
    def constant_bonds(self) -> NDArray[np.int64]:
        """None: no distances are held."""
        return np.zeros((0, 2), dtype=np.int64)

    @property
    def constant_others(self) -> list[str]:
        """Coordinates that do not vary, in words."""
        varying = {*self.linear.tolist(), *self._pivots.tolist()}
        constant = [k for k in range(len(self.centre)) if k not in varying]
        return [f"{'xyz'[k % 3]} of atom {self.atoms[k // 3]}" for k in constant]

    def encode(self, positions: Tensor) -> Tensor:
        """Features (n, n_linear) of positions (n, n_atoms, 3) [nm]."""
        x = positions.double().flatten(1)[:, self.linear]
        return (x - self.centre[self.linear]) / self.scale[self.linear]

    def encode_with_log_det(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        r"""Features (n, n_linear) of positions (n, n_atoms, 3) [nm], and zeros (n,)."""
        return self.encode(positions), self.centre.new_zeros(len(positions))

    def decode(self, features: Tensor, cvs: Tensor) -> Tensor:
        """Positions (n, n_atoms, 3) [nm] of features (n, n_linear), linear CVs placed."""
        scaled = features.double() * self.scale[self.linear] + self.centre[self.linear]
        x = self.centre.repeat(len(features), 1).index_copy(1, self.linear, scaled)
        if self.placed:
            x = x.index_fill(1, self._pivots, 0.0)
            missing = cvs[:, list(self.placed_variables)].double() - self._offsets
            solved = (missing - x @ self._slopes.T) @ self._solved.T
            x = x.index_copy(1, self._pivots, solved)
        return x.unflatten(1, (-1, 3))

    def decode_with_log_det(self, features: Tensor, cvs: Tensor) -> tuple[Tensor, Tensor]:
        r"""Positions (n, n_atoms, 3), and zeros (n,): log\|J\| is the same everywhere."""
        return self.decode(features, cvs), self.centre.new_zeros(len(features))

    def within(self, features: Tensor) -> Tensor:
        """True (n,): no coordinate is ever stopped."""
        return features.new_ones(len(features), dtype=torch.bool)

    def placeable(self, cv: int) -> tuple[float, float]:
        """Any value."""
        return -math.inf, math.inf

    def folds(self, rotors: Sequence[Rotor]) -> list[int]:
        """Empty: there are no pairs."""
        return []

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All numbers that make it again, by name.

        Returns
        -------
        dict of str to ndarray
            ``atoms`` (n_atoms,), ``centre`` and ``scale`` (3 n_atoms,) [nm], ``linear``
            (n_linear,); of the p linear CVs ``placed`` and ``pivots`` (p,), ``slopes``
            (p, 3 n_atoms) [CV unit/nm], ``offsets`` (p,) [CV unit].
        """
        scaling = {"centre": self.centre, "scale": self.scale, "linear": self.linear}
        solved = {"pivots": self._pivots, "slopes": self._slopes, "offsets": self._offsets}
        own = {name: tensor.numpy() for name, tensor in (scaling | solved).items()}
        return {"atoms": self.atoms, "placed": np.array(self.placed_variables, np.int64), **own}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], variables: Sequence[CollectiveVariable]
    ) -> Self:
        """Make it again from its `arrays`.

        Raises
        ------
        ValueError
            If their shapes do not belong together.
        """
        n = (3 * len(arrays["atoms"]),)
        found = (arrays["centre"].shape, arrays["scale"].shape, arrays["slopes"].shape[1:])
        if found != (n, n, n):
            raise ValueError(f"centre, scale and slopes have shapes {found}, expected {n} of each")
        centre, scale, linear = (
            torch.from_numpy(arrays[name]) for name in ("centre", "scale", "linear")
        )
        rows = (arrays[name] for name in ("placed", "slopes", "offsets", "pivots"))
        placed = [
            LinearVariable(int(cv), slopes, float(offset), int(pivot))
            for cv, slopes, offset, pivot in zip(*rows, strict=True)
        ]
        return cls(arrays["atoms"], centre, scale, linear, placed)


def _linear_function(
    x: NDArray[np.float64], cv: NDArray[np.float64], largest: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float] | None:
    """Slopes (n_varying,) and offset of a CV that is linear in coordinates; None of another.

    Fitted to some of the frames and asked of the others, so that as many coordinates as frames make
    no CV linear.

    Parameters
    ----------
    x : ndarray, shape (n, n_varying)
        Coordinates that vary.
    cv : ndarray, shape (n,)
    largest : ndarray, shape (n_varying,)
        Largest absolute value of each coordinate.
    """
    deviation = cv.std()
    fitted = np.arange(0, len(x), max(2, len(x) // (ROWS + x.shape[1])))
    if deviation == 0 or len(fitted) <= x.shape[1]:
        return None
    centre, scale = x.mean(axis=0), x.std(axis=0)
    slopes = np.linalg.lstsq((x[fitted] - centre) / scale, cv[fitted] - cv.mean())[0] / scale
    # coordinates that have no part in it: their slopes are rounding
    slopes[np.abs(slopes * scale) < LINEAR * deviation] = 0.0
    whole = np.round(slopes)  # a CV that is a coordinate, to the last digit
    slopes = np.where((whole != 0) & (np.abs(slopes - whole) < WHOLE), whole, slopes)
    offset = float((cv - x @ slopes).mean())
    rounding = ROUNDING * float(np.abs(slopes) @ largest)
    if abs(offset) < rounding + ROUNDING * deviation:
        offset = 0.0
    off = np.abs(cv - offset - x @ slopes).max()
    return (slopes, offset) if off < LINEAR * deviation + rounding else None


def _solvable(
    placed: Sequence[LinearVariable],
    cv: int,
    slopes: NDArray[np.float64],
    offset: float,
    scale: NDArray[np.float64],
) -> list[LinearVariable]:
    """The CV with its pivot, the coordinate that it feels most; empty if others say it already."""
    left = slopes.copy()
    pivots = [one.pivot for one in placed]
    if placed:
        others = np.array([one.slopes for one in placed])
        left = slopes - np.linalg.solve(others[:, pivots].T, slopes[pivots]) @ others
        left[pivots] = 0.0
    pivot = int(np.argmax(np.abs(left * scale)))
    if np.abs(left * scale)[pivot] < INDEPENDENT * np.abs(slopes * scale).max():
        return []
    return [LinearVariable(cv, slopes, offset, pivot)]
