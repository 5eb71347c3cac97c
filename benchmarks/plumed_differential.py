"""Random valid inputs, natively and by libplumed: whatever comes out is the same.

    python benchmarks/plumed_differential.py --number 300 --seed 1 [--only METAD] [--json FILE]

Each input (plumed_inputs_made.py, plumed_biases_made.py) goes over ten frames of 24 atoms in four
molecules, in no box, a rectangular or a triclinic one that may change, twice: by the driver, whose
frames are torn and whose run may be cut in two by a restart, and in an OpenMM Context, where
molecules are whole in any image and the System may be large. All files, forces and virials agree to
2e-6 of the largest of their column, energies and `bias_of_cvs` too. Each input has a process of its
own, which PLUMED may end or hang. What differs for a known reason is not made, or left out.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import pickle
import re
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import openmm
from plumed_biases_made import Biases
from plumed_inputs_made import MOLECULES, N_ATOMS, Inputs
from provenance import provenance

from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.actions.committor import StopRunError
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.input.language import PlumedInput, PlumedInputError
from openmm_cgan.plumed.native.backend import NativeBackend

N_FRAMES, TOLERANCE, SINGLE, SECONDS = 10, 2e-6, 2e-4, 40
KT = 2.5  # kJ/mol
GAS_CONSTANT = 0.00831446261815324
TIMESTEP = 0.5  # ps
MASSES = np.round(np.linspace(1, 30, N_ATOMS), 1)
CHARGES = np.round(np.sin(np.arange(N_ATOMS)), 3)
SURROUNDINGS = 500  # particles besides, of a large System
REFUSALS = (PlumedInputError, RuntimeError, ValueError)
Files = dict[str, list[list[str]]]


@dataclass
class Case:
    """The frames and boxes of a seed, and what makes choices for it."""

    seed: int

    def __post_init__(self) -> None:
        self.random, self.rng = Random(self.seed), np.random.default_rng(self.seed)
        self.kind = self.random.choice(("none", "rectangular", "triclinic"))
        self.boxes = [None] * N_FRAMES if self.kind == "none" else list(self._boxes())
        self.frames = self._frames()

    def _boxes(self) -> np.ndarray:
        a, b, c = self.rng.uniform(1.6, 2.6, 3)
        box = np.diag([a, b, c])
        if self.kind == "triclinic":
            tilts = self.rng.uniform(-0.49, 0.49, 3)
            box[1, 0], box[2, 0], box[2, 1] = tilts * (a, a, b)
        moves = self.random.random() < 0.5
        return (1 + 0.01 * moves * self.rng.normal(size=N_FRAMES))[:, None, None] * box

    def _frames(self) -> np.ndarray:
        first = np.zeros((N_ATOMS, 3))
        for molecule in MOLECULES:
            steps = self.rng.normal(size=(len(molecule), 3))
            steps *= 0.15 / np.linalg.norm(steps, axis=1, keepdims=True)
            first[np.array(molecule) - 1] = np.cumsum(steps, axis=0) + self.rng.random(3)
        moves = self.rng.normal(0, 0.02, (N_FRAMES, N_ATOMS, 3))
        moves[0] = 0
        return first + np.cumsum(moves, axis=0)

    def moved(self, whole: bool) -> np.ndarray:
        """The frames with atoms, or whole molecules, in any images."""
        shifts = self.rng.integers(-1, 2, (N_FRAMES, N_ATOMS, 3))
        for molecule in MOLECULES if whole else ():
            rows = np.array(molecule) - 1
            shifts[:, rows] = shifts[:, rows[:1]]
        if self.kind == "none":
            return self.frames
        return self.frames + np.einsum("fai,fij->faj", shifts, np.array(self.boxes))


def made_text(case: Case, folder: Path) -> str:
    """An input for these frames, whose biases are where the values are."""
    inputs = Inputs(case.random, folder, case.frames[0], case.kind)
    text = inputs.variables()
    if not inputs.values:
        return ""
    read = PlumedInput.read(text, "input", folder)
    actions = read_actions(list(read.followed), N_ATOMS, folder)
    backend = NativeBackend(actions, folder, None, False)
    backend.set_masses(MASSES, CHARGES)
    backend.start(TIMESTEP)
    rows = [backend.values(*frame) for frame in zip(case.frames, case.boxes, strict=True)]
    backend.close()
    seen = {}
    for name in inputs.values:
        column = np.array([float(row[name]) for row in rows])
        most = np.abs(column).max()
        if most < 1e5 and column.std() > 1e-6 * (1 + most):  # a NaN is in none
            seen[name] = column
    if not seen:
        return text + f"PRINT ARG={','.join(inputs.values)} FMT=%.12g FILE=COLVAR\n"
    values = [value for action in actions for value in action.outputs if value.domain is not None]
    domains = {v.name: v.domain_text or tuple(map(repr, v.domain or ())) for v in values}
    return text + Biases(inputs, seen, domains).made()


# ---- the two ways to run an input


def driven(text: str, backend: str, case: Case, folder: Path, cut: int) -> None:
    """Over frames that are torn; a restart after `cut` of them."""
    torn = case.moved(whole=False)
    frames = [Frame(x, box) for x, box in zip(torn, case.boxes, strict=True)]
    for start, end in ((0, cut), (cut, N_FRAMES)) if cut else ((0, N_FRAMES),):
        settings = DriverSettings(
            backend=backend, directory=folder, forces=Path(f"FORCES{start}"), full_virial=True,
            kt=KT, forces_format="%.12g", masses=MASSES, charges=CHARGES, restart=start > 0,
            initial_step=start, timestep=TIMESTEP,
        )  # fmt: skip
        run_driver(text, iter(frames[start:end]), settings)


def made_system(box: np.ndarray | None, large: bool) -> openmm.System:
    system, bonds = openmm.System(), openmm.HarmonicBondForce()
    nonbonded = openmm.NonbondedForce()
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
        nonbonded.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        nonbonded.setCutoffDistance(0.5)
    others = SURROUNDINGS * large
    masses, charges = [*MASSES, *[1.0] * others], [*CHARGES, *[0.0] * others]
    for mass, charge in zip(masses, charges, strict=True):
        system.addParticle(mass)
        nonbonded.addParticle(charge, 1, 0)
    for i in (i for molecule in MOLECULES for i in molecule[:-1]):
        bonds.addBond(i - 1, i, 0.15, 0.0)
    system.addForce(bonds)
    system.addForce(nonbonded)
    return system


def simulated(
    text: str, backend: str, case: Case, folder: Path, platform: str, large: bool
) -> list[tuple[float, np.ndarray, float, float]]:
    """Energy and forces in OpenMM, and the energy by `evaluate` and `bias_of_cvs`, of frames."""
    bias = PlumedBias(text, temperature=KT / GAS_CONSTANT, backend=backend, directory=folder)
    system = made_system(case.boxes[0], large)
    bias.add_to(system)
    context = openmm.Context(
        system, openmm.VerletIntegrator(TIMESTEP), openmm.Platform.getPlatformByName(platform)
    )
    engine: Any = bias._engine
    engine.start(TIMESTEP)
    found = []
    for i, x in enumerate(case.moved(whole=True)):
        positions = np.vstack([x, np.zeros((system.getNumParticles() - N_ATOMS, 3))])
        if case.boxes[i] is not None:
            context.setPeriodicBoxVectors(*case.boxes[i])
        context.setPositions(positions)
        context.setStepCount(i)
        state = context.getState(energy=True, forces=True, groups=bias.force_groups())
        energy = of_cvs = state.getPotentialEnergy()._value
        evaluated = energy
        if backend == "native" and "STRIDE=2" not in text:
            values, evaluated = engine.evaluate(positions, case.boxes[i], i)
            try:
                of_cvs = float(engine.bias_of_cvs(values[None], i)[0])
            except ValueError:  # of something else too
                of_cvs = evaluated
        found.append((energy, state.getForces(asNumpy=True)._value[:N_ATOMS], evaluated, of_cvs))
        try:
            engine.update(positions, case.boxes[i], i)
        except StopRunError:
            break
        engine.upload(context)
    bias.close()
    return found


# ---- what differs


def contents(folder: Path, text: str) -> Files:
    """The words of the files that an input leaves and that can be compared."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "plumed.log")
    left_out = ["bck"]
    if "ABMD" in text:  # PLUMED goes on with an old force at a step that is nearer than all before
        left_out += ["FORCES", "DF"]
    if "FIXEDATOM" in text:  # of which PLUMED tells the derivative by the box as of a free point
        left_out += ["DERIVATIVES"]
    kept = (path for path in sorted(paths) if not path.name.startswith(tuple(left_out)))
    return {path.name: [line.split() for line in path.read_text().splitlines()] for path in kept}


