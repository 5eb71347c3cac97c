"""Where numbers come from: what every benchmark says beside them."""

import os
import subprocess
from datetime import date
from pathlib import Path


def provenance() -> dict[str, object]:
    """Commit of this checkout, cores and date; asked before a run, which may outlast a commit.

    Rows that a benchmark keeps in results/ as it goes do not make the checkout another one.
    """
    commit = _git("describe", "--always") or "unknown"
    if _git(
        "status", "--porcelain", "--untracked-files=no", ":/", ":(exclude,top)benchmarks/results"
    ):
        commit += "-dirty"
    return {"commit": commit, "cores": os.cpu_count(), "date": date.today().isoformat()}


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def in_words(made: dict[str, object]) -> str:
    """The same in words, for the head of a table."""
    return f"commit {made['commit']}, {made['cores']} cores, {made['date']}"
