"""Statements that change nothing of a single simulation: taken, and told to be left out."""

from __future__ import annotations

import logging

from openmm_cgan.plumed.actions.action import Action, Given, Keyword

log = logging.getLogger("openmm_cgan")


class Ignored(Action):
    """A statement that nothing is done for, which the log says."""

    calculates = False
    why = ""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        log.info("%s: %s is left out: %s", self.statement.location, self.name, self.why)


class Debug(Ignored):
    """What PLUMED logs of itself."""

    name = "DEBUG"
    summary = "left out: what PLUMED logs of itself"
    why = "it is about what PLUMED logs of itself"
    keywords = (
        Keyword("STRIDE", "integer", "left out", default=1),
        Keyword("LOGACTIVITY", "flag", "left out"),
        Keyword("LOGREQUESTEDATOMS", "flag", "left out"),
        Keyword("DETAILED_TIMERS", "flag", "left out"),
        Keyword("FILE", "text", "left out"),
    )


class RandomExchanges(Ignored):
    """The order of exchanges between replicas."""

    name = "RANDOM_EXCHANGES"
    summary = "left out: the order of exchanges between replicas"
    why = "it is about exchanges between replicas, and this is one simulation"
    keywords = (Keyword("SEED", "integer", "left out"),)
