"""The snippets of the README run as they are printed, one after another, with fewer steps."""

import re

import pytest

from openmm_cgan.frames import read_frames
from tests.cases import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
SHORTER = {
    "step(500_000)": "step(2000)",
    "step(100_000)": "step(1000)",
    "steps=8000": "steps=5",
    "steps=4000": "steps=5",
    "steps=1200": "steps=2",
    "10_000": "500",
}


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
    assert len(BLOCKS) == 4
    for block in BLOCKS:
        exec(shortened(block), names)
    rows = {name: len((tmp_path / name).read_text().splitlines()) - 1
            for name in ("proposals.csv", "moves.csv")}  # fmt: skip
    assert rows == {"proposals.csv": 2, "moves.csv": 4}
    assert len(read_frames("frames", settling=True)) == 60
    names["simulation"].reporters.clear()
    names["reporter"].close()
    names["bias"].close()
    exec(shortened(BLOCKS[-1]), names)  # as in a new process: it goes on
    reached = names["simulation"].currentStep
    assert reached == 2000
    assert len(read_frames("saved/frames")) == reached // 100
    with pytest.raises(FileNotFoundError):
        read_frames("nowhere")
