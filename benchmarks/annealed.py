"""What annealing of candidates is worth: effective samples from as many energies, and its symmetry.

At fixed (phi, psi), where conditions cost nothing, configurations of a flow are weighed as they
are, and annealed as a pilot finds best at that place (mode="annealed"); Kish's effective sample
size over the energies evaluated, those of the pilot apart. And moves of a double well in two
dimensions, from exact samples: how often they go from the left to the right and back.

    python benchmarks/annealed.py --molecule ala|val|ala5 --model FILE [--energies N] [--json FILE]
    python benchmarks/annealed.py --flux MOVES [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from openmm import app
from provenance import provenance

from openmm_cgan import GAS_CONSTANT, ConditionalGAN, PlumedBias
from openmm_cgan.metrics import kish_effective_sample_size
from openmm_cgan.potentials import Potential
from openmm_cgan.proposals import Screen, ScreenSettings
from openmm_cgan.proposals.selection import choose
from openmm_cgan.reporters.moves import AnnealedMove, Schedule
from openmm_cgan.reporters.moves.annealing import Points, Space, annealed
from openmm_cgan.reporters.moves.pilot import Plan, best_plan
from openmm_cgan.testsystems import (
    MIDDLE_ATOMS,
    PHI_ATOMS,
    PSI_ATOMS,
    Molecule,
    alanine_dipeptide,
    alanine_pentapeptide,
    valine_dipeptide,
)

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE
PLACES = {"beta": (-2.4, 2.6), "PPII": (-1.2, 2.5), "alpha": (-1.1, -0.7)}


def of_valine(topology: app.Topology) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Atoms of phi and psi."""
    before, own, after = (
        {atom.name: atom.index for atom in residue.atoms()} for residue in topology.residues()
    )
    middle = (own["N"], own["CA"], own["C"])
    return (before["C"], *middle), (*middle, after["N"])


def molecule_of(name: str) -> tuple[Molecule, tuple[tuple[int, ...], ...], str]:
    """A molecule, the atoms of its CVs, and the platform that is quickest."""
    if name == "ala5":
        return alanine_pentapeptide(), MIDDLE_ATOMS, "CPU"
    if name == "val":
        molecule = valine_dipeptide()
        return molecule, of_valine(molecule.topology), "Reference"
    return alanine_dipeptide("C7eq"), (PHI_ATOMS, PSI_ATOMS), "Reference"


