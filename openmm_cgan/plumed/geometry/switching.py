"""Switching functions of a distance, for COORDINATION and CONTACTMAP.

Definitions as in PLUMED: 1 below D_0, 0 beyond D_MAX, stretched between so that it is continuous.
All lengths here are in the units of the input.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from openmm_cgan.plumed.input.expressions import Expression, namespace, read_expression
from openmm_cgan.plumed.input.words import read_integer, read_real

NO_LIMIT = math.inf
LARGEST = 700.0  # exponent of an exponential that is a number
TINY = 1e-30  # where 1 is returned anyhow, but powers and slopes must stay finite
# GPUs work out expressions in single precision, to 3e38: infinite powers give no slope there
LARGEST_POWER = 1e30
LARGEST_IN_SINGLE = 80.0  # exponent of an exponential whose slope is a number


@dataclass(frozen=True)
class Switch:
    """One switching function.

    Parameters
    ----------
    kind : str
        RATIONAL, EXP, GAUSSIAN, CUBIC, TANH, COSINUS, SMAP, Q or CUSTOM.
    r_0, d_0, d_max : float
        Lengths [length unit of the input].
    numbers : tuple of float
        NN, MM for RATIONAL; A, B for SMAP; BETA, LAMBDA, REF for Q.
    stretched : bool
        Whether it is stretched to reach 0 at D_MAX.
    function : Expression, optional
        Of CUSTOM.
    of_square : bool
        Whether its variable is x2, the square of r/R_0: D_0 plays no part then.
    """

    kind: str
    r_0: float
    d_0: float = 0.0
    d_max: float = NO_LIMIT
    numbers: tuple[float, ...] = ()
    stretched: bool = True
    function: Expression | None = None
    of_square: bool = False

    def value(self, r: Any) -> Any:
        """Value at distances.

        Parameters
        ----------
        r : ndarray or tensor, shape (...)
            [length unit of the input]; complex ones give the slope too.

        Returns
        -------
        ndarray or tensor, shape (...)
        """
        xp = namespace(r)
        with np.errstate(over="ignore"):  # of the exponential of Q: it is zero there
            raw = self._raw(r)
        # at D_0 and D_MAX themselves PLUMED's answer hangs on rounding; with a box it is this one
        value = raw if self.of_square else xp.where(r < self.d_0, raw * 0 + 1.0, raw)
        if math.isinf(self.d_max):
            return value
        stretch, shift = self._stretch()
        return xp.where(r >= self.d_max, value * 0, value * stretch + shift)

    def with_slopes(self, squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values at squared distances, and their slopes over the distance.

        Parameters
        ----------
        squared : ndarray, shape (...)
            [square of the length unit of the input]

        Returns
        -------
        values : ndarray, shape (...)
        slopes : ndarray, shape (...)
            Derivative by the distance divided by it, which is 0 at no distance [per square of
            the length unit].
        """
        if self._is_even:
            return self._with_even_slopes(squared)
        r = np.sqrt(squared)
        values = self.value(r + 1e-40j)  # exact: nothing is subtracted
        apart = np.where(r > 0, r, 1.0)
        return values.real, np.where(r > 0, values.imag / 1e-40 / apart, 0.0)

    @property
    def _is_even(self) -> bool:
        """Whether it is ``1 / (1 + (r / R_0)^NN)`` with even NN, a function of the square."""
        if self.kind != "RATIONAL" or self.d_0 != 0:
            return False
        nn, mm = self.numbers
        return mm == 2 * nn and nn >= 2 and nn % 2 == 0

    def _with_even_slopes(self, squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nn, square = int(self.numbers[0]), self.r_0**2
        u = squared * (1 / square)
        power = _power(u, nn // 2 - 1)
        values = 1 / (1 + power * u)
        slopes = values * values
        slopes *= power
        slopes *= -nn / square
        if math.isinf(self.d_max):
            return values, slopes
        stretch, shift = self._stretch()
        near = squared < self.d_max**2
        return (values * stretch + shift) * near, slopes * stretch * near

    def expression(self, r: str) -> str:
        """The same for OpenMM, given an expression of the distance."""
        inner = f"({self._raw_text(r)})"
        if not self.of_square:
            inner = f"select(step(({r})-({self.d_0!r})),{inner},1)"
        if math.isinf(self.d_max):
            return inner
        stretch, shift = self._stretch()
        return f"select(step(({r})-{self.d_max!r}),0,{stretch!r}*{inner}+({shift!r}))"

    def _stretch(self) -> tuple[float, float]:
        if not self.stretched:
            return 1.0, 0.0
        far = float(self._raw(np.asarray(self.d_max)))
        near = float(self._raw(np.asarray(0.0))) if self.of_square else 1.0
        if not math.isfinite(near - far) or near == far:
            raise ValueError(f"the switching function is {near} at 0 and {far} at D_MAX")
        return 1 / (near - far), -far / (near - far)

    def _raw(self, r: Any) -> Any:
        xp = namespace(r)
        x = (r - self.d_0) / self.r_0
        if self.function is not None:
            variables = {"x2": (r / self.r_0) ** 2} if self.of_square else {"x": x}
            return self.function.value(variables) + x * 0
        positive = xp.where(x > TINY, x, x * 0 + TINY)
        if self.kind == "RATIONAL":
            return self._rational(positive)
        if self.kind == "EXP":
            return xp.exp(-positive)
        if self.kind == "GAUSSIAN":
            return xp.exp(-positive * positive / 2)
        if self.kind == "CUBIC":
            return (positive - 1) ** 2 * (1 + 2 * positive)
        if self.kind == "TANH":
            return 1 - xp.tanh(positive)
        if self.kind == "COSINUS":
            return xp.where(x <= 1, (1 + xp.cos(math.pi * positive)) / 2, x * 0)
        if self.kind == "SMAP":
            a, b = self.numbers
            return (1 + (2 ** (a / b) - 1) * positive**a) ** (-b / a)
        beta, lambda_, reference = self.numbers
        power = beta * (r - lambda_ * reference)
        # beyond, a complex exponential has no number, and the function is zero to any precision
        return 1 / (1 + xp.exp(xp.where(power.real > LARGEST, power * 0 + LARGEST, power)))

    def _rational(self, x: Any) -> Any:
        n, m = (int(number) for number in self.numbers)
        if m == 2 * n:
            return 1 / (1 + _power(x, n))
        shared = math.gcd(n, m)
        y = _power(x, shared)
        return _signed_sum(y, n // shared) / _signed_sum(y, m // shared)

    def _raw_text(self, r: str) -> str:
        if self.function is not None:
            x2, x = f"(({r})/{self.r_0!r})^2", f"(({r})-({self.d_0!r}))/{self.r_0!r}"
            return self.function.text({"x2": f"({x2})"} if self.of_square else {"x": f"({x})"})
        x = f"max(({r}-({self.d_0!r}))/{self.r_0!r},{TINY!r})"
        if self.kind == "RATIONAL":
            return _rational_text(x, *(int(number) for number in self.numbers))
        beta, lambda_, reference = self.numbers if self.kind == "Q" else (0.0, 0.0, 0.0)
        a, b = self.numbers if self.kind == "SMAP" else (1.0, 1.0)
        return {
            "EXP": f"exp(-{x})",
            "GAUSSIAN": f"exp(-0.5*{x}^2)",
            "CUBIC": f"({x}-1)^2*(1+2*{x})",
            "TANH": f"(1-tanh({x}))",
            "COSINUS": f"step(1-{x})*0.5*(1+cos({math.pi!r}*{x}))",
            "SMAP": _smap_text(x, a, b),
            "Q": f"1/(1+exp(min({beta!r}*({r}-({lambda_ * reference!r})),{LARGEST_IN_SINGLE!r})))",
        }[self.kind]


def _power(x: Any, n: int) -> Any:
    """``x**n`` by products, several times quicker than logarithms, for x of any shape."""
    if n < 1:
        return x**n
    found, square = None, x
    while n:
        if n % 2:
            found = square if found is None else found * square
        n //= 2
        square = square * square if n else square
    return found


def _geometric_sum(x: Any, n: int) -> Any:
    """``1 + x + ... + x**(n - 1)``: (1 - x^n) / (1 - x) with nothing subtracted."""
    if n < 2:
        return x * 0 + n
    if n % 2:
        return 1 + x * _geometric_sum(x, n - 1)
    return (1 + _power(x, n // 2)) * _geometric_sum(x, n // 2)


def _signed_sum(x: Any, n: int) -> Any:
    """``(1 - x**n) / (1 - x)``, for negative n as well."""
    return _geometric_sum(x, n) if n >= 0 else -_power(1 / x, -n) * _geometric_sum(x, -n)


def _rational_text(x: str, n: int, m: int) -> str:
    """``(1 - x^n) / (1 - x^m)`` for OpenMM, with nothing subtracted."""
    if m == 2 * n:
        return f"1/(1+min({x},{LARGEST_POWER ** (1 / abs(n))!r})^{n})"
    shared = math.gcd(n, m)
    near, far = (
        "/".join(_geometric_sum_text(f"({y}^{shared})", abs(k) // shared) for k in (n, m))
        for y in (x, f"(1/{x})")
    )
    sign = "-" if (n < 0) != (m < 0) else ""
    power = min(n, 0) - min(m, 0)
    far = f"{x}^({abs(n) - abs(m)})*{far}"  # its powers are below 1
    return f"{sign}{x}^({power})*select(step({x}-1),{far},{near})"


def _smap_text(x: str, a: float, b: float) -> str:
    """``(1 + c x^a)^(-b/a)`` for OpenMM, x^a taken out where x is above 1."""
    c = 2 ** (a / b) - 1
    near, far = f"(1+{c!r}*{x}^{a!r})", f"((1/{x})^{a!r}+{c!r})"
    power = f"^({-b / a!r})"
    return f"select(step({x}-1),{x}^({-b!r})*{far}{power},{near}{power})"


def _geometric_sum_text(x: str, n: int) -> str:
    """`_geometric_sum` for OpenMM."""
    if n < 2:
        return str(n)
    if n % 2:
        return f"(1+{x}*{_geometric_sum_text(x, n - 1)})"
    return f"((1+{x}^{n // 2})*{_geometric_sum_text(x, n // 2)})"


def rational(r_0: float, d_0: float, nn: int, mm: int) -> Switch:
    """The switch of plain R_0, D_0, NN, MM keywords, which PLUMED cuts where it is 1e-5."""
    mm = mm or 2 * nn
    d_max = d_0 + r_0 * 1e-5 ** (1 / (nn - mm))
    return Switch("RATIONAL", r_0, d_0, d_max, (nn, mm))


def read_switch(text: str) -> Switch:
    """Read ``RATIONAL R_0=0.3 D_MAX=1.2`` and the like.

    Parameters
    ----------
    text : str
        The value of SWITCH, without its braces.

    Raises
    ------
    ValueError
    """
    kind, *words = text.split() or [""]
    kind = kind.upper()
    if kind not in _PARAMETERS:
        known = ", ".join(_PARAMETERS)
        raise ValueError(f"the switching function {kind} is not known natively ({known})")
    given: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key.upper() not in {"R_0", "D_0", "D_MAX", "STRETCH", "NOSTRETCH", *_PARAMETERS[kind]}:
            raise ValueError(f"'{word}' is not understood in a {kind} switching function")
        given[key.upper()] = value
    d_0, d_max = read_real(given.get("D_0", "0")), NO_LIMIT
    if "D_MAX" in given:
        d_max = read_real(given["D_MAX"])
    if kind == "CUBIC":
        if math.isinf(d_max):
            raise ValueError("CUBIC needs D_MAX")
        r_0 = d_max - d_0
    elif "R_0" not in given and kind != "Q":
        raise ValueError(f"R_0 is missing in the {kind} switching function")
    else:
        r_0 = read_real(given.get("R_0", "1"))
    if not r_0 > 0 or d_max <= d_0:
        raise ValueError("R_0 must be positive and D_MAX above D_0")
    if kind in ("CUSTOM", "MATHEVAL"):
        return _custom(given, Switch("CUSTOM", r_0, d_0, d_max, (), "NOSTRETCH" not in given))
    # BETA is 50 in whatever unit of length the input has, though PLUMED's manual says per nm
    defaults = {"NN": 6.0, "MM": 0.0, "BETA": 50.0, "LAMBDA": 1.8}
    numbers = tuple(_number(name, given, defaults) for name in _PARAMETERS[kind])
    if kind == "RATIONAL":
        numbers = (numbers[0], numbers[1] or 2 * numbers[0])
        if numbers[0] == numbers[1]:
            raise ValueError("NN and MM must differ")
    if kind == "SMAP" and not all(number > 0 for number in numbers):
        raise ValueError("A and B of SMAP must be positive")
    switch = Switch(kind, r_0, d_0, d_max, numbers, "NOSTRETCH" not in given)
    return _checked(switch)


_PARAMETERS: dict[str, tuple[str, ...]] = {
    "RATIONAL": ("NN", "MM"),
    "EXP": (),
    "GAUSSIAN": (),
    "CUBIC": (),
    "TANH": (),
    "COSINUS": (),
    "SMAP": ("A", "B"),
    "Q": ("BETA", "LAMBDA", "REF"),
    "CUSTOM": ("FUNC",),
    "MATHEVAL": ("FUNC",),
}


def _custom(given: dict[str, str], switch: Switch) -> Switch:
    """The switch of a function of x or of x2, its square without D_0."""
    if "FUNC" not in given:
        raise ValueError("FUNC is missing in the switching function")
    of_square = re.search(r"\bx2\b", given["FUNC"]) is not None
    function = read_expression(given["FUNC"], ("x2",) if of_square else ("x",))
    return _checked(replace(switch, function=function, of_square=of_square))


def _checked(switch: Switch) -> Switch:
    """The same, if it can be stretched."""
    with np.errstate(all="ignore"):
        if not math.isinf(switch.d_max):
            switch._stretch()
    return switch


def _number(name: str, given: dict[str, str], defaults: dict[str, float]) -> float:
    if name not in given:
        if name not in defaults:
            raise ValueError(f"{name} is missing in the switching function")
        return defaults[name]
    read: Callable[[str], float] = read_integer if name in ("NN", "MM") else read_real
    return float(read(given[name]))
