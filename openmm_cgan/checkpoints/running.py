"""A running Simulation saved, and gone on with as if it had never stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import openmm

from openmm_cgan.atomic_files import keep_older
from openmm_cgan.checkpoints.portable import load_portable, portable_state
from openmm_cgan.checkpoints.run_file import SavedRun, read_run, write_run
from openmm_cgan.checkpoints.saved_states import SavedState
from openmm_cgan.fingerprints import has_fingerprint, integrator_fingerprint, system_fingerprint
from openmm_cgan.states import is_finite
from openmm_cgan.thermostats import BAROSTATS, draw_velocities

if TYPE_CHECKING:
    from openmm.app import Simulation

log = logging.getLogger("openmm_cgan")

SYSTEM, INTEGRATOR, INPUT = "System", "integrator", "input"  # what a run is made with
MADE_OF = {
    SYSTEM: "its atoms, masses, constraints or forces differ",
    INTEGRATOR: "its kind, time step, temperature or friction differs",
}


class Keeper(Protocol):
    """What has state beside a Simulation, and may have files that grow with the run."""

    def saved(self) -> SavedState:
        """What it has gathered up to the present step; its files are on the disk up to there."""
        ...

    def check_saved(self, state: SavedState, simulation: Simulation, path: Path) -> None:
        """See whether it can go on from a state in a Simulation, without changing anything.

        What it writes to it takes first (`claims.Claim`): another process may be at it.

        Parameters
        ----------
        state : SavedState
        simulation : openmm.app.Simulation
            That does not stand there yet.
        path : Path
            Where the state was read: for messages.

        Raises
        ------
        ValueError
            If the state is of something else, or a file is not there as it was.
        """
        ...

    def restore_saved(self, state: SavedState, simulation: Simulation) -> None:
        """Go on from a state that was checked, in a Simulation that stands there; cut the files.

        A reporter appends itself to the reporters of the Simulation.

        Raises
        ------
        ValueError
            If the state does not fit.
        """
        ...


def save_run(
    path: str | os.PathLike[str], simulation: Simulation, keepers: Mapping[str, Keeper]
) -> None:
    """Save a run between two steps, whole or not at all.

    Parameters
    ----------
    path : path
        Replaced; the file that was there is kept as ``path.old``.
    simulation : openmm.app.Simulation
    keepers : mapping of str to Keeper
        By names that `restore_run` is to find them by: two biases are two names.

    Raises
    ------
    RuntimeError
        If a position or velocity is not finite; the file that was there stays.
    """
    path, step = Path(path), simulation.currentStep
    if not is_finite(simulation):
        raise RuntimeError(
            f"a position or velocity is not finite at step {step}: nothing is saved, {path} stays "
            "as it was. Go on from it with a smaller time step or a gentler bias, or with "
            "velocities drawn anew: restore_run(..., new_velocities=1)"
        )
    states = {name: keeper.saved() for name, keeper in keepers.items()}
    checkpoint = simulation.context.createCheckpoint()
    keep_older(path)
    portable = portable_state(simulation.context)
    write_run(path, SavedRun(step, checkpoint, states, _made_with(simulation), portable))


_SYSTEMS: weakref.WeakKeyDictionary[Simulation, str] = weakref.WeakKeyDictionary()


def _made_with(simulation: Simulation) -> dict[str, str]:
    if simulation not in _SYSTEMS:  # it takes a second for 100,000 atoms
        _SYSTEMS[simulation] = system_fingerprint(simulation.system)
    return {
        SYSTEM: _SYSTEMS[simulation],
        INTEGRATOR: integrator_fingerprint(simulation.integrator),
    }


def _made_alike(what: str, before: str, simulation: Simulation) -> bool:
    """Whether a saved run was made with the same, as far as this version knows it by its name."""
    now = _made_with(simulation).get(what, before)
    return before == now or (what == SYSTEM and has_fingerprint(simulation.system, before))


class AnotherRunError(ValueError):
    """A saved run is of another System, integrator or input than what is to go on with it.

    Parameters
    ----------
    path : Path
        Of the saved run.
    what : str
        `SYSTEM`, `INTEGRATOR` or `INPUT`.
    other : str
        In words what was to go on.
    """

    def __init__(self, path: Path, what: str, other: str) -> None:
        anyway = "" if what == INPUT else f", or in a script restore_run(..., unlike=['{what}'])"
        super().__init__(
            f"{path} was saved with another {what} than {other}: go on with the {what} that it was "
            f"saved with{anyway}, or begin another run in another folder"
        )
        self.what = what


def require_input(path: Path, state: SavedState, fingerprint: str, source: str) -> None:
    """Raise `AnotherRunError` where a bias was saved under another input than this, from source."""
    if state.saved_by != fingerprint:
        raise AnotherRunError(path, INPUT, source)


def restore_run(
    path: str | os.PathLike[str],
    simulation: Simulation,
    keepers: Mapping[str, Keeper],
    unlike: Collection[str] = (),
    new_velocities: int | None = None,
) -> None:
    """Go on from a saved run; all keepers agree before anything is changed.

    Where OpenMM can not read its own checkpoint, as on another platform or in another version, the
    run goes on from the portable State: the same positions and velocities, other random numbers.
    The log says so: it is then exact in distribution only.

    Parameters
    ----------
    path : path
        What `save_run` has written.
    simulation : openmm.app.Simulation
        Made as the saved one was.
    keepers : mapping of str to Keeper
        By the names that they were saved under, in the order in which they are to act at a step.
    unlike : collection of str
        "System", "integrator": what may be another than that of the saved run.
    new_velocities : int, optional
        Draw velocities at the temperature of the run with this seed: not to end once more where
        the saved run went wrong.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no saved run, lacks a keeper, or is of something else (`AnotherRunError`).
    RuntimeError
        If another process is writing to one of its files: each keeper has taken its own before
        any is cut.
    """
    path = Path(path)
    run = read_run(path)
    for what, before in run.made_with.items():
        if what not in unlike and not _made_alike(what, before, simulation):
            raise AnotherRunError(path, what, f"this one ({MADE_OF[what]})")
    if lacking := keepers.keys() - run.keepers.keys():
        raise ValueError(
            f"{path} has nothing of {_quoted(lacking)}; it has {_quoted(run.keepers)}: name the "
            "keepers as they were named when the run was saved"
        )
    for name, keeper in keepers.items():
        with _naming(path, name):
            keeper.check_saved(run.keepers[name], simulation, path)
    if left := run.keepers.keys() - keepers.keys():
        log.warning("%s: what it has of %s is not restored", path, _quoted(left))
    _load(simulation, run, path)
    _say_what_begins_anew(simulation, path)
    if new_velocities is not None:
        draw_velocities(simulation, new_velocities)
    for name, keeper in keepers.items():
        with _naming(path, name):
            keeper.restore_saved(run.keepers[name], simulation)


@contextlib.contextmanager
def _naming(path: Path, keeper: str) -> Iterator[None]:
    """Have each ValueError name the file."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: what it has of '{keeper}' does not fit: {error}") from error


