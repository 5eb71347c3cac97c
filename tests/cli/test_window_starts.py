"""Where windows of a run start: in the box of their frame, and several times where asked for."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.cli import window_starts
from openmm_cgan.cli.window_starts import TRIES, Starts, starts, windows_from
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames
from openmm_cgan.free_energy.biased_runs import BiasedRun
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.windows import WindowSettings
from openmm_cgan.windows.placement import Placement

PLACEMENT = Placement(("d",), np.array([[0.3], [0.4]]), np.array([1000.0]))


@pytest.mark.parametrize("periodic", [True, False])
def test_a_window_begins_in_the_box_of_its_frame(periodic: bool, tmp_path: Path) -> None:
    boxes = np.eye(3) * np.array([2.0, 2.1, 2.2])[:, None, None]
    frames = SimpleNamespace(positions=np.zeros((3, 2, 3)), box=boxes if periodic else None)
    begun = Starts.of_frames(frames, np.array([2, 0]))
    begun.seeded[1] = begun.heal[1] = True
    bias = PlumedBias("d: DISTANCE ATOMS=1,2\nPRINT ARG=d\n")
    made = windows_from(begun, bias, PLACEMENT, WindowSettings(300.0, 100, 10), tmp_path)
    assert [window.origin for window in made] == ["frame", "seeded"]
    assert [window.heal for window in made] == [False, True]
    if periodic:
        assert [window.box[0, 0] for window in made] == [2.2, 2.0]
    else:
        assert [window.box for window in made] == [None, None]


def frames_of(cvs: np.ndarray, bias: np.ndarray) -> Frames:
    """Frames of two atoms that remember which they are by the place of the first one."""
    n = len(cvs)
    positions = np.zeros((n, 2, 3), dtype=np.float32)
    positions[:, 0, 0] = np.arange(n)
    variables = (CollectiveVariable("phi", "rad", (-np.pi, np.pi)), CollectiveVariable("d", "nm"))
    order, once = np.arange(n), np.ones(n, dtype=np.int64)
    settled, atoms = np.zeros(n, dtype=bool), np.arange(2)
    return Frames(positions, cvs, bias, order, 0.1 * order, once, settled, variables, atoms,
                  temperature=300.0)  # fmt: skip


def test_several_starts_are_frames_as_their_window_is_to_hold_them(tmp_path: Path) -> None:
    """By what frames weigh without their bias, under the restraint, and round the period."""
    rng, n, kT = np.random.default_rng(0), 40_000, GAS_CONSTANT * 300.0
    cvs = np.column_stack([rng.uniform(-np.pi, np.pi, n), rng.normal(size=n)])
    # a run biased flat by -F, F = 4 cos phi
    given = frames_of(cvs, -4.0 * np.cos(cvs[:, 0]))
    (tmp_path / "plumed.dat").write_text(
        "phi: TORSION ATOMS=1,2,3,4\nd: DISTANCE ATOMS=1,2\nRESTRAINT ARG=phi AT=0 KAPPA=0\n"
    )
    biased = BiasedRun.of(given, tmp_path / "plumed.dat", tmp_path)
    run = SimpleNamespace(frames=given, biased=biased)
    placement = Placement(("phi",), np.array([[3.1], [1.0]]), np.array([20.0]))
    begun = starts(run, placement, None, seed=1, per_window=400)
    assert begun.positions.shape == (800, 2, 3)
    rows = begun.positions[:, 0, 0].astype(int)
    fine = np.linspace(-np.pi, np.pi, 100_000)
    for centre, own in zip((3.1, 1.0), rows.reshape(2, 400), strict=True):
        off = np.angle(np.exp(1j * (fine - centre)))
        share = np.exp(-(4.0 * np.cos(fine) + 10.0 * off**2) / kT)
        share /= share.sum()
        mean, variance = share @ off, share @ off**2 - (share @ off) ** 2
        drawn = np.angle(np.exp(1j * (cvs[own, 0] - centre)))
        # of 400 draws from some 5,000 frames that lie there
        assert abs(drawn.mean() - mean) < 4 * np.sqrt(variance / 400)
        assert drawn.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / 400))
        assert abs(cvs[own, 1].mean()) < 4 / np.sqrt(400), "what is not held is as it comes"
    one = starts(run, placement, None, seed=1)
    nearest = cvs[one.positions[:, 0, 0].astype(int), 0]
    np.testing.assert_allclose(nearest, [3.1, 1.0], atol=1e-2)


def test_runs_of_a_window_have_the_boxes_of_their_own_frames(tmp_path: Path) -> None:
    boxes = np.eye(3) * np.arange(2.0, 2.4, 0.1)[:, None, None]
    given = SimpleNamespace(positions=np.zeros((4, 2, 3)), box=boxes)
    begun = Starts.of_frames(given, np.array([3, 0, 2, 1]))
    bias = PlumedBias("d: DISTANCE ATOMS=1,2\nPRINT ARG=d\n")
    made = windows_from(begun, bias, PLACEMENT, WindowSettings(300.0, 100, 10), tmp_path)
    names = ["window-000-0", "window-000-1", "window-001-0", "window-001-1"]
    assert [window.folder.name for window in made] == names
    assert [window.centre["d"] for window in made] == [0.3, 0.3, 0.4, 0.4]
    assert [window.box[0, 0] for window in made] == pytest.approx([2.3, 2.0, 2.2, 2.1])


def test_starts_are_not_of_the_time_when_the_bias_grew_fast() -> None:
    cvs = np.full((100, 2), 0.9)
    cvs[:20, 1] = cvs[57, 1] = 0.3  # of the later frames one alone is where the window is
    given = frames_of(cvs, np.zeros(100))
    biased = SimpleNamespace(late=lambda: slice(20, None), log_weights=lambda: np.zeros(100))
    run = SimpleNamespace(frames=given, biased=biased)
    placement = Placement(("d",), np.array([[0.3]]), np.array([1e4]))
    begun = starts(run, placement, None, seed=1, per_window=5)
    assert begun.positions[:, 0, 0].tolist() == [57] * 5


class Made(SimpleNamespace):
    """What a model made: numbered by the place of the first atom, from 1000 on."""

    def __len__(self) -> int:
        return len(self.positions)

    def counts(self) -> dict[str, int]:
        return {}


@pytest.mark.parametrize("weighed", [True, False])
def test_what_is_not_drawn_by_weight_is_healed(
    weighed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three windows the model makes nothing that passes for the last: that is a frame."""
    cvs = np.array([[0.0, 0.3], [0.0, 0.4], [0.0, 0.5]])
    given = frames_of(cvs, np.zeros(3))
    placement = Placement(("d",), cvs[:, 1:], np.array([1000.0]))
    accepted = np.repeat([True, True, False], TRIES)
    x = np.zeros((3 * TRIES, 2, 3))
    x[:, 0, 0] = 1000 + np.arange(3 * TRIES)
    best = [3, TRIES + 7]  # of all that passed, the only ones that weigh anything

    def weigher_by(gan: object, *_: object) -> SimpleNamespace:
        assert gan is model  # and not what the file holds by now
        if not weighed:
            raise ValueError("a GAN has no density")
        logs = np.full(2 * TRIES, -np.inf)
        logs[best] = 0.0
        sampler = SimpleNamespace(log_prob=lambda x, _: np.zeros(len(x)))
        return SimpleNamespace(sampler=sampler, weigh=lambda *_: Made(log_weights=logs))

    def propose(_: object, targets: np.ndarray, *__: object, **___: object) -> Made:
        return Made(positions=x, accepted=accepted, targets=targets)

    model = SimpleNamespace(variables=given.variables)
    monkeypatch.setattr(window_starts.ConditionalGAN, "load", lambda *_: model)
    for name, stub in (("require_whole", None), ("Screen", None), ("propose", propose),
                       ("weigher_by", weigher_by)):  # fmt: skip
        monkeypatch.setattr(window_starts, name, stub or (lambda *_: None))
    molecule = SimpleNamespace(topology=None, positions=None)
    biased = SimpleNamespace(plumed=None)
    run = SimpleNamespace(frames=given, biased=biased, molecule=molecule, bias=None)
    begun = starts(run, placement, tmp_path / "model.npz", seed=1)
    assert begun.seeded.tolist() == [True, True, False]
    assert begun.heal.tolist() == [not weighed, not weighed, False]
    first = begun.positions[:, 0, 0].astype(int)
    assert first[2] == 2
    if weighed:
        assert (first[:2] - 1000).tolist() == best
    else:
        assert ((first[:2] - 1000) // TRIES).tolist() == [0, 1]
