"""What several test files share: inputs, runs, comparisons, and the project's folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
