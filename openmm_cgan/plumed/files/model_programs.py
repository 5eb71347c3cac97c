"""A small torch function of one frame, its calls of torch written out as calls of numpy.

For a few numbers torch spends its time on choosing kernels and on autograd: a network of a few
layers with its gradient takes some 100 us there, and some 10 us in numpy. The calls of a function,
those of autograd in it included, are recorded once; where numpy has them all they are the program.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import expit

MAX_CALLS = 400  # beyond which numpy gains nothing


def _reduced(reduce: Callable[..., Any]) -> Callable[..., Any]:
    def reduced(x: Any, dims: Any = None, keepdim: bool = False) -> Any:
        some = tuple(dims) if isinstance(dims, list | tuple) else dims
        return reduce(x, axis=None if some == () else some, keepdims=keepdim)

    return reduced


def _slice(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    index = [slice(None)] * x.ndim
    index[dim] = slice(start, end, step)
    return x[tuple(index)]


def _select(x: Any, dim: int, index: int) -> Any:
    return x[(slice(None),) * (dim % x.ndim) + (index,)]  # np.take takes four times as long


def _stack(parts: Any, dim: int = 0) -> Any:
    if parts[0].ndim == 0:  # where np.stack spends its time on the axis
        return np.array(parts)
    if parts[0].ndim == 1 and dim in (1, -1):
        return np.array(parts).T
    return np.stack(parts, dim)


def _slice_backward(g: Any, shape: Any, dim: int, start: Any, end: Any, step: int) -> Any:
    found = np.zeros(shape, g.dtype)
    _slice(found, dim, start, end, step)[...] = g
    return found


def _select_backward(g: Any, shape: Any, dim: int, index: int) -> Any:
    found = np.zeros(shape, g.dtype)
    found[(slice(None),) * (dim % len(shape)) + (index,)] = g
    return found


def _expand(x: Any, shape: Any) -> Any:
    padded = (1,) * (len(shape) - x.ndim) + x.shape
    sizes = [own if size == -1 else size for own, size in zip(padded, shape, strict=True)]
    return np.broadcast_to(x, sizes)


def _softmax(x: Any, dim: int, _: bool) -> Any:
    found = np.exp(x - x.max(axis=dim, keepdims=True))
    return found / found.sum(axis=dim, keepdims=True)


def _softmax_backward(g: Any, y: Any, dim: int, _: Any) -> Any:
    return (g - (g * y).sum(axis=dim, keepdims=True)) * y


def _logsumexp(x: Any, dims: Any, keepdim: bool = False) -> Any:
    largest = x.max(axis=tuple(dims), keepdims=True)
    found = largest + np.log(np.exp(x - largest).sum(axis=tuple(dims), keepdims=True))
    return found if keepdim else found.squeeze(tuple(dims))


def _index_add(x: Any, dim: int, index: Any, source: Any) -> Any:
    found = x.copy()
    place: list[Any] = [slice(None)] * x.ndim
    place[dim] = index
    np.add.at(found, tuple(place), source)
    return found


# Calls of torch by name, without those that change their arguments, and what is the same in numpy
_CALLS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "rsub": lambda x, y: y - x,
    "neg": operator.neg,
    "abs": np.abs,
    "sgn": np.sign,
    "sign": np.sign,
    "pow": operator.pow,
    "square": np.square,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "atan2": np.arctan2,
    "tanh": np.tanh,
    "tanh_backward": lambda g, y: g * (1 - y * y),
    "sigmoid": expit,
    "sigmoid_backward": lambda g, y: g * (1 - y) * y,
    "relu": lambda x: np.maximum(x, 0),
    "threshold_backward": lambda g, y, least: np.where(y > least, g, 0).astype(g.dtype),
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "where": np.where,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mm": np.dot,
    "mv": np.dot,
    "dot": np.dot,
    "bmm": np.matmul,
    "addmm": lambda b, x, y: np.dot(x, y) + b,
    "sum": _reduced(np.sum),
    "mean": _reduced(np.mean),
    "amax": _reduced(np.max),
    "amin": _reduced(np.min),
    "cat": lambda parts, dim=0: np.concatenate(parts, dim),
    "stack": _stack,
    "t": np.transpose,
    "transpose": np.swapaxes,
    "permute": np.transpose,
    "expand": _expand,
    "slice": _slice,
    "select": _select,
    "slice_backward": _slice_backward,
    "select_backward": _select_backward,
    "index_select": lambda x, dim, index: np.take(x, index, axis=dim),
    "index_add": _index_add,
    "_softmax": _softmax,
    "_softmax_backward_data": _softmax_backward,
    "logsumexp": _logsumexp,
}
_SAME = frozenset({"detach", "alias", "clone", "lift_fresh_copy"})
# Those that are quicker written out than called, by the number of their arguments too
_WRITTEN = {
    ("add", 2): "{} + {}",
    ("sub", 2): "{} - {}",
    ("mul", 2): "{} * {}",
    ("div", 2): "{} / {}",
    ("neg", 1): "-{}",
    ("mm", 2): "{}.dot({})",
    ("addmm", 3): "{1}.dot({2}) + {0}",
    ("tanh_backward", 2): "{0} * (1 - {1} * {1})",
}
# Other shapes of the same numbers: numpy's functions for these take ten times as long
_RESHAPED = frozenset({"view", "_unsafe_view", "reshape", "squeeze", "unsqueeze"})
# These ask for the shape of a tensor only
_FILLED: dict[str, Callable[..., Any]] = {
    "ones_like": lambda x: 1,
    "zeros_like": lambda x: 0,
    "full_like": lambda x, fill: fill,
    "new_zeros": lambda x, shape: 0,
    "new_ones": lambda x, shape: 1,
    "zeros": lambda shape: 0,
    "ones": lambda shape: 1,
}
# Where a new tensor lies, which numpy does not ask
_PLACES = frozenset({"dtype", "layout", "device", "pin_memory", "memory_format"})


def written_out(
    function: Callable[..., torch.Tensor], *examples: torch.Tensor
) -> Callable[..., np.ndarray] | None:
    """The same function of arrays, for one shape and without branches.

    Parameters
    ----------
    function : callable
        Of some tensors; it must call the same kernels whatever the numbers are.
    *examples : tensor
        Of the shapes and precisions that it is to be called with; where there is no axis the
        program takes numbers of numpy's, which are many times quicker than arrays of one.

    Returns
    -------
    callable or None
        None where it calls what is not known here.

    Raises
    ------
    Exception
        Of many kinds, where torch can not record what it does.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    recorded = make_fx(function)(*examples)
    constants = dict(recorded.named_buffers()) | dict(recorded.named_parameters())
    written = _Written()
    for node in recorded.graph.nodes:
        if node.op == "placeholder":
            written.names[node] = f"x{len(written.names)}"
        elif node.op == "get_attr":
            written.constants[node] = constants[node.target].detach().numpy()
        elif node.op == "output":
            return written.program(node.args[0])
        elif not written.add(node) or len(written.lines) > MAX_CALLS:
            return None
    return None


