"""Records of large arrays in one line: shapes in place of numbers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Protocol

import numpy as np

LONGEST = 60  # characters of one field


class Named(Protocol):
    """A CollectiveVariable."""

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> str: ...


def short_repr(record: Any) -> str:
    """The repr of a dataclass, its arrays and long fields as their sizes.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(repr=False)
    ... class Result:
    ...     values: object
    ...     name: str
    ...     __repr__ = short_repr
    >>> Result(np.zeros((1000, 2)), "windows")
    Result(values=float64 (1000, 2), name='windows')
    """
    shown = (f"{f.name}={_shown(vars(record)[f.name])}" for f in fields(record) if f.repr)
    return f"{type(record).__name__}({', '.join(shown)})"


def cv_ranges(variables: Sequence[Named], cvs: Any) -> str:
    """CVs with the lowest and highest of their values, shape (n, n_cvs): "phi -3.1 to 3 rad"."""
    values = np.asarray(cvs, dtype=float).reshape(-1, len(variables))
    if not len(values):
        return ", ".join(variable.name for variable in variables)
    lowest, highest = values.min(axis=0), values.max(axis=0)
    each = zip(variables, lowest, highest, strict=True)
    return ", ".join(f"{v.name} {low:.3g} to {high:.3g} {v.unit}".strip() for v, low, high in each)


def _shown(value: Any) -> str:
    torch = sys.modules.get("torch")
    if isinstance(value, np.ndarray) or (torch is not None and isinstance(value, torch.Tensor)):
        return repr(value.item()) if value.ndim == 0 else f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        each = [_shown(part) for part in value]
        whole = f"[{', '.join(each)}]"
        return whole if len(whole) <= LONGEST else f"{len(value)} of {type(value[0]).__name__}"
    whole = repr(value)
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 3]}..."
