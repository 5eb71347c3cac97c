"""Models that mlcolvar exports, natively, against mlcolvar's own values and gradients."""

import warnings

import numpy as np
import pytest

from benchmarks.eight_atoms import N_ATOMS, made, random_frames

# its own imports and exports warn of what is deprecated
pytestmark = pytest.mark.filterwarnings("ignore")
ARGUMENTS = """d: DISTANCE ATOMS=1,5
e: DISTANCE ATOMS=2,7
a: ANGLE ATOMS=2,4,6
t: TORSION ATOMS=2,4,5,8 COSINE
"""


def mlcolvar_cvs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("mlcolvar.cvs", exc_type=ImportError)


def deep_tda(cvs, torch):
    model = cvs.DeepTDA(
        n_states=2, n_cvs=1, target_centers=[-7, 7], target_sigmas=[0.2, 0.2], layers=[4, 12, 6, 1]
    )
    model.norm_in.mean.copy_(torch.tensor([0.4, 0.4, 1.5, 0.1]))
    model.norm_in.range.copy_(torch.tensor([0.2, 0.3, 0.5, 0.9]))
    return model


def deep_lda(cvs, torch):
    model = cvs.DeepLDA([4, 12, 5], n_states=3)
    labels = torch.arange(90) % 3
    with torch.no_grad():
        hidden = model.nn(torch.randn(90, 4) + labels[:, None])
        model.lda.compute(hidden, labels)
    return model


def autoencoder(cvs, torch):
    return cvs.AutoEncoderCV([4, 10, 2])


def committor(cvs, torch):
    return cvs.Committor([4, 12, 1], atomic_masses=torch.ones(3 * N_ATOMS), alpha=1.0)


@pytest.mark.parametrize("make", [deep_tda, deep_lda, autoencoder, committor])
def test_models_of_values_give_mlcolvars_values_and_forces(make, tmp_path):
    import torch

    cvs = mlcolvar_cvs()
    torch.manual_seed(3)
    model = make(cvs, torch).eval()
    model.to_torchscript(tmp_path / "model.ptc", method="trace")
    text = f"{ARGUMENTS}m: PYTORCH_MODEL FILE={tmp_path}/model.ptc ARG=d,e,a,t\n"
    bias, context = made(
        text + "BIASVALUE ARG=m.node-0\nPRINT ARG=d,e,a,t,m.*", "native", None, tmp_path, []
    )
    for frame in random_frames(None, np.random.default_rng(0), 5):
        values = bias._engine.values(frame, None)
        x = torch.tensor([[float(values[name]) for name in "deat"]], requires_grad=True)
        y = model(x)
        ours = [values[f"m.node-{k}"] for k in range(y.shape[1])]
        np.testing.assert_allclose(ours, y[0].detach(), rtol=1e-6, atol=1e-6)
        [chain] = torch.autograd.grad(y[0, 0], x)
        context.setPositions(frame)
        state = context.getState(forces=True, groups=bias.force_groups())
        forces = state.getForces(asNumpy=True)._value
        expected = -np.tensordot(chain[0].numpy(), slopes_of_arguments(frame), 1)
        np.testing.assert_allclose(
            forces, expected, rtol=1e-6, atol=1e-6 * np.max(np.abs(expected))
        )


def slopes_of_arguments(frame):
    """Gradients of the four arguments, shape (4, n_atoms, 3), by autograd of their definitions."""
    import torch

    x = torch.tensor(frame, requires_grad=True)
    one, two = x[3] - x[1], x[4] - x[3]
    across = x[7] - x[4]
    left, right = torch.linalg.cross(one, two), torch.linalg.cross(two, across)
    legs = x[1] - x[3], x[5] - x[3]
    values = [
        (x[0] - x[4]).norm(),
        (x[1] - x[6]).norm(),
        torch.arccos(legs[0] @ legs[1] / (legs[0].norm() * legs[1].norm())),
        left @ right / (left.norm() * right.norm()),
    ]
    return np.stack([torch.autograd.grad(v, x, retain_graph=True)[0].numpy() for v in values])


def test_a_model_of_positions_gives_mlcolvars_values_and_forces(tmp_path):
    import torch

    cvs = mlcolvar_cvs()
    from mlcolvar.core.transform import PairwiseDistances

    torch.manual_seed(3)
    model = cvs.AutoEncoderCV([6, 10, 2])
    model.preprocessing = PairwiseDistances(n_atoms=4, PBC=False, cell=1.0)
    model = model.eval()
    model.to_torchscript(tmp_path / "model.ptc", method="trace")
    text = f"m: PYTORCH_MODEL FILE={tmp_path}/model.ptc ATOMS=1,3,5,7\nBIASVALUE ARG=m.node-1\n"
    bias, context = made(text, "native", None, tmp_path, [])
    for frame in random_frames(None, np.random.default_rng(0), 5):
        x = torch.tensor(frame[::2].reshape(1, 12), dtype=torch.float32, requires_grad=True)
        y = model(x)[0, 1]
        assert bias._engine.evaluate(frame, None, 5)[1] == pytest.approx(y.item(), rel=1e-6)
        context.setPositions(frame)
        state = context.getState(forces=True, groups=bias.force_groups())
        [slope] = torch.autograd.grad(y, x)
        forces = state.getForces(asNumpy=True)._value[::2].ravel()
        np.testing.assert_allclose(forces, -slope[0], rtol=1e-5, atol=1e-6 * slope.abs().max())
