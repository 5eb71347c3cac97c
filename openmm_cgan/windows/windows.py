"""Umbrella windows before they are run: how, where they start, and made from a template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import ArrayLike, NDArray
from openmm import unit

from openmm_cgan.atom_selection import Atoms, words_or_indices
from openmm_cgan.plumed.input.language import lines_of, read_text
from openmm_cgan.quantities import nanometers, number_of_steps, numbers_of, positive
from openmm_cgan.short_reprs import short_repr


@dataclass(frozen=True)
class WindowSettings:
    """How windows are run; the same for all.

    Parameters
    ----------
    temperature : float or Quantity
        [K]
    steps : int
        Length of each run of a window, its settle window included.
    settle_steps : int
        Frames of the first so many steps are marked as settling; analysis leaves them out. It is
        given, where ProposalReporter measures it on many injections: each window begins once, and
        where what it begins from is minimised, in solvent all of it, it takes some 3 ps to warm.
        `read_windows` says where ten windows or more still drift behind it.
    report_interval : int
        Steps between frames.
    checkpoint_interval : int
        Steps between checkpoints: what a killed run repeats at most.
    timestep, friction : float or Quantity
        Of the LangevinMiddleIntegrator [ps, 1/ps].
    backend : str
        Of the PlumedBias.
    seed : int
        The seeds of the windows are drawn from this one.
    retries : int
        How often a window goes back to its last checkpoint, with new velocities, where a position
        becomes infinite or NaN; then it has failed.
    atoms : str, sequence of int or AtomGroup, optional
        What frames hold, as FrameReporter takes it; kept as words or as a list of indices.
    """

    temperature: float | unit.Quantity
    steps: int
    settle_steps: int
    report_interval: int = 100
    checkpoint_interval: int = 50_000
    timestep: float | unit.Quantity = 0.002
    friction: float | unit.Quantity = 1.0
    backend: str = "auto"
    seed: int = 0
    retries: int = 0
    atoms: Atoms | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "atoms", words_or_indices(self.atoms))
        for name, bare in (("temperature", "K"), ("timestep", "ps"), ("friction", "1/ps")):
            object.__setattr__(self, name, positive(vars(self)[name], bare, name))
        for name in ("report_interval", "checkpoint_interval", "steps"):
            number_of_steps(vars(self)[name], name)
        number_of_steps(self.settle_steps, "settle_steps", least=0)
        if not 0 <= self.settle_steps < self.steps:
            raise ValueError(
                f"settle_steps is {self.settle_steps} and steps {self.steps}, expected "
                "0 <= settle_steps < steps: frames are left for the analysis only after settling"
            )


@dataclass(frozen=True, repr=False)
class Window:
    """One window before it is run, or one of several runs of it.

    Parameters
    ----------
    folder : Path
        Its own folder; the folder above is shared by the windows of a run.
    plumed : str
        PLUMED input.
    positions : ndarray, shape (n_atoms, 3)
        Where it starts [nm].
    centre : dict of str to float
        What the placeholders of the template were replaced by.
    origin : str
        Where the start comes from: "seeded", "dragged" ...
    seed : int
        Of its velocities and its thermostat.
    settings : WindowSettings
    box : ndarray, shape (3, 3), optional
        Box vectors of the start [nm], the System's by default.
    heal : bool
        Whether the start is minimised first, its CVs held, and so is cold. Without, it is as it is,
        as befits frames of a run at this temperature and draws by weight; minimised only where
        atoms are pushed far harder than by heat.
    """

    folder: Path
    plumed: str
    positions: NDArray[np.float64]
    centre: dict[str, float]
    origin: str
    seed: int
    settings: WindowSettings
    box: NDArray[np.float64] | None = None
    heal: bool = True

    __repr__ = short_repr


def umbrella_windows(
    template: str | Path,
    centres: ArrayLike,
    positions: ArrayLike,
    settings: WindowSettings,
    folder: str | Path,
    origin: str,
) -> list[Window]:
    """Make windows from a PLUMED input with placeholders for the centre.

    Parameters
    ----------
    template : str or Path
        PLUMED input, or its file, with `string.Template` placeholders such as ``AT=${phi},${psi}``.
    centres : array_like, shape (n, n_placeholders)
        One row to a window, columns in the order in which the placeholders first appear
        [units of the input].
    positions : array_like, shape (n, n_atoms, 3) or (n, k, n_atoms, 3)
        Where each window starts [nm]: proposals, or what `drag` returned. With k starts to a window
        it becomes k runs of `settings.steps` each, which free energies take as one window: what is
        slow in a window then shows in how far its runs are apart, and in the errors.
    settings : WindowSettings
    folder : str or Path
        The windows become ``folder/window-000`` ..., their runs ``folder/window-000-0`` ...
    origin : str
        Where the starts come from: "seeded", "dragged" ...

    Returns
    -------
    list of Window
        The runs of a window one after another.

    Raises
    ------
    ValueError
        If shapes do not fit the template or each other.

    Examples
    --------
    >>> settings = WindowSettings(300.0, steps=1000, settle_steps=100)
    >>> text = "d: DISTANCE ATOMS=1,2\\nRESTRAINT ARG=d AT=${d} KAPPA=100\\n"
    >>> starts = np.zeros((2, 2, 3))
    >>> windows = umbrella_windows(text, [[0.2], [0.3]], starts, settings, "run", "given")
    >>> windows[1].centre, windows[1].plumed.splitlines()[1]
    ({'d': 0.3}, 'RESTRAINT ARG=d AT=0.3 KAPPA=100')
    """
    text, source = read_text(template)
    # comments may speak of dollars
    bare = Template("\n".join(line.split("#", 1)[0] for line in lines_of(text)))
    names = bare.get_identifiers() if bare.is_valid() else []
    if not names:
        raise ValueError(f"{source} has no placeholder such as ${{phi}} for the centre of a window")
    centres, positions = numbers_of(centres, "centres"), nanometers(positions)
    if centres.ndim != 2 or centres.shape[1] != len(names):
        raise ValueError(
            f"centres has shape {centres.shape}, expected (n, {len(names)}): one column for each "
            f"of the placeholders {', '.join(names)}"
        )
    n = len(centres)
    if positions.ndim not in (3, 4) or len(positions) != n or positions.shape[-1] != 3:
        raise ValueError(
            f"positions has shape {positions.shape}, expected ({n}, n_atoms, 3), or "
            f"({n}, k, n_atoms, 3) for k runs of each window"
        )
    if not positions.size:
        raise ValueError(f"positions has shape {positions.shape}, expected 1 start or more of each")
    runs = _run_names(1 if positions.ndim == 3 else positions.shape[1])
    seeds = np.random.default_rng(settings.seed).integers(1, 2**31 - 1, n * len(runs))
    starts = positions.reshape(n * len(runs), *positions.shape[-2:])
    windows = []
    for i, (start, seed) in enumerate(zip(starts, seeds.tolist(), strict=True)):
        number, run = divmod(i, len(runs))
        centre = {name: float(at) for name, at in zip(names, centres[number], strict=True)}
        plumed = bare.substitute({name: repr(value) for name, value in centre.items()}) + "\n"
        path = Path(folder) / f"window-{number:03d}{runs[run]}"
        windows.append(Window(path, plumed, start, centre, origin, seed, settings))
    return windows


def _run_names(number: int) -> list[str]:
    """What the folders of the runs of a window end with: nothing where there is one."""
    if number < 2:
        return [""] * number
    digits = len(str(number - 1))
    return [f"-{run:0{digits}d}" for run in range(number)]
