"""The doctor command: what is installed here, and how quick it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from openmm_cgan.cli.options import molecule_options

PACKAGES = (
    "openmm_cgan", "openmm", "torch", "numpy", "scipy", "MDAnalysis", "pymbar", "h5py",
    "openmmplumed", "mlcolvar", "parsl",
)  # fmt: skip


@click.command()
@molecule_options
def doctor(**files: Any) -> None:
    """Say what is installed, and how quick each OpenMM platform is on STRUCTURE.

    \b
    Example:
        openmm-cgan doctor molecule.pdb --forcefield amber96.xml

    Without STRUCTURE alanine dipeptide is run in vacuum.
    """
    for line in installed():
        click.echo(line)
    for line in speeds(files):
        click.echo(line)


def installed() -> Iterator[str]:
    """Versions, PLUMED and devices, a line each."""
    import platform

    import torch

    from openmm_cgan.plumed.libplumed.instance import find_kernel
    from openmm_cgan.plumed.libplumed.plugin import available

    found = [(name, _version(name)) for name in PACKAGES]
    yield f"Python {platform.python_version()}, {os.cpu_count()} cores"
    yield ", ".join(f"{name} {number}" for name, number in found if number)
    yield "native PLUMED actions: yes (openmm-cgan driver --actions lists them)"
    try:
        kernel = find_kernel()
        yield f"libplumed: {kernel or 'not found; pip install --no-deps hillclimber brings one'}"
    except FileNotFoundError as error:
        yield f"libplumed: {error}"
    yield f"openmm-plumed: {'yes' if available() else 'not installed (conda only)'}"
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield (
        'completion: eval "$(_OPENMM_CGAN_COMPLETE=bash_source openmm-cgan)" in ~/.bashrc; '
        "zsh_source, fish_source for those shells"
    )
    yield f"torch: {', '.join(devices) or 'no GPU'}, {torch.get_num_threads()} threads"


def speeds(files: dict[str, Any]) -> Iterator[str]:
    """Steps a second of each OpenMM platform that runs here, a line each, the quickest first."""
    from openmm_cgan.cli.molecule_files import MoleculeFiles, molecule_of
    from openmm_cgan.testsystems import alanine_dipeptide
    from openmm_cgan.windows.platforms import steps_per_second

    given = MoleculeFiles(**files)
    molecule = molecule_of(given) if given.given else alanine_dipeptide()
    rates = steps_per_second(molecule.system, molecule.positions)
    n_atoms = molecule.system.getNumParticles()
    yield f"{n_atoms} atoms, unbiased, by OpenMM platform:"
    for name, rate in sorted(rates.items(), key=lambda pair: -pair[1]):
        yield f"  {name:10s} {rate:10,.0f} steps/s, {rate * 86400 * 2e-6:,.0f} ns/day at 2 fs"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
