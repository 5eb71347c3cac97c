"""Writes the files of this folder: butane as CHARMM keeps it, and in water as GROMACS does.

The CHARMM parameters are those of CHARMM36 for lipids (J. B. Klauda et al., J. Phys. Chem. B 114,
7830 (2010), doi 10.1021/jp101759q), those of GROMACS are OPLS-AA (W. L. Jorgensen, D. S. Maxwell,
J. Tirado-Rives, J. Am. Chem. Soc. 118, 11225 (1996), doi 10.1021/ja9621760) and SPC water.
The waters are those of OpenMM's box that leave butane its room; all is minimised.
"""

from importlib.resources import files
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

FOLDER = Path(__file__).parent
BOX = 1.8  # nm
ATOMS = [
    "C1",
    "H11",
    "H12",
    "H13",
    "C2",
    "H21",
    "H22",
    "C3",
    "H31",
    "H32",
    "C4",
    "H41",
    "H42",
    "H43",
]
BONDS = [(0, 1), (0, 2), (0, 3), (0, 4), (4, 5), (4, 6), (4, 7), (7, 8), (7, 9), (7, 10),
         (10, 11), (10, 12), (10, 13)]  # fmt: skip

PRM = """* Butane, of the CHARMM36 lipid force field
*

ATOMS
MASS  -1  HAL2     1.00800
MASS  -1  HAL3     1.00800
MASS  -1  CTL2    12.01100
MASS  -1  CTL3    12.01100

BONDS
CTL2 HAL2   309.00   1.111
CTL3 HAL3   322.00   1.111
CTL2 CTL2   222.50   1.530
CTL3 CTL2   222.50   1.528

ANGLES
HAL2 CTL2 HAL2   35.50  109.00    5.40   1.802
HAL3 CTL3 HAL3   35.50  108.40    5.40   1.802
HAL2 CTL2 CTL2   26.50  110.10   22.53   2.179
HAL2 CTL2 CTL3   34.60  110.10   22.53   2.179
HAL3 CTL3 CTL2   34.60  110.10   22.53   2.179
CTL3 CTL2 CTL2   58.00  115.00    8.00   2.561

DIHEDRALS
X    CTL2 CTL2 X      0.190  3    0.00
X    CTL2 CTL3 X      0.160  3    0.00
CTL3 CTL2 CTL2 CTL3   0.060  2    0.00
CTL3 CTL2 CTL2 CTL3   0.035  5    0.00

NONBONDED nbxmod 5 atom cdiel shift vatom vdistance vswitch -
cutnb 14.0 ctofnb 12.0 ctonnb 10.0 eps 1.0 e14fac 1.0 wmin 1.5
HAL2  0.0  -0.0280  1.3400
HAL3  0.0  -0.0240  1.3400
CTL2  0.0  -0.0560  2.0100  0.0  -0.0100  1.9000
CTL3  0.0  -0.0780  2.0400  0.0  -0.0100  1.9000

END
"""

TOP = """; Butane (OPLS-AA) in water (SPC)
[ defaults ]
1 3 yes 0.5 0.5

[ atomtypes ]
CT3  6  12.01100  -0.180  A  0.350  0.276144
CT2  6  12.01100  -0.120  A  0.350  0.276144
HC   1   1.00800   0.060  A  0.250  0.125520
OW   8  15.99940  -0.820  A  0.316557  0.650194
HW   1   1.00800   0.410  A  0.0    0.0

[ bondtypes ]
CT3 CT2 1 0.1529 224262.4
CT2 CT2 1 0.1529 224262.4
CT3 HC  1 0.1090 284512.0
CT2 HC  1 0.1090 284512.0

[ angletypes ]
CT3 CT2 CT2 1 112.7 488.273
CT3 CT2 HC  1 110.7 313.800
CT2 CT3 HC  1 110.7 313.800
CT2 CT2 HC  1 110.7 313.800
HC  CT3 HC  1 107.8 276.144
HC  CT2 HC  1 107.8 276.144

[ dihedraltypes ]
CT3 CT2 CT2 CT3 3 2.9288 -1.4644 0.2092 -1.6736 0.0 0.0
HC  CT3 CT2 CT2 3 0.6276 1.8828 0.0 -2.5104 0.0 0.0
HC  CT3 CT2 HC  3 0.6276 1.8828 0.0 -2.5104 0.0 0.0
HC  CT2 CT2 CT3 3 0.6276 1.8828 0.0 -2.5104 0.0 0.0
HC  CT2 CT2 HC  3 0.6276 1.8828 0.0 -2.5104 0.0 0.0

[ moleculetype ]
BUT 3

[ atoms ]
{atoms}

[ bonds ]
{bonds}

[ pairs ]
{pairs}

[ angles ]
{angles}

[ dihedrals ]
{dihedrals}

[ moleculetype ]
SOL 2

[ atoms ]
1 OW 1 SOL OW  1 -0.82
2 HW 1 SOL HW1 1  0.41
3 HW 1 SOL HW2 1  0.41

[ settles ]
1 1 0.1 0.16330

[ exclusions ]
1 2 3
2 1 3
3 1 2

[ system ]
Butane in water

[ molecules ]
BUT 1
SOL {n_waters}
"""


