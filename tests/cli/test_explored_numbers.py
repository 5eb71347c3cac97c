"""How a claim of an exploration is made again by hand: the command for each route."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from openmm_cgan.cli.exploration_folder import ExplorationFolder
from openmm_cgan.cli.explored_numbers import command_for
from openmm_cgan.explore.evidence import Claim
from openmm_cgan.explore.settings import ExploreSettings
from openmm_cgan.testsystems import alanine_dipeptide


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("windows", "my runs/windows-2/*/window-*"),
        ("moves", "my runs/moves-2/*"),
        (
            "generated",
            "--model my runs/model-2.npz --plumed my runs/look/plumed.dat "
            "--structure my runs/look/topology.pdb",
        ),
    ],
)
def test_the_files_of_each_route_are_named(route: str, words: str) -> None:
    """As a shell takes them, whose patterns are not quoted."""
    settings = ExploreSettings("phi:-pi..0|0..pi")
    place = ExplorationFolder(alanine_dipeptide(), Path("phi.dat"), Path("my runs"), settings)
    claim = Claim(route, 1.0, 0.1, [[1.0, 0.1], [1.0, 0.1]], np.nan, 100.0)
    told = command_for(claim, 2, place)
    assert "*'" not in told
    split = shlex.split(told)
    assert split[:2] == ["openmm-cgan", "free-energy"]
    assert words in " ".join(split)
    assert split[-4:] == ["--cv", "phi", "--difference", "phi:-pi..0|0..pi"]
