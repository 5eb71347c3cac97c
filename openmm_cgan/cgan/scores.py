"""The energy score: a proper scoring rule for a conditional generator without a density [1]_.

A critic must find that a generator makes too narrow or too wide a distribution before the generator
can mend it, and both circle around the right width. The energy score of draws at one condition
against the frame seen there is least, on average, for the right conditional distribution and for no
other [1]_, and its gradient needs no second network. A generator trained by it alone is
engression [2]_; here it stands beside the critic.

References
----------
.. [1] T. Gneiting, A. E. Raftery, J. Am. Stat. Assoc. 102, 359 (2007),
   doi 10.1198/016214506000001437.
.. [2] X. Shen, N. Meinshausen, J. R. Stat. Soc. B 87, 653 (2025), arXiv 2307.00835.
"""

import math

import torch
from torch import Tensor


def energy_score(made: Tensor, real: Tensor) -> Tensor:
    """Mean of `energy_scores`: what is trained for."""
    return energy_scores(made, real).mean()


def energy_scores(made: Tensor, real: Tensor) -> Tensor:
    """E|G - x| - E|G - G'| / 2 of each row, without bias.

    The strictly proper score of Gneiting and Raftery (2007), with the sign by which less is better.
    Both expectations are means over draws at the row's own condition, the second over pairs of
    different draws: pairs of one draw with itself would make a wide generator look better.

    Parameters
    ----------
    made : Tensor, shape (m, n, d)
        m >= 2 independent draws at each of n conditions.
    real : Tensor, shape (n, d)
        What was seen at those conditions.

    Returns
    -------
    Tensor, shape (n,)
        In the unit of the rows. Differentiable; the gradient of a distance 0 is taken as 0.
    """
    first, second = torch.triu_indices(len(made), len(made), offset=1, device=made.device)
    to_real = (made - real).norm(dim=2).mean(0)
    between = (made[first] - made[second]).norm(dim=2).mean(0)
    return to_real - between / 2


def clearly_more(losses: Tensor, others: Tensor) -> bool:
    """Whether rows lose more than others, both (n,), by three standard errors.

    Of the mean, or, where it is larger, of the number of rows that lose more: a few rows of what
    was learned by heart lose so much that a mean of them tells nothing.
    """
    more = losses - others
    if len(more) < 2 or not more.mean() > 0:
        return False
    excess = torch.sign(more).sum() / math.sqrt(len(more))
    return bool(more.mean() > 3 * more.std() / math.sqrt(len(more)) or excess > 3)
