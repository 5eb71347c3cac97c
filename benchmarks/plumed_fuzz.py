"""Fuzzing of PLUMED inputs: whatever is typed either compiles or gives PlumedInputError.

    python benchmarks/plumed_fuzz.py --number 10000 --seed 1

Inputs are random text, statements put together from the keywords of the actions, and real inputs
(plumed_inputs/ and plumed_cases.py) with words, characters and lines changed. Each runs in a
limit of processor time; anything but a compiled input or PlumedInputError is printed with the input
that did it. Compiled means: its OpenMM forces are made, a Context takes them, and they are
evaluated.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import signal
import string
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import openmm

from openmm_cgan.plumed.actions import ACTIONS, read_actions
from openmm_cgan.plumed.input.language import PlumedInputError, include_files, read_statements
from openmm_cgan.plumed.native.backend import NativeBackend

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.eight_atoms import reference_pdb
from benchmarks.plumed_cases import CASES, GROUPS

INPUTS = Path(__file__).resolve().parent.parent / "plumed_inputs"
SECONDS = 10  # of the processor
N_ATOMS = 30
VALUES = (
    "1",
    "2,3",
    "1-4",
    "1-10:3",
    "5-1:-2",
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "pi",
    "-pi",
    "2*pi",
    "0.5pi",
    "1e-400",
    "99999999999999999999",
    "1/0",
    "sqrt(-1)",
    "10^10^10",
    "NO",
    "YES",
    "-pi,pi",
    "a",
    "a,b",
    "*",
    "a.*",
    "*.bias",
    "@0",
    "(a|b)",
    "(",
    "[",
    "{1 2}",
    "{",
    "}",
    "{{}}",
    "@phi-2",
    "@mdatoms",
    "@allatoms",
    "@ndx:x.ndx",
    "{RATIONAL R_0=0.3}",
    "{EXP R_0=1 D_MAX=2}",
    "{CUSTOM R_0=1 FUNC=x^x}",
    "{}",
    "x^2+y",
    "((((x))))",
    "x;x=x",
    "x;y=x;z=y",
    "exp(exp(exp(x)))",
    "%f",
    "%s",
    "%d",
    "%99999999f",
    "%*f",
    "%",
    "",
    "OPTIMAL",
    "SIMPLE",
    "RADIUS",
    "nm",
    "A",
    "../x",
    "/dev/null",
    "x.pdb",
    "\x00",
    "é",
    "١",
    "𝟙",
    "...",
    "#",
    "=",
    ":",
    "0x10",
    "1_000",
    "1,",
    ",1",
    ",,",
    "True",
    "None",
    "__import__",
    "lambda: 0",
    "1j",
    "'a'",
)
MORE = (
    "OPES_METAD ARG=phi,d PACE=5 BARRIER=20 TEMP=300 SIGMA=0.2,0.1 FILE=K STATE_WFILE=S "
    "STATE_WSTRIDE=10 NLIST SIGMA_MIN=0.1,0.1 BIASFACTOR=inf",
    "OPES_METAD_EXPLORE ARG=phi PACE=5 BARRIER=20 ADAPTIVE_SIGMA_STRIDE=50 EPSILON=0.1",
    "MOVINGRESTRAINT ARG=phi,d STEP0=0 AT0=1,2 KAPPA0=1,2 STEP1=100 AT1=-3,1 VERSE=B,U",
    "COMMITTOR ARG=phi,d STRIDE=5 BASIN_LL1=-1,0 BASIN_UL1=1,2 BASIN_LL2=2,0 BASIN_UL2=3,1 FILE=C",
    "METAD ARG=phi SIGMA=0.2 HEIGHT=1 PACE=5 INTERVAL=-1,2",
    "METAD ARG=d,phi SIGMA=0.2,0.3 HEIGHT=1 PACE=5 GRID_MIN=0,-pi GRID_MAX=3,pi "
    "GRID_SPACING=0.1,0.1 "
    "CALC_RCT BIASFACTOR=8 TEMP=300 GRID_WFILE=g GRID_WSTRIDE=10 WALKERS_N=2 WALKERS_ID=0 "
    "WALKERS_DIR=. WALKERS_RSTRIDE=10",
    "METAD ARG=d,phi ADAPTIVE=DIFF SIGMA=10 SIGMA_MIN=0.1,0.2 SIGMA_MAX=1,2 HEIGHT=1 PACE=5 TEMP=3 "
    "ACCELERATION ACCELERATION_RFILE=x FREQUENCY_ADAPTIVE FA_MAX_PACE=9 UPDATE_FROM=0 "
    "UPDATE_UNTIL=9 TARGET=x.pdb",
    "METAD ARG=d,phi ADAPTIVE=GEOM SIGMA=0.1 HEIGHT=1 PACE=5 TEMP=300 TTBIASFACTOR=3 TTALPHA=0.5 "
    "TTBIASTHRESHOLD=1 TRANSITIONWELL0=1,1 TRANSITIONWELL1=2,2 SIGMA_MIN=0.1,0.1 GRID_MIN=0,-pi "
    "GRID_MAX=3,pi GRID_BIN=20,20",
    "METAD ARG=phi SIGMA=0.2 HEIGHT=1 PACE=5 NLIST NLIST_PARAMETERS=6,0.5",
    "WHOLEMOLECULES ENTITY0=1-10 ENTITY1=11-20\nFLUSH STRIDE=10\nPRINT ARG=phi,d STRIDE=2 FMT=%8f",
    "CONSTANT VALUE=3\ng: GROUP ATOMS=1-10:2 REMOVE=3 SORT\nRMSD REFERENCE=x.pdb TYPE=OPTIMAL",
)
ALPHABET = string.printable + "éß١𝟙\x00\x85\u2028"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the rows of the table here")
    options = parser.parse_args()
    began = time.process_time()
    logging.getLogger("openmm_cgan").setLevel(logging.ERROR)
    with np.errstate(all="ignore"):
        counts, failures = fuzz(options.number, options.seed)
    for text, told in failures[:20]:
        print(f"---- {text!r}\n{told}")
    told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    print(f"{options.number} inputs in {time.process_time() - began:.0f} s: {told}")
    if options.json is not None:
        row = {
            "name": f"{options.number:,} fuzzed inputs that neither compile nor are refused",
            "value": len(failures), "unit": "", "target": "0", "met": not failures,
            "peers": {}, "command": "python benchmarks/plumed_fuzz.py",
        }  # fmt: skip
        options.json.write_text(json.dumps([row]))
    sys.exit(bool(failures) and options.json is None)


def fuzz(number: int, seed: int) -> tuple[Counter[str], list[tuple[str, str]]]:
    """Try many inputs; return the counts of what became of them, and those that broke something."""
    random = Random(seed)
    corpus = real_inputs()
    makers: list[Callable[[], str]] = [
        lambda: random_text(random),
        lambda: random_statements(random),
        lambda: mutated(random, random.choice(corpus)),
        lambda: mutated(random, random.choice(corpus)),
    ]
    counts: Counter[str] = Counter()
    failures = []
    signal.signal(signal.SIGPROF, _stop)
    with tempfile.TemporaryDirectory() as folder:
        reference_pdb(Path(folder)).rename(Path(folder) / "x.pdb")
        (Path(folder) / "x.ndx").write_text("[ g ]\n1 2 3\n")
        for _ in range(number):
            text = random.choice(makers)()
            verdict, told = tried(text, Path(folder))
            counts[verdict] += 1
            if told:
                failures.append((text, told))
    return counts, failures


def tried(text: str, folder: Path) -> tuple[str, str]:
    """What becomes of an input: "compiled", "refused" or "broken", with the traceback of that."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of this process, however busy the others
    faulthandler.dump_traceback_later(10 * SECONDS, exit=True)  # an alarm does not end OpenMM
    (folder / "last").write_text(repr(text))
    try:
        statements = include_files(read_statements(text, "fuzz"), folder)
        actions = read_actions(statements, N_ATOMS, folder)
        evaluate(NativeBackend(actions, folder, 300.0, False))
    except PlumedInputError as error:
        str(error)
        return "refused", ""
    except BaseException:
        return "broken", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
    return "compiled", ""


