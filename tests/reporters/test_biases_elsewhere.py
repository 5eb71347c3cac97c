"""Frames are weighed by the bias that they were made under: one that acts elsewhere is refused."""

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan import FrameReporter, PlumedBias, ProposalReporter
from openmm_cgan.testsystems import alanine_dipeptide

PHI = "phi: TORSION ATOMS=5,7,9,15\n"
RESTRAINT = PHI + "RESTRAINT ARG=phi AT=-2.5 KAPPA=400\n"
METAD = PHI + "METAD ARG=phi SIGMA=0.35 HEIGHT=1 PACE=10 FILE=HILLS\n"


class Still:
    """A sampler of one structure."""

    topology_hash, cv_range, has_density = "", None, False
    n_atoms, atoms = 22, np.arange(22)

    def __init__(self, variables):
        self.variables = variables

    def sample(self, cvs, n=None, seed=0):
        return np.tile(alanine_dipeptide().positions, (len(cvs), 1, 1))


def simulation_of(system: openmm.System) -> app.Simulation:
    molecule = alanine_dipeptide()
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    platform = openmm.Platform.getPlatformByName("Reference")
    made = app.Simulation(molecule.topology, system, integrator, platform)
    made.context.setPositions(molecule.positions)
    return made


def in_no_system(bias: PlumedBias) -> app.Simulation:
    return simulation_of(alanine_dipeptide().system)


def in_another_system(bias: PlumedBias) -> app.Simulation:
    bias.add_to(alanine_dipeptide().system)
    return simulation_of(alanine_dipeptide().system)


def added_too_late(bias: PlumedBias) -> app.Simulation:
    made = simulation_of(alanine_dipeptide().system)
    bias.add_to(made.system)
    return made


def not_integrated(bias: PlumedBias) -> app.Simulation:
    system = alanine_dipeptide().system
    bias.add_to(system, force_group=3)
    made = simulation_of(system)
    made.integrator.setIntegrationForceGroups({0})
    return made


def not_attached(bias: PlumedBias) -> app.Simulation:
    system = alanine_dipeptide().system
    bias.add_to(system)
    return simulation_of(system)


def attached_to_another(bias: PlumedBias) -> app.Simulation:
    system = alanine_dipeptide().system
    bias.add_to(system)
    bias.attach(simulation_of(system))
    return simulation_of(system)


REFUSED = [
    (RESTRAINT, in_no_system, r"add_to\(system\) before Simulation"),
    (RESTRAINT, in_another_system, "Context does not contain the bias"),
    (RESTRAINT, added_too_late, "Context does not contain the bias"),
    (RESTRAINT, not_integrated, "force group 3, and LangevinMiddle"),
    (METAD, in_no_system, r"add_to\(system\) before Simulation"),
    (METAD, not_attached, r"not attached: .* bias.attach\(simulation\) before the first step"),
    (METAD, attached_to_another, "attached to another Simulation"),
]


@pytest.mark.parametrize(
    ("text", "where", "words"), REFUSED, ids=[f"{t[26:31]} {w.__name__}" for t, w, _ in REFUSED]
)
@pytest.mark.parametrize("proposes", [False, True], ids=["frames", "proposals"])
def test_a_bias_that_does_not_act_where_frames_are_made_is_refused(
    text, where, words, proposes, tmp_path
):
    bias = PlumedBias(text, temperature=300, directory=tmp_path)
    simulation = where(bias)
    if proposes:
        made = ProposalReporter(tmp_path / "p.csv", 5, Still(bias.variables), bias, mode="seed")
    else:
        made = FrameReporter(tmp_path / "frames", 5, bias)
    simulation.reporters.append(made)
    with pytest.raises((RuntimeError, ValueError), match=words):
        simulation.step(5)
    assert simulation.currentStep == 0
    assert list((tmp_path / "frames").glob("*")) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (PHI + "PRINT ARG=phi FILE=COLVAR\n", in_no_system),
        (RESTRAINT, not_attached),
        (RESTRAINT, attached_to_another),
        (METAD, lambda bias: attached_to_another(bias) and bias.simulation),
    ],
    ids=["a measurement", "a restraint", "a restraint elsewhere too", "attached"],
)
def test_a_bias_that_acts_is_recorded(text, where, tmp_path):
    bias = PlumedBias(text, temperature=300, directory=tmp_path)
    simulation = where(bias)
    simulation.reporters.append(FrameReporter(tmp_path / "frames", 5, bias))
    simulation.step(10)
    simulation.reporters[-1].close()
    bias.close()
    assert len(list((tmp_path / "frames").glob("segment*"))) == 1


@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_frames_measured_beside_another_bias_are_said_to_know_nothing_of_it(
    backend, tmp_path, caplog
):
    system = alanine_dipeptide().system
    measures = PHI + "PRINT ARG=phi FILE=OTHER\n"
    biases = [
        PlumedBias(text, temperature=300, directory=tmp_path, backend=backend)
        for text in (RESTRAINT, measures)
    ]
    for bias in biases:
        bias.add_to(system)
    simulation = simulation_of(system)
    for number, bias in enumerate(biases):
        bias.attach(simulation)
        simulation.reporters.append(FrameReporter(tmp_path / str(number), 5, bias))
    simulation.step(5)
    said = [record.message for record in caplog.records if "of another bias" in record.message]
    assert len(said) == 1  # of the frames that do not know of the restraint
    assert "RESTRAINT" in said[0] or "kernel" in said[0]
    for bias in biases:
        bias.close()
