"""Figures are looked at by people; here: the file is a whole PNG and shows the right numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from openmm_cgan import report
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import FreeEnergy
from openmm_cgan.report import Profile


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures written, to look into."""
    figures: list[Figure] = []
    savefig = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        savefig(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2)


def profile(shift: float = 0.0) -> Profile:
    cv = np.linspace(-3.0, 3.0, 13)
    return Profile(cv, 5 * (1 - np.cos(cv)) + shift, np.full(13, 0.3), "cosine")


def test_ramachandran_counts_every_frame_once(tmp_path, rng, drawn) -> None:
    md = rng.uniform(-np.pi, np.pi, size=(400, 2))
    md[0] = np.pi, 3 * np.pi  # at the seam, and one turn further
    path = tmp_path / "rama.png"
    axes = report.plot_ramachandran(md, md[:100], path)
    assert axes.tolist() == drawn[0].axes[:2]
    assert imread(path).shape[2] == 4
    panels = [axis.collections[0].get_array() for axis in drawn[0].axes[:2]]
    assert [float(panel.sum()) for panel in panels] == pytest.approx([1.0, 1.0])
    assert [axis.get_title() for axis in drawn[0].axes[:2]] == [
        "MD frames (400)",
        "generated frames (100)",
    ]


def test_ramachandran_of_nothing_is_an_empty_panel(tmp_path, rng) -> None:
    nothing = np.empty((0, 2))
    md = rng.uniform(-3, 3, size=(10, 2))
    report.plot_ramachandran(md, nothing, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_ramachandran_wants_two_torsions(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"MD frames have shape \(5, 3\)"):
        report.plot_ramachandran(np.zeros((5, 3)), np.zeros((5, 2)), tmp_path / "rama.png")


def test_reference_is_shifted_onto_ours_and_the_basin_shaded(tmp_path, drawn) -> None:
    report.plot_free_energy(profile(), tmp_path / "f.png", profile(shift=7.0), basin=(0.0, 2.3))
    axis = drawn[0].axes[0]
    np.testing.assert_allclose(axis.lines[0].get_ydata(), profile().free_energy, atol=1e-12)
    assert "± 2 standard errors" in axis.get_legend().get_texts()[1].get_text()


@pytest.mark.parametrize(
    ("variable", "label", "limits"),
    [
        (CollectiveVariable("d", "nm"), "d / nm", None),
        (CollectiveVariable("n"), "n", None),
        (CollectiveVariable("theta", "rad"), "theta / degrees", None),
        (CollectiveVariable("turn", "rad", (0.0, 2 * np.pi)), "turn / degrees", (0, 360)),
        (CollectiveVariable("s", "", (0.0, 5.0)), "s", (0, 5)),
    ],
)
def test_the_axis_has_the_unit_of_the_cv(tmp_path, drawn, variable, label, limits) -> None:
    ours = Profile(np.linspace(0.2, 0.8, 7), np.arange(7.0), np.ones(7), "ours")
    moved = Profile(ours.cv, ours.free_energy + 3, ours.error, "reference")
    report.plot_free_energy(ours, tmp_path / "f.png", moved, (0.3, 0.4), variable=variable)
    axis = drawn[0].axes[0]
    assert axis.get_xlabel() == label
    scale = 180 / np.pi if variable.unit == "rad" else 1.0
    np.testing.assert_allclose(axis.lines[0].get_xdata(), scale * ours.cv)
    np.testing.assert_allclose(axis.lines[0].get_ydata(), ours.free_energy)
    if limits is None:
        assert axis.get_xlim()[1] < 1.3 * scale * 0.8  # no domain that it does not have
    else:
        assert axis.get_xlim() == pytest.approx(limits)


def test_unknown_free_energies_leave_gaps(tmp_path) -> None:
    ours = profile()
    ours.free_energy[:3] = np.inf, np.nan, -np.inf
    ours.error[:3] = np.inf, np.nan, np.nan
    report.plot_free_energy(ours, tmp_path / "f.png")
    assert (tmp_path / "f.png").exists()


def test_what_has_no_error_bar_is_drawn_as_unknown(tmp_path, drawn) -> None:
    ours = profile()
    ours.error[2], ours.error[5] = np.nan, np.inf
    report.plot_free_energy(ours, tmp_path / "f.png")
    axis = drawn[0].axes[0]
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert "error unknown" in labels
    [unknown] = [line for line in axis.lines if line.get_label() == "error unknown"]
    np.testing.assert_allclose(unknown.get_ydata(), ours.free_energy[[2, 5]])
    [points] = [c.lines[0] for c in axis.containers]
    assert len(points.get_ydata()) == len(ours.free_energy) - 2


def test_training_curves_have_a_panel_per_number(tmp_path, drawn) -> None:
    history = [
        {"step": i, "critic": 1.0 / (i + 1), "penalty": 0.1, "seconds": i, "note": "x"}
        for i in range(9)
    ]
    report.plot_training(history, tmp_path / "t.png")
    assert [axis.get_title() for axis in drawn[0].axes if axis.lines] == ["critic", "penalty"]
    with pytest.raises(ValueError, match="expected rows with 'epoch'"):
        report.plot_training(history, tmp_path / "t.png", x="epoch")


def test_proposals_are_counted_by_reason(tmp_path, drawn) -> None:
    report.plot_proposals({"accepted": 90, "clash": 8, "chirality": 2}, tmp_path / "p.png")
    axis = drawn[0].axes[0]
    bars = {
        t.get_text(): b.get_width()
        for t, b in zip(axis.get_yticklabels(), axis.patches, strict=True)
    }
    assert bars == {"chirality": 2, "clash": 8, "accepted": 90}
    report.plot_proposals({}, tmp_path / "none.png")
    assert (tmp_path / "none.png").exists()


def test_a_failed_drawing_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.plot_proposals({"accepted": 1}, path)
    assert path.read_bytes() == b"old"


def test_a_surface_is_drawn_with_its_error_and_what_is_unknown(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    variables = (CollectiveVariable("phi", "rad", (-np.pi, np.pi)), CollectiveVariable("d", "nm"))
    centres = np.array([-1.5, 0.0, 1.5]), np.array([0.2, 0.4])
    free_energy = np.array([[0.0, 1.0], [2.0, np.nan], [3.0, 4.0]])
    error = np.array([[0.1, 0.2], [np.inf, np.nan], [0.3, 0.4]])
    surface = FreeEnergy(variables, centres, free_energy, error)
    path = tmp_path / "surface.png"
    report.plot_surface(surface, path)
    assert imread(path).ndim == 3
    left, right = drawn[0].axes[:2]
    np.testing.assert_allclose(
        left.collections[0].get_array().filled(np.nan), free_energy.T, equal_nan=True
    )
    assert right.collections[0].get_array().mask.sum() == 2
    assert left.get_xlabel() == "phi / degrees"
    assert left.get_ylabel() == "d / nm"
    assert left.get_ylim() == pytest.approx((0.1, 0.5))


def test_a_profile_is_no_surface(tmp_path: Path) -> None:
    one = FreeEnergy((CollectiveVariable("d", "nm"),), (np.arange(2.0),), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="this is of 1"):
        report.plot_surface(one, tmp_path / "surface.png")


def test_plots_are_axes_that_can_be_drawn_on_further(tmp_path, rng) -> None:
    """Without a path nothing is written."""
    torsions = rng.uniform(-3, 3, size=(50, 2))
    variables = (CollectiveVariable("a"), CollectiveVariable("b"))
    grid = np.linspace(0, 1, 4), np.linspace(0, 1, 5)
    surface = FreeEnergy(variables, grid, np.ones((4, 5)), np.ones((4, 5)))
    axis = report.plot_free_energy(profile())
    axis.set_title("mine")
    axis.figure.savefig(tmp_path / "mine.png")
    history = [{"step": i, "critic": 1.0, "generator": 2.0} for i in range(3)]
    made = {
        "free_energy": [axis],
        "proposals": [report.plot_proposals({"accepted": 3})],
        "ramachandran": report.plot_ramachandran(torsions, torsions),
        "surface": report.plot_surface(surface),
        "training": report.plot_training(history),
    }
    for what, axes in made.items():
        assert all(isinstance(one, Axes) for one in axes), what
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]
