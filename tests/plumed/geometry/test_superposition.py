"""Superpositions of many frames on many references at once are those of scipy, one by one."""

import pickle

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from openmm_cgan.plumed.geometry.last_frames import LastFrame
from openmm_cgan.plumed.geometry.superposition import (
    deviation_gradient,
    deviations,
    make_references,
    mean_square_deviation,
)

N_FRAMES, N_REFERENCES, N_ATOMS = 5, 4, 7
SHAPES = ("of any shape", "flat frames", "flat references", "flat", "three atoms", "mirrored")


def made(shape, seed=0, alike=True):
    """Frames far from the origin, and references with weights of their own."""
    rng = np.random.default_rng(seed)
    n = 3 if shape == "three atoms" else N_ATOMS
    y, x = rng.normal(size=(N_REFERENCES, n, 3)), rng.normal(size=(N_FRAMES, n, 3))
    x[0] = y[0] + 0.01 * rng.normal(size=(n, 3))
    if shape == "mirrored":
        x[:N_REFERENCES] = -y + 0.01 * rng.normal(size=y.shape)
    if shape in ("flat frames", "flat"):
        x[..., 2] = 0.0
    if shape in ("flat references", "flat"):
        y[..., 1] = 0.0
    weights = rng.random((1 if alike else N_REFERENCES, n)) * np.ones((N_REFERENCES, 1))
    return x + 10.0, make_references(y, weights, weights, rotate=True)


def one_by_one(frame, references, k):
    """The deviation from one reference, by another's superposition."""
    w, y = references.align[k], references.points[k]
    x = frame - w @ frame
    turn = Rotation.align_vectors(y, x, weights=w)[0]
    return float(w @ ((turn.apply(x) - y) ** 2).sum(axis=1))


@pytest.mark.parametrize("alike", [True, False], ids=["weights alike", "weights unlike"])
@pytest.mark.parametrize("shape", SHAPES)
def test_many_at_once_are_those_one_by_one(shape, alike):
    frames, references = made(shape, alike=alike)
    assert references.weighs_alike is alike
    expected = [[one_by_one(x, references, k) for k in range(N_REFERENCES)] for x in frames]
    np.testing.assert_allclose(mean_square_deviation(frames, references), expected, atol=1e-10)
    for frame, row in zip(frames, expected, strict=True):
        np.testing.assert_allclose(mean_square_deviation(frame, references), row, atol=1e-10)
        np.testing.assert_allclose(deviations(frame, references)[0], row, atol=1e-10)
        np.testing.assert_allclose(deviation_gradient(frame, references)[0], row, atol=1e-10)


@pytest.mark.parametrize("alike", [True, False], ids=["weights alike", "weights unlike"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_all_is_the_sum_of_each(shape, alike):
    """Where the best rotation is one: that of mirror images of flat ones is found as well."""
    frames, references = made(shape, seed=1, alike=alike)
    factors = np.random.default_rng(2).normal(size=N_REFERENCES)
    for frame in frames:
        tensor = torch.tensor(frame, requires_grad=True)
        total = (mean_square_deviation(tensor, references) * torch.tensor(factors)).sum()
        (slopes,) = torch.autograd.grad(total, tensor)
        pulled = deviations(frame, references)[1](factors)
        each = np.tensordot(factors, deviation_gradient(frame, references)[1], 1)
        np.testing.assert_allclose(pulled, each, atol=1e-10)
        np.testing.assert_allclose(pulled, slopes.numpy(), atol=1e-10)


def test_a_frame_on_its_reference_has_a_gradient_of_zero():
    _, references = made("of any shape")
    frame = torch.tensor(references.points[1] - 3.0, requires_grad=True)
    square = mean_square_deviation(frame, references)[1]
    (slopes,) = torch.autograd.grad(square, frame)
    assert 0 <= float(square.detach()) < 1e-14
    assert float(slopes.abs().max()) < 1e-12


def test_the_last_frame_is_kept_for_all_copies_and_no_other():
    calls = []

    def counted(points, references):
        calls.append(len(references.points))
        return points.sum()

    frames, references = made("of any shape")
    last = LastFrame(deviations)
    last._function = counted
    copied = last.__reduce__()[0](*last.__reduce__()[1])
    assert copied is last
    assert last(frames[0], references) == copied(frames[0].copy(), references) == frames[0].sum()
    assert len(calls) == 1
    moved = frames[0].copy()
    assert last(moved, references) == moved.sum()
    moved += 1e-9  # in place, as positions are filled in at each step
    assert last(moved, references) == moved.sum()
    some, index = references.some(np.array([1, 2])), np.array([1, 2])
    last(moved, some, index)
    last(moved, some, index.copy())
    last(moved, some, np.array([1, 3]))
    assert calls == [N_REFERENCES] * 2 + [2, 2]
    again = pickle.loads(pickle.dumps(LastFrame(deviations)))
    np.testing.assert_array_equal(
        again(frames[0], references)[0], deviations(frames[0], references)[0]
    )