class _Written:
    """A program as it is written.

    Attributes
    ----------
    constants : dict of Node to object
        What does not depend on the input.
    names : dict of Node to str
        Of the numbers that do.
    lines : list of str
    """

    def __init__(self) -> None:
        self.constants: dict[Any, Any] = {}
        self.names: dict[Any, str] = {}
        self.lines: list[str] = []
        self._used: dict[str, Any] = {}  # what the lines name
        self._made: dict[str, str] = {}  # the name of each call's result

    def add(self, node: Any) -> bool:
        """Add a call of torch; return whether it is known."""
        if not isinstance(node.target, torch._ops.OpOverload) or set(node.kwargs) - _PLACES:
            return False
        name, made = node.target.overloadpacket.__name__, node.meta["val"]
        if not isinstance(made, torch.Tensor) or node.kwargs.get("dtype", made.dtype) != made.dtype:
            return False
        if name in _FILLED:
            kind = torch.empty(0, dtype=made.dtype, device="cpu").numpy().dtype
            self.constants[node] = np.full(tuple(made.shape), _FILLED[name](*node.args), kind)
            return True
        source = node.args[0]
        if name in _SAME or (name == "view" and made.shape == source.meta["val"].shape):
            mine: dict[Any, Any] = self.constants if source in self.constants else self.names
            mine[node] = mine[source]
            return True
        if name == "_to_copy":
            kind = torch.empty(0, dtype=made.dtype, device="cpu").numpy().dtype
            return self._call(node, name, lambda x: np.asarray(x, kind))
        if name in _RESHAPED:
            shape = tuple(made.shape)
            return self._call(node, name, lambda x, *_: x.reshape(shape))
        return name in _CALLS and self._call(node, name, _CALLS[name])

    def _call(self, node: Any, name: str, call: Callable[..., Any]) -> bool:
        if all(other in self.constants for other in node.all_input_nodes):
            known = torch.fx.node.map_arg(node.args, lambda other: self.constants[other])
            self.constants[node] = call(*known)
            return True
        name = f"{name}_{len(self.lines)}" if name == "_to_copy" else name
        self._used[name] = call
        texts = [self._text(argument) for argument in node.args]
        line = f"{name}({', '.join(texts)})"
        if (name, len(texts)) in _WRITTEN:
            line = _WRITTEN[name, len(texts)].format(*texts)
        elif name in _RESHAPED:
            line = f"{texts[0]}.reshape({tuple(node.meta['val'].shape)})"
        elif name == "select":
            source, axis, index = node.args
            before = ":, " * (axis % source.meta["val"].ndim)
            line = f"{texts[0]}[{before}{index}]"
        if line not in self._made:  # what goes back asks again for what went forward
            self._made[line] = f"v{len(self.lines)}"
            self.lines.append(f"{self._made[line]} = {line}")
        self.names[node] = self._made[line]
        return True

    def _text(self, argument: Any) -> str:
        """An argument as the lines name it."""
        if isinstance(argument, list | tuple):
            return "[" + ", ".join(self._text(part) for part in argument) + "]"
        is_node = isinstance(argument, torch.fx.Node)
        if is_node and argument in self.names:
            return self.names[argument]
        name = f"c{len(self._used)}"
        self._used[name] = self.constants[argument] if is_node else argument
        return name

    def program(self, last: Any) -> Callable[..., np.ndarray] | None:
        """The function; None where its result does not depend on the input."""
        if last not in self.names:
            return None
        wanted, lines = {self.names[last]}, [f"return {self.names[last]}"]
        for line in reversed(self.lines):  # what only asked for a shape is left out
            name, _, call = line.partition(" = ")
            if name in wanted:
                wanted.update(re.findall(r"\bv\d+\b", call))
                lines.append(line)
        inputs = ", ".join(dict.fromkeys(x for x in self.names.values() if x.startswith("x")))
        text = "\n    ".join([f"def program({inputs}):", *reversed(lines)])
        space = dict(self._used)
        exec(text, space)  # of our own names only: nothing in it is taken from a file
        return space["program"]