def paths(length: int) -> list[tuple[int, ...]]:
    """Chains of so many bonded atoms, each once."""
    chains = {pair for bond in BONDS for pair in (bond, bond[::-1])}
    neighbours = {a: [d for c, d in chains if c == a] for a in range(len(ATOMS))}
    found = sorted(chains)
    for _ in range(length - 2):
        found = [(*c, n) for c in found for n in neighbours[c[-1]] if n not in c]
    return [c for c in found if c[0] < c[-1]]


def placed() -> np.ndarray:
    """All-trans butane with tetrahedral angles (14, 3) [nm], its centre at the origin."""
    x = np.zeros((14, 3))
    angle, carbons = np.radians(109.5), [0, 4, 7, 10]
    for i, c in enumerate(carbons):
        x[c] = [0.153 * np.sin(angle / 2) * i, 0.153 * np.cos(angle / 2) * (i % 2), 0.0]
    for i, c in enumerate(carbons):
        hydrogens = [b for a, b in BONDS if a == c and ATOMS[b][0] == "H"]
        around = [x[n] - x[c] for n in (carbons[i - 1 : i] if i else []) + carbons[i + 1 : i + 2]]
        away = -sum(v / np.linalg.norm(v) for v in around)
        away /= np.linalg.norm(away)
        side = np.cross(away, [0.0, 0.0, 1.0])
        if len(hydrogens) == 2:
            turns = [
                np.cos(angle / 2) * away + s * np.sin(angle / 2) * np.eye(3)[2] for s in (1, -1)
            ]
        else:
            third = np.sqrt(8) / 3
            turns = [
                away / 3 + third * (np.cos(t) * side + np.sin(t) * np.eye(3)[2])
                for t in (0.0, 2 * np.pi / 3, 4 * np.pi / 3)
            ]
        for h, turn in zip(hydrogens, turns, strict=True):
            x[h] = x[c] + 0.109 * turn
    return x - x.mean(axis=0)


def topology() -> app.Topology:
    made = app.Topology()
    residue = made.addResidue("BUT", made.addChain("A"))
    atoms = [made.addAtom(n, app.Element.getBySymbol(n[0]), residue) for n in ATOMS]
    for one, two in BONDS:
        made.addBond(atoms[one], atoms[two])
    return made


def charmm_type(name: str) -> str:
    end = name[1] in "14"
    return ("CTL" if name[0] == "C" else "HAL") + ("3" if end else "2")


def write_psf() -> None:
    charges = {"CTL3": -0.27, "CTL2": -0.18, "HAL2": 0.09, "HAL3": 0.09}
    lines = ["PSF", "", "       1 !NTITLE", " REMARKS butane", "", f"{14:8d} !NATOM"]
    for i, name in enumerate(ATOMS):
        kind = charmm_type(name)
        mass = 12.011 if name[0] == "C" else 1.008
        lines.append(
            f"{i + 1:8d} BUTA {1:<4d} BUT  {name:<4s} {kind:<4s} {charges[kind]:10.6f}   "
            f"{mass:8.4f}           0"
        )
    for title, rows, per_line in (
        ("NBOND: bonds", BONDS, 4),
        ("NTHETA: angles", paths(3), 3),
        ("NPHI: dihedrals", paths(4), 2),
    ):
        lines += ["", f"{len(rows):8d} !{title}"]
        for k in range(0, len(rows), per_line):
            numbers = [a + 1 for row in rows[k : k + per_line] for a in row]
            lines.append("".join(f"{n:8d}" for n in numbers))
    for title in ("NIMPHI: impropers", "NDON: donors", "NACC: acceptors", "NNB"):
        lines += ["", f"{0:8d} !{title}", ""]
    lines += ["".join(f"{0:8d}" for _ in range(8)), "".join(f"{0:8d}" for _ in range(6)), ""]
    lines += [f"{1:8d}{0:8d} !NGRP NST2", f"{0:8d}{1:8d}{0:8d}", ""]
    (FOLDER / "butane.psf").write_text("\n".join(lines) + "\n")


