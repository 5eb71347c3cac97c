"""What a worker does with one umbrella window: start, run, checkpoint, continue, judge.

A window is a folder (run_files.py says what is in it).  A worker is given the name of a folder
and nothing else.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from openmm_cgan.array_files import read_array
from openmm_cgan.atom_selection import solute_atoms
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.checkpoints import Keeper, restore_run, save_run, to_go_back_to
from openmm_cgan.claims import Claim
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import frames_of_atoms, read_frames
from openmm_cgan.openmm_xml import from_xml
from openmm_cgan.platforms import platform_and_properties
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.potentials import system_without
from openmm_cgan.proposals import Screen, ScreenSettings
from openmm_cgan.reporters import FrameReporter
from openmm_cgan.reporters.contexts import context_like
from openmm_cgan.seeds import RandomForce
from openmm_cgan.signals import StoppedBySignalError, between_steps, end_with_parent
from openmm_cgan.states import NotFiniteError, box_of, forces_of, is_finite, positions_of
from openmm_cgan.stepping import step_and_look
from openmm_cgan.topology_records import read_topology
from openmm_cgan.windows.run_files import (
    CHECKPOINT,
    FRAMES,
    INPUT,
    LOCK,
    REFERENCE,
    START,
    STATE,
    is_finished,
    read_record,
    read_system,
    write_record,
)

logger = logging.getLogger("openmm_cgan")

HEALING_KAPPA = 500.0  # [kJ/mol per CV unit squared]: holds the CVs while bonds and clashes relax
HEALING_ITERATIONS = 200
PUSHED = 1e4  # kJ/mol/nm on an atom: of the stiffest bond, heat makes a tenth of that


class WindowTakenError(RuntimeError):
    """Another process runs this window: a node that was given up may live still."""


def run_window(
    folder: str, platform: str | None = None, threads: int | None = None
) -> dict[str, Any]:
    """Run or continue one window that `run_windows` has prepared; what a worker calls.

    SIGTERM and SIGINT save it first; a worker of a pool then ends, with exit code 143 or 130.

    Parameters
    ----------
    folder : str
        Of the window.
    platform : str, optional
        OpenMM platform, or a word with properties (`platforms`).
    threads : int, optional
        Of the CPU platform.

    Returns
    -------
    dict
        The window's record, as in window.json; ``status`` is "finished" or "failed".

    Raises
    ------
    StoppedBySignalError
        If a signal came, and this process is no worker of a pool.
    WindowTakenError
        If another process runs it.
    """
    _end_with_the_pool()
    path = Path(folder)
    if is_finished(record := read_record(path)):
        return record
    (path / LOCK).touch()
    try:
        claim = Claim(path / LOCK)
    except RuntimeError as error:
        raise WindowTakenError(str(error)) from None
    try:
        record = read_record(path)  # who had it before may have come to its end
        return record if is_finished(record) else _run_claimed(path, record, (platform, threads))
    finally:
        claim.release()


def _run_claimed(
    path: Path, record: dict[str, Any], machine: tuple[str | None, int | None]
) -> dict[str, Any]:
    """Run a window that is nobody else's; its record."""
    record |= {"status": "running", "error": "", "attempts": record["attempts"] + 1}
    record["worker"] = f"{socket.gethostname()}:{os.getpid()}"  # where to look if it is lost
    write_record(path, record)
    try:
        _run_until_finite(path, record, machine)
        record["status"] = "finished"
    except StoppedBySignalError as stopped:
        if multiprocessing.parent_process() is None:
            raise
        os._exit(128 + stopped.number)  # a pool would give it the next window
    except Exception as error:
        logger.debug("%s", path, exc_info=True)
        record |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    write_record(path, record)
    return record


_watched: list[int] = []  # processes that end with their parent


def _end_with_the_pool() -> None:
    """A worker whose pool was killed would go on, and keep its window from whoever resumes."""
    if multiprocessing.parent_process() is not None and os.getpid() not in _watched:
        _watched.append(os.getpid())
        end_with_parent()


def _run_until_finite(
    folder: Path, record: dict[str, Any], machine: tuple[str | None, int | None]
) -> None:
    """Run a window, again with new velocities where it comes to what is not finite."""
    for retry in range(record.get("retries", 0)):
        try:
            return _run(folder, record, machine, retry)
        except NotFiniteError as error:
            logger.warning("%s: %s; it goes back, with new velocities", folder, error)
    return _run(folder, record, machine, record.get("retries", 0))


