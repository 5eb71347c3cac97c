"""How high the hills of a METAD are: as given, or so that they fill a well in a time; tempered.

Well-tempered: Barducci, Bussi, Parrinello, doi 10.1103/PhysRevLett.100.020603. Tempering by the
bias between wells stands in `tempering`.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import cached_property

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.metad.tempering import Transition

log = logging.getLogger("openmm_cgan")

HEIGHT_KEYWORDS = (
    Keyword("HEIGHT", "real", "height of the hills, if TAU is not given"),
    Keyword("TAU", "real", "time scale that sets the height, with BIASFACTOR or DAMPFACTOR"),
    Keyword("BIASFACTOR", "real", "bias factor of well-tempered metadynamics"),
    Keyword("RECT", "numbers", "bias factors of the replicas, of which this is the first"),
    Keyword("DAMPFACTOR", "real", "damp by the largest bias: exp(-max / (kT DAMPFACTOR))"),
)


@dataclass(frozen=True)
class HeightOptions:
    """The heights of hills.

    Attributes
    ----------
    height : float or None
        Of the first hill [energy unit of the input]; None where `tau` sets it.
    tau : float
        Time scale [time unit of the input]; 0 where the height is given.
    bias_factor : float or None
        None without well-tempering.
    damp_factor : float
        0 without damping.
    """

    height: float | None
    tau: float
    bias_factor: float | None
    damp_factor: float

    @property
    def tempered(self) -> bool:
        """Whether heights depend on kT."""
        return self.bias_factor is not None or self.damp_factor > 0

    def written(self, height: float) -> float:
        """The height of a hill as files have it [energy unit of the input]."""
        if self.bias_factor is None or self.bias_factor <= 1:
            return height
        return height * (self.bias_factor / (self.bias_factor - 1))

    def read(self, written: float) -> float:
        """The height of a hill that a file has as `written` [energy unit of the input]."""
        if self.bias_factor is None or self.bias_factor <= 1:
            return written
        return written * ((self.bias_factor - 1) / self.bias_factor)

    @cached_property
    def tempering(self) -> float | None:
        """The bias is damped as ``exp(-V / (kT tempering))``; None where it is not."""
        if self.bias_factor is None:
            return None
        return self.bias_factor - 1 if self.bias_factor > 1 else 1.0

    def temperings(self) -> dict[str, tuple[float | None, float]]:
        """By keyword what `check_tempering` is to be told."""
        return {
            "BIASFACTOR": (self.bias_factor and self.bias_factor - 1, 1.0),
            "DAMPFACTOR": (self.damp_factor or None, 1.0),
        }

    def first(self, kt: float | None, time: float) -> float:
        """Height of the first hill, where hills come every `time` [units of the input].

        Raises
        ------
        ValueError
            If it follows from TAU, and steps have no length to begin with.
        """
        if not self.tau:
            assert self.height is not None
            return self.height
        if not time > 0:
            raise ValueError(
                "the height of hills by TAU follows from the time step, and this integrator's is "
                f"{time:g}: its steps differ in length. Give HEIGHT"
            )
        assert kt is not None
        factor = self.damp_factor if self.tempering is None else self.tempering
        return kt * factor / self.tau * time

    def tempered_height(
        self,
        first: float,
        v: float,
        kt: float | None,
        grid: HillGrid | None,
        transition: Transition | None,
    ) -> float:
        """Height of a hill where the bias is `v`.

        Parameters
        ----------
        first, v : float
            Height of the first hill, and the bias here [energy unit of the input].
        kt : float or None
            [energy unit of the input]; None where nothing is tempered.
        grid : HillGrid or None
            Of the bias.
        transition : Transition or None

        Returns
        -------
        float
            [energy unit of the input]
        """
        height = first
        if self.tempering is not None:
            assert kt is not None
            height *= math.exp(-v / (kt * self.tempering))
        if self.damp_factor:
            assert grid is not None
            assert kt is not None
            height *= math.exp(-grid.maximum() / (kt * self.damp_factor))
        if transition is not None and transition.factor is not None:
            assert kt is not None
            height = transition.tempered(height, kt)
        return height


def read_heights(given: Given) -> HeightOptions:
    """What a METAD says about the heights of its hills.

    Raises
    ------
    PlumedInputError
        If a number is wrong, or the keywords do not go together.
    """
    options = given.options
    heights = HeightOptions(
        options["HEIGHT"],
        options["TAU"] or 0.0,
        options["RECT"][0] if options["RECT"] else options["BIASFACTOR"],
        options["DAMPFACTOR"] or 0.0,
    )
    if options["RECT"] and options["BIASFACTOR"] is not None:
        raise given.error("BIASFACTOR", "RECT tells it already; give one of the two")
    if len(options["RECT"] or ()) > 1:
        where = given.statement.location
        log.warning("%s: RECT: there are no replicas; the first bias factor is taken", where)
    if heights.bias_factor is not None and heights.bias_factor < 1:
        raise given.error("BIASFACTOR", "must be 1 or more")
    if (heights.height is None) == (heights.tau == 0):
        raise given.error("HEIGHT", "give either HEIGHT, or TAU with BIASFACTOR or DAMPFACTOR")
    if heights.tau and heights.bias_factor is None and not heights.damp_factor:
        raise given.error("TAU", "needs BIASFACTOR or DAMPFACTOR")
    if heights.damp_factor < 0:
        raise given.error("DAMPFACTOR", "must be positive")
    return heights
