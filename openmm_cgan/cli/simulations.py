"""A biased run from files: structure, force field and PLUMED input in, frames out.

For whoever has no script of their own; a script does the same with OpenMM's objects (the example
of the README).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import openmm
from openmm import app
from tqdm import tqdm

from openmm_cgan.atom_selection import selected_atoms
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.checkpoints import AnotherRunError, Keeper, restore_run, save_run, to_go_back_to
from openmm_cgan.cli.run_records import (
    RunSettings,
    begun_otherwise,
    end_of,
    is_begun,
    require_same_settings,
    write_record,
    write_start,
)
from openmm_cgan.cli.run_states import (
    CHECKPOINT,
    STATE,
    load_state,
    save_broken,
    save_end,
    save_not_finite,
)
from openmm_cgan.explore.circle import RECORD as EXPLORATION
from openmm_cgan.json_files import read_json
from openmm_cgan.molecules import Molecule
from openmm_cgan.platforms import platform_and_properties, platform_word
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.reporters import FrameReporter, ProposalReporter, RunCheckpointReporter
from openmm_cgan.run_folders import FRAMES, PROPOSALS, RECORD, SYSTEM
from openmm_cgan.seeds import seed_for_openmm, seed_forces
from openmm_cgan.signals import StoppedBySignalError, between_steps
from openmm_cgan.states import NotFiniteError, is_finite
from openmm_cgan.stepping import step_and_look
from openmm_cgan.windows.platforms import fastest_platform
from openmm_cgan.windows.run_files import RECORD as WINDOW

logger = logging.getLogger("openmm_cgan")


@dataclass(frozen=True)
class _Job:
    """A run as it was asked for; the System has no bias yet."""

    molecule: Molecule
    plumed_input: str | Path
    folder: Path
    settings: RunSettings


def run_biased(
    molecule: Molecule,
    plumed_input: str | Path,
    steps: int | None,
    folder: str | Path,
    settings: RunSettings | None = None,
    restart: bool = False,
) -> PlumedBias:
    """Run a molecule under a PLUMED input and keep its frames.

    The folder gets ``frames/``, what the input writes (COLVAR, HILLS ...), ``topology.pdb`` (the
    start, minimised: screens take its bonds), ``system.xml`` (without the bias), ``plumed.dat``,
    ``run.json`` (settings), from time to time ``run.chk``, and, when it ends or is interrupted,
    ``state.xml``; ``not_finite.xml`` where it came to what is not finite.

    Parameters
    ----------
    molecule : Molecule
        Its System is changed: the bias is added.
    plumed_input : str or Path
        The input file, or its text if it contains a newline.
    steps : int or None
        Number of steps to run; None: as many as the run in ``folder`` has left.
    folder : str or Path
        Where all files go.
    settings : RunSettings
    restart : bool
        Continue the run in ``folder``: from its checkpoint as if it had never stopped, else, where
        PLUMED itself keeps the state of the bias, from ``state.xml`` and PLUMED's files.

    Returns
    -------
    PlumedBias
        The bias as it stands at the end.

    Raises
    ------
    FileExistsError
        If the folder holds a run and ``restart`` is False.
    FileNotFoundError
        If there is no run to restart from.
    PlumedInputError
        If the PLUMED input cannot be used.
    StoppedBySignalError
        If SIGTERM or SIGINT came; all is saved.
    NotFiniteError
        If a position becomes infinite or NaN once more than ``settings.retries``.
    """
    settings = settings or RunSettings()
    if settings.atoms is not None:
        selected_atoms(molecule.topology, settings.atoms)  # before anything is written
    job = _Job(molecule, plumed_input, Path(folder), settings)
    if restart := _goes_on(job.folder, restart, steps):
        require_same_settings(job.folder, settings)
    job = replace(job, settings=replace(settings, platform=_platform_of(job)))
    clean = openmm.XmlSerializer.clone(molecule.system) if settings.retries else molecule.system
    for retry in range(settings.retries):
        copy = replace(molecule, system=openmm.XmlSerializer.clone(clean))
        try:
            return _stretch(replace(job, molecule=copy), steps, restart, retry)
        except NotFiniteError as error:
            if not (job.folder / CHECKPOINT).exists():
                raise
            logger.warning("%s; it goes back to a checkpoint, with new velocities", error)
            steps, restart = None, True
    return _stretch(job, steps, restart, settings.retries)


def _platform_of(job: _Job) -> str | None:
    """The platform that was asked for, that the run in the folder has had, or the quickest."""
    if job.settings.platform is not None:
        return platform_word(job.settings.platform)
    if is_begun(job.folder):
        named = read_json(job.folder / RECORD).get("platform")
        return platform_word(str(named)) if named else None
    return fastest_platform(job.molecule.system, job.molecule.positions)


def _stretch(job: _Job, steps: int | None, restart: bool, retry: int) -> PlumedBias:
    """Run to the end, a signal or what is not finite; `retry` counts how often it was that."""
    folder, settings = job.folder, job.settings
    bias, unbiased = _bias_of(job, restart), openmm.XmlSerializer.serialize(job.molecule.system)
    bias.add_to(job.molecule.system)
    try:
        simulation, keepers = _set_up(job, bias, restart, retry)
    except BaseException:
        bias.close(used=False)
        raise
    end = end_of(folder) if steps is None else simulation.currentStep + steps
    if simulation.currentStep >= end:
        logger.warning("the run in %s has come to its end before: it has no steps left", folder)
    # not before: another molecule is refused by what there is, and changes nothing of it
    write_atomically(folder / SYSTEM, unbiased)
    write_record(folder, bias, settings, end)  # who goes on after a kill must know the end
    _keep_checkpoints(simulation, keepers, folder, settings)
    _to_the_end(simulation, keepers, end, folder)
    return bias


def _bias_of(job: _Job, restart: bool) -> PlumedBias:
    goes_on = restart and (job.folder / CHECKPOINT).exists()
    bias = PlumedBias(
        job.plumed_input,
        job.molecule.topology,
        temperature=job.settings.temperature,
        backend=job.settings.backend,
        directory=job.folder,
        restart=restart and not goes_on,
    )
    if job.settings.backend == "auto" and bias.backend != "native":
        logger.warning(
            "%s is run by PLUMED itself, at each step and slower, for not all of it is native: "
            "openmm-cgan -v says which lines",
            bias.source,
        )
    return bias


def _set_up(
    job: _Job, bias: PlumedBias, restart: bool, retry: int
) -> tuple[app.Simulation, dict[str, Keeper]]:
    """The Simulation where it begins or goes on, and what is saved with it."""
    folder, settings = job.folder, job.settings
    simulation = _simulation(job.molecule, settings)
    folder.mkdir(parents=True, exist_ok=True)
    every = settings.frames_every
    frames = FrameReporter(folder / FRAMES, every, bias, append=restart, atoms=settings.atoms)
    keepers: dict[str, Keeper] = {"bias": bias, "frames": frames}
    if settings.model is not None:
        keepers["proposals"] = _proposals(job, bias, restart)
    if restart and (folder / CHECKPOINT).exists():
        seed = settings.seed + retry if retry else None
        checkpoint = to_go_back_to(folder / CHECKPOINT, retry)
        try:
            restore_run(checkpoint, simulation, keepers, new_velocities=seed)
        except AnotherRunError as error:
            raise ValueError(begun_otherwise(folder, error.what)) from error
    else:
        _begin(simulation, job, keepers, restart)
    return simulation, keepers


def _to_the_end(
    simulation: app.Simulation, keepers: dict[str, Keeper], end: int, folder: Path
) -> None:
    bias, frames = keepers["bias"], keepers["frames"]
    assert isinstance(bias, PlumedBias)
    assert isinstance(frames, FrameReporter)
    left = max(0, end - simulation.currentStep)
    try:
        with closing(bias), closing(frames), between_steps() as raise_what_came:

            def look() -> None:
                try:
                    raise_what_came()
                except StoppedBySignalError:
                    save_end(simulation, keepers, folder)
                    raise

            try:
                run_steps(simulation, left, "biased MD", look)
            except Exception:
                save_broken(simulation, folder)
                raise
            save_end(simulation, keepers, folder)
    except (ValueError, RuntimeError, openmm.OpenMMException) as error:
        if is_finite(simulation):
            raise
        path = save_not_finite(simulation, folder)
        raise NotFiniteError(
            f"step {simulation.currentStep} is not finite ({error}), see {path}: take a smaller "
            "time step or a gentler bias; with retries (--retries) a run goes back to its last "
            "checkpoint"
        ) from error


def _proposals(job: _Job, bias: PlumedBias, append: bool) -> ProposalReporter:
    """What proposes configurations of a model to the run."""
    from openmm_cgan.cgan import ConditionalGAN  # torch is for those who ask for it

    settings = job.settings
    assert settings.model is not None
    return ProposalReporter(
        job.folder / PROPOSALS,
        settings.proposals_every,
        ConditionalGAN.load(settings.model, job.molecule.topology, settings.device),
        bias,
        mode=settings.mode,
        append=append,
        seed=settings.seed,
    )


def _begin(
    simulation: app.Simulation, job: _Job, keepers: dict[str, Keeper], restart: bool
) -> None:
    bias, settings = keepers["bias"], job.settings
    assert isinstance(bias, PlumedBias)
    if restart:
        load_state(simulation, job.folder / STATE)
    else:
        simulation.context.setPositions(job.molecule.positions)
        simulation.minimizeEnergy()
        start = simulation.context.getState(positions=True).getPositions(asNumpy=True)
        write_start(job.folder, job.molecule.topology, start, bias)
        simulation.context.setVelocitiesToTemperature(settings.temperature, settings.seed)
    bias.attach(simulation)
    # proposals come last: what comes after them would see positions that are gone
    simulation.reporters += [keepers[name] for name in ("frames", "proposals") if name in keepers]


def _keep_checkpoints(
    simulation: app.Simulation, keepers: dict[str, Keeper], folder: Path, settings: RunSettings
) -> None:
    path = folder / CHECKPOINT
    try:
        if not path.exists():
            save_run(path, simulation, keepers)  # a run may end before the first
    except ValueError as why:  # PLUMED itself keeps the state of the bias
        logger.warning(
            "no checkpoints: %s. What SIGTERM or SIGINT stop is saved; a run that is killed "
            "otherwise is to begin anew", why
        )  # fmt: skip
        return
    every = settings.checkpoint_every
    simulation.reporters.append(RunCheckpointReporter(path, every, keepers))


def run_steps(simulation: app.Simulation, steps: int, name: str, look: Callable[[], None]) -> None:
    """Run with a progress bar of steps, and a look after each piece of about half a second."""
    with tqdm(total=steps, desc=name, unit=" steps", unit_scale=True, disable=None) as bar:

        def made(n: int) -> None:
            bar.update(n)
            look()

        step_and_look(simulation, steps, made)


def _goes_on(folder: Path, restart: bool, steps: int | None) -> bool:
    """Whether a run goes on from what is in its folder, or begins.

    Raises
    ------
    FileExistsError, FileNotFoundError
        If that is not what the folder is like.
    """
    saved = (folder / CHECKPOINT).exists() or (folder / STATE).exists()
    framed = next((folder / FRAMES).glob("*.h5md"), None) is not None
    begun = is_begun(folder)
    if not restart:
        _require_no_others(folder)
        if saved or framed or begun:
            raise FileExistsError(
                f"{folder} holds a run already: go on with restart (--resume, or --restart to make "
                "it longer), or take another folder"
            )
        return False
    if not saved and begun and not framed and steps is None:
        logger.warning("the run in %s was killed before anything was saved: it begins", folder)
        return False
    if not saved:
        how = (
            "a run by PLUMED itself is saved where it ends or a signal stops it, and no earlier: "
            "begin anew in another folder"
            if framed
            else "begin it without --resume or --restart"
        )
        raise FileNotFoundError(
            f"neither {folder / CHECKPOINT} nor {STATE} is there: nothing to restart from; {how}"
        )
    return True


def _require_no_others(folder: Path) -> None:
    """Refuse the folder of windows or of an exploration, whose System a run would replace."""
    for name, what in ((WINDOW, "umbrella windows"), (EXPLORATION, "an exploration")):
        if (folder / name).exists() or next(folder.glob(f"*/{name}"), None) is not None:
            raise FileExistsError(f"{folder} holds {what}: take another folder for a run")


def _simulation(molecule: Molecule, settings: RunSettings) -> app.Simulation:
    integrator = openmm.LangevinMiddleIntegrator(
        settings.temperature, settings.friction, settings.timestep
    )
    integrator.setRandomNumberSeed(seed_for_openmm(settings.seed))
    seed_forces(molecule.system, settings.seed)
    how = platform_and_properties(settings.platform) if settings.platform else ()
    return app.Simulation(molecule.topology, molecule.system, integrator, *how)
