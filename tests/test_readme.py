"""Snippets of the README and of docs/ run as they are printed, one after another; links hold."""

import re

import pytest

from openmm_cgan.frames import read_frames
from tests.cases import ROOT

PAGES = ("README.md", "docs/exact_proposals.md", "docs/cluster.md", "docs/going_on.md")
BLOCKS = [
    block
    for page in PAGES
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
]
WITH_LINKS = [p.relative_to(ROOT) for p in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])]
LINKS = re.compile(r"\]\((?!http|#)([^)]+)\)")
SHORTER = {
    "steps=50_000, settle_steps=5_000": "steps=40, settle_steps=4",
    "step(500_000)": "step(2000)",
    "step(100_000)": "step(1000)",
    "steps=8000": "steps=5",
    "steps=4000": "steps=5",
    "steps=1200": "steps=2",
    "steps=1500": "steps=15",
    "step(50_000)": "step(1000)",
    "10_000": "500",
}


@pytest.mark.parametrize("page", WITH_LINKS, ids=str)
def test_links_lead_somewhere(page) -> None:
    for link in LINKS.findall((ROOT / page).read_text()):
        assert (ROOT / page.parent / link.split("#")[0]).exists(), link


def test_a_newcomer_meets_a_command_soon() -> None:
    before = (ROOT / "README.md").read_text().split("    make demo")[0]
    assert len(before.split()) <= 150


def shortened(block: str) -> str:
    for count, fewer in SHORTER.items():
        block = block.replace(count, fewer)
    return block


def test_every_count_of_steps_is_made_shorter() -> None:
    for block in BLOCKS:
        assert not re.search(r"\d_000|steps=\d{3}", shortened(block))


def test_the_snippets_run_in_the_order_of_the_page(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("plumed_inputs", "openmm_cgan"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    names: dict = {}
    assert len(BLOCKS) == 10
    for block in BLOCKS:
        exec(shortened(block), names)
    tables = {
        "proposals.csv": 2,
        "moves.csv": 4,
        "annealed.csv": 2,
        "steered.csv": 2,
        "local.csv": 10,
        "another.csv": 5,
    }
    for name, n in tables.items():
        assert len((tmp_path / name).read_text().splitlines()) - 1 == n, name
    assert len(read_frames("frames", settling=True)) == 90
    names["simulation"].reporters.clear()
    names["reporter"].close()
    names["bias"].close()
    exec(shortened(BLOCKS[-1]), names)  # as in a new process: it goes on
    reached = names["simulation"].currentStep
    assert reached == 2000
    assert len(read_frames("saved/frames")) == reached // 100
    with pytest.raises(FileNotFoundError):
        read_frames("nowhere")
