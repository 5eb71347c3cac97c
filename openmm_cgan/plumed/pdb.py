"""PDB files as PLUMED reads them: MOLINFO's selectors (``@phi-2``, ``@CA-A12``) and references.

Atom numbers are the serials of the PDB file. Definitions of the torsions: IUPAC-IUB, doi
10.1021/bi00820a001, as PLUMED has them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MAX_PDB_BYTES = 512 * 1024**2

# fmt: off
PROTEIN = frozenset((
    "ALA", "ARG", "ASN", "ASP", "ASH", "CYS", "CYX", "CYM", "GLN", "GLU", "GLH", "GLY", "HIS",
    "HID", "HIE", "HIP", "HSD", "HSE", "HSP", "ILE", "LEU", "LYS", "LYN", "MET", "PHE", "PRO",
    "SER", "THR", "TRP", "TYR", "VAL", "MSE", "ACE", "NME", "NMA", "NH2",
))
CAPS = frozenset(("ACE", "NME", "NMA", "NH2"))
BACKBONE = frozenset((
    "N", "CA", "C", "O", "H", "HN", "H1", "H2", "H3", "HA", "HA1", "HA2", "HA3", "OXT", "OT1",
    "OT2", "OC1", "OC2",
))
_THIRD = {"ILE": "CG1", "VAL": "CG1", "CYS": "SG", "CYX": "SG", "THR": "OG1", "SER": "OG"}
_FOURTH = {
    "ASN": "OD1", "ASP": "OD1", "ASH": "OD1", "HIS": "ND1", "HID": "ND1", "HIE": "ND1",
    "HIP": "ND1", "LEU": "CD1", "PHE": "CD1", "TRP": "CD1", "TYR": "CD1", "MET": "SD",
}
_FIFTH = {"ARG": "NE", "GLN": "OE1", "GLU": "OE1", "GLH": "OE1", "LYS": "CE", "MET": "CE"}
# fmt: on


@dataclass(frozen=True)
class PdbAtom:
    """One atom of a PDB file; its position in nm."""

    serial: int
    name: str
    residue: str
    chain: str
    number: int
    position: tuple[float, float, float]
    occupancy: float
    beta: float


class MolInfo:
    """What a PDB file says of the atoms.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ValueError
        If there is no such file, or it is no PDB file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.atoms = read_pdb(path)

    def select(self, selector: str) -> list[int]:
        """Zero-based atoms of a selector without its ``@``.

        Raises
        ------
        ValueError
            If it is not known, or names what the file does not have.
        """
        if selector in ("protein", "nonhydrogens", "hydrogens"):
            return self._many(selector)
        match = re.fullmatch(r"([A-Za-z0-9'*]+)-([A-Za-z]?_?)(-?\d+)", selector)
        if match is None:
            raise ValueError(f"the selector '@{selector}' is not known natively")
        name, chain, number = match[1], match[2].rstrip("_"), int(match[3])
        if name in ("back", "sidechain"):
            residue = self._residue(chain, number)
            wanted = [a for a in residue if (a.name in BACKBONE) == (name == "back")]
            return [atom.serial - 1 for atom in wanted]
        return [self._atom(chain, number + k, atom) for k, atom in self._names(name, chain, number)]

    def _many(self, selector: str) -> list[int]:
        def wanted(atom: PdbAtom) -> bool:
            hydrogen = atom.name.lstrip("0123456789").startswith("H")
            if selector == "protein":
                return atom.residue in PROTEIN
            return hydrogen == (selector == "hydrogens")

        return [atom.serial - 1 for atom in self.atoms if wanted(atom)]

    def _names(self, name: str, chain: str, number: int) -> list[tuple[int, str]]:
        """Residue offsets and atom names of a selector."""
        residue = self._residue(chain, number)[0].residue
        third = _THIRD.get(residue, "CG")
        torsions = {
            "phi": [(-1, "C"), (0, "N"), (0, "CA"), (0, "C")],
            "psi": [(0, "N"), (0, "CA"), (0, "C"), (1, "N")],
            "omega": [(-1, "CA"), (-1, "C"), (0, "N"), (0, "CA")],
            "chi1": [(0, "N"), (0, "CA"), (0, "CB"), (0, third)],
            "chi2": [(0, "CA"), (0, "CB"), (0, third), (0, _FOURTH.get(residue, "CD"))],
            "chi3": [(0, "CB"), (0, "CG"), (0, _FOURTH.get(residue, "CD")), (0, "")],
            "chi4": [(0, "CG"), (0, "CD"), (0, "NE"), (0, "CZ")],
            "chi5": [(0, "CD"), (0, "NE"), (0, "CZ"), (0, "NH1")],
        }
        if name not in torsions:
            return [(0, name)]
        if residue in CAPS or residue not in PROTEIN:
            raise ValueError(f"@{name} of {residue} {number}: not an amino acid")
        found = torsions[name]
        if name == "chi3":
            found[3] = (0, _FIFTH.get(residue, "CE"))
        if name == "chi4" and residue == "LYS":
            found[2:] = [(0, "CE"), (0, "NZ")]
        return found

    def _residue(self, chain: str, number: int) -> list[PdbAtom]:
        found = [a for a in self.atoms if a.number == number and (not chain or a.chain == chain)]
        if not found:
            where = f"chain {chain} of " if chain else ""
            raise ValueError(f"{where}{self.path} has no residue {number}")
        return [atom for atom in found if atom.chain == found[0].chain]

    def _atom(self, chain: str, number: int, name: str) -> int:
        residue = self._residue(chain, number)
        for atom in residue:
            if atom.name == name:
                return atom.serial - 1
        raise ValueError(f"residue {residue[0].residue} {number} of {self.path} has no atom {name}")


def read_pdb(path: Path) -> list[PdbAtom]:
    """Atoms of the first model of a PDB file, by its fixed columns.

    Raises
    ------
    ValueError
        If there is no such file, or it is no PDB file.
    """
    return read_models(path)[0]


def read_models(path: Path) -> list[list[PdbAtom]]:
    """Atoms of the models of a PDB file, each ended by END or ENDMDL, by its fixed columns.

    Atoms after the last END are a model only where there is no other, as in PLUMED.

    Raises
    ------
    ValueError
        If there is no such file, or it is no PDB file.
    """
    if not path.is_file():
        raise ValueError(f"no PDB file {path}")
    if path.stat().st_size > MAX_PDB_BYTES:
        raise ValueError(f"{path} has more than {MAX_PDB_BYTES} bytes")
    models: list[list[PdbAtom]] = []
    atoms: list[PdbAtom] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if line[:6].strip() in ("END", "ENDMDL") and atoms:
            models.append(atoms)
            atoms = []
        if line.startswith(("ATOM  ", "HETATM")):
            atoms.append(_atom_of_line(path, number, line))
    if not models and not atoms:
        raise ValueError(f"{path} has no ATOM line: it is not a PDB file")
    return models or [atoms]


def _atom_of_line(path: Path, number: int, line: str) -> PdbAtom:
    try:
        x, y, z = (0.1 * float(line[k : k + 8]) for k in (30, 38, 46))
        return PdbAtom(
            serial=int(line[6:11]),
            name=line[12:16].strip(),
            residue=line[17:21].strip(),
            chain=line[21].strip(),
            number=int(line[22:26]),
            position=(x, y, z),
            occupancy=float(line[54:60].strip() or 0),
            beta=float(line[60:66].strip() or 0),
        )
    except (ValueError, IndexError):
        raise ValueError(f"{path}:{number}: not read as an ATOM line of a PDB file") from None
