"""The plugin backend: the input run by openmm-plumed's PlumedForce, where that is installed.

PLUMED then lives inside the Context. It lays hills and writes rows itself, at the first force
evaluation of each step, so a configuration must not be tried in that Context before the step that
it stands at has been evaluated (`PluginBackend.finish_step`). PlumedForce gives no values of
collective variables: they come from another backend.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import openmm

from openmm_cgan.plumed.language import PlumedInputError, Problem, read_statements

log = logging.getLogger("openmm_cgan")

MISSING = (
    "backend='plugin' needs the OpenMM plugin for PLUMED, and it is not installed: "
    "conda install -c conda-forge openmm-plumed (it is not on PyPI); or use backend='kernel'"
)


def available() -> bool:
    """Whether openmm-plumed is installed."""
    return importlib.util.find_spec("openmmplumed") is not None


class PluginBackend:
    """A PLUMED input run by openmm-plumed.

    Parameters
    ----------
    text : str
        The input.
    directory : Path
        Where the files of the input are: the current folder, for PlumedForce knows no other.
    temperature : float or None
        [K]
    restart : bool
        Append to the files and read the hills, as PLUMED's RESTART.
    source : str
        Name of the input file in error messages.

    Raises
    ------
    RuntimeError
        If openmm-plumed is not installed.
    ValueError
        If the directory is not the current folder.
    PlumedInputError
        If braces or continuation lines of the text do not close, or ENERGY is used, which
        openmm-plumed silently takes as zero.
    """

    def __init__(
        self,
        text: str,
        *,
        directory: Path,
        temperature: float | None,
        restart: bool,
        source: str = "<input>",
    ) -> None:
        if not available():
            raise RuntimeError(MISSING)
        if Path(directory).resolve() != Path.cwd():
            raise ValueError(
                f"directory is {directory}: openmm-plumed reads and writes in the current folder "
                f"{Path.cwd()}; change into it, or use backend='kernel'"
            )
        self._text = text
        self._temperature = temperature
        self._restart = restart
        problems = [
            Problem(s.location, s.action, "openmm-plumed would take it as zero; leave it out")
            for s in read_statements(text, source)
            if s.action == "ENERGY"
        ]
        if problems:
            raise PlumedInputError(problems)

    def forces(self, system: openmm.System) -> list[openmm.Force]:
        """Make the force for a System; PLUMED reads the input when a Context is made."""
        from openmmplumed import PlumedForce

        force = PlumedForce(self._text)
        if self._temperature is not None:
            force.setTemperature(self._temperature)
        force.setRestart(self._restart)
        force.setName("PLUMED plugin")
        log.info("openmm-plumed writes PLUMED's log to the standard output of the process")
        return [force]

    @staticmethod
    def finish_step(context: openmm.Context) -> None:
        """Have PLUMED lay the hill and write the row of the step the Context stands at.

        Call it before positions are changed: the first evaluation after the change would otherwise
        lay and write at the new ones. PLUMED does it once for a step, however often it is called.
        """
        context.getState(energy=True)
