"""The whole job, short: every file it promises, and the commands of the CLI on what it leaves."""

import csv
import json
import re
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.image import imread

from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.cli import main
from openmm_cgan.cli.demo import DemoSettings, choose_seeds, run_demo
from openmm_cgan.cli.demo_analysis import BASIN, DemoResult, compare, generate_like
from openmm_cgan.cli.exports import estimate_text
from openmm_cgan.cli.shipped import plumed_input, read_reference
from openmm_cgan.frames import read_frames
from openmm_cgan.free_energy import Estimate
from openmm_cgan.proposals import Proposals
from openmm_cgan.report.page import write_report
from tests.cases.browser import Browser

SHORT = DemoSettings(
    md_steps=70_000,
    training=TrainingSettings(steps=60),
    grid=(6, 3),
    highest=1000.0,
    proposals_per_window=5,
    window_steps=400,
    settle_steps=150,
    generated=100,
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(tmp_path_factory.mktemp("demo") / "demo", SHORT, seed=3, workers=0)


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_summary_holds_what_is_promised(demo: DemoResult) -> None:
    summary = json.loads((demo.folder / "summary.json").read_text())
    assert summary == demo.summary
    assert summary["backend"] == "native"
    assert summary["proposals"] == 18 * 5 == summary["accepted"] + sum(summary["refused"].values())
    assert summary["md_steps"] == SHORT.md_steps + summary["windows"] * SHORT.window_steps
    assert summary["delta_f_error"] > 0
    assert summary["reference"] == pytest.approx(11.7, abs=0.3)
    assert {"openmm", "torch", "openmm_cgan"} <= set(summary["versions"])


def test_plots_are_whole_pictures(demo: DemoResult) -> None:
    for name in ("free_energy", "ramachandran", "training", "proposals"):
        assert imread(demo.folder / f"{name}.png").ndim == 3


def test_text_shows_the_profile_and_the_reference(demo: DemoResult) -> None:
    text = demo.text()
    assert "reference" in text
    ours = Estimate(demo.summary["delta_f"], demo.summary["delta_f_error"])
    assert f"over the rest: {estimate_text(ours)}" in text
    assert "inf" not in text
    assert ("standard errors" in text) == bool(np.isfinite(ours.error))
    assert "-172.5" in text


@pytest.fixture(scope="module")
def page(demo: DemoResult) -> Path:
    return write_report(demo.folder)


def test_the_page_has_a_section_for_each_part_of_the_demo(page: Path) -> None:
    text = page.read_text()
    assert len(text) < 5e6
    for start in ("summary", "windows-", "energy-", "overlap-", "training-", "generated-",
                  "course-", "input-", "costs", "again"):  # fmt: skip
        assert f'<section id="{start}' in text, start
    assert re.findall("Left out: ([^<]*)", text) == ["there is no proposals.csv."]


def test_the_page_opens_in_a_browser_without_complaint(page: Path, tmp_path: Path) -> None:
    """All figures are drawn, all links lead somewhere, structures of each reason are shown."""
    with closing(Browser(tmp_path / "browser")) as browser:
        browser.open(page)
        links = "[...document.querySelectorAll('a[href^=\"#\"]')]"
        broken = f"{links}.filter(a => !document.getElementById(a.hash.slice(1))).length"
        assert browser.ask(f"{links}.length") > 20
        assert browser.ask(broken) == 0
        plots = browser.ask("document.querySelectorAll('.plot').length")
        browser.ask("window.dispatchEvent(new Event('beforeprint'))")  # draws those below too
        browser.wait_for(f"document.querySelectorAll('.plot .main-svg').length >= {plots}")
        buttons = "document.querySelectorAll('.structures button:not([disabled])')"
        assert browser.ask(f"{buttons}.length") >= 1
        for k in range(browser.ask(f"{buttons}.length")):
            reason = browser.ask(f"{buttons}[{k}].dataset.reason")
            browser.ask(f"{buttons}[{k}].click()")
            said = browser.ask("document.querySelector('.structures .said').textContent")
            assert said.startswith(f"{reason}: 1 of ")
            assert "shows no structures" not in said
        assert browser.ask("document.querySelectorAll('.viewer canvas').length") == 1
        assert browser.complaints == []
        away = [u for u in browser.asked_for if not u.startswith(("file:", "data:", "blob:"))]
        assert away == []


def test_windows_are_seeded_with_proposals_and_settle(demo: DemoResult) -> None:
    folders = sorted((demo.folder / "windows").glob("window-*"))
    assert len(folders) == demo.summary["windows"]
    frames = read_frames(folders[0] / "frames", settling=True)
    assert frames.settling.tolist() == [True, False, False, False]
    assert json.loads((folders[0] / "window.json").read_text())["origin"] == "seeded"


def test_an_earlier_demo_is_kept_unless_told(demo: DemoResult) -> None:
    with pytest.raises(FileExistsError, match="holds an earlier demo"):
        run_demo(demo.folder, SHORT)
    assert (demo.folder / "summary.json").exists()


def test_a_demo_that_was_stopped_goes_on_to_the_same_numbers(
    demo: DemoResult, tmp_path: Path
) -> None:
    """As it is where windows were under way and nothing after them was written."""
    folder = tmp_path / "demo"
    shutil.copytree(demo.folder, folder)
    for name in ("summary.json", "model.npz", "free_energy.png"):
        (folder / name).unlink()
    for i in (2, 5):
        shutil.rmtree(folder / "windows" / f"window-{i:03d}")
    with pytest.raises(ValueError, match="has other seed"):
        run_demo(folder, SHORT, seed=4, workers=0, resume=True)
    again = run_demo(folder, SHORT, seed=3, workers=0, resume=True)
    timeless = [{k: v for k, v in d.summary.items() if "seconds" not in k} for d in (again, demo)]
    assert timeless[0] == timeless[1]
    with np.load(folder / "model.npz") as ours, np.load(demo.folder / "model.npz") as whole:
        for name in whole.files:
            np.testing.assert_array_equal(ours[name], whole[name], err_msg=name)
    with pytest.raises(FileNotFoundError, match="no demo to go on with"):
        run_demo(tmp_path / "nowhere", SHORT, resume=True)


def test_the_reference_is_what_the_windows_are_compared_with() -> None:
    reference = read_reference()
    phi, kT = reference.profile.centres[0], 2.4943
    weights = np.exp(-reference.profile.free_energy / kT)
    inside = (phi > BASIN[0]) & (phi < BASIN[1])
    # the profile and the difference, two numbers of one file, agree to the width of a bin
    difference = -kT * np.log(weights[inside].sum() / weights[~inside].sum())
    assert difference == pytest.approx(reference.difference.value, abs=0.2)


def test_a_missing_input_says_so() -> None:
    with pytest.raises(FileNotFoundError, match="install openmm_cgan again"):
        plumed_input("nothing.dat")


def test_seeds_are_accepted_proposals_of_their_window() -> None:
    reasons = np.array(["clash", "", "clash", "clash", "", ""])
    positions = np.arange(6.0)[:, None, None] * np.ones((6, 2, 3))
    proposals = Proposals(positions, np.zeros((6, 1)), np.zeros((6, 1)), reasons, seed=0)
    centres = np.array([[0.0], [1.0], [2.0]])
    seeds = choose_seeds(proposals, centres, seed=1)
    np.testing.assert_array_equal(seeds.centres, [[0.0], [2.0]])
    assert seeds.positions[0, 0, 0] == 1.0
    assert seeds.positions[1, 0, 0] in (4.0, 5.0)
    refused = Proposals(positions, np.zeros((6, 1)), np.zeros((6, 1)), np.full(6, "clash"), seed=0)
    with pytest.raises(RuntimeError, match="no proposal passed"):
        choose_seeds(refused, centres, seed=1)


def test_frames_compared_with_themselves_lie_at_the_floor(demo: DemoResult) -> None:
    frames = read_frames(demo.folder / "md" / "frames")
    result = compare(frames, frames.positions)
    assert result["jensen_shannon"] < result["jensen_shannon_floor"]
    assert result["energy_distance"] <= result["energy_distance_floor"]
    moved = frames.positions * np.float32(1.05)
    assert compare(frames, moved)["jensen_shannon"] > 1.5 * result["jensen_shannon_floor"]


def test_train_and_propose_on_its_frames(demo: DemoResult, tmp_path: Path) -> None:
    topology = demo.folder / "md" / "topology.pdb"
    model, out = tmp_path / "model.npz", tmp_path / "seeds.xtc"
    result = call("train", demo.folder / "md" / "frames", "--topology", topology, "--out", model,
                  "--steps", 60, "--plot", tmp_path / "training.png")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "22 atoms given phi, psi" in result.output
    words = ["propose", model, "--topology", topology, "--plumed", demo.folder / "md/plumed.dat"]
    result = call(*words, "--at", "phi=-1.3,psi=1.2", "--at", "psi=2.5,phi=-2.5", "-n", 4,
                  "--out", out)  # fmt: skip
    assert result.exit_code == 0, result.output
    with out.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["phi_asked"] for row in rows] == ["-1.3"] * 4 + ["-2.5"] * 4
    assert float(rows[0]["psi"]) == pytest.approx(1.2, abs=1e-6)
    assert out.exists()
    result = call(*words, "--at", "phi=1")
    assert result.exit_code == 1
    assert "expected one number for each CV, such as phi=1.0,psi=1.0" in result.output


