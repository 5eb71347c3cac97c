"""A run saved whole, again and again: Simulation, bias, frames, proposals, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openmm_cgan.atomic_files import require_writable
from openmm_cgan.checkpoints import Keeper, save_run
from openmm_cgan.quantities import number_of_steps
from openmm_cgan.stepping import around_steps

if TYPE_CHECKING:
    from openmm.app import Simulation


class RunCheckpointReporter:
    """Saves a run for ``restore_run``: OpenMM's checkpoint and what each keeper has gathered.

    It is saved once all reporters have had their turn at the step, whatever their order.

    Parameters
    ----------
    file : str or Path
        Replaced whole each time; the one before is kept as ``file.old``.
    reportInterval : int
        Steps between checkpoints.
    keepers : mapping of str to Keeper
        The bias, FrameReporter, Learner, ProposalReporter, by names that `restore_run` is to be
        given again.

    Raises
    ------
    ValueError
        If the interval is no number of steps.

    Examples
    --------
    A run that begins, or goes on where it was killed::

        keepers = {"bias": bias, "frames": frames, "proposals": proposals}
        if Path("run.chk").exists():
            restore_run(Path("run.chk"), simulation, keepers)
        else:
            bias.attach(simulation)
            simulation.reporters += [frames, proposals]
        simulation.reporters.append(RunCheckpointReporter("run.chk", 10_000, keepers))
    """

    def __init__(
        self,
        file: str | Path,
        reportInterval: int,
        keepers: Mapping[str, Keeper],
    ) -> None:
        self._path = Path(file).absolute()
        require_writable(self._path)
        self._interval = number_of_steps(reportInterval, "reportInterval")
        self._keepers = dict(keepers)
        self._due: int | None = None
        self._is_hooked = False

    def describeNextReport(self, simulation: Simulation) -> dict[str, Any]:
        """Say when the next checkpoint is; see OpenMM's reporter protocol."""
        self._save_due(simulation)
        if not self._is_hooked:
            self._is_hooked = True  # what is due at the last step is saved when that returns
            around_steps(simulation, after=lambda: self._save_due(simulation))
        steps = self._interval - simulation.currentStep % self._interval
        return {"steps": steps, "periodic": None, "include": []}

    def report(self, simulation: Simulation, state: Any) -> None:
        """Remember that a checkpoint is due: others may still act at this step."""
        self._due = simulation.currentStep

    def _save_due(self, simulation: Simulation) -> None:
        if self._due == simulation.currentStep:
            save_run(self._path, simulation, self._keepers)
        self._due = None
