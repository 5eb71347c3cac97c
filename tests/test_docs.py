"""docs/how_an_input_becomes_forces.md is true: its input, its files, its forces."""

import ast
import importlib.util
import re

import openmm
import pytest

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


# ---- the site that docs/build.py makes


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def source(build, tmp_path_factory):
    build.SOURCE = tmp_path_factory.mktemp("site") / "source"
    build.lay_out()
    return build.SOURCE


def test_each_action_has_its_page_with_all_keywords(source):
    for name, cls in ACTIONS.items():
        page = (source / "actions" / f"{name}.md").read_text()
        assert page.startswith(f"# {name}\n")
        for keyword in cls.keywords:
            assert keyword.key.replace("_", "\\_") in page, (name, keyword.key)


def test_links_between_pages_lead_somewhere(source):
    """Sphinx says so too, where it is installed; this holds wherever the tests run."""
    pages = sorted(source.rglob("*.md"))
    assert len(pages) > len(ACTIONS)
    n_links = 0
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not link.startswith(("http:", "https:")):
                n_links += 1
                assert (page.parent / link).exists(), f"{page.name}: {link}"
    assert n_links > 10


def test_every_page_stands_in_a_table_of_contents(source):
    listed = {source / "index"}
    for page in source.rglob("*.md"):
        for block in re.findall(r"```{toctree}(.*?)```", page.read_text(), re.DOTALL):
            names = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {page.parent / name for name in names}
    there = {p.with_suffix("") for p in source.rglob("*.md")}
    there |= {p.with_name(p.name.removesuffix(".rst")) for p in source.rglob("*.rst")}
    assert listed == there


def test_messages_are_read_from_the_code(build, source):
    code = """
raise ValueError(f"{path} is damaged: {error}; move " + "it away")
raise KeyError(name)
raise error
raise RuntimeError
"""
    found = list(build.messages_of(ast.parse(code)))
    assert found == [("ValueError", "... is damaged: ...; move it away")]
    page = (source / "messages.md").read_text()
    assert int(re.search(r"The (\d+) messages", page)[1]) == page.count("\n* **") > 300
    assert "give the folder of a run, of windows or of a demo" in page


def test_broken_links_of_built_pages_are_found(build, tmp_path):
    build.HTML = tmp_path
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="#here">1</a><a href="#gone">2</a><a href="b.html#there">3</a>'
        '<a href="b.html#not">4</a><a href="c.html">5</a><a href="https://x.org/c.html">6</a>'
    )
    (tmp_path / "b.html").write_text('<p id="there">')
    pages = sorted(tmp_path.glob("*.html"))
    found = list(build.broken_links(pages))
    assert found == ["a.html: #gone", "a.html: b.html#not", "a.html: c.html"]
