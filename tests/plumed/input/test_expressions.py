"""Expressions of functions: for numpy, torch and OpenMM the same, and nothing else."""

import math

import numpy as np
import openmm
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from openmm_cgan.plumed.input.expression_slopes import expression_slopes
from openmm_cgan.plumed.input.expressions import read_expression


@pytest.mark.parametrize(
    "text",
    [
        "x+",
        "q",
        "f(x)",
        "sin(x,y)",
        "x=1",
        "x;y",
        "__import__('os')",
        "x.real",
        "x if x else y",
        "[x]",
    ],
)
def test_expressions_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match=r"."):
        read_expression(text, ("x", "y"))


@settings(max_examples=200, deadline=None)
@given(x=st.floats(0.1, 3), y=st.floats(-2, 2))
def test_expressions_are_the_same_for_numpy_torch_and_openmm(x, y):
    text = "select(step(y), a*x^2, min(x, y)) + asinh(y) + acot(x) - erf(y)/2; a=square(x)+ln2"
    function = read_expression(text, ("x", "y"))
    a = x * x + math.log(2)
    expected = (a * x**2 if y >= 0 else min(x, y)) + math.asinh(y) + math.atan(1 / x)
    expected -= math.erf(y) / 2
    named = {"x": np.array(x), "y": np.array(y)}
    assert float(function.value(named)) == pytest.approx(expected, rel=1e-12)
    tensors = {name: torch.tensor(float(v), dtype=torch.float64) for name, v in named.items()}
    assert float(function.value(tensors)) == pytest.approx(expected, rel=1e-12)
    force = openmm.CustomExternalForce(function.text({"x": "(x)", "y": "y"}))
    force.addParticle(0, [])
    system = openmm.System()
    system.addParticle(1.0)
    system.addForce(force)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions([[x, y, 0.0]])
    energy = context.getState(energy=True).getPotentialEnergy()._value
    assert energy == pytest.approx(expected, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(x=st.floats(0.1, 0.9), y=st.floats(-2, 2))
def test_slopes_of_expressions_are_autograds(x, y):
    texts = [
        "x^3.5*y - 2/x + x^y + 2^y; ",
        "sqrt(x)*exp(y) + log(x)*sin(y) - cos(y)*tan(x)",
        "sec(x)+csc(x)*cot(x) + asin(x)*acos(x) - atan(y)*atan2(y, x)",
        "sinh(y)*cosh(x)+tanh(y)-erf(y)*erfc(x)",
        "step(y)*x + floor(y)*ceil(y)*x + abs(y) + square(y)*cube(x) + recip(x)",
        "min(x,y)+max(x,y)^2+select(step(y),x,y*y)-(-x)",
        "asinh(y)+acot(x)+atanh(x)+coth(x)+sech(y)",
    ]
    assume(abs(x - y) > 1e-6 and abs(y) > 1e-6)  # where slopes jump, that is anybody's
    for text in texts:
        function = read_expression(text.strip("; "), ("x", "y"))
        point = torch.tensor([x, y], dtype=torch.float64, requires_grad=True)
        function.value({"x": point[0], "y": point[1]}).backward()
        found = expression_slopes(function, ("x", "y"), (x, y))
        np.testing.assert_allclose(found, point.grad, rtol=1e-12, atol=1e-12)


def test_a_slope_where_a_power_of_nothing_is_infinite_is_only_that_slope():
    function = read_expression("sqrt(x)+y^2+x^0*3", ("x", "y"))
    assert expression_slopes(function, ("x", "y"), (0.0, 2.0)) == [math.inf, 4.0]
