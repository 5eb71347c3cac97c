"""Training, generation and densities on a device: all of it there, and the same numbers."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from openmm import app, unit
from torch.utils._pytree import tree_leaves

from openmm_cgan.cgan import ConditionalGAN, RefiningSettings, TrainingSettings, refine, rows_for
from openmm_cgan.cgan.level_sets import sample_on_level_sets
from openmm_cgan.cgan.training import _Training
from openmm_cgan.cli import main
from openmm_cgan.cli.importance import weigher_of
from openmm_cgan.cli.run_records import RunSettings
from openmm_cgan.cli.simulations import run_biased
from openmm_cgan.cli.window_places import Run
from openmm_cgan.cli.window_starts import windows_of
from openmm_cgan.closures import local_dynamics, md_mobility
from openmm_cgan.devices import device_named, moved
from openmm_cgan.features import AlignedFeatures, ZMatrixFeatures
from openmm_cgan.frames import Frames, topology_hash
from openmm_cgan.free_energy.biased_runs import BiasedRun
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.potentials import Potential
from openmm_cgan.reporters import Learner
from openmm_cgan.testsystems import Chain, Molecule
from openmm_cgan.testsystems.multiscale import HalfMoon
from openmm_cgan.windows import WindowSettings
from openmm_cgan.windows.placement import Placement
from tests.cases.other_device import ELSEWHERE, other_device

CHAIN = Chain()
INPUTS = {"phi": "phi: TORSION ATOMS=1,2,3,4\n", "ends": "ends: DISTANCE ATOMS=1,4\n"}
QUICK = TrainingSettings(steps=2, batch=8, width=4, report_every=1)
FLOW = replace(QUICK, generator="FlowGenerator")
END = ZMatrixFeatures.of_part([3])
NOWHERE = "cuda:99"
# Adam rounds otherwise where it is not one kernel, in float32
NEAR = {"rtol": 1e-4, "atol": 1e-5}


def bias_of(cv):
    return PlumedBias(f"{INPUTS[cv]}PRINT ARG={cv}\n", CHAIN.topology(), temperature=300.0)


def frames_with(cv, n=60):
    x, bias = CHAIN.sample(n, 300.0, seed=1).astype(np.float32), bias_of(cv)
    return Frames(
        positions=x, cvs=bias.cv_values(x), bias=np.zeros(n), step=np.arange(n), time=np.zeros(n),
        segment=np.ones(n, np.int64), settling=np.zeros(n, bool), variables=bias.variables,
        atoms=np.arange(4), temperature=300.0, topology_hash=topology_hash(CHAIN.topology()),
    )  # fmt: skip


def trained(settings=QUICK, cv="ends", device="cpu", **more):
    return ConditionalGAN.fit(frames_with(cv), CHAIN.topology(), settings, device=device, **more)


def said_by(gan, density=False):
    """What a generator makes of some conditions, and with which densities."""
    cvs = np.linspace(*gan.cv_range[0], 20)[:, None]
    if not density:
        return {"made": gan.sample(cvs, seed=3)}
    x, log_q = gan.sample_with_log_prob(cvs, seed=3)
    return {"x": x, "log_q": log_q, "again": gan.log_prob(x, cvs)}


def require_alike(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], err_msg=name, **NEAR)


@pytest.mark.parametrize(
    ("settings", "how"),
    [
        (QUICK, {}),
        (QUICK, {"featurize": AlignedFeatures.fit}),
        (replace(FLOW, likelihood=0.5), {"featurize": END}),
        (FLOW, {"cv": "phi"}),
        (replace(QUICK, consistency=1.0), {"restriction": bias_of("ends").differentiable_cvs}),
    ],
    ids=["GAN", "aligned", "part", "flow", "consistency"],
)
def test_a_generator_trained_elsewhere_is_the_same(settings, how):
    """No tensor of the processor is met, no layer computed there, and the numbers are the same."""
    here = trained(settings, **how)
    with other_device() as watched:
        there = trained(settings, device=ELSEWHERE, **how)
        assert there.device == ELSEWHERE
        said = said_by(there, there.has_density)
    assert watched.layers_there > 0 == watched.layers_here
    require_alike(said_by(here, here.has_density), said)
    for row, other in zip(here.history, there.history, strict=True):
        for name in row.keys() - {"seconds"}:
            assert row[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), name


def test_refining_and_moves_are_done_elsewhere_and_come_back(tmp_path):
    """Maps and level sets follow a flow there; its file is read where no such device is."""
    gan, frames = trained(FLOW, "phi"), frames_with("phi")
    rows = rows_for(gan, frames, CHAIN.topology())
    how = RefiningSettings(steps=2, batch=16, report_every=1)
    here, history = refine(gan, Potential(CHAIN.system()), None, how, frames=rows)
    cvs = np.linspace(-3, 3, 8)[:, None]
    latent = here.latent_map()
    with other_device() as watched:
        energy = Potential(CHAIN.system())
        there, others = refine(gan, energy, None, how, frames=rows, device=ELSEWHERE)
        said = said_by(there, True)
        assert watched.layers_there > 0 == watched.layers_here
        assert gan.device == torch.device("cpu")  # it is left as it is
        mapped = there.latent_map().mapped(latent.draw(cvs, 1), cvs)
        slopes = mapped.pulled_back(np.ones((8, 4, 3)))
        back = there.latent_map().latent(mapped.positions, cvs)
        bias = bias_of("phi")
        onto = sample_on_level_sets(there, cvs, bias.differentiable_cvs, seed=2)
        rows_again = rows_for(there, frames, CHAIN.topology())
        path = there.save(tmp_path / "there.npz")
    for row, other in zip(history, others, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)
    require_alike(said_by(here, True), said)
    require_alike(said_by(ConditionalGAN.load(path), True), said)
    mine = latent.mapped(latent.draw(cvs, 1), cvs)
    np.testing.assert_allclose(mapped.positions, mine.positions, **NEAR)
    np.testing.assert_allclose(slopes, mine.pulled_back(np.ones((8, 4, 3))), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(back, latent.draw(cvs, 1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(bias.cv_values(onto), cvs, atol=1e-6)
    assert torch.equal(rows_again.features, rows.features)


def test_torsions_are_drawn_elsewhere():
    here = trained(FLOW)  # given a distance the torsion is drawn
    cvs, unknown = np.linspace(*here.cv_range[0], 8)[:, None], np.full((8, 1), np.nan)
    mine = here.torsion_map().draw(cvs, unknown, seed=4)
    with other_device():
        there = here.to(ELSEWHERE).torsion_map()
        np.testing.assert_allclose(there.draw(cvs, unknown, seed=4), mine, rtol=1e-12)
        log_prob = there.log_prob(mine, cvs)
    np.testing.assert_allclose(log_prob, here.torsion_map().log_prob(mine, cvs), rtol=1e-12)


@pytest.mark.parametrize("first", ["cpu", ELSEWHERE], ids=["from here", "from there"])
def test_a_checkpoint_is_gone_on_from_on_another_device(first, tmp_path, monkeypatch):
    """Half of the steps on one device and half on another give what one device gives."""
    settings, checkpoint = replace(QUICK, steps=4), tmp_path / "training.chk"
    saved = _Training.save

    def stop_half_way(training, path):
        saved(training, path)
        if training.step == 2:
            raise KeyboardInterrupt

    whole = trained(settings)
    with other_device():
        with monkeypatch.context() as patch:
            patch.setattr(_Training, "save", stop_half_way)
            with pytest.raises(KeyboardInterrupt):
                trained(settings, device=first, checkpoint=checkpoint)
        second = "cpu" if first == ELSEWHERE else ELSEWHERE
        said = said_by(trained(settings, device=second, checkpoint=checkpoint))
    for tensor in tensors_in(torch.load(checkpoint, weights_only=True)):
        assert tensor.device == torch.device("cpu")
    require_alike(said_by(whole), said)


def tensors_in(tree):
    return [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]


def test_the_other_device_finds_what_is_not_there():
    """The check that all tests above rest on can fail."""
    with other_device():
        there = torch.ones(3).to(ELSEWHERE)
        assert float((there * 2).sum()) == 6
        with pytest.raises(RuntimeError, match="a tensor of the processor among others"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="not supported"):
            there.numpy()


@pytest.mark.parametrize("name", [NOWHERE, "meta", "gpu"])
def test_a_device_that_is_not_here_is_refused(name):
    with pytest.raises(ValueError, match=rf"device='{name}' can not be used here .*cpu"):
        device_named(name)


def test_a_device_that_computes_wrongly_or_without_double_precision_is_refused(monkeypatch):
    def single_only(*size, dtype, device):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    monkeypatch.setattr(torch, "zeros", single_only)
    with pytest.raises(ValueError, match="Cannot convert a MPS Tensor to float64"):
        device_named("mps")


def test_nothing_is_done_before_the_device_is_there(tmp_path):
    """The frames, the model and the topology are not even looked for."""
    refused = pytest.raises(ValueError, match=f"device='{NOWHERE}' can not be used here")
    with refused:
        ConditionalGAN.fit("no frames", None, device=NOWHERE)
    with refused:
        ConditionalGAN.load("no model", device=NOWHERE)
    with refused:
        Learner(tmp_path / "new", 10, None, "frames", QUICK, 100, device=NOWHERE)
    assert not list(tmp_path.iterdir())


def test_the_command_line_names_the_device(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_text("")
    (tmp_path / "run.toml").write_text(f'[train]\ndevice = "{NOWHERE}"\n')
    for line in (
        f"train here --topology here --device {NOWHERE}",
        "train --config run.toml here --topology here",
        f"refine here here --device {NOWHERE}",
        f"explore here --plumed here --difference phi:0..1 --device {NOWHERE}",
        f"propose here --topology here --plumed here --at phi=1 --device {NOWHERE}",
        f"judge here here --device {NOWHERE}",
        f"free-energy here --model here --cv phi --device {NOWHERE}",
        f"run here --plumed here --steps 1 --model here --device {NOWHERE}",
        f"windows here --cv phi --steps 2 --model here --device {NOWHERE}",
    ):
        found = CliRunner().invoke(main, line.split())
        assert found.exit_code == 2, line
        assert "can not be used here" in " ".join(found.output.split()), found.output


def test_commands_use_the_model_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    molecule = Molecule(CHAIN.topology(), CHAIN.system(), CHAIN.sample(1, 300.0, seed=1)[0])
    with open("chain.pdb", "w") as file:
        app.PDBFile.writeFile(molecule.topology, molecule.positions * unit.nanometer, file)
    Path("cv.dat").write_text(bias_of("phi").text)
    trained(FLOW, "phi").save("model.npz")
    with other_device() as watched:
        line = "propose model.npz --topology chain.pdb --plumed cv.dat --at phi=1 --device lazy"
        said = CliRunner().invoke(main, line.split()).output
        assert watched.layers_there > 0, said
        weigher = weigher_of(Path("model.npz"), molecule, Path("cv.dat"), "lazy")
        assert weigher.sampler.device == ELSEWHERE
        watched.layers_there = 0
        settings = RunSettings(
            platform="Reference",
            model=Path("model.npz"),
            proposals_every=1,
            mode="exact",
            device="lazy",
        )
        run_biased(molecule, "cv.dat", 2, "run", settings)
        assert watched.layers_there > 0
        watched.layers_there = 0
        given = frames_with("phi")
        found = Run(molecule, BiasedRun.of(given, Path("cv.dat"), Path()), bias_of("phi"))
        place = Placement(("phi",), given.cvs[:2], np.array([10.0]))
        windows_of(found, place, Path("model.npz"), WindowSettings(300.0, 2, 0), Path("w"), "lazy")
        assert watched.layers_there > 0


def test_a_device_of_no_model_is_refused(tmp_path, monkeypatch):
    """The run itself would not be on it."""
    monkeypatch.setattr("openmm_cgan.devices.device_named", torch.device)
    (tmp_path / "here").write_text("")
    for line, why in (
        (["run", "--plumed", str(tmp_path / "here"), "--steps", "1"], "the run itself is on"),
        (["windows", str(tmp_path), "--cv", "phi", "--steps", "2"], "windows run on"),
    ):
        found = CliRunner().invoke(main, [*line, "--device", "cuda"])
        assert found.exit_code == 2
        assert f"{why} --platform" in found.output


@contextmanager
def defaults(device, kind):
    """A script that has said where torch makes tensors, and of which kind."""
    torch.set_default_device(device)
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


def made_of_chains(model):
    """What all rooms that use torch make of the same."""
    frames, bias = frames_with("phi"), bias_of("phi")
    gan, aligned = trained(FLOW, "phi"), trained(featurize=AlignedFeatures.fit)
    how = RefiningSettings(steps=1, batch=8, report_every=1)
    rows = rows_for(gan, frames, CHAIN.topology())
    refined, _ = refine(gan, Potential(CHAIN.system()), None, how, frames=rows)
    cvs = np.linspace(-3, 3, 4)[:, None]
    part = trained(FLOW, featurize=END)
    moved_by, ends = part.torsion_map(), np.full((4, 1), part.cv_range.mean())
    torsions = moved_by.draw(ends, np.full((4, 1), np.nan), 1)
    latent = refined.latent_map()
    mapped = latent.mapped(latent.draw(cvs, 1), cvs)
    x = frames.positions[:4].astype(float)
    local = local_dynamics(
        bias.differentiable_cvs, x, x, 2.0, mobility=md_mobility(np.ones(4), 1.0),
        constraints=[(0, 1)], probes=2,
    )  # fmt: skip
    text = f"{INPUTS['phi']}m: PYTORCH_MODEL FILE={model} ARG=phi\nPRINT ARG=m.node-0\n"
    learned = PlumedBias(text, CHAIN.topology(), temperature=300.0)
    return {
        "aligned": aligned.sample(aligned.cv_range.mean(axis=1), 4, seed=1),
        **said_by(refined, True),
        "among": part.among(frames.positions[0][part.rest].astype(float)).sample(ends, seed=1),
        "torsions": torsions,
        "log_torsions": moved_by.log_prob(torsions, ends),
        "mapped": mapped.positions,
        "slopes": mapped.pulled_back(np.ones((4, 4, 3))),
        "onto": sample_on_level_sets(refined, cvs, bias.differentiable_cvs, seed=2),
        "drift": local.drift,
        "model": learned.cv_values(x),
        "wave": HalfMoon().simulate(np.ones((2, 2)), 3, 1e-4, 1, seed=1),
    }


class Wave(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("device", "kind"), [("meta", torch.float32), ("cpu", torch.float64)], ids=["meta", "double"]
)
def test_what_a_script_has_set_for_torch_changes_nothing(device, kind, tmp_path):
    """Of a GPU that is the default all would be there; meta takes no numbers at all."""
    torch.jit.script(Wave()).save(tmp_path / "model.ptc")
    before = made_of_chains(tmp_path / "model.ptc")
    with defaults(device, kind):
        there = made_of_chains(tmp_path / "model.ptc")
        assert torch.empty(0).device.type == device
        assert torch.get_default_dtype() == kind
    for name, value in before.items():
        np.testing.assert_array_equal(there[name], value, err_msg=name)


def test_objects_are_moved_and_left_as_they_were():
    one = torch.zeros(2)
    tree = {"a": [one, 3, "x"], "b": (one, None)}
    with other_device():
        there = moved(tree, ELSEWHERE)
        assert there["a"][1:] == [3, "x"]
        assert there["a"][0].device == there["b"][0].device == ELSEWHERE
    assert tree["a"][0] is one
