"""Featurization: the contract of what turns positions into features, and features into positions.

A conditional generator makes feature vectors of any molecule, or of none; what they mean is said
here and nowhere else. The Z-matrix is one featurization; aligned Cartesian coordinates of a
protein, plain coordinates of particles without bonds, and a part of a system on a frozen rest are
others: a class with these attributes and methods, and a row in `FEATURIZATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.rotors import Rotor

if TYPE_CHECKING:
    from openmm_cgan.collective_variable import CollectiveVariable
    from openmm_cgan.frames import Frames


class Featurization(Protocol):
    r"""Turns positions of some atoms into feature vectors and back, with log\|J\|.

    A feature vector has ``n_linear`` numbers of about mean 0 and variance 1, then the cosines and
    then the sines of ``n_pairs`` angles. CVs that are coordinates of the featurization are no
    features: `decode` puts them where they are asked for.

    Attributes
    ----------
    n_linear, n_pairs : int
        Lengths of the parts of a feature vector.
    atoms : ndarray of int, shape (n_atoms,)
        What positions hold, as indices in the whole topology, in this order.
    n_atoms : int
    encoded_atoms : ndarray of int
        What the positions of `encode` hold: these atoms, and after them what they stand among.
    placed_variables : tuple of int
        Which CVs `decode` places exactly.
    log_scale : float
        The part of log\|J\| that is the same everywhere, for the standardisation.
    keeps_place : bool
        Whether positions stand where they belong, as in an external field; False where place and
        orientation are left out, and may be chosen freely.
    constant_bonds : ndarray of int, shape (k, 2)
        Atoms, in the whole topology, that `decode` puts at one distance always.
    constant_others : list of str
        What else it cannot make: coordinates that it does not vary, in words. A density is one
        over all of Cartesian space, constant bonds held, only where this is empty.
    """

    n_linear: int
    n_pairs: int
    placed_variables: tuple[int, ...]

    @property
    def keeps_place(self) -> bool: ...

    @property
    def atoms(self) -> NDArray[np.int64]: ...

    @property
    def n_atoms(self) -> int: ...

    @property
    def encoded_atoms(self) -> NDArray[np.int64]: ...

    @property
    def log_scale(self) -> float: ...

    @property
    def constant_bonds(self) -> NDArray[np.int64]: ...

    @property
    def constant_others(self) -> list[str]: ...

    @classmethod
    def fit(cls, frames: Frames, topology: Any) -> Self:
        """Fit what is standardised to frames of an openmm.app.Topology.

        Raises
        ------
        ValueError
            If the frames cannot be turned into features, or contradict their CVs.
        """
        ...

    def encode(self, positions: Tensor) -> Tensor:
        """Features (n, n_linear + 2 n_pairs) of ``encoded_atoms`` at (n, ..., 3) [nm], float64."""
        ...

    def encode_with_log_det(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        r"""Features (n, n_features), as `encode`, and log\|J\| (n,), as `decode_with_log_det`."""
        ...

    def decode(self, features: Tensor, cvs: Tensor) -> Tensor:
        """Positions (n, n_atoms, 3) [nm] of features (n, n_features); differentiable.

        Of the CVs (n, n_cvs) [CV units] those in ``placed_variables`` come out as they went in.
        """
        ...

    def decode_with_log_det(self, features: Tensor, cvs: Tensor) -> tuple[Tensor, Tensor]:
        r"""Positions (n, n_atoms, 3), as `decode`, and log\|J\| (n,) without `log_scale`.

        J is the derivative of Cartesian coordinates [nm] (position and orientation measured as
        `ZMatrix.log_det` says, where the featurization leaves them out) by features (the angles
        [rad] of the pairs) and placed CVs. So a density over features is one over positions by

            log q(x) = log q(features) - log_scale - log_det.
        """
        ...

    def within(self, features: Tensor) -> Tensor:
        """Whether (n,) `decode` keeps features (n, n_features) as they are.

        False where it stops a coordinate at a bound: no density is known there.
        """
        ...

    def placeable(self, cv: int) -> tuple[float, float]:
        """Lowest and highest value of a CV [CV unit] that `decode` can place; else infinite."""
        ...

    def folds(self, rotors: Sequence[Rotor]) -> list[int]:
        """Symmetry (n_pairs,) of each pair, 1 or 3, where the hydrogens of rotors are exchanged."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All numbers that make it again, by name, for a file; of any shapes."""
        ...

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], variables: Sequence[CollectiveVariable]
    ) -> Self:
        """Make it again from its `arrays`, in their shapes, and the CVs in the order of columns."""
        ...


# Frames and their topology to a fitted featurization: `ZMatrixFeatures.fit`, or one with choices.
Featurize = Callable[["Frames", Any], Featurization]
