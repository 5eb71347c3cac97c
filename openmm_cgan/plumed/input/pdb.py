"""PDB files as PLUMED reads them: MOLINFO's selectors (``@phi-2``, ``@CA-A12``) and references.

Atom numbers are the serials of the PDB file. Definitions of the torsions: IUPAC-IUB, doi
10.1021/bi00820a001 and 10.1111/j.1432-1033.1983.tb07225.x, as PLUMED has them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from openmm_cgan.atomic_files import require_readable
from openmm_cgan.plumed.input.language import lines_of
from openmm_cgan.plumed.input.selections import PACKAGES, select_by_package
from openmm_cgan.plumed.input.words import NotNativeError

MAX_PDB_BYTES = 512 * 1024**2

# fmt: off
# Residue names that PLUMED takes for these kinds of molecules; it has no CYX, CYM, LYN or MSE
PROTEIN = frozenset((
    "ALA", "ARG", "ASN", "ASP", "ASH", "CYS", "GLN", "GLU", "GLH", "GLY", "HIS", "HID", "HIE",
    "HIP", "HSD", "HSE", "HSP", "ILE", "LEU", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP",
    "TYR", "VAL", "NLE", "SFO", "ACE", "NME", "NH2",
))
NUCLEIC = frozenset(
    prefix + base + end
    for prefix, bases in (("", "AGTUC"), ("D", "AGTC"), ("R", "AGUC"))
    for base in bases
    for end in ("", "5", "3", "N")
)
_KINDS = {
    "protein": PROTEIN,
    "nucleic": NUCLEIC,
    "water": frozenset(("SOL", "WAT")),
    "ions": frozenset(("IB+", "CA", "CL", "NA", "MG", "K", "RB", "CS", "LI", "ZN")),
}
_ENDS = frozenset(("ACE", "NME", "NH2"))  # without a backbone of their own
CAPS = frozenset(("ACE", "NME", "NMA", "NH2"))
BACKBONE = frozenset((
    "N", "CA", "C", "O", "H", "HN", "H1", "H2", "H3", "HA", "HA1", "HA2", "HA3", "OXT", "OT1",
    "OT2", "OC1", "OC2",
))
_NOT_SIDECHAIN = BACKBONE - {"HA1", "HA2", "HA3"}
_THIRD = {"ILE": "CG1", "VAL": "CG1", "CYS": "SG", "CYX": "SG", "THR": "OG1", "SER": "OG"}
_FOURTH = {
    "ASN": "OD1", "ASP": "OD1", "ASH": "OD1", "HIS": "ND1", "HID": "ND1", "HIE": "ND1",
    "HIP": "ND1", "LEU": "CD1", "PHE": "CD1", "TRP": "CD1", "TYR": "CD1", "MET": "SD",
}
_FIFTH = {"ARG": "NE", "GLN": "OE1", "GLU": "OE1", "GLH": "OE1", "LYS": "CE", "MET": "CE"}
# Of nucleotides: atoms, with > for the next residue and < for the one before
_NUCLEOTIDE = {
    "alpha": "<O3' P O5' C5'", "beta": "P O5' C5' C4'", "gamma": "O5' C5' C4' C3'",
    "delta": "C5' C4' C3' O3'", "epsilon": "C4' C3' O3' >P", "zeta": "C3' O3' >P >O5'",
    "v0": "C4' O4' C1' C2'", "v1": "O4' C1' C2' C3'", "v2": "C1' C2' C3' C4'",
    "v3": "C2' C3' C4' O4'", "v4": "C3' C4' O4' C1'", "back": "P O5' C5' C4' C3' O3'",
    "sugar": "C4' O4' C1' C2' C3'",
}
_PYRIMIDINE = {"chi": "O4' C1' N1 C2", "lcs": "C2 C4 C6"}
_PURINE = {"chi": "O4' C1' N9 C4", "lcs": "C2 C6 C4"}
_BASES = {
    "C": {**_PYRIMIDINE, "base": "N1 C2 O2 N3 C4 N4 C5 C6"},
    "U": {**_PYRIMIDINE, "base": "N1 C2 O2 N3 C4 O4 C5 C6"},
    "T": {**_PYRIMIDINE, "base": "N1 C2 O2 N3 C4 O4 C5 C7 C6"},
    "G": {**_PURINE, "base": "N9 C4 N3 C2 N2 N1 C6 O6 C5 N7 C8"},
    "A": {**_PURINE, "base": "N9 C4 N1 C2 N3 C6 N6 C5 N7 C8"},
}
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
        if selector.partition(":")[0] in PACKAGES:
            return select_by_package(self.path, selector)
        if selector in (*_KINDS, "nonhydrogens", "hydrogens"):
            return self._many(selector)
        match = re.fullmatch(r"([A-Za-z0-9'*]+)-([A-Za-z0-9]*_|[A-Za-z]?)(-?\d+)", selector)
        if match is None:
            raise NotNativeError(f"the selector '@{selector}' is not known natively")
        name, chain, number = match[1], match[2].rstrip("_"), int(match[3])
        residue = self._residue(chain, number)
        if name in ("back", "sidechain") and residue[0].residue not in NUCLEIC:
            kind = residue[0].residue
            if kind in CAPS or kind not in PROTEIN or (name, kind) == ("sidechain", "GLY"):
                raise NotNativeError(f"@{selector} of {kind}: it has none")
            chosen = _NOT_SIDECHAIN if name == "sidechain" else BACKBONE
            wanted = [a for a in residue if (a.name in chosen) == (name == "back")]
            return [atom.serial - 1 for atom in wanted]
        return [self._atom(chain, number + k, atom) for k, atom in self._names(name, chain, number)]

    def backbone(self, residues: list[int] | None) -> list[tuple[int, ...]]:
        """Zero-based backbone atoms of residues, a list for each unbroken piece of a chain.

        N, CA, CB (HA2 of glycine), C and O of each.

        Parameters
        ----------
        residues : list of int, optional
            All but caps if absent.

        Raises
        ------
        ValueError
            If an atom is missing, or a residue is none of a protein.
        """
        chains = dict.fromkeys(atom.chain for atom in self.atoms)
        own = {c: dict.fromkeys(a.number for a in self.atoms if a.chain == c) for c in chains}
        places = [number for numbers in own.values() for number in numbers]
        if len(set(places)) < len(places):
            raise NotNativeError(f"{self.path} has residue numbers in several chains")
        if residues is None:
            residues = []
            for numbers in own.values():
                first, last = min(numbers), max(numbers)
                first += self._residue("", first)[0].residue in _ENDS
                last -= self._residue("", last)[0].residue in _ENDS
                residues += range(first, last + 1)
        pieces: list[list[int]] = []
        before = None
        for number in residues:
            residue = self._residue("", number)[0]
            if residue.residue not in PROTEIN or residue.residue in _ENDS:
                raise ValueError(f"residue {residue.residue} {number} of {self.path} has no CA")
            if before is None or (number, residue.chain) != (before.number + 1, before.chain):
                pieces.append([])
            third = "HA2" if residue.residue == "GLY" else "CB"
            names = ("N", "CA", third, "C", "O")
            pieces[-1] += [self._atom(residue.chain, number, name) for name in names]
            before = residue
        return [tuple(piece) for piece in pieces]

    def _many(self, selector: str) -> list[int]:
        def wanted(atom: PdbAtom) -> bool:
            hydrogen = atom.name.lstrip("0123456789").startswith("H")
            if selector in _KINDS:
                return atom.residue in _KINDS[selector]
            return hydrogen == (selector == "hydrogens")

        serials = [atom.serial - 1 for atom in self.atoms if wanted(atom)]
        if not serials:
            raise ValueError(f"{self.path} has no {selector}")
        return serials

    def _names(self, name: str, chain: str, number: int) -> list[tuple[int, str]]:
        """Residue offsets and atom names of a selector."""
        residue = self._residue(chain, number)[0].residue
        if residue in NUCLEIC:
            [base] = set(residue) & set(_BASES)
            text = (_NUCLEOTIDE | _BASES[base]).get(name, name)
            return [({"<": -1, ">": 1}.get(a[0], 0), a.lstrip("<>")) for a in text.split()]
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
            raise NotNativeError(f"@{name} of {residue} {number}: not an amino acid")
        torsion = torsions[name]
        if name == "chi3":
            torsion[3] = (0, _FIFTH.get(residue, "CE"))
        if name == "chi4" and residue == "LYS":
            torsion[2:] = [(0, "CE"), (0, "NZ")]
        return torsion

    def _residue(self, chain: str, number: int) -> list[PdbAtom]:
        residue = [a for a in self.atoms if a.number == number and (not chain or a.chain == chain)]
        if not residue:
            where = f"chain {chain} of " if chain else ""
            raise ValueError(f"{where}{self.path} has no residue {number}")
        return [atom for atom in residue if atom.chain == residue[0].chain]

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
    require_readable(path, MAX_PDB_BYTES)
    models: list[list[PdbAtom]] = []
    atoms: list[PdbAtom] = []
    for number, line in enumerate(lines_of(path.read_text("utf-8", errors="replace")), start=1):
        if line[:6].strip() in ("END", "ENDMDL") and atoms:
            models.append(atoms)
            atoms = []
        if line.startswith(("ATOM  ", "HETATM")):
            atoms.append(_atom_of_line(path, number, line))
    if not models and not atoms:
        raise ValueError(f"{path} has no ATOM line: it is not a PDB file")
    return models or [atoms]


def read_blocks(path: Path) -> list[int]:
    """Number of the block of each atom of the first model: a line TER ends one."""
    require_readable(path, MAX_PDB_BYTES)
    blocks: list[int] = []
    number = 0
    for line in lines_of(path.read_text("utf-8", errors="replace")):
        word = line[:6].strip()
        if word in ("END", "ENDMDL") and blocks:
            break
        if word in ("ATOM", "HETATM"):
            blocks.append(number)
        elif word == "TER":
            number += 1
    return blocks


def read_remarks(path: Path) -> list[dict[str, str]]:
    """The words ``NAME=VALUE`` of the REMARK lines of each model, the first of each name."""
    require_readable(path, MAX_PDB_BYTES)
    remarks: list[dict[str, str]] = []
    words: dict[str, str] = {}
    begun = False
    for line in lines_of(path.read_text("utf-8", errors="replace")):
        if line[:6].strip() in ("END", "ENDMDL") and begun:
            remarks.append(words)
            words, begun = {}, False
        begun = begun or line.startswith(("ATOM  ", "HETATM"))
        for word in line[6:].split() if line.startswith("REMARK") else ():
            name, equals, value = word.partition("=")
            if equals:
                words.setdefault(name, value)
    return remarks or [words]


def _hybrid_36(text: str) -> int:
    """A number that goes on in letters where its columns are full: 99999, A0000 ... a0000 ..."""
    first, width = text[:1], len(text)
    if not ("A" <= first <= "Z" or "a" <= first <= "z"):
        return int(text)
    if not text.isalnum() or not text.isascii() or text not in (text.upper(), text.lower()):
        raise ValueError(text)
    begin = 10 if first.isupper() else -16
    return int(text, 36) - begin * 36 ** (width - 1) + 10**width


def _atom_of_line(path: Path, number: int, line: str) -> PdbAtom:
    try:
        x, y, z = (0.1 * float(line[k : k + 8]) for k in (30, 38, 46))
        occupancy, beta = (float(line[k : k + 6].strip() or 0) for k in (54, 60))
        if not all(map(math.isfinite, (x, y, z, occupancy, beta))):
            raise ValueError(line)
        return PdbAtom(
            serial=_hybrid_36(line[6:11]),
            name=line[12:16].strip(),
            residue=line[17:20].strip(),
            chain=line[21].strip(),
            number=_hybrid_36(line[22:26]),
            position=(x, y, z),
            occupancy=occupancy,
            beta=beta,
        )
    except (ValueError, IndexError):
        raise NotNativeError(f"{path}:{number}: not read as an ATOM line of a PDB file") from None
