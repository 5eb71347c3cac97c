"""How long a run remembers what was put into it: measured on the first injections."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.proposals import cv_differences
from openmm_cgan.states import positions_and_box

if TYPE_CHECKING:
    from openmm import State

    from openmm_cgan.plumed.bias import PlumedBias

log = logging.getLogger("openmm_cgan")

INJECTIONS = 20  # that are watched before it is measured first
AGAIN = (40, 80, 160)  # and again: errors of means become 2.8 times smaller
LOOKS = 40  # at the run after each of them, evenly spaced
LONGEST = 10  # times the settle window that is assumed: watched for no longer
N_COMPARED = 3  # of the observables are compared with the undisturbed run: energies and volume
ROUNDING = 1e-9  # of means of what is constant
BEYOND = 4.0  # standard errors: white noise has one beyond by chance in one run of six
BEYOND_AT_FIRST = 3.0  # the same of the few means that begin where a window may end


class SettleWatch:
    """Looks at a run after each of the first injections, and says how long it takes to settle.

    **The rule.** Each observable (potential energy, kinetic energy, volume, CVs) is looked at 40
    times, evenly spaced, until the next attempt, or for ten times the window that is assumed if
    that is sooner. The run is least disturbed where the injection is longest ago: the mean of the
    second half of the looks is taken off each injection's own. Of what is left the mean over the
    injections, and over 1, 2, 4 ... looks that follow each other, has a standard error from the
    scatter of the injections. The settle window ends at the first look from which on all these
    means are their own noise: those that begin there within 3 standard errors of zero, all later
    ones within 4. What has not settled in the first half, or is still on its way in the second (its
    two halves differ by 4), takes the whole time; a warning says so. Energies and volume were
    looked at in the same way before the first injection, too. From where the window ends they must
    agree with the means of these stretches within 4 standard errors, from the scatter of the looks;
    where their second half does not, the whole time is taken. CVs need not: seeds go where the run
    was not.

    **When.** After 20 injections, and again after 40, 80 and 160, each time by all of them. A mean
    over n injections shows what is larger than 3 or 4 standard deviations over the root of n: 0.7
    to 0.9 of the deviation of an observable after 20, 0.25 to 0.35 after 160, and less where it
    lasts for several looks. What 20 do not show may be there all the same: until 160 are seen, no
    window is shorter than the one that is assumed (what a thermostat needs), if there is time for
    it.

    Parameters
    ----------
    interval : int
        Steps between two attempts.
    assumed : int
        The settle window until one is measured [steps].
    cautious : bool
        Whether the whole time that is watched is taken for settling until one is measured.

    Attributes
    ----------
    steps : int
        The settle window [steps].
    how : str
        "assumed" or "measured".
    origin : ndarray, shape (n_cvs,)
        CVs that were injected last: where those that are looked at are counted from.
    """

    def __init__(self, interval: int, assumed: int, cautious: bool = False) -> None:
        watched = min(interval, LONGEST * max(1, assumed))
        self._stride = max(1, watched // LOOKS)
        self._n_looks = max(2, watched // self._stride)
        self._least = min(assumed, watched)
        self.steps = watched if cautious else assumed
        self.how = "assumed"
        self._seen: list[NDArray[np.float64]] = []  # (n_looks, n_observables) of each injection
        self._now: list[NDArray[np.float64]] = []  # of the present one
        self._begun = -1  # its step
        self._alone: list[NDArray[np.float64]] = []  # means over stretches before the first one
        self._is_alone = False
        self.origin = np.zeros(0)

    def left_alone(self, step: int) -> None:
        """The run is disturbed by nothing from now on until the first injection."""
        self._begun, self._now, self._is_alone = step, [], True

    def injected(self, step: int, cvs: NDArray[np.float64]) -> None:
        """A configuration has been put into the run, with some CVs (n_cvs,)."""
        if len(self._seen) < AGAIN[-1]:
            self._begun, self._now, self.origin = step, [], cvs
            self._is_alone = False

    def next_look(self, step: int) -> int | None:
        """Steps from now until the run is to be looked at; None if it is not.

        An injection after which a look was missed counts for nothing.
        """
        steps = self._begun + (len(self._now) + 1) * self._stride - step
        if self._begun < 0 or steps < 0:
            self._begun = -1
            return None
        return steps

    def look(self, observables: NDArray[np.float64]) -> None:
        """See observables, shape (n,), at a step that was asked for."""
        self._now.append(observables)
        if len(self._now) < self._n_looks:
            return
        looks, end = np.array(self._now), self._begun + self._n_looks * self._stride
        self._begun, self._now = -1, []
        if self._is_alone:
            self._alone.append(looks.mean(axis=0))
            if len(self._alone) < INJECTIONS:
                self._begun = end
            return
        self._seen.append(looks)
        if len(self._seen) in (INJECTIONS, *AGAIN):
            self._measure()

    @property
    def n_seen(self) -> int:
        """Injections that were watched."""
        return len(self._seen)

    def _measure(self) -> None:
        alone = np.array(self._alone).reshape(len(self._alone), self._width)
        looks = settled_after(np.array(self._seen), alone[:, :N_COMPARED])
        self.how = "measured"
        if looks is None:
            self.steps = self._stride * self._n_looks
            log.warning(
                "the run had not settled %d steps after its first %d injections: all that time is "
                "left out; with more steps between attempts the window could be measured",
                self.steps, self.n_seen,
            )  # fmt: skip
            return
        measured = self._stride * looks
        is_last = self.n_seen == AGAIN[-1]
        self.steps = measured if is_last else max(measured, self._least)
        log.info(
            "settle window %d steps, measured on the first %d injections%s", measured, self.n_seen,
            "" if self.steps == measured else
            f"; {self.steps} are taken, as assumed, until {AGAIN[-1]} are seen",
        )  # fmt: skip

    # ---- with a checkpoint

    def saved(self) -> dict[str, NDArray]:
        """What it has seen, for a checkpoint."""
        seen = np.concatenate([np.zeros((0, self._width)), *self._seen])
        now = np.array(self._now).reshape(len(self._now), self._width)
        alone = np.array(self._alone).reshape(len(self._alone), self._width)
        numbers = [self.steps, self.how == "measured", self._begun, self._is_alone]
        own = {"seen": seen, "now": now, "numbers": np.array(numbers, dtype=np.int64)}
        return own | {"origin": self.origin, "alone": alone}

    def restore_saved(self, arrays: dict[str, NDArray]) -> None:
        """Take over what `saved` gave.

        Raises
        ------
        ValueError
            If it does not fit.
        """
        now = saved_array(arrays, "now", (None, None))
        seen = saved_array(arrays, "seen", (None, now.shape[1]))
        if len(seen) % self._n_looks or len(now) >= self._n_looks:
            raise ValueError(
                f"the saved run was looked at {len(seen)} and {len(now)} times after injections, "
                f"expected multiples of {self._n_looks}, and less: the interval was another one"
            )
        numbers = saved_array(arrays, "numbers", (4,)).astype(int).tolist()
        steps, measured, begun, is_alone = numbers
        self.steps, self.how = steps, "measured" if measured else "assumed"
        self._seen = list(seen.reshape(len(seen) // self._n_looks, self._n_looks, now.shape[1]))
        self._now, self._begun = list(now), begun
        self._alone = list(saved_array(arrays, "alone", (None, now.shape[1])))
        self._is_alone = bool(is_alone)
        self.origin = saved_array(arrays, "origin", (None,))

    @property
    def _width(self) -> int:
        """Number of observables, 0 until some were seen."""
        looks = [*self._now, *self._alone, *(first for first, *_ in self._seen)]
        return len(looks[0]) if looks else 0


def observables_of(
    state: State, periodic: bool, bias: PlumedBias, origin: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What a run is watched by.

    Parameters
    ----------
    state : openmm.State
        With positions and energies.
    periodic : bool
        Whether there is a box.
    bias : PlumedBias
        That measures the CVs.
    origin : ndarray, shape (n_cvs,) or (0,)
        CVs from which those of the state are counted; none: they are not.

    Returns
    -------
    ndarray, shape (3 + n_cvs,)
        Potential and kinetic energy [kJ/mol], volume [nm^3] or 0, CVs.
    """
    positions, box = positions_and_box(state, periodic)
    energies = state.getPotentialEnergy()._value, state.getKineticEnergy()._value
    volume = 0.0 if box is None else float(np.linalg.det(box))
    cvs = bias.cv_values(positions, box)
    moved = cv_differences(tuple(bias.variables), origin if len(origin) else cvs, cvs)
    return np.array([*energies, volume, *moved])