def test_free_energy_of_its_windows(demo: DemoResult, tmp_path: Path) -> None:
    out = tmp_path / "profile.csv"
    result = call("free-energy", demo.folder / "windows", "--cv", "phi", "--bins", 12, "--out", out,
                  "--basin", "0,2.3", "--plot", tmp_path / "profile.png")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "basin 0,2.3: " in result.output
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert min(float(row["free_energy"]) for row in rows) == 0.0


def test_free_energy_along_an_unknown_cv_is_refused(demo: DemoResult, tmp_path: Path) -> None:
    windows = sorted((demo.folder / "windows").glob("window-*"))
    result = call("free-energy", *windows, "--cv", "chi", "--out", tmp_path / "p.csv")
    assert result.exit_code == 1
    assert "chi" in result.output


def test_generated_frames_are_asked_for_at_the_cvs_of_frames(demo: DemoResult) -> None:
    class Echo:
        """A sampler that gives back what it was asked for."""

        def sample(self, cvs: np.ndarray, seed: int) -> np.ndarray:
            return cvs

    frames = read_frames(demo.folder / "md" / "frames")
    asked = generate_like(frames, Echo(), 50, seed=0)
    assert len({tuple(row) for row in asked} & {tuple(row) for row in frames.cvs}) == 50
