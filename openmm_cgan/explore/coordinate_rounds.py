"""Coordinates that nobody gave: learned, biased and learned again until a molecule is all seen.

A diffusion map of what was seen tells nothing of what was not, and outside of the frames its
coordinates do not change: metadynamics along them fills what is known and comes a few kT beyond its
edge. So rounds are short, each learns from all frames before it, and takes over their hills: at the
values that the new coordinates have where a hill was set. The bias of all rounds then stands at
every round, in whatever coordinates, and the molecule goes on from where it was.

The rounds are a flood, not a measurement: free energies come of a run along the last coordinates.
E. Chiavazzo et al., Proc. Natl. Acad. Sci. 114, E5494 (2017), doi 10.1073/pnas.1621481114, go on
from the edge of the known in a similar way.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app
from tqdm.auto import tqdm

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.diffusion_maps import DiffusionMapSettings
from openmm_cgan.explore.coordinate_bias import (
    LABEL,
    coordinate_names,
    hill_widths,
    metadynamics_along,
)
from openmm_cgan.free_energy.biased_runs import HILLS
from openmm_cgan.json_files import read_json, write_json
from openmm_cgan.learned_variable import Inputs, LearnedVariable, learn_variable
from openmm_cgan.molecules import Molecule
from openmm_cgan.openmm_xml import from_xml
from openmm_cgan.platforms import platform_and_properties
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import FieldWriter, read_fields
from openmm_cgan.quantities import positive
from openmm_cgan.seeds import seed_for_openmm
from openmm_cgan.signals import between_steps
from openmm_cgan.stepping import step_and_look

MODEL, INPUT, COLVAR = "learned.ptc", "plumed.dat", "COLVAR"
STATE, RECORD, ASKED, ROUND = "state.xml", "round.json", "rounds.json", "round-{:03d}"

log = logging.getLogger("openmm_cgan")


@dataclass(frozen=True)
class RoundSettings:
    """How coordinates are looked for.

    Parameters
    ----------
    steps : int
        Of a round; short, for it comes but a little way beyond what is known.
    pace : int
        Steps between two hills, and between two frames.
    height : float
        Of a hill [kT].
    bias_factor : float
        Of the metadynamics: the higher, the higher the barriers that are seen.
    n_coordinates, n_landmarks : int
        Of the map. Each landmark is looked at in every step.
    patience : int
        Rounds in a row that must show nothing new.
    new : float
        Share of frames where hardly any were before, on average over these rounds, that still
        counts as nothing.
    change : float
        Of the time scales of the map over these rounds, that still counts as none.
    most : int
        Rounds at most.
    temperature, friction, timestep : float
        [K, 1/ps, ps]
    platform : str
    seed : int
    """

    steps: int = 10_000
    pace: int = 100
    height: float = 0.5
    bias_factor: float = 20.0
    n_coordinates: int = 2
    n_landmarks: int = 300
    patience: int = 8
    new: float = 0.01
    change: float = 0.5
    most: int = 60
    temperature: float = 300.0
    friction: float = 1.0
    timestep: float = 0.002
    platform: str = "Reference"
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "pace", "n_coordinates", "patience", "most"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.steps < 20 * self.pace:
            raise ValueError(
                f"a round of {self.steps} steps has {self.steps // self.pace} frames; at least 20"
            )
        if not self.bias_factor > 1:
            raise ValueError(f"bias_factor is {self.bias_factor}; expected more than 1")
        for name, unit in (("temperature", "K"), ("timestep", "ps"), ("height", "kT")):
            object.__setattr__(self, name, positive(getattr(self, name), unit, name))


@dataclass(frozen=True)
class Round:
    """What a round left.

    Attributes
    ----------
    table : ndarray, shape (n_frames, n_inputs)
        The inputs at each hill.
    heights : ndarray, shape (n_frames,)
        Of its hills as HILLS has them [kJ/mol]; zero in the first round, which has no bias.
    new : float
        Share of its frames that lie where hardly any were before; 1 in the first.
    time_scales : ndarray, shape (n_coordinates,)
        -1/log of the eigenvalues of the map that it was biased along, in steps of the diffusion;
        empty in the first.
    """

    table: NDArray[np.float64]
    heights: NDArray[np.float64]
    new: float
    time_scales: NDArray[np.float64]


def learn_in_rounds(
    molecule: Molecule,
    inputs: Inputs,
    folder: str | Path,
    settings: RoundSettings | None = None,
    resume: bool = False,
) -> LearnedVariable:
    """Learn coordinates of a molecule from one structure.

    The folder gets a folder for each round: its input, its HILLS, COLVAR and learned variable.

    Parameters
    ----------
    molecule : Molecule
        Its System is left as it is.
    inputs : Inputs
        What the coordinates are functions of, such as the torsions about all bonds that turn.
    folder : str or Path
    settings : RoundSettings, optional
    resume : bool
        Go on with the rounds in the folder, from the last that was complete.

    Returns
    -------
    LearnedVariable
        Learned from the frames of all rounds.

    Raises
    ------
    FileExistsError
        If the folder holds rounds and ``resume`` is False.
    ValueError
        If it holds those of other settings or inputs, or a file in it is damaged.
    PlumedInputError
        If the lines of the inputs cannot be used.
    """
    settings, folder = settings or RoundSettings(), Path(folder)
    rounds = _begun(folder, inputs, settings, resume)
    with between_steps() as raise_what_came:
        bar = tqdm(total=settings.most, initial=len(rounds), desc="rounds", disable=None)
        while len(rounds) < settings.most and not nothing_new(rounds, settings):
            rounds.append(_make_round(molecule, inputs, folder, rounds, settings))
            bar.update()
            bar.set_postfix(new=f"{rounds[-1].new:.3f}")
            raise_what_came()
        bar.close()
    if not nothing_new(rounds, settings):
        log.warning(
            "after %d rounds %.1f %% of the frames are still where none were before, or the time "
            "scales of the map change: there may be more to see than the coordinates know of",
            len(rounds), 100 * np.mean([r.new for r in rounds[-settings.patience :]]),
        )  # fmt: skip
    return _learned(rounds, inputs, settings)


def nothing_new(rounds: list[Round], settings: RoundSettings) -> bool:
    """Whether the last rounds went nowhere new, and their maps were alike."""
    last = rounds[-settings.patience :]
    if len(last) < settings.patience or len(rounds) <= settings.patience:
        return False
    if np.mean([r.new for r in last]) > settings.new:
        return False
    scales = np.array([r.time_scales for r in last])
    return bool((np.ptp(scales, axis=0) <= settings.change * scales.mean(axis=0)).all())


def _begun(folder: Path, inputs: Inputs, settings: RoundSettings, resume: bool) -> list[Round]:
    """The complete rounds in a folder, which is made where there is none."""
    asked: dict[str, Any] = {**asdict(settings), "names": list(inputs.names), "lines": inputs.lines}
    asked.pop("most")  # more of them may be asked for later
    if not (folder / ASKED).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / ASKED, asked)
        return []
    if not resume:
        raise FileExistsError(f"{folder} holds rounds already: resume them, or take another folder")
    there = read_json(folder / ASKED)
    if changed := [name for name in asked if there.get(name) != asked[name]]:
        raise ValueError(
            f"the rounds in {folder} are of another {', '.join(changed)}: go on with the same, or "
            "take another folder"
        )
    rounds: list[Round] = []
    while (folder / ROUND.format(len(rounds)) / RECORD).exists():
        rounds.append(_read_round(folder / ROUND.format(len(rounds)), inputs))
    return rounds


def _read_round(own: Path, inputs: Inputs) -> Round:
    """A complete round."""
    record = read_json(own / RECORD)
    colvar = read_fields(own / COLVAR)
    table = colvar.taken(inputs.names)[colvar.columns["time"] > 0]  # the start is at no hill
    heights = np.zeros(len(table))
    if (own / HILLS).exists():
        heights = read_fields(own / HILLS).columns["height"][-len(table) :]
    if len(heights) != len(table):
        raise ValueError(f"{own / HILLS} has {len(heights)} hills for {len(table)} frames")
    new, scales = record.get("new"), record.get("time_scales")
    if not isinstance(new, float) or not isinstance(scales, list):
        raise ValueError(f"{own / RECORD} is damaged: it lacks new or time_scales")
    return Round(table, heights, new, np.array(scales, dtype=float))


def _make_round(
    molecule: Molecule,
    inputs: Inputs,
    folder: Path,
    rounds: list[Round],
    settings: RoundSettings,
) -> Round:
    """Learn from the rounds so far, run another."""
    own = folder / ROUND.format(len(rounds))
    shutil.rmtree(own, ignore_errors=True)  # one that was not finished
    own.mkdir()
    learned, text = None, inputs.lines.rstrip("\n") + "\n"
    if rounds:
        learned = _learned(rounds, inputs, settings)
        text = _biased_text(learned, own, rounds, settings)
    text += f"PRINT ARG={','.join(inputs.names)} STRIDE={settings.pace} FILE={COLVAR}\n"
    (own / INPUT).write_text(text)
    before = folder / ROUND.format(len(rounds) - 1) / STATE if rounds else None
    _simulate(molecule, text, own, before, settings, len(rounds))
    new, scales = 1.0, []
    if learned is not None:
        table = read_fields(own / COLVAR).taken(inputs.names)
        new = float((learned(table)[:, -1] < learned.low_density).mean())
        scales = (-1 / np.log(learned.found.eigenvalues)).tolist()
    write_json(own / RECORD, {"new": new, "time_scales": scales})
    log.info(
        "round %d: %.1f %% of its frames are where hardly any were before; time scales %s",
        len(rounds), 100 * new, np.round(scales, 2).tolist(),
    )  # fmt: skip
    return _read_round(own, inputs)


def _learned(rounds: list[Round], inputs: Inputs, settings: RoundSettings) -> LearnedVariable:
    """The map of all that was seen, whatever its weight: the flood leaves every place alike."""
    table = np.concatenate([r.table for r in rounds])
    made = DiffusionMapSettings(
        settings.n_coordinates, 1.0, max_landmarks=settings.n_landmarks, seed=settings.seed
    )
    return learn_variable(inputs, table, None, made)


def _biased_text(
    learned: LearnedVariable, own: Path, rounds: list[Round], settings: RoundSettings
) -> str:
    """Input of a round along coordinates; the model and the hills so far are written."""
    path = learned.save(own / MODEL).absolute()
    widths = hill_widths(learned)
    names = coordinate_names(learned)
    _write_hills(own / HILLS, names, learned, widths, rounds, settings)
    restart = "RESTART\n" if any(r.heights.any() for r in rounds) else ""
    height = settings.height * GAS_CONSTANT * settings.temperature
    # no wall: the way to what is new leads over the edge
    return (
        restart
        + learned.variable_lines(path, LABEL)
        + metadynamics_along(learned, height, settings.pace, settings.bias_factor)
    )


def _write_hills(
    path: Path,
    names: list[str],
    learned: LearnedVariable,
    widths: NDArray[np.float64],
    rounds: list[Round],
    settings: RoundSettings,
) -> None:
    """All hills so far, at the values that the new coordinates have where they were set."""
    table = np.concatenate([r.table for r in rounds])
    heights = np.concatenate([r.heights for r in rounds])
    set_ones = heights > 0
    if not set_ones.any():
        return
    centres = learned(table[set_ones])[:, : learned.n_coordinates]
    fields = ["time", *names, *(f"sigma_{name}" for name in names), "height", "biasf"]
    constants = [("multivariate", "false"), ("kerneltype", "stretched-gaussian")]
    writer = FieldWriter(path, fields, constants)
    pace = settings.pace * settings.timestep
    for i, (centre, height) in enumerate(zip(centres, heights[set_ones], strict=True)):
        row = [pace * (i + 1), *centre, *widths, height, settings.bias_factor]
        writer.write(f" {value:.9g}" for value in row)
    writer.close()


def _simulate(
    molecule: Molecule,
    text: str,
    own: Path,
    before: Path | None,
    settings: RoundSettings,
    number: int,
) -> None:
    """Run a round from where the last one ended, and save where it ends."""
    system = openmm.XmlSerializer.clone(molecule.system)
    bias = PlumedBias(text, molecule.topology, temperature=settings.temperature, directory=own)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(
        settings.temperature, settings.friction, settings.timestep
    )
    integrator.setRandomNumberSeed(seed_for_openmm(settings.seed + 7919 * number))
    how = platform_and_properties(settings.platform)
    simulation = app.Simulation(molecule.topology, system, integrator, *how)
    _place(simulation, molecule, before, settings)
    bias.attach(simulation)
    step_and_look(simulation, settings.steps, lambda n: None)
    bias.close()
    state = simulation.context.getState(positions=True, velocities=True)
    write_atomically(own / STATE, openmm.XmlSerializer.serialize(state))


def _place(
    simulation: app.Simulation, molecule: Molecule, before: Path | None, settings: RoundSettings
) -> None:
    context = simulation.context
    if before is None:
        context.setPositions(molecule.positions)
        simulation.minimizeEnergy()
        context.setVelocitiesToTemperature(settings.temperature, settings.seed)
        return
    state = from_xml(before.read_text(), openmm.State, before)
    context.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
    context.setPositions(state.getPositions())
    context.setVelocities(state.getVelocities())
