"""How many inputs of a folder are native, and what stops the others.

    python benchmarks/plumed_real_inputs.py path/to/plumed2/user-doc

takes every ``*.dat`` file that is a PLUMED input and every block of a tutorial page between
``\\plumedfile`` and ``\\endplumedfile``, without those with gaps for the student (``__FILL__``).
Inputs with the same statements count once. Files that an input names are mostly not there: what is
said of a missing file, or of a selector of its atoms, does not count against native. Inputs for
``plumed driver`` after a run (HISTOGRAM, REWEIGHT_ and the like), for several replicas, or with
what is wrong whoever runs them (parts of others), are counted apart.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from openmm_cgan.plumed.actions import ACTIONS, read_known
from openmm_cgan.plumed.input.language import (
    PlumedInputError,
    Problem,
    Statement,
    include_files,
    read_statements,
)
from openmm_cgan.plumed.input.named_files import text_of
from openmm_cgan.plumed.native.refusals import forceless

BLOCK = re.compile(r"\\plumedfile\n(.*?)\\endplumedfile", re.DOTALL)
AFTER_A_RUN = re.compile(
    r"HISTOGRAM|REWEIGHT|CONVERT_TO_FES|DUMPGRID|READ|KDE|COLLECT_FRAMES|AVERAGE|LANDMARK|"
    r"CLASSICAL_MDS|PCA$|SKETCHMAP|FIND_CONTOUR|WHAM|METAINFERENCE|EMMI|STATS|FES|ENSEMBLE"
)
N_ATOMS = 100_000


def inputs_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each input."""
    for path in sorted(folder.rglob("*.dat")):
        try:
            yield str(path.relative_to(folder)), text_of(path)
        except ValueError:
            continue
    for path in sorted(folder.rglob("*.txt")):
        text = path.read_text(errors="replace")
        for number, match in enumerate(BLOCK.finditer(text), start=1):
            yield f"{path.relative_to(folder)}#{number}", match[1]


def kind_of(statements: list[Statement], text: str) -> str:
    """Whether it is for a run, or why it is not counted with those."""
    actions = {statement.action for statement in statements}
    known = actions & (set(ACTIONS) | {"INCLUDE", "ENDPLUMED"})
    if not known or "__FILL__" in text:
        return "no input, or one with gaps"
    if "@replicas" in text or "WALKERS_MPI" in text:
        return "for several replicas"
    if any(AFTER_A_RUN.match(action) for action in actions):
        return "after a run, or of experiments"
    if not actions & {"PRINT"} and not any("BIAS" in a or a in BIASES for a in actions):
        return "a fragment: no bias, nothing printed"
    return ""


BIASES = {"METAD", "PBMETAD", "RESTRAINT", "UPPER_WALLS", "LOWER_WALLS", "OPES_METAD", "ABMD"}


def is_of_missing_file(problem: Problem) -> bool:
    """Whether a problem is that a file is not here, or what follows from it."""
    words = f"{problem.word} {problem.message}"
    return any(
        x in words
        for x in (
            "missing input file",
            "No such file",
            "no PDB file",
            "needs a MOLINFO",
            "not there",
        )
    )


def reasons_of(statements: list[Statement], folder: Path) -> list[str] | None:
    """What stops the native backend: actions, or keywords with their action.

    None where only something is wrong that is so for PLUMED too.
    """
    actions, problems = read_known(statements, N_ATOMS, folder)
    problems = problems or forceless(actions)
    by_place = {s.location: s.action for s in statements}
    problems = [problem for problem in problems if not is_of_missing_file(problem)]
    if problems and all(problem.is_mistake for problem in problems):
        return None
    reasons = []
    for problem in problems:
        if problem.is_mistake:
            continue
        action = by_place.get(problem.location, "?")
        word = problem.word.partition("=")[0]
        unknown = action not in ACTIONS
        reasons.append(action if unknown else f"{action} {word}: {problem.message[:70]}")
    return list(dict.fromkeys(reasons))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="a line for each input")
    options = parser.parse_args()
    logging.getLogger("openmm_cgan").setLevel(logging.ERROR)
    seen: set[str] = set()
    kinds: Counter[str] = Counter()
    stopping: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    native = total = 0
    for name, text in inputs_in(options.folder):
        try:
            statements = include_files(read_statements(text, name), options.folder)
        except (PlumedInputError, OSError, ValueError):
            kinds["no input, or one with gaps"] += 1
            continue
        key = "\n".join(s.text for s in statements)
        if key in seen:
            kinds["the same as another"] += 1
            continue
        seen.add(key)
        if kind := kind_of(statements, text):
            kinds[kind] += 1
            continue
        if (reasons := reasons_of(statements, options.folder)) is None:
            kinds["a part of another, or wrong"] += 1
            continue
        total += 1
        native += not reasons
        stopping.update(reasons)
        if len(reasons) == 1:
            alone.update(reasons)
        if options.all:
            print(f"{'native' if not reasons else 'not   '} {name}: {'; '.join(reasons)}")
    print(f"native: {native} of {total} = {100 * native / max(total, 1):.1f} %")
    print("not counted:", ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))
    print("what stops the others (in how many; in how many it alone):")
    for reason, number in stopping.most_common():
        print(f"  {number:4d} {alone[reason]:4d}  {reason}")


if __name__ == "__main__":
    sys.exit(main())
