"""docs/how_an_input_becomes_forces.md is true: its input, its files, its forces."""

import re

import openmm

from openmm_cgan.plumed.actions import ACTIONS
from openmm_cgan.plumed.actions.help import action_table
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases import ROOT

PAGE = (ROOT / "docs" / "how_an_input_becomes_forces.md").read_text()


def test_files_and_names_of_the_page_are_there():
    """A word with a slash is a file or a room; others stand in the code."""
    plumed = ROOT / "openmm_cgan" / "plumed"
    code = "\n".join(path.read_text() for path in plumed.rglob("*.py"))
    quoted = set(re.findall(r"`([a-zA-Z_]\w*(?:[/.]\w+)*)`", PAGE))
    assert len(quoted) > 25
    for name in quoted - {"phi", "m.bias", "bias", "theta"}:
        path, *attributes = name.split(".")
        if "/" in path:
            assert (plumed / path).is_dir() or (plumed / f"{path}.py").is_file(), name
        for word in attributes or ([] if "/" in path else [path]):
            assert re.search(rf"\b{word}\b", code), name


def test_its_input_becomes_the_forces_that_it_names(tmp_path):
    text = "\n".join(line.strip() for line in PAGE.splitlines()[4:7]) + "\n"
    assert text.count("METAD") == 1
    test = alanine_dipeptide()
    bias = PlumedBias(text, test.topology, temperature=300.0, directory=tmp_path)
    [force] = bias.add_to(test.system)
    assert isinstance(force, openmm.CustomCVForce)
    assert isinstance(force.getCollectiveVariable(0), openmm.CustomTorsionForce)
    assert force.getNumTabulatedFunctions() == 1
    at_rest = PlumedBias(text.splitlines()[0] + "\nRESTRAINT ARG=phi AT=-1 KAPPA=50\n")
    [plain] = at_rest.add_to(test.system)
    assert isinstance(plain, openmm.CustomTorsionForce)


def test_the_table_of_actions_is_made_from_them():
    """Where it fails, put `action_table(ACTIONS.values())` in its place."""
    page = (ROOT / "docs" / "plumed_actions.md").read_text()
    table = action_table(ACTIONS.values())
    assert page.endswith(f"\n\n{table}\n")