def waters(solute: np.ndarray) -> np.ndarray:
    """Waters (n, 3, 3) [nm] inside the box that stay away from a molecule."""
    pdb = app.PDBFile(str(files(app) / "data" / "spce.pdb"))
    x = np.array(pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer)).reshape(-1, 3, 3)
    x = x - x.reshape(-1, 3).min(axis=0)
    inside = ((x > 0.05) & (x < BOX - 0.05)).all(axis=(1, 2))
    near = np.linalg.norm(x[:, :, None] - solute, axis=-1).min(axis=(1, 2))
    return x[inside & (near > 0.25)]


def write_gromacs(solute: np.ndarray, others: np.ndarray) -> None:
    kinds = [("CT" if n[0] == "C" else "HC") + ("" if n[0] == "H" else "23"[n[1] in "14"])
             for n in ATOMS]  # fmt: skip
    charge = {"CT3": -0.18, "CT2": -0.12, "HC": 0.06}
    rows = [
        f"{i + 1} {k} 1 BUT {n} 1 {charge[k]:.2f}"
        for i, (k, n) in enumerate(zip(kinds, ATOMS, strict=True))
    ]

    def listed(chains: list[tuple[int, ...]], function: int) -> str:
        return "\n".join(" ".join(str(a + 1) for a in c) + f" {function}" for c in chains)

    text = TOP.format(
        atoms="\n".join(rows),
        bonds=listed(BONDS, 1),
        pairs=listed([(c[0], c[-1]) for c in paths(4)], 1),
        angles=listed(paths(3), 1),
        dihedrals=listed(paths(4), 3),
        n_waters=len(others),
    )
    (FOLDER / "butane_water.top").write_text(text)
    x = np.concatenate([solute, others.reshape(-1, 3)])
    write_gro(x, len(others))
    write_gro(minimised(x), len(others))


def minimised(x: np.ndarray) -> np.ndarray:
    """Positions (n_atoms, 3) [nm] at which a run may begin."""
    gro = app.GromacsGroFile(str(FOLDER / "butane_water.gro"))
    top = app.GromacsTopFile(
        str(FOLDER / "butane_water.top"), periodicBoxVectors=gro.getPeriodicBoxVectors()
    )
    system = top.createSystem(
        nonbondedMethod=app.PME, nonbondedCutoff=0.8 * unit.nanometer, constraints=app.HBonds
    )
    simulation = app.Simulation(top.topology, system, openmm.VerletIntegrator(0.001))
    simulation.context.setPositions(x)
    simulation.minimizeEnergy()
    state = simulation.context.getState(positions=True)
    return state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)


def write_gro(x: np.ndarray, n_waters: int) -> None:
    names = [("BUT", n, 1) for n in ATOMS]
    names += [("SOL", n, i + 2) for i in range(n_waters) for n in ("OW", "HW1", "HW2")]
    lines = ["Butane in water", str(len(x))]
    for i, ((residue, name, number), at) in enumerate(zip(names, x, strict=True)):
        place = "".join(f"{value:8.3f}" for value in at)
        lines.append(f"{number:5d}{residue:<5s}{name:>5s}{i + 1:5d}{place}")
    lines.append("".join(f"{BOX:10.5f}" for _ in range(3)))
    (FOLDER / "butane_water.gro").write_text("\n".join(lines) + "\n")


def main() -> None:
    x = placed()
    write_psf()
    (FOLDER / "butane.prm").write_text(PRM)
    with (FOLDER / "butane.pdb").open("w") as file:
        app.PDBFile.writeFile(topology(), x * unit.nanometer, file)
    write_gromacs(x + BOX / 2, waters(x + BOX / 2))


if __name__ == "__main__":
    main()
