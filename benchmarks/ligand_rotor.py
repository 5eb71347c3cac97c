"""Local moves of a ligand's rotor in its host: populations and changes against plain dynamics.

Cucurbit[7]uril with 1,4-bis(hydroxymethyl)bicyclo[2.2.2]octane (156 atoms, of openmmtools),
hydrogens of 3 dalton and steps of 4 fs. A flow makes the hydroxyl group and the two hydrogens of a
carbon at the host's rim, given how the ligand's other one is turned. It is taught on metadynamics
of its torsion in OBC2.

    teach    metadynamics in OBC2, a walker at a time, and the flow
    obc2     dynamics, and dynamics with local moves, in OBC2
    water    the same in TIP3P, PME, at constant volume; the flow knows nothing of water

Over many turns of the cage in its host each rotamer has a third of all time; while it stands, which
takes nanoseconds, those that point at a rim oxygen have more. They are told apart as in
local_moves.py; force evaluations are steps and energies of the whole System, without training and
without the quick energies by which candidates are chosen. Dynamics goes on `--longer` times as many
steps as with moves.

    python benchmarks/ligand_rotor.py teach obc2 water --data FOLDER [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from local_moves import Peptide, dynamics, metadynamics, reference, trained
from openmm import app, unit
from provenance import in_words, provenance
from scipy.stats import chi2

from openmm_cgan import ConditionalGAN
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.testsystems import Molecule

TIMESTEP = 0.004  # ps
HEAVY = {"constraints": app.HBonds, "hydrogenMass": 3 * unit.dalton}


class Rotor(Peptide):
    """The ligand in its host; the torsion that is hidden is that of one hydroxymethyl group."""

    given: ClassVar[str] = "other"

    @property
    def chi1(self) -> tuple[int, ...]:
        return self.number("C1", "C4", "C9", "O1")

    @property
    def side_chain(self) -> list[int]:
        return list(self.number("O1", "H13", "H14", "H15"))

    @property
    def torsions(self) -> str:
        named = {"other": self.number("C2", "C3", "C10", "O2"), "chi1": self.chi1}
        return "".join(
            f"{name}: TORSION ATOMS={','.join(str(a + 1) for a in atoms)}\n"
            for name, atoms in named.items()
        )


def rotor(options: argparse.Namespace, solvent: str) -> Rotor:
    """The complex where its dynamics begins; what was relaxed once is kept."""
    from openmmtools import testsystems

    if solvent == "obc2":
        made = testsystems.HostGuestImplicit(implicitSolvent=app.OBC2, **HEAVY)
    else:
        made = testsystems.HostGuestExplicit(
            nonbondedMethod=app.PME, nonbondedCutoff=0.9 * unit.nanometer, **HEAVY
        )
    positions = np.array(made.positions.value_in_unit(unit.nanometer))
    found = Rotor(Molecule(made.topology, made.system, positions), 1, TIMESTEP)
    path = options.data / f"{solvent}.npy"
    if not path.exists():
        bias = found.bias(options.data / f"{solvent}-relaxed")
        simulation = found.simulation(bias, "CPU", 1)
        simulation.minimizeEnergy(maxIterations=300)
        simulation.context.setVelocitiesToTemperature(300.0, 1)
        simulation.step(2500)
        state = simulation.context.getState(positions=True)
        np.save(path, state.getPositions(asNumpy=True)._value)
        bias.close()
    found.molecule.positions[:] = np.load(path)
    return found


def teach(options: argparse.Namespace) -> dict[str, Any]:
    """Metadynamics in OBC2 and the flow."""
    made = rotor(options, "obc2")
    folders = [options.data / f"metad-{k}" for k in range(options.walkers)]
    for k, folder in enumerate(folders):
        metadynamics(made, folder, options.metad, k + 1, "CPU")
    begun = time.process_time()
    gan = trained(made, options.data, options.train_seconds, 1)
    return {
        "atoms made": len(gan.atoms), "populations": reference(folders),
        "training seconds": time.process_time() - begun,
        "evaluations": options.metad * options.walkers,
    }  # fmt: skip


def compared(options: argparse.Namespace, solvent: str) -> dict[str, Any]:
    """Dynamics, and dynamics with moves."""
    gan, made = ConditionalGAN.load(options.data / "side_chain.npz"), rotor(options, solvent)
    steps = options.steps if solvent == "obc2" else options.water_steps
    local = dynamics(made, options.data / f"{solvent}-local", gan, steps, options, "CPU")
    longer = steps * options.longer
    plain = dynamics(made, options.data / f"{solvent}-plain", None, longer, options, "CPU")
    rates = [one["changes in 1e5 evaluations"] for one in (local, plain)]
    most = chi2.ppf(0.95, 2 * plain["changes"] + 2) / 2 / plain["evaluations"] * 1e5
    return {
        "atoms": len(made.molecule.positions), "plain": plain, "local": local,
        "over plain": rates[0] / rates[1] if rates[1] else None,
        "over plain at 95 %, more than": rates[0] / most,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=["teach", "obc2", "water"])
    parser.add_argument("--data", type=Path, required=True, help="all that is made is kept here")
    parser.add_argument("--walkers", type=int, default=4)
    parser.add_argument("--metad", type=int, default=40_000, help="steps of each walker")
    parser.add_argument("--train-seconds", type=float, default=300.0)
    parser.add_argument("--steps", type=int, default=50_000, help="in OBC2, with moves")
    parser.add_argument("--water-steps", type=int, default=20_000, help="with moves")
    parser.add_argument("--longer", type=int, default=4)
    parser.add_argument("--interval", type=int, default=50)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    made = provenance()
    options.data.mkdir(parents=True, exist_ok=True)
    print(in_words(made))
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for name in options.parts:
        found = teach(options) if name == "teach" else compared(options, name)
        known[name] = {**found, **made, "command": " ".join(sys.argv[1:])}
        print(json.dumps({name: known[name]}, indent=1), flush=True)
        if options.json:
            write_atomically(options.json, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
