"""Files of AMBER, CHARMM, GROMACS and OpenMM give the Systems that OpenMM's own scripts make."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from click.testing import CliRunner
from openmm import app, unit

from openmm_cgan.cli import main
from openmm_cgan.cli.molecule_files import MoleculeFiles, add_barostat, molecule_of
from openmm_cgan.cli.run_records import write_start
from openmm_cgan.frames import read_frames, topology_hash
from openmm_cgan.molecules import read_molecule
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import Molecule, alanine_dipeptide
from tests.cases import ROOT

pytestmark = pytest.mark.filterwarnings(  # OpenMM leaves GROMACS files open
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

DATA = ROOT / "examples" / "data"
STRUCTURE = ROOT / "openmm_cgan" / "data" / "alanine_dipeptide.pdb"
TORSION = "t: TORSION ATOMS=1,5,8,11\nRESTRAINT ARG=t AT=0 KAPPA=10\n"
CHARMM = MoleculeFiles(
    psf=DATA / "butane.psf", crd=DATA / "butane.pdb", params=(DATA / "butane.prm",)
)
GROMACS = MoleculeFiles(top=DATA / "butane_water.top", gro=DATA / "butane_water.gro")


def xml(system: openmm.System) -> str:
    return openmm.XmlSerializer.serialize(system)


def amber_files(kind: str) -> tuple[Path, Path]:
    from openmmtools.testsystems import get_data_filename

    name = f"data/alanine-dipeptide-{kind}/alanine-dipeptide"
    return Path(get_data_filename(f"{name}.prmtop")), Path(get_data_filename(f"{name}.crd"))


@pytest.mark.filterwarnings("ignore")  # openmmtools'
def test_amber_files_are_those_of_openmms_script() -> None:
    prmtop, inpcrd = amber_files("gbsa")
    script = app.AmberPrmtopFile(str(prmtop)).createSystem(
        implicitSolvent=app.OBC2, constraints=app.HBonds, hydrogenMass=3 * unit.amu
    )
    files = MoleculeFiles(prmtop=prmtop, inpcrd=inpcrd, implicit_solvent="OBC2", hydrogen_mass=3.0)
    ours = molecule_of(files)
    assert xml(ours.system) == xml(script)
    prmtop, inpcrd = amber_files("explicit")
    found = app.AmberInpcrdFile(str(inpcrd))
    script = app.AmberPrmtopFile(
        str(prmtop), periodicBoxVectors=found.boxVectors
    ).createSystem(nonbondedMethod=app.PME, nonbondedCutoff=0.9, constraints=app.HBonds,
                   switchDistance=0.8 * unit.nanometer)  # fmt: skip
    ours = molecule_of(MoleculeFiles(prmtop=prmtop, inpcrd=inpcrd, cutoff=0.9, switch_distance=0.8))
    assert xml(ours.system) == xml(script)
    np.testing.assert_array_equal(ours.positions, found.getPositions(asNumpy=True)._value)


def test_charmm_files_are_those_of_openmms_script() -> None:
    psf = app.CharmmPsfFile(str(DATA / "butane.psf"))
    script = psf.createSystem(
        app.CharmmParameterSet(str(DATA / "butane.prm")), nonbondedMethod=app.NoCutoff,
        constraints=app.HBonds,
    )  # fmt: skip
    assert xml(molecule_of(CHARMM).system) == xml(script)


def test_water_without_a_box_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    water = molecule_of(GROMACS)
    assert not caplog.messages
    water.topology.setPeriodicBoxVectors(None)
    with (tmp_path / "water.pdb").open("w") as file:
        app.PDBFile.writeFile(water.topology, water.positions * unit.nanometer, file)
    system = openmm.System()
    for _ in range(water.system.getNumParticles()):
        system.addParticle(1.0)
    (tmp_path / "system.xml").write_text(xml(system))
    molecule_of(MoleculeFiles(structure=tmp_path / "water.pdb", system=tmp_path / "system.xml"))
    [told] = caplog.messages
    assert "are water or ions, and there is no box" in told


def test_bonds_that_only_the_system_knows_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pdb = app.PDBFile(str(STRUCTURE))
    system = app.ForceField("amber96.xml").createSystem(pdb.topology)
    files = MoleculeFiles(STRUCTURE, system=tmp_path / "system.xml")
    bonds = next(f for f in system.getForces() if isinstance(f, openmm.HarmonicBondForce))
    for stiffness in (0.0, 500.0, 3e5):  # nothing, an elastic network, a bond
        bonds.addBond(1, 18, 0.15, stiffness)
        (tmp_path / "system.xml").write_text(xml(system))
        molecule_of(files)
        assert bool(caplog.messages) == (stiffness > 1e5)
    assert "first between ACE 1 CH3 and NME 3 C" in caplog.text


def test_restraints_of_gromacs_files_that_openmm_reads_over_are_told(tmp_path: Path) -> None:
    text = (DATA / "butane_water.top").read_text()
    section = "[ position_restraints ]\n1 1 1000 1000 1000\n\n"
    for name, more in (("always", section), ("asked", f"#ifdef POSRES\n{section}#endif\n\n")):
        (tmp_path / f"{name}.top").write_text(text.replace("[ system ]", more + "[ system ]"))
    asked = molecule_of(replace(GROMACS, top=tmp_path / "asked.top"))
    assert xml(asked.system) == xml(molecule_of(GROMACS).system)
    with pytest.raises(ValueError, match=r"\[ position_restraints \], which OpenMM reads over"):
        molecule_of(replace(GROMACS, top=tmp_path / "always.top"))


def test_gromacs_files_are_those_of_openmms_script() -> None:
    gro = app.GromacsGroFile(str(DATA / "butane_water.gro"))
    box = gro.getPeriodicBoxVectors()
    top = app.GromacsTopFile(str(DATA / "butane_water.top"), periodicBoxVectors=box)
    cutoff = 0.45 * min(box[i][i]._value for i in range(3))
    script = top.createSystem(
        nonbondedMethod=app.PME, nonbondedCutoff=min(1.0, cutoff) * unit.nanometer,
        constraints=app.HBonds,
    )  # fmt: skip
    assert xml(molecule_of(GROMACS).system) == xml(script)


def test_a_run_keeps_the_molecule_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "plumed.dat").write_text(TORSION)
    words = ["run", "--psf", CHARMM.psf, "--crd", CHARMM.crd, "--params", CHARMM.params[0],
             "--plumed", tmp_path / "plumed.dat", "--steps", 4, "--platform", "Reference",
             "--out", tmp_path / "run", "--frames-every", 2]  # fmt: skip
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    require_kept(tmp_path / "run", molecule_of(CHARMM))
    result = CliRunner().invoke(main, [str(word) for word in [*words, "--pressure", 1]])
    assert result.exit_code == 1
    assert "the molecule has no box" in result.output


def test_a_run_keeps_the_bonds_of_its_files(tmp_path: Path) -> None:
    """Reading its PDB file gives those of water too, which GROMACS's constraints stand for."""
    water = molecule_of(GROMACS)
    add_barostat(water, 1.0, 300.0, 1)
    start = water.positions * unit.nanometer
    write_start(tmp_path, water.topology, start, PlumedBias(TORSION, water.topology))
    (tmp_path / "system.xml").write_text(xml(water.system))
    kept = require_kept(tmp_path, water)
    np.testing.assert_allclose(kept.positions, water.positions, atol=1e-4)  # as a PDB file has it
    other = app.PDBFile(str(tmp_path / "topology.pdb")).topology
    assert topology_hash(other) != topology_hash(water.topology)


