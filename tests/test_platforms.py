"""Platforms and their properties in a word, and what is made beside a run on one."""

import openmm
import pytest
from openmm import app

from openmm_cgan.platforms import (
    platform_and_properties,
    platform_word,
    platform_word_anywhere,
    properties_of,
)
from openmm_cgan.potentials import Potential
from openmm_cgan.reporters.contexts import context_like
from openmm_cgan.testsystems import alanine_dipeptide


def test_a_word_has_a_name_and_properties_in_capitals_or_not() -> None:
    platform, properties = platform_and_properties("cpu:threads=1, deterministicforces=true")
    assert platform.getName() == "CPU"
    assert properties == {"Threads": "1", "DeterministicForces": "true"}
    assert platform_and_properties("reference")[1] == {}
    assert platform_word("cpu: threads = 1") == "CPU:Threads=1"
    assert platform_word("cpu") == "CPU"


def test_properties_of_other_machines_are_kept_as_written() -> None:
    word = platform_word_anywhere("cuda:DeviceIndex=0,1,Precision=mixed")
    assert word == "CUDA:DeviceIndex=0,1,Precision=mixed"
    with pytest.raises(ValueError, match=r"platform 'abacus': .*expected one of .*CUDA"):
        platform_word_anywhere("abacus:Precision=mixed")


@pytest.mark.parametrize("word", ["CPU:", "CPU:Threads", "CPU:=1", "CPU:Threads="])
def test_words_that_are_not_understood_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="expected properties such as CUDA:Precision=mixed"):
        platform_word(word)


@pytest.mark.parametrize("read", [platform_word, platform_word_anywhere])
@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("CPU:Threads=1,threads=2", "threads is given twice"),
        ("CPU:Threads=all", "Threads is 'all'; expected a number from 1"),
        ("CPU:Threads=0", "expected a number from 1"),
        ("CPU:Threads=1,", "Threads is '1,'"),
        ("CPU:Threads=1,DeterministicForces", "Threads is '1,DeterministicForces'"),
        ("cpu:deterministicforces=yes", "expected true or false"),
        ("", "has none of that name"),
        (":Threads=1", "has none of that name"),
        (None, "expected a name such as CPU"),
        (openmm.Platform.getPlatform(0), "expected a name such as CPU"),
    ],
)
def test_what_openmm_would_read_as_something_else_is_refused(read, word, what) -> None:
    with pytest.raises(ValueError, match=f"platform .*{what}"):
        read(word)


@pytest.mark.parametrize("properties", ["Precision=half", "DeviceIndex=first", "DeviceIndex=0;1"])
def test_so_are_those_of_other_machines(properties: str) -> None:
    with pytest.raises(ValueError, match=r"platform 'CUDA:.* expected "):
        platform_word_anywhere(f"CUDA:{properties}")


def test_a_property_that_a_platform_has_not_is_told_with_those_it_has() -> None:
    with pytest.raises(ValueError, match=r"CPU has no property 'Precision'; it has Threads"):
        platform_word("CPU:Precision=mixed")
    with pytest.raises(ValueError, match=r"Reference has no property 'Threads'; it has none"):
        platform_word("Reference:Threads=1")


def test_a_context_beside_a_run_has_its_properties() -> None:
    molecule = alanine_dipeptide("C7eq")
    how = platform_and_properties("CPU:DeterministicForces=true,Threads=1")
    simulation = app.Simulation(
        molecule.topology, molecule.system, openmm.VerletIntegrator(0.001), *how
    )
    beside = context_like(simulation, molecule.system)
    assert properties_of(beside) == {"Threads": "1", "DeterministicForces": "true"}
    assert properties_of(beside) == properties_of(simulation.context)


def test_energies_take_a_word() -> None:
    molecule = alanine_dipeptide("C7eq")
    potential = Potential(molecule.system, platform="CPU:DeterministicForces=true", n_contexts=1)
    [context] = potential._contexts
    assert properties_of(context)["DeterministicForces"] == "true"
