"""What else scales the hills of a METAD: the bias between wells, and a target distribution.

Transition tempering: Dama, Rotskoff, Parrinello, Voth, doi 10.1021/ct500441q. Targets: White, Dama,
Voth, doi 10.1021/acs.jctc.5b00178.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.metad.axis import MAX_GRID_POINTS, Axis
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.files.tables import FieldTable
from openmm_cgan.plumed.input.words import read_real

TEMPERING_KEYWORDS = (
    Keyword("TTBIASFACTOR", "real", "bias factor of transition-tempered metadynamics"),
    Keyword("TTBIASTHRESHOLD", "real", "bias between the wells from which on it tempers"),
    Keyword("TTALPHA", "real", "exponent of that tempering, above 0 and at most 1"),
    Keyword("TRANSITIONWELL", "reals", "place of a well", first=0),
    Keyword("CALC_TRANSITION_BIAS", "flag", "the bias between the wells as transbias"),
    Keyword("TARGET", "text", "a grid file with the free energy of the distribution aimed at"),
)


@dataclass(frozen=True)
class TransitionOptions:
    """The wells of transition-tempered metadynamics, and how it tempers.

    Attributes
    ----------
    wells : tuple of tuple of float, shape (n_wells, n_values)
    factor : float or None
        The bias factor; None where only the bias between the wells is asked for.
    threshold : float
        Bias between the wells from which on it tempers [energy unit of the input].
    alpha : float
        Exponent, above 0 and at most 1.
    """

    wells: tuple[tuple[float, ...], ...]
    factor: float | None = None
    threshold: float = 0.0
    alpha: float = 1.0


class Transition:
    """The bias that has been laid on the best way between wells, and how it tempers.

    Attributes
    ----------
    bias : float
        As it was after the last hill [energy unit of the input].
    """

    def __init__(self, options: TransitionOptions) -> None:
        self.wells, self.factor = options.wells, options.factor
        self.threshold, self.alpha = options.threshold, options.alpha
        self.bias = 0.0

    def tempered(self, height: float, kt: float) -> float:
        """The height of a hill that would be `height` without [energy unit of the input]."""
        if self.factor is None:
            return height
        above = max(0.0, self.bias - self.threshold) / (kt * (self.factor - 1))
        if self.alpha == 1.0:
            return height * math.exp(-above)
        ratio = (1 - self.alpha) / self.alpha
        return height * math.pow(1 + ratio * above, -1 / ratio)

    def update(self, grid: HillGrid) -> None:
        """Take the bias as it is now."""
        sink, *others = self.wells
        if not others:
            self.bias = grid.at(sink)
            return
        ends = [node_of(grid.axes, well) for well in self.wells]
        self.bias = highest_pass(grid, ends[1], ends[0])
        for end in ends[2:]:
            if self.bias == 0.0:
                break
            self.bias = min(self.bias, highest_pass(grid, end, ends[0]))

    def saved(self) -> dict[str, np.ndarray]:
        """For a checkpoint: ``transition_bias``, shape () [energy unit of the input]."""
        return {"transition_bias": np.array(self.bias)}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `saved` gave, of shape ()."""
        self.bias = float(saved_array(arrays, "transition_bias", (), finite=True))


def read_transition(given: Given) -> TransitionOptions | None:
    """What a METAD says about its wells; None where it says nothing.

    Raises
    ------
    PlumedInputError
        If a number is wrong, or the keywords do not go together.
    """
    options = given.options
    factor, wells = options["TTBIASFACTOR"], options["TRANSITIONWELLi"]
    settings = {word: options[word] for word in ("TTBIASTHRESHOLD", "TTALPHA")}
    if factor is None:
        for word in (word for word, number in settings.items() if number is not None):
            raise given.error(word, "needs TTBIASFACTOR")
        if not options["CALC_TRANSITION_BIAS"]:
            if wells:
                raise given.error("TRANSITIONWELL", "needs TTBIASFACTOR or CALC_TRANSITION_BIAS")
            return None
    if not wells:
        raise given.error("TRANSITIONWELL", "give TRANSITIONWELL0=..., and one for each well")
    threshold = settings["TTBIASTHRESHOLD"] or 0.0
    alpha = 1.0 if settings["TTALPHA"] is None else settings["TTALPHA"]
    if factor == 1:
        raise given.error("TTBIASFACTOR", "must not be 1")
    if threshold < 0:
        raise given.error("TTBIASTHRESHOLD", "must not be negative")
    if not 0 < alpha <= 1:
        raise given.error("TTALPHA", "must be above 0 and at most 1")
    return TransitionOptions(wells, factor, threshold, alpha)


