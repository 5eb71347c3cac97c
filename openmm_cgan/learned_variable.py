"""A collective variable learned from a table of PLUMED values: a TorchScript file and its lines.

The file is run by PYTORCH_MODEL, natively and by PLUMED's module pytorch alike; the lines of PLUMED
that make its inputs are written beside it. Its outputs are the learned coordinates, and last the
log of the kernel density of the frames that it was learned from: a wall holds a bias where that is
high enough, for far from all frames a learned coordinate means nothing.
"""

import logging
import math
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openmm_cgan import __version__
from openmm_cgan.atomic_files import replacing
from openmm_cgan.devices import own_defaults
from openmm_cgan.diffusion_maps import DiffusionMap, DiffusionMapSettings, diffusion_map
from openmm_cgan.diffusion_maps.interpolation import KernelInterpolant, kernel_ridge
from openmm_cgan.plumed.input.words import one_word
from openmm_cgan.short_reprs import short_repr

SURROGATES = ("nystroem", "ridge")
MAX_LANDMARKS = 500
CONSTANT = 1e-6  # of the largest number of a value: what it varies by at least

log = logging.getLogger("openmm_cgan")


@dataclass(frozen=True)
class Inputs:
    """The PLUMED values that a variable is learned from.

    Attributes
    ----------
    lines : str
        Of PLUMED, which make the values.
    names : tuple of str
        The values, in order.
    periods : tuple of float or None
        Of each value; those with a period are seen by their sine and cosine.
    """

    lines: str
    names: tuple[str, ...]
    periods: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.periods) or not self.names:
            raise ValueError(f"{len(self.periods)} periods for {len(self.names)} values")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"a value is named twice in {', '.join(self.names)}")
        for name, period in zip(self.names, self.periods, strict=True):
            if period is not None and not (math.isfinite(period) and period > 0):
                raise ValueError(f"the period of {name} is {period}; expected a positive number")
        missing = [
            name for name in self.names
            if not re.search(rf"(?m)(^|\s)({re.escape(name.split('.')[0])}:|LABEL=)", self.lines)
        ]  # fmt: skip
        if missing:
            raise ValueError(f"the lines do not make {', '.join(missing)}")


class Encoding(torch.nn.Module):
    """PLUMED values as features: sines and cosines of periodic ones, the others scaled."""

    rates: torch.Tensor
    scales: torch.Tensor
    offset: torch.Tensor

    def __init__(self, inputs: Inputs, table: NDArray[np.float64]) -> None:
        super().__init__()
        turning = [i for i, period in enumerate(inputs.periods) if period is not None]
        others = [i for i, period in enumerate(inputs.periods) if period is None]
        rates = [2 * np.pi / period for period in inputs.periods if period is not None]
        spread, size = table[:, others].std(axis=0), np.abs(table[:, others]).max(axis=0, initial=0)
        # what varies less is constant but for rounding, as constrained distances are
        scales = 1 / np.where(spread > CONSTANT * size, spread, np.maximum(size, 1.0))
        every = np.eye(len(inputs.names))
        self.turning, self.others = len(turning), len(others)
        self.register_buffer("rates", torch.tensor(every[:, turning] * rates))
        self.register_buffer("scales", torch.tensor(every[:, others] * scales))
        self.register_buffer("offset", torch.tensor(table[:, others].mean(axis=0) * scales))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Features (n, n_features) of values (n, n_values)."""
        parts = []
        if self.turning > 0:
            angles = torch.mm(values, self.rates)
            parts += [torch.sin(angles), torch.cos(angles)]
        if self.others > 0:
            parts += [torch.mm(values, self.scales) - self.offset]
        return torch.cat(parts, 1)


class LearnedModel(torch.nn.Module):
    """The coordinates of a diffusion map for PLUMED values, and the log of the kernel density.

    Written so that a step of a run costs few calls: each is paid for again on the way back.
    """

    landmarks: torch.Tensor
    squares: torch.Tensor
    directions: torch.Tensor
    log_masses: torch.Tensor
    log_shares: torch.Tensor
    steps: torch.Tensor
    coefficients: torch.Tensor
    mean: torch.Tensor

    def __init__(
        self, encoding: Encoding, found: DiffusionMap, ridge: KernelInterpolant | None
    ) -> None:
        super().__init__()
        self.encoding = encoding
        self.smooth = ridge is not None
        ridge = ridge or KernelInterpolant(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros(1), 1.0)
        width, squares = 4 * found.bandwidth.chosen, (found.landmarks**2).sum(axis=1)
        masses = found.log_masses - found.log_masses.max()
        for name, array in {
            "landmarks": found.landmarks,
            "squares": squares,
            # of -|x - landmark|^2 / width what differs between landmarks is linear in x
            "directions": 2 / width * found.landmarks.T,
            "log_masses": masses - squares / width,
            "log_shares": np.log(found.counts / found.counts.sum()) - masses,
            "steps": found.coordinates / found.eigenvalues,
            "coefficients": ridge.coefficients,
            "mean": ridge.mean,
        }.items():
            self.register_buffer(name, torch.tensor(array, dtype=torch.float64))
        self.width = width
        self.ridge_width = 4 * ridge.bandwidth

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Outputs (n, n_coordinates + 1) for values (n, n_values)."""
        x = self.encoding(values.to(torch.float64))
        own = (x * x).sum(1, keepdim=True)
        logs = torch.addmm(self.log_masses, x, self.directions)
        density = torch.logsumexp(logs + self.log_shares, 1, True) - own / self.width
        if self.smooth:
            square = own + self.squares - 2.0 * torch.mm(x, self.landmarks.t())
            kernel = torch.exp(-square / self.ridge_width)
            coordinates = torch.mm(kernel, self.coefficients) + self.mean
        else:
            coordinates = torch.mm(torch.softmax(logs, 1), self.steps)
        return torch.cat([coordinates, density], 1)


