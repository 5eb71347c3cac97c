"""Steered moves of a part: what it does not move is a condition, and changes during the move."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from scipy import stats

from openmm_cgan.reporters.moves import SteeredMove
from openmm_cgan.reporters.moves.exact import OUTSIDE_CONDITIONS
from openmm_cgan.rotors import turns_heavy_atoms
from openmm_cgan.testsystems import Chain, valine_dipeptide
from tests.cases.chain_flow import chain_flow
from tests.cases.chain_sampler import internal_of
from tests.cases.chain_targets import KT, RIGHT, WRONG, Case, T
from tests.cases.steered_chains import Term, Watched, steered_move
from tests.cases.steered_end import EndTorsion, TurningEnd, coupled, coupled_samples

TILTED, STRENGTH = Chain(barrier=1.0, tilt=3.0), 12.0


def part_move(folder: Path, n_steps: int, system: openmm.System) -> SteeredMove:
    case = Case(TILTED, "theta")
    return steered_move(case, folder, 0.01, TurningEnd, system, switching_steps=n_steps)


def functions_of(x: NDArray) -> NDArray:
    """(n, 5) of configurations (n, 4, 3): the torsion that is led, the angle that is not, both."""
    c = internal_of(x)
    phi, theta = c["phi"], c["theta0"]
    together = EndTorsion(TILTED).log_prob(phi[:, None], theta[:, None])[:, 0]
    return np.stack([np.cos(phi), np.sin(phi), theta, theta * np.sin(phi), together], axis=1)


def balance(x: NDArray, terms: list[Term], log_ratio: Callable[[Term], float]) -> float:
    """p of detailed balance for moves from exact samples (n, 4, 3)."""
    likely = np.exp([min(0.0, log_ratio(term)) for term in terms])
    ends = np.array([term.end for term in terms])
    changes = likely[:, None] * (functions_of(ends) - functions_of(x))
    mean, covariance = changes.mean(axis=0), np.cov(changes.T) / len(x)
    return float(stats.chi2(5).sf(mean @ np.linalg.solve(covariance, mean)))


def whole(t: Term) -> float:
    return t.log_q - t.log_q_end - t.change / KT


LEFT_OUT: dict[str, Callable[[Term], float]] = {
    "q": lambda t: -t.change / KT,
    "energy": lambda t: t.log_q - t.log_q_end,
    "the condition at the end": lambda t: t.log_q_before - t.log_q_end - t.change / KT,
}


def test_moves_of_a_part_are_balanced_and_not_with_a_term_left_out(tmp_path: Path) -> None:
    x, system = coupled_samples(TILTED, STRENGTH, 600, T), coupled(TILTED, STRENGTH)
    move = part_move(tmp_path, 60, system)
    watched, rng = Watched(move, is_worked=False), np.random.default_rng(7)
    terms = [term for one in x if (term := watched.tried(one, rng)) is not None]
    assert len(terms) == len(x)
    for term in terms:
        assert term.is_taken == (np.log(term.uniform) < whole(term))
    assert np.mean([term.is_taken for term in terms]) > 0.1
    assert balance(x, terms, whole) > RIGHT
    for name, wrong in LEFT_OUT.items():
        assert balance(x, terms, wrong) < WRONG, name


def test_from_where_nothing_was_trained_nothing_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = part_move(tmp_path, 20, TILTED.system())
    x, rng = TILTED.sample(50, T, seed=5), np.random.default_rng(7)
    theta = internal_of(x)["theta0"]
    inside, outside = (x[np.argsort(theta)[k]] for k in (0, -1))
    move.targets._trained.cv_range[:] = [0.0, np.median(theta)]
    move.targets._trained._widths[:] = np.median(theta)
    with monkeypatch.context() as patch:
        patch.setattr(move.switching, "made", None)  # whatever its end would be: not even tried
        assert move.attempt(outside, None, rng).reason == f"kept current: {OUTSIDE_CONDITIONS}"
    tried = [move.attempt(inside, None, rng) for _ in range(20)]
    reasons = {attempt.reason for attempt in tried}
    assert f"kept current: {OUTSIDE_CONDITIONS}" in reasons, "it is met no more than left"
    ends = [attempt.positions for attempt in tried if attempt.positions is not None]
    assert all(internal_of(end[None])["theta0"][0] <= np.median(theta) for end in ends)


def test_of_a_side_chain_only_what_turns_heavy_atoms_is_led() -> None:
    molecule = valine_dipeptide()
    names = [(atom.residue.name, atom.name) for atom in molecule.topology.atoms()]
    chi1, methyl, phi = (
        [names.index(("VAL", name)) for name in row]
        for row in (
            ["CG1", "CB", "CA", "N"],
            ["HG11", "CG1", "CB", "CA"],
            ["CB", "CA", "N", "H"],
        )
    )
    found = turns_heavy_atoms(molecule.topology, np.array([chi1, methyl, phi, methyl[::-1]]))
    assert found.tolist() == [True, False, True, False]


def test_a_whole_molecule_does_not_take_the_place_of_a_part(tmp_path: Path) -> None:
    variables = part_move(tmp_path, 10, TILTED.system()).bias.variables
    part, whole_chain = TurningEnd(TILTED, variables), chain_flow(TILTED, variables)
    assert SteeredMove.why_not_replaced(whole_chain, part) == "it makes other atoms"
    assert SteeredMove.why_not_replaced(part, part) == ""
