"""Whether every keyword that is accepted natively is heeded: one after the other, beside libplumed.

    python benchmarks/plumed_keywords.py [--only METAD] [--json FILE]

Each statement is run by the driver over twelve frames of 24 atoms with one keyword more than the
plain one, natively and by libplumed: all files that come out, forces and virial among them, agree
to 2e-5 of each number. What is refused natively is counted apart. Where the two are known to
differ, KNOWN says why.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from provenance import provenance

from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.input.language import PlumedInputError

N_ATOMS, N_FRAMES, TOLERANCE = 24, 12, 2e-5
BOX = np.array([[1.6, 0, 0], [0.5, 1.7, 0], [-0.4, 0.3, 1.8]])
BASE = "d: DISTANCE ATOMS=1,2\ne: DISTANCE ATOMS=3,7\nt: TORSION ATOMS=1,2,3,4\n"
GRID = "GRID_MIN=0,-pi GRID_MAX=4,pi"
GRID_1 = "GRID_MIN=0,0 GRID_MAX=4,4"
EXPANDED = "\no: OPES_EXPANDED ARG=x.d,x.t PACE=1 OBSERVATION_STEPS=3"
# four bins, for PLUMED rounds the limits of bins to six digits
OF_VECTORS = (
    "MEAN", "SUM", "LOWEST", "HIGHEST", "MIN={BETA=30}", "MAX={BETA=0.5}", "ALT_MIN={BETA=2}",
    "LESS_THAN={RATIONAL R_0=2}", "MORE_THAN={RATIONAL R_0=0.3}",
    "BETWEEN={GAUSSIAN LOWER=0 UPPER=1 SMEAR=0.5}",
    "HISTOGRAM={GAUSSIAN LOWER=0 UPPER=2 NBINS=4 SMEAR=0.4}",
)  # fmt: skip
OPES = (
    "", "KERNEL_CUTOFF=3", "RECURSIVE_MERGE_OFF COMPRESSION_THRESHOLD=2", "NO_ZED", "NLIST",
    "NLIST NLIST_PACE_RESET", "NLIST NLIST_PARAMETERS=4,0.5", "CALC_WORK", "FMT=%12.3f",
    "EXCLUDED_REGION=e", "SIGMA_MIN=0.09,0.28", "FIXED_SIGMA", "EPSILON=0.01", "BIASFACTOR=5",
    "TEMP=400", "COMPRESSION_THRESHOLD=0.2", "STATE_WFILE=S STATE_WSTRIDE=4",
    "STATE_WFILE=S STATE_WSTRIDE=4 STORE_STATES", "EXTRA_BIAS=e", "SERIAL", "BIASFACTOR=inf",
)  # fmt: skip
WALLS = ("", "EPS=0.5,0.3", "EXP=3,4", "OFFSET=0.1,0.2", "EXP=3,1 OFFSET=0.1,0.3 EPS=2,0.5")

# A statement, and the words that it gets one after the other
INPUTS: dict[str, tuple[str, ...]] = {
    f"m: METAD ARG=d,t SIGMA=0.1,0.4 HEIGHT=1.2 PACE=1 {GRID}": (
        "", "BIASFACTOR=5", "DAMPFACTOR=3", "BIASFACTOR=4 GRID_NOSPLINE", "GRID_SPARSE",
        "GRID_BIN=40,30 GRID_SPACING=0.05,0.3", "BIASFACTOR=5 CALC_RCT RCT_USTRIDE=2",
        "CALC_MAX_BIAS", "BIASFACTOR=5 CALC_WORK", "ACCELERATION BIASFACTOR=5", "FMT=%12.4f",
        "TTBIASFACTOR=6 TTBIASTHRESHOLD=0.5 TTALPHA=0.6 TRANSITIONWELL0=0.5,1",
        "ACCELERATION FREQUENCY_ADAPTIVE FA_UPDATE_FREQUENCY=2 FA_MAX_PACE=5 "
        "FA_MIN_ACCELERATION=1.5 BIASFACTOR=5", "UPDATE_FROM=3 UPDATE_UNTIL=8", "FILE=H",
        "GRID_WFILE=G GRID_WSTRIDE=4 STORE_GRIDS", "TEMP=350 BIASFACTOR=3",
    ),
    "m: METAD ARG=d,t SIGMA=0.1,0.4 HEIGHT=1.2 PACE=1": (
        "", "NLIST", "NLIST NLIST_PARAMETERS=3,0.3", "CALC_WORK", "BIASFACTOR=1",
    ),
    "m: METAD ARG=d SIGMA=0.1 PACE=1": (
        "HEIGHT=1 INTERVAL=0.3,0.9", "HEIGHT=1 INTERVAL=0.3,0.9 GRID_MIN=0 GRID_MAX=4",
        "TAU=3 BIASFACTOR=5", "HEIGHT=1 ADAPTIVE=GEOM SIGMA_MIN=0.01 SIGMA_MAX=0.2",
    ),
    "m: METAD ARG=d SIGMA=3 PACE=1 HEIGHT=1": ("ADAPTIVE=DIFF SIGMA_MIN=0.02",),
    "m: PBMETAD ARG=d,e SIGMA=0.1,0.2 HEIGHT=1.2 PACE=1": (
        "", "BIASFACTOR=5", GRID_1, f"BIASFACTOR=5 {GRID_1}", f"{GRID_1} GRID_NOSPLINE",
        f"{GRID_1} GRID_BIN=50,60 GRID_SPACING=0.3,0.01", f"{GRID_1} GRID_SPARSE",
        "INTERVAL_MIN=0.3,0.2 INTERVAL_MAX=1,1.2", f"{GRID_1} GRID_WFILES=A,B GRID_WSTRIDE=5",
        "UPDATE_FROM=3 UPDATE_UNTIL=8", "SELECTOR=e SELECTOR_ID=0", "FMT=%10.3f", "FILE=A,B",
    ),
    "o: OPES_METAD ARG=d,t PACE=1 BARRIER=20 SIGMA=0.1,0.3": OPES,
    "o: OPES_METAD_EXPLORE ARG=d,t PACE=1 BARRIER=20 SIGMA=0.1,0.3": OPES,
    "x: ECV_UMBRELLAS_LINE ARG=d,t CV_MIN=0.2,-1 CV_MAX=1,1 SIGMA=0.2 {}" + EXPANDED: (
        "", "BARRIER=5", "SPACING=0.5", "ADD_P0", "LOWER_HALF_ONLY", "TEMP=250",
    ),
    "x: ECV_LINEAR ARG=d LAMBDA=1 LAMBDA_MIN=0.5 LAMBDA_MAX=2 {}\n"
    "o: OPES_EXPANDED ARG=x.d PACE=1 OBSERVATION_STEPS=3": ("", "TEMP=300", "LAMBDA_STEPS=4"),
    "x: ECV_LINEAR ARG=d LAMBDA=1 LAMBDA_MIN=0.5 LAMBDA_MAX=2\n"
    "o: OPES_EXPANDED ARG=x.d PACE=1 OBSERVATION_STEPS=3": (
        "CALC_WORK", "STATE_WFILE=S STATE_WSTRIDE=3", "FILE=D PRINT_STRIDE=2", "FMT=%9.2f",
    ),
    "w: UPPER_WALLS ARG=d,e AT=0.5,0.5 KAPPA=30,40": (*WALLS, "STRIDE=3"),
    "w: LOWER_WALLS ARG=d,e AT=0.5,0.5 KAPPA=30,40": WALLS,
    "w: RESTRAINT ARG=d,t AT=0.1,1 KAPPA=10,3": ("", "SLOPE=1,2", "STRIDE=2"),
    "w: MOVINGRESTRAINT ARG=d STEP0=0 AT0=0.1 KAPPA0=10 STEP1=6 AT1=1 KAPPA1=50 STEP2=9 AT2=0.5": (
        "", "VERSE=U", "VERSE=L",
    ),
    "w: ABMD ARG=d,e TO=1,0.5 KAPPA=10,30": ("", "MIN=0.01,0.02", "NOISE=0.1,0.2 SEED=5,6"),
    "c: COORDINATION GROUPA=1-8 GROUPB=9-16 R_0=0.3 {}\nBIASVALUE ARG=c": (
        "", "NN=4 MM=9", "D_0=0.1", "PAIR", "NOPBC", "SERIAL", "NLIST NL_CUTOFF=9 NL_STRIDE=1",
    ),
    "c: COORDINATIONNUMBER SPECIES=1-12 SWITCH={RATIONAL R_0=0.4 D_MAX=1.0} {}\n"
    "BIASVALUE ARG=c.*": (*OF_VECTORS, "MOMENTS=2,3"),
    **{
        f"c: {axis}DISTANCES GROUPA=1-3 GROUPB=4-6 {{}}\nBIASVALUE ARG=c.*": OF_VECTORS
        for axis in ("", "X", "Y", "Z")
    },
    "r: RMSD REFERENCE=ref.pdb {}\nBIASVALUE ARG=r": (
        "", "TYPE=OPTIMAL", "TYPE=OPTIMAL-FAST", "TYPE=SIMPLE SQUARED", "TYPE=OPTIMAL NOPBC",
    ),
    "g: GYRATION ATOMS=1-8 {}\nBIASVALUE ARG=g": (
        "", "MASS_WEIGHTED", "NOPBC", "TYPE=TRACE", "TYPE=GTPC_1", "TYPE=ASPHERICITY",
        "TYPE=ACYLINDRICITY", "TYPE=KAPPA2", "TYPE=RGYR_3 MASS_WEIGHTED",
    ),
    "FIT_TO_TEMPLATE REFERENCE=ref.pdb {}\np: POSITION ATOM=12\nBIASVALUE ARG=p.*": (
        "", "TYPE=OPTIMAL", "NOPBC",
    ),
    "c: CENTER ATOMS=1-5 {}\np: DISTANCE ATOMS=c,9\nBIASVALUE ARG=p": (
        "", "MASS", "WEIGHTS=1,2,3,4,5", "NOPBC", "MASS NOPBC",
    ),
}  # fmt: skip
KNOWN = {
    "METAD NLIST": "libplumed counts the steps of a list twice where a step is printed",
    "ABMD": "libplumed goes on with an old force where a step comes nearer than all before",
    "MOVINGRESTRAINT VERSE": "libplumed goes on with an old force where the restraint does not act",
    "XDISTANCES MIN": "libplumed's MIN overflows where a component is negative",
    "YDISTANCES MIN": "libplumed's MIN overflows where a component is negative",
    "ZDISTANCES MIN": "libplumed's MIN overflows where a component is negative",
}


def frames() -> list[Frame]:
    """A random walk of the atoms."""
    rng = np.random.default_rng(3)
    steps = rng.normal(0, 0.04, (N_FRAMES, N_ATOMS, 3))
    return [Frame(x, BOX) for x in rng.random((N_ATOMS, 3)) * 1.5 + np.cumsum(steps, axis=0)]


def write_reference(folder: Path) -> None:
    """A PDB file of eight atoms, with weights that differ."""
    rng, lines = np.random.default_rng(5), []
    for serial, place in enumerate(frames()[0].positions[:8], start=1):
        x, y, z = 10 * place + rng.normal(0, 0.4, 3)
        weights = f"{1 + serial % 2:6.2f}{1 + serial % 3:6.2f}"
        lines.append(f"ATOM  {serial:5d}  C   ALA A   1    {x:8.3f}{y:8.3f}{z:8.3f}{weights}")
    (folder / "ref.pdb").write_text("\n".join([*lines, "END", ""]))


def files_of(text: str, backend: str) -> dict[str, list[list[str]]]:
    """The words of all files that an input leaves."""
    folder = Path(tempfile.mkdtemp())
    write_reference(folder)
    settings = DriverSettings(
        backend=backend,
        directory=folder,
        forces=Path("FORCES"),
        full_virial=True,
        kt=2.5,
        masses=np.arange(1.0, N_ATOMS + 1),
        charges=np.linspace(-1, 1, N_ATOMS),
    )
    run_driver(text, iter(frames()), settings)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {p.name: [line.split() for line in p.read_text().splitlines()] for p in paths}


def agree(one: str, other: str) -> bool:
    """Whether two words are the same, or numbers that are near."""
    if one == other:
        return True
    try:
        a, b = float(one), float(other)
    except ValueError:
        return False
    return (a != a and b != b) or abs(a - b) <= TOLERANCE * max(1.0, abs(a))


def judged(text: str) -> tuple[str, str]:
    """ "same", "refused" or "other", and what is other."""
    try:
        native = files_of(text, "native")
    except (PlumedInputError, RuntimeError) as error:
        return "refused", str(error).splitlines()[0]
    try:
        kernel = files_of(text, "kernel")
    except (PlumedInputError, RuntimeError) as error:
        return "other", f"libplumed refuses: {str(error).splitlines()[0]}"
    if native.keys() != kernel.keys():
        return "other", f"files {sorted(native)}, libplumed has {sorted(kernel)}"
    for name, lines in native.items():
        for number, (mine, theirs) in enumerate(zip(lines, kernel[name], strict=False), start=1):
            if len(mine) != len(theirs) or not all(map(agree, mine, theirs)):
                return "other", f"{name}:{number}: {' '.join(mine)}; {' '.join(theirs)}"
        if len(lines) != len(kernel[name]):
            return "other", f"{name} has {len(lines)} lines, libplumed's {len(kernel[name])}"
    return "same", ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="statements that contain this")
    parser.add_argument("--json", type=Path, help="write the row to this file")
    options = parser.parse_args()
    logging.getLogger("openmm_cgan").setLevel(logging.ERROR)
    made, counts = provenance(), Counter[str]()
    for statement, all_words in INPUTS.items():
        action = statement.split("ARG")[0].replace("{}", "").split()
        name = action[1] if action[0].endswith(":") else action[0]
        for words in all_words if options.only in statement else ():
            line = statement.replace("{}", words) if "{}" in statement else f"{statement} {words}"
            printed = "c.*" if name.endswith(("DISTANCES", "NUMBER")) else "*"
            verdict, why = judged(f"{BASE}{line}\nPRINT ARG={printed} FILE=COLVAR\n")
            known = [KNOWN[key] for key in KNOWN if f"{name} {words}".startswith(key)]
            if verdict == "other" and known:
                verdict, why = "known", known[0]
            counts[verdict] += 1
            if verdict != "same":
                print(f"{verdict:8s} {name} {words}: {why[:300]}", flush=True)
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    row: dict[str, Any] = {
        "name": "keywords whose files are other than libplumed's",
        "value": counts["other"],
        "unit": f"of {counts.total()}",
        "target": "0",
        "met": counts["other"] == 0,
        "peers": dict(counts),
        "command": "python benchmarks/plumed_keywords.py",
        "made": made,
    }
    if options.json:
        options.json.write_text(json.dumps([row], indent=1) + "\n")
    sys.exit(counts["other"] > 0)


if __name__ == "__main__":
    main()
