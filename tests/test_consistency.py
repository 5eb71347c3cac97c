"""Micro-macro consistency of generators that are exact, shifted, and too narrow."""

from pathlib import Path

import numpy as np
import pytest
import torch

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames
from openmm_cgan.metrics import micro_macro_consistency
from openmm_cgan.report import plot_consistency
from openmm_cgan.testsystems.multiscale import HalfMoon

SYSTEM = HalfMoon()
Z = CollectiveVariable("z")
AT = np.linspace(-1.0, 1.0, 9)


@pytest.fixture(scope="module")
def frames() -> Frames:
    z = np.random.default_rng(0).uniform(-1.6, 1.6, (6000, 1))
    return Frames.of_arrays(SYSTEM.sample_conditional(z, 1, 1)[:, 0], z, [Z])


def consistency(frames: Frames, shift: float = 0.0, narrow: float = 1.0):
    def lifting(z: np.ndarray, seed: int) -> np.ndarray:
        x = SYSTEM.sample_conditional(z + shift, 1, seed)[:, 0]
        u = SYSTEM.hidden(torch.from_numpy(x))
        x = SYSTEM.observed(torch.stack([u[:, 0], narrow * u[:, 1]], 1)).numpy()
        return SYSTEM.positions(x)

    def restriction(positions: np.ndarray) -> np.ndarray:
        return SYSTEM.slow(torch.from_numpy(SYSTEM.coordinates(positions))).numpy()

    return micro_macro_consistency(
        lifting,
        restriction,
        frames,
        AT,
        n_frames=150,
        coordinates=lambda p: SYSTEM.coordinates(p),
    )


def test_exact_lifting_is_at_the_floor(frames: Frames) -> None:
    found = consistency(frames)
    assert (found.offset < 1e-9).all()
    # Squares of distances average to zero: as often above the floor's as below.
    assert found.ratio < 2.5
    assert "times its floor" in str(found)


def test_a_shift_and_a_narrow_law_are_seen(frames: Frames) -> None:
    shifted = consistency(frames, shift=0.3)
    np.testing.assert_allclose(shifted.offset, 0.3, atol=1e-9)
    narrow = consistency(frames, narrow=0.3)
    assert (narrow.offset < 1e-9).all()
    assert narrow.distance.mean() > 4 * narrow.floor.mean()


def test_the_page_is_drawn(frames: Frames, tmp_path: Path) -> None:
    found = consistency(frames)
    path = tmp_path / "page.png"
    plot_consistency(found, path, Z)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"at": np.zeros((2, 2))}, r"expected \(m, 1\)"),
        ({"n_frames": 5000}, "two halves of 5000"),
        ({"lifting": lambda z, seed: np.zeros((len(z), 2, 3))}, "atoms of the frames"),
    ],
)
def test_refusals(frames: Frames, change: dict, words: str) -> None:
    given = {
        "lifting": lambda z, seed: np.zeros((len(z), 1, 3)),
        "restriction": lambda x: x[:, 0, :1],
        "frames": frames,
        "at": AT,
    } | change
    with pytest.raises(ValueError, match=words):
        micro_macro_consistency(**given)
