"""How far a flow is from the density of an energy, with gradients of little noise.

Both Kullback-Leibler distances fall by their path gradients [1]_, [2]_: where log p - log q is the
same everywhere they vanish, whatever the batch. Of configurations that the flow makes that is the
reverse distance. Of frames it is the forward one: the noise of which the flow would make a frame is
held, and the frame moves with the weights; forces then say of each frame how the density goes on
around it, so that frames are not learned by heart. Torsions stay where they are in both, for forces
do not know how much one well of them weighs against another across a barrier, and are steep where
atoms meet; what a configuration weighs among others at the same CVs does know [3]_. Of
ACE-VAL-NME the path gradient of the torsions had 18 times the noise of the score.

References
----------
.. [1] G. Roeder, Y. Wu, D. Duvenaud, Sticking the Landing, NeurIPS 2017, arXiv 1703.09194.
.. [2] L. Vaitl, L. Winkler, L. Richter, P. Kessel, Fast and Unified Path Gradient Estimators for
   Normalizing Flows, ICLR 2024, arXiv 2403.15881.
.. [3] L. Richter, A. Boustati, N. Nüsken, F. Ruiz, Ö. D. Akyildiz, VarGrad: A Low-Variance Gradient
   Estimator for Variational Inference, NeurIPS 2020, arXiv 2010.10436.
"""

import copy
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from openmm_cgan.short_reprs import short_repr

FARTHEST = 10.0  # from the mean of a group, as far as it counts
TOO_HIGH = 30.0  # above the median of a batch: a clash, whose gradient would be all there is


class Energy(Protocol):
    """What knows the energy of configurations, such as a Potential."""

    def energies_and_gradients(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energies (n,) [kJ/mol], gradients (n, n_atoms, 3) [kJ/mol/nm]; positions so too [nm]."""

    def half_log_det(self, positions: Any) -> Any:
        """log of the Fixman factor (n,); of tensors, differentiable."""


class CountedEnergy:
    """An Energy that knows of how many configurations it was asked."""

    def __init__(self, energy: Any) -> None:
        self.energy, self.n = energy, 0

    def energies_and_gradients(
        self, positions: np.ndarray, boxes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Those of the energy."""
        self.n += len(positions)
        given = () if boxes is None else (boxes,)  # that of a whole System alone takes them
        found: tuple[np.ndarray, np.ndarray] = self.energy.energies_and_gradients(positions, *given)
        return found

    def half_log_det(self, positions: Any) -> Any:
        """That of the energy."""
        return self.energy.half_log_det(positions)

    def tied_to(self, part: np.ndarray) -> Any:
        """Of the energy of a whole System."""
        return self.energy.tied_to(part)


@dataclass(frozen=True, repr=False)
class Target:
    """The density of features given CVs that an energy asks for.

    Attributes
    ----------
    features : Featurization
    energy : Energy
    kT : float
        [kJ/mol]
    """

    features: Any
    energy: Energy
    kT: float

    __repr__ = short_repr

    def reduced_energy(self, made: Tensor, cvs: Tensor) -> Tensor:
        """-log of it (n,), up to a constant, of features (n, n_features) at CVs (n, n_cvs)."""
        x, log_det = self.features.decode_with_log_det(made, cvs)
        u: Tensor = _EnergyOf.apply(x, self.energy) / self.kT
        return u - self.energy.half_log_det(x) - log_det


@dataclass(frozen=True, repr=False)
class Divergence:
    """u + log q of configurations, whose derivative is by the path alone.

    Attributes
    ----------
    each : Tensor, shape (n,)
    kept : Tensor of bool, shape (n,)
        Which of them count: finite, within bounds, and no clash.
    highest : Tensor, shape ()
        What stands for the others.
    """

    each: Tensor
    kept: Tensor
    highest: Tensor

    __repr__ = short_repr

    @classmethod
    def of(cls, each: Tensor, within: Tensor) -> Self:
        """Of u + log q of configurations made alike (n,), and which lie within bounds (n,)."""
        known = each.detach()
        finite = torch.isfinite(known) & within
        median = known[finite].median() if finite.any() else known.new_zeros(())
        highest = median + TOO_HIGH
        return cls(each, finite & (known < highest), highest)

    def mean(self) -> Tensor:
        """Over those that count."""
        return torch.where(self.kept, self.each, 0.0).sum() / self.kept.sum().clamp(min=1)

    def bounded(self) -> Tensor:
        """All of them (n,), without derivatives."""
        return torch.where(self.kept, self.each.detach(), self.highest)


def held(generator: nn.Module) -> nn.Module:
    """The same generator, its weights the same numbers whenever they change, without derivatives.

    What a path leads through twice moves with the weights the first time alone.
    """
    shared = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in generator.parameters()}
    return copy.deepcopy(generator, shared)


def loss_of_wells(each: Tensor, log_q: Tensor) -> Tensor:
    """The reverse distance as a function of how the torsions are distributed.

    Paths do not lead from well to well, and their gradient is noise. Here the score is taken: where
    u + log q lies below the mean of what was made at the same CVs, torsions become likelier. The
    mean of the others is the baseline [3]_; that of a group to which a frame was added makes it the
    gradient of the log-variance, which knows the wells that a flow has lost.

    Parameters
    ----------
    each : Tensor, shape (n, k)
        u + log q of k configurations at each of n values of the CVs.
    log_q : Tensor, shape (n, k)
        Log densities of their torsions, functions of the weights.

    Returns
    -------
    Tensor, shape ()
        Only its derivative has a meaning.
    """
    k = each.shape[1]
    above = (each - each.mean(1, keepdim=True)) * (k / (k - 1))
    return (above.clamp(-FARTHEST, FARTHEST) * log_q).mean()


class _EnergyOf(torch.autograd.Function):
    """Energies of positions, with the forces of the engine as derivatives."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, energy: Energy) -> Tensor:
        """Energies (n,) [kJ/mol] of positions (n, n_atoms, 3) [nm]."""
        energies, gradients = energy.energies_and_gradients(positions.detach().cpu().numpy())
        ctx.save_for_backward(torch.from_numpy(np.asarray(gradients)).to(positions.device))
        return torch.from_numpy(np.asarray(energies)).to(positions.device)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Their derivatives, the gradients (n, n_atoms, 3) [kJ/mol/nm] of the engine."""
        (gradients,) = ctx.saved_tensors
        return grads[0][:, None, None] * gradients, None
