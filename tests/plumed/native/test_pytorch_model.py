"""PYTORCH_MODEL natively: against PLUMED's own functions, finite differences and autograd."""

import logging

import numpy as np
import pytest
import torch

from benchmarks.eight_atoms import BOXES, N_ATOMS, TOLERANCE, made, random_frames
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.torch_models import Encoding, TorchModel
from openmm_cgan.plumed.input.language import PlumedInputError
from tests.cases.biased_runs import biased_alanine, phase_point

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Wave(torch.nn.Module):
    """Two outputs of three numbers, which CUSTOM says too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = x[:, 0] * torch.sin(x[:, 1]) + torch.tanh(x[:, 2])
        return torch.stack([first, torch.exp(-(x[:, 0] ** 2))], 1)


class Branching(torch.nn.Module):
    """It does other things for other inputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            return x[:, :1] ** 2
        return 3 * x[:, :1]


class OneFrame(torch.nn.Module):
    """It takes one frame only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, 3).sum(1).reshape(1, 1) ** 2


class Apart(torch.nn.Module):
    """Squared distance of the first atom from the last, and size, of positions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        arm = x - x.mean(1, keepdim=True)
        apart = ((x[:, 0] - x[:, x.size(1) - 1]) ** 2).sum(1).sqrt()
        return torch.stack([apart, (arm**2).sum(2).mean(1).sqrt()], 1)