def settled_after(
    seen: NDArray[np.float64], alone: NDArray[np.float64] | None = None
) -> int | None:
    """After how many looks observables are within their own noise.

    Parameters
    ----------
    seen : ndarray, shape (n_injections, n_looks, n_observables)
        Observables at evenly spaced times after each injection.
    alone : ndarray, shape (n_stretches, n_compared), optional
        Means of the first of them over stretches of the undisturbed run, each as long as the time
        after an injection.

    Returns
    -------
    int or None
        0 to half of the looks; None if more would be needed. `SettleWatch` states the rule.

    Examples
    --------
    >>> noise = np.random.default_rng(1).standard_normal((20, 40, 2))
    >>> settled_after(noise)
    0
    >>> settled_after(noise + 5 * (np.arange(40) < 8)[:, None])
    8
    """
    zero = seen[0, 0]  # what is constant is exactly that
    seen = seen - zero
    half = seen.shape[1] // 2
    late = seen[:, half:]
    if alone is not None:
        alone = alone - zero[: alone.shape[1]]
        if _are_apart(late.mean(axis=1), alone):
            return None
    middle = late.shape[1] // 2
    if _is_beyond(late[:, :middle].mean(axis=1) - late[:, middle:].mean(axis=1)).any():
        return None
    settled = _noise_from(seen[:, :half] - late.mean(axis=1, keepdims=True))
    while alone is not None and settled < half and _are_apart(seen[:, settled], alone):
        settled += 1
    return settled if settled < half else None


