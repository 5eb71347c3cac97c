"""Names of values: those that a pattern means, and those that a message tells."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import islice

MAX_NAMES_TOLD = 30  # in a message that says what there is
MAX_PATTERN_LENGTH = 200
MAX_REPEATS = 4  # in a regular expression: it may take as many powers of a name's length


def told(names: Collection[str]) -> str:
    """Names for a message; the first of them where there are many."""
    some = ", ".join(islice(names, MAX_NAMES_TOLD)) or "none"
    return some if len(names) <= MAX_NAMES_TOLD else f"{some} ... ({len(names)} in all)"


def regular_expression(text: str) -> re.Pattern[str]:
    """The pattern of an element of ARG in brackets.

    Raises
    ------
    ValueError
        If it is none, or may take too long.
    """
    if len(text) > MAX_PATTERN_LENGTH:
        raise ValueError(f"a regular expression of more than {MAX_PATTERN_LENGTH} characters")
    if len(re.findall(r"[*+{?]", text)) > MAX_REPEATS or re.search(r"\)[*+{]", text):
        raise ValueError(f"'{text}' repeats a group, or repeats more than {MAX_REPEATS} times")
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"'{text}' is not a regular expression: {error}") from None
