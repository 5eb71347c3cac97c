"""What an exploration does next, and why: a function of what has been measured, nothing else.

The order is that of what can still be wrong. Are the states and the wells of other torsions in the
data at all? Can a generator give weights, and are these good? Is the error small, do halves agree?
Have chains, or windows, from opposite starts come together? Only then is a number claimed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from openmm_cgan.explore.evidence import Chains, Claim, Coverage, Evidence, Generator
from openmm_cgan.explore.settings import ExploreSettings
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.free_energy.doubts import LEAST_OVERLAP
from openmm_cgan.free_energy.pareto import LARGEST_K, LIGHT_K

LOOK, BIAS, EXTEND, OPPOSITE = "look", "bias", "extend", "opposite"
TRAIN, REFINE, WEIGH, CHAINS = "train", "refine", "weigh", "chains"
MOVES, WINDOWS, STOP = "moves", "windows", "stop"

CROSSINGS_COVERED = 4  # between the two states: there and back, twice
HOPS = 6  # of a torsion that no CV is
NEW_CELLS = 0.1  # of all cells, in the last third of the run
LONGEST = 4  # times the first biased run, for the sake of what is not the difference
LEAST_SHARE = 0.01  # Kish over n: fewer, and windows are cheaper
GOOD_SHARE = 0.05  # as good as not to be refined unless its weights turn out to be heavy
MOST_MISSED = 0.05  # of the frames: kT times as much may a free energy be off
TRAININGS = 3  # of generators, each on more data than the one before
COME_TOGETHER = 1.1  # R-hat; A. Gelman and D. Rubin, doi 10.1214/ss/1177011136
APART = 5.0  # standard errors, the worst of all windows
RUNS_APART = 3.0  # standard errors, of two
MOST_MORE = 8  # times as many configurations at once
CANDIDATES = 103  # energies of an exact move
PILOT = 1024  # energies before the first of a run, by which it finds where to make candidates
JUDGED = 4000  # configurations by which a generator is judged, one energy each
JUDGING = 11 * JUDGED // 10  # energies, those of frames beside them
HELD_AGAINST = 200  # frames of each state that a generator may miss, 16 configurations at each
HOLDING = 2 * 17 * HELD_AGAINST  # energies
LEAST_ACCEPTED = 0.05  # of exact moves
FEWEST_REFINED = 0.25  # of its steps: refining by less is not worth what judging costs


@dataclass(frozen=True)
class Decision:
    """What is done next.

    Attributes
    ----------
    action : str
    reason : str
    steps : int
        How long: steps, or configurations of "weigh".
    cost : int
        Force evaluations.
    converged : bool
        Of "stop": whether the number is claimed.
    """

    action: str
    reason: str
    steps: int = 0
    cost: int = 0
    converged: bool = False


def decide(known: Evidence, settings: ExploreSettings) -> Decision:
    """Decide what to do next.

    Parameters
    ----------
    known : Evidence
    settings : ExploreSettings

    Returns
    -------
    Decision
        Its cost is within what is left of the budget; else it is "stop", and says why there is no
        number.
    """
    wanted = _wanted(known, settings)
    if wanted.action == STOP:
        return wanted
    budget, left = settings.budget_steps, settings.budget_steps - known.spent
    if wanted.action == WINDOWS and wanted.cost > left:
        wanted = _shortened(wanted, left)
    over = ""
    if wanted.cost > left:
        over = f"{left:,} of {budget:,} force evaluations are left, {wanted.cost:,} needed"
    elif known.seconds >= 3600 * settings.hours:
        over = f"{known.seconds / 3600:.2f} hours are spent of {settings.hours:.2f}"
    if not over:
        return wanted
    return Decision(STOP, f"not converged, because {wanted.reason}; but {over}")


def _shortened(wanted: Decision, left: int) -> Decision:
    """Windows of half the length where that is still worth it."""
    steps = int(wanted.steps * left / wanted.cost)
    if steps < wanted.steps / 2:
        return wanted
    return replace(wanted, steps=steps, cost=int(wanted.cost * steps / wanted.steps))


def _wanted(known: Evidence, settings: ExploreSettings) -> Decision:
    """What would be done next were there no budget."""
    return (
        _of_data(known, settings)
        or _of_generator(known, settings)
        or _of_claim(known, settings)
        or _stop(known, settings)
    )


def _of_data(known: Evidence, settings: ExploreSettings) -> Decision | None:
    """What the data still lack; None where nothing."""
    if not known.widths:
        why = (
            "the input has no bias: a short run tells the widths of the hills to add"
            if known.needs_bias
            else "a short run tells which torsions turn that no CV is"
        )
        return Decision(LOOK, why, settings.look_steps, 2 * settings.look_steps)
    steps = settings.biased_steps
    if known.coverage is None:
        return Decision(BIAS, "nothing is known yet of the CVs", steps, steps)
    vital, useful = too_little(known.coverage)
    if vital or (useful and known.biased_steps < LONGEST * steps):
        more = max(steps // 2, known.biased_steps // 2)
        return Decision(EXTEND, "; ".join(vital or useful), more, more)
    if len(known.unseen) > known.opposite:
        name = known.unseen[known.opposite]
        why = f"{name} has a well that a hot run has seen and no biased run has: one begins in it"
        return Decision(OPPOSITE, why, steps, steps)
    return None


def too_little(coverage: Coverage) -> tuple[list[str], list[str]]:
    """Why there are too few data: for any number at all, and for a good generator."""
    vital, useful = [], []
    if coverage.missing:
        vital.append(f"the {' and the '.join(coverage.missing)} state has not been visited")
    elif coverage.crossings < CROSSINGS_COVERED:
        times = f"{coverage.crossings} times, {CROSSINGS_COVERED} are wanted"
        vital.append(f"the run has gone from one state to the other {times}")
    if coverage.new_share > NEW_CELLS:
        share = f"{coverage.new_share:.0%} of the cells over the CVs"
        useful.append(f"{share} were first visited in the last third of the run")
    for name, count in coverage.hops.items():
        if count < HOPS:
            useful.append(f"{name} has changed wells {count} times, {HOPS} are wanted")
    return vital, useful


def _of_generator(known: Evidence, settings: ExploreSettings) -> Decision | None:
    """What the generator still lacks; None where nothing."""
    made = known.generator
    if made is None:
        return Decision(TRAIN, f"{_frames_of(known)} frames are enough to train on", cost=JUDGING)
    if not made.why_not_exact and not made.refined and (why := _why_refined(known, settings)):
        return _refining(why, settings.budget_steps - known.spent, settings)
    return None


def _why_refined(known: Evidence, settings: ExploreSettings) -> str:
    """Why a generator as trained does not do; empty while it may."""
    made, claim = known.generator, known.claim
    assert made is not None, "asked for before"
    if why := why_not_weighed(made):
        return why
    if made.share < GOOD_SHARE:
        return f"its weights are exact, Kish/n {made.share:.2f}"
    if claim is None or claim.route != "generated":
        return ""
    doubts = doubts_of_claim(claim, settings.tolerance)
    if not claim.k_hat <= LIGHT_K:
        doubts = doubts or [f"Pareto k is {claim.k_hat:.2f}, above {LIGHT_K}"]
        return "; ".join(doubts)
    cost = _cost_of_refining(settings) * settings.refining_steps
    costly = bool(claim.unknown) or _wanted_configurations(known, settings) > cost
    return "; ".join(doubts) if costly else ""


def _cost_of_refining(settings: ExploreSettings) -> int:
    """Energies of a step."""
    return 3 * settings.refining_batch


def _refining(why: str, left: int, settings: ExploreSettings) -> Decision:
    """As many steps as leave enough to weigh and to try what is made; none where too few."""
    each = _cost_of_refining(settings)
    needed = settings.generated + _with_moves(CHAINS, settings.chain_steps, settings, "").cost
    steps = min(settings.refining_steps, max(0, left - needed - JUDGING) // each)
    if steps < FEWEST_REFINED * settings.refining_steps:
        why += f"; {left:,} force evaluations are left, {needed:,} to weigh and try it: it stays"
        return Decision(REFINE, why)
    why += ": the energy may make it better"
    return Decision(REFINE, why, steps, each * steps + JUDGING)


def _frames_of(known: Evidence) -> str:
    return "" if known.coverage is None else f"{known.coverage.frames:,}"


def why_not_weighed(made: Generator) -> str:
    """Why configurations of a generator do not give the number; empty if they may."""
    if made.why_not_exact:
        return made.why_not_exact
    if not made.share >= LEAST_SHARE:
        return f"Kish/n is {made.share:.3f} in the median region, below {LEAST_SHARE}"
    if not made.missed <= MOST_MISSED:
        return f"it misses {made.missed:.1%} of the frames, more than {MOST_MISSED:.0%}"
    return ""


def _of_claim(known: Evidence, settings: ExploreSettings) -> Decision | None:
    """How the number is made, or made better; None where it stands, or cannot be helped."""
    made, claim = known.generator, known.claim
    assert made is not None, "asked for before"
    if claim is None:
        if why := why_not_weighed(made):
            again = None if made.why_not_exact else _again(known, settings, why, 2)
            return again or _instead(known, settings, f"no weights by the generator: {why}")
        why = (
            f"Kish/n {made.share:.2f}, {made.missed:.1%} of the frames missed: its configurations "
            "are weighed"
        )
        return Decision(WEIGH, why, settings.generated, settings.generated)
    doubts = doubts_of_claim(claim, settings.tolerance)
    if claim.route == "windows":
        gap = claim.overlap < LEAST_OVERLAP and known.window_steps > settings.window_steps
        # what longer windows did not join, still longer ones will not
        return _windows(known, settings, "; ".join(doubts)) if doubts and not gap else None
    if claim.route == "moves":
        assert known.chains is not None, "measured together"
        why = "; ".join([*doubts, *filter(None, [doubt_of_chains(known.chains)])])
        return _instead(known, settings, why) if why else None
    if doubts:
        return _weighed_again(known, settings, "; ".join(doubts))
    chains = known.chains
    if chains is None:
        why = f"+-{claim.error:.2f} kJ/mol, halves agree: chains from opposite starts try it"
        return _with_moves(CHAINS, settings.chain_steps, settings, why)
    if not (why := doubt_of_chains(chains)):
        return None
    if chains.missed <= MOST_MISSED and chains.steps < LONGEST * settings.chain_steps:
        return _with_moves(CHAINS, chains.steps, settings, why)
    return _again(known, settings, why)


def _again(
    known: Evidence, settings: ExploreSettings, why: str, most: int = TRAININGS
) -> Decision | None:
    """More data for another generator; None where that has been tried."""
    if known.trainings >= most:
        return None
    steps = settings.biased_steps
    return Decision(EXTEND, f"{why}: more data for another generator", steps, steps)


def _weighed_again(known: Evidence, settings: ExploreSettings, why: str) -> Decision:
    """More configurations where these will do, else windows."""
    claim, n = known.claim, _wanted_configurations(known, settings)
    assert claim is not None, "it is in doubt"
    heavy = not claim.k_hat <= LARGEST_K
    if heavy and known.generated > settings.generated:
        why = f"more configurations did not help: {why}"
        return _again(known, settings, why) or _instead(known, settings, why)
    if n > 2 * settings.windows * settings.window_steps:
        return _instead(known, settings, f"it would take {n:,} configurations: {why}")
    return Decision(WEIGH, why, n, n)


def _wanted_configurations(known: Evidence, settings: ExploreSettings) -> int:
    """How many would bring the error down to what is wanted."""
    claim = known.claim
    assert claim is not None, "it is in doubt"
    more = (claim.error / settings.tolerance) ** 2 if np.isfinite(claim.error) else MOST_MORE
    return int(known.generated * min(MOST_MORE, max(2.0, 1.2 * more)))


def _with_moves(action: str, steps: int, settings: ExploreSettings, why: str) -> Decision:
    """Two runs with exact moves."""
    cost = 2 * steps * (1 + CANDIDATES / settings.proposals_every) + 2 * PILOT
    return Decision(action, why, steps, int(cost) + HOLDING)


def _instead(known: Evidence, settings: ExploreSettings, why: str) -> Decision:
    """What is done where weights do not give the number: exact moves that are accepted, or windows.

    Moves are exact whatever the generator misses.
    """
    made, chains = known.generator, known.chains
    assert made is not None, "asked for before"
    refused = chains is not None and chains.accepted < LEAST_ACCEPTED
    if made.why_not_exact or made.share < LEAST_SHARE or refused:
        return _windows(known, settings, why)
    return _with_moves(MOVES, known.moves_steps or settings.moves_steps, settings, why)


def _windows(known: Evidence, settings: ExploreSettings, why: str) -> Decision:
    if not known.n_windows:
        cost = 2 * settings.windows * settings.window_steps
        return Decision(WINDOWS, why, settings.window_steps, cost)
    steps = known.window_steps
    return Decision(WINDOWS, why, steps, known.n_windows * steps)


def doubts_of_claim(claim: Claim, tolerance: float) -> list[str]:
    """What speaks against an estimate, the worst first; nothing where it may be believed."""
    doubts = [claim.unknown] if claim.unknown else []
    if claim.route == "generated" and not claim.k_hat <= LARGEST_K:
        doubts.append(f"Pareto k is {claim.k_hat:.2f}, above {LARGEST_K}")
    if claim.route == "windows" and not claim.overlap >= LEAST_OVERLAP:
        doubts.append(f"windows overlap by {claim.overlap:.2g} only, less than {LEAST_OVERLAP}")
    most = APART if claim.route == "windows" else RUNS_APART
    if claim.route != "generated" and not claim.disagreement <= most:
        what = "the same windows" if claim.route == "windows" else "runs"
        far = f"{claim.disagreement:.1f} standard errors apart"
        doubts.append(f"{what} from two starts are {far}: they remember their starts")
    if not claim.unknown and not claim.error <= tolerance:
        doubts.append(f"the error is {claim.error:.2f} kJ/mol, {tolerance:g} is wanted")
    if not claim.unknown and not claim.halves_apart <= max(tolerance, 2 * claim.halves_error):
        a, b = (f"{value:.2f} +- {error:.2f}" for value, error in claim.halves)
        doubts.append(f"halves disagree: {a} and {b} kJ/mol")
    return doubts


def doubt_of_chains(chains: Chains) -> str:
    """Why chains from opposite starts have not come together; empty if they have."""
    name, worst = chains.worst
    if not chains.missed <= MOST_MISSED:
        return (
            f"the generator misses {chains.missed:.1%} of what chains find in a state, more than "
            f"{MOST_MISSED:.0%}"
        )
    if worst <= COME_TOGETHER:
        return ""
    return (
        f"chains from opposite starts still differ in {name} (R-hat {worst:.2f}, at most "
        f"{COME_TOGETHER}; {chains.accepted:.0%} of the moves accepted)"
    )


def _stop(known: Evidence, settings: ExploreSettings) -> Decision:
    """The end where all that could be done is done."""
    claim, chains = known.claim, known.chains
    assert claim is not None, "there is always something to do before"
    if claim.route == "generated" and chains is not None and (why := doubt_of_chains(chains)):
        return Decision(STOP, f"not converged, because {why}")
    if claim.route == "windows" and (doubts := doubts_of_claim(claim, settings.tolerance)):
        why = f"{'; '.join(doubts)}. A longer biased run (--biased-steps) places them better"
        return Decision(STOP, f"not converged, because {why}")
    how = {"generated": "chains", "moves": "runs", "windows": "windows"}[claim.route]
    words = StateDifference.of(settings.difference).words
    return Decision(
        STOP,
        f"converged: {words} = {claim.value:.2f} +- {claimed_error(claim):.2f} kJ/mol, halves "
        f"agree, {how} from opposite starts have come together",
        converged=True,
    )


def claimed_error(claim: Claim) -> float:
    """Standard error that is claimed [kJ/mol]: half the distance of the halves where larger."""
    return max(claim.error, claim.halves_apart / 2)
