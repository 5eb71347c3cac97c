"""Small systems with known answers, to test and to show the package on.

`peptides`: `alanine_dipeptide` is a real molecule with a hidden barrier, `alanine_pentapeptide` a
larger one, `valine_dipeptide` hides its chi1; `add_obc2` puts
one into implicit solvent. `double_well`: `DoubleWell2D` has everything in
closed form: its free energy along x, the conditional density of y given x, and exact samples.
`chain`: `Chain` is a molecule whose internal coordinates have known densities, also with
constraints.

`openmm_cgan.testsystems.multiscale` holds stochastic differential equations with a slow variable;
it loads torch, and so is imported by its own name.
"""

from openmm_cgan.molecules import Molecule
from openmm_cgan.testsystems.chain import Chain
from openmm_cgan.testsystems.double_well import DoubleWell2D
from openmm_cgan.testsystems.peptides import (
    MIDDLE_ATOMS,
    PHI_ATOMS,
    PSI_ATOMS,
    add_obc2,
    alanine_dipeptide,
    alanine_pentapeptide,
    torsion,
    valine_dipeptide,
)

__all__ = [
    "MIDDLE_ATOMS",
    "PHI_ATOMS",
    "PSI_ATOMS",
    "Chain",
    "DoubleWell2D",
    "Molecule",
    "add_obc2",
    "alanine_dipeptide",
    "alanine_pentapeptide",
    "torsion",
    "valine_dipeptide",
]
