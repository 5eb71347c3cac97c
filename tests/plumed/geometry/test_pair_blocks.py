"""Sums over pairs in blocks are those over the list of pairs, and their gradients autograd's."""

import numpy as np
import pytest
import torch

from benchmarks.eight_atoms import BOXES, random_frames
from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.geometry import near_pairs, pair_blocks
from openmm_cgan.plumed.input.language import read_statements

SWITCHES = (
    "R_0=0.3", "R_0=0.3 NN=7 MM=13", "R_0=0.2 D_0=0.1", "SWITCH={RATIONAL R_0=0.3}",
    "SWITCH={RATIONAL R_0=0.3 NN=2}", "SWITCH={RATIONAL R_0=0.3 NN=8 D_MAX=0.35}",
    "SWITCH={RATIONAL R_0=0.3 D_MAX=0.4 NOSTRETCH}", "SWITCH={GAUSSIAN R_0=0.2 D_MAX=0.4}",
    "SWITCH={SMAP R_0=0.3 A=8 B=4}",
)  # fmt: skip
GROUPS = ("GROUPA=1-4 GROUPB=3-8", "GROUPA=1-8", "GROUPA=v,2,3 GROUPB=4,v,8", "GROUPA=1-3,v")


@pytest.mark.parametrize(
    ("block", "crowded"), [(1, 0), (5, 0), (10**6, 0), (5, 1e9)], ids=["1", "5", "one", "listed"]
)
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("groups", GROUPS)
def test_sums_in_blocks_are_those_over_the_pairs(groups, box, block, crowded, monkeypatch):
    monkeypatch.setattr(pair_blocks, "BLOCK", block)
    monkeypatch.setattr(near_pairs, "CROWDED", crowded)  # lists where the reach is finite
    frames = random_frames(box, np.random.default_rng(block % 1000), 2)
    tensors = torch.tensor(frames, requires_grad=True)
    edges = None if box is None else torch.tensor(box).expand(2, 3, 3)
    for switch in SWITCHES:
        text = f"UNITS LENGTH=A\nv: CENTER ATOMS=5,6\nc: COORDINATION {groups} {switch}\n"
        text = text.replace("LENGTH=A", "LENGTH=0.9")
        *_, centre, action = read_actions(read_statements(text, "<input>"))
        expected = action.value(tensors, edges)  # of many frames, over the list of pairs
        (slopes,) = torch.autograd.grad(expected.sum(), tensors)
        for frame, value, slope in zip(frames, expected.detach(), slopes, strict=True):
            found, gradient = action.gradient(0, frame, box)
            assert found == pytest.approx(float(value), rel=1e-12)
            assert action.value(frame, box) == found
            total = np.zeros_like(frame)
            for site, pull in zip(action.sites, gradient, strict=True):
                if site is centre:
                    total[list(centre.atoms)] += centre.spread_gradient(pull, frame, box)
                else:
                    total[site] += pull
            np.testing.assert_allclose(total, slope.numpy(), atol=1e-9)
