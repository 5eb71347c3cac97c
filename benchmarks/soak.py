"""Do memory, open handles and threads stay where they are in a long run?

Alanine dipeptide on the Reference platform with METAD on a grid, COLVAR, a FrameReporter, a
ProposalReporter and a RunCheckpointReporter; one process in mode "seed" and one in mode "exact",
beside each other, with one generator that is trained before. Each notes its resident memory, open
handles and threads every other second. Printed are their medians in the second and in the last
quarter of the time: flat means within 5 % (of handles and threads also: one more).

    python benchmarks/soak.py [--minutes M] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from provenance import provenance
from tqdm import tqdm

MODES = ("seed", "exact")
MEASURES = ("memory", "handles", "threads")
EVERY = 2.0  # seconds between two looks
FLAT = 0.05
INPUT = """phi: TORSION ATOMS=5,7,9,15
psi: TORSION ATOMS=7,9,15,17
METAD ARG=phi,psi SIGMA=0.35,0.35 HEIGHT=1.2 PACE=100 BIASFACTOR=8 GRID_MIN=-pi,-pi GRID_MAX=pi,pi
PRINT ARG=phi,psi STRIDE=50 FILE=COLVAR
"""


def train(path: Path) -> None:
    """A flow from few frames: it need not be good."""
    from alanine import Umbrella, umbrella_frames

    from openmm_cgan import ConditionalGAN
    from openmm_cgan.cgan import TrainingSettings
    from openmm_cgan.testsystems import alanine_dipeptide

    frames = umbrella_frames(Umbrella(n_side=6, steps=2000, stride=20, seed=1))
    settings = TrainingSettings(generator="FlowGenerator", steps=150, batch=256, width=32)
    ConditionalGAN.fit(frames, alanine_dipeptide().topology, settings).save(path)


def run(folder: Path, mode: str, model: Path, seconds: float) -> None:
    """Run for so long, and write what was seen to measured.json."""
    import torch
    from alanine import biased_simulation

    from openmm_cgan import ConditionalGAN, FrameReporter, PlumedBias, ProposalReporter
    from openmm_cgan import RunCheckpointReporter as Checkpoints
    from openmm_cgan.testsystems import alanine_dipeptide

    torch.set_num_threads(1)
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(INPUT, molecule.topology, temperature=300.0, directory=folder)
    simulation = biased_simulation(molecule, bias, seed=1)
    gan = ConditionalGAN.load(model, molecule.topology)
    frames = FrameReporter(folder / "frames", 50, bias)
    proposals = ProposalReporter(
        folder / "proposals.csv", 500, gan, bias, mode=mode,
        targets="least_visited" if mode == "seed" else "uniform",
    )  # fmt: skip
    keepers = {"bias": bias, "frames": frames, "proposals": proposals}
    simulation.reporters += [frames, proposals, Checkpoints(folder / "run.chk", 5000, keepers)]
    began, looks = time.monotonic(), []
    while (now := time.monotonic() - began) < seconds:
        if now >= EVERY * len(looks):
            looks.append([now, *usage()])
        simulation.step(500)
    frames.close()
    bias.close()
    seen = {"steps": simulation.currentStep, "counts": proposals.counts(), "looks": looks}
    (folder / "measured.json").write_text(json.dumps(seen))


def usage() -> list[float]:
    """Resident memory [MiB], open handles and threads of this process."""
    own = Path("/proc/self")
    pages = int((own / "statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return [memory, len(list((own / "fd").iterdir())), len(list((own / "task").iterdir()))]


def summary(mode: str, looks: np.ndarray) -> list[dict[str, object]]:
    """A row of the table for each measure, from looks (n, 4)."""
    quarter = len(looks) // 4
    early = np.median(looks[quarter : 2 * quarter, 1:], axis=0)
    late = np.median(looks[-quarter:, 1:], axis=0)
    rows = []
    for name, before, after in zip(MEASURES, early, late, strict=True):
        more = 0 if name == "memory" else 1  # a handle of a file just being written
        rows.append({
            "name": f"soak, mode {mode}: {name}, last quarter over the second",
            "value": round(float(after / before), 4), "unit": "ratio",
            "target": "within 5 %", "met": bool(after <= max(before * (1 + FLAT), before + more)),
            "peers": {"second quarter": round(float(before), 1), "last": round(float(after), 1)},
        })  # fmt: skip
    return rows


def soak(minutes: float) -> list[dict[str, object]]:
    """Both modes beside each other; the rows of the table."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "model.npz"
        train(model)
        folders = {mode: Path(name) / mode for mode in MODES}
        processes = {}
        for mode, folder in folders.items():
            folder.mkdir()
            own = [sys.executable, __file__, "--mode", mode, "--model", str(model)]
            processes[mode] = subprocess.Popen(
                [*own, "--folder", str(folder), "--minutes", str(minutes)]
            )
        with tqdm(total=round(60 * minutes), unit="s", disable=None) as bar:
            while any(process.poll() is None for process in processes.values()):
                time.sleep(1)
                bar.update(1)
        for mode, folder in folders.items():
            if processes[mode].returncode != 0:
                raise RuntimeError(f"the run in mode {mode} has failed; its error is above")
            seen = json.loads((folder / "measured.json").read_text())
            print(f"{mode}: {seen['steps']:,} steps, attempts: {seen['counts']}")
            rows += summary(mode, np.array(seen["looks"]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    args = parser.parse_args()
    if args.mode is not None:
        run(args.folder, args.mode, args.model, 60 * args.minutes)
        return
    made = provenance()
    rows = soak(args.minutes)
    about = {
        "command": f"python benchmarks/soak.py --minutes {args.minutes:g}",
    } | made
    for row in rows:
        told = ", ".join(f"{name} {value}" for name, value in row["peers"].items())
        print(f"{row['name']:58s} {row['value']:.3f}  ({told}) {'' if row['met'] else 'NOT FLAT'}")
    if args.json is not None:
        args.json.write_text(json.dumps([row | about for row in rows], indent=1) + "\n")
    sys.exit(not all(row["met"] for row in rows))


if __name__ == "__main__":
    main()
