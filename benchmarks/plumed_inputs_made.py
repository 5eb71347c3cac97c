"""Random valid PLUMED inputs, the first half: virtual atoms, variables and functions of them.

plumed_biases_made.py makes the second, once it is known where the values are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

MOLECULES = (range(1, 11), range(11, 17), range(17, 22), range(22, 25))
N_ATOMS = 24
NAMES = "N CA C O N CA C O N CA".split()  # noqa: SIM905
LENGTHS = {"nm": 1.0, "A": 0.1, "Bohr": 0.052917721067, "0.25": 0.25}
ENERGIES = {"kj/mol": 1.0, "kcal/mol": 4.184, "eV": 96.48530749925792, "2.5": 2.5}
TIMES = {"ps": 1.0, "fs": 0.001, "0.2": 0.2}
FUNCTIONS = (
    "sin(x)", "x*x+0.3*x", "exp(-x^2/(1+x^2))", "log(1+x^2)", "tanh(x)*x", "erf(x)", "sqrt(x^2+1)",
    "abs(x-0.3)", "atan(x)", "acosh(1.5+x^2)", "asinh(x)", "x/(1+x^2)", "max(x,0.2)", "cube(x)",
    "step(x-0.1)*x^2", "select(x-0.4,x,x^2)", "erfc(x)", "cosh(sin(x))", "recip(2+cos(x))",
    "acot(x)+atanh(0.5*sin(x))", "2*a+1;a=sin(x)*b;b=pi", "x^3-x^2", "-x^2", "2^sin(x)", "floor(x)",
    "delta(x)+ceil(x)", "asech(0.3+0.1*sin(x))", "coth(2+x^2)", "1e-3*x+1.5E0", "x-(-x)^3",
    "sec(0.2*sin(x))+csc(1+0.1*cos(x))", "acsc(2+x^2)", "min(x,1-x)", "e^(-abs(x))*ln2",
)  # fmt: skip
FUNCTIONS_OF_TWO = (
    "x*y", "atan2(x,y+3)", "sin(x)*cos(y)", "min(x,y)", "max(x,y)", "x/(1+y^2)",
    "sqrt(x^2+y^2+0.1)",
    "select(x,y,x*y)", "exp(-(x-y)^2/(1+x^2+y^2))", "abs(x-y)", "step(x-y)*(x-y)^2", "x^2-y",
    "log(2+x^2+y^4)", "(1+x^2)^(0.5*sin(y))",
)  # fmt: skip
GYRATIONS = (
    "RADIUS", "TRACE", "GTPC_1", "GTPC_2", "GTPC_3", "ASPHERICITY", "ACYLINDRICITY", "KAPPA2",
    "RGYR_1", "RGYR_2", "RGYR_3",
)  # fmt: skip


class Inputs:
    """One random input.

    Parameters
    ----------
    random : Random
    folder : Path
        Where the files that it reads are written.
    positions : ndarray, shape (N_ATOMS, 3)
        Of the first frame [nm].
    has_box : bool
    """

    def __init__(self, random: Random, folder: Path, positions: np.ndarray, kind: str) -> None:
        self.random, self.folder, self.positions = random, folder, positions
        self.kind, self.has_box = kind, kind != "none"
        self.lines: list[str] = []
        self.values: list[str] = []
        self.virtual: list[str] = []
        self.groups: list[str] = []
        self.files: set[str] = set()
        self.count = 0
        self.units = random.random() < 0.4
        self.length = self.energy = self.time = 1.0
        if self.units:
            self._units()
        if random.random() < 0.5:
            self._molinfo()

    # ---- words

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def flag(self, word: str, p: float = 0.25) -> str:
        return f" {word}" if self.chance(p) else ""

    def label(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def number(self, x: float) -> str:
        form = self.random.choice(("{:.4g}", "{:.6g}", "{:.3e}"))
        return form.format(x)

    def uniform(self, low: float, high: float) -> str:
        return self.number(self.random.uniform(low, high))

    def metres(self, low: float, high: float) -> str:
        """A length of so many nm."""
        return self.number(self.random.uniform(low, high) / self.length)

    def add(self, text: str) -> None:
        self.lines.append(text)

    # ---- set-up

    def _units(self) -> None:
        r, words = self.random, ["UNITS"]
        if self.chance(0.7):
            name = r.choice(list(LENGTHS))
            self.length = LENGTHS[name]
            words.append(f"LENGTH={name}")
        if self.chance(0.7):
            name = r.choice(list(ENERGIES))
            self.energy = ENERGIES[name]
            words.append(f"ENERGY={name}")
        if self.chance(0.5):
            name = r.choice(list(TIMES))
            self.time = TIMES[name]
            words.append(f"TIME={name}")
        words += [w for w in ("MASS=2", "CHARGE=0.5") if self.chance(0.3)]
        self.add(" ".join(words))

    def _molinfo(self) -> None:
        rows = []
        for i in range(N_ATOMS):
            name, residue = (NAMES[i], i // 4 + 1) if i < 10 else (f"X{i}", 9)
            kind = "GLY" if i < 10 else "LIG"
            x, y, z = 10 * self.positions[i]
            rows.append(
                f"ATOM  {i + 1:5d} {name:<4s} {kind} A{residue:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
                "  1.00  1.00"
            )
        (self.folder / "mol.pdb").write_text("\n".join([*rows, "END", ""]))
        self.add("MOLINFO STRUCTURE=mol.pdb")
        self.groups += ["@CA-1,@C-1,@N-2"]

    def reference(self, n_models: int = 1) -> tuple[str, list[int]]:
        r, name = self.random, f"ref{len(self.files)}.pdb"
        self.files.add(name)
        atoms = self.within(r.randrange(4, 8))
        even = self.chance(0.5)
        columns = [(1.0, 1.0) if even else (r.uniform(0.2, 3), r.uniform(0.2, 3)) for _ in atoms]
        text, rng = "", np.random.default_rng(r.randrange(10**6))
        for k in range(n_models):
            text += f"REMARK X={k * 0.7:.3f} Y={1 - k}\n"
            for serial, (occupancy, beta) in zip(atoms, columns, strict=True):
                x, y, z = 10 * self.positions[serial - 1] + rng.normal(0, 0.5 + 0.2 * k, 3)
                text += (
                    f"ATOM  {serial:5d}  C   MOL A   1    {x:8.3f}{y:8.3f}{z:8.3f}"
                    f"{occupancy:6.2f}{beta:6.2f}\n"
                )
            text += "END\n"
        (self.folder / name).write_text(text)
        return name, atoms

    # ---- atoms

    def within(self, n: int) -> list[int]:
        """So many atoms of one molecule."""
        fitting = [m for m in MOLECULES if len(m) >= n] or [MOLECULES[0]]
        return self.random.sample(list(self.random.choice(fitting)), min(n, 10))

    def anywhere(self, n: int) -> list[int]:
        return self.random.sample(range(1, N_ATOMS + 1), n)

    def group(
        self, n: int, mixed: bool | None = None, plain: bool = True, files: bool = True
    ) -> str:
        """A list of n atoms in one of the ways in which lists are written."""
        r = self.random
        if mixed is None:
            mixed = self.chance(0.4)
        way = r.randrange(5)
        if way == 0:
            molecule = r.choice([m for m in MOLECULES if len(m) >= n] or [MOLECULES[0]])
            start = r.randrange(molecule[0], molecule[-1] - n + 2)
            return f"{start}-{start + n - 1}"
        if way == 1 and n <= 5:
            start = r.randrange(1, N_ATOMS - 2 * n) if mixed else 1
            return f"{start}-{start + 2 * n - 2}:2"
        if way == 2 and n <= 5 and not mixed:
            return f"{2 * n}-2:-2"
        if way == 3 and files:
            atoms = self.anywhere(n) if mixed else self.within(n)
            name = f"g{len(self.files)}.ndx"
            self.files.add(name)
            (self.folder / name).write_text(f"[ first ]\n{' '.join(map(str, atoms))}\n")
            return f"@ndx:{name}" if plain else f"{{@ndx:{{{name} first}}}}"
        atoms = self.anywhere(n) if mixed else self.within(n)
        return ",".join(map(str, atoms))

    def site(self) -> str:
        """An atom, or one of the virtual ones above."""
        if self.virtual and self.chance(0.5):
            return self.random.choice(self.virtual)
        return str(self.random.randrange(1, N_ATOMS + 1))

    def sites(self, n: int) -> str:
        found: list[str] = []
        while len(found) < n:
            site = self.site()
            if site not in found:
                found.append(site)
        return ",".join(found)

    def switch(self, rational: bool = False) -> str:
        """The words of a switching function."""
        r = self.random
        r0 = f"R_0={self.metres(0.15, 0.5)}"
        d0 = f" D_0={self.metres(0.02, 0.2)}" if self.chance(0.3) else ""
        end = ""
        if self.chance(0.4):
            end = f" D_MAX={self.metres(0.7, 1.1)}" + self.flag("NOSTRETCH", 0.3)
        beta, ref = self.number(30 * self.length), self.metres(0.2, 0.4)
        powers = r.choice(("", " NN=8", " NN=6 MM=10", " NN=7 MM=9", " NN=12 MM=24", " NN=1 MM=3"))
        kinds = (
            f"RATIONAL {r0}{powers}{d0}{end}", f"EXP {r0}{d0}{end}", f"GAUSSIAN {r0}{d0}{end}",
            f"TANH {r0}{d0}{end}", f"COSINUS {r0}{d0}", f"SMAP {r0} A=8 B=4{d0}{end}",
            f"Q {r0} BETA={beta} LAMBDA=1.5 REF={ref}{d0}{end}",
            f"CUBIC D_0={self.metres(0.05, 0.2)} D_MAX={self.metres(0.5, 1)}",
            f"CUSTOM {r0} FUNC=1/(1+x^5){d0}{end}", f"CUSTOM {r0} FUNC=exp(-x2){end}",
        )  # fmt: skip
        return kinds[0] if rational else r.choice(kinds)

    def reduction(self, letter: str) -> str:
        """What a vector is reduced by."""
        b, s = self.number(0.2 * self.scale), self.number(0.1 * self.scale)
        low, high = self.number(0.1 * self.scale), self.number(0.8 * self.scale)
        how = self.random.choice((
            "MEAN", "SUM", "LOWEST", "HIGHEST", f"MIN={{BETA={self.number(30 * self.scale)}}}",
            f"MAX={{BETA={b}}}", f"ALT_MIN={{BETA={self.number(5 / self.scale)}}}",
            f"LESS_THAN={{RATIONAL R_0={high}}}", f"MORE_THAN={{RATIONAL R_0={high} NN=8}}",
            f"BETWEEN={{GAUSSIAN LOWER={low} UPPER={high} SMEAR=0.5}}",
            f"LESS_THAN1={{EXP R_0={high}}} LESS_THAN2={{RATIONAL R_0={s} D_MAX={high}}}",
            f"HISTOGRAM={{GAUSSIAN LOWER=0 UPPER={high} NBINS=4 SMEAR=0.4}}",
        ))  # fmt: skip
        return "MEAN" if how.startswith("MIN") and self.axis else how  # PLUMED's overflows

    # ---- variables

    def variables(self) -> str:
        """Virtual atoms, variables and functions."""
        if self.chance(0.3):
            self._group()
        if self.chance(0.15):
            self.add(f"WHOLEMOLECULES ENTITY0=1-10 ENTITY1={self.group(4, False)}")
        for _ in range(self.random.choice((0, 0, 1, 1, 2, 3))):
            self._virtual()
        for _ in range(self.random.randrange(1, 5)):
            self.random.choice(self._variable_makers())()
        for _ in range(self.random.choice((0, 0, 1, 1, 2)) if self.values else 0):
            self.random.choice((self._combine, self._custom, self._custom, self._sort))()
        return "\n".join([*self.lines, ""])

    def _group(self) -> None:
        label, words = self.label("g"), f"ATOMS={self.group(4)}"
        words += self.random.choice(("", " SORT", " UNIQUE"))
        self.add(f"{label}: GROUP {words}")
        self.groups.append(label)

    def _virtual(self) -> None:
        label, r = self.label("c"), self.random
        kind = r.randrange(7)
        nopbc = self.flag("NOPBC", 0.15)
        n = r.randrange(2, 6)
        group = self.group(n, plain=self.chance(0.5))
        if self.groups and self.chance(0.3):
            group = r.choice(self.groups)
        if kind == 0:
            self.add(f"{label}: FIXEDATOM AT={','.join(self.metres(0, 1) for _ in range(3))}")
        elif kind == 1 and self.has_box:
            at = ",".join(self.uniform(0, 1) for _ in range(3))
            self.add(f"{label}: FIXEDATOM AT={at} SCALED_COMPONENTS")
        elif kind == 2:
            group = ",".join(map(str, self.within(n)))
            weights = ",".join(self.uniform(0.2, 3) for _ in range(n))
            self.add(f"{label}: CENTER ATOMS={group} WEIGHTS={weights}{nopbc}")
        elif kind == 3:
            self.add(f"{label}: CENTER ATOMS={group} MASS{nopbc}{self.flag('SET_MASS=5', 0.2)}")
        elif kind == 4 and self.kind != "triclinic":
            self.add(f"{label}: {r.choice(('COM', 'CENTER'))} ATOMS={group} PHASES")
        elif kind == 5 and self.virtual:
            plain = [c for c in self.virtual if self._is_plain(c)] or ["7"]
            members = ",".join([r.choice(plain), *map(str, self.within(2))])
            self.add(f"{label}: {r.choice(('COM', 'CENTER'))} ATOMS={members}")
        else:
            self.add(f"{label}: {r.choice(('COM', 'CENTER'))} ATOMS={group}{nopbc}")
        self.virtual.append(label)

    def _is_plain(self, label: str) -> bool:
        [line] = [line for line in self.lines if line.startswith(f"{label}: ")]
        return not re.search("FIXEDATOM|PHASES|NOPBC", line)

    def _variable_makers(self) -> tuple[Callable[[], None], ...]:
        return (
            self._distance, self._distance, self._components, self._angle, self._torsion,
            self._torsion, self._position, self._coordination, self._coordination, self._contacts,
            self._distances, self._coordination_number, self._alpha_beta, self._puckering,
            self._axis, self._gyration, self._rmsd, self._path, self._box, self._constant,
            self._property_map, self._time, self._function_path, self._ermsd, self._moved,
            self._pairs, self._gyration_of_few,
        )  # fmt: skip

    def one(self, letter: str, words: str) -> None:
        label = self.label(letter)
        self.add(f"{label}: {words}")
        self.values.append(label)

    def several(self, letter: str, words: str, names: str) -> None:
        label = self.label(letter)
        self.add(f"{label}: {words}")
        self.values += [f"{label}.{name}" for name in names.split()]

    def _nopbc(self) -> str:
        return self.flag("NOPBC", 0.15)

    def _distance(self) -> None:
        self.one("d", f"DISTANCE ATOMS={self.sites(2)}{self._nopbc()}")

    def _components(self) -> None:
        if self.chance(0.6):
            self.several("d", f"DISTANCE ATOMS={self.sites(2)} COMPONENTS{self._nopbc()}", "x y z")
        else:
            self.several("d", f"DISTANCE ATOMS={self.sites(2)} SCALED_COMPONENTS", "a b c")

    def _angle(self) -> None:
        self.one("a", f"ANGLE ATOMS={self.sites(self.random.choice((3, 4)))}{self._nopbc()}")

    def _torsion(self) -> None:
        if self.chance(0.6):
            words = f"ATOMS={self.sites(4)}"
        elif "MOLINFO" in "".join(self.lines) and self.chance(0.5):
            words = f"ATOMS={self.random.choice(('@phi-2', '@psi-1', '@psi-2', '@omega-2'))}"
        else:
            a, b, c, d, e, f = self.sites(6).split(",")
            b = self.random.choice((b, c))
            words = f"VECTORA={a},{b} AXIS={c},{d} VECTORB={e},{f}"
        self.one("t", f"TORSION {words}{self.flag('COSINE', 0.1)}{self._nopbc()}")

    def _position(self) -> None:
        if self.chance(0.4):
            self.several("p", f"POSITION ATOM={self.site()} SCALED_COMPONENTS", "a b c")
        else:
            self.several("p", f"POSITION ATOM={self.site()}{self.flag('NOPBC', 0.1)}", "x y z")

    def _coordination(self) -> None:
        r = self.random
        if self.chance(0.4):
            switch = f"R_0={self.metres(0.2, 0.5)}" + r.choice(("", " NN=8", " NN=4 MM=9"))
            switch += f" D_0={self.metres(0.05, 0.1)}" if self.chance(0.3) else ""
        else:
            switch = f"SWITCH={{{self.switch()}}}"
        a, b = self.group(3, True), self.group(3, True)
        if self.virtual and self.chance(0.3):
            a = f"{self.site()},{','.join(map(str, self.within(2)))}"
        groups = r.choice((f"GROUPA={a}", f"GROUPA={a} GROUPB={b}", f"GROUPA={a} GROUPB={b} PAIR"))
        self.one("n", f"COORDINATION {groups} {switch}{self._nopbc()}")

    def _contacts(self) -> None:
        r, words = self.random, ""
        n = r.randrange(1, 4)
        many = self.chance(0.3)
        for i in range(1, n + 1):
            words += f" ATOMS{i}={self.sites(2)}"
            words += f" SWITCH{i}={{{self.switch()}}}" if many else ""
            words += f" REFERENCE{i}={self.uniform(0, 1)}" if n > 1 and many else ""
            words += f" WEIGHT{i}={self.uniform(0.1, 2)}" if many else ""
        words += "" if many else f" SWITCH={{{self.switch()}}}" + " REFERENCE=0.5"
        how = (
            r.choice(("", " SUM", " CMDIST")) if " REFERENCE=" in words else r.choice(("", " SUM"))
        )
        names = " ".join(f"contact-{i}" for i in range(1, n + 1))
        if how:
            self.one("m", f"CONTACTMAP{words}{how}{self._nopbc()}")
        else:
            self.several("m", f"CONTACTMAP{words}{self._nopbc()}", names)

    def _reduced(self, letter: str, words: str) -> None:
        label, how = self.label(letter), self.reduction(letter)
        self.add(f"{label}: {words} {how}")
        name = how.partition("=")[0].lower()
        if name == "histogram":
            self.values += [f"{label}_between-{i}" for i in range(1, 5)]
        elif name == "less_than1":
            self.values += [f"{label}_lessthan-{i}" for i in (1, 2)]
        else:
            self.values.append(f"{label}_{name.replace('_', '')}")

    def listed(self, n: int) -> str:
        """A group without a file, which PLUMED misreads in shortcuts."""
        labels = [g for g in self.groups if not g.startswith("@")]
        if labels and self.chance(0.3):
            return self.random.choice(labels)
        return self.group(n, True, files=False)

    def _distances(self) -> None:
        r, self.scale = self.random, 1 / self.length
        axis = r.choice(("", "", "X", "Y", "Z"))
        self.axis = axis
        words = r.choice((
            f"GROUP={self.listed(3)}", f"GROUPA={self.listed(2)} GROUPB={self.listed(3)}",
            f"ATOMS1={self.sites(2)} ATOMS2={self.sites(2)}",
            f"ORIGIN={self.site()} ATOMS={self.listed(3)}",
        ))  # fmt: skip
        self._reduced("v", f"{axis}DISTANCES {words}{self._nopbc()}")

    def _coordination_number(self) -> None:
        self.scale, self.axis = 1.0, "k"
        a, b = self.listed(4), self.listed(4)
        groups = self.random.choice((f"SPECIES={a}", f"SPECIESA={a} SPECIESB={b}"))
        while re.search("D_MAX|COSINUS", switch := self.switch()):
            pass  # PLUMED leaves out numbers that are zero
        self._reduced("k", f"COORDINATIONNUMBER {groups} SWITCH={{{switch}}}")

    def _alpha_beta(self) -> None:
        words, n = "", self.random.randrange(1, 4)
        for i in range(1, n + 1):
            words += f" ATOMS{i}={self.sites(4)}"
        if self.chance(0.5):
            words += "".join(f" REFERENCE{i}={self.uniform(-3, 3)}" for i in range(1, n + 1))
            words += "".join(f" COEFFICIENT{i}={self.uniform(0, 3)}" for i in range(1, n + 1))
        else:
            words += f" REFERENCE={self.uniform(-3, 3)}"
        self.one("b", f"ALPHABETA{words}{self._nopbc()}")

    def _puckering(self) -> None:
        n = self.random.choice((5, 6))
        atoms = ",".join(map(str, self.within(n)))
        names = "phs amp Zx Zy" if n == 5 else "qx qy qz phi theta amplitude"
        self.several("u", f"PUCKERING ATOMS={atoms}", names)

    def _axis(self) -> None:
        a, b, c = self.sites(3).split(",")
        words = f"AXIS_ATOMS={a},{b} ATOM={c}"
        self.several("x", f"PROJECTION_ON_AXIS {words}{self._nopbc()}", "proj ext")

    def _gyration(self) -> None:
        kind, n = self.random.choice(GYRATIONS), self.random.randrange(4, 7)
        mass = self.random.choice(("", " MASS_WEIGHTED"))
        kind = f" TYPE={kind}" if self.chance(0.8) else ""
        self.one("r", f"GYRATION ATOMS={self.group(n)}{kind}{mass}{self._nopbc()}")

    def _rmsd(self) -> None:
        name, _ = self.reference()
        kind = self.random.choice(("", " TYPE=OPTIMAL", " TYPE=OPTIMAL", " TYPE=SIMPLE"))
        words = f"REFERENCE={name}{kind}{self.flag('SQUARED')}{self._nopbc()}"
        self.one("s", f"RMSD {words}")

    def _path(self) -> None:
        name, _ = self.reference(self.random.randrange(3, 6))
        scale = self.number(self.random.uniform(20, 100) * self.length**2)
        self.several("q", f"PATHMSD REFERENCE={name} LAMBDA={scale}{self._nopbc()}", "sss zzz")

    def _property_map(self) -> None:
        name, _ = self.reference(4)
        scale = self.number(50 * self.length**2)
        words = f"PROPERTYMAP REFERENCE={name} LAMBDA={scale} PROPERTY=X,Y{self._nopbc()}"
        self.several("q", words, "X Y zzz")

    def _time(self) -> None:
        self.one("T", "TIME")

    def _function_path(self) -> None:
        first = [self.label("s") for _ in range(3)]
        for label in first:
            kind = self.random.choice(("OPTIMAL", "SIMPLE"))
            self.add(f"{label}: RMSD REFERENCE={self.reference()[0]} TYPE={kind} SQUARED")
            self.values.append(label)
        scale = self.number(50 * self.length**2)
        self.several("q", f"FUNCPATHMSD ARG={','.join(first)} LAMBDA={scale}", "s z")

    def _ermsd(self) -> None:
        atoms = self.random.sample(range(1, 11), 9)
        name = f"bases{len(self.files)}.pdb"
        self.files.add(name)
        rows, rng = [], np.random.default_rng(3)
        for serial in sorted(atoms):
            x, y, z = 10 * self.positions[serial - 1] + rng.normal(0, 0.5, 3)
            rows.append(f"ATOM  {serial:5d}  C   MOL A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  1.00")
        (self.folder / name).write_text("\n".join([*rows, "END", ""]))
        words = f"REFERENCE={name} ATOMS={','.join(map(str, atoms))}" + self.flag("CUTOFF=1.8")
        self.one("E", f"ERMSD {words}")

    def _moved(self) -> None:
        """What moves atoms, for all below."""
        if self.virtual or self.chance(0.5):
            return
        if self.chance(0.5):
            name, _ = self.reference()
            self.add(f"FIT_TO_TEMPLATE REFERENCE={name}{self.flag('TYPE=OPTIMAL', 0.5)}")
        elif self.has_box:
            atoms = list(map(str, self.anywhere(6)))
            around, others = ",".join(atoms[:2]), ",".join(atoms[2:])
            by = self.flag("GROUPBY=2", 0.3)
            self.add(f"WRAPAROUND ATOMS={others} AROUND={around}{by}")

    def _pairs(self) -> None:
        self.one("d", f"DISTANCE ATOMS={','.join(map(str, self.anywhere(2)))}")

    def _gyration_of_few(self) -> None:
        self.one("r", f"GYRATION ATOMS={','.join(map(str, self.within(3)))} TYPE=GTPC_2 MASS")

    def _box(self) -> None:
        if not self.has_box:
            return
        if self.chance(0.5):
            self.one("V", "VOLUME")
        else:
            self.several("B", "CELL", "ax by cz bx")

    def _constant(self) -> None:
        self.one("K", f"CONSTANT VALUE={self.uniform(0.2, 2)}")

    # ---- functions

    def arguments(self, n: int) -> list[str]:
        return self.random.sample(self.values, min(n, len(self.values)))

    def _combine(self) -> None:
        names, r = self.arguments(self.random.randrange(1, 4)), self.random
        words = ""
        if self.chance(0.7):
            words += " COEFFICIENTS=" + ",".join(self.uniform(0.2, 2) for _ in names)
        if self.chance(0.5):
            words += " POWERS=" + ",".join(r.choice("1232") for _ in names)
        if self.chance(0.5):
            words += " PARAMETERS=" + ",".join(self.uniform(-1, 1) for _ in names)
        words += self.flag("NORMALIZE", 0.2)
        periodic = r.choice(("NO", "NO", "NO", "-pi,pi", "-1,2"))
        self.one("f", f"COMBINE ARG={','.join(names)}{words} PERIODIC={periodic}")

    def _custom(self) -> None:
        r = self.random
        names = self.arguments(r.choice((1, 1, 2)))
        function = r.choice(FUNCTIONS if len(names) == 1 else FUNCTIONS_OF_TWO)
        periodic = r.choice(("NO", "NO", "NO", "-pi,pi", "0,0.7"))
        action = r.choice(("CUSTOM", "MATHEVAL"))
        self.one("f", f"{action} ARG={','.join(names)} FUNC={function} PERIODIC={periodic}")

    def _sort(self) -> None:
        periodic = re.findall(
            r"^(\w+): (?!.*PERIODIC=NO)(?:TORS|COMB|CUST|MATH|PUCK|.*SCALED)",
            "\n".join(self.lines),
            re.M,
        )
        names = [x for x in self.arguments(3) if x.partition(".")[0] not in periodic]
        if not names:
            return
        places = " ".join(str(i + 1) for i in range(len(names)))
        self.several("o", f"SORT ARG={','.join(names)}", places)
