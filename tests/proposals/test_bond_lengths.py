"""Bonds of what is no atom, and references whose bonds are no bonds of what is proposed."""

import logging
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import openmm
import pytest
import torch
from numpy.typing import NDArray
from openmm import app

from openmm_cgan import GAS_CONSTANT, ConditionalGAN, FrameReporter, PlumedBias
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import AlignedFeatures
from openmm_cgan.frames import Frames
from openmm_cgan.proposals import Screen, ScreenSettings, propose
from openmm_cgan.testsystems import alanine_dipeptide


class EndToEnd:
    variables = (CollectiveVariable("d", "nm"),)

    def cv_values(self, positions: NDArray) -> NDArray:
        return np.linalg.norm(positions[:, 0] - positions[:, -1], axis=-1)[:, None]


def beads(bond: float) -> tuple[app.Topology, NDArray]:
    """A zigzag of six particles that are no atoms."""
    topology = app.Topology()
    residue = topology.addResidue("BEA", topology.addChain())
    atoms = [topology.addAtom("B", None, residue) for _ in range(6)]
    for one, two in pairwise(atoms):
        topology.addBond(one, two)
    places = np.arange(6)[:, None]
    return topology, bond * (places * [0.8, 0, 0] + places % 2 * [0, 0.6, 0])


@pytest.mark.parametrize("bond", [0.47, 1.0])
def test_beads_are_as_far_apart_as_their_model_has_them(bond: float) -> None:
    topology, x = beads(bond)
    screen = Screen(topology, x)
    assert screen.check(np.stack([x, 1.3 * x])).tolist() == ["", "bond length"]
    cut = x + (np.arange(6) > 2)[:, None] * [0, 4 * bond, 0]
    with pytest.raises(ValueError, match=r"longer than .* between the atoms \[2, 3\]"):
        Screen(topology, cut)


@pytest.mark.parametrize(("factor", "seem"), [(10.0, "in angstrom"), (0.1, "divided by ten")])
def test_another_unit_is_named(factor: float, seem: str, tmp_path, caplog) -> None:
    molecule = alanine_dipeptide()
    x = factor * molecule.positions
    with pytest.raises(ValueError, match=f"reference half of the bonds .* {seem}: give .* in nm"):
        Screen(molecule.topology, x)
    drawn = x + factor * np.random.default_rng(0).normal(scale=0.002, size=(50, 22, 3))
    frames = Frames.of_arrays(drawn, EndToEnd().cv_values(drawn), ["d"])
    with pytest.raises(ValueError, match=f"frames half of the bonds .* {seem}"):
        ConditionalGAN.fit(frames, molecule.topology)
    bias = PlumedBias("d: DISTANCE ATOMS=1,2\nPRINT ARG=d\n", molecule, directory=tmp_path)
    simulation = app.Simulation(
        molecule.topology, molecule.system, openmm.VerletIntegrator(0.001),
        openmm.Platform.getPlatformByName("Reference"),
    )  # fmt: skip
    simulation.context.setPositions(x)
    FrameReporter(tmp_path / "frames", 10, bias).describeNextReport(simulation)
    assert seem in caplog.text


def test_soft_bonds_are_as_long_as_their_system_has_them_at_temperature() -> None:
    """Of 1,250 kJ/mol/nm^2, a tenth of their length wide: 1 % of each is off by a quarter."""
    topology, x = beads(0.47)
    system, force = openmm.System(), openmm.HarmonicBondForce()
    for _ in range(6):
        system.addParticle(72.0)
    for one, two in pairwise(range(6)):
        force.addBond(two, one, 0.47, 1250.0)
    system.addForce(force)
    known = SimpleNamespace(topology=topology, system=system)
    width = np.sqrt(GAS_CONSTANT * 300 / 1250)
    lengths = np.random.default_rng(0).normal(0.47, width, (2000, 5))
    steps = np.diff(x, axis=0) / 0.47 * lengths[:, :, None]
    drawn = np.concatenate([np.zeros((2000, 1, 3)), np.cumsum(steps, axis=1)], axis=1)
    loose = ScreenSettings(clash_fraction=0.0)
    assert (Screen(topology, x, settings=loose).check(drawn) == "bond length").mean() > 0.02
    # whatever the reference has that is given: its own bonds are of that width as well
    for reference in (x, drawn[0]):
        screen = Screen(known, reference, settings=loose)
        assert not (screen.check(drawn) != "").any()
        assert screen.check(1.7 * x[None]).tolist() == ["bond length"]
    turned = [3, 4, 5, 0, 1, 2]  # the places of atoms, not their numbers
    screen = Screen(known, x[turned], settings=loose, atoms=turned)
    assert not (screen.check(drawn[:, turned]) != "").any()


def test_beads_are_aligned_as_their_model_has_them() -> None:
    topology, x = beads(1.0)
    moved = x + np.random.default_rng(0).normal(scale=0.02, size=(50, 6, 3))
    frames = Frames.of_arrays(moved, EndToEnd().cv_values(moved), ["d"])
    features = AlignedFeatures.fit(frames, topology)
    made = features.decode(features.encode(torch.from_numpy(moved)), torch.from_numpy(frames.cvs))
    bonds = np.linalg.norm(np.diff(made.numpy(), axis=1), axis=-1)
    assert 0.85 < bonds.min() < bonds.max() < 1.15
    moved[:, 3:] += [0, 4, 0]
    with pytest.raises(ValueError, match="cut by the periodic boundary"):
        AlignedFeatures.fit(Frames.of_arrays(moved, frames.cvs, ["d"]), topology)


def test_a_reference_whose_bonds_nothing_else_has_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    topology, x = beads(0.47)
    rng = np.random.default_rng(0)

    def refused(reference: NDArray, made: NDArray) -> int:
        screen = Screen(topology, reference, EndToEnd(), ScreenSettings(cv_tolerance=9.0))
        sampler = SimpleNamespace(
            variables=EndToEnd.variables, cv_range=None, sample=lambda targets, seed: made
        )
        found = propose(sampler, np.ones((20, 1)), screen, seed=0)
        return found.counts().get("bond length", 0)

    made = x + rng.normal(scale=0.01, size=(20, 6, 3))
    scattered = x * rng.choice([0.5, 1.5], size=(20, 1, 1))
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        assert (refused(x, made), refused(x, scattered)) == (0, 20)
        assert not caplog.messages
        assert refused(1.36 * x, made) == 20  # built by hand
    [told] = caplog.messages
    assert "that of atoms 0 and 1 is 0.639 nm in the structure that the screen goes by" in told
    assert "nm in nearly all that is proposed; 4 more are as odd" in told
