"""The reporters of a Simulation: FrameReporter takes frames out, ProposalReporter puts some in.

Both follow OpenMM's protocol: `describeNextReport` says at which step and with which parts of the
State, `report` is called there. `contexts` works on the Context of a running simulation or beside
it, `settings` says how to propose, `attempts` is the table of what became of it, `surroundings`
puts generated atoms in their place, `healing` judges and heals them. `moves` are what can be tried
at an attempt, and `proposal_reporter` does it. `learner` trains beside the run. `run_checkpoint`
saves it whole.
"""

from openmm_cgan.reporters.frame_reporter import FrameReporter
from openmm_cgan.reporters.learner import Learner
from openmm_cgan.reporters.proposal_reporter import ProposalReporter
from openmm_cgan.reporters.run_checkpoint import RunCheckpointReporter
from openmm_cgan.reporters.settings import ProposalSettings

__all__ = [
    "FrameReporter",
    "Learner",
    "ProposalReporter",
    "ProposalSettings",
    "RunCheckpointReporter",
]