def _load(simulation: Simulation, run: SavedRun, path: Path) -> None:
    """Bring a Simulation to where the saved one was."""
    try:
        simulation.context.loadCheckpoint(run.checkpoint)
    except openmm.OpenMMException as error:
        if not run.portable:
            raise ValueError(
                f"OpenMM can not read its checkpoint in {path} here ({error}), and there is no "
                "portable State in it: go on with the platform and the version that wrote it"
            ) from error
        load_portable(simulation, run.portable)
        log.warning(
            "%s goes on from its portable State (%s): the same positions and velocities, but other "
            "random numbers: exact in distribution, and not the run bit for bit",
            path, error,
        )  # fmt: skip


def _say_what_begins_anew(simulation: Simulation, path: Path) -> None:
    """What OpenMM's checkpoints do not hold: the run goes on exactly, but not bit for bit."""
    variable = openmm.VariableLangevinIntegrator | openmm.VariableVerletIntegrator
    anew = [
        f"{force.getName()} finds the size of its steps"
        for force in simulation.system.getForces()
        if isinstance(force, BAROSTATS)
    ]
    if isinstance(simulation.integrator, variable):
        anew.append(f"{type(simulation.integrator).__name__} finds its time step")
    if anew:
        log.info("%s: %s anew, which OpenMM keeps in no checkpoint", path, " and ".join(anew))


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names)) or "no keeper"


def to_go_back_to(path: Path, retry: int) -> Path:
    """The checkpoint for the n-th attempt to get past what is not finite, the first being 1.

    What goes wrong twice from the last one may have begun before it: then the one before.
    """
    older = path.with_name(f"{path.name}.old")
    return older if retry > 1 and retry % 2 == 0 and older.exists() else path
