"""Files that come with the package: PLUMED inputs and the reference free energy.

The repository keeps one copy of each where a reader looks for it; a wheel holds them inside the
package.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openmm_cgan.free_energy import Estimate, FreeEnergy


def plumed_input(name: str) -> Path:
    """Path of a PLUMED input of this package: in the repository, or inside an installed wheel."""
    return _shipped("plumed_inputs", f"plumed_inputs/{name}")


@dataclass(frozen=True)
class Reference:
    """The reference: free energy of the basin, and along phi."""

    difference: Estimate
    profile: FreeEnergy


def read_reference() -> Reference:
    """Read the reference that benchmarks/reference made from two independent methods."""
    record = json.loads(_shipped("reference", "benchmarks/reference/reference.json").read_text())
    phi = record["profiles"]["phi"]
    columns = [np.array(phi[name], dtype=float) for name in ("centres", "free_energy", "error")]
    profile = FreeEnergy((), (columns[0],), *columns[1:])
    return Reference(Estimate(**record["delta_f"]), profile)


def _shipped(in_wheel: str, in_repository: str) -> Path:
    """A file that a wheel holds inside the package and a checkout beside it."""
    package = Path(__file__).parents[1]
    name = Path(in_repository).name
    for path in (package / in_wheel / name, package.parent / in_repository):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name} is not where the package keeps it: install openmm_cgan again")