@dataclass(frozen=True)
class LearnedVariable:
    """What `learn_variable` gives.

    Attributes
    ----------
    inputs : Inputs
    found : DiffusionMap
    model : LearnedModel
    low_density : float
        Log of the density below which the wall pushes: what all but a thousandth of the frames are
        above.
    deviation : ndarray, shape (n_coordinates,)
        Root mean square of the outputs less Nystroem's over the frames, in units of the spread of
        each coordinate; 0 where the model is Nystroem's formula.
    values_range : ndarray, shape (n_coordinates, 2)
        Smallest and largest output over the frames.
    """

    inputs: Inputs
    found: DiffusionMap
    model: LearnedModel
    low_density: float
    deviation: NDArray[np.float64]
    values_range: NDArray[np.float64] = field(repr=False)

    __repr__ = short_repr

    @property
    def n_coordinates(self) -> int:
        """How many coordinates it has; the density is the output behind them."""
        return len(self.found.eigenvalues)

    @own_defaults()
    def __call__(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Outputs for a table of values.

        Parameters
        ----------
        table : ndarray, shape (n, n_values)
            As of `Inputs.names`.

        Returns
        -------
        ndarray, shape (n, n_coordinates + 1)
            The coordinates, and the log of the density.

        Raises
        ------
        ValueError
            If the table does not fit.
        """
        return _in_blocks(self.model, _checked_table(self.inputs, table))

    @own_defaults()
    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the TorchScript file, whole or not at all.

        It remembers the version that made it; PYTORCH_MODEL of PLUMED, in single precision, reads
        it as well.
        """
        path = Path(path)
        if not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)
            scripted = torch.jit.script(self.model.eval())
            with replacing(path) as temporary:
                scripted.save(temporary, _extra_files={"made_by": f"openmm_cgan {__version__}"})
        return path

    @own_defaults()
    def is_in(self, path: str | os.PathLike[str]) -> bool:
        """Whether a file that `save` has written is of this variable, whoever wrote it.

        The bytes depend on where the package and torch are, so the outputs are compared.

        Parameters
        ----------
        path : path
            Of a file of one's own: what is in it is run.
        """
        if not Path(path).exists():
            return False
        inputs = np.random.default_rng(0).uniform(-np.pi, np.pi, (100, len(self.inputs.names)))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)
                there = _in_blocks(torch.jit.load(path), inputs)
        except RuntimeError:  # damaged, or of other inputs
            return False
        own = self(inputs)
        return there.shape == own.shape and np.allclose(there, own, 1e-9, 1e-9)

    def variable_lines(self, path: str | os.PathLike[str], label: str = "learned") -> str:
        """The lines of PLUMED that make the variable alone: inputs and PYTORCH_MODEL.

        Parameters
        ----------
        path, label
            As of `plumed_lines`.
        """
        inputs, file = self.inputs.lines.rstrip("\n"), one_word(path)
        return f"{inputs}\n{label}: PYTORCH_MODEL FILE={file} ARG={','.join(self.inputs.names)}\n"

    def plumed_lines(
        self,
        path: str | os.PathLike[str],
        label: str = "learned",
        *,
        wall: float | None = 100.0,
    ) -> str:
        """The lines of PLUMED that make the variable: inputs, PYTORCH_MODEL, and the wall.

        Parameters
        ----------
        path : path
            Where `save` has written it, as the input is to name it.
        label : str
            The coordinates are ``label.node-0`` and so on.
        wall : float, optional
            KAPPA of the wall [energy unit of the input], half of its square per unit of the log
            of the density; None for no wall.
        """
        lines = self.variable_lines(path, label)
        density = f"{label}.node-{self.n_coordinates}"
        if wall is not None and not (math.isfinite(wall) and wall > 0):
            raise ValueError(f"wall is {wall}; expected a positive KAPPA, or None for no wall")
        if wall is None:
            log.warning(
                "%s: without a wall; a bias may push it to where nothing was learned", label
            )
        else:
            log.info(
                "%s: a wall of KAPPA=%g holds it where the log of the density of the frames is "
                "above %.3f; leave it out by wall=None", label, wall, self.low_density,
            )  # fmt: skip
            at = f"AT={self.low_density:.6f} KAPPA={wall:g}"
            lines += f"{label}_wall: LOWER_WALLS ARG={density} {at}\n"
        return lines


