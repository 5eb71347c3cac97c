"""PLUMED's own regression tests, run through ``openmm-cgan driver --backend native``.

    python benchmarks/plumed_regtests.py path/to/plumed2

takes a checkout of PLUMED (github.com/plumed/plumed2; none of its files is in this repository) and
runs every directory of ``regtest/`` that is a serial ``driver`` run of an input with natively known
actions, in a temporary copy. Each output file is compared with its ``.reference``: every number
within one unit of the last printed digit, everything else equal. Files with more than 12
significant digits are compared to 1e-10 of each number, for their last digits are rounding.

Statements that only serve PLUMED's tests and are not known natively (DUMPFORCES, DUMPMASSCHARGE,
...) are left out, and their files are not compared; those directories do not count as unmodified.
A directory written for several MPI processes of one simulation runs on one.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from openmm_cgan.cli import main as openmm_cgan
from openmm_cgan.plumed.actions import ACTIONS
from openmm_cgan.plumed.input.language import (
    PlumedInputError,
    Statement,
    include_files,
    read_statements,
)

ONLY_TESTS = re.compile("DUMP[A-Z]+$")
HANDLED_ELSEWHERE = {"INCLUDE", "ENDPLUMED"}
# Options of a run that is not one serial simulation, or not in double precision
NOT_SERIAL = ("--multi", "--debug-dd", "--debug-pd", "--debug-grex", "--debug-float")
NEEDS_KNOWN = {"molfile_plugins", "matheval", "xdrfile", "mpi", "libmatheval", "lepton", "libtorch"}
SECONDS = 400
SURE_DIGITS = 12
SOURCE = r"""set -e
. ./config
if type -t plumed_regtest_before >/dev/null; then plumed_regtest_before >/dev/null 2>&1; fi
printf '%s\0' "$type" "$plumed_needs" $arg
"""
EXTRA = r". ./config; printf '%s\0' $extra_files"


@dataclass
class Outcome:
    """What became of one directory."""

    name: str
    verdict: str  # "pass", "fail", "refused", or why it was not run
    actions: set[str] = field(default_factory=set)
    reason: str = ""
    files: int = 0
    unmodified: bool = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plumed2", type=Path, help="checkout of PLUMED")
    parser.add_argument("--only", default="", help="names that contain this")
    parser.add_argument("--keep", type=Path, help="keep the copies in this folder")
    parser.add_argument("--backend", default="native", choices=["native", "kernel"])
    options = parser.parse_args()
    regtest = options.plumed2 / "regtest"
    if not regtest.is_dir():
        parser.error(f"{regtest} is not there: give a checkout of PLUMED")
    configs = sorted(regtest.glob("*/*/config"))
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:
        place = options.keep or Path(scratch)
        for config in configs:
            name = str(config.parent.relative_to(regtest))
            if options.only not in name:
                continue
            outcome = run_directory(config.parent, name, place, options.backend)
            outcomes.append(outcome)
            if outcome.verdict in ("pass", "fail", "refused"):
                print(f"{outcome.verdict:8s} {name}  {outcome.reason.splitlines()[:1]}", flush=True)
    report(outcomes)


def run_directory(source: Path, name: str, place: Path, backend: str) -> Outcome:
    """Run one directory in a copy, and compare what comes out."""
    if "type=driver" not in (source / "config").read_text(errors="replace").split():
        return Outcome(name, "not a driver run")
    folder = place / name / "tmp"
    shutil.rmtree(folder, ignore_errors=True)  # an input with RESTART would append to its files
    folder.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    try:
        for extra in filter(None, shell(EXTRA, folder)):
            shutil.copy(source / extra, folder)
        kind, needs, *words = shell(SOURCE, folder)
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        return Outcome(name, "its preparation fails here", reason=str(error))
    if kind != "driver":
        return Outcome(name, "not a driver run")
    if set(needs.split()) - NEEDS_KNOWN:
        return Outcome(name, f"needs {needs}")
    if any(word.startswith(NOT_SERIAL) for word in words):
        return Outcome(name, "several simulations or a debugging mode")
    plumed = folder / option(words, "--plumed", "plumed.dat")
    try:
        statements = read_statements(plumed.read_text(errors="replace"), plumed.name)
        statements = include_files(statements, folder)
    except (PlumedInputError, OSError) as error:
        return Outcome(name, "cannot be split into statements", reason=str(error))
    kept = [s for s in statements if not only_tests(s)]
    actions = {s.action for s in kept}
    counted = "FLUSH STRIDE=1000000"  # an action in their place keeps the names @0, @1 ...
    if unknown := actions - set(ACTIONS) - HANDLED_ELSEWHERE:
        return Outcome(name, "other actions", unknown)
    if len(kept) < len(statements):
        lines = [counted if only_tests(s) else s.text for s in statements]
        plumed.write_text("\n".join([*lines, ""]))
    dumped = {file_of(s) for s in statements if only_tests(s)}
    if {file.stem for file in folder.glob("*.reference")} <= dumped:
        return Outcome(name, "nothing to compare", actions)
    outcome = judged(name, actions, folder, [*words, "--backend", backend], dumped)
    outcome.unmodified = not dumped
    return outcome


def only_tests(statement: Statement) -> bool:
    """Whether a statement only serves tests, and is not known."""
    return ONLY_TESTS.match(statement.action) is not None and statement.action not in ACTIONS


def judged(
    name: str, actions: set[str], folder: Path, words: list[str], dumped: set[str]
) -> Outcome:
    """Run the driver in the folder in a process of its own, then compare."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=run_driver, args=(folder, words, results))
    process.start()
    try:
        code, text = results.get(timeout=SECONDS)
    except Exception:  # multiprocessing's Empty, or a process that died
        process.kill()
        code, text = 1, f"nothing after {SECONDS} s"
    process.join()
    if "no such option" in text:
        return Outcome(name, "an option that our driver does not have")
    if code:
        refused = text.startswith("PlumedInputError") or "--backend kernel" in text
        return Outcome(name, "refused" if refused else "fail", actions, text)
    problems, compared = [], 0
    for reference in sorted(folder.glob("*.reference")):
        ours = reference.with_suffix("")
        if ours.name in dumped:
            continue
        rank = re.fullmatch(r"(.*)\.(\d+)", ours.name)
        if rank and not ours.exists():  # written by each MPI process
            if rank[2] != "0":
                continue
            ours = ours.with_name(rank[1])
        compared += 1
        if difference := first_difference(reference, ours):
            problems.append(difference)
    if problems:
        return Outcome(name, "fail", actions, "; ".join(problems), compared)
    if not compared:
        return Outcome(name, "nothing to compare", actions)
    return Outcome(name, "pass", actions, files=compared)


