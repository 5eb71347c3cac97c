"""Adam is that of the paper and goes on from torch's states.

It is not compared with torch.optim.Adam, which loads the compiler that this one is there to spare.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch

from openmm_cgan.optimiser import Adam
from tests.cases.other_processes import PATIENCE

RATES = [0.01 * (1 + step % 5) for step in range(40)]


def of_the_paper(x, slopes, rates, betas, mean=0.0, square=0.0, done=0):
    """Kingma and Ba (2015), algorithm 1."""
    for step, (slope, rate) in enumerate(zip(slopes, rates, strict=True), done + 1):
        mean = betas[0] * mean + (1 - betas[0]) * slope
        square = betas[1] * square + (1 - betas[1]) * slope**2
        unbiased = square / (1 - betas[1] ** step)
        x = x - rate * mean / (1 - betas[0] ** step) / (np.sqrt(unbiased) + 1e-8)
    return x, mean, square


def descended(parameter, slopes, rates, adam):
    for slope, rate in zip(slopes, rates, strict=True):
        adam.zero_grad()
        assert parameter.grad is None
        parameter.grad = torch.from_numpy(slope)
        adam.learning_rate = rate
        adam.step()
    return parameter.detach().numpy()


@pytest.mark.parametrize("betas", [(0.0, 0.9), (0.9, 0.999)])
def test_steps_are_those_of_the_paper(betas):
    slopes = np.random.default_rng(0).normal(size=(len(RATES), 7)) * np.logspace(-6, 3, 7)
    moving, resting = (torch.nn.Parameter(torch.ones(7, dtype=torch.float64)) for _ in "ab")
    adam = Adam([resting, moving], 1.0, betas)
    found = descended(moving, slopes, RATES, adam)
    np.testing.assert_allclose(found, of_the_paper(1.0, slopes, RATES, betas)[0], rtol=1e-12)
    assert torch.equal(resting, torch.ones(7, dtype=torch.float64))  # it had no gradient


def test_it_goes_on_from_a_state_of_torch_and_from_its_own():
    slopes, betas, half = np.random.default_rng(1).normal(size=(len(RATES), 3)), (0.9, 0.99), 15
    expected, _, _ = of_the_paper(1.0, slopes, RATES, betas)
    x, mean, square = of_the_paper(1.0, slopes[:half], RATES[:half], betas)
    state = {"exp_avg": torch.tensor(mean), "exp_avg_sq": torch.tensor(square)}
    group = {"lr": 0.5, "betas": betas, "eps": 1e-8, "weight_decay": 0, "amsgrad": False}
    group |= {"maximize": False, "foreach": None, "fused": True, "params": [0]}
    saved = {"state": {0: state | {"step": torch.tensor(float(half))}}, "param_groups": [group]}
    for _ in range(2):
        parameter = torch.nn.Parameter(torch.tensor(x))
        adam = Adam([parameter], 1.0, (0.5, 0.5))
        adam.load_state_dict(saved)
        assert adam.learning_rate == 0.5
        saved = adam.state_dict()
        saved["state"] = {0: {name: part.clone() for name, part in saved["state"][0].items()}}
        found = descended(parameter, slopes[half:], RATES[half:], adam)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_state_of_other_parameters_is_refused():
    def adam_of(*sizes):
        made = Adam([torch.nn.Parameter(torch.ones(size)) for size in sizes], 1.0, (0.9, 0.99))
        for parameter in made.parameters:
            parameter.grad = torch.ones_like(parameter)
        made.step()
        return made

    with pytest.raises(ValueError, match="of 2 parameters; expected 1"):
        adam_of(3).load_state_dict(adam_of(3, 4).state_dict())
    with pytest.raises(ValueError, match=r"shape \(1,\).*expected \(3,\)"):
        adam_of(3).load_state_dict(adam_of(1).state_dict())


TRAINS = """
import sys, torch
from openmm_cgan.cgan.critic import Critic
from openmm_cgan.cgan.settings import TrainingSettings
from openmm_cgan.cgan.training import train
from openmm_cgan.cgan.training_data import TrainingData
from openmm_cgan.generators import KINDS

y = torch.randn(100, 1)
for kind, generator in KINDS.items():
    settings = TrainingSettings(steps=2, batch=16, width=8, generator=kind)
    data = TrainingData.split(y, y, torch.ones(100), 0)
    train(generator(1, 0, 1, 8, 1), Critic(1, 0, 1, 8, 1), data, settings, sys.argv[1] + kind)
assert "torch._dynamo" not in sys.modules
"""


def test_training_does_not_load_the_compiler_of_torch(tmp_path):
    command = [sys.executable, "-c", TRAINS, f"{tmp_path}/"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr
    assert len(list(tmp_path.iterdir())) == 2
