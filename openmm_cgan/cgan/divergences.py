"""How far a flow is from the density of an energy, with gradients of little noise.

Both Kullback-Leibler distances fall by their path gradients [1]_, [2]_: where log p - log q is the
same everywhere they vanish, whatever the batch. Of configurations that the flow makes that is the
reverse distance. Of frames it is the forward one: the noise of which the flow would make a frame is
held, and the frame moves with the weights; forces then say of each frame how the density goes on
around it, so that frames are not learned by heart. Torsions stay where they are in both, for forces
do not know how much one well of them weighs against another across a barrier, and are steep where
atoms meet (of ACE-VAL-NME the path gradient of the torsions had 18 times the noise of the score);
what a configuration weighs among others at the same CVs does know (`weighed_torsions`).

References
----------
.. [1] G. Roeder, Y. Wu, D. Duvenaud, Sticking the Landing, NeurIPS 2017, arXiv 1703.09194.
.. [2] L. Vaitl, L. Winkler, L. Richter, P. Kessel, Fast and Unified Path Gradient Estimators for
   Normalizing Flows, ICLR 2024, arXiv 2403.15881.
"""

import copy
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from openmm_cgan.short_reprs import short_repr

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
    """

    each: Tensor
    kept: Tensor

    __repr__ = short_repr

    @classmethod
    def of(cls, each: Tensor, within: Tensor) -> Self:
        """Of u + log q of configurations made alike (n,), and which lie within bounds (n,)."""
        known = each.detach()
        finite = torch.isfinite(known) & within
        median = known[finite].median() if finite.any() else known.new_zeros(())
        return cls(each, finite & (known < median + TOO_HIGH))

    def mean(self) -> Tensor:
        """Over those that count."""
        return torch.where(self.kept, self.each, 0.0).sum() / self.kept.sum().clamp(min=1)


def held(generator: nn.Module) -> nn.Module:
    """The same generator, its weights the same numbers whenever they change, without derivatives.

    What a path leads through twice moves with the weights the first time alone.
    """
    shared = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in generator.parameters()}
    return copy.deepcopy(generator, shared)


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