def require_kept(folder: Path, given: Molecule) -> Molecule:
    kept = read_molecule(folder)
    assert topology_hash(kept.topology) == topology_hash(given.topology)
    assert xml(kept.system) == xml(given.system)
    return kept


def test_a_serialized_system_is_taken_as_it_is(tmp_path: Path) -> None:
    pdb = app.PDBFile(str(STRUCTURE))
    system = app.ForceField("amber96.xml").createSystem(pdb.topology, hydrogenMass=2 * unit.amu)
    (tmp_path / "system.xml").write_text(xml(system))
    ours = molecule_of(MoleculeFiles(STRUCTURE, system=tmp_path / "system.xml"))
    assert xml(ours.system) == xml(system)
    files = MoleculeFiles(STRUCTURE, system=tmp_path / "system.xml", constraints="HBonds")
    with pytest.raises(ValueError, match="--constraints: the System says that itself"):
        molecule_of(files)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (MoleculeFiles(), "no molecule: got no file, expected --system STRUCTURE|no file"),
        (MoleculeFiles(psf=DATA / "butane.psf"), "no molecule: got --psf"),
        (MoleculeFiles(STRUCTURE, implicit_solvent="OBC2"), "--forcefield implicit/obc2.xml"),
        (MoleculeFiles(Path("a.top")), "a.top is no PDB or mmCIF file: give --top and --gro"),
        (MoleculeFiles(STRUCTURE, forcefield=("amber96.xml",), cutoff=0.9), "no box"),
        (MoleculeFiles(STRUCTURE, forcefield=("amber96.xml",), box="3,3"), "three lengths"),
        (MoleculeFiles(STRUCTURE, forcefield=("amber96.xml",), box="3,3,3", cutoff=2.0),
         "half of the box"),
        (MoleculeFiles(top=GROMACS.top, gro=DATA / "butane.pdb"), "can not be read"),
        (MoleculeFiles(psf=CHARMM.psf, crd=STRUCTURE, params=CHARMM.params), "belong together"),
    ],
)  # fmt: skip
def test_files_that_make_no_molecule_are_refused(files: MoleculeFiles, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        molecule_of(files)


def test_a_pressure_needs_a_box_and_no_other_barostat() -> None:
    water = molecule_of(GROMACS)
    add_barostat(water, 1.0, 300.0, 1)
    with pytest.raises(ValueError, match="barostat already"):
        add_barostat(water, 1.0, 300.0, 1)
    with pytest.raises(ValueError, match="no box"):
        add_barostat(molecule_of(CHARMM), 1.0, 300.0, 1)


def test_of_several_models_and_places_the_first_is_taken_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = STRUCTURE.read_text().splitlines()
    atoms = [line for line in lines if line.startswith(("ATOM", "HETATM"))]
    moved = [f"{line[:30]}{float(line[30:38]) + 1:8.3f}{line[38:]}" for line in atoms]

    def read(*rows: str) -> np.ndarray:
        (tmp_path / "m.pdb").write_text("\n".join(rows) + "\n")
        files = MoleculeFiles(structure=tmp_path / "m.pdb", forcefield=("amber96.xml",))
        return molecule_of(files).positions

    plain = read(*atoms)
    assert not caplog.records
    both = read("MODEL        1", *atoms, "ENDMDL", "MODEL        2", *moved, "ENDMDL")
    np.testing.assert_array_equal(both, plain)
    assert caplog.messages == [f"{tmp_path / 'm.pdb'} has 2 models: the first one is taken"]
    caplog.clear()
    pairs = zip(atoms, moved, strict=True)
    double = [
        f"{one[:16]}{place}{one[17:]}"
        for two in pairs
        for place, one in zip("AB", two, strict=True)
    ]
    np.testing.assert_array_equal(read(*double), plain)
    assert "has alternate locations, first of" in caplog.text


def test_a_seed_of_0_is_one_as_others_are_and_so_are_those_of_forces(tmp_path: Path) -> None:
    """OpenMM draws one of its own for 0, each time another, of thermostats in a System too."""
    molecule = alanine_dipeptide("C7eq")
    molecule.system.addForce(openmm.AndersenThermostat(300, 50.0))
    (tmp_path / "system.xml").write_text(xml(molecule.system))
    (tmp_path / "plumed.dat").write_text(TORSION)
    common = [STRUCTURE, "--system", tmp_path / "system.xml", "--frames-every", 20,
              "--plumed", tmp_path / "plumed.dat", "--steps", 100, "--platform", "Reference",
              "--seed", 0]  # fmt: skip
    ends = []
    for name in ("one", "other"):
        result = CliRunner().invoke(main, ["run", *map(str, [*common, "--out", tmp_path / name])])
        assert result.exit_code == 0, result.output
        ends.append(read_frames(tmp_path / name / "frames").positions[-1])
    np.testing.assert_array_equal(*ends)
