"""Which move a mode means: a table, and for mode="auto" the first move that can be made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from openmm_cgan.reporters.moves.annealed import AnnealedMove
from openmm_cgan.reporters.moves.exact import ExactMove
from openmm_cgan.reporters.moves.local import LocalMove
from openmm_cgan.reporters.moves.move import Asked, Move, Refusal, Start
from openmm_cgan.reporters.moves.seed import SeedMove
from openmm_cgan.reporters.moves.steered import SteeredMove
from openmm_cgan.virtual_sites import require_copied

if TYPE_CHECKING:
    from openmm.app import Simulation

MOVES: dict[str, type[Move]] = {
    "seed": SeedMove,
    "exact": ExactMove,
    "annealed": AnnealedMove,
    "local": LocalMove,
    "steered": SteeredMove,
}
# Of these mode="auto" takes the first that can be made, of the first two by what a pilot finds.
# Steered moves it never takes: what they cost in a solvent is not known before a long trial.
AUTO = ("exact", "annealed", "local", "seed")
BETTER = 1.5  # times as many effective candidates for an energy: else what is simple is taken

log = logging.getLogger("openmm_cgan")


def possible_moves(mode: str, asked: Asked) -> list[type[Move]]:
    """Moves that a mode allows, the best first, as far as is known without a simulation.

    Raises
    ------
    ValueError
        If there is no such mode, none of its moves can be made, or an argument is wrong.
    """
    if mode != "auto" and mode not in MOVES:
        *names, last = ("'auto'", *map(repr, MOVES))
        raise ValueError(f"mode is {mode!r}; expected {', '.join(names)} or {last}")
    wanted = [MOVES[name] for name in (AUTO if mode == "auto" else (mode,))]
    return _not_refused(wanted, lambda move: move.refusal(asked))


def settled_moves(
    wanted: Sequence[type[Move]], asked: Asked, simulation: Simulation
) -> list[type[Move]]:
    """Those of some moves that are not refused in a simulation, the best first.

    Raises
    ------
    ValueError
        If there is none.
    """
    return _not_refused(wanted, lambda move: move.refusal_in(asked, simulation))


def require_possible(wanted: Sequence[type[Move]], asked: Asked, simulation: Simulation) -> None:
    """Raise ValueError where all of some moves are refused in a simulation; nothing is logged.

    All weigh or heal in copies of its System.
    """
    require_copied(simulation.system)
    refusals = [move.refusal_in(asked, simulation) for move in wanted]
    if None not in refusals:
        _not_refused(wanted, dict(zip(wanted, refusals, strict=True)).get)


def prepared_move(wanted: Sequence[type[Move]], asked: Asked, start: Start) -> Move:
    """The best of some moves that can be made in a simulation.

    Raises
    ------
    ValueError
        If there is none.
    """
    *firsts, last = settled_moves(wanted, asked, start.simulation)
    while firsts:
        kind = firsts.pop(0)
        try:
            made = kind.prepare(asked, start)
            if isinstance(made, ExactMove) and AnnealedMove in firsts:
                made = _exact_or_annealed(made, AnnealedMove.beside(made, asked))
            if kind is LocalMove and _can_steer(asked, start.simulation):
                log.info(
                    "mode='local' holds what stands around; what turns only if that answers is "
                    "led by mode='steered', which is dear: docs/exact_proposals.md"
                )
            return made
        except ValueError as error:  # of forces that only their energies tell, or without weight
            firsts = [other for other in firsts if other is not AnnealedMove]  # as the exact one
            log.warning("mode='auto' takes %r: %s", (*firsts, last)[0].mode, error)
    if last is SeedMove and len(wanted) > 1 and _can_steer(asked, start.simulation):
        log.info("mode='steered' would be exact, and may take long: docs/exact_proposals.md")
    return last.prepare(asked, start)


def _can_steer(asked: Asked, simulation: Simulation) -> bool:
    return SteeredMove.refusal(asked) is None and SteeredMove.refusal_in(asked, simulation) is None


def _exact_or_annealed(exact: Move, annealed: AnnealedMove) -> Move:
    """What the pilot of annealed moves finds better; both leave the distribution unchanged."""
    assert annealed.plans is not None, "there was a pilot"
    best, plain = annealed.plans
    pays = best.efficiency > BETTER * plain.efficiency
    taken = annealed if pays else exact
    log.info(
        "mode='auto' takes %r: of candidates that are not annealed %.2g %% count, %.3g in 1,000 "
        "energies; best %s",
        taken.mode, 100 * plain.effective, 1000 * plain.efficiency, best,
    )  # fmt: skip
    return taken


def _not_refused(
    wanted: Sequence[type[Move]], refusal_of: Callable[[type[Move]], Refusal | None]
) -> list[type[Move]]:
    refusals = [refusal_of(move) for move in wanted]
    possible = [move for move, no in zip(wanted, refusals, strict=True) if no is None]
    told = [refusal for refusal in refusals if refusal is not None]
    if not possible:
        raise ValueError(told[-1].error)
    if refusals[0] is not None:
        log.warning("mode='auto' takes %r: %s", possible[0].mode, refusals[0].reason)
    return possible
