"""A second device where there is none: tensors that lie on the processor and say they do not.

They hold the numbers of an ordinary tensor, and an operation that meets some of them and some that
were made on the processor raises, as between a GPU and the processor (numbers without a dimension,
and indices, may be of either). So code that forgets to make a tensor where the others are fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("lazy")  # of torch, for compilers: autograd needs no thread of it
_ATEN = torch.ops.aten
_MAY_MEET = {_ATEN._to_copy.default, _ATEN.copy_.default, _ATEN.index.Tensor}
_LAYERS = {_ATEN.addmm.default}


class _There(torch.Tensor):
    """A tensor that lies elsewhere."""

    own: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, own: torch.Tensor) -> _There:
        made = torch.Tensor._make_wrapper_subclass(
            cls, own.shape, strides=own.stride(), storage_offset=own.storage_offset(),
            dtype=own.dtype, device=ELSEWHERE,
        )  # fmt: skip
        made.own = own
        return made

    def tolist(self) -> Any:
        """As of a GPU: the numbers come here."""
        return self.own.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(func, args, kwargs or {})


class _Watched(TorchDispatchMode):
    """All that torch does; also what makes tensors of none."""

    def __init__(self) -> None:
        super().__init__()
        self.layers_here = self.layers_there = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _LAYERS:
            there = any(isinstance(x, _There) for x in args)
            self.layers_there += there
            self.layers_here += not there
        return _done(func, args, kwargs or {})


def _done(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = any(isinstance(x, _There) for x in tensors)
    here = [x for x in tensors if not isinstance(x, _There) and x.dim()]
    if there and here and func not in _MAY_MEET:
        raise RuntimeError(f"{func}: a tensor of the processor among others, {here}")
    asked = kwargs.get("device")
    if asked is not None:
        there = torch.device(asked) == ELSEWHERE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    own, given = tree_map(lambda x: x.own if isinstance(x, _There) else x, (args, kwargs))
    found = func(*own, **given)
    if found is not None and func._schema.is_mutable and func._schema.name.endswith("_"):
        return args[0]  # changed in its place
    return tree_map(lambda x: _There(x) if isinstance(x, torch.Tensor) and there else x, found)


@contextmanager
def other_device() -> Iterator[_Watched]:
    """In it `ELSEWHERE` is a device; gives a count of the layers computed here and there."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Watched() as watched:
            yield watched
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
