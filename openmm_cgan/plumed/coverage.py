"""Which statements of an input are native, and why others are not: for the log."""

from __future__ import annotations

from collections.abc import Sequence

from openmm_cgan.plumed.input.language import PlumedInputError, Statement

MOST_TOLD = 200  # statements that are told one by one


def coverage_lines(statements: Sequence[Statement], refusal: PlumedInputError) -> list[str]:
    """A line for each statement: native, or what is not.

    Parameters
    ----------
    statements : sequence of Statement
        Of the input, with those of included files.
    refusal : PlumedInputError
        What the native backend says.

    Returns
    -------
    list of str
    """
    reasons: dict[tuple[str, int], list[str]] = {}
    for problem in refusal.problems:
        place = (problem.location.file, problem.location.line)
        reasons.setdefault(place, []).append(f"{problem.word}: {problem.message}")
    lines: list[str] = []
    left_out = 0
    for statement in statements:
        place = (statement.location.file, statement.location.line)
        found = reasons.get(place)
        if found is None and len(lines) >= MOST_TOLD:
            left_out += 1
            continue
        what = "native" if found is None else f"not native: {'; '.join(found)}"
        name = f"{statement.action} {statement.label}".rstrip()
        lines.append(f"{statement.location}: {name}: {what}")
    if left_out:
        lines.append(f"and {left_out} more that are native")
    return lines
