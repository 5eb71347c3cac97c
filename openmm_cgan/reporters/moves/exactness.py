"""Where proposals can be exact: what that asks of a sampler, of a System and of a bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openmm
from numpy.typing import NDArray

from openmm_cgan.attached_parts import attachments
from openmm_cgan.constraints import constraints_of, masses_of, why_colder, why_not_moved
from openmm_cgan.frames import topology_hash
from openmm_cgan.plumed.bias.watch import integrated_groups
from openmm_cgan.proposals import (
    DensitySampler,
    Sampler,
    generated_atoms,
    hangs_on_rest,
    knows_density,
)
from openmm_cgan.proposals.targets import trained_range
from openmm_cgan.reporters.contexts import present_of
from openmm_cgan.reporters.moves.move import Asked, Refusal
from openmm_cgan.thermostats import has_several_temperatures

if TYPE_CHECKING:
    from openmm.app import Simulation

    from openmm_cgan.plumed.bias import PlumedBias
    from openmm_cgan.potentials import Potential

# of quantum particles, or on a potential that is raised where it is low
OTHER_ENSEMBLES = (
    openmm.QTBIntegrator,
    openmm.RPMDIntegrator,
    openmm.amd.AMDIntegrator,
    openmm.amd.AMDForceGroupIntegrator,
    openmm.amd.DualAMDIntegrator,
)
LENGTH_WITHIN = 1e-3  # relative: between a constraint and what the generator holds


def why_not_exact(sampler: Sampler, simulation: Simulation, bias: PlumedBias) -> str:
    """Why proposals of a sampler cannot be exact in a simulation; empty if they can.

    Parameters
    ----------
    sampler : Sampler
    simulation : openmm.app.Simulation
        Only read.
    bias : PlumedBias
    """
    system = simulation.system
    if not knows_density(sampler):
        return f"the generator of {type(sampler).__name__} has no known density"
    if system.usesPeriodicBoundaryConditions():
        return "the System has a periodic box; exact proposals are for vacuum and implicit solvent"
    missing = system.getNumParticles() - len(generated_atoms(sampler, simulation.topology))
    if missing and hangs_on_rest(sampler):
        return (
            "the generator makes a part that hangs on the rest, which is moved exactly by "
            "mode='local'"
        )
    if missing:
        return (
            f"{missing} of the System's particles are not generated, and all that interact must; "
            "a part that hangs on the rest is moved exactly by mode='local', with a generator "
            "trained by featurize=ZMatrixFeatures.of_part(...)"
        )
    if (masses_of(system) == 0).any():
        return "the System has virtual sites or fixed particles (mass 0)"
    if sampler.constant_others:
        return f"the generator does not vary {', '.join(map(str, sampler.constant_others))}"
    constrained = _pairs(constraints_of(system)[0])
    return _why_held_otherwise(sampler, constrained) or _why_run_forbids(simulation, bias)


def why_not_local(sampler: Sampler, simulation: Simulation, bias: PlumedBias) -> str:
    """Why a part can not be moved exactly among the rest of a simulation; empty if it can.

    Parameters
    ----------
    sampler : Sampler
    simulation : openmm.app.Simulation
        Only read.
    bias : PlumedBias
    """
    system = simulation.system
    if not hangs_on_rest(sampler):
        return "the generator does not make a part that hangs on the rest"
    atoms = generated_atoms(sampler, simulation.topology).tolist()
    try:
        ends = attachments(simulation.topology, atoms)
    except ValueError as error:
        return str(error)
    strange = sorted({b for _, b in ends} - set(sampler.rest.tolist()))
    if strange or max(sampler.rest) >= system.getNumParticles():
        return f"the part hangs on the atoms {strange} here, and on others where it was trained"
    whole = sampler.topology_hash
    if not ends and whole and whole != topology_hash(simulation.topology):
        return "the part is a molecule by itself, and was trained among others than are here"
    if reason := why_not_moved(system, set(atoms)):
        return reason
    if sampler.constant_others:
        return f"the generator does not vary {', '.join(map(str, sampler.constant_others))}"
    touching = {pair for pair in _pairs(constraints_of(system)[0]) if pair & set(atoms)}
    return _why_held_otherwise(sampler, touching) or _why_run_forbids(simulation, bias)


def why_not_steered(simulation: Simulation, bias: PlumedBias) -> str:
    """Why torsions can not be steered exactly in a simulation, which is only read; or empty."""
    return why_colder(simulation.system) or _why_run_forbids(simulation, bias)


def _why_held_otherwise(sampler: DensitySampler, constrained: set[frozenset[int]]) -> str:
    """Why the bonds that a generator holds are not some constraints."""
    held = _pairs(sampler.constant_bonds)
    if held == constrained:
        return ""
    return (
        f"the System constrains {len(constrained)} distances of the generated atoms and the "
        f"generator holds {len(held)} bonds, which differ, first in the atoms "
        f"{sorted(min(held ^ constrained, key=sorted))}"
    )


def _why_run_forbids(simulation: Simulation, bias: PlumedBias) -> str:
    """Why the run's own density is not known: by its integrator, its bias, or other forces."""
    if reason := _why_integrator_forbids(simulation) or _why_bias_forbids(bias, simulation):
        return reason
    if changing := _changing_forces(simulation.system, bias.force_groups()):
        return f"the System has a force that may change during the run: {changing[0]}"
    return ""


