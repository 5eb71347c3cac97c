"""Where numbers come from: what every benchmark says beside them."""

import os
import subprocess
from datetime import date
from pathlib import Path


def provenance() -> dict[str, object]:
    """Commit of this checkout, cores and date; asked before a run, which may outlast a commit."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = done.stdout.strip() or "unknown"
    return {"commit": commit, "cores": os.cpu_count(), "date": date.today().isoformat()}


def in_words(made: dict[str, object]) -> str:
    """The same in words, for the head of a table."""
    return f"commit {made['commit']}, {made['cores']} cores, {made['date']}"