def _run(
    folder: Path, record: dict[str, Any], machine: tuple[str | None, int | None], retry: int
) -> None:
    """Run a window to its end; the record is kept up to date."""
    topology = read_topology(folder.parent)
    whole, portable = folder / CHECKPOINT, folder / STATE
    resumed = whole.exists() or portable.exists()
    bias = PlumedBias(
        folder / INPUT,
        topology,
        temperature=record["temperature"],
        backend=record["backend"],
        directory=folder,
        restart=resumed and not whole.exists(),
    )
    isomers = _Isomers(topology, folder.parent, bias.variables)
    simulation, reporter = _simulation(folder, record, bias, topology, machine)
    try:
        if whole.exists():
            seed = record["seed"] + retry if retry else None
            keepers: dict[str, Keeper] = {"bias": bias, "frames": reporter}
            restore_run(to_go_back_to(whole, retry), simulation, keepers, new_velocities=seed)
        elif resumed:
            simulation.context.setState(from_xml(portable.read_text(), openmm.State, portable))
        else:
            _start(simulation, folder, record | {"seed": record["seed"] + retry}, bias, isomers)
        if not whole.exists():
            bias.attach(simulation)
            simulation.reporters.append(reporter)
        if not resumed:
            reporter.describeNextReport(simulation)  # begins the first file
            origin = {"kind": record["origin"], "centre": record["centre"]}
            reporter.start_segment(origin, record["settle_steps"])
        _advance(simulation, folder, record, {"bias": bias, "frames": reporter})
    finally:
        reporter.close()
        bias.close()
    _require_isomer(isomers, folder)


def _simulation(
    folder: Path,
    record: dict[str, Any],
    bias: PlumedBias,
    topology: app.Topology,
    machine: tuple[str | None, int | None],
) -> tuple[app.Simulation, FrameReporter]:
    """The biased simulation of a window, without positions yet, and its reporter."""
    system = read_system(folder.parent)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(
        record["temperature"], record["friction"], record["timestep"]
    )
    # what goes on from a portable state draws other noise than the stretch before it did; else an
    # attempt that was killed leaves no trace
    attempt = record["attempts"] if (folder / STATE).exists() else 1
    stream = np.random.SeedSequence([record["seed"], record["step"], attempt])
    seeds = stream.generate_state(1 + system.getNumForces()) % (2**31 - 1) + 1
    integrator.setRandomNumberSeed(int(seeds[0]))
    for force, seed in zip(system.getForces(), seeds[1:], strict=True):
        if isinstance(force, RandomForce):
            force.setRandomNumberSeed(int(seed))
    name, threads = machine
    arguments: list[Any] = [] if name is None else list(platform_and_properties(name))
    if threads is not None and arguments and arguments[0].getName() == "CPU":
        arguments[1].setdefault("Threads", str(threads))
    simulation = app.Simulation(topology, system, integrator, *arguments)
    every, atoms = record["report_interval"], record.get("atoms")
    reporter = FrameReporter(folder / FRAMES, every, bias, append=True, atoms=atoms)
    return simulation, reporter


def _start(
    simulation: app.Simulation,
    folder: Path,
    record: dict[str, Any],
    bias: PlumedBias,
    isomers: _Isomers,
) -> None:
    """Heal the start where it needs that, and draw velocities."""
    context = simulation.context
    if record["box"] is not None:
        context.setPeriodicBoxVectors(*np.array(record["box"]))
    positions = _healed(simulation, read_array(folder / START), bias, record.get("heal", True))
    if change := str(isomers.changes(positions[None, isomers.solute])[0]):
        raise ValueError(f"the start is not the molecule that was given ({change}); screen it")
    context.setPositions(positions)
    context.applyConstraints(simulation.integrator.getConstraintTolerance())
    context.setVelocitiesToTemperature(record["temperature"], record["seed"])


def _healed(
    simulation: app.Simulation, start: NDArray, bias: PlumedBias, always: bool
) -> NDArray[np.float64]:
    """The start minimised with its CVs held, in a Context that PLUMED does not see.

    Unless it always is: as it is, where no atom is pushed harder than `PUSHED`.
    """
    state = simulation.context.getState()
    periodic = simulation.system.usesPeriodicBoundaryConditions()
    box = box_of(state) if periodic else None
    system = system_without(simulation.system, bias.force_groups())
    bias.restrained(bias.cv_values(start, box), HEALING_KAPPA).add_to(system)
    context = context_like(simulation, system)
    if box is not None:
        context.setPeriodicBoxVectors(*box)
    context.setPositions(start)
    context.applyConstraints(1e-5)
    if not always:
        state = context.getState(positions=True, forces=True)
        push = np.linalg.norm(forces_of(state), axis=1).max()
        if push < PUSHED:
            return positions_of(state)
        logger.info("the start is minimised: it pushes an atom by %.0f kJ/mol/nm", push)
    openmm.LocalEnergyMinimizer.minimize(context, 10.0, HEALING_ITERATIONS)
    positions = positions_of(context.getState(positions=True))
    if not np.isfinite(positions).all():
        raise ValueError("the start could not be minimised: its positions are no longer finite")
    return positions


