"""A molecule ready to simulate from the files of AMBER, CHARMM, GROMACS or OpenMM."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import app, unit

from openmm_cgan.atom_selection import solute_atoms
from openmm_cgan.constraints import harmonic_bonds
from openmm_cgan.molecules import Molecule
from openmm_cgan.openmm_xml import from_xml
from openmm_cgan.proposals.stereochemistry import BondGraph
from openmm_cgan.seeds import seed_for_openmm
from openmm_cgan.topologies import read_configuration, read_structure
from openmm_cgan.topology_records import topology_beside

logger = logging.getLogger("openmm_cgan")

CONSTRAINTS = {
    "None": None, "HBonds": app.HBonds, "AllBonds": app.AllBonds, "HAngles": app.HAngles,
}  # fmt: skip
FORCEFIELD = ("amber14-all.xml", "amber14/tip3pfb.xml")
IMPLICIT = ("HCT", "OBC1", "OBC2", "GBn", "GBn2")
CUTOFF = 1.0  # nm
LONGEST_BOND, LEAST_STIFFNESS = 0.25, 2e4  # nm, kJ/mol/nm^2: elastic networks have softer ones
NEIGHBOURS = 3  # bonds: CHARMM's Urey-Bradley terms are harmonic bonds, too
LEAST_SOLVENT = 60  # atoms: fewer may be waters of a crystal
RESTRAINTS = ("_restraints", "intermolecular_interactions")  # sections of GROMACS files
OTHER_KINDS = {  # of files that are not a STRUCTURE by themselves
    ".prmtop": "--prmtop and --inpcrd", ".parm7": "--prmtop and --inpcrd",
    ".psf": "--psf, --crd and --params", ".top": "--top and --gro", ".gro": "--top and --gro",
}  # fmt: skip


@dataclass(frozen=True)
class MoleculeFiles:
    """Files of one molecule, and how its System is made of them; None where it was not said.

    Attributes
    ----------
    structure : Path
        PDB or mmCIF, with `forcefield`, or with `system`.
    prmtop, inpcrd : Path
        Of AMBER; a restart file as well.
    psf, crd : Path
        Of CHARMM; positions from a PDB or mmCIF file as well.
    params : sequence of Path
        Of CHARMM: .prm, .rtf, .str, .par.
    top, gro : Path
        Of GROMACS.
    system : Path
        A System that OpenMM serialized, which says all but the positions.
    forcefield : sequence of str
        Of OpenMM, for `structure`.
    constraints : str
        One of `CONSTRAINTS`; by default those of hydrogens.
    implicit_solvent : str
        One of `IMPLICIT`, for AMBER and CHARMM.
    hydrogen_mass : float
        [amu]
    cutoff, switch_distance : float
        Of a periodic System [nm]; by default 1 nm, or less in a small box, and no switch.
    box : str
        Three lengths [nm], where no file has them.
    """

    structure: Path | None = None
    prmtop: Path | None = None
    inpcrd: Path | None = None
    psf: Path | None = None
    crd: Path | None = None
    params: Sequence[Path] = ()
    top: Path | None = None
    gro: Path | None = None
    system: Path | None = None
    forcefield: Sequence[str] = ()
    constraints: str | None = None
    implicit_solvent: str | None = None
    hydrogen_mass: float | None = None
    cutoff: float | None = None
    switch_distance: float | None = None
    box: str | None = None

    @property
    def given(self) -> set[str]:
        """Names of what was said."""
        return {f.name for f in fields(self) if getattr(self, f.name) not in (None, ())}


Kind = tuple[set[str], set[str], Callable[[MoleculeFiles], Molecule]]


def molecule_of(files: MoleculeFiles) -> Molecule:
    """Make a Molecule; with a box its System is periodic (PME), else it has no cutoff.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If files of two programs are given, one is missing of a kind, something is given that the
        others do not take, or OpenMM can not make a System of them.
    """
    given = files.given
    for needed, allowed, make in _kinds():
        if needed <= given:
            if too_many := given - needed - allowed:
                raise ValueError(
                    f"{_flags(needed)} {'is' if len(needed) == 1 else 'are'} not taken together "
                    f"with {_flags(too_many)}: {_says(needed, too_many)}"
                )
            made = make(files)
            _tell_of_lost_box(made)
            if files.structure is not None:
                _tell_of_choices(files.structure)
            return made
    ways = "; or ".join(_flags(needed) for needed, _, _ in _kinds())
    raise ValueError(f"no molecule: got {_flags(given) or 'no file'}, expected {ways}")


def _tell_of_lost_box(molecule: Molecule) -> None:
    """Warn where so much water is in no box that one was meant: it would boil off in vacuum."""
    if molecule.system.usesPeriodicBoundaryConditions():
        return
    others = molecule.topology.getNumAtoms() - len(solute_atoms(molecule.topology))
    if others >= LEAST_SOLVENT:
        logger.warning(
            "%d atoms are water or ions, and there is no box: they are a droplet in vacuum, all of "
            "whose pairs are counted. If a box was meant, give --box or a file that has it",
            others,
        )  # fmt: skip


def _tell_of_choices(structure: Path) -> None:
    """Warn where a PDB file has several models, or places of an atom: OpenMM takes the first."""
    if structure.suffix.lower() not in (".pdb", ".ent"):
        return
    lines = structure.read_text(errors="replace").splitlines()
    models = sum(line.startswith("MODEL ") for line in lines)
    others = [line for line in lines if line.startswith(("ATOM", "HETATM")) and line[16:17].strip()]
    if models > 1:
        logger.warning("%s has %d models: the first one is taken", structure, models)
    if len({line[16] for line in others}) > 1:
        logger.warning(
            "%s has alternate locations, first of %s: one of each is taken, as OpenMM does; if it "
            "should be another, leave the others out", structure, others[0][12:27].strip(),
        )  # fmt: skip


def _kinds() -> list[Kind]:
    """What is needed, what may be said too, and who makes a Molecule of it."""
    how = {"constraints", "hydrogen_mass", "cutoff", "switch_distance"}
    return [
        ({"system", "structure"}, set(), _of_system),
        ({"prmtop", "inpcrd"}, how | {"implicit_solvent", "box"}, _of_amber),
        ({"psf", "crd", "params"}, how | {"implicit_solvent", "box"}, _of_charmm),
        ({"top", "gro"}, how, _of_gromacs),
        ({"structure"}, how | {"forcefield", "box"}, _of_structure),
    ]


def _says(needed: set[str], too_many: set[str]) -> str:
    """What to do instead."""
    if "system" in needed:
        return "the System says that itself"
    if too_many == {"implicit_solvent"} and "structure" in needed:
        return "it is a force-field file there, --forcefield implicit/obc2.xml beside the others"
    return "give one kind of files"


def _flags(names: set[str]) -> str:
    """Options as a user types them, in the order of the fields."""
    order = [f.name for f in fields(MoleculeFiles) if f.name in names]
    typed = ["STRUCTURE" if n == "structure" else f"--{n.replace('_', '-')}" for n in order]
    return " ".join(typed)


def _of_structure(files: MoleculeFiles) -> Molecule:
    assert files.structure is not None
    if kind := OTHER_KINDS.get(files.structure.suffix.lower()):
        raise ValueError(f"{files.structure} is no PDB or mmCIF file: give {kind}")
    pdb = read_configuration(files.structure)
    topology = pdb.topology
    if files.box is not None:
        topology.setPeriodicBoxVectors(_box(files.box))
    forcefield = app.ForceField(*(files.forcefield or FORCEFIELD))
    options = _options(files, topology.getPeriodicBoxVectors())
    return _molecule(topology, forcefield.createSystem(topology, **options), pdb.positions)


def _of_amber(files: MoleculeFiles) -> Molecule:
    inpcrd = _read(app.AmberInpcrdFile, files.inpcrd)
    box = _box(files.box) or inpcrd.boxVectors
    prmtop = _read(app.AmberPrmtopFile, files.prmtop, periodicBoxVectors=box)
    periodic = prmtop.topology.getPeriodicBoxVectors()
    if periodic is not None and box is None:
        raise ValueError(f"{files.prmtop} is periodic, but {files.inpcrd} has no box: give --box")
    system = prmtop.createSystem(**_options(files, periodic), **_implicit(files, periodic))
    return _molecule(prmtop.topology, system, inpcrd.positions)


def _of_charmm(files: MoleculeFiles) -> Molecule:
    assert files.crd is not None
    if files.crd.suffix.lower() in (".crd", ".cor"):
        found, box = _read(app.CharmmCrdFile, files.crd), None
    else:
        found = read_configuration(files.crd)
        box = found.topology.getPeriodicBoxVectors()
    box = _box(files.box) or box
    psf = _read(app.CharmmPsfFile, files.psf, periodicBoxVectors=box)
    parameters = _read(app.CharmmParameterSet, *files.params)
    system = psf.createSystem(parameters, **_options(files, box), **_implicit(files, box))
    return _molecule(psf.topology, system, found.positions)


class _Top(app.GromacsTopFile):
    """A GROMACS file, and which of its sections OpenMM reads over."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.restrained: set[str] = set()
        super().__init__(*args, **options)

    def _processLine(self, line: str, file: str) -> None:  # noqa: N802 (OpenMM's name)
        super()._processLine(line, file)
        if str(self._currentCategory).endswith(RESTRAINTS):
            self.restrained.add(self._currentCategory)


