"""One step of a run, and what an action does at it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.plumed.actions import Action
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.files.contents import has_text
from openmm_cgan.plumed.files.output_files import OutputFiles
from openmm_cgan.plumed.input.language import Statement
from openmm_cgan.plumed.native.forces.compiler import Compiler

KB_PLUMED = 0.0083144621  # kJ/mol/K, as PLUMED multiplies TEMP


class Step(NamedTuple):  # a frozen dataclass takes three times as long to make
    """A step of a run, once all its values are known.

    Attributes
    ----------
    values : dict of str to float
        By name; those that PLUMED prints as they are after the step are brought up to date by the
        actions that change them.
    positions : ndarray, shape (n_atoms, 3)
        [nm]
    box : ndarray, shape (3, 3), or None
        [nm]
    number : int
    time : float
        [ps]
    first : bool
        Whether it is the first of a run that restarts none.
    """

    values: dict[str, Any]
    positions: np.ndarray
    box: np.ndarray | None
    number: int
    time: float
    first: bool

    def at(self, action: Action) -> list[float]:
        """The arguments of an action, in its units."""
        return [float(self.values[value.name]) for value in action.arguments]

    def time_for(self, action: Action) -> float:
        """The time in the unit of an action's input."""
        return self.time / action.units.time


@dataclass(frozen=True)
class RunSettings:
    """What actions know of their run before it begins.

    Attributes
    ----------
    actions : list of Action
        All of the input.
    files : OutputFiles
    temperature : float or None
        [K]
    """

    actions: list[Action]
    files: OutputFiles
    temperature: float | None


class NoTemperatureError(ValueError):
    """An action needs a temperature that nobody has told.

    Attributes
    ----------
    who : str
        The action, with its place.
    """

    def __init__(self, who: str) -> None:
        self.who = who
        super().__init__(
            f"{who} needs a temperature: give PlumedBias(..., temperature=300*kelvin) or TEMP= in "
            "the input"
        )


class Thermal(Protocol):
    """An action that works with a temperature, of its own or of the run.

    Attributes
    ----------
    options : object
        With ``temp``, its own [K], or None.
    """

    options: Any
    name: ClassVar[str]
    label: str
    units: UnitSystem
    statement: Statement


def kt_of(bias: Thermal, temperature: float | None, needed: bool) -> float | None:
    """The kT that a bias works with [energy unit of the input]; None where it is not known.

    Raises
    ------
    NoTemperatureError
        If it is needed and not known.
    """
    temp = bias.options.temp
    k, t = (GAS_CONSTANT, temperature) if temp is None else (KB_PLUMED, temp)
    if temp is not None and bias.units.natural:
        k = bias.units.energy  # Boltzmann's constant is 1
    if t is None and needed:
        raise NoTemperatureError(f"{bias.statement.location}: {bias.name} {bias.label}")
    return None if t is None else k * t / bias.units.energy


class ActionRun(Protocol):
    """One action in a run: what it needs and when, what it does at a step, what it keeps.

    A class that inherits has what most actions do, which is nothing.

    Attributes
    ----------
    action : Action
    is_static : bool
        Whether it leaves all values the same functions of the positions at all times.
    acts_last : bool
        Whether it acts once all others have: PLUMED's ``update``, after its ``calculate``.
    """

    action: Action
    is_static: bool = True
    acts_last: bool = False

    # ---- what it needs and when

    @property
    def strides(self) -> Collection[int]:
        """The multiples of the step at which it needs all values of the input."""
        return ()

    @property
    def own_strides(self) -> Collection[int]:
        """Those at which its arguments are enough; they may change during a run."""
        return ()

    @property
    def needs_arguments(self) -> bool:
        """Whether `act` reads its arguments at `own_strides`."""
        return False

    def settle(self, timestep: float, temperature: float | None) -> None:
        """Fix what depends on the time step [ps] and the temperature [K].

        Raises
        ------
        ValueError
            If a temperature is needed and missing.
        """

    def take_gradients(self, compiler: Compiler) -> None:
        """Take what is needed of the compiled arguments, once the System is known."""

    # ---- a beginning

    @property
    def reads_bias(self) -> bool:
        """Whether `read` is to bring the bias of an earlier run or of other walkers."""
        return False

    def read(self) -> bool:
        """Read what an earlier run has left; return whether the bias is another now.

        Raises
        ------
        FileNotFoundError, ValueError
            If a file to begin with is missing, or is of another input.
        """
        return False

    def begin(self) -> None:
        """Begin the files of the action, new or behind what is there."""

    # ---- a step

    def move_to(self, number: int) -> None:
        """Bring what depends on the number of the step alone to it."""

    def check(self, step: Step) -> None:
        """Raise what spoils a step with all values, before anything of it is done."""

    def act(self, step: Step) -> bool:
        """Do what is due at a step; return whether the bias has changed.

        Raises
        ------
        StopRunError
            To stop the run, once all else of the step is done.
        """
        return False

    def look_back(self, step: Step) -> None:
        """Begin at the step that an earlier run, which this one restarts, has ended on."""

    # ---- with a checkpoint

    def saved(self) -> dict[str, np.ndarray]:
        """What the action has gathered, by names of its own; arrays of any shape."""
        return self.action.saved()

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `saved` gave.

        Raises
        ------
        ValueError
            If it is of another input.
        """
        self.action.restore_saved(arrays)

    def go_on(self) -> None:
        """Open the files of the action where the saved run had left them."""


def require_left(path: Path, who: str) -> None:
    """Refuse to go on from a file that an earlier run has not left, or wrote nothing to.

    Parameters
    ----------
    path : Path
    who : str
        Name and label of the action.

    Raises
    ------
    FileNotFoundError, ValueError
    """
    if not path.exists():
        raise FileNotFoundError(f"restart: {path} of {who} is not there")
    if not has_text(path):
        raise ValueError(
            f"restart: {path} of {who} is empty: the run that began it ended before the first row; "
            "begin without RESTART"
        )


def require_no_earlier(runs: Iterable[ActionRun]) -> None:
    """Raise where a bias is that of an earlier run, which is read when this one begins.

    Raises
    ------
    ValueError
    """
    for run in runs:
        if run.reads_bias:
            action = run.action
            raise ValueError(
                f"{action.statement.location}: {action.name} {action.label} goes on from an "
                "earlier run, or with other walkers, whose files are read when the bias is "
                "attached: before that its bias is not known; call attach first, or make it "
                "without restart for a bias that begins at zero"
            )
