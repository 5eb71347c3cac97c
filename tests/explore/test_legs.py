"""What a search along learned coordinates runs next, and when its number stands."""

import pytest

from openmm_cgan.explore.legs import Known, Leg, Seen, next_leg, why_unknown
from openmm_cgan.free_energy.samples import Estimate

NAN = float("nan")
NOTHING = Estimate(NAN, NAN)
GOOD = Seen(Estimate(4.4, 0.3), (Estimate(4.3, 0.4), Estimate(4.5, 0.4)), 20)
WIDE = Seen(Estimate(4.4, 0.8), (Estimate(4.3, 0.4), Estimate(4.5, 0.4)), 20)
STUCK = Seen(Estimate(4.4, 0.3), (Estimate(4.3, 0.4), Estimate(4.5, 0.4)), 3)
LIGHT = Seen(NOTHING, (NOTHING, NOTHING), 20, "worth 8 frames")


@pytest.mark.parametrize(
    ("whole", "halves", "n", "words"),
    [
        ((11.9, 0.3), ((11.8, 0.4), (12.1, 0.4)), 20, ""),
        ((11.9, 0.3), ((11.8, 0.4), (12.1, 0.4)), 10, ""),
        ((11.9, 0.3), ((11.8, 0.4), (12.1, 0.4)), 9, "9 times between the states"),
        ((11.9, 0.8), ((11.8, 0.4), (12.1, 0.4)), 20, "error is 0.80 kJ/mol, 0.5 wanted"),
        ((11.9, 0.3), ((10.8, 0.3), (12.1, 0.4)), 20, "halves differ by 2.6 standard errors"),
        ((NAN, NAN), ((NAN, NAN), (NAN, NAN)), 20, "error is nan"),
        ((11.9, NAN), ((11.8, 0.4), (12.1, 0.4)), 20, "error is nan"),
        ((11.9, 0.3), ((11.8, NAN), (12.1, 0.4)), 20, "halves differ by nan"),
    ],
)
def test_a_number_is_claimed_only_where_all_speaks_for_it(
    whole: tuple[float, float], halves: tuple[tuple[float, float], ...], n: int, words: str
) -> None:
    first, second = halves
    seen = Seen(Estimate(*whole), (Estimate(*first), Estimate(*second)), n)
    assert words in seen.why_not(0.5)
    assert bool(seen.why_not(0.5)) == bool(words)


def test_why_weights_tell_nothing_is_passed_on() -> None:
    assert LIGHT.why_not(0.5) == "worth 8 frames"


@pytest.mark.parametrize(
    ("known", "held", "end", "words"),
    [
        (Known(), False, 100, "nothing is known yet"),
        (Known(100, 9), False, 200, "9 times between the states, 10 needed"),
        (Known(400, 9), False, 600, "9 times"),
        (Known(400, 10), True, 100, "metadynamics went 10 times"),
        # no number is ever taken of metadynamics itself, however often it went
        (Known(400, 50), True, 100, "metadynamics went 50 times"),
        (Known(400, 50, 100, WIDE), True, 200, "error is 0.80"),
        (Known(400, 50, 1000, WIDE), True, 1500, "error is 0.80"),
        (Known(400, 50, 100, STUCK), True, 200, "3 times between the states"),
        (Known(400, 50, 400, STUCK), False, 600, "under its bias as it is: the run went 3 times"),
        (Known(400, 50, 400, LIGHT), False, 600, "under its bias as it is: worth 8"),
    ],
)
def test_what_is_run_next(known: Known, held: bool, end: int, words: str) -> None:
    leg = next_leg(known, 100, 0.5, 10**6)
    assert leg is not None
    assert (leg.held, leg.end) == (held, end)
    assert words in leg.reason
    assert why_unknown(known, 0.5)


def test_a_leg_is_no_longer_than_what_is_left() -> None:
    assert next_leg(Known(400, 9), 100, 0.5, 30) == Leg(
        False, 430, "it went 9 times between the states, 10 needed"
    )
    assert next_leg(Known(400, 9), 100, 0.5, 0) is None


def test_nothing_is_run_where_the_number_is_known() -> None:
    known = Known(400, 50, 400, GOOD)
    assert next_leg(known, 100, 0.5, 10**6) is None
    assert why_unknown(known, 0.5) == ""
    assert next_leg(known, 100, 0.2, 10**6) is not None