def evaluate(backend: NativeBackend) -> None:
    """Make the forces of an input and evaluate them on a frame."""
    system = openmm.System()
    for _ in range(N_ATOMS):
        system.addParticle(12.0)
    for force in backend.forces(system):
        system.addForce(force)
    positions = np.random.default_rng(0).random((N_ATOMS, 3))
    backend.values(positions, None)
    integrator = openmm.VerletIntegrator(0.001)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    context.getState(energy=True, forces=True)


def _stop(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def real_inputs() -> list[str]:
    """Inputs that are known to be right."""
    texts = [path.read_text() for path in sorted(INPUTS.glob("*.dat"))]
    cases = [*CASES.values(), *GROUPS.values()]
    texts += [f"phi: TORSION ATOMS=5,7,9,15\nd: DISTANCE ATOMS=1,2\n{text}\n" for text in MORE]
    return [*texts, *(case.format(pbc="", pdb="x.pdb", path="x.pdb") + "\n" for case in cases)]


def random_text(random: Random) -> str:
    """Characters without meaning, and some with."""
    words = [*ACTIONS, *VALUES, "a:", "...", "ARG=", "ATOMS=", "ENDPLUMED", "INCLUDE", "FILE=x"]
    pieces = []
    for _ in range(random.randrange(40)):
        if random.random() < 0.5:
            pieces.append(random.choice(words))
        else:
            pieces.append("".join(random.choices(ALPHABET, k=random.randrange(12))))
        pieces.append(random.choice((" ", "\n", "", "\t", "=", ",", "{", "}")))
    return "".join(pieces)


def random_statements(random: Random) -> str:
    """Statements of known actions with their own keywords and any values."""
    lines = []
    for number in range(random.randrange(1, 8)):
        cls = random.choice(list(ACTIONS.values()))
        words = []
        for keyword in cls.keywords:
            if not keyword.compulsory and random.random() < 0.6:
                continue
            name = keyword.name
            if keyword.first is not None:
                name += str(keyword.first + random.randrange(2))
            flag = keyword.kind == "flag"
            words.append(name if flag else f"{name}={plausible(random, keyword.kind)}")
        random.shuffle(words)
        lines.append(f"{random.choice('abcd')}{number}: {cls.name} {' '.join(words)}")
    return "\n".join([*lines, ""])


def plausible(random: Random, kind: str) -> str:
    if random.random() < 0.2:
        return random.choice(VALUES)
    if kind == "atoms":
        return ",".join(str(random.randrange(1, 12)) for _ in range(random.randrange(1, 5)))
    if kind == "arguments":
        return random.choice(("a0", "b1", "*", "a0,b0", "c1.x", "d0.bias"))
    if kind == "domain":
        return random.choice(("NO", "-pi,pi", "0,1"))
    if kind == "text":
        return random.choice(VALUES)
    return ",".join(
        str(round(random.uniform(-3, 10), 2) if kind.startswith("real") else random.randrange(12))
        for _ in range(random.randrange(1, 4))
    )


def mutated(random: Random, text: str) -> str:
    """A few changes of words, characters or lines."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        lines = text.split("\n")
        i = random.randrange(len(lines))
        words = lines[i].split(" ")
        j = random.randrange(len(words))
        what = random.randrange(7)
        if what == 0:
            words[j] = random.choice(VALUES)
        elif what == 1:
            words[j] = words[j].partition("=")[0] + "=" + random.choice(VALUES)
        elif what == 2:
            del words[j]
        elif what == 3:
            words.insert(j, random.choice(words))
        elif what == 4:
            lines.insert(i, random.choice(lines))
        elif what == 5:
            words[j] = words[j][::-1] if random.random() < 0.2 else words[j].replace("1", "0")
        else:
            at = random.randrange(len(lines[i]) + 1)
            words = [lines[i][:at] + random.choice(ALPHABET) + lines[i][at + 1 :]]
        if what != 4:
            lines[i] = " ".join(words)
        text = "\n".join(lines)
    return text


if __name__ == "__main__":
    main()
