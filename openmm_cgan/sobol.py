"""Sobol's numbers, scrambled: they fill a cube evenly, and each by itself is uniform in it.

The scrambling is Owen's, of the digits, by random matrices and shifts (J. Matousek, J. Complexity
14, 527 (1998), doi 10.1006/jcom.1998.0489).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sobol_numbers(n: int, n_axes: int, seed: int) -> NDArray[np.float64]:
    """Numbers (n, n_axes) from 0 to below 1; the first of them fill the cube as well.

    Examples
    --------
    >>> numbers = sobol_numbers(4, 1, seed=1)[:, 0]
    >>> np.sort((4 * numbers).astype(int)).tolist()
    [0, 1, 2, 3]
    """
    import torch  # two seconds, which only generators need

    from openmm_cgan.devices import own_defaults

    if not n_axes:
        return np.zeros((n, 0))
    # The first number is one of torch's default kind, whatever is asked for: of single precision
    # it may be 1, where quantiles are infinite.
    with own_defaults(torch.float64):
        engine = torch.quasirandom.SobolEngine(n_axes, scramble=True, seed=seed)
        return np.asarray(engine.draw(n, dtype=torch.float64).numpy())