def _noise_from(early: NDArray[np.float64]) -> int:
    """First of looks (n_injections, n_looks, n_observables) from which on all means are noise."""
    n_looks, settled, width = early.shape[1], 0, 1
    begins_beyond = np.zeros(n_looks, dtype=bool)
    sums = np.cumsum(np.concatenate([np.zeros_like(early[:, :1]), early], axis=1), axis=1)
    while width <= n_looks:
        means = (sums[:, width:] - sums[:, :-width]) / width
        beyond = np.flatnonzero(_is_beyond(means).any(axis=-1))
        if len(beyond):
            settled = max(settled, int(beyond[-1]) + 1)
        begins_beyond[: means.shape[1]] |= _is_beyond(means, BEYOND_AT_FIRST).any(axis=-1)
        width *= 2
    while settled < n_looks and begins_beyond[settled]:
        settled += 1
    return settled


def _are_apart(late: NDArray[np.float64], alone: NDArray[np.float64]) -> bool:
    """Whether means (n, ...) after injections and (m, ...) of the undisturbed run differ."""
    if len(alone) == 0:
        return False
    compared = late[:, : alone.shape[1]]
    scatter = compared.std(axis=0, ddof=1) * np.sqrt(1 / len(compared) + 1 / len(alone))
    away = np.abs(compared.mean(axis=0) - alone.mean(axis=0))
    return bool((away > BEYOND * scatter + ROUNDING * np.abs(alone).max(axis=0)).any())


def _is_beyond(differences: NDArray[np.float64], errors_away: float = BEYOND) -> NDArray[np.bool_]:
    """Whether means over the injections (first axis) are further from zero than their noise."""
    errors = differences.std(axis=0, ddof=1) / np.sqrt(len(differences))
    found: NDArray[np.bool_] = np.abs(differences.mean(axis=0)) > errors_away * errors
    return found