def _of_gromacs(files: MoleculeFiles) -> Molecule:
    assert files.top is not None
    gro = _read(app.GromacsGroFile, files.gro)
    box = gro.getPeriodicBoxVectors()
    if not np.asarray(box.value_in_unit(unit.nanometer)).any():  # a .gro file of vacuum
        box = None
    top = read_structure(files.top) if box is None else None
    if not isinstance(top, app.AmberPrmtopFile):  # which may have that ending, too
        top = _read(_Top, files.top, periodicBoxVectors=box, includeDir=os.environ.get("GMXLIB"))
    if isinstance(top, _Top) and top.restrained:
        raise ValueError(
            f"{files.top} has {', '.join(f'[ {name} ]' for name in sorted(top.restrained))}, which "
            "OpenMM reads over: the molecule would not be restrained. Leave it out (by #ifdef), "
            "and restrain what must be by the PLUMED input"
        )
    return _molecule(top.topology, top.createSystem(**_options(files, box)), gro.positions)


def _of_system(files: MoleculeFiles) -> Molecule:
    assert files.structure is not None
    assert files.system is not None
    pdb = read_configuration(files.structure)
    system = from_xml(files.system.read_text(), openmm.System, files.system)
    topology = topology_beside(files.structure) or pdb.topology
    _tell_of_bonds(files.structure, topology, system)
    return _molecule(topology, system, pdb.positions)


