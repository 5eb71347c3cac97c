"""Each setup that people have: frames, proposals, a checkpoint, and going on from it."""

import csv
import logging
from pathlib import Path
from typing import Any

import MDAnalysis
import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from openmm import app

from openmm_cgan import (
    ConditionalGAN,
    FrameReporter,
    PlumedBias,
    ProposalReporter,
)
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.frames import molecule_hash, read_frames
from openmm_cgan.reporters.moves import exactness
from openmm_cgan.states import positions_of
from openmm_cgan.thermostats import temperature_of
from tests.cases.setup_runs import SETTINGS, TARGETS, begun, gone_on, run
from tests.cases.setups import (
    CPU,
    GROUPS,
    SETUPS,
    Library,
    Setup,
    charmm,
    drude,
    langevin,
    library_frames,
    quantum_bath,
    vacuum,
)

# OpenMM's reader of GROMACS files leaves them open
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", SETUPS)
def test_a_setup_works(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make = SETUPS[name]
    simulation, setup = run(make, tmp_path / "run")
    frames = read_frames(tmp_path / "run" / "frames", settling=True)
    assert frames.step.tolist() == list(range(20, 201, 20))
    np.testing.assert_array_equal(frames.atoms, setup.solute)
    assert np.isfinite(frames.positions).all()
    rows = rows_of(tmp_path / "run" / "proposals.csv")
    assert len(rows) == 2
    accepted = [row for row in rows if row["accepted"] == "1"]
    assert accepted, [row["reason"] for row in rows]
    assert temperature_of(simulation) == pytest.approx(300)

    with caplog.at_level(logging.INFO, "openmm_cgan"):
        again = gone_on(make, tmp_path / "half")
    others = rows_of(tmp_path / "half" / "proposals.csv")
    assert [(row["step"], row["seed"]) for row in others] == [(r["step"], r["seed"]) for r in rows]
    other = read_frames(tmp_path / "half" / "frames", settling=True)
    np.testing.assert_array_equal(other.step, frames.step)
    assert np.isfinite(other.positions).all()
    anew = name.startswith("Variable") or "arostat" in name
    assert anew == ("anew, which OpenMM keeps in no checkpoint" in caplog.text)
    if not name.startswith("Variable"):
        ends = [positions_of(s.context.getState(positions=True)) for s in (simulation, again)]
        # The CPU platform adds up forces in another order each time; 0.2 ps away another run of the
        # same setup is 0.05 nm off. Barostats have tried too seldom to change their steps.
        np.testing.assert_allclose(*ends, rtol=0, atol=1e-3 if setup.platform == CPU else 0)


# ---- what cannot be is refused, before anything runs


def proposing(setup: Setup, folder: Path, **arguments: Any) -> ProposalReporter:
    """A reporter made after its bias was attached, before there are positions."""
    atoms = ",".join(str(atom + 1) for atom in setup.torsion)
    bias = PlumedBias(
        f"t: TORSION ATOMS={atoms}\nRESTRAINT ARG=t AT=-1.2 KAPPA=100\n",
        setup.topology,
        directory=folder,
        temperature=arguments.pop("bias_temperature", None),
    )
    bias.add_to(setup.system)
    simulation = setup.simulation()
    library = Library(setup, library_frames("alanine"), bias.variables)
    library.molecule_hash = arguments.pop("molecule", library.molecule_hash)
    if arguments.pop("placed", False):
        simulation.context.setPositions(setup.positions)
    bias.attach(simulation)
    arguments = {"targets": TARGETS, "mode": "seed", "settings": SETTINGS, **arguments}
    made = ProposalReporter(folder / "proposals.csv", 50, library, bias, **arguments)
    simulation.context.setPositions(setup.positions)
    simulation.reporters.append(made)
    simulation.step(1)
    return made


@pytest.mark.parametrize("placed", [True, False])
def test_drude_particles_are_refused(placed: bool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Drude particles have a bath of their own"):
        proposing(drude(), tmp_path, placed=placed)
    assert not (tmp_path / "proposals.csv").exists()  # refused when the reporter was made


@pytest.mark.parametrize("placed", [True, False])
def test_rings_of_beads_are_refused(placed: bool, tmp_path: Path) -> None:
    setup = vacuum(openmm.RPMDIntegrator(2, 300, 1, 0.0005), constraints=None)
    with pytest.raises(ValueError, match="RPMDIntegrator moves a ring of beads"):
        proposing(setup, tmp_path, placed=placed)
    assert not (tmp_path / "proposals.csv").exists()


def test_atoms_that_are_held_are_refused_when_the_reporter_is_made(tmp_path: Path) -> None:
    setup = vacuum(langevin(), constraints=None)
    setup.system.setParticleMass(4, 0)
    with pytest.raises(ValueError, match=r"the atoms \[4\] have mass 0"):
        proposing(setup, tmp_path, mode="auto")
    assert not (tmp_path / "proposals.csv").exists()


def test_what_has_no_temperature_is_refused_when_the_reporter_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="VerletIntegrator has no temperature to draw"):
        proposing(vacuum(openmm.VerletIntegrator(0.002)), tmp_path)
    assert not (tmp_path / "proposals.csv").exists()


def test_the_temperature_of_the_bias_is_taken_where_nothing_else_has_one(tmp_path: Path) -> None:
    made = proposing(vacuum(openmm.VerletIntegrator(0.002)), tmp_path, bias_temperature=310)
    assert made._temperature == 310
    warmer = vacuum(langevin())
    assert proposing(warmer, tmp_path, bias_temperature=310)._temperature == 300


def test_the_wrong_molecule_is_refused_when_the_reporter_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the sampler was trained on another molecule"):
        proposing(vacuum(langevin()), tmp_path, molecule="0" * 64)
    assert not (tmp_path / "proposals.csv").exists()


# ---- exact moves ask that the run samples the whole energy


@pytest.mark.parametrize(
    ("integrator", "reason"),
    [
        (quantum_bath, "QTBIntegrator samples another distribution"),
        (lambda: openmm.AMDIntegrator(0.002, 10, 0), "AMDIntegrator samples another"),
        (lambda: openmm.MTSIntegrator(0.002, [(0, 1), (31, 1)]), "does not integrate the force"),
        (lambda: grouped(openmm.LangevinIntegrator(300, 1, 0.002)), "does not integrate the force"),
        (langevin, ""),
        (lambda: openmm.MTSIntegrator(0.002, GROUPS), ""),
    ],
)
def test_exact_moves_are_not_for_other_ensembles(integrator, reason: str) -> None:
    simulation = vacuum(integrator(), groups=True).simulation()
    found = exactness._why_integrator_forbids(simulation)
    assert reason in found
    assert bool(reason) == bool(found)


def test_parts_at_different_temperatures_have_none_to_draw_at(tmp_path: Path) -> None:
    def chains(other: float) -> openmm.Integrator:
        made = openmm.NoseHooverIntegrator(0.001)
        for parts, temperature in ((range(11), 300), (range(11, 22), other)):
            made.addSubsystemThermostat([*parts], [], temperature, 5, temperature, 5, 3, 3, 3)
        return made

    alike = vacuum(chains(300), constraints=None).simulation()
    assert temperature_of(alike) == 300
    assert exactness._why_integrator_forbids(alike) == ""
    apart = vacuum(chains(350), constraints=None)
    with pytest.raises(ValueError, match=r"holds parts at different temperatures.*give one"):
        proposing(apart, tmp_path)
    simulation = vacuum(chains(350), constraints=None).simulation()
    assert "different temperatures" in exactness._why_integrator_forbids(simulation)


def grouped(integrator: openmm.Integrator) -> openmm.Integrator:
    integrator.setIntegrationForceGroups({0})
    return integrator


# ---- the files that the setups are made of


def test_the_charmm_files_have_the_energy_of_openmms_charmm36(tmp_path: Path) -> None:
    made = charmm()
    names = [(a.name, "CTL" if a.element.symbol == "C" else "HAL") for a in made.topology.atoms()]
    charges = {"CTL2": -0.18, "CTL3": -0.27, "HAL2": 0.09, "HAL3": 0.09}
    kinds = [(n, kind + ("3" if n[1] in "14" else "2")) for n, kind in names]
    atoms = "".join(f'<Atom name="{n}" type="{k}" charge="{charges[k]}"/>' for n, k in kinds)
    bonds = "".join(
        f'<Bond atomName1="{b[0].name}" atomName2="{b[1].name}"/>' for b in made.topology.bonds()
    )
    residues = f'<Residues><Residue name="OURS">{atoms}{bonds}</Residue></Residues>'
    (tmp_path / "ours.xml").write_text(f"<ForceField>{residues}</ForceField>")
    forcefield = app.ForceField("charmm36.xml", str(tmp_path / "ours.xml"))
    [residue] = made.topology.residues()
    system = forcefield.createSystem(
        made.topology, residueTemplates={residue: "OURS"}, constraints=app.HBonds
    )
    for frame in library_frames("butane"):
        energies = [energy_of(s, frame) for s in (made.system, system)]
        assert energies[0] == pytest.approx(energies[1], abs=1e-6)


def energy_of(system: openmm.System, positions: NDArray) -> float:
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions)
    return context.getState(energy=True).getPotentialEnergy()._value


