"""LatentMap: a trained flow as a map from latent numbers to configurations.

Where p(x | cv) is to be walked on, latent numbers are good coordinates: whatever the flow has
learned (stiff bonds, correlated angles, the wells of a torsion) is straightened out there, and what
is left to walk over is its error, the importance weight.

All is done in float64, unlike generation: what is mapped back must be where it came from.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.devices import own_defaults
from openmm_cgan.features import ConditionEncoding, Featurization
from openmm_cgan.generators import Generator, LatentGenerator


def invertible(generator: Generator) -> LatentGenerator:
    """The generator itself in float64, a copy; ValueError if it has no latent numbers."""
    if not isinstance(generator, LatentGenerator):
        raise ValueError(f"a {type(generator).__name__} can not be inverted: it is no flow")
    made: Any = copy.deepcopy(generator)
    made.double().requires_grad_(False)
    return made


class LatentMap:
    """Latent numbers to configurations of a trained flow, and back.

    Parameters
    ----------
    generator : Generator
        It is left as it is.
    features : Featurization
        What its features mean.
    conditions : ConditionEncoding
        What it is told of CVs.

    Attributes
    ----------
    n_normal, n_angles : int
        Latent numbers: standard normal ones, then angles [rad] with a density of their own, that of
        the torsions: where this is low the numbers that they are made of lie too near together.

    Raises
    ------
    ValueError
        If its generator can not be inverted.
    """

    def __init__(
        self, generator: Generator, features: Featurization, conditions: ConditionEncoding
    ) -> None:
        self._generator = invertible(generator)
        self._features, self._conditions = features, conditions
        self.n_normal, self.n_angles = self._generator.n_normal, self._generator.n_angles

    @own_defaults()
    def draw(self, cvs: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        """Latent numbers (n, n_normal + n_angles), one row for each of the CVs (n, n_cvs)."""
        rng = torch.Generator().manual_seed(seed)
        condition = self._conditions.encode(self._conditions.copied(cvs))
        return self._generator.draw_latent(condition, rng).cpu().numpy()

    @own_defaults()
    def latent(
        self, positions: NDArray[np.float64], cvs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Latent numbers of configurations.

        Parameters
        ----------
        positions : ndarray, shape (n, n_atoms, 3)
            [nm]
        cvs : ndarray, shape (n, n_cvs)
            Their conditions [CV units].

        Returns
        -------
        ndarray, shape (n, n_normal + n_angles)
        """
        with torch.no_grad():
            features = self._features.encode(self._conditions.copied(positions))
            condition = self._conditions.encode(self._conditions.copied(cvs))
            return self._generator.to_latent(features, condition).cpu().numpy()

    @own_defaults()
    def mapped(self, latent: NDArray[np.float64], cvs: NDArray[np.float64]) -> Mapped:
        """Configurations of latent numbers, with what leads back.

        Parameters
        ----------
        latent : ndarray, shape (n, n_normal + n_angles)
        cvs : ndarray, shape (n, n_cvs)
            Conditions [CV units].
        """
        y, c = self._conditions.copied(latent).requires_grad_(), self._conditions.copied(cvs)
        condition = self._conditions.encode(c)
        features, log_q, log_angles = self._generator.from_latent(y, condition)
        x, log_det = self._features.decode_with_log_det(features, c)
        log_q = log_q - self._features.log_scale - log_det
        return Mapped(y, x, log_q, log_angles, self._features.within(features.detach()))


class Mapped:
    """Configurations made of latent numbers.

    Attributes
    ----------
    positions : ndarray, shape (n, n_atoms, 3)
        [nm]
    log_prob : ndarray, shape (n,)
        Log densities, as `ConditionalGenerator.log_prob` has them; infinite where a coordinate was
        stopped at a bound.
    log_angles : ndarray, shape (n,)
        Log densities of the angles among the latent numbers [1/rad].
    """

    def __init__(
        self, latent: Tensor, positions: Tensor, log_prob: Tensor, log_angles: Tensor, kept: Tensor
    ) -> None:
        self._latent, self._positions, self._log_prob = latent, positions, log_prob
        self._log_angles = log_angles
        self.positions: NDArray[np.float64] = positions.detach().cpu().numpy()
        known = torch.where(kept, log_prob.detach(), math.inf)
        self.log_prob: NDArray[np.float64] = known.cpu().numpy()
        self.log_angles: NDArray[np.float64] = log_angles.detach().cpu().numpy()

    @own_defaults()
    def angle_slopes(self) -> NDArray[np.float64]:
        """Gradient (n, n_normal + n_angles) of `log_angles` by the latent numbers."""
        if not self._log_angles.requires_grad:  # there are none
            return np.zeros(self._latent.shape)
        total = self._log_angles.sum()
        (found,) = torch.autograd.grad(total, self._latent, retain_graph=True)
        return found.nan_to_num().cpu().numpy()

    @own_defaults()
    def pulled_back(self, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        r"""Gradient of log target(x) - log q(x\|c) by the latent numbers.

        Parameters
        ----------
        slopes : ndarray, shape (n, n_atoms, 3)
            Of the log target by positions [1/nm]; NaN in rows where it has no density.

        Returns
        -------
        ndarray, shape (n, n_normal + n_angles)
            Zero in such rows, and where it is not finite.
        """
        given = torch.from_numpy(slopes).to(self._positions.device)
        alive = given.isfinite().all(dim=2).all(dim=1)
        weights = torch.where(alive[:, None, None], given, 0.0)
        (found,) = torch.autograd.grad(
            [self._positions, self._log_prob], self._latent, [weights, -alive.double()]
        )
        return torch.where(alive[:, None] & torch.isfinite(found), found, 0.0).cpu().numpy()
