"""The command line: `commands` parses, the other files do what is asked for."""

from openmm_cgan.cli.commands import main

__all__ = [
    "main",
]
