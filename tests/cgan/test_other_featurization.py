"""The seam of featurizations: particles without bonds, by plain coordinates, as a flow and a GAN.

Three particles, nine coordinates; the CV is the first one. The others are normal about a line in
the CV, so that p(x | cv) is known in closed form.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from openmm import app
from torch import Tensor

from openmm_cgan.cgan import ConditionalGenerator, RefiningSettings, TrainingSettings, refine
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import FEATURIZATIONS, Featurization
from openmm_cgan.frames import Frames
from openmm_cgan.proposals import Screen, ScreenSettings, propose

X = CollectiveVariable("x", "nm", None, "POSITION", (0,))
N = 4000
SLOPES = np.linspace(-0.5, 0.5, 8)
DEVIATIONS = np.linspace(0.05, 0.2, 8)
FLOW = TrainingSettings(generator="FlowGenerator", steps=100, batch=256, width=16, report_every=50)


class PlainCoordinates:
    """A `Featurization`: coordinates of particles, standardised; the first one is the CV."""

    n_pairs = 0
    placed_variables = (0,)
    keeps_place = True

    def __init__(self, atoms: NDArray[np.int64], centre: Tensor, scale: Tensor) -> None:
        self.atoms, self.centre, self.scale = atoms, centre, scale
        self.n_linear = len(centre)
        self.n_atoms = len(atoms)
        self.encoded_atoms = atoms
        self.constant_bonds = np.zeros((0, 2), dtype=int)
        self.constant_others: list[str] = []

    @property
    def log_scale(self) -> float:
        return float(self.scale.log().sum())

    @classmethod
    def fit(cls, frames: Frames, topology: Any) -> Self:
        free = torch.from_numpy(frames.positions).double().flatten(1)[:, 1:]
        return cls(frames.atoms, free.mean(0), free.std(0, correction=0))

    def encode(self, positions: Tensor) -> Tensor:
        return (positions.double().flatten(1)[:, 1:] - self.centre) / self.scale

    def encode_with_log_det(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.encode(positions), torch.zeros(len(positions)).double()

    def decode(self, features: Tensor, cvs: Tensor) -> Tensor:
        free = features.double() * self.scale + self.centre
        return torch.cat([cvs[:, :1].double(), free], dim=1).reshape(len(free), -1, 3)

    def decode_with_log_det(self, features: Tensor, cvs: Tensor) -> tuple[Tensor, Tensor]:
        return self.decode(features, cvs), torch.zeros(len(features)).double()

    def within(self, features: Tensor) -> Tensor:
        return torch.ones(len(features), dtype=torch.bool)

    def placeable(self, cv: int) -> tuple[float, float]:
        return -math.inf, math.inf

    def folds(self, rotors: Sequence[Any]) -> list[int]:
        return []

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"atoms": self.atoms, "centre": self.centre.numpy(), "scale": self.scale.numpy()}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], variables: Sequence[CollectiveVariable]
    ) -> Self:
        numbers = (torch.from_numpy(arrays[name]) for name in ("centre", "scale"))
        return cls(arrays["atoms"], *numbers)


def particles() -> app.Topology:
    topology = app.Topology()
    chain = topology.addChain()
    for _ in range(3):
        topology.addAtom("X", app.element.argon, topology.addResidue("X", chain))
    return topology


def conditional_means(cvs: NDArray[np.float64]) -> NDArray[np.float64]:
    return SLOPES * cvs


@pytest.fixture(scope="module")
def frames() -> Frames:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (N, 1))
    others = conditional_means(x) + DEVIATIONS * rng.standard_normal((N, 8))
    positions = np.hstack([x, others]).reshape(N, 3, 3)
    order, zeros = np.arange(N), np.zeros(N)
    return Frames(positions.astype(np.float32), x, zeros, order, zeros, np.ones(N, np.int64),
                  zeros.astype(bool), (X,), np.arange(3), None, 300.0)  # fmt: skip


@pytest.fixture(scope="module")
def flow(frames: Frames) -> ConditionalGenerator:
    return ConditionalGenerator.fit(frames, particles(), FLOW, featurize=PlainCoordinates.fit)


def test_it_is_a_featurization_by_its_whole_contract(frames: Frames) -> None:
    features: Featurization = PlainCoordinates.fit(frames, particles())
    x = torch.from_numpy(frames.positions[:5]).double()
    cvs = x[:, 0, :1]
    encoded, log_det = features.encode_with_log_det(x)
    assert (features.decode(encoded, cvs) - x).abs().max() < 1e-12
    # log|J| against the derivative itself: nine coordinates by eight features and the CV
    for k in range(5):
        both = torch.cat([cvs[k], encoded[k]])
        j = torch.autograd.functional.jacobian(
            lambda q: features.decode(q[None, 1:], q[None, :1]).flatten(), both
        )
        expected = torch.linalg.slogdet(j)[1]
        assert features.log_scale + float(log_det[k]) == pytest.approx(float(expected), abs=1e-10)


def test_a_flow_over_it_has_the_known_density(flow: ConditionalGenerator) -> None:
    assert flow.has_density
    assert flow.condition_noise.tolist() == [0.0]
    asked = np.linspace(-0.9, 0.9, 2000)[:, None]
    x, log_q = flow.sample_with_log_prob(asked, seed=1)
    assert x.shape == (2000, 3, 3)
    np.testing.assert_allclose(x[:, 0, 0], asked[:, 0], atol=1e-12)
    np.testing.assert_allclose(flow.log_prob(x, asked), log_q, atol=1e-3)  # float32 networks
    off = (x.reshape(-1, 9)[:, 1:] - conditional_means(asked)) / DEVIATIONS
    log_p = -0.5 * (off**2 + math.log(2 * math.pi)).sum(1) - np.log(DEVIATIONS).sum()
    # the Kullback-Leibler distance: over 20 seeds of frames and training 0.0074 with a deviation of
    # 0.0036, of which the 24 numbers that N frames tell account for 24 / 2 / N = 0.003
    assert abs((log_q - log_p).mean()) < 0.05


def test_a_gan_over_it_is_trained_and_places_the_cv(frames: Frames) -> None:
    settings = TrainingSettings(steps=20, batch=64, width=16, report_every=10)
    gan = ConditionalGenerator.fit(frames, particles(), settings, featurize=PlainCoordinates.fit)
    assert not gan.has_density
    asked = np.linspace(-0.9, 0.9, 500)[:, None]
    x = gan.sample(asked)
    np.testing.assert_allclose(x[:, 0, 0], asked[:, 0], atol=1e-12)
    off = (x.reshape(-1, 9)[:, 1:] - conditional_means(asked)) / DEVIATIONS
    # it starts from the Gaussian of the frames; over 20 seeds 0.100 with a deviation of 0.010
    assert np.abs(off.mean(0)).max() < 0.5


def test_its_file_names_it(
    flow: ConditionalGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = flow.save(tmp_path / "model")
    with np.load(path) as file:
        assert json.loads(file["metadata"].tobytes())["featurization"] == "PlainCoordinates"
    with pytest.raises(ValueError, match="is damaged: KeyError: 'PlainCoordinates'"):
        ConditionalGenerator.load(path)
    monkeypatch.setitem(FEATURIZATIONS, "PlainCoordinates", PlainCoordinates)
    again = ConditionalGenerator.load(path, particles())
    np.testing.assert_array_equal(again.sample([0.3], 7), flow.sample([0.3], 7))


def test_its_configurations_are_proposed_and_screened(flow: ConditionalGenerator) -> None:
    class First:
        """The CV, read from positions."""

        variables = (X,)

        def cv_values(self, positions: NDArray) -> NDArray:
            return positions[:, 0, :1]

    screen = Screen(particles(), np.eye(3), First(), ScreenSettings(clash_fraction=0.0))
    proposals = propose(flow, np.linspace(-0.5, 0.5, 30)[:, None], screen, seed=1)
    assert proposals.accepted.all()


def test_it_is_refined_on_an_energy(flow: ConditionalGenerator) -> None:
    class Springs:
        """Each coordinate but the first on a spring, of which the frames knew nothing."""

        def energies_and_gradients(self, positions: NDArray) -> tuple[NDArray, NDArray]:
            held = np.ones(9)
            held[0] = 0.0
            x = positions.reshape(-1, 9) * held
            return 0.5 * 250 * (x**2).sum(1), (250 * x).reshape(-1, 3, 3)

        def half_log_det(self, positions: Any) -> Any:
            return positions[:, 0, 0] * 0

    settings = RefiningSettings(steps=60, batch=128, learning_rate=5e-3, average=0.9)
    asked = np.linspace(-1, 1, 100)[:, None]
    refined, history = refine(flow, Springs(), asked, settings)
    # over 20 seeds it falls by 4.0 with a deviation of 0.2
    assert history[-1]["loss"] < history[0]["loss"] - 2
    assert refined.features is flow.features