def compare_files(mine: Files, theirs: Files) -> str:
    """What differs first in the files of the native backend and of libplumed."""
    if mine.keys() != theirs.keys():
        return f"only one has the files {sorted(mine.keys() ^ theirs.keys())}"
    for name, lines in mine.items():
        if len(lines) != len(theirs[name]):
            return f"{name} has {len(lines)} lines, libplumed's {len(theirs[name])}"
        tables = [[list(map(number, words)) for words in file] for file in (lines, theirs[name])]
        largest: Counter[tuple[int, int]] = Counter()
        for row in tables[1]:
            for k, x in enumerate(row):
                if isinstance(x, float) and math.isfinite(x):
                    place = (len(row), 0 if name.startswith(("FORCES", "DER")) else k)
                    largest[place] = max(largest[place], abs(x))
        for i, (ours, plumeds) in enumerate(zip(*tables, strict=True)):
            if told := compare_rows(name, ours, plumeds, lines[i], largest):
                return f"{name}:{i + 1}: {told}"
    return ""


def number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word


def compare_rows(
    name: str, ours: list[Any], plumeds: list[Any], words: list[str], largest: Counter[Any]
) -> str:
    if len(ours) != len(plumeds):
        return f"{len(ours)} words, libplumed has {len(plumeds)}"
    for k, (x, y) in enumerate(zip(ours, plumeds, strict=True)):
        if x == y or (x != x and y != y):
            continue
        if isinstance(x, str) or isinstance(y, str):
            return f"{x} {y}"
        if name == "PROJ" and y == 0:  # libplumed has none along vectors
            continue
        place = (len(ours), 0 if name.startswith(("FORCES", "DER")) else k)
        digits = re.fullmatch(r"-?\d+\.(\d{1,9})", words[k])
        last = 10.0 ** -len(digits[1]) if digits else 0.0
        if not abs(x - y) <= TOLERANCE * largest[place] + max(1.01 * last, 1e-8):
            return f"{x!r} {y!r}, in a column up to {largest[place]:.3g}"
    return ""


