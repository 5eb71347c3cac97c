"""``python -m openmm_cgan`` is ``openmm-cgan``."""

from openmm_cgan.cli.commands import main

if __name__ == "__main__":
    main(prog_name="openmm-cgan")
