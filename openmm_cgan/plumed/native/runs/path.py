"""A PATHMSD or FUNCPATHMSD during a run: when its list of nearest models is renewed."""

from __future__ import annotations

from openmm_cgan.plumed.actions import Action, Print
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.committor import Committor
from openmm_cgan.plumed.actions.dumps import DumpRows
from openmm_cgan.plumed.actions.function_path import FuncPathMsd
from openmm_cgan.plumed.actions.opes.opes import Opes
from openmm_cgan.plumed.actions.variables.paths import PathMsd
from openmm_cgan.plumed.native.runs.run import ActionRun, RunSettings, Step


class PathRun(ActionRun):
    """A PATHMSD, with or without a list of nearest models."""

    def __init__(self, action: PathMsd, settings: RunSettings) -> None:
        self.action: PathMsd = action
        self.is_static = action.nearest is None
        self._used = set() if action.nearest is None else _strides_used(action, settings.actions)

    @property
    def own_strides(self) -> tuple[int, ...]:
        nearest = self.action.nearest
        if nearest is None or 1 not in self._used:
            return ()  # what prints it has all values then
        return (1,) if nearest.index is None else (nearest.stride,)

    def act(self, step: Step) -> bool:
        """Renew the list where that is due."""
        if any(step.number % stride == 0 for stride in self._used):
            self.action.update_list(step.positions, step.box, step.number)
        return False

    def look_back(self, step: Step) -> None:
        self.act(step)


class FunctionPathRun(ActionRun):
    """A FUNCPATHMSD, with or without a list of the nearest, which nothing but rows may read."""

    def __init__(self, action: FuncPathMsd, settings: RunSettings) -> None:
        self.action: FuncPathMsd = action
        used = _strides_used(action, settings.actions) if action.is_listed else set()
        self._used = {stride for stride in used if stride > 0}

    @property
    def needs_arguments(self) -> bool:
        return bool(self._used)

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(self._used)

    def settle(self, timestep: float, temperature: float | None) -> None:
        if self.action.is_listed:
            self.action.settle(timestep / self.action.units.time)

    def act(self, step: Step) -> bool:
        """Take note of a step at which it is read."""
        if any(step.number % stride == 0 for stride in self._used):
            self.action.update_list([float(x) for x in step.at(self.action)], step.number)
        return False


def _strides_used(path: PathMsd | FuncPathMsd, actions: list[Action]) -> set[int]:
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
        elif isinstance(action, Print | Committor | DumpRows):
            strides.add(action.stride)
    return strides
