"""Outputs of TorchScript models of other values, with their gradients, for what OpenMM calls back.

All outputs of a model that are acted on come from one call, which the forces of several biases share.
"""

from __future__ import annotations

import numpy as np
import openmm

from openmm_cgan.called_back import Callback
from openmm_cgan.plumed.actions.pytorch_model import PytorchModel, require_finite
from openmm_cgan.plumed.native.forces.frame_values import FrameValues
from openmm_cgan.states import box_of, copy_positions


class ModelFunction:
    """The outputs of a model at one frame; the last frame's are kept.

    Parameters
    ----------
    owner : PytorchModel
    arguments : FrameValues
        The inputs of the model.
    """

    def __init__(self, owner: PytorchModel, arguments: FrameValues) -> None:
        self.atoms = arguments.atoms
        self._owner, self._arguments = owner, arguments
        self._nodes: list[int] = []
        self._slopes = owner.model.slopes_of(())
        self._asked: tuple[bytes, bytes] | None = None
        self._found: tuple[np.ndarray, list[np.ndarray]] = np.zeros(0), []

    def use(self, node: int) -> NodeFunction:
        """Have it give the gradient of an output too."""
        if node not in self._nodes:
            self._nodes.append(node)
            self._slopes = self._owner.model.slopes_of(tuple(self._nodes))
            self._asked = None
        return NodeFunction(self, node, self._nodes.index(node))

    def evaluate(
        self, some: np.ndarray, box: np.ndarray | None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
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
        list of ndarray, shape (n_needed, 3)
            [1/nm]
        """
        asked = some.tobytes(), b"" if box is None else box.tobytes()
        if asked != self._asked:
            inputs, gradients = self._arguments(some, box)
            found = self._slopes(inputs)
            require_finite(found, self._owner)
            n = self._owner.model.n_outputs
            chain = found[n:].reshape(-1, len(inputs)).tolist()
            slopes = [-self._arguments.forces(row, gradients) for row in chain]
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
