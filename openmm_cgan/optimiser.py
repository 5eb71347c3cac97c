"""Adam as torch computes it, without the compiler of torch.

``torch.optim.Adam`` itself loads torch._dynamo when it is made: 1.6 s in each process that trains.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

EPSILON = 1e-8


class Adam:
    """Adam for parameters of one device, in one kernel where there is one.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
    learning_rate : float
    betas : (float, float)
        Memory of the mean of the gradient and of its square.

    Attributes
    ----------
    parameters : list of nn.Parameter
    learning_rate : float
        May be set before each step.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, betas: tuple[float, float]
    ) -> None:
        self.parameters = list(parameters)
        self.learning_rate, self.betas = learning_rate, betas
        self._fused = self.parameters[0].device.type in ("cpu", "cuda")
        self._state: dict[int, dict[str, Tensor]] = {}  # by the number of the parameter

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Descend along the gradients; what has none stays."""
        moving = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        for i in moving:
            if i not in self._state:
                self._state[i] = self._begun(self.parameters[i])
        states = [self._state[i] for i in moving]
        adam(
            [self.parameters[i] for i in moving],
            [self.parameters[i].grad for i in moving],  # type: ignore[misc]
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=self._fused,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    def _begun(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        where = parameter.device if self._fused else "cpu"  # where kernels of others count
        return {
            "step": torch.zeros((), dtype=torch.float32, device=where),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from; with the names of torch.optim.Adam's."""
        group = {"lr": self.learning_rate, "betas": self.betas, "eps": EPSILON}
        group["params"] = list(range(len(self.parameters)))
        return {"state": self._state, "param_groups": [group]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, which may be torch.optim.Adam's of the same parameters.

        Raises
        ------
        ValueError
            If it is of other parameters.
        """
        (group,) = state["param_groups"]
        if len(group["params"]) != len(self.parameters):
            raise ValueError(
                f"the state of the optimiser is of {len(group['params'])} parameters; "
                f"expected {len(self.parameters)}"
            )
        self.learning_rate, self.betas = group["lr"], tuple(group["betas"])
        self._state = {}
        for i, saved in state["state"].items():
            own = self._begun(self.parameters[i])
            for name, tensor in own.items():
                if saved[name].shape != tensor.shape:
                    raise ValueError(
                        f"'{name}' of parameter {i} has shape {tuple(saved[name].shape)} in the "
                        f"state of the optimiser; expected {tuple(tensor.shape)}"
                    )
                tensor.copy_(saved[name])
            self._state[i] = own