def _tell_of_bonds(structure: Path, topology: app.Topology, system: openmm.System) -> None:
    """Warn of stiff, short bonds of a System between molecules, or ends of one, of a structure.

    By bonds the screens know amides, stereocentres and what clashes, and generators what is tied.
    """
    if system.getNumParticles() != topology.getNumAtoms():
        return  # refused in words
    graph = BondGraph.from_topology(topology)
    own = [
        pair
        for pair, (length, stiffness) in harmonic_bonds(system).items()
        if length < LONGEST_BOND and stiffness > LEAST_STIFFNESS
        and pair[1] not in graph.within(pair[0], NEIGHBOURS)
    ]  # fmt: skip
    if own:
        one, two = (list(topology.atoms())[atom] for atom in own[0])
        logger.warning(
            "the System has bonds that %s does not tell (%d: first between %s %s %s and %s %s %s; "
            "a ring of residues, a metal): screens and generators do not know them. Give --prmtop, "
            "--psf or --top, or a PDB file with CONECT records",
            structure, len(own), one.residue.name, one.residue.id, one.name,
            two.residue.name, two.residue.id, two.name,
        )  # fmt: skip


def _read(reader: Callable[..., Any], *paths: Path | None, **options: Any) -> Any:
    """What OpenMM reads from a file; its own errors are of any kind, and seldom in words."""
    names = [str(path) for path in paths]
    try:
        return reader(*names, **options)
    except Exception as error:
        raise ValueError(
            f"{', '.join(names)} can not be read as OpenMM's {reader.__name__} does "
            f"({type(error).__name__}: {error})"
        ) from error


