"""What OpenMM calls back through a PythonForce, and finds again in the copy of a System.

OpenMM copies a System by pickling it, the functions of its PythonForces included. The copy asks the
same object, which is right where evaluations leave no trace.
"""

from __future__ import annotations

import uuid
import weakref
from typing import Any

import numpy as np
import openmm

_living: weakref.WeakValueDictionary[str, Callback] = weakref.WeakValueDictionary()


class Callback:
    """An object of this process that OpenMM calls back; copied by a token.

    Attributes
    ----------
    lives_here : str
        What of it a copy in another process would lack: the word for it in the error message.
    """

    lives_here: str = "bias"

    def __init__(self) -> None:
        self._token = uuid.uuid4().hex
        _living[self._token] = self

    def __reduce__(self) -> tuple[Any, ...]:
        return _reconnect, (self._token, self.lives_here)

    def compute(self, state: openmm.State) -> tuple[float, np.ndarray]:
        """Energy and forces: what OpenMM calls at each force evaluation.

        Parameters
        ----------
        state : openmm.State
            With the positions of the particles that the force is made with.

        Returns
        -------
        float
            [kJ/mol]
        ndarray, shape (n_particles, 3)
            [kJ/mol/nm]
        """
        raise NotImplementedError


def _reconnect(token: str, lives_here: str) -> Callback:
    # must not raise: OpenMM 8.6 crashes where unpickling the function of a PythonForce fails
    return _living.get(token) or _Elsewhere(lives_here)


class _Elsewhere(Callback):
    """Stands for an object that lives in another process."""

    def __init__(self, lives_there: str) -> None:
        super().__init__()
        self.lives_here = lives_there

    def compute(self, state: openmm.State) -> tuple[float, np.ndarray]:
        raise RuntimeError(
            f"this System was copied from a process where its {self.lives_here} lives: make the "
            "System and call PlumedBias.add_to(system) here"
        )