def check_tempering(given: Given, parts: dict[str, tuple[float | None, float]]) -> None:
    """Refuse temperings that together let the hills grow.

    Parameters
    ----------
    given : Given
    parts : dict of str to (float or None, float)
        By keyword the bias factor less one, and the exponent.
    """
    active = [(delta, alpha) for delta, alpha in parts.values() if delta is not None]
    strongest = max((alpha for _, alpha in active), default=1.0)
    total = sum(1 / delta for delta, alpha in active if alpha == strongest and delta != 0)
    if total < 0:
        words = ", ".join(word for word, (delta, _) in parts.items() if delta is not None)
        raise given.error(words, "the hills would grow with the bias")


def check_wells(given: Given, transition: TransitionOptions, axes: Sequence[Axis]) -> None:
    """Refuse wells that are not on the grid."""
    for well in transition.wells:
        for axis, s in zip(axes, well, strict=True):
            if not (axis.lower <= s < axis.upper or (s == axis.upper and not axis.periodic)):
                raise given.error("TRANSITIONWELL", f"{s} of {axis.value.name} is off the grid")


# ---- ways over a grid


def node_of(axes: Sequence[Axis], arguments: Sequence[float]) -> tuple[int, ...]:
    """The node below a point.

    Parameters
    ----------
    axes : sequence of Axis
    arguments : sequence of float, length n_axes

    Returns
    -------
    tuple of int, length n_axes
        Counted on beyond the ends of periodic axes.
    """
    pairs = zip(axes, arguments, strict=True)
    return tuple(math.floor((s - axis.lower) / axis.step) for axis, s in pairs)


def highest_pass(grid: HillGrid, source: tuple[int, ...], sink: tuple[int, ...]) -> float:
    """The lowest value on the way between two nodes where that is highest.

    Parameters
    ----------
    grid : HillGrid
    source, sink : tuple of int, length n_axes
        The nodes.

    Returns
    -------
    float
        [energy unit of the input]; 0 where every way has a node of value 0.
    """
    if len(grid.axes) == 1:
        return _highest_pass_on_a_line(grid, source[0], sink[0])
    values = grid.nodes[0]
    seen: set[tuple[int, ...]] = set()
    ways = [(-float(values[source]), source)]
    while ways:
        cost, here = heapq.heappop(ways)
        if here == sink or cost == 0.0:
            return -cost
        for node in _next_nodes(grid.axes, here):
            if node not in seen:
                seen.add(node)
                heapq.heappush(ways, (max(cost, -float(values[node])), node))
    return 0.0


def _next_nodes(axes: Sequence[Axis], node: tuple[int, ...]) -> list[tuple[int, ...]]:
    nodes = []
    for i, axis in enumerate(axes):
        for k in (node[i] - 1, node[i] + 1):
            if axis.periodic or 0 <= k < axis.nodes:
                nodes.append((*node[:i], k % axis.nodes, *node[i + 1 :]))
    return nodes


def _highest_pass_on_a_line(grid: HillGrid, source: int, sink: int) -> float:
    values, [axis] = grid.nodes[0], grid.axes
    low, high = sorted((source, sink))
    inside = _lowest(values[low : high + 1] if source < sink else values[low : high + 1][::-1])
    if not axis.periodic or source == sink:
        return inside
    if source > sink:
        outside = np.concatenate([values[source:], values[: sink + 1]])
    else:  # where PLUMED looks from the source down, and stops at the end
        outside = values[source::-1]
        if sink == axis.nodes - 1:
            outside = np.concatenate([outside, values[::-1]])
    return max(inside, _lowest(outside))


