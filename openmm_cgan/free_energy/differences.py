"""Free energies between two named states: intervals of one CV, written as text.

``phi:-pi..0|0..pi`` is the free energy of phi in [0, pi) less that of phi in [-pi, 0);
``phi:0..2.3`` is that of the interval less that of all the rest. Of a periodic CV an interval may
go round the end of its domain, as in ``phi:2.3..-3``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.samples import (
    Estimate,
    WeightedSamples,
    spread,
    terms_of_log_ratio,
)

NUMBER = r"\s*([-+]?)(\d+\.?\d*(?:e[-+]?\d+)?|\.\d+)?(pi)?(?:/(\d+))?\s*"
EXAMPLE = "expected such as phi:-pi..0|0..pi, or phi:0..2.3 for an interval and the rest"


@dataclass(frozen=True)
class StateDifference:
    """The free energy of one state less that of another.

    Attributes
    ----------
    name : str
        The CV.
    first : (float, float) or None
        Interval of the CV that is the first state; None: all that is not the second [CV unit].
    second : (float, float)
        Interval that is the second state.
    text : str
        As it was written.
    """

    name: str
    first: tuple[float, float] | None
    second: tuple[float, float]
    text: str

    @classmethod
    def of(cls, text: str) -> StateDifference:
        """Read what was written.

        Raises
        ------
        ValueError
            If it says no such thing.

        Examples
        --------
        >>> StateDifference.of("d:0.2..0.3|0.5..0.9").second
        (0.5, 0.9)
        """
        name, _, states = text.rpartition(":")
        read = [_interval(part) for part in states.split("|")]
        if not name.strip() or len(read) not in (1, 2) or None in read:
            raise ValueError(f"difference {text!r}: {EXAMPLE}")
        first, second = (None, read[0]) if len(read) == 1 else read
        assert second is not None
        return cls(name.strip(), first, second, text)

    @property
    def words(self) -> str:
        """The difference with both its states named, F of a state being -kT ln of its probability.

        Examples
        --------
        >>> StateDifference.of("phi:0..2.3").words
        'F(phi in [0, 2.3)) - F(phi elsewhere)'
        >>> StateDifference.of("d:0.2..0.3|0.5..0.9").words
        'F(d in [0.5, 0.9)) - F(d in [0.2, 0.3))'
        """
        first = "elsewhere" if self.first is None else _in_words(self.first)
        return f"F({self.name} {_in_words(self.second)}) - F({self.name} {first})"

    def sides(
        self, cvs: NDArray[np.float64], variables: Sequence[CollectiveVariable]
    ) -> NDArray[np.int64]:
        """Which state CV values lie in.

        Parameters
        ----------
        cvs : ndarray, shape (n, n_cvs)
            [CV units]
        variables : sequence of CollectiveVariable

        Returns
        -------
        ndarray of int, shape (n,)
            0 the first, 1 the second, -1 neither.

        Raises
        ------
        ValueError
            If the CV is not among them, an interval ends before it begins and the CV is not
            periodic, one is longer than the period, the states overlap, or nothing is left for
            the rest: whatever the values are.
        """
        column = self.column(variables)
        values, variable = np.asarray(cvs, dtype=float)[:, column], variables[column]
        self._require_states(variable)
        second = _inside(values, self.second, variable)
        first = ~second if self.first is None else _inside(values, self.first, variable)
        return np.where(first, 0, np.where(second, 1, -1))

    def _require_states(self, variable: CollectiveVariable) -> None:
        """Refuse two states that are none, before there are values in them."""
        if self.first is None:
            lower, upper = self.second
            if variable.period is not None and not np.mod(upper - lower, variable.period):
                raise ValueError(f"difference {self.text!r} leaves no rest: it is all of the CV")
            return
        for one, other in ((self.first, self.second), (self.second, self.first)):
            if _inside(np.array([one[0]]), other, variable).any():
                raise ValueError(f"difference {self.text!r}: its two states overlap")

    def column(self, variables: Sequence[CollectiveVariable]) -> int:
        """Position of the CV among those of a run.

        Raises
        ------
        ValueError
            If it is not among them.
        """
        names = [variable.name for variable in variables]
        if self.name not in names:
            raise ValueError(f"difference {self.text!r}: no CV {self.name!r} among {names}")
        return names.index(self.name)

    def estimate(self, samples: WeightedSamples) -> Estimate:
        """The difference from weighted samples [kJ/mol].

        Raises
        ------
        ValueError
            If a state holds no sample.
        """
        sides = self.sides(samples.cvs, samples.variables)
        if empty := [("first", "second")[side] for side in (0, 1) if not (sides == side).any()]:
            raise ValueError(
                f"no sample lies in the {' and the '.join(empty)} state of {self.text}"
            )
        value = samples.kT * _log_ratio(samples.log_weights[None], sides)[0]
        error = samples.widened(
            spread(samples.kT * _log_ratio(samples.replicates, sides)),
            samples.kT * terms_of_log_ratio(samples.log_weights, sides == 0, sides == 1),
        )
        return samples.judged(Estimate(float(value), error))


def _log_ratio(log_weights: NDArray, sides: NDArray) -> NDArray[np.float64]:
    """ln(P_first / P_second) of each row; not finite where a replicate drew one state only."""
    first, second = (logsumexp(log_weights[:, sides == side], axis=1) for side in (0, 1))
    with np.errstate(invalid="ignore"):
        return np.asarray(first - second)


def _in_words(interval: tuple[float, float]) -> str:
    lower, upper = interval
    return f"in [{lower:g}, {upper:g}){' round its period' if lower > upper else ''}"


def _interval(text: str) -> tuple[float, float] | None:
    """Both ends of ``-pi..0``; None where that is not what is written."""
    ends = [_number(word) for word in text.split("..")]
    if len(ends) != 2 or not all(math.isfinite(end) for end in ends) or ends[0] == ends[1]:
        return None
    return ends[0], ends[1]


def _number(word: str) -> float:
    """A number, also a multiple or a part of pi; NaN where it is none."""
    found = re.fullmatch(NUMBER, word, re.IGNORECASE)
    if found is None or not (found[2] or found[3]) or found[4] == "0":
        return math.nan
    value = float(found[2] or 1) * (math.pi if found[3] else 1.0) / float(found[4] or 1)
    return -value if found[1] == "-" else value


def _inside(
    values: NDArray[np.float64], interval: tuple[float, float], variable: CollectiveVariable
) -> NDArray[np.bool_]:
    """Whether values (n,) lie in an interval, its lower end included."""
    lower, upper = interval
    if variable.period is None:
        if lower > upper:
            raise ValueError(
                f"the interval {lower:g}..{upper:g} of {variable.name} ends before it begins, and "
                "the CV is not periodic"
            )
        return (values >= lower) & (values < upper)
    if upper - lower > variable.period * (1 + 1e-6):
        raise ValueError(
            f"the interval {lower:g}..{upper:g} of {variable.name} is longer than its period of "
            f"{variable.period:.4g} {variable.unit}: give both ends in its unit"
        )
    width = np.mod(upper - lower, variable.period) or variable.period
    return np.asarray(np.mod(values - lower, variable.period) < width)
