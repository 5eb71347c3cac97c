"""PYTORCH_MODEL: a collective variable that somebody has trained, in a TorchScript file.

Bonati, Trizio, Rizzi, Parrinello, doi 10.1063/5.0156343. Of other values (ARG), as in PLUMED's
module pytorch; or, here only, of the positions themselves (ATOMS).
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Action, Given, Keyword
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.shapes import NOPBC, GroupVariable
from openmm_cgan.plumed.files.torch_models import TorchModel
from openmm_cgan.plumed.input.expressions import namespace

log = logging.getLogger("openmm_cgan")

_KEYWORDS = (
    Keyword("FILE", "text", "the TorchScript file", default="model.ptc"),
    Keyword("ARG", "arguments", "the values that are its inputs"),
    Keyword("ATOMS", "atoms", "the atoms whose positions are its inputs, in place of ARG"),
    NOPBC,
)


class PytorchModel(Function):
    """The outputs ``.node-0``, ``.node-1`` ... of a TorchScript model of other values."""

    name = "PYTORCH_MODEL"
    summary = "the outputs of a TorchScript model of other values, or of positions"
    keywords = _KEYWORDS

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.model = read_model(given, (len(self.arguments),))
        self._tell_seams()

    @classmethod
    def made(cls, given: Given) -> Action:
        """Of values, or of positions, whichever is named."""
        values, atoms = given.arguments, given.options["ATOMS"]
        if bool(values) == bool(atoms):
            raise given.error(cls.name, "give ARG or ATOMS: what its inputs are")
        if values and given.options["NOPBC"]:
            raise given.error("NOPBC", "is for ATOMS only")
        return cls(given) if values else PytorchPositions(given)

    @property
    def outputs(self) -> tuple[Value, ...]:
        return node_values(self.label, self.model)

    def saved(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps: ``model`` (32,), the digest of the file."""
        return {"model": self.model.digest}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Look whether the file is as it was, by ``model`` (32,)."""
        require_same(self, arrays)

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        if any(namespace(argument) is not np for argument in arguments):
            import torch

            tensors = torch.broadcast_tensors(
                *(torch.as_tensor(x, device="cpu") for x in arguments)
            )
            columns = torch.stack(tensors, -1)
            found = self.model.values(columns.reshape(-1, len(arguments)))
            return found.reshape(*columns.shape[:-1], -1).unbind(-1)
        stacked = np.stack(np.broadcast_arrays(*arguments), -1).astype(float)
        return array_values(self.model, stacked)

    def slopes(self, index: int, arguments: list[float]) -> list[float]:
        found = self.model.slopes_of((index,))(arguments)
        require_finite(found, self)
        return [float(slope) for slope in found[self.model.n_outputs :]]

    def _tell_seams(self) -> None:
        """Say where a model jumps as a periodic value goes round."""
        rng = np.random.default_rng(0)
        frame = rng.normal(scale=0.3, size=len(self.arguments))
        for i, value in enumerate(self.arguments):
            if value.domain is None:
                continue
            ends = np.repeat(frame[None], 2, axis=0)
            ends[:, i] = value.domain
            found = np.stack(self.values(list(ends.T)))
            if not np.allclose(found[:, 0], found[:, 1], 1e-3, 1e-5, equal_nan=True):
                log.warning(
                    "%s: the model %s jumps where %s goes round, and so does a bias on it: models "
                    "of angles take their sines and cosines",
                    *(self.statement.location, self.model.path, value.name),
                )


class PytorchPositions(GroupVariable):
    """The outputs of a TorchScript model of the positions of some atoms, made whole.

    The model takes ``(n_frames, n_atoms, 3)``, or else ``(n_frames, 3 n_atoms)``, in the length
    unit of the input; invariance under rotation and translation is the model's own.
    """

    name = "PYTORCH_MODEL"
    summary = PytorchModel.summary
    keywords: ClassVar[tuple[Keyword, ...]] = _KEYWORDS

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.atoms = given.options["ATOMS"]
        real = all(isinstance(atom, int) for atom in self.atoms)
        if not real or len(set(self.atoms)) != len(self.atoms):
            raise self.not_native("ATOMS", "expected different real atoms")
        n = len(self.atoms)
        self.model = read_model(given, (n, 3), (3 * n,))

    @property
    def outputs(self) -> tuple[Value, ...]:
        return node_values(self.label, self.model)

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        """All outputs; parameters and shapes as of `Variable.values`."""
        points = self._whole(positions, box) / self.units.length
        if namespace(points) is not np:
            found = self.model.values(points.reshape(-1, *self.model.shape))
            return found.reshape(*points.shape[:-2], -1).unbind(-1)
        return array_values(self.model, points.reshape(*points.shape[:-2], -1))

    def saved(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps: ``model`` (32,), the digest of the file."""
        return {"model": self.model.digest}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Look whether the file is as it was, by ``model`` (32,)."""
        require_same(self, arrays)

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        points = self._whole(positions, box) / self.units.length
        found = self.model.slopes_of((index,))(points.reshape(self.model.shape))
        require_finite(found, self)
        gradient = found[self.model.n_outputs :].reshape(-1, 3) / self.units.length
        return float(found[index]), gradient.astype(float)


def read_model(given: Given, *shapes: tuple[int, ...]) -> TorchModel:
    """The model that FILE names; `shapes` as of `TorchModel`.

    Raises
    ------
    PlumedInputError
        If it is none that fits.
    """
    name = given.options["FILE"]
    try:
        return TorchModel(given.folder / name, *shapes)
    except ValueError as error:
        raise given.error(f"FILE={name}", str(error)) from None


def node_values(label: str, model: TorchModel) -> tuple[Value, ...]:
    """What the outputs of a model are called."""
    return tuple(Value(f"{label}.node-{k}") for k in range(model.n_outputs))


def require_same(owner: PytorchModel | PytorchPositions, arrays: dict[str, np.ndarray]) -> None:
    """Refuse to go on with another model.

    Raises
    ------
    ValueError
    """
    kept = saved_array(arrays, "model", owner.model.digest.shape)
    if not np.array_equal(kept, owner.model.digest):
        raise ValueError(
            f"{owner.statement.location}: {owner.model.path} is another model than that of the "
            "saved run: put that back, or begin anew"
        )


def require_finite(found: np.ndarray, owner: PytorchModel | PytorchPositions) -> None:
    """Refuse numbers that no force can be made of.

    Raises
    ------
    ValueError
    """
    if not np.isfinite(found).all():
        raise ValueError(
            f"{owner.statement.location}: the model {owner.model.path} gives NaN or infinite "
            "numbers or gradients here; hold the run where it was trained, by a wall"
        )


def array_values(model: TorchModel, frames: np.ndarray) -> tuple[Any, ...]:
    """The outputs of a model for arrays of inputs.

    Parameters
    ----------
    model : TorchModel
    frames : ndarray, shape (..., n_inputs)

    Returns
    -------
    tuple of ndarray, shape (...) each
    """
    import torch

    with torch.no_grad():
        found = model.values(torch.from_numpy(frames.reshape(-1, *model.shape)))
    return tuple(column.reshape(frames.shape[:-1])[()] for column in found.numpy().T)
