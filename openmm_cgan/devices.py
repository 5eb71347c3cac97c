"""Devices of torch: what may be asked for, and what is moved there.

Random numbers are drawn on the processor wherever the rest is done, so that the same seed gives the
same ones on every device.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def device_named(device: str | torch.device) -> torch.device:
    """A device on which double precision can be computed here.

    Parameters
    ----------
    device : torch.device or str
        "cpu", "cuda", "cuda:1", ...

    Returns
    -------
    torch.device
        With its number, where there may be several.

    Raises
    ------
    ValueError
        If there is no such device here, or it holds no numbers in double precision.
    """
    try:
        tried = torch.zeros(1, dtype=torch.float64, device=device)
        if float(tried + 1) == 1:
            return tried.device
        error: Any = "it computes wrongly"
    except Exception as raised:  # each kind of device has errors of its own
        error = str(raised).strip().partition("\n")[0]
    here = ", ".join(["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))])
    raise ValueError(
        f"device={str(device)!r} can not be used here ({error}); expected one of {here}"
    )


@contextmanager
def own_defaults(own: torch.dtype = torch.float32) -> Iterator[None]:
    """In it torch makes float32 on the processor where nothing is named, whatever a script has set.

    Of the thread's device and the process's kind of number; both are as they were afterwards.
    """
    kind = torch.get_default_dtype()
    at_home = torch.get_default_device().type == "cpu"
    torch.set_default_dtype(own)
    try:
        with nullcontext() if at_home else torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(kind)


def adam(parameters: Any, learning_rate: float, betas: tuple[float, float]) -> torch.optim.Adam:
    """Adam for parameters of one device, in one kernel where there is one."""
    own = list(parameters)
    fused = own[0].device.type in ("cpu", "cuda")
    return torch.optim.Adam(own, learning_rate, betas, fused=fused)


def moved(thing: T, device: torch.device) -> T:
    """What lies on a device instead: a tensor, what is in a container, what an object holds.

    Parameters
    ----------
    thing : Tensor, dict, list, tuple or object
        Of an object a copy is made, and the tensors among its attributes are moved; what is held by
        objects among these stays. A number or a text is what it was.
    device : torch.device
    """
    found: Any = thing
    if isinstance(found, Tensor):
        found = found.to(device)
    elif isinstance(found, dict):
        found = {key: moved(value, device) for key, value in found.items()}
    elif isinstance(found, list):
        found = [moved(value, device) for value in found]
    elif type(found) is tuple:
        found = tuple(moved(value, device) for value in found)
    elif hasattr(found, "__dict__") and any(isinstance(v, Tensor) for v in vars(found).values()):
        found = copy.copy(found)
        own = {k: v.to(device) for k, v in vars(found).items() if isinstance(v, Tensor)}
        vars(found).update(own)
    return found