def _lowest(values: np.ndarray) -> float:
    """The lowest of values up to the first zero, which ends every way."""
    lowest = np.minimum.accumulate(values)
    return 0.0 if np.any(lowest == 0.0) else float(lowest[-1])


# ---- targets


class Target:
    """A free energy on a grid: hills are higher where it is.

    Parameters
    ----------
    axes : sequence of Axis
    nodes : ndarray, shape (n_nodes_1, ..., n_nodes_n)
        Its values [energy unit of the input].
    """

    def __init__(self, axes: Sequence[Axis], nodes: np.ndarray) -> None:
        self.axes, self.nodes = tuple(axes), nodes
        self._highest = max(float(nodes.max()), 0.0)

    def factor(self, arguments: Sequence[float], kt: float) -> float:
        """What a hill's height is multiplied with.

        Parameters
        ----------
        arguments : sequence of float, length n_axes
            Its centre.
        kt : float
            [energy unit of the input]

        Raises
        ------
        ValueError
            If the point is off the grid.
        """
        for axis, s in zip(self.axes, arguments, strict=True):
            if not axis.inside(s):
                limits = f"from {axis.lower} to {axis.upper}"
                raise ValueError(f"{axis.value.name} = {s} is off the grid of TARGET, {limits}")
        node = node_of(self.axes, arguments)
        cells = zip(node, self.axes, strict=True)
        here = tuple(k % axis.nodes if axis.periodic else k for k, axis in cells)
        return math.exp((float(self.nodes[here]) - self._highest) / kt)


def read_target(given: Given) -> Target | None:
    """The target of a METAD from its grid file; None without one.

    Raises
    ------
    PlumedInputError
        If there is no such file, or it is no grid of the arguments.
    """
    if (file := given.options["TARGET"]) is None:
        return None
    path = given.folder / file
    try:
        table = read_fields(path)
        names = [value.name for value in given.arguments]
        needed = [*names, f"{given.label}.target", *(f"der_{name}" for name in names)]
        if missing := [name for name in needed if name not in table.columns]:
            raise ValueError(f"{path} has no column {', '.join(missing)}")
        axes = [_axis(given, i, table) for i in range(len(names))]
        if math.prod(axis.nodes for axis in axes) > MAX_GRID_POINTS:
            raise ValueError(f"{path} is a grid of more than {MAX_GRID_POINTS} points")
        table.require_finite(needed)
    except KeyError as error:
        raise given.error("TARGET", f"{path} has no line '#! SET {error.args[0]}'") from None
    except (OSError, ValueError) as error:
        raise given.error("TARGET", str(error)) from None
    nodes = np.zeros([axis.nodes for axis in axes])
    index = []
    for axis in axes:
        index.append(np.clip(axis.nearest(table.columns[axis.value.name]), 0, axis.nodes - 1))
    nodes[tuple(index)] = table.columns[f"{given.label}.target"]
    return Target(axes, nodes)


def _axis(given: Given, i: int, table: FieldTable) -> Axis:
    value, constants = given.arguments[i], table.constants
    texts = (constants[f"min_{value.name}"], constants[f"max_{value.name}"])
    periodic = constants[f"periodic_{value.name}"] == "true"
    if (value.domain_text if periodic else None) != (texts if value.domain else None):
        raise ValueError(f"the file and {value.name} differ in their period")
    cells = int(constants[f"nbins_{value.name}"]) - (not periodic)
    lower, upper = (read_real(text) for text in texts)
    if cells < 1 or not lower < upper:
        raise ValueError(f"no grid of {value.name} from {lower} to {upper} in {cells} cells")
    return Axis(value, lower, upper, cells, texts)
