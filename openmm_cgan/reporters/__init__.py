"""The reporters of a Simulation: FrameReporter takes frames out, ProposalReporter puts some in.

Both follow OpenMM's protocol: `describeNextReport` says at which step and with which parts of the
State, `report` is called there. `contexts` works on the Context of a running simulation or beside
it, `healing` judges and heals candidates there, `attempts` is the table of what became of them.
"""

from openmm_cgan.reporters.frame_reporter import FrameReporter
from openmm_cgan.reporters.learner import Learner
from openmm_cgan.reporters.proposal_reporter import ProposalReporter

__all__ = [
    "FrameReporter",
    "Learner",
    "ProposalReporter",
]
