"""openmm-cgan explore from one structure, with CVs or without: what is claimed, is it true?

* alanine dipeptide, vacuum: free energy of 0 < phi < 2.3 rad (C7ax) less that of the rest, against
  benchmarks/reference;
* valine dipeptide, vacuum, CVs phi and psi, chi1 hidden: the same interval, against metadynamics on
  phi and chi1 (--reference makes it and keeps it in the JSON file);
* butane, vacuum: 0 < phi < 2.1 rad (gauche of one hand) less the rest, against metadynamics on phi
  (--reference too);
* ethanediol, vacuum: |phi| < 2.1 rad (gauche of both hands) less the rest, the same way; its
  hydroxyls turn and are no inputs of learned coordinates;
* glycine dipeptide, vacuum: phi > 0 less phi < 0, which is 0: it has no hand.

With --cvs diffusion-map the CVs are learned from the torsions that turn, and the one of the
difference is not biased.

For each seed: force evaluations of everything, training apart from none, the claim and how far it
is off in claimed errors; or why nothing is claimed. Rows are added to the JSON file as seeds end,
and those that it has are not run again.

    python benchmarks/explore.py [--system NAME] [--cvs given|diffusion-map]
                                 [--seeds N] [--first SEED] [--reference STEPS]
                                 [--json FILE] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from molecule_runs import metad_input, torsion_lines
from provenance import in_words, provenance
from small_molecules import build

from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.cli.exploration import Workshop
from openmm_cgan.cli.exploration_folder import ExplorationFolder
from openmm_cgan.cli.explored_coordinates import rounds_of
from openmm_cgan.cli.explored_difference import explore_without_cvs
from openmm_cgan.cli.shipped import read_reference
from openmm_cgan.cli.simulations import RunSettings, run_biased
from openmm_cgan.explore.circle import explore
from openmm_cgan.explore.settings import ExploreSettings
from openmm_cgan.frames import read_frames
from openmm_cgan.free_energy.biased_runs import BiasedRun, reweight_runs
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.testsystems import alanine_dipeptide, valine_dipeptide

MOLECULES = {
    "alanine": lambda: alanine_dipeptide("C7eq"),
    "valine": valine_dipeptide,
    "butane": lambda: build("butane").molecule,
    "ethanediol": lambda: build("ethanediol").molecule,
    "glycine": lambda: build("GLY").molecule,
}
BUILT = {"butane": "butane", "ethanediol": "ethanediol", "glycine": "GLY"}  # names of recipes
CVS = {
    "alanine": "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\nPRINT ARG=phi,psi\n",
    "valine": "phi: TORSION ATOMS=5,7,9,13\npsi: TORSION ATOMS=7,9,13,23\nPRINT ARG=phi,psi\n",
}
CHI1 = CVS["valine"].replace("PRINT", "chi1: TORSION ATOMS=7,9,11,15\nPRINT") + (
    "METAD ARG=phi,chi1 SIGMA=0.35,0.35 HEIGHT=1.2 BIASFACTOR=12 PACE=250 "
    "GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=90,90 FILE=HILLS\n"
)
DIFFERENCES = {
    "alanine": "phi:0..2.3",
    "valine": "phi:0..2.3",
    "butane": "phi:0..2.1",
    "ethanediol": "phi:-2.1..2.1",
    "glycine": "phi:-pi..0|0..pi",
}
RESULTS = Path(__file__).parent / "results" / "explore.json"
PLATFORM = "Reference"
CV_KINDS = ("given", "diffusion-map")


def cvs_of(system: str) -> str:
    """The CVs of a system, with their PRINT."""
    if system not in BUILT:
        return CVS[system]
    built = build(BUILT[system])
    return f"{torsion_lines(built)}PRINT ARG={','.join(built.cvs)}\n"


def one_seed(system: str, seed: int, folder: Path, budget: int, cvs: str) -> dict[str, object]:
    """One exploration, or what is left of it."""
    folder.mkdir(parents=True, exist_ok=True)
    plumed = folder / "cvs.dat"
    plumed.write_text(cvs_of(system))
    settings = ExploreSettings(DIFFERENCES[system], seed=seed, budget_steps=budget)
    place = ExplorationFolder(
        MOLECULES[system](), plumed, folder / "explored", settings, PLATFORM, workers=0
    )
    place.folder.mkdir(exist_ok=True)
    started = time.process_time()
    if cvs == "given":
        outcome = explore(Workshop(place), settings, place.folder, say=_say)
    else:
        outcome = explore_without_cvs(place, rounds_of(place), _say)
    return {
        "system": system,
        "cvs": cvs,
        "seed": seed,
        "converged": outcome.converged,
        "value": round(outcome.value, 3),
        "error": round(outcome.error, 3),
        "evaluations": outcome.evaluations,
        "reason": outcome.reason,
        "decisions": [step.decision.action for step in outcome.steps],
        "processor seconds": round(time.process_time() - started),
        **provenance(),
    }


def _say(line: str) -> None:
    print(" ", line, flush=True)


def reference_of(system: str, steps: int, folder: Path) -> dict[str, object]:
    """Metadynamics, reweighted: of valine on phi and chi1, of the others on their CVs."""
    text = CHI1 if system == "valine" else metad_input(build(BUILT[system]))
    run = RunSettings(platform=PLATFORM, seed=7, frames_every=250)
    begun = (folder / "run.json").exists()
    run_biased(MOLECULES[system](), text, None if begun else steps, folder, run, begun)
    found = BiasedRun.of(read_frames(folder / "frames"), folder / "plumed.dat", folder)
    value, error = StateDifference.of(DIFFERENCES[system]).estimate(reweight_runs([found]))
    return {"value": round(value, 3), "error": round(error, 3), "steps": steps, **provenance()}


def read_results(path: Path) -> dict[str, object]:
    """What the file has so far."""
    return json.loads(path.read_text()) if path.exists() else {"rows": []}


def print_table(results: dict[str, object]) -> None:
    """Claims beside references."""
    made = ("valine", "butane", "ethanediol")
    references = {name: results.get(f"{name} reference") for name in made}
    references["glycine"] = {"value": 0.0, "error": 0.0}  # mirror images
    shipped = read_reference().difference
    references["alanine"] = {"value": shipped.value, "error": shipped.error}
    for system, cvs in itertools.product(references, CV_KINDS):
        reference = references[system]
        rows = [
            row
            for row in results["rows"]  # type: ignore[attr-defined]
            if (row["system"], row.get("cvs", "given")) == (system, cvs)
        ]
        if not rows:
            continue
        known = "none" if reference is None else f"{reference['value']} +- {reference['error']}"
        wanted = f"F({DIFFERENCES[system]}) [kJ/mol]"
        print(f"{system}, CVs {cvs}, {wanted}; reference {known}")
        good = 0
        for row in rows:
            claim = f"{row['value']:6.2f} +- {row['error']:.2f}"
            off = ""
            if reference is not None and row["converged"]:
                both = float(np.hypot(row["error"], reference["error"]))
                sigmas = abs(row["value"] - reference["value"]) / both
                good += sigmas <= 2
                off = f"{sigmas:.1f} errors off"
            words = off if row["converged"] else row["reason"]
            print(f"  seed {row['seed']:2d} {row['evaluations']:9,d} evaluations  {claim}  {words}")
        claimed = [row for row in rows if row["converged"]]
        median = np.median([row["evaluations"] for row in claimed]) if claimed else float("nan")
        within = "" if reference is None else f", {good} within 2 errors"
        print(
            f"  {len(claimed)} of {len(rows)} claimed{within}; {median:,.0f} evaluations in the "
            "median"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--system", choices=MOLECULES, default="alanine")
    parser.add_argument("--seeds", type=int, default=0, help="how many; 0: print only")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--cvs", choices=CV_KINDS, default="given")
    parser.add_argument("--budget", type=int, default=1_000_000, help="force evaluations")
    parser.add_argument("--reference", type=int, help="steps of a reference that is to be made")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, help="of the explorations; default: temporary")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.folder or Path(name)
        if arguments.reference:
            system = arguments.system
            found = reference_of(system, arguments.reference, folder / f"{system}-reference")
            _keep(arguments.json, {f"{system} reference": found})
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            this = (arguments.system, arguments.cvs, seed)
            rows = read_results(arguments.json)["rows"]
            if any((r["system"], r.get("cvs", "given"), r["seed"]) == this for r in rows):  # type: ignore[attr-defined]
                continue
            made = provenance()
            print(f"{arguments.system}, CVs {arguments.cvs}, seed {seed}; {in_words(made)}")
            there = folder / "-".join(map(str, this))
            row = one_seed(arguments.system, seed, there, arguments.budget, arguments.cvs) | made
            _keep(arguments.json, {"rows": [row]})
    print_table(read_results(arguments.json))


def _keep(path: Path, new: dict[str, object]) -> None:
    """Add to the file as it is now: another process may have."""
    results = read_results(path)
    rows = [*results["rows"], *new.pop("rows", [])]  # type: ignore[misc]
    results |= new | {"rows": rows, "command": f"python {' '.join(sys.argv)}"}
    write_atomically(path, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
