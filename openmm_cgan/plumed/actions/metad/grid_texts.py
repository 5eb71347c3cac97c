"""The interpolation between the nodes of a grid of hills, as an expression of OpenMM's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from openmm_cgan.plumed.actions.metad.axis import Axis
from openmm_cgan.plumed.actions.metad.hill_grid import SIDES, HillGrid

_FINE = 2.0**40
_SYMBOL = re.compile(r"[A-Za-z_]\w*|[\d.]+(?:e[-+]?\d+)?|[-+*/^]")


def interpolation_text(
    grid: HillGrid, arguments: Sequence[str], wrapped: Sequence[bool], table: str, first: int = 0
) -> str:
    """The interpolation as an expression of OpenMM's over a Discrete1DFunction `table`.

    It is zero off a grid that is not periodic, as `HillGrid.at` is, and so is its slope.

    Parameters
    ----------
    grid : HillGrid
    arguments : sequence of str
        Expressions of the values.
    wrapped : sequence of bool
        Whether each is in its domain always, as OpenMM's torsions are.
    table : str
        Name of the function that holds `HillGrid.table`, flattened.
    first : int
        Where names in it begin to be numbered, for several in one expression.
    """
    n = len(grid.axes)
    plane, *strides = [stride // grid.table.itemsize for stride in grid.table.strides]
    names, k = range(first, first + n), f"k{first}"
    terms = []
    if not grid.spline:  # what the force takes the slope of is nothing as a number
        rests = [f"(u{i}-floor(u{i}*{_FINE})/{_FINE})" for i in names]
        terms = [
            f"{table}({k})",
            *(f"{table}({k}+{(1 + i) * plane})*{r}" for i, r in enumerate(rests)),
        ]
    for sides in SIDES[n] if grid.spline else ():
        corner = sum(side * stride for side, stride in zip(sides, strides, strict=True))
        factors = [f"{table}({k}+{corner})"]
        for i, side in enumerate(sides):
            slope = f"{table}({k}+{corner + (1 + i) * plane})"
            factors.append(f"(w{side}x{names[i]}+s{side}x{names[i]}*{slope})")
        terms.append("*".join(factors))
    index = "+".join(f"n{name}*{stride}" for name, stride in zip(names, strides, strict=True))
    definitions = [f"{k}={index}"]
    for axis, name, x, known in zip(grid.axes, names, arguments, wrapped, strict=True):
        definitions += _definitions(axis, name, x, known)
    ends = [
        (name, axis.cells + 1)
        for name, axis in zip(names, grid.axes, strict=True)
        if not axis.periodic
    ]
    within = "".join(f"*step(u{i})*(1-step(u{i}-{end}))" for i, end in ends)
    return ";".join([f"({'+'.join(terms)}){within}", *definitions])


def _definitions(axis: Axis, i: int, argument: str, wrapped: bool) -> list[str]:
    """Cell and weights along an axis, in names that end in its number."""
    u = f"(({argument})-({axis.lower!r}))*{1 / axis.step!r}"
    if not axis.periodic:
        cell, places = f"min(max(floor(u{i}),0),{axis.cells})", [f"u{i}={u}"]
    elif wrapped:
        cell, places = f"floor(u{i})", [f"u{i}={u}"]
    else:
        cell = f"floor(u{i})"
        places = [f"u{i}=t{i}-{axis.cells}*floor(t{i}*{1 / axis.cells!r})", f"t{i}={u}"]
    return [
        f"w0x{i}=1-w1x{i}",
        f"w1x{i}=x{i}*x{i}*(3-2*x{i})",
        f"s0x{i}=x{i}*y{i}*y{i}",
        f"s1x{i}=-x{i}*x{i}*y{i}",
        f"y{i}=1-x{i}",
        f"x{i}=u{i}-n{i}",
        f"n{i}={cell}",
        *places,
    ]


def symbols_written_out(text: str) -> int:
    """How many names, numbers and operators an expression has, its definitions in their places.

    Parameters
    ----------
    text : str
        ``energy;name=definition;...``, as OpenMM has them; each definition uses later ones.
    """
    first, *definitions = text.split(";")
    sizes: dict[str, int] = {}
    for definition in reversed(definitions):
        name, _, meaning = definition.partition("=")
        sizes[name] = _symbols(meaning, sizes)
    return _symbols(first, sizes)


def _symbols(text: str, sizes: dict[str, int]) -> int:
    return sum(sizes.get(symbol, 1) for symbol in _SYMBOL.findall(text))