def network(n, k=1, activation=torch.nn.Tanh, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    layers = torch.nn.Linear(n, 9), activation(), torch.nn.Linear(9, k)
    return torch.nn.Sequential(*layers).to(dtype)


def saved(model, folder, name="model.ptc", example=None):
    made = torch.jit.script(model) if example is None else torch.jit.trace(model, example)
    made.save(folder / name)
    return folder / name


VALUES = """d: DISTANCE ATOMS=1,5
t: TORSION ATOMS=2,4,5,8
g: COORDINATION GROUPA=1,2 GROUPB=6,7 R_0=0.3
"""
PLUMEDS = """m0: CUSTOM ARG=d,t,g FUNC=x*sin(y)+tanh(z) PERIODIC=NO
m1: CUSTOM ARG=d FUNC=exp(-x^2) PERIODIC=NO
"""
ACTING = {
    "restraint": "RESTRAINT ARG={0},{1} AT=0.3,0.4 KAPPA=40,30",
    "walls": "UPPER_WALLS ARG={1} AT=0.1 KAPPA=50\nLOWER_WALLS ARG={0} AT=1 KAPPA=3",
    "METAD": "METAD ARG={0},{1} SIGMA=0.2,0.1 HEIGHT=1.2 PACE=5",
    "METAD on a grid": "METAD ARG={0} SIGMA=0.2 HEIGHT=1.2 PACE=5 GRID_MIN=-2 GRID_MAX=2",
    "function of it": "f: CUSTOM ARG={0},{1},d FUNC=x*y+z PERIODIC=NO\n"
    "RESTRAINT ARG=f AT=0.3 KAPPA=40",
    "in another unit": "UNITS LENGTH=A ENERGY=kcal/mol\nRESTRAINT ARG={1} AT=0.3 KAPPA=4",
}


@pytest.mark.plumed
@pytest.mark.parametrize("kind", ACTING)
@pytest.mark.parametrize("box", ["no box", "triclinic"])
def test_a_model_acts_as_plumeds_functions_do(kind, box, tmp_path):
    path = saved(Wave(), tmp_path)
    model = f"m: PYTORCH_MODEL FILE={path} ARG=d,t,g\n"
    rng = np.random.default_rng(5)
    box, laid = BOXES[box], random_frames(BOXES[box], rng, 4)
    both = []
    for backend, functions, names in (
        ("native", model, ("m.node-0", "m.node-1")),
        ("kernel", PLUMEDS, ("m0", "m1")),
    ):
        units, _, acting = (
            ACTING[kind].format(*names).rpartition("UNITS LENGTH=A ENERGY=kcal/mol\n")
        )
        first = "UNITS LENGTH=A ENERGY=kcal/mol\n" if "UNITS" in ACTING[kind] else ""
        text = first + VALUES + functions + units + acting
        both.append(made(text, backend, box, tmp_path, laid if "METAD" in kind else []))
    for frame in random_frames(box, rng, 6):
        found = []
        for bias, context in both:
            context.setPositions(frame)
            state = context.getState(energy=True, forces=True, groups=bias.force_groups())
            energy = state.getPotentialEnergy()._value
            assert energy == pytest.approx(bias._engine.evaluate(frame, box, 25)[1], rel=1e-8)
            found.append(np.append(state.getForces(asNumpy=True)._value.ravel(), energy))
        np.testing.assert_allclose(*found, rtol=TOLERANCE, atol=TOLERANCE * np.max(found))


def test_positions_are_made_whole_and_given_in_the_length_unit(tmp_path):
    path = saved(Apart(), tmp_path)
    text = f"UNITS LENGTH=A\nm: PYTORCH_MODEL FILE={path} ATOMS=1-8\nd: DISTANCE ATOMS=1,8 NOPBC\n"
    text += "g: GYRATION ATOMS=1-8\nRESTRAINT ARG=m.node-0,m.node-1 AT=2,3 KAPPA=4,5\n"
    rng = np.random.default_rng(2)
    for box in BOXES.values():
        bias, context = made(text, "native", box, tmp_path, [])
        for torn, whole in zip(
            random_frames(box, np.random.default_rng(7), 3),
            random_frames(box, np.random.default_rng(7), 3, torn=False),
            strict=True,
        ):
            values = bias._engine.values(torn, box)
            assert values["m.node-1"] == pytest.approx(values["g"], rel=1e-6)
            apart = 10 * np.linalg.norm(whole[0] - whole[-1])
            assert bias._engine.values(whole, None)["m.node-0"] == pytest.approx(apart, rel=1e-6)
            context.setPositions(torn)
            forces = (
                context.getState(forces=True, groups=bias.force_groups())
                .getForces(asNumpy=True)
                ._value
            )
            move = rng.normal(size=(N_ATOMS, 3))
            ends = [bias._engine.evaluate(torn + s * move, box, 5)[1] for s in (1e-5, -1e-5)]
            slope = (ends[1] - ends[0]) / 2e-5
            assert np.sum(forces * move) == pytest.approx(slope, rel=1e-5)


MODELS = {
    "tanh": network(4, 3),
    "relu in single precision": network(4, 2, torch.nn.ReLU, torch.float32),
    "sigmoid": network(4, 2, torch.nn.Sigmoid),
    "numpy has no such layer": network(4, 2, torch.nn.GELU),
    "functions": Wave(),
    "branches": Branching(),
}


@pytest.mark.parametrize("kind", MODELS)
def test_slopes_are_those_of_autograd(kind, tmp_path):
    model = MODELS[kind]
    scripted = kind in ("branches", "functions")
    dtype = torch.float32 if "single" in kind else torch.float64
    example = None if scripted else torch.zeros(1, 4, dtype=dtype)
    read = TorchModel(saved(model, tmp_path, example=example), (4,))
    assert read.dtype is dtype
    nodes = tuple(range(read.n_outputs))
    slopes = read.slopes_of(nodes)
    for numbers in np.random.default_rng(1).normal(size=(5, 4)):
        x = torch.tensor(numbers[None], dtype=dtype, requires_grad=True)
        y = model(x)
        expected = [
            y.detach().ravel(),
            *(torch.autograd.grad(y[0, k], x, retain_graph=True)[0][0] for k in nodes),
        ]
        tolerance = 1e-5 if dtype is torch.float32 else 1e-12
        np.testing.assert_allclose(slopes(numbers), torch.cat(expected), tolerance, tolerance)


def encoded(numbers):
    """Sines, cosines and products of numbers without an axis."""
    a, b, c = numbers
    return torch.stack(torch.broadcast_tensors(a.sin(), a.cos(), b * c, torch.as_tensor(0.5)))


@pytest.mark.parametrize("nodes", [(1,), (2, 0)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_slopes_along_what_the_inputs_are_made_of(dtype, nodes, tmp_path, monkeypatch):
    model = network(4, 3, dtype=dtype)
    read = TorchModel(saved(model, tmp_path, example=torch.zeros(1, 4, dtype=dtype)), (4,))
    cases = []
    for frame in torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)):
        x = frame.clone().requires_grad_(True)
        y = model(encoded(x)[None].to(dtype))[0]
        rows = [torch.autograd.grad(y[k], x, retain_graph=True)[0] for k in nodes]
        cases.append((frame.tolist(), torch.cat([y.detach(), *rows])))
    slopes = read.slopes_of(nodes, Encoding(3, encoded))
    monkeypatch.setattr(torch.autograd, "grad", None)  # it is written out: autograd is not asked
    tolerance = 1e-5 if dtype is torch.float32 else 1e-12
    for numbers, expected in cases:
        np.testing.assert_allclose(slopes(numbers), expected, tolerance, tolerance)


def test_many_frames_are_one_call_and_tensors_keep_their_gradient(tmp_path):
    path = saved(Wave(), tmp_path)
    bias = PlumedBias(
        VALUES.replace("g: COORDINATION GROUPA=1,2 GROUPB=6,7 R_0=0.3", "g: DISTANCE ATOMS=2,7")
        + f"m: PYTORCH_MODEL FILE={path} ARG=d,t,g\nRESTRAINT ARG=m.node-0 AT=0 KAPPA=1\n",
        backend="native",
    )
    frames = random_frames(None, np.random.default_rng(0), 7)
    together = bias._engine.cv_values(frames, None)
    alone = [bias._engine.cv_values(frame, None) for frame in frames]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    x = torch.tensor(frames, requires_grad=True)
    [column] = bias._engine.cv_columns(x)
    [slope] = torch.autograd.grad(column.sum(), x)
    move = np.random.default_rng(1).normal(size=frames.shape)
    ends = [bias._engine.cv_values(frames + s * move, None)[:, 0] for s in (1e-6, -1e-6)]
    expected = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose((slope.numpy() * move).sum((1, 2)), expected, rtol=1e-6, atol=1e-8)


def test_a_model_of_one_frame_is_asked_frame_by_frame(tmp_path):
    model = TorchModel(saved(OneFrame(), tmp_path), (3,))
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert not model.batched
    np.testing.assert_allclose(model.values(x), x.sum(1, keepdim=True) ** 2)


class Pair(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


class Nothing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(-1 - x**2)


class Steps(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0).to(torch.float64)


class Dice(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rand_like(x)


REFUSED = {
    "missing": "there is no file",
    "text": "not a TorchScript file",
    "torch.save": "file of torch.save",
    "cut": "not a TorchScript file",
    "four": "does not take 2 inputs, but takes 4",
    "pair": "no tensor of numbers",
    "nan": "NaN",
    "steps": "no gradient",
    "dice": "other numbers for the same inputs",
}


def unfit_file(kind, folder):
    models = {"pair": Pair(), "nan": Nothing(), "steps": Steps(), "dice": Dice()}
    path = folder / "model.ptc"
    if kind in models:
        return saved(models[kind], folder)
    if kind == "text":
        path.write_text("no model")
    elif kind == "torch.save":
        torch.save(network(2).state_dict(), path)
    elif kind != "missing":
        saved(network(4), folder)
        if kind == "cut":
            path.write_bytes(path.read_bytes()[:-200])
    return path


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_fitting_model_is_refused_before_anything_runs(kind, tmp_path):
    path = unfit_file(kind, tmp_path)
    text = f"d: DISTANCE ATOMS=1,2\ne: DISTANCE ATOMS=1,3\nm: PYTORCH_MODEL FILE={path} ARG=d,e\n"
    with pytest.raises(PlumedInputError, match=REFUSED[kind]) as error:
        PlumedBias(text + "PRINT ARG=m.* FILE=COLVAR\n", directory=tmp_path)
    assert str(error.value).startswith("<input>:3: ")
    assert not (tmp_path / "COLVAR").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    {
        "": "give ARG or ATOMS",
        "ARG=d ATOMS=1-4": "give ARG or ATOMS",
        "ARG=d NOPBC": "ATOMS only",
    }.items(),
)
def test_inputs_are_values_or_positions(words, message, tmp_path):
    path = saved(network(1), tmp_path)
    with pytest.raises(PlumedInputError, match=message):
        PlumedBias(f"d: DISTANCE ATOMS=1,2\nm: PYTORCH_MODEL FILE={path} {words}\nPRINT ARG=*\n")


def test_a_model_beside_its_input_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inputs").mkdir()
    saved(network(1), tmp_path / "inputs")
    text = "d: DISTANCE ATOMS=1,2\nm: PYTORCH_MODEL ARG=d FILE=model.ptc\nPRINT ARG=m.*\n"
    (tmp_path / "inputs" / "plumed.dat").write_text(text)
    bias = PlumedBias("inputs/plumed.dat", cvs=("m.node-0",), backend="native")
    assert bias._engine.cv_values(np.eye(3)[None], None).shape == (1, 1)


def test_a_jump_at_the_seam_of_an_angle_is_told(tmp_path, caplog):
    path = saved(network(1), tmp_path)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        PlumedBias(f"t: TORSION ATOMS=1,2,3,4\nm: PYTORCH_MODEL FILE={path} ARG=t\nPRINT ARG=m.*\n")
    assert "<input>:2" in caplog.text
    assert "jumps where t goes round" in caplog.text


def test_numbers_that_are_none_stop_a_run_by_name(tmp_path):
    class Root(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sqrt(x - 0.1)

    path = saved(Root(), tmp_path)
    text = f"d: DISTANCE ATOMS=1,5\nm: PYTORCH_MODEL FILE={path} ARG=d\n"
    _, context = made(text + "RESTRAINT ARG=m.node-0 AT=0 KAPPA=1\n", "native", None, tmp_path, [])
    frame = random_frames(None, np.random.default_rng(0), 1)[0]
    frame[4] = frame[0] + 0.03
    context.setPositions(frame)
    with pytest.raises(Exception, match=r"model\.ptc gives NaN"):
        context.getState(energy=True)


RUN = """phi: TORSION ATOMS=5,7,9,15
s: CUSTOM ARG=phi FUNC=sin(x) PERIODIC=NO
c: CUSTOM ARG=phi FUNC=cos(x) PERIODIC=NO
m: PYTORCH_MODEL FILE={path} ARG=s,c
METAD ARG=m.node-0 SIGMA=0.1 HEIGHT=1 PACE=10 FILE=HILLS
"""


def test_a_saved_run_goes_on_as_it_was_and_not_with_another_model(tmp_path):
    path = saved(network(2, seed=1), tmp_path)
    text = RUN.format(path=path)
    whole, checkpoint = tmp_path / "whole", tmp_path / "kept.npz"
    bias, simulation = biased_alanine(text, whole)
    simulation.step(25)
    bias.save_checkpoint(checkpoint)
    simulation.step(25)
    bias.close()
    again, resumed = biased_alanine(text, whole, restart=True, checkpoint=checkpoint)
    resumed.step(25)
    again.close()
    np.testing.assert_array_equal(phase_point(simulation), phase_point(resumed))
    saved(network(2, seed=2), tmp_path)
    with pytest.raises(ValueError, match="another model than that of the saved run"):
        biased_alanine(text, whole, restart=True, checkpoint=checkpoint)
