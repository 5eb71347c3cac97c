"""Free energies from a model file: generated configurations, and windows where there are any."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from openmm_cgan.cgan import ConditionalGenerator
    from openmm_cgan.free_energy import BiasedFrames, WeightedSamples
    from openmm_cgan.molecules import Molecule
    from openmm_cgan.reporters.moves import ExactMove

logger = logging.getLogger("openmm_cgan")

MOST_FRAMES = 40_000  # of all windows: each is weighed under the generator and costs an energy


def reweight_files(
    windows: Sequence[Path],
    seed: int,
    model: Path | None,
    structure: Path | None,
    plumed_input: Path | None,
    forcefield: Sequence[str],
    constraints: str,
    number: int,
    device: str,
) -> tuple[WeightedSamples, str]:
    """Weigh windows, a model's configurations, or both, and say in words what they were.

    Raises
    ------
    ValueError
        If there is neither, or what a model needs is missing.
    """
    from openmm_cgan.free_energy import reweight_windows
    from openmm_cgan.windows import read_windows
    from openmm_cgan.windows.run_files import windows_in_words

    found = read_windows(windows) if windows else []
    if model is None:
        if not found:
            raise ValueError("give folders of umbrella windows, or --model, or both")
        joined = reweight_windows(found, seed=seed)
        return joined, windows_in_words(len(found), len(joined.overlap))
    if structure is None or plumed_input is None:
        raise ValueError(
            "--model needs --structure and --plumed: the energy and the CVs of what it makes"
        )
    molecule = _molecule(structure, forcefield, constraints)
    samples = reweight_model(model, molecule, plumed_input, found, number, seed, device)
    effective = f"{number} generated configurations (worth {samples.effective_samples:.0f} in all)"
    whole = windows_in_words(len(found), len(samples.overlap) - 1)  # one state is the model
    return samples, f"{whole} and {effective}" if found else effective


def _molecule(structure: Path, forcefield: Sequence[str], constraints: str) -> Molecule:
    """The molecule of a run, by its System, or of a structure and a force field."""
    from openmm_cgan.cli.molecules import load_molecule
    from openmm_cgan.constraints import masses_of
    from openmm_cgan.molecules import molecule_beside

    known = molecule_beside(structure)
    if not forcefield:
        if known is None:
            raise ValueError(
                "--model needs --forcefield (once for each file), or as --structure the "
                "topology.pdb in the folder of a run: the energy of what it makes"
            )
        return known
    made = load_molecule(structure, forcefield, constraints)
    if known is not None and not np.allclose(masses_of(known.system), masses_of(made.system)):
        raise ValueError(
            f"{structure.parent} is a run with other masses (heavy hydrogens), by which CVs and "
            "constraints weigh: leave out --forcefield, its System is known"
        )
    return made


def reweight_model(
    model: Path,
    molecule: Molecule,
    plumed_input: Path,
    windows: Sequence[BiasedFrames],
    n: int,
    seed: int,
    device: str = "cpu",
) -> WeightedSamples:
    """Weigh configurations of a model for the unbiased ensemble, by MBAR with windows if given.

    Without windows they are made in rounds, evenly where those before found the weight.

    Parameters
    ----------
    model : Path
        A ConditionalGAN with a density.
    molecule : Molecule
        What it was trained on.
    plumed_input : Path
        Its CVs; biases in it count for nothing.
    windows : sequence of BiasedFrames
        As `read_windows` gives them, named by their folders; none for the model alone.
    n : int
        Configurations to make.
    seed : int
    device : str
        Of torch, for the model.

    Raises
    ------
    ValueError
        If the density of the model is not known, or weights would not be exact.
    """
    from openmm_cgan.frames import read_frames
    from openmm_cgan.free_energy import (
        generate_frames,
        log_weights_of_frames,
        reweight_generated,
        reweight_with_generated,
    )
    from openmm_cgan.free_energy.rounds import generate_in_rounds
    from openmm_cgan.proposals.targets import trained_range
    from openmm_cgan.windows.run_files import FRAMES

    weigher = weigher_of(model, molecule, plumed_input, device)
    if not windows:
        made = generate_in_rounds(weigher, n, trained_range(weigher.sampler), seed)
        return reweight_generated(made, seed=seed)
    made = generate_frames(weigher, n, seed)
    stride = -(-sum(len(w.cvs) for w in windows) // MOST_FRAMES)
    windows = [replace(w, cvs=w.cvs[::stride]) for w in windows]
    logs = []
    for window in windows:
        positions = read_frames(Path(window.name) / FRAMES).positions[::stride]
        logs.append(log_weights_of_frames(weigher, positions, window.cvs, seed))
    return reweight_with_generated(windows, logs, made, seed=seed)


def weigher_of(
    model: Path, molecule: Molecule, plumed_input: Path, device: str = "cpu"
) -> ExactMove:
    """What weighs configurations of a model in a file; see `weigher_by`."""
    from openmm_cgan.cgan import ConditionalGAN

    gan = ConditionalGAN.load(model, molecule.topology, device)
    return weigher_by(gan, model, molecule, plumed_input)


def weigher_by(
    gan: ConditionalGenerator, model: Path, molecule: Molecule, plumed_input: Path
) -> ExactMove:
    """What weighs configurations of a model, after a check that the weights are exact.

    Parameters
    ----------
    gan : ConditionalGenerator
    model : Path
        The file that it was read from, for messages.
    molecule : Molecule
    plumed_input : Path
        Its CVs; biases in it count for nothing.
    """
    import openmm
    from openmm import app

    from openmm_cgan import GAS_CONSTANT
    from openmm_cgan.plumed.bias import PlumedBias
    from openmm_cgan.potentials import Potential
    from openmm_cgan.proposals import (
        Screen,
        ScreenSettings,
        generated_atoms,
        require_same_variables,
    )
    from openmm_cgan.reporters.moves import ExactMove, why_not_exact

    if gan.temperature is None:
        raise ValueError(f"{model} does not know the temperature of its frames: train again")
    names = tuple(variable.name for variable in gan.variables)
    bias = PlumedBias(plumed_input, molecule, temperature=gan.temperature, cvs=names)
    require_same_variables(gan.variables, bias.variables)
    bias = bias.restrained(gan.cv_range.mean(axis=1), 0.0)  # the CVs alone
    bias.add_to(openmm.XmlSerializer.clone(molecule.system))  # which knows the masses
    simulation = app.Simulation(
        molecule.topology,
        molecule.system,
        openmm.VerletIntegrator(0.001),
        openmm.Platform.getPlatformByName("Reference"),
    )
    simulation.context.setPositions(molecule.positions)
    if why := why_not_exact(gan, simulation, bias):
        raise ValueError(f"{model} gives no free energy: {why}")
    atoms = generated_atoms(gan, molecule.topology)
    # the energy judges bonds and clashes; what it cannot tell is which molecule was given
    loose = ScreenSettings(clash_fraction=0.0, bond_tolerance=np.inf).turned_by(gan.variables)
    screen = Screen(molecule.topology, molecule.positions[atoms], None, loose, atoms.tolist())
    kT = GAS_CONSTANT * gan.temperature
    return ExactMove(gan, bias, Potential(molecule.system), screen, kT)