@own_defaults()
def learn_variable(
    inputs: Inputs,
    table: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
    settings: DiffusionMapSettings | None = None,
    *,
    surrogate: str = "nystroem",
) -> LearnedVariable:
    """Learn a collective variable from the values of some frames by a diffusion map.

    Parameters
    ----------
    inputs : Inputs
    table : ndarray, shape (n, n_values)
        The values of each frame, as COLVAR has them.
    weights : ndarray, shape (n,), optional
        Of the frames of a biased run.
    settings : DiffusionMapSettings, optional
        By default with `MAX_LANDMARKS`, all of which are looked at in each step of a run.
    surrogate : {"nystroem", "ridge"}
        What is biased: Nystroem's formula, or a kernel ridge regression to it, which is smoother
        and vanishes far from the frames.

    Raises
    ------
    ValueError
        If the table does not fit, or no map can be made of it.
    """
    if surrogate not in SURROGATES:
        raise ValueError(f"surrogate is '{surrogate}'; expected one of {SURROGATES}")
    table = _checked_table(inputs, table)
    settings = settings or DiffusionMapSettings(max_landmarks=MAX_LANDMARKS)
    encoding = Encoding(inputs, table)
    features = _in_blocks(encoding, table)
    found = diffusion_map(features, weights, settings)
    ridge = None
    if surrogate == "ridge":
        exact = found.extend(found.landmarks)
        ridge = kernel_ridge(found.landmarks, exact, bandwidth=4 * found.bandwidth.chosen)
    model = LearnedModel(encoding, found, ridge)
    outputs = _in_blocks(model, table)
    off = outputs[:, :-1] - found.extend(features)
    deviation = np.sqrt(np.mean(off**2, axis=0)) / outputs[:, :-1].std(axis=0)
    if ridge is not None:
        log.info("kernel ridge is off Nystroem's formula by %s of the spread", deviation)
    low = float(np.quantile(outputs[:, -1], 0.001))
    ends = np.stack([outputs[:, :-1].min(axis=0), outputs[:, :-1].max(axis=0)], axis=1)
    return LearnedVariable(inputs, found, model, low, deviation, ends)


def _checked_table(inputs: Inputs, table: NDArray[np.float64]) -> NDArray[np.float64]:
    table, n = np.asarray(table, dtype=float), len(inputs.names)
    if table.ndim != 2 or table.shape[1] != n:
        raise ValueError(f"a table of shape {table.shape} for {n} values; expected (n, {n})")
    bad = ~np.isfinite(table)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{inputs.names[column]} is {table[row, column]} in frame {row} ({bad.any(1).sum()} "
            "frames have such numbers): leave them out"
        )
    return table


def _in_blocks(model: Any, table: NDArray[np.float64], size: int = 2000) -> NDArray[np.float64]:
    with torch.no_grad():
        starts = range(0, max(1, len(table)), size)
        parts = [model(torch.from_numpy(table[i : i + size])) for i in starts]
    return torch.cat(parts).numpy()
