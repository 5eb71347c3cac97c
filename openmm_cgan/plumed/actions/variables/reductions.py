"""What is made of many values at once: MIN, MAX, MEAN, LESS_THAN and so on of DISTANCES and others.

Each is a number with its slopes, for values of shape (..., n).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Action, Given, Keyword
from openmm_cgan.plumed.geometry.switching import TINY, Switch, read_switch
from openmm_cgan.plumed.input.expressions import namespace
from openmm_cgan.plumed.input.words import read_integer, read_real

MAX_BINS = 1000

REDUCTION_KEYWORDS = (
    Keyword("LESS_THAN", "text", "how many are less than what a switching function says"),
    Keyword("LESS_THAN", "text", "several of these", first=1),
    Keyword("MORE_THAN", "text", "how many are more"),
    Keyword("MORE_THAN", "text", "several of these", first=1),
    Keyword("ALT_MIN", "text", "a smooth minimum, -log(sum exp(-BETA x)) / BETA"),
    Keyword("MIN", "text", "a smooth minimum, BETA / log(sum exp(BETA / x))"),
    Keyword("MAX", "text", "a smooth maximum, BETA log(sum exp(x / BETA))"),
    Keyword("BETWEEN", "text", "how many lie between: GAUSSIAN LOWER= UPPER= SMEAR="),
    Keyword("BETWEEN", "text", "several of these", first=1),
    Keyword("HISTOGRAM", "text", "BETWEEN for each of NBINS= from LOWER= to UPPER="),
    Keyword("HIGHEST", "flag", "the largest"),
    Keyword("LOWEST", "flag", "the smallest"),
    Keyword("SUM", "flag", "the sum"),
    Keyword("MEAN", "flag", "the mean"),
)


@dataclass(frozen=True)
class Reduction:
    """A number made of many.

    Attributes
    ----------
    name : str
        What PLUMED puts behind the label.
    value : callable
        Of an ndarray or tensor, shape (..., n), to (...).
    slopes : callable
        Of an ndarray, shape (n,), to the same shape: the derivative by each.
    is_kept : bool
        Whether it has the unit of the values.
    n_actions : int
        How many actions it is in PLUMED.
    """

    name: str
    value: Callable[[Any], Any]
    slopes: Callable[[np.ndarray], np.ndarray]
    is_kept: bool = False
    n_actions: int = 3


def read_reductions(action: Action, given: Given) -> tuple[Reduction, ...]:
    """What the keywords of a statement ask for, in PLUMED's order.

    Raises
    ------
    PlumedInputError
        If one can not be read.
    """
    options, found = given.options, []
    kinds: tuple[tuple[str, Callable[[str, str], Reduction]], ...] = (
        ("LESS_THAN", _less_than), ("MORE_THAN", _more_than), ("ALT_MIN", _alt_min), ("MIN", _min),
        ("MAX", _max), ("BETWEEN", _between),
    )  # fmt: skip
    for word, make in kinds:
        name = word.replace("_", "").lower()
        texts = {name: options[word]} if options[word] is not None else {}
        numbered = options.get(f"{word}i", ())
        try:
            if word == "BETWEEN" and options["HISTOGRAM"] is not None:
                if texts or numbered:
                    raise ValueError("natively BETWEEN or HISTOGRAM")
                numbered = _bins(options["HISTOGRAM"])
            texts |= {f"{name}-{k}": text for k, text in enumerate(numbered, start=1)}
            found += [make(label, text) for label, text in texts.items()]
        except ValueError as error:
            raise action.not_native(word, str(error)) from None
    return (*found, *(made for word, made in _PLAIN.items() if options[word]))


# ---- counts. All functions have names of their own: OpenMM pickles them to copy a System.


def _less_than(name: str, text: str) -> Reduction:
    return switched(name, read_switch(text))


def switched(name: str, switch: Switch) -> Reduction:
    """The sum of a switching function of the values."""
    return Reduction(name, partial(_below, switch), partial(_below_slopes, switch))


def _below(switch: Switch, x: Any) -> Any:
    return switch.value(x).sum(-1)


def _below_slopes(switch: Switch, x: np.ndarray) -> np.ndarray:
    return np.asarray(switch.value(x + 1e-40j)).imag / 1e-40  # exact: nothing is subtracted


def _more_than(name: str, text: str) -> Reduction:
    switch = read_switch(text)
    return Reduction(name, partial(_above, switch), partial(_above_slopes, switch))


def _above(switch: Switch, x: Any) -> Any:
    return x.shape[-1] - _below(switch, x)


def _above_slopes(switch: Switch, x: np.ndarray) -> np.ndarray:
    return -_below_slopes(switch, x)


def _bins(text: str) -> list[str]:
    """What BETWEEN is told of each bin of a HISTOGRAM."""
    words = text.split()
    given = dict(word.upper().split("=", 1) for word in words if "=" in word)
    if not {"NBINS", "LOWER", "UPPER"} <= set(given):
        raise ValueError("expected NBINS=, LOWER= and UPPER=")
    number = read_integer(given["NBINS"])
    if not 1 <= number <= MAX_BINS:
        raise ValueError(f"expected 1 to {MAX_BINS} bins")
    lower = read_real(given["LOWER"])
    width = (read_real(given["UPPER"]) - lower) / number
    rest = [w for w in words if w.upper().split("=")[0] not in ("NBINS", "LOWER", "UPPER")]
    ends = [lower + k * width for k in range(number + 1)]
    return [" ".join([*rest, f"LOWER={a!r} UPPER={b!r}"]) for a, b in pairwise(ends)]


def _between(name: str, text: str) -> Reduction:
    kind, *words = text.split() or [""]
    given = dict(word.upper().split("=", 1) for word in words if "=" in word)
    if kind.upper() != "GAUSSIAN" or not {"LOWER", "UPPER"} <= set(given):
        raise ValueError("natively GAUSSIAN LOWER=... UPPER=... and SMEAR=...")
    if len(given) < len(words) or set(given) - {"LOWER", "UPPER", "SMEAR", "LABEL"}:
        raise ValueError("expected LOWER, UPPER and SMEAR")
    lower, upper = read_real(given["LOWER"]), read_real(given["UPPER"])
    width = read_real(given.get("SMEAR", "0.5")) * (upper - lower)
    if not width > 0:
        raise ValueError("LOWER must be below UPPER, and SMEAR positive")
    bounds = lower, upper, width
    return Reduction(name, partial(_inside, bounds), partial(_inside_slopes, bounds))


def _inside(bounds: tuple[float, float, float], x: Any) -> Any:
    lower, upper, width = bounds
    ends = [_erf((edge - x) / (math.sqrt(2) * width)) for edge in (lower, upper)]
    return 0.5 * (ends[1] - ends[0]).sum(-1)


def _inside_slopes(bounds: tuple[float, float, float], x: np.ndarray) -> np.ndarray:
    lower, upper, width = bounds
    ends = [np.exp(-(((edge - x) / width) ** 2) / 2) for edge in (lower, upper)]
    return (ends[0] - ends[1]) / (math.sqrt(2 * math.pi) * width)


def _erf(x: Any) -> Any:
    xp = namespace(x)
    return np.vectorize(math.erf, otypes=[float])(x) if xp is np else xp.erf(x)


# ---- smooth extremes: PLUMED's sums of exponentials, without the overflow that makes those 0


def _beta(text: str) -> float:
    name, _, number = text.strip().partition("=")
    if name.strip().upper() != "BETA":
        raise ValueError("expected BETA=...")
    beta = read_real(number.strip())
    if not beta > 0:
        raise ValueError("BETA must be positive")
    return beta


def _alt_min(name: str, text: str) -> Reduction:
    beta = _beta(text)
    return Reduction(name, partial(_lowered, beta), partial(_lowered_slopes, beta), n_actions=5)


def _lowered(beta: float, x: Any) -> Any:
    return -_log_sum(-beta * x) / beta


def _lowered_slopes(beta: float, x: np.ndarray) -> np.ndarray:
    return _shares(-beta * x)


def _max(name: str, text: str) -> Reduction:
    beta = _beta(text)
    return Reduction(name, partial(_raised, beta), partial(_raised_slopes, beta), n_actions=5)


def _raised(beta: float, x: Any) -> Any:
    return beta * _log_sum(x / beta)


def _raised_slopes(beta: float, x: np.ndarray) -> np.ndarray:
    return _shares(x / beta)


def _min(name: str, text: str) -> Reduction:
    beta = _beta(text)
    return Reduction(name, partial(_least, beta), partial(_least_slopes, beta), n_actions=5)


def _least(beta: float, x: Any) -> Any:
    return beta / _log_sum(beta / _above_zero(x))


def _least_slopes(beta: float, x: np.ndarray) -> np.ndarray:
    x = _above_zero(x)
    return _shares(beta / x) * (_least(beta, x) / x) ** 2


def _above_zero(x: Any) -> Any:
    """The numbers, for what divides by them: an atom may have no neighbours at all."""
    return namespace(x).where(x == 0, x * 0 + TINY, x)


def _log_sum(x: Any) -> Any:
    xp = namespace(x)
    largest = xp.amax(x, -1)
    return largest + xp.log(xp.exp(x - largest[..., None]).sum(-1))


def _shares(x: np.ndarray) -> np.ndarray:
    parts = np.exp(x - x.max())
    return parts / parts.sum()


# ---- those without numbers


def _highest(x: Any) -> Any:
    return namespace(x).amax(x, -1)


def _lowest(x: Any) -> Any:
    return namespace(x).amin(x, -1)


def _at_highest(x: np.ndarray) -> np.ndarray:
    return (np.arange(len(x)) == np.argmax(x)).astype(float)


def _at_lowest(x: np.ndarray) -> np.ndarray:
    return (np.arange(len(x)) == np.argmin(x)).astype(float)


def _sum(x: Any) -> Any:
    return x.sum(-1)


def _mean(x: Any) -> Any:
    return x.mean(-1)


def _equal_shares(x: np.ndarray) -> np.ndarray:
    return np.full(len(x), 1 / len(x))


_PLAIN = {
    "HIGHEST": Reduction("highest", _highest, _at_highest, True, 2),
    "LOWEST": Reduction("lowest", _lowest, _at_lowest, True, 2),
    "SUM": Reduction("sum", _sum, np.ones_like, True, 1),
    "MEAN": Reduction("mean", _mean, _equal_shares, True, 1),
}