def run_driver(folder: Path, words: list[str], results: multiprocessing.Queue) -> None:
    os.chdir(folder)
    for file in folder.glob("bck.*"):
        file.unlink()
    told = io.StringIO()
    try:
        with redirect_stdout(told), redirect_stderr(told):
            openmm_cgan(["--debug", "driver", *words], standalone_mode=False)
        results.put((0, told.getvalue()))
    except Exception as error:
        if not isinstance(error, ValueError | RuntimeError | OSError):
            traceback.print_exc(file=told)
        results.put((1, f"{type(error).__name__}: {error}\n{told.getvalue()}"))


def first_difference(reference: Path, ours: Path) -> str:
    """Where two files differ first; empty where they agree."""
    if not ours.exists():
        return f"{ours.name} is not written"
    expected = reference.read_text(errors="replace").splitlines()
    found = ours.read_text(errors="replace").splitlines()
    for number, (theirs, mine) in enumerate(zip(expected, found, strict=False), start=1):
        a, b = theirs.split(), mine.split()
        if len(a) != len(b) or not all(map(agree, a, b)):
            return f"{ours.name}:{number}: expected '{theirs}', got '{mine}'"
    if len(expected) != len(found):
        return f"{ours.name} has {len(found)} lines, expected {len(expected)}"
    return ""


def agree(theirs: str, mine: str) -> bool:
    """Whether two words are the same, or numbers within a unit of the last printed digit."""
    if theirs == mine:
        return True
    try:
        a, b = float(theirs), float(mine)
    except ValueError:
        return False
    if a != a or b != b:
        return a != a and b != b
    mantissa, _, exponent = theirs.lower().partition("e")
    digits = mantissa.lstrip("+-0.").replace(".", "")
    decimals = len(mantissa.partition(".")[2])
    unit = 10.0 ** (int(exponent or 0) - decimals)
    if len(digits) > SURE_DIGITS:
        unit = max(unit, 1e-10 * abs(a))
    return abs(a - b) <= 1.001 * unit


def shell(script: str, folder: Path) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, check=True, capture_output=True, timeout=SECONDS
    )
    return done.stdout.decode().split("\0")[:-1]


def option(words: list[str], name: str, default: str) -> str:
    for i, word in enumerate(words):
        if word.startswith(name + "="):
            return word.partition("=")[2]
        if word == name:
            return words[i + 1]
    return default


def file_of(statement: Statement) -> str:
    found = [w.partition("=")[2] for w in statement.words if w.upper().startswith("FILE=")]
    return found[0] if found else ""


def report(outcomes: list[Outcome]) -> None:
    judged = [o for o in outcomes if o.verdict in ("pass", "fail", "refused")]
    print("\naction                passed  compiled  directories")
    for action in sorted({action for o in judged for action in o.actions}):
        mine = [o for o in judged if action in o.actions]
        passed, compiled = count(mine, "pass"), count(mine, "pass", "fail")
        print(f"{action:20s} {passed:7d} {compiled:9d} {len(mine):12d}")
    for verdict in ("fail", "refused"):
        print(f"\n{verdict}:")
        for o in judged:
            if o.verdict == verdict:
                print(f"  {o.name}: {shortened(o.reason)}")
    print("\nnot run:")
    for reason, number in Counter(o.verdict for o in outcomes if o not in judged).most_common():
        print(f"  {number:4d} {reason}")
    passed, compiled = count(judged, "pass"), count(judged, "pass", "fail")
    files = sum(o.files for o in judged if o.verdict == "pass")
    print(f"\npass of those compiled: {passed}/{compiled} = {ratio(passed, compiled)}")
    print(f"pass of all for these actions: {passed}/{len(judged)} = {ratio(passed, len(judged))}")
    print(f"files compared in those that pass: {files}")
    whole = count([o for o in judged if o.unmodified], "pass")
    print(f"pass unmodified, of all: {whole}/{len(judged)} = {ratio(whole, len(judged))}")


def count(outcomes: list[Outcome], *verdicts: str) -> int:
    return sum(o.verdict in verdicts for o in outcomes)


def ratio(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def shortened(reason: str) -> str:
    lines = [line for line in reason.splitlines() if line.strip()]
    return " | ".join(lines[:4])[:600]


if __name__ == "__main__":
    sys.exit(main())
