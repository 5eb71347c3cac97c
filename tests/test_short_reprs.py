"""What a notebook shows of records: a line, whatever their size."""

import re
from dataclasses import replace

import numpy as np
import pytest

from openmm_cgan.cgan import ConditionalGAN, TrainingSettings
from openmm_cgan.cgan.dataset import Dataset
from openmm_cgan.closures import Grid, Trajectories, conditional_average
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.diffusion_maps import diffusion_map
from openmm_cgan.frames import Frames
from openmm_cgan.free_energy import (
    free_energy_at_points,
    free_energy_profile,
    free_energy_surface,
    reweight_windows,
)
from openmm_cgan.free_energy.generated import GeneratedFrames
from openmm_cgan.free_energy.samples import BiasedFrames, unbiased
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.potentials import Potential
from openmm_cgan.proposals import Proposals, Screen
from openmm_cgan.proposals.stereochemistry import BondGraph
from openmm_cgan.report import Profile
from openmm_cgan.reporters import FrameReporter
from openmm_cgan.testsystems import Chain, alanine_dipeptide

THETA = CollectiveVariable("theta", "rad")
X = CollectiveVariable("x", "nm")
TURN = CollectiveVariable("turn", "rad", (-np.pi, np.pi))


def frames(n: int = 60) -> Frames:
    x = Chain().sample(n, 300.0, seed=1).astype(np.float32)
    zeros = np.zeros(n)
    return Frames(
        x, np.linspace(1.7, 2.1, n)[:, None], zeros, np.arange(n), zeros, np.ones(n, np.int64),
        zeros.astype(bool), (THETA,), np.arange(4), None, 300.0,
    )  # fmt: skip


def test_each_is_a_line_that_tells_what_it_holds(tmp_path):
    rng = np.random.default_rng(0)
    windows = [
        BiasedFrames(rng.normal(size=(1000, 2)), unbiased, 300.0, (X, TURN), f"window-{k}")
        for k in range(2)
    ]
    samples = reweight_windows(windows, n_bootstrap=3)
    test = alanine_dipeptide()
    bias = PlumedBias("d: DISTANCE ATOMS=2,19\nRESTRAINT ARG=d AT=0.5 KAPPA=50\n")
    settings = TrainingSettings(steps=2, batch=16, width=8)
    topology = Chain().topology()
    reasons = np.array(["", "clash", ""])
    profile = free_energy_profile(samples, "x", 10)
    records = {
        "60 of 4 atoms; theta 1.7 to 2.1 rad, 300 K": frames(),
        "window-0: 1000 frames": windows[0],
        "of 2 windows": samples,
        "10 bins": profile,
        "100 bins": free_energy_surface(samples, bins=10),
        "MLPGenerator of 4 atoms": ConditionalGAN.fit(frames(), topology, settings),
        "d; backend 'native'": bias,
        "2 accepted, 1 clash": Proposals(np.zeros((3, 4, 3)), *np.zeros((2, 3, 1)), reasons, 7),
        "3, 2 of them": GeneratedFrames(np.zeros((3, 1)), np.array([0, 1, -np.inf]), 300, (X,)),
        "22 atoms, 12 constraints": Potential(test.system),
        "1 stereocentres, 2 amides": Screen(test.topology, test.positions),
        "frames', every 100 steps": FrameReporter(tmp_path / "frames", 100, bias),
        "effective_samples=float64 (2,)": free_energy_at_points(np.zeros((2, 500)), kT=2.5),
        "positions=float64 (22, 3)": test,
        "22 of int": BondGraph.from_topology(test.topology),
        "features=torch.float32 (57, 7)": Dataset.prepare(frames(), topology, settings).rows,
        "axes=[float64 (500,)]": Grid.over((X,), 500, [(0, 1)]),
        "interval=0.1": Trajectories((np.zeros((500, 1)),) * 50, 0.1, (X,)),
        "smearing=float64": conditional_average(samples, samples.cvs, [[0, 0]], 0.5),
        "log_masses=float64": diffusion_map(rng.normal(size=(300, 2))),
        "label='ours'": Profile(*np.zeros((3, 50)), "ours"),
    }
    table = records["MLPGenerator of 4 atoms"]._repr_html_()
    assert "MLPGenerator of 4 atoms" in table
    assert "not known: seeds" in table
    assert "<td>theta</td><td>1.7</td><td>2.1</td><td>rad</td>" in table
    for told, record in records.items():
        shown = repr(record)
        assert told in shown
        assert len(shown) < 400
        assert "\n" not in shown
        assert shown.startswith(f"{type(record).__name__}(")


@pytest.mark.parametrize("n", [0, 1])
def test_frames_of_no_number_are_shown(n):
    assert repr(frames(60).select(slice(n))).startswith(f"Frames({n} of 4 atoms; theta")


def test_notebooks_get_short_tables_with_all_texts_escaped(tmp_path):
    name = "<script>alert(1)</script>"
    variable = CollectiveVariable(name, "<b>nm", None, "<i>")
    n = 200
    values = np.random.default_rng(1).normal(size=(n, 1))
    hostile = Frames.of_arrays(np.zeros((n, 4, 3)), values, [variable], temperature=300.0)
    samples = reweight_windows([BiasedFrames(values, unbiased, 300.0, (variable,))])
    two = replace(samples, cvs=np.repeat(samples.cvs, 2, axis=1), variables=(variable, TURN))
    bias = PlumedBias("a: DISTANCE ATOMS=1,2\nRESTRAINT ARG=a AT=1 KAPPA=2\n", directory=tmp_path)
    shown = {
        "frames": hostile._repr_html_(),
        "profile": free_energy_profile(samples, name)._repr_html_(),
        "surface": free_energy_surface(two, (0, 1), 6)._repr_html_(),
        "bias": bias._repr_html_(),
        "none": hostile.select(slice(0, 0))._repr_html_(),
    }
    for what, text in shown.items():
        assert text.startswith("<table>"), what
        assert text.count("<tr>") <= 15, what
        assert not re.search(r"<(script|b|i)>", text), what
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown["frames"]
    assert f"<td>{values.min():.4g}</td><td>{values.max():.4g}</td>" in shown["frames"]
    assert "native backend" in shown["bias"]
    assert "<td>a</td><td>DISTANCE</td><td>nm</td><td>no</td>" in shown["bias"]
    profile = free_energy_profile(samples, name)
    assert f"<td>{profile.free_energy[0]:.2f}</td>" in shown["profile"]
