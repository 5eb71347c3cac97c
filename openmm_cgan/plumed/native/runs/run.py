"""What MOVINGRESTRAINT, COMMITTOR, OPES, some METADs and lists of PATHMSD do at every step."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions import Action, Print
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.biases.moving import MovingRestraint
from openmm_cgan.plumed.actions.committor import Committor, StopRunError
from openmm_cgan.plumed.actions.metad.metad import Metad
from openmm_cgan.plumed.actions.opes.opes import Opes
from openmm_cgan.plumed.actions.variables.paths import PathMsd
from openmm_cgan.plumed.files.fields import FieldWriter, domain_constants
from openmm_cgan.plumed.files.output_files import OutputFiles
from openmm_cgan.plumed.native.runs.metad_steps import MetadSteps
from openmm_cgan.plumed.native.runs.opes import OpesRun

log = logging.getLogger("openmm_cgan")


class MovingRun:
    """A MOVINGRESTRAINT: its work is summed at every step, if anybody reads it."""

    def __init__(self, action: MovingRestraint, is_read: bool) -> None:
        self.action = action
        self._is_read = is_read

    @property
    def strides(self) -> list[int]:
        """At which multiples of the step it is to be called."""
        return [1] if self._is_read and not self.action.has_arrived else []

    @property
    def every_step(self) -> bool:
        """Whether it needs its arguments at every step that it is called at."""
        return self._is_read

    def tick(self, found: dict[str, Any]) -> None:
        """Count the work of this step."""
        if self._is_read:
            self.action.commit([found[value.name] for value in self.action.arguments])


class CommittorRun:
    """A COMMITTOR with its file."""

    every_step = True

    def __init__(self, action: Committor, directory: Path, files: OutputFiles) -> None:
        self.action = action
        self._directory, self._files = directory, files

    @property
    def strides(self) -> list[int]:
        return [self.action.stride]

    def open(self, append: bool = True) -> FieldWriter | None:
        """Open the file, or give it; None where there is none."""
        action = self.action
        if action.file is None:
            return None
        names = [value.name for value in action.arguments]
        constants = domain_constants(names, [v.domain_text for v in action.arguments])
        header = (["time", *names, "basin"], constants)
        path = self._directory / action.file
        append = append if action.restarts is None else action.restarts
        return self._files.writer(action.label, path, lambda: header, append)

    def look(self, found: dict[str, Any], step: int, time: float) -> StopRunError | None:
        """Write a row where a basin is entered; return what stops the run in a basin."""
        action = self.action
        arguments = [float(found[value.name]) for value in action.arguments]
        inside, entered = action.look(arguments)
        row = [f" {time:f}", *(" " + action.fmt % x for x in arguments), f" {action.basin}"]
        writer = self.open()
        if entered and writer is not None:
            writer.write(row)
        elif entered:
            log.info("COMMITTOR%s", "".join(row))
        if not (inside and action.stops):
            return None
        if writer is not None:
            writer.end(f"COMMITTED TO BASIN {action.basin}")
        return StopRunError(
            f"{action.statement.location}: COMMITTOR {action.label} asks the run to stop: "
            f"committed to basin {action.basin} at step {step}"
        )


class PathRun:
    """A PATHMSD with a list of nearest models.

    Parameters
    ----------
    action : PathMsd
    used : set of int
        The multiples of the step at which PLUMED calculates it, for something that reads it.
    """

    every_step = False

    def __init__(self, action: PathMsd, used: set[int]) -> None:
        self.action = action
        self._used = used

    @property
    def strides(self) -> list[int]:
        """At which multiples of the step it is to be called, besides those of what prints it."""
        nearest = self.action.nearest
        if nearest is None or 1 not in self._used:
            return []
        return [1] if nearest.index is None else [nearest.stride]

    def follow(self, positions: np.ndarray, box: np.ndarray | None, step: int) -> None:
        """Renew the list where that is due."""
        if any(step % stride == 0 for stride in self._used):
            self.action.follow(positions, box, step)


class Stepwise:
    """All actions of an input called between steps, besides what prints and METAD's hills.

    Parameters
    ----------
    actions : list of Action
    directory : Path
    files : OutputFiles
    """

    def __init__(self, actions: list[Action], directory: Path, files: OutputFiles) -> None:
        read = {value.name for action in actions for value in action.arguments}
        self.moving: list[MovingRun] = []
        self.opes: list[OpesRun] = []
        self.committors: list[CommittorRun] = []
        self.metads: list[MetadSteps] = []
        self.paths = [
            PathRun(path, _strides_used(path, actions))
            for path in actions
            if isinstance(path, PathMsd) and path.nearest is not None
        ]
        for action in actions:
            if isinstance(action, MovingRestraint):
                self.moving.append(MovingRun(action, not read.isdisjoint(action.work_names)))
            elif isinstance(action, Opes):
                self.opes.append(OpesRun(action, directory, files))
            elif isinstance(action, Committor):
                self.committors.append(CommittorRun(action, directory, files))
            elif isinstance(action, Metad) and action.follows:
                self.metads.append(MetadSteps(action))

    @property
    def is_static(self) -> bool:
        """Whether there is no bias here that changes with time."""
        return not (self.moving or self.opes or self.paths)

    @cached_property
    def _runs(self) -> list[MovingRun | OpesRun | CommittorRun | MetadSteps | PathRun]:
        return [*self.moving, *self.opes, *self.committors, *self.metads, *self.paths]

    @property
    def strides(self) -> set[int]:
        """At which multiples of the step there is something to do now."""
        return {stride for run in self._runs for stride in run.strides} if self._runs else set()

    @cached_property
    def rare_strides(self) -> set[int]:
        """Where a bias energy is needed, and not only the arguments of the actions."""
        return {stride for opes in self.opes for stride in opes.rare_strides}

    @cached_property
    def arguments(self) -> list[str]:
        """Names of the values that are needed at steps that are none of `rare_strides`."""
        runs = [run for run in self._runs if run.every_step]
        return list(dict.fromkeys(v.name for run in runs for v in run.action.arguments))

    def open(self, append: bool) -> None:
        """Open the files that grow during a run, new or behind what is there."""
        for opes in self.opes:
            opes.open(append)
        for committor in self.committors:
            committor.open(append)

    def move_to(self, step: int) -> None:
        """Bring what moves to a step."""
        for moving in self.moving:
            moving.action.move_to(step)
        for metad in self.metads:
            metad.move_to(step)

    def present_values(self, positions: Any, box: Any) -> dict[str, Any]:
        """Values that depend on the steps before, of PATHMSD with a list; by label too."""
        found: dict[str, Any] = {}
        for path in (run.action for run in self.paths):
            values = path.present_values(path.seen(positions, box), box)
            found |= zip((value.name for value in path.outputs), values, strict=True)
            found[path.label] = values  # the action itself is done with
        return found

    def follow(
        self, found: dict[str, Any], positions: np.ndarray, box: np.ndarray | None, step: int
    ) -> None:
        """Renew the lists of kernels and models that are due at a step with these values."""
        for opes in self.opes:
            opes.follow(found)
        for path in self.paths:
            path.follow(positions, box, step)

    def act(
        self,
        found: dict[str, Any],
        positions: np.ndarray,
        box: np.ndarray | None,
        step: int,
        time: float,
        first: bool,
    ) -> tuple[StopRunError | None, set[str]]:
        """Do what is due at a step.

        Parameters
        ----------
        found : dict of str to float
            The values; those that change with a new kernel are replaced, as PLUMED prints them.
        positions, box : ndarray
            [nm]
        step, time : int, float
            [ps]
        first : bool
            Whether it is the first step of a run, at which PLUMED never lays a kernel.

        Returns
        -------
        StopRunError or None
            What stops the run, once all else of the step is done.
        set of str
            Labels of the biases that have changed.
        """
        if not self._runs:
            return None, set()
        self.follow(found, positions, box, step)
        stops = [
            run.look(found, step, time / run.action.units.time)
            for run in self.committors
            if step % run.action.stride == 0
        ]
        stop = next((stop for stop in stops if stop is not None), None)
        for moving in self.moving:
            moving.tick(found)
        for metad in self.metads:
            metad.tick(found, step, time, first)
        changed = set()
        for opes in self.opes if not first else ():
            if opes.tick(found, step, time / opes.action.units.time):
                changed.add(opes.action.label)
        return stop, changed


def _strides_used(path: PathMsd, actions: list[Action]) -> set[int]:
    """The multiples of the step at which something reads a path: every step for a bias."""
    reading = {path.label}  # labels of what depends on it
    strides = set()
    for action in actions:
        values = [*action.arguments]
        if isinstance(action, Opes):
            values += [*action.options.excluded, *action.options.extra]
        if reading.isdisjoint(value.name.partition(".")[0] for value in values):
            continue
        reading.add(action.label)
        if isinstance(action, Bias):
            strides.add(1)
        elif isinstance(action, Print | Committor):
            strides.add(action.stride)
    return strides