def refusal_of_given(asked: Asked, mode: str) -> Refusal | None:
    """Why a sampler cannot be weighed, or the targets ask for seeds, whatever the simulation."""
    kind = type(asked.sampler).__name__
    if not knows_density(asked.sampler):
        return Refusal(
            f"the generator of {kind} has no density",
            f"mode={mode!r} needs the density of what is proposed, and the generator of "
            f"{kind} has none; use mode='seed', which marks a settle window after each "
            "injection",
        )
    if not (isinstance(asked.targets, str) and asked.targets == "uniform"):
        return Refusal(
            "targets are given",
            f"targets are for seeds; mode={mode!r} draws CV values from a known density: leave "
            "targets out, and give one by settings=ProposalSettings(conditions=...)",
        )
    if isinstance(asked.settings.conditions, str):
        trained_range(asked.sampler)
    return None


def why_not_replaced(sampler: Sampler, now: Sampler) -> str:
    """Why a sampler cannot take the place of one that makes exact proposals; empty if it can."""
    if not (knows_density(sampler) and knows_density(now)):
        return f"the generator of {type(sampler).__name__} has no known density"
    if sampler.constant_others:
        return f"the generator does not vary {', '.join(map(str, sampler.constant_others))}"
    if _pairs(sampler.constant_bonds) != _pairs(now.constant_bonds):
        return "it holds other bonds"
    return ""


def require_free(
    potential: Potential, bias: PlumedBias, positions: NDArray[np.float64], kT: float
) -> None:
    """Check that nothing changes when the molecule is moved as a whole.

    Parameters
    ----------
    potential : Potential
        Energies without the bias.
    bias : PlumedBias
    positions : ndarray, shape (n_atoms, 3)
        [nm]
    kT : float
        [kJ/mol]

    Raises
    ------
    ValueError
        If the energy does: a restraint to a place, a wall, an external field.
    """
    turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    both = np.stack([positions, positions @ turn.T + [0.1, -0.2, 0.3]])
    energies = potential.energies(both)
    energies = energies + bias.bias_of_cvs(bias.cv_values(both))
    if abs(energies[1] - energies[0]) > 0.05 * kT + 1e-5 * abs(energies[0]):
        raise ValueError(
            "exact proposals need forces that do not change when the molecule is moved and "
            f"turned as a whole; the energy goes from {energies[0]:.6g} to {energies[1]:.6g} "
            "kJ/mol: use mode='seed', or leave out restraints to places and external fields"
        )


