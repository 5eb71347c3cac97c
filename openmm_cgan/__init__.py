"""PLUMED inputs, conditional GANs and seeded restarts for OpenMM simulations.

A simulation biases a few collective variables (CVs) by a PLUMED input; its frames train a
conditional generator of the other degrees of freedom; configurations proposed at any CV value are
screened and given back to the simulation, or seed umbrella windows whose frames MBAR joins to a
free energy.

The modules in the order in which the data pass through them:

quantities            what is given with units, in the package's own
atomic_files          files replaced whole
json_files            records in JSON
run_folders           what the files of a run are called
topology_records      a Topology in JSON
topologies            what a topology may be given as
atom_selection        which atoms are meant: a selection of MDAnalysis, indices, the solute
attached_parts        what a part of a molecule hangs on
platforms             OpenMM's platforms by name
short_reprs           records of large arrays in one line
notebooks             the tables that notebooks show of objects
thermostats           the temperature of a simulation, wherever OpenMM keeps it
collective_variable   what all rooms know of a CV
states                an openmm.State as arrays
openmm_xml            OpenMM's objects in XML, read as data
called_back           what OpenMM calls back from Python, in copies of a System too
array_files           arrays in a zip, with their checksums
claims                files that one process alone writes to
signals               how a process ends: by a signal between two steps, or with its parent
seeds                 seeds that OpenMM takes as they are given
stepping              what is to happen before and after simulation.step
molecules             a molecule ready to simulate, and that of a run
virtual_sites         copies of a System's particles, whatever its virtual sites are
fingerprints          what tells Systems and integrators apart
checkpoints           a run on disk
plumed                PLUMED inputs as OpenMM forces, or run by libplumed; PlumedBias
frames                frames on disk: H5MD segments with CVs, bias energy and segment numbers
constraints           what a System holds: Fixman's factor, atoms tied to a part
potentials            energies of many configurations beside a running simulation
devices               devices of torch: which there are, and what is moved there
sobol                 numbers that fill a cube evenly
internal_coordinates  ZMatrix: Cartesian <-> bonds, angles and torsions, also of a part
large_arrays          arrays that lie in temporary files
radii                 van der Waals radii
rotors                equivalent hydrogens, which frames may exchange
features              positions <-> what networks see: by a Z-matrix or as they stand; CVs for them
generators            the conditional generator networks: MLPGenerator, FlowGenerator
cgan                  critic, losses, the training loop; ConditionalGenerator (= ConditionalGAN)
proposals             configurations asked for at CV values: screened, counted by reason
reporters             FrameReporter (out of a Simulation) and ProposalReporter (into it)
free_energy           MBAR over windows, free-energy profiles and their errors
closures              averages at CV values, drift and diffusion, the reduced dynamics they close
diffusion_maps        coarse variables that nobody gave
learned_variable      they as TorchScript files that PLUMED inputs run
windows               many seeded umbrella windows over a concurrent.futures.Executor
metrics, report       how good the generator is, a judge; plots, and report.html of a whole folder
explore               from a structure to a free energy: what is done next, and why
testsystems           systems with known answers, multiscale equations among them
cli, __main__         the openmm-cgan command: runs, driver, the whole job on alanine dipeptide

Importing the package imports none of them: the names below are fetched when first used.

Units everywhere: nm, ps, kJ/mol, rad, K.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openmm_cgan.cgan import ConditionalGAN, ConditionalGenerator
    from openmm_cgan.checkpoints import restore_run, save_run
    from openmm_cgan.plumed.actions.committor import StopRunError
    from openmm_cgan.plumed.bias import PlumedBias
    from openmm_cgan.plumed.bias.reporters import BiasCheckpointReporter
    from openmm_cgan.reporters import (
        FrameReporter,
        Learner,
        ProposalReporter,
        RunCheckpointReporter,
    )

__version__ = "0.1.0"

GAS_CONSTANT = 8.31446261815324e-3  # kJ/mol/K, R = k_B N_A of CODATA 2018, as OpenMM has it

__all__ = [
    "BiasCheckpointReporter",
    "ConditionalGAN",
    "ConditionalGenerator",
    "FrameReporter",
    "Learner",
    "PlumedBias",
    "ProposalReporter",
    "RunCheckpointReporter",
    "StopRunError",
    "restore_run",
    "save_run",
]

_HOMES = {
    "PlumedBias": "openmm_cgan.plumed.bias",
    "BiasCheckpointReporter": "openmm_cgan.plumed.bias.reporters",
    "StopRunError": "openmm_cgan.plumed.actions.committor",
    "FrameReporter": "openmm_cgan.reporters",
    "ConditionalGAN": "openmm_cgan.cgan",
    "ConditionalGenerator": "openmm_cgan.cgan",
    "Learner": "openmm_cgan.reporters",
    "ProposalReporter": "openmm_cgan.reporters",
    "RunCheckpointReporter": "openmm_cgan.reporters",
    "restore_run": "openmm_cgan.checkpoints",
    "save_run": "openmm_cgan.checkpoints",
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'openmm_cgan' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
