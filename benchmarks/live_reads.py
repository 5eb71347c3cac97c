"""Do programs that know nothing of us read whole frames of a run that is still writing them?

Alanine dipeptide on the Reference platform with a FrameReporter, whose rows are written 20 times a
second in place of once, or oftener (--pause). Beside it plain h5py and MDAnalysis open the file
again and again, and read column after column with pauses between. A read is whole if its columns
are equally long, steps and times are those of the reports, and phi and psi are those of its
positions; it is refused if opening or reading raises an error; anything else is torn.

    python benchmarks/live_reads.py [--reads N] [--unlocked] [--json FILE]

With --unlocked the readers take no locks (HDF5_USE_FILE_LOCKING=FALSE): what they see then is why
there are any.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
from provenance import provenance
from tqdm import tqdm

INTERVAL, TIME_STEP = 20, 0.002  # steps, ps
COLUMNS = {
    "positions": "particles/trajectory/position/value",
    "step": "particles/trajectory/position/step",
    "time": "particles/trajectory/position/time",
    "phi": "observables/phi/value",
    "psi": "observables/psi/value",
}
MAX_LAG = 0.03  # between two columns [s]


def write(folder: Path, pause: float) -> None:
    """Run until killed, and write what is there after each pause [s]."""
    import openmm
    from openmm import app

    from openmm_cgan import FrameReporter, PlumedBias
    from openmm_cgan.testsystems import alanine_dipeptide

    molecule = alanine_dipeptide("C7eq")
    text = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
    bias = PlumedBias(
        text + "RESTRAINT ARG=phi,psi AT=-1.3,1.2 KAPPA=20,20", molecule.topology, temperature=300.0
    )
    bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, TIME_STEP)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    bias.attach(simulation)
    simulation.context.setPositions(molecule.positions)
    reporter = FrameReporter(folder / "frames", INTERVAL, bias)
    simulation.reporters.append(reporter)
    while True:
        began = time.monotonic()
        while time.monotonic() - began < pause:
            simulation.step(5 * INTERVAL)
        reporter.flush()


def read_plainly(path: Path, random: Random) -> dict[str, np.ndarray]:
    """Columns as h5py gives them, one after the other."""
    import h5py

    with h5py.File(path) as file:
        columns = {}
        for name in random.sample(list(COLUMNS), len(COLUMNS)):
            columns[name] = file[COLUMNS[name]][:]
            time.sleep(random.uniform(0, MAX_LAG))
        return columns


def read_by_mdanalysis(path: Path, random: Random) -> dict[str, np.ndarray]:
    """Columns as a Universe gives them, frame after frame."""
    import MDAnalysis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe.empty(22, trajectory=False)
        universe.load_new(str(path), format="H5MD", convert_units=False)
    stride = max(1, len(universe.trajectory) // 10)
    rows = []
    for frame in universe.trajectory[::stride]:
        data = frame.data
        step = data["step"] if "step" in data else round(frame.time / TIME_STEP)
        rows.append((frame.positions.copy(), step, frame.time, data["phi"], data["psi"]))
        time.sleep(random.uniform(0, MAX_LAG / 3))
    universe.trajectory.close()
    return {
        name: np.array(column)
        for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)
    }


def faults(columns: dict[str, np.ndarray]) -> str:
    """What is wrong with what was read; empty if nothing."""
    from openmm_cgan.testsystems import PHI_ATOMS, PSI_ATOMS, torsion

    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        return f"uneven columns: {lengths}"
    steps = columns["step"]
    if (np.diff(steps) <= 0).any() or (steps % INTERVAL).any():
        return "steps"
    if not np.allclose(columns["time"], TIME_STEP * steps, atol=1e-6):
        return "times"
    rows = np.unique(np.linspace(0, len(steps) - 1, 100).astype(int))
    rows = np.union1d(rows, np.arange(max(0, len(steps) - 50), len(steps)))
    for name, atoms in (("phi", PHI_ATOMS), ("psi", PSI_ATOMS)):
        found = np.array([torsion(x.astype(float), atoms) for x in columns["positions"][rows]])
        off = np.abs(np.angle(np.exp(1j * (found - columns[name][rows]))))
        if off.max(initial=0.0) > 1e-4:  # positions are float32
            return f"{name} is off by {off.max():.2g} rad in frame {rows[off.argmax()]}"
    return ""


def measure(reads: int, pause: float, seed: int) -> tuple[Counter[str], list[str]]:
    """Verdicts of so many reads, and why they were not whole."""
    random, verdicts, told = Random(seed), Counter[str](), []
    with tempfile.TemporaryDirectory() as name:
        own = [sys.executable, __file__, "--write", name, "--pause", str(pause)]
        writer = subprocess.Popen(own)
        path = Path(name) / "frames" / "segment-00001.h5md"
        try:
            while not path.exists():
                if writer.poll() is not None:
                    raise RuntimeError("the writer has ended; its error is above")
                time.sleep(0.01)
            for i in tqdm(range(reads), disable=None):
                read = read_by_mdanalysis if i % 3 == 2 else read_plainly
                try:
                    wrong = faults(read(path, random))
                except (OSError, KeyError, RuntimeError, ValueError) as error:
                    verdicts["refused"] += 1
                    told.append(f"refused by {read.__name__}: {error!r}")
                    continue
                verdicts["torn" if wrong else "whole"] += 1
                told += [f"torn in {read.__name__}: {wrong}"] if wrong else []
            if writer.poll() is not None:
                raise RuntimeError("the writer has ended; its error is above")
        finally:
            writer.kill()
            writer.wait()
    return verdicts, told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reads", type=int, default=300)
    parser.add_argument("--pause", type=float, default=0.05, help="between writes [s]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unlocked", action="store_true", help="readers that take no locks")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    args = parser.parse_args()
    if args.write is not None:
        write(args.write, args.pause)
    if args.unlocked and "HDF5_USE_FILE_LOCKING" not in os.environ:
        environment = os.environ | {"HDF5_USE_FILE_LOCKING": "FALSE"}
        sys.exit(
            subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode
        )
    made = provenance()
    verdicts, told = measure(args.reads, args.pause, args.seed)
    for line in told[:20]:
        print(line)
    counts = {verdict: verdicts[verdict] for verdict in ("whole", "refused", "torn")}
    print(
        f"{args.reads} reads of a living file: " + ", ".join(f"{n} {v}" for v, n in counts.items())
    )
    if args.json is not None:
        row = {
            "name": f"plain reads of a living run's frames, of {args.reads}, that are torn",
            "value": counts["torn"], "unit": "", "target": "0", "met": not counts["torn"],
            "peers": counts, "command": f"python {' '.join(sys.argv)}",
        } | made  # fmt: skip
        args.json.write_text(json.dumps([row], indent=1) + "\n")
    sys.exit(bool(counts["torn"]) and not args.unlocked and args.json is None)


if __name__ == "__main__":
    main()