def _box(text: str | None) -> Any:
    """Box vectors of ``3,3,3``, None of None."""
    if text is None:
        return None
    try:
        lengths = [float(word) for word in text.split(",")]
    except ValueError:
        lengths = []
    if len(lengths) != 3 or not all(0 < length < float("inf") for length in lengths):
        raise ValueError(f"--box {text!r}: expected three lengths [nm], such as 3,3,3")
    return np.diag(lengths) * unit.nanometer


def _options(files: MoleculeFiles, box: Any) -> dict[str, Any]:
    """Arguments of createSystem that all kinds of files take."""
    constraints = files.constraints or "HBonds"
    if constraints not in CONSTRAINTS:
        raise ValueError(f"constraints {constraints!r}: expected one of {', '.join(CONSTRAINTS)}")
    options: dict[str, Any] = {"constraints": CONSTRAINTS[constraints]}
    if files.hydrogen_mass is not None:
        options["hydrogenMass"] = files.hydrogen_mass * unit.amu
    if box is None:
        if said := files.given & {"cutoff", "switch_distance"}:
            raise ValueError(f"{_flags(said)}: the molecule has no box, and all pairs are counted")
        return options | {"nonbondedMethod": app.NoCutoff}
    shortest = float(np.diag(box.value_in_unit(unit.nanometer)).min())
    cutoff = min(CUTOFF, 0.45 * shortest) if files.cutoff is None else files.cutoff
    if not 0 < cutoff <= 0.5 * shortest:
        raise ValueError(f"--cutoff {cutoff:g}: expected half of the box, {shortest:g} nm, at most")
    options |= {"nonbondedMethod": app.PME, "nonbondedCutoff": cutoff * unit.nanometer}
    if files.switch_distance is not None:
        if not 0 < files.switch_distance < cutoff:
            raise ValueError(
                f"--switch-distance {files.switch_distance:g}: expected between 0 and the cutoff, "
                f"{cutoff:g} nm"
            )
        options["switchDistance"] = files.switch_distance * unit.nanometer
    return options


def _implicit(files: MoleculeFiles, box: Any) -> dict[str, Any]:
    if files.implicit_solvent is None:
        return {}
    if files.implicit_solvent not in IMPLICIT or box is not None:
        where = "" if box is None else ", of a molecule without a box"
        raise ValueError(
            f"--implicit-solvent {files.implicit_solvent}: expected one of "
            f"{', '.join(IMPLICIT)}{where}"
        )
    return {"implicitSolvent": getattr(app, files.implicit_solvent)}


def add_barostat(molecule: Molecule, pressure: float, temperature: float, seed: int) -> None:
    """Have a System keep a pressure [bar] at a temperature [K].

    Raises
    ------
    ValueError
        If it has no box, or a barostat already.
    """
    system = molecule.system
    if not system.usesPeriodicBoundaryConditions():
        raise ValueError(f"--pressure {pressure:g}: the molecule has no box")
    if any("Barostat" in force.getName() for force in system.getForces()):
        raise ValueError(f"--pressure {pressure:g}: the System has a barostat already")
    barostat = openmm.MonteCarloBarostat(pressure * unit.bar, temperature * unit.kelvin)
    barostat.setRandomNumberSeed(seed_for_openmm(seed))
    system.addForce(barostat)


def _molecule(topology: app.Topology, system: openmm.System, positions: Any) -> Molecule:
    values = np.array(positions.value_in_unit(unit.nanometer), dtype=float)
    counts = topology.getNumAtoms(), system.getNumParticles(), len(values)
    if len(set(counts)) > 1:
        raise ValueError(
            f"the files do not belong together: a topology of {counts[0]} atoms, a System of "
            f"{counts[1]} particles, {counts[2]} positions"
        )
    return Molecule(topology, system, values)