class At:
    """Conditions that are one place."""

    def __init__(self, place: tuple[float, ...]) -> None:
        self.place = np.array(place)

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return np.tile(self.place, (n, 1))

    def log_density(self, cvs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros(len(cvs))


def move_of(name: str, model: Path) -> AnnealedMove:
    molecule, atoms, platform = molecule_of(name)
    phi, psi = (",".join(str(atom + 1) for atom in four) for four in atoms)
    text = f"phi: TORSION ATOMS={phi}\npsi: TORSION ATOMS={psi}\nPRINT ARG=phi,psi\n"
    loose = ScreenSettings(clash_fraction=0.0, bond_tolerance=np.inf)
    return AnnealedMove(
        ConditionalGAN.load(model),
        PlumedBias(text, molecule.topology, temperature=TEMPERATURE),
        Potential(molecule.system, platform=platform),
        Screen(molecule.topology, molecule.positions, None, loose),
        KT,
    )


def effective(move: AnnealedMove, plan: Plan, energies: int, seed: int) -> tuple[float, int]:
    """Effective samples of so many energies by a plan, and the energies."""
    rng, n = np.random.default_rng(seed), int(energies / plan.cost)
    counted = move.evaluated
    begun = move.evaluate(*move.drawn(n, rng))
    paths = annealed(begun, np.zeros(n, dtype=bool), plan.schedule, move.space, rng)
    return kish_effective_sample_size(paths.log_weights), move.evaluated - counted


def worth(name: str, model: Path, energies: int, places: list[str]) -> list[dict[str, object]]:
    """A row for each place."""
    move, rows = move_of(name, model), []
    for place in places:
        move.conditions, begun = At(PLACES[place]), time.perf_counter()
        counted = move.evaluated
        plan, _ = best_plan(
            lambda n, rng: move.evaluate(*move.drawn(n, rng)), move.space, (1, 2, 4)
        )
        pilot = move.evaluated - counted
        found = {}
        for label, how in (("plain", Plan(Schedule(), 1.0, 1.0)), ("annealed", plan)):
            size, spent = effective(move, how, energies, seed=1)
            found[label] = 1000 * size / spent
        rows.append(
            {
                "name": f"{name} at {place}: effective samples of 1,000 energies, annealed/plain",
                "value": round(found["annealed"] / found["plain"], 2),
                "peers": {key: round(value, 2) for key, value in found.items()}
                | {
                    "levels": len(plan.schedule.levels),
                    "energies of a candidate": round(float(plan.cost), 2),
                }
                | {"pilot, energies": pilot}
                | {"energies each": energies, "seconds": round(time.perf_counter() - begun)},
            }
        )
        print(rows[-1]["name"], rows[-1]["value"], rows[-1]["peers"], flush=True)
    return rows


# ---- flux between the wells of a double well along a normal number


def double_well(latent: NDArray, conditions: NDArray) -> Points:
    """exp(-3 (z^2 - 1)^2 - 0.4 z) over the normal density."""
    z = latent[:, 0]
    log_ratios = 0.5 * z * z - 3.0 * (z * z - 1) ** 2 - 0.4 * z
    n, none = len(z), np.zeros(len(z))
    slopes = z - 12.0 * z * (z * z - 1) - 0.4
    return Points(
        latent, conditions, np.zeros((n, 1)), np.zeros((n, 1, 3)), np.full(n, ""), none, none,
        log_ratios, slopes[:, None], none, np.zeros((n, 1)),
    )  # fmt: skip


def flux(moves: int, evaluate: Callable[[NDArray, NDArray], Points]) -> dict[str, object]:
    """Moves from the left to the right and back, of independent exact samples, one each."""
    rng, grid = np.random.default_rng(5), np.linspace(-3, 3, 60001)
    density = np.exp(-3.0 * (grid * grid - 1) ** 2 - 0.4 * grid)
    total = np.cumsum(density) / density.sum()
    z = np.interp(rng.random(moves), total, grid)[:, None]
    schedule = Schedule((0.3, 0.7), (0.5, 0.5), 1, 0.0)
    both = np.concatenate([z, rng.standard_normal((moves, 1))])
    begun = evaluate(both, np.zeros((2 * moves, 0)))
    backwards = np.arange(2 * moves) < moves
    paths = annealed(begun, backwards, schedule, Space(1, evaluate), rng)
    chosen = choose(paths.log_weights[:moves], paths.log_weights[moves:, None], rng)
    after = np.where(chosen[:, None] >= 0, paths.points.latent[moves:], z)[:, 0]
    right = int(((z[:, 0] < 0) & (after > 0)).sum())
    left = int(((z[:, 0] > 0) & (after < 0)).sum())
    off = (right - left) / np.sqrt(right + left)
    return {
        "name": f"flux between two wells in {moves:,} annealed moves, off symmetry",
        "value": round(float(off), 2),
        "unit": "standard errors",
        "target": "within 2.5",
        "met": bool(abs(off) < 2.5),
        "peers": {"to the right": right, "to the left": left},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--molecule", choices=["ala", "val", "ala5"])
    parser.add_argument("--model", type=Path, help="a flow of it, given phi and psi")
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES))
    parser.add_argument("--energies", type=int, default=4000, help="at each place, of each way")
    parser.add_argument("--flux", type=int, default=0, help="moves")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made = provenance()
    rows = []
    if arguments.molecule:
        rows = worth(arguments.molecule, arguments.model, arguments.energies, arguments.places)
    if arguments.flux:
        rows.append(flux(arguments.flux, double_well))
        print(rows[-1])
    for row in rows:
        row["command"] = f"python {' '.join(sys.argv)}"
    if arguments.json:
        arguments.json.write_text(json.dumps({"made": made, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