def _advance(
    simulation: app.Simulation, folder: Path, record: dict[str, Any], keepers: dict[str, Keeper]
) -> None:
    """Step to the end, with a checkpoint of the run and the record at every interval.

    Raises
    ------
    NotFiniteError
        If a position or velocity becomes infinite or NaN; what was saved before stays.
    """
    try:
        _advance_finite(simulation, folder, record, keepers)
    except (ValueError, RuntimeError, openmm.OpenMMException) as error:
        if is_finite(simulation):
            raise
        step = simulation.currentStep
        raise NotFiniteError(f"a position is not finite at step {step}: {error}") from error


def _advance_finite(
    simulation: app.Simulation, folder: Path, record: dict[str, Any], keepers: dict[str, Keeper]
) -> None:
    with between_steps() as raise_what_came:

        def look(made: int) -> None:
            try:
                raise_what_came()
            except StoppedBySignalError:
                _save(simulation, folder, record, keepers)
                raise

        while (step := simulation.currentStep) < record["steps"]:
            every = min(record["checkpoint_interval"], record["steps"] - step)
            step_and_look(simulation, every, look)
            if not is_finite(simulation):
                raise NotFiniteError("nothing is saved")
            _save(simulation, folder, record, keepers)


def _save(
    simulation: app.Simulation, folder: Path, record: dict[str, Any], keepers: dict[str, Keeper]
) -> None:
    """Save a window that stands between two steps, and how far it is."""
    try:
        save_run(folder / CHECKPOINT, simulation, keepers)
    except ValueError:  # PLUMED itself keeps the state of the bias
        keepers["frames"].saved()  # a checkpoint never is ahead of the frames
        # positions, velocities, box, step and time; no parameters: their names differ
        state = simulation.context.getState(positions=True, velocities=True)
        write_atomically(folder / STATE, openmm.XmlSerializer.serialize(state))
    record["step"] = simulation.currentStep
    write_record(folder, record)


def can_watch_isomers(topology: app.Topology, reference: NDArray) -> bool:
    """Whether stereocentres and amides can be told from a structure; says why if they can not.

    Parameters
    ----------
    topology : openmm.app.Topology
    reference : ndarray, shape (n_atoms, 3)
        The right molecule [nm].
    """
    try:
        return _isomer_screen(topology, reference) is not None
    except ValueError as error:
        logger.warning("windows are not watched for a change of chirality or amides: %s", error)
        return False


def _isomer_screen(
    topology: app.Topology, reference: NDArray, variables: Sequence[CollectiveVariable] = ()
) -> Screen | None:
    """Looks at isomers of the solute only, but those that CVs name; None where there are none."""
    atoms = solute_atoms(topology)
    anything = ScreenSettings(clash_fraction=0.0, bond_tolerance=1e6).turned_by(variables)
    screen = Screen(topology, reference[atoms], settings=anything, atoms=atoms.tolist())
    return screen if screen.knows_isomers else None


class _Isomers:
    """Tells whether configurations are still the molecule that was given."""

    def __init__(
        self, topology: app.Topology, root: Path, variables: Sequence[CollectiveVariable]
    ) -> None:
        path, self._screen = root / REFERENCE, None
        if path.exists():
            self._screen = _isomer_screen(topology, read_array(path), variables)
        self.solute = solute_atoms(topology)

    def changes(self, solutes: NDArray) -> NDArray[np.str_]:
        """What changed in each configuration (n, n_solute, 3), empty where nothing did."""
        if self._screen is None:
            return np.full(len(solutes), "")
        return self._screen.check(solutes)


def _require_isomer(isomers: _Isomers, folder: Path) -> None:
    """Mirror images have the same energy: a window that crossed over samples another molecule."""
    frames = read_frames(folder / FRAMES, settling=True)
    if not np.isin(isomers.solute, frames.atoms).all():
        logger.warning("%s: its frames hold a part of the solute, isomers are not watched", folder)
        return
    changes = isomers.changes(frames_of_atoms(frames, isomers.solute).positions)
    changed = np.flatnonzero(changes != "")
    if len(changed):
        raise ValueError(
            f"the molecule changed at step {frames.step[changed[0]]} ({changes[changed[0]]}), "
            f"{len(changed)} of {len(frames)} frames; soften the restraint or choose another start"
        )
