"""Consistency, restriction(lifting(c)) = c, as a loss: for CVs that nothing places exactly."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from openmm_cgan.cgan.settings import TrainingSettings
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import ConditionEncoding, Featurization

Restriction = Callable[[Tensor], Tensor]  # positions (n, n_atoms, 3) to CVs (n, n_cvs)


def require_restriction(settings: TrainingSettings, restriction: Restriction | None) -> None:
    """Raise ValueError where a loss of consistency is asked for and nothing measures the CVs."""
    if settings.consistency > 0 and restriction is None:
        raise ValueError(
            f"TrainingSettings(consistency={settings.consistency}) needs what measures the CVs:"
            " ConditionalGenerator.fit(..., restriction=bias.differentiable_cvs)"
        )


def inconsistency(
    features: Featurization,
    conditions: ConditionEncoding,
    restriction: Restriction,
    made: Tensor,
    cvs: Tensor,
) -> Tensor:
    """Mean square of restriction(lifting(c)) - c, in standard deviations of the CVs.

    Parameters
    ----------
    features : Featurization
    conditions : ConditionEncoding
    restriction : callable
        Positions (n, n_atoms, 3) [nm] to CVs (n, n_cvs) [CV units], differentiable.
    made : Tensor, shape (n, n_features)
        Generated features.
    cvs : Tensor, shape (n, n_cvs)
        CVs that they were generated for [CV units].

    Returns
    -------
    Tensor, shape ()
    """
    off = off_target(features.decode(made, cvs), cvs, restriction, conditions.variables)
    return (off / conditions.scale).square().sum(1).mean().float()


def off_target(
    positions: Tensor,
    cvs: Tensor,
    restriction: Restriction,
    variables: Sequence[CollectiveVariable],
) -> Tensor:
    """restriction(x) - c (n, n_cvs) [CV units] of positions (n, n_atoms, 3), the short way round.

    Differentiable; ``cvs`` has the shape (n, n_cvs). A restriction knows the processor only.
    """
    off = restriction(positions.cpu()).to(cvs.device) - cvs
    turn = [v.period or math.inf for v in variables]
    periods = torch.tensor(turn, dtype=torch.float64).to(off)
    turns = torch.floor(off / periods + 0.5)
    return off - torch.where(turns == 0, 0.0, turns * periods)
