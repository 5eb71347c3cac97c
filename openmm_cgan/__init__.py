"""PLUMED inputs, conditional GANs and seeded restarts for OpenMM simulations.

A simulation biases a few collective variables (CVs) by a PLUMED input; its frames train a
conditional generator of the other degrees of freedom; configurations proposed at any CV value are
screened and given back to the simulation, or seed umbrella windows whose frames MBAR joins to a
free energy.

The modules in the order in which the data pass through them:

plumed                PLUMED inputs as OpenMM forces, or run by libplumed; PlumedBias
journal, h5md, segments, frames
                      Frames on disk: H5MD segments with CVs, bias energy and segment numbers
internal_coordinates  ZMatrix: Cartesian <-> bonds, angles and torsions
features              fitted scaling of internal coordinates and CVs, and its inverse
generators            the conditional generator networks
training              critic, losses, the training loop
cgan                  ConditionalGAN, the trained artefact
stereochemistry, proposals, targets
                      configurations asked for at CV values: screened, counted by reason
contexts, healing, attempts, reporters
                      FrameReporter (out of a Simulation) and ProposalReporter (into it)
hills, mbar, reweighting, free_energy
                      MBAR over windows, free-energy profiles and their errors
run_files, platforms, dragging, window_worker, windows
                      many seeded umbrella windows over a concurrent.futures.Executor
metrics, report       how good the generator is; plots
testsystems           systems with known answers
exports, simulations, driver
                      tables and trajectories; runs from files; PLUMED over a trajectory
shipped, demo, cli    the whole job on alanine dipeptide; the openmm-cgan command

Importing the package imports none of them: the four names below are fetched when first used.

Units everywhere: nm, ps, kJ/mol, rad, K.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openmm_cgan.cgan import ConditionalGAN
    from openmm_cgan.plumed.bias import PlumedBias
    from openmm_cgan.reporters import FrameReporter, ProposalReporter

__version__ = "0.1.0"

__all__ = ["ConditionalGAN", "FrameReporter", "PlumedBias", "ProposalReporter"]

_HOMES = {
    "PlumedBias": "openmm_cgan.plumed.bias",
    "FrameReporter": "openmm_cgan.reporters",
    "ConditionalGAN": "openmm_cgan.cgan",
    "ProposalReporter": "openmm_cgan.reporters",
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'openmm_cgan' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
