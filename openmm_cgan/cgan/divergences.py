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

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

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

    def mean(self) -> Tensor:
        """Over those that count."""
        return torch.where(self.kept, self.each, 0.0).sum() / self.kept.sum().clamp(min=1)

    def bounded(self) -> Tensor:
        """All of them (n,), without derivatives."""
        return torch.where(self.kept, self.each.detach(), self.highest)


def divergence(
    generator: nn.Module, target: Target, made: Tensor, condition: Tensor, cvs: Tensor
) -> Divergence:
    """How much denser a generator is than the target, at features that its weights move.

    Parameters
    ----------
    generator : DensityGenerator
    target : Target
    made : Tensor, shape (n, n_features)
        Functions of its weights.
    condition : Tensor, shape (n, n_condition)
    cvs : Tensor, shape (n, n_cvs)
        [CV units]
    """
    frozen = {f"generator.{k}": v.detach() for k, v in generator.named_parameters()}
    log_q = functional_call(_Density(generator), frozen, (made, condition)).double()
    each = target.reduced_energy(made, cvs) + log_q
    known = each.detach()
    finite = torch.isfinite(known) & target.features.within(made.detach())
    median = known[finite].median() if finite.any() else known.new_zeros(())
    highest = median + TOO_HIGH
    return Divergence(each, finite & (known < highest), highest)


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


def moved_frames(generator: Any, features: Tensor, condition: Tensor) -> Tensor:
    """Features (n, n_features) of frames as functions of the weights: at rest they are the same.

    The normal deviates of which the generator would make them are held, and their torsions.
    """
    with torch.no_grad():
        z = generator.deviates_of(features, condition)
    torsions = generator.torsions_of(features)
    moved: Tensor = generator.at_torsions(torsions, z, condition)[0]
    return moved


class _Density(nn.Module):
    """A generator as a function of its parameters."""

    def __init__(self, generator: Any) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Log density (n,) of features (n, n_features) given conditions (n, n_condition)."""
        log_prob: Tensor = self.generator.log_prob(features, condition)
        return log_prob


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
