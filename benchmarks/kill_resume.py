"""Does a run that is killed at random moments end as the run that never was?

``openmm-cgan run`` (METAD on alanine dipeptide, Reference) is killed (SIGKILL, or with --term
SIGTERM) shortly after a random number of checkpoints and gone on with by --resume until it ends.
Its COLVAR, HILLS, frames and last positions must be those of a run that was left alone. Printed is
how many were.

    python benchmarks/kill_resume.py [--runs N] [--steps N] [--term]
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import openmm
from openmm import app
from tqdm import tqdm

from openmm_cgan.frames import read_frames
from openmm_cgan.testsystems import alanine_dipeptide

INPUT = """phi: TORSION ATOMS=5,7,9,15
psi: TORSION ATOMS=7,9,15,17
METAD ARG=phi,psi SIGMA=0.35,0.35 HEIGHT=1.2 PACE=100 BIASFACTOR=8 GRID_MIN=-pi,-pi GRID_MAX=pi,pi
PRINT ARG=phi,psi STRIDE=50 FILE=COLVAR
"""
FILES = ("COLVAR", "HILLS")
KILLS = 4  # of a run, at most
PROGRAM = "from openmm_cgan.cli import main; main()"


def prepare(folder: Path) -> list[str]:
    """Write structure and input to a folder; return the command without --out and --steps."""
    molecule = alanine_dipeptide()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "start.pdb").open("w") as file:
        app.PDBFile.writeFile(molecule.topology, molecule.positions * openmm.unit.nanometer, file)
    (folder / "plumed.dat").write_text(INPUT)
    return [
        *(sys.executable, "-c", PROGRAM, "run", str(folder / "start.pdb")),
        *("--plumed", str(folder / "plumed.dat"), "--forcefield", "amber96.xml"),
        *("--platform", "Reference", "--frames-every", "70", "--checkpoint-every", "400"),
    ]


def kill_until_it_ends(
    command: list[str], out: Path, steps: int, rng: np.random.Generator, number: int
) -> int:
    """Run, kill and resume, after other numbers of checkpoints each time. Return the kills."""
    kills, told = 0, out.with_suffix(".err")
    while True:
        goes_on = (out / "run.json").exists()
        if not goes_on:  # killed before anything was saved, if at all
            shutil.rmtree(out, ignore_errors=True)
        what = ["--resume"] if goes_on else ["--steps", str(steps)]
        with told.open("w") as errors:
            process = subprocess.Popen(
                [*command, "--out", str(out), *what], stdout=subprocess.DEVNULL, stderr=errors
            )
        if kills < KILLS and lives_through(process, out / "run.chk", int(rng.integers(1, 9))):
            time.sleep(rng.uniform(0.0, 0.02))
            process.send_signal(number)
            process.wait()
            kills += 1
            if process.returncode in (-number, 128 + number) or "Aborted!" in told.read_text():
                continue
        process.wait()
        if process.returncode != 0:
            raise RuntimeError(told.read_text())
        return kills


def lives_through(process: subprocess.Popen[bytes], checkpoint: Path, n: int) -> bool:
    """Wait until a process has saved so many checkpoints; whether it has, before it ended."""
    seen, last = 0, 0
    while seen < n and process.poll() is None:
        now = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        seen += now != last
        last = now
        time.sleep(0.001)
    return process.poll() is None


def differences(out: Path, whole: Path) -> list[str]:
    """What of a run is not that of the run that was left alone."""
    found = [name for name in FILES if (out / name).read_bytes() != (whole / name).read_bytes()]
    ours, theirs = read_frames(out / "frames"), read_frames(whole / "frames")
    for name in ("positions", "cvs", "bias", "step", "segment"):
        if not np.array_equal(getattr(ours, name), getattr(theirs, name)):
            found.append(f"frames.{name}")
    states = [
        openmm.XmlSerializer.deserialize((folder / "state.xml").read_text())
        for folder in (out, whole)
    ]
    positions = [state.getPositions(asNumpy=True)._value for state in states]
    return found if np.array_equal(*positions) else [*found, "positions"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--term", action="store_true", help="SIGTERM in place of SIGKILL")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    number = signal.SIGTERM if args.term else signal.SIGKILL
    rng, equal, kills = np.random.default_rng(args.seed), 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = prepare(folder)
        whole = folder / "whole"
        subprocess.run(
            [*command, "--out", str(whole), "--steps", str(args.steps)],
            check=True,
            capture_output=True,
        )
        for i in tqdm(range(args.runs), disable=None):
            out = folder / f"run{i}"
            kills += kill_until_it_ends(command, out, args.steps, rng, number)
            wrong = differences(out, whole)
            equal += not wrong
            if wrong:
                print(f"run {i}: {', '.join(wrong)}")
    print(f"{equal} of {args.runs} runs equal after {kills} x {signal.Signals(number).name}")
    sys.exit(equal < args.runs)


if __name__ == "__main__":
    main()
