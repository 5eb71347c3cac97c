"""Programs of numpy that stand for calls of torch: against torch itself."""

import numpy as np
import pytest
import torch

from openmm_cgan.plumed.files.model_programs import written_out


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.stack([x[:, 0].sin(), -x[:, -1]], -1),
        lambda x: torch.stack([x[:, 0].sin(), x[:, 1] - x[:, 2]], 0),
        lambda x: torch.stack([x * 2, x / (1 + x * x)], 1),
        lambda x: torch.stack([x[0], 1 - x[0]], 1).select(-1, 1) * x.select(1, -2),
        lambda x: torch.func.grad(lambda y: (y[:, 1] * (y[:, -1] - y[:, 0]).cos()).sum())(x),
    ],
    ids=["columns", "rows", "tables", "from behind", "gradient"],
)
def test_a_program_is_what_it_was_written_from(function):
    frames = torch.randn(5, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    program = written_out(function, frames[0])
    assert program is not None
    for frame in frames:
        expected = function(frame).numpy()
        found = program(frame.numpy())
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_a_script_that_makes_tensors_elsewhere_gets_the_same_program():
    def function(x):
        return x.float().double() * torch.zeros_like(x).cos()

    frame = torch.tensor([[0.1, 0.2]], dtype=torch.float64)
    with torch.device("meta"):  # as after torch.set_default_device("cuda")
        program = written_out(function, frame)
    assert program is not None
    np.testing.assert_allclose(program(frame.numpy()), function(frame).numpy(), rtol=1e-13)