# ---- a generator is tied to its molecule, not to what surrounded it


def test_a_generator_trained_in_vacuum_proposes_in_water(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dry, wet = vacuum(langevin()), SETUPS["TIP3P, PME"]()
    simulation, keepers = begun(dry, tmp_path / "dry")
    simulation.context.setPositions(dry.positions)
    keepers["bias"].attach(simulation)
    simulation.reporters.append(
        frames := FrameReporter(tmp_path / "dry" / "more", 4, keepers["bias"])
    )
    simulation.step(100)
    frames.close()
    settings = TrainingSettings(steps=2, batch=8)
    gan = ConditionalGAN.fit(tmp_path / "dry" / "more", dry.topology, settings)
    gan.save(tmp_path / "model.npz")
    assert gan.molecule_hash == molecule_hash(wet.topology, wet.solute)
    gan = ConditionalGAN.load(tmp_path / "model.npz", wet.topology)

    simulation, keepers = begun(wet, tmp_path / "wet")
    simulation.context.setPositions(wet.positions)
    keepers["bias"].attach(simulation)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        made = ProposalReporter(tmp_path / "p.csv", 10, gan, keepers["bias"], settings=SETTINGS)
    assert made.mode == "seed"
    [told] = [text for text in caplog.messages if "was trained on frames of" in text]
    assert "other molecules or other names around it" in told
    assert "another System (force field, constraints, solvent or barostat)" in told
    simulation.reporters += [keepers["frames"], made]
    simulation.step(20)
    assert sum(made.counts().values()) == 2
    # what is written in water is of the solute, and MDAnalysis opens it
    keepers["frames"].close()
    folder = tmp_path / "wet" / "frames"
    universe = MDAnalysis.Universe(str(folder / "atoms.pdb"), str(folder / "segment-00001.h5md"))
    np.testing.assert_allclose(
        universe.atoms.positions, 10 * read_frames(folder, settling=True).positions[0], atol=1e-4
    )
    assert set(universe.atoms.resnames) == {"ACE", "ALA", "NME"}


def test_frames_written_whole_are_trained_on_a_part(tmp_path: Path) -> None:
    wet = SETUPS["TIP3P, PME"]()
    simulation, keepers = begun(wet, tmp_path)
    simulation.context.setPositions(wet.positions)
    keepers["bias"].attach(simulation)
    whole = FrameReporter(tmp_path / "whole", 1, keepers["bias"], atoms="all")
    simulation.reporters.append(whole)
    simulation.step(20)
    whole.close()
    frames = read_frames(tmp_path / "whole")
    assert len(frames.atoms) == wet.topology.getNumAtoms()
    settings = TrainingSettings(steps=1, batch=8)
    for atoms in (None, "protein", wet.solute):
        gan = ConditionalGAN.fit(frames, wet.topology, settings, atoms=atoms)
        np.testing.assert_array_equal(gan.atoms, wet.solute)
    part = ConditionalGAN.fit(frames, wet.topology, settings, atoms="resname ALA NME")
    assert part.n_atoms == 16
    with pytest.raises(ValueError, match="finds none"):
        ConditionalGAN.fit(frames, wet.topology, settings, atoms="resname LIG")