def compare_forces(ours: list[Any], plumeds: list[Any], tolerance: float, strided: bool) -> str:
    """What differs first of the energies and forces in OpenMM; strided energies are of one step."""
    most = max(1e-3, *(abs(energy) for energy, *_ in plumeds))
    hardest = max(1e-6, *(np.abs(forces).max() for _, forces, *_ in plumeds))
    for i, (mine, theirs) in enumerate(zip(ours, plumeds, strict=True)):
        if not np.abs(mine[1] - theirs[1]).max() <= tolerance * hardest:
            worst = np.abs(mine[1] - theirs[1]).max()
            return f"step {i}: forces differ by {worst:.3g}, the largest is {hardest:.3g}"
        names = ("in OpenMM", "by evaluate", "by bias_of_cvs")
        for name, energy in zip(names, (mine[0], *mine[2:]), strict=True):
            if not strided and not abs(energy - theirs[0]) <= tolerance * most:
                return f"step {i}: the energy {name} is {energy!r}, {theirs[0]!r} by libplumed"
    return ""


def judged(seed: int, only: str) -> tuple[str, str, str]:
    """ "same", "refused", "other" or "broken"; what is other; the input."""
    with tempfile.TemporaryDirectory() as name:
        base, text = Path(name), ""
        (base / "source").mkdir()
        try:
            text = made_text(Case(seed), base / "source")
            if not text or not re.search(only, text):
                return "left out", "", text
            return *compared(text, seed, base), text
        except PlumedInputError as error:
            return "refused", str(error).splitlines()[0], text
        except Exception:
            return "broken", traceback.format_exc()[-1500:], text


def compared(text: str, seed: int, base: Path) -> tuple[str, str]:
    random = Random(-seed)
    cut = 0 if re.search("ADAPTIVE|NLIST|PROJ|BASIN", text) else random.choice((0, 0, 5))
    platform, large = random.choice(("Reference", "Reference", "CPU")), random.random() < 0.3
    tolerance = TOLERANCE if platform == "Reference" else SINGLE
    ways = {
        "driver": lambda backend, folder: driven(text, backend, again(seed), folder, cut),
        f"{platform}, {'large' if large else 'small'}": lambda backend, folder: simulated(
            text, backend, again(seed), folder, platform if backend == "native" else "Reference",
            large,
        ),
    }  # fmt: skip
    for way, run in ways.items():
        found = []
        for backend in ("native", "kernel"):
            folder = Path(shutil.copytree(base / "source", base / way / backend))
            try:
                found.append((run(backend, folder), contents(folder, text)))
            except REFUSALS as error:
                # both stop where a value leaves a grid
                verdict = "refused" if backend == "native" else "libplumed refuses"
                return verdict, f"{way}: {str(error)[:300]}"
        (ours, our_files), (plumeds, their_files) = found
        told = compare_files(our_files, their_files)
        if ours is not None and "ABMD" not in text:
            told = compare_forces(ours, plumeds, tolerance, "STRIDE=2" in text) or told
        if told:
            return "other", f"{way}, cut {cut}: {told}"
    return "same", ""


def again(seed: int) -> Case:
    """The same frames and images for both backends."""
    return Case(seed)


def apart(seed: int, only: str) -> tuple[str, str, str]:
    """Judged in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        logging.getLogger("openmm_cgan").setLevel(logging.CRITICAL)
        signal.alarm(SECONDS)
        with os.fdopen(writing, "wb") as file:
            file.write(pickle.dumps(judged(seed, only)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    return pickle.loads(answer) if answer else ("ended", f"status {status}", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="inputs that match this regular expression")
    parser.add_argument("--json", type=Path, help="write the row to this file")
    options = parser.parse_args()
    made, counts = provenance(), Counter[str]()
    np.seterr(all="ignore")
    for seed in range(options.seed, options.seed + options.number):
        verdict, why, text = apart(seed, options.only)
        counts[verdict] += 1
        if verdict not in ("same", "left out"):
            print(f"---- seed {seed}: {verdict}: {why}", flush=True)
        if verdict in ("other", "broken"):
            print(text, flush=True)
    print(", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()))
    wrong = counts["other"] + counts["broken"]
    row = {
        "name": "random inputs that are other than libplumed's", "value": wrong,
        "unit": f"of {counts.total()}", "target": "0", "met": not wrong, "peers": dict(counts),
        "command": "python benchmarks/plumed_differential.py", "made": made,
    }  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps([row], indent=1) + "\n")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
