"""Moves: what a ProposalReporter tries at an attempt, and what a run may go on from.

`move` is the contract. `exactness` says where proposals can be exact, `exact` chooses by importance
weights and keeps some in `remembered`; `annealed` mends candidates by the paths of `annealing`
first, as a `pilot` finds best; `seed` starts the exploration elsewhere. `choice` is the table of
moves by mode: a further move is a file here and a row there.
"""

from openmm_cgan.reporters.moves.annealed import AnnealedMove
from openmm_cgan.reporters.moves.annealing import Schedule
from openmm_cgan.reporters.moves.choice import MOVES, possible_moves, prepared_move, settled_moves
from openmm_cgan.reporters.moves.exact import ExactMove, Weighed
from openmm_cgan.reporters.moves.exactness import why_not_exact
from openmm_cgan.reporters.moves.move import Asked, Move, Refusal, Start
from openmm_cgan.reporters.moves.seed import SeedMove

__all__ = [
    "MOVES",
    "AnnealedMove",
    "Asked",
    "ExactMove",
    "Move",
    "Refusal",
    "Schedule",
    "SeedMove",
    "Start",
    "Weighed",
    "possible_moves",
    "prepared_move",
    "settled_moves",
    "why_not_exact",
]
