"""Outputs of TorchScript models of other values, with their gradients, for what OpenMM calls back.

All outputs of a model that are acted on come from one call, which the forces of several biases
share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm

from openmm_cgan.called_back import Callback
from openmm_cgan.plumed.actions import Action
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.pytorch_model import PytorchModel, require_finite
from openmm_cgan.plumed.files.torch_models import Encoding
from openmm_cgan.plumed.native.forces.frame_values import FrameValues
from openmm_cgan.states import box_of, copy_positions

if TYPE_CHECKING:
    import torch


class ModelFunction:
    """The outputs of a model at one frame; the last frame's are kept.

    Parameters
    ----------
    owner : PytorchModel
    arguments : FrameValues
        What the inputs of the model are functions of.
    encoding : Encoding or None
        Which functions of them; None for themselves.
    """

    def __init__(
        self, owner: PytorchModel, arguments: FrameValues, encoding: Encoding | None
    ) -> None:
        self.atoms = arguments.atoms
        self._owner, self._arguments, self._encoding = owner, arguments, encoding
        self._nodes: list[int] = []
        self._slopes: Callable[[list[float]], np.ndarray]
        self._asked: tuple[bytes, bytes] | None = None
        self._found: tuple[np.ndarray, np.ndarray] = np.zeros(0), np.zeros((0, 0, 3))

    def use(self, node: int) -> NodeFunction:
        """Have it give the gradient of an output too."""
        if node not in self._nodes:
            self._nodes.append(node)
            self._slopes = self._owner.model.slopes_of(tuple(self._nodes), self._encoding)
            self._asked = None
        return NodeFunction(self, node, self._nodes.index(node))

    def evaluate(self, some: np.ndarray, box: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """All outputs, and the gradients of those in use.

        Parameters
        ----------
        some : ndarray, shape (n_needed, 3)
            Positions of `atoms` [nm].
        box : ndarray, shape (3, 3), or None
            [nm]

        Returns
        -------
        ndarray, shape (n_outputs,)
        ndarray, shape (n_used, n_needed, 3)
            [1/nm]
        """
        asked = some.tobytes(), b"" if box is None else box.tobytes()
        if asked != self._asked:
            inputs, gradients = self._arguments(some, box)
            found = self._slopes(inputs)
            require_finite(found, self._owner)
            n = self._owner.model.n_outputs
            chain = (-found[n:]).reshape(-1, len(inputs)).tolist()
            slopes = np.array([self._arguments.forces(row, gradients) for row in chain])
            self._found, self._asked = (found[:n], slopes), asked
        return self._found


class NodeFunction:
    """One output of a `ModelFunction`, as `GradientFunction` gives a variable."""

    def __init__(self, model: ModelFunction, node: int, row: int) -> None:
        self.atoms = model.atoms
        self._model, self._node, self._row = model, node, row

    def evaluate(self, some: np.ndarray, box: np.ndarray | None) -> tuple[float, np.ndarray]:
        """Value and gradient [1/nm], shape (n_needed, 3); parameters as of `ModelFunction`."""
        values, gradients = self._model.evaluate(some, box)
        return float(values[self._node]), gradients[self._row]


class NodeForce(Callback):
    """A force whose energy is one output of a model.

    Parameters
    ----------
    node : NodeFunction
    periodic : bool
        Whether the System has a periodic box.
    """

    def __init__(self, node: NodeFunction, periodic: bool) -> None:
        super().__init__()
        self._node, self._periodic = node, periodic
        self._positions = np.zeros((len(node.atoms), 3))

    def compute(self, state: openmm.State) -> tuple[float, np.ndarray]:
        copy_positions(state, self._positions)
        box = box_of(state) if self._periodic else None
        value, gradient = self._node.evaluate(self._positions, box)
        return value, -gradient

    def make_force(self) -> openmm.PythonForce:
        """Make the force."""
        force = openmm.PythonForce(self.compute, {}, self._node.atoms)
        force.setUsesPeriodicBoundaryConditions(self._periodic)
        return force


def encoding_of(
    owner: PytorchModel, owners: dict[str, Action]
) -> tuple[Encoding | None, list[str]]:
    """The inputs of a model as functions of other values, and the names of these.

    None where no input is such a function.

    Parameters
    ----------
    owner : PytorchModel
    owners : dict of str to Action
        The action that gives each value.
    """
    import torch

    names: dict[str, int] = {}

    def collect(action: Action) -> None:
        for value in action.arguments:
            if isinstance(owners[value.name], Function):
                collect(owners[value.name])
            else:
                names.setdefault(value.name, len(names))

    collect(owner)
    if list(names) == [value.name for value in owner.arguments]:
        return None, list(names)

    def inputs(numbers: Sequence[torch.Tensor]) -> torch.Tensor:
        found: dict[str, Any] = dict(zip(names, numbers, strict=True))

        def evaluated(name: str) -> Any:
            if name not in found:
                action = owners[name]
                assert isinstance(action, Function)
                values = action.values([evaluated(value.name) for value in action.arguments])
                found.update(zip((v.name for v in action.outputs), values, strict=True))
            return found[name]

        columns = [evaluated(value.name) for value in owner.arguments]
        tensors = (torch.as_tensor(column, device="cpu") for column in columns)
        return torch.stack(torch.broadcast_tensors(*tensors), -1)

    return Encoding(len(names), inputs), list(names)