def require_lengths(potential: Potential, sampler: DensitySampler, made: NDArray) -> None:
    """Check that constrained bonds are generated at the lengths of the constraints.

    Parameters
    ----------
    potential : Potential
    sampler : DensitySampler
    made : ndarray, shape (n, n_atoms, 3)
        Configurations of it [nm].

    Raises
    ------
    ValueError
        If one is longer or shorter by more than a thousandth.
    """
    x = np.empty_like(made)
    x[:, np.asarray(sampler.atoms, dtype=int)] = made
    require_held(potential.constraints, potential.constraint_lengths, x)


def require_held(
    pairs: NDArray[np.int64], lengths: NDArray[np.float64], x: NDArray[np.float64]
) -> None:
    """Check that pairs of atoms (k, 2) are at distances (k,) [nm] in all of (n, n_atoms, 3) [nm].

    Raises
    ------
    ValueError
        If one is longer or shorter by more than a thousandth.
    """
    if len(pairs) == 0:
        return
    found = np.linalg.norm(x[:, pairs[:, 0]] - x[:, pairs[:, 1]], axis=-1)
    wrong = np.abs(found / lengths - 1).max(axis=0)
    worst = int(wrong.argmax())
    if wrong[worst] > LENGTH_WITHIN:
        raise ValueError(
            f"the generator holds the atoms {pairs[worst].tolist()} at {found[0, worst]:.5f} nm"
            f", the constraint of the System is {lengths[worst]:.5f} nm; train on frames of "
            "this System"
        )


def require_same_energy(running: float, copied: float, kT: float) -> None:
    """Check that a run and the copy that weighs candidates agree on the present frame.

    Parameters
    ----------
    running, copied : float
        Energies without the bias [kJ/mol]; NaN where not known.
    kT : float
        [kJ/mol]

    Raises
    ------
    RuntimeError
        If they do not: something in the run has changed that the copy cannot follow.
    """
    if abs(running - copied) > 0.01 * kT + 1e-5 * abs(running):
        raise RuntimeError(
            f"the present frame has {running:.6g} kJ/mol in the run and {copied:.6g} in the copy "
            "that weighs proposals: a force changes in the run, as a second bias does, and the "
            "copy does not know it; use mode='seed', or put all biases into one PLUMED input"
        )


def _pairs(rows: Any) -> set[frozenset[int]]:
    return {frozenset(row) for row in np.asarray(rows, dtype=int).reshape(-1, 2).tolist()}


def _changing_forces(system: openmm.System, ours: set[int]) -> list[str]:
    """Forces outside some groups whose tables or functions another program may change in a run.

    openmm.app.Metadynamics has a table, a second PlumedBias a table or a function in Python.
    """
    found = []
    for force in system.getForces():
        if force.getForceGroup() in ours:
            continue
        tabulated = isinstance(force, openmm.CustomCVForce) and force.getNumTabulatedFunctions()
        if tabulated or isinstance(force, openmm.PythonForce):
            found.append(force.getName())
    return found


def _why_integrator_forbids(simulation: Simulation) -> str:
    """Why the distribution that is sampled is not exp(-u) of the System's whole energy."""
    integrator = simulation.integrator
    kind = type(integrator).__name__
    if isinstance(integrator, OTHER_ENSEMBLES):
        return f"{kind} samples another distribution than that of the potential energy"
    if has_several_temperatures(integrator):
        return f"{kind} holds parts of the system at different temperatures"
    felt = integrated_groups(integrator)
    left = [f.getName() for f in simulation.system.getForces() if f.getForceGroup() not in felt]
    return f"{kind} does not integrate the force {left[0]}" if left else ""


def _why_bias_forbids(bias: PlumedBias, simulation: Simulation) -> str:
    if bias.remembers:
        return "the bias depends on the steps before, through the list of models of NEIGH_SIZE"
    positions, box = present_of(simulation)
    try:
        bias.bias_of_cvs(bias.cv_values(positions, box)[None])
    except ValueError as error:
        return f"the bias is not known as a function of the CVs ({error})"
    return ""
