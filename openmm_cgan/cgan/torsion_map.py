"""TorsionMap: the torsions that turn in what a flow makes, with their density by themselves.

A flow draws them before bonds, angles and stiff torsions, so that their density is known without
those. CVs that are torsions of the Z-matrix are among them, and are what their condition says.

All is done in float64, as in `LatentMap`.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openmm_cgan.devices import own_defaults
from openmm_cgan.features import ConditionEncoding, Featurization, ZMatrixFeatures
from openmm_cgan.features.scaling import placed_coordinates
from openmm_cgan.generators import Generator, TurningGenerator


class TorsionMap:
    """Torsions of a trained flow: drawn, and with their density.

    Parameters
    ----------
    generator : Generator
        It is left as it is.
    features : Featurization
    conditions : ConditionEncoding
        What it is told of CVs.

    Its attributes are those of `proposals.samplers.TorsionMap`.

    Raises
    ------
    ValueError
        If there is no density of torsions, or no torsion.
    """

    def __init__(
        self, generator: Generator, features: Featurization, conditions: ConditionEncoding
    ) -> None:
        if not isinstance(generator, TurningGenerator):
            raise ValueError(f"a {type(generator).__name__} knows no density of torsions")
        if not isinstance(features, ZMatrixFeatures):
            raise ValueError(f"{type(features).__name__} has no torsions: ZMatrixFeatures has")
        made: Any = copy.deepcopy(generator)
        self._generator: TurningGenerator = made.double().requires_grad_(False)
        self._conditions = conditions
        z_matrix, first = features.z_matrix, sum(features.widths[:2])  # column of a torsion
        placed = placed_coordinates(z_matrix, features.variables)
        cvs = [(cv, column, scale) for cv, column, scale in placed if column >= first]
        self.placed = np.array([cv for cv, _, _ in cvs], dtype=np.int64)
        self.scales = np.array([scale for _, _, scale in cvs], dtype=float)
        columns = [column for _, column, _ in cvs] + features.wide.tolist()
        if not columns:
            raise ValueError("no torsion turns in what was trained on")
        turned = z_matrix.rows[len(z_matrix.rows) - features.widths[2] :]
        self.rows = features.encoded_atoms[turned[np.array(columns) - first]]
        self.folds = np.array([1] * len(cvs) + list(generator.folds), dtype=np.int64)

    @own_defaults()
    def draw(
        self, cvs: NDArray[np.float64], kept: NDArray[np.float64], seed: int
    ) -> NDArray[np.float64]:
        """Torsions for conditions.

        Parameters
        ----------
        cvs : ndarray, shape (n, n_cvs)
            Conditions [CV units].
        kept : ndarray, shape (n, n_torsions)
            Torsions [rad] that are as they are; NaN: to be drawn. Those that are CVs are always
            what ``cvs`` says.
        seed : int

        Returns
        -------
        ndarray, shape (n, n_torsions)
            [rad]
        """
        n_placed = len(self.placed)
        condition = self._conditions.encode(self._conditions.copied(cvs))
        rng = torch.Generator().manual_seed(seed)
        others = self._conditions.copied(kept[:, n_placed:])
        made = self._generator.draw_torsions(condition, rng, others).cpu().numpy()
        return np.concatenate([cvs[:, self.placed] / self.scales, made], axis=1)

    @own_defaults()
    def log_prob(
        self, torsions: NDArray[np.float64], cvs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Log density (n, n_torsions) [1/rad] of each torsion given those before it.

        Zero for those that are CVs, which conditions say.

        Parameters
        ----------
        torsions : ndarray, shape (n, n_torsions)
            [rad]
        cvs : ndarray, shape (n, n_cvs)
            Conditions [CV units].
        """
        n_placed = len(self.placed)
        condition = self._conditions.encode(self._conditions.copied(cvs))
        others = self._conditions.copied(torsions[:, n_placed:])
        known = np.zeros_like(torsions)
        found = self._generator.log_prob_of_each_torsion(others, condition)
        known[:, n_placed:] = found.cpu().numpy()
        return known
