"""What biases and reporters cost on a GPU, over plain MD of the same box of water; one table.

Alanine dipeptide in boxes of water (PME, constant volume, 2 fs; CUDA in mixed precision) runs plain
and with each bias, blocks alternated: the median ratio of rates, and microseconds a step more. With
openmm-plumed beside where that is installed. Then a FrameReporter of all atoms every 1,000 steps,
and the energies of 100 candidates together and one by one. Then networks for alanine dipeptide in
vacuum, on the processor (one thread) and on a device of torch: a step of training of each kind and
of refining, and a generated configuration with its density.

    python benchmarks/gpu.py [--platform CUDA] [--atoms 2000 25000 90000] [--minutes 8]
                             [--device cuda] [--json FILE]

Where OpenMM has no such platform, or torch no such device, it says so and leaves that out. What
the minutes do not allow is left out, and named. Reads as it goes: a row is printed when it is
known.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import torch
from biased_md import CALLED_BACK, LATER, METAD, PACE, SOLVATED, write_path, write_solute
from learned_variable import network_inputs
from molecule_runs import Run, biased_run
from openmm import app, unit
from provenance import in_words, provenance

from openmm_cgan import ConditionalGAN, FrameReporter, PlumedBias
from openmm_cgan.cgan import RefiningSettings, TrainingSettings, refine, rows_for
from openmm_cgan.devices import device_named
from openmm_cgan.plumed.libplumed.plugin import available
from openmm_cgan.potentials import Potential
from openmm_cgan.testsystems import Molecule, alanine_dipeptide

DENSE = 100.0  # atoms of water in a cubic nanometre
BLOCK = 0.4  # s
ROUNDS = 5
CANDIDATES = 100
EVERY = 1000  # steps between frames
BATCHES = (512, 4096)  # of training and refining
STEPS, SHOWN = 40, 10  # of each, and between rows of their histories


def in_water(n_atoms: int) -> Molecule:
    """Alanine dipeptide in a box of about so many atoms."""
    molecule, field = alanine_dipeptide("C7eq"), app.ForceField("amber96.xml", "tip3p.xml")
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    edge = max(2.7, (n_atoms / DENSE) ** (1 / 3))  # 500 waters at least
    modeller.addSolvent(field, boxSize=openmm.Vec3(edge, edge, edge) * unit.nanometer)
    system = field.createSystem(
        modeller.topology, nonbondedMethod=app.PME, constraints=app.HBonds, nonbondedCutoff=0.9
    )
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer))
    return Molecule(modeller.topology, system, positions)


def inputs_of(folder: Path) -> dict[str, str]:
    """PLUMED inputs by name; none for plain MD."""
    files = {"pdb": write_solute(folder), "path": write_path(folder)}
    made = {
        "plain": "",
        "RESTRAINT": SOLVATED["RESTRAINT on two torsions"],
        "METAD on a grid": METAD.format(pace=PACE),
        "OPES_METAD": CALLED_BACK["OPES_METAD"],
        "COORDINATION with 500 waters": SOLVATED["COORDINATION of the solute with 500 waters"],
        "RMSD": SOLVATED["RMSD of the solute"].format(**files),
        "PATHMSD of 20 models": LATER["PATHMSD of 20 models of the solute"].format(**files),
    }
    network = network_inputs(folder / "network.ptc")
    made["learned variable of 8 distances"] = network["8 distances, RESTRAINT"]
    return made


def simulation_of(
    molecule: Molecule, text: str, backend: str, platform: openmm.Platform, folder: Path
) -> tuple[app.Simulation, PlumedBias | None]:
    """A Simulation under an input, and its bias."""
    system = openmm.XmlSerializer.clone(molecule.system)
    bias = None
    if text:
        bias = PlumedBias(
            text, molecule.topology, temperature=300.0, backend=backend, directory=folder
        )
        bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.002)
    how = {"Precision": "mixed"} if platform.getName() in ("CUDA", "HIP", "OpenCL") else {}
    made = app.Simulation(molecule.topology, system, integrator, platform, how)
    made.context.setPositions(molecule.positions)
    if bias is not None:
        bias.attach(made)
    return made, bias


def seconds_of(simulation: app.Simulation, steps: int) -> float:
    """How long steps take, until their end is known here."""
    start = time.perf_counter()
    simulation.step(steps)
    simulation.context.getState(energy=True)
    return time.perf_counter() - start


def compared(plain: app.Simulation, other: app.Simulation) -> tuple[float, float]:
    """Rate of one over that of plain MD, and microseconds a step more; medians of rounds."""
    steps = max(1, int(BLOCK / seconds_of(plain, 20) * 20))
    seconds_of(other, max(1, steps // 5))
    ratios, more = [], []
    for _ in range(ROUNDS):
        before, own, after = (seconds_of(s, steps) for s in (plain, other, plain))
        ratios.append((before + after) / 2 / own)
        more.append((own - (before + after) / 2) / steps * 1e6)
    return statistics.median(ratios), statistics.median(more)


def bias_rows(
    n_atoms: int, platform: openmm.Platform, folder: Path, until: float
) -> Iterator[dict[str, Any]]:
    """A row for each bias, and one for frames of all atoms."""
    molecule = in_water(n_atoms)
    n_atoms = molecule.system.getNumParticles()
    texts = inputs_of(folder)
    plain, _ = simulation_of(molecule, texts.pop("plain"), "native", platform, folder)
    openmm.LocalEnergyMinimizer.minimize(plain.context, 100, 100)
    start = plain.context.getState(positions=True).getPositions()
    rate = 200 / seconds_of(plain, 200)
    yield {"atoms": n_atoms, "what": "plain MD, steps/s", "value": round(rate, 1)}
    backends = ["native", *(["plugin"] if available() else [])]
    for name, backend in [(n, b) for n in texts for b in backends]:
        if time.monotonic() > until:
            yield {"atoms": n_atoms, "what": f"{name}, {backend}: left out", "value": None}
            continue
        with tempfile.TemporaryDirectory() as own:
            other, _ = simulation_of(molecule, texts[name], backend, platform, Path(own))
            other.context.setPositions(start)
            ratio, more = compared(plain, other)
        row = {"atoms": n_atoms, "what": f"{name}, {backend}", "value": round(ratio, 4)}
        yield row | {"us a step more": round(more, 1)}
    if time.monotonic() < until:
        yield frames_row(molecule, start, platform, rate)


def frames_row(
    molecule: Molecule, start: Any, platform: openmm.Platform, rate: float
) -> dict[str, Any]:
    """The same RESTRAINT with a FrameReporter of all atoms and without."""
    runs = []
    with tempfile.TemporaryDirectory() as own:
        for part in ("with", "without"):
            folder = Path(own) / part
            folder.mkdir()
            text = SOLVATED["RESTRAINT on two torsions"]
            run, bias = simulation_of(molecule, text, "native", platform, folder)
            run.context.setPositions(start)
            runs.append(run)
            if part == "with":
                frames = FrameReporter(folder / "frames", EVERY, bias, atoms="all")
                run.reporters.append(frames)
        steps = max(EVERY, int(BLOCK * rate) // EVERY * EVERY)
        parts = [[seconds_of(run, steps) for run in runs] for _ in range(3)]
        frames.close()
    ratio = statistics.median(without / with_them for with_them, without in parts)
    n_atoms = molecule.system.getNumParticles()
    return {"atoms": n_atoms, "what": f"FrameReporter every {EVERY}", "value": round(ratio, 4)}


def candidate_rows(platform: str) -> Iterator[dict[str, Any]]:
    """Energies of candidates in vacuum: one call for all, and one for each."""
    molecule = alanine_dipeptide("C7eq")
    noise = np.random.default_rng(0).normal(scale=0.001, size=(CANDIDATES, 22, 3))
    x, potential = molecule.positions + noise, Potential(molecule.system, platform=platform)
    potential.energies(x)
    for name, parts in (("together", [x]), ("one by one", x[:, None])):
        start = time.perf_counter()
        for part in parts:
            potential.energies(part)
        found = (time.perf_counter() - start) / CANDIDATES * 1e6
        what = f"energy of a candidate, {CANDIDATES} {name}, us"
        yield {"atoms": 22, "what": what, "value": round(found, 1)}


def network_rows(device: str) -> Iterator[dict[str, Any]]:
    """Training, refining and generation on a device, alanine dipeptide in vacuum."""
    molecule = alanine_dipeptide("C7eq")
    with tempfile.TemporaryDirectory() as folder:
        frames = biased_run(Run("ALA", "vacuum", 100_000, 1), Path(folder)).frames
    potential = Potential(molecule.system)
    for kind in ("MLPGenerator", "FlowGenerator"):
        for batch in BATCHES:
            settings = TrainingSettings(
                generator=kind, steps=STEPS, batch=batch, report_every=SHOWN
            )
            gan = ConditionalGAN.fit(frames, molecule.topology, settings, device=device)
            yield _step_row(f"training a {kind}", gan.history, batch, device)
    rows = rows_for(gan, frames, molecule.topology)
    for batch in BATCHES:
        refining = RefiningSettings(steps=STEPS, batch=batch, report_every=SHOWN)
        _, history = refine(gan, potential, None, refining, frames=rows)
        yield _step_row("refining, energies by Reference,", history, batch, device)
    cvs = np.tile(frames.cvs[:1], (20_000, 1))
    gan.sample_with_log_prob(cvs)
    start = time.perf_counter()
    gan.sample_with_log_prob(cvs)
    found = (time.perf_counter() - start) / len(cvs) * 1e6
    what = f"a configuration with its density, {device}, us"
    yield {"atoms": 22, "what": what, "value": round(found, 2)}


def _step_row(what: str, history: list[dict], batch: int, device: str) -> dict[str, Any]:
    """Median time of a step."""
    found = statistics.median(np.diff([row["seconds"] for row in history])) / SHOWN * 1e3
    what = f"a step of {what} {batch} rows, {device}, ms"
    return {"atoms": 22, "what": what, "value": round(found, 2)}


def all_rows(sizes: list[int], platform: openmm.Platform, until: float) -> Iterator[dict[str, Any]]:
    """Rows of all boxes, and of candidates."""
    with tempfile.TemporaryDirectory() as folder:
        for n_atoms in sizes:
            if time.monotonic() > until:
                yield {"atoms": n_atoms, "what": "left out, the minutes are over", "value": None}
            else:
                yield from bias_rows(n_atoms, platform, Path(folder), until)
    yield from candidate_rows(platform.getName())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--platform", default="CUDA")
    parser.add_argument("--atoms", type=int, nargs="+", default=[2000, 25_000, 90_000])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda", help="of torch")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("openmm_cgan").setLevel(logging.ERROR)
    until = time.monotonic() + 60 * args.minutes
    made, rows = provenance(), []
    print(f"rates over plain MD on {args.platform}; {in_words(made)}")
    for row in _found(args, until):
        rows.append(row)
        more = f"  {row['us a step more']:>10} us" if "us a step more" in row else ""
        print(f"{row['atoms']:>7}  {row['what']:68s} {row['value']!s:>10}{more}", flush=True)
    if args.json:
        command = f"python {' '.join(sys.argv)}"
        args.json.write_text(json.dumps(made | {"command": command, "rows": rows}, indent=1) + "\n")


def _found(args: argparse.Namespace, until: float) -> Iterator[dict[str, Any]]:
    """All rows that can be had here."""
    try:
        platform = openmm.Platform.getPlatformByName(args.platform)
        system = openmm.System()
        system.addParticle(1.0)
        openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    except openmm.OpenMMException as error:  # no such library, or no device
        print(f"OpenMM can not run on {args.platform} here ({error}): nothing is measured on it")
    else:
        yield from all_rows(args.atoms, platform, until)
    yield from network_rows("cpu")
    try:
        device_named(args.device)
    except ValueError as error:
        print(f"{error}: nothing is measured on it")
    else:
        if args.device != "cpu":
            yield from network_rows(args.device)


if __name__ == "__main__":
    main()
