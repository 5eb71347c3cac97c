"""Moves: what a ProposalReporter tries at an attempt, and what a run may go on from.

`move` is the contract. `exactness` says where proposals can be exact, `exact` chooses by importance
weights: `weighing` has their terms, `marginal` finds the CVs to ask for, `candidate_record` what
they were worth, with the last of them in `remembered`. `annealed` mends candidates by the paths of
`annealing` first, as a `pilot` finds best; `local` does as `exact` with a part among the rest as it
is: `held_rest`. `steered` leads torsions by the force of `steering` to `torsion_targets`, in a
`switching` of its own, while all else moves. `seed` starts the exploration elsewhere. `choice` is
the table of moves by mode: a further move is a file here and a row there.
"""

from openmm_cgan.reporters.moves.annealed import AnnealedMove
from openmm_cgan.reporters.moves.annealing import Schedule
from openmm_cgan.reporters.moves.choice import MOVES, possible_moves, prepared_move, settled_moves
from openmm_cgan.reporters.moves.exact import ExactMove
from openmm_cgan.reporters.moves.exactness import why_not_exact
from openmm_cgan.reporters.moves.local import LocalMove
from openmm_cgan.reporters.moves.move import Asked, Move, Refusal, Start
from openmm_cgan.reporters.moves.seed import SeedMove
from openmm_cgan.reporters.moves.steered import SteeredMove
from openmm_cgan.reporters.moves.weighing import Weighed

__all__ = [
    "MOVES",
    "AnnealedMove",
    "Asked",
    "ExactMove",
    "LocalMove",
    "Move",
    "Refusal",
    "Schedule",
    "SeedMove",
    "Start",
    "SteeredMove",
    "Weighed",
    "possible_moves",
    "prepared_move",
    "settled_moves",
    "why_not_exact",
]
