"""Random valid PLUMED inputs, the second half: biases on values, and what is written of them."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from plumed_inputs_made import Inputs

from openmm_cgan.plumed.input.words import read_real


class Biases:
    """Random biases on values, and what is written of them.

    Parameters
    ----------
    inputs : Inputs
    seen : dict of str to ndarray, shape (n_frames,)
        The values that may be biased, at some frames.
    domains : dict of str to tuple of str
        The limits of those that are periodic.
    """

    def __init__(
        self, inputs: Inputs, seen: dict[str, np.ndarray], domains: dict[str, tuple[str, str]]
    ) -> None:
        self.of, self.random, self.seen, self.domains = inputs, inputs.random, seen, domains
        self.lines: list[str] = []
        self.labels: list[str] = []
        self.number = inputs.number

    def made(self) -> str:
        """The statements of biases and of files."""
        r = self.random
        for _ in range(r.choice((1, 1, 1, 2))):
            r.choice((
                self._restraint, self._walls, self._moving, self._bias_value, self._metad,
                self._metad, self._metad, self._pbmetad, self._opes, self._opes, self._abmd,
                self._external, self._expanded, self._adaptive, self._pbmetad, self._tempered,
            ))()  # fmt: skip
        listed = re.findall(r"(\w+): .*NLIST", "\n".join(self.lines))
        ends = {label: "bias" if label in listed else "*" for label in self.labels}
        names = [*self.of.values, *(f"{label}.{end}" for label, end in ends.items())]
        self.lines.append(f"PRINT ARG={','.join(names)} FMT=%.12g FILE=COLVAR")
        self._dumps()
        return "\n".join([*self.lines, ""])

    def _dumps(self) -> None:
        r, some = self.random, self.of.arguments(2)
        some = [x for x in some if x[0] not in "Kvkonf"] or [""]
        if not some[0]:
            return
        if self.of.chance(0.15):
            self.lines.append(f"DUMPDERIVATIVES ARG={some[0]} FILE=DERIVATIVES FMT=%.10g")
        if self.of.chance(0.15):
            self.lines.append(f"DUMPFORCES ARG={','.join(some)} FILE=DF FMT=%.10g")
        if self.of.chance(0.1):
            self.lines.append(f"DUMPPROJECTIONS ARG={','.join(some)} FILE=PROJ FMT=%.10g")
        if self.of.chance(0.1):
            self.lines.append(f"DUMPATOMS ATOMS={self.of.sites(3)} FILE=at.xyz STRIDE=2")
        if self.of.chance(0.15) and not re.search(
            "DISTANCES|NUMBER|PROPERTY|NLIST|CONTACT|ALPHAB", "\n".join(self.of.lines)
        ):
            kind = r.choice(("([a-z].*_.*s)", "*"))
            self.lines.append(f"PRINT ARG={kind} STRIDE=3 FMT=%.10g FILE=ALL")
        if self.of.chance(0.1):
            self.lines.append("FLUSH STRIDE=2")
        if self.of.chance(0.1):
            x = some[0]
            if x in self.seen:
                lo, hi = sorted((self._at(x), self._at(x)), key=float)
                self.lines.append(
                    f"COMMITTOR ARG={x} BASIN_LL1={lo} BASIN_UL1={hi} FILE=BASINS NOSTOP STRIDE=2"
                )

    # ---- numbers that suit values

    def _some(self, n: int, p: float = 0.6) -> list[str]:
        names = list(self.seen)
        k = 1
        while k < n and self.of.chance(p):
            k += 1
        return self.random.sample(names, min(k, len(names)))

    def _spread(self, x: str) -> float:
        return float(self.seen[x].std())

    def _at(self, x: str) -> str:
        low, high = self.seen[x].min(), self.seen[x].max()
        return self.number(self.random.uniform(low, high))

    def _each(self, names: list[str], one: Callable[[str], str]) -> str:
        return ",".join(one(x) for x in names)

    def _energy(self, low: float, high: float) -> str:
        return self.number(self.random.uniform(low, high) / self.of.energy)

    def _kappa(self, x: str) -> str:
        return self.number(self.random.uniform(1, 10) / self.of.energy / self._spread(x) ** 2)

    def _sigma(self, x: str) -> str:
        return self.number(self.random.uniform(0.3, 1.0) * self._spread(x))

    def _grid(self, names: list[str]) -> str:
        low, high, bins = [], [], []
        for x in names:
            if x in self.domains:
                low.append(self.domains[x][0])
                high.append(self.domains[x][1])
                width = abs(read_real(high[-1]) - read_real(low[-1]))
            else:
                least, most = self.seen[x].min(), self.seen[x].max()
                width = max(most - least, 6 * self._spread(x))
                low.append(self.number(least - 1.5 * width))
                high.append(self.number(most + 1.5 * width))
                width *= 4
            most_bins = {1: 1200, 2: 150, 3: 40}[len(names)]
            bins.append(min(int(np.ceil(6 * width / self._spread(x))), most_bins))
        text = f" GRID_MIN={','.join(low)} GRID_MAX={','.join(high)}"
        if self.of.chance(0.7) or len(names) > 1:
            text += f" GRID_BIN={','.join(map(str, bins))}"
        return text + self.of.flag("GRID_NOSPLINE", 0.1)

    def _label(self, letter: str) -> str:
        label = self.of.label(letter)
        self.labels.append(label)
        return label

    def _stride(self) -> str:
        return self.of.flag("STRIDE=2", 0.08)

    # ---- biases

    def _restraint(self) -> None:
        names = self._some(4)
        words = f"AT={self._each(names, self._at)} KAPPA={self._each(names, self._kappa)}"
        if self.of.chance(0.3):
            words += f" SLOPE={self._each(names, lambda x: self._energy(-2, 2))}"
        self.lines.append(
            f"{self._label('w')}: RESTRAINT ARG={','.join(names)} {words}{self._stride()}"
        )

    def _walls(self) -> None:
        names, r = self._some(3), self.random
        words = f"AT={self._each(names, self._at)} KAPPA={self._each(names, self._kappa)}"
        if self.of.chance(0.5):
            words += f" EXP={self._each(names, lambda _: r.choice(('1', '2', '3', '4', '2.5')))}"
        if self.of.chance(0.4):
            words += f" EPS={self._each(names, lambda x: self.number(2 * self._spread(x)))}"
        if self.of.chance(0.4):
            words += f" OFFSET={self._each(names, self._sigma)}"
        action = r.choice(("UPPER_WALLS", "LOWER_WALLS"))
        self.lines.append(
            f"{self._label('w')}: {action} ARG={','.join(names)} {words}{self._stride()}"
        )

    def _moving(self) -> None:
        names, words = self._some(3), ""
        for i, step in enumerate((0, 4, 7)):
            words += f" STEP{i}={step}"
            if i == 0 or self.of.chance(0.7):
                words += f" AT{i}={self._each(names, self._at)}"
            if i == 0 or self.of.chance(0.5):
                words += f" KAPPA{i}={self._each(names, self._kappa)}"
        self.lines.append(f"{self._label('w')}: MOVINGRESTRAINT ARG={','.join(names)}{words}")

    def _bias_value(self) -> None:
        names = self._some(3)
        self.lines.append(f"{self._label('w')}: BIASVALUE ARG={','.join(names)}{self._stride()}")

    def _abmd(self) -> None:
        names = self._some(2)
        kappa = self._each(names, lambda x: self.number(3 / self.of.energy / self._spread(x) ** 4))
        words = f"TO={self._each(names, self._at)} KAPPA={kappa}"
        self.lines.append(f"{self._label('w')}: ABMD ARG={','.join(names)} {words}")

    def _height(self) -> str:
        tempered = self.of.flag(f"BIASFACTOR={self.random.choice((3, 6, 1, 12.5))}", 0.6)
        if "BIASFACTOR" in tempered and "=1 " not in tempered + " " and self.of.chance(0.2):
            return f" TAU={self.number(3 / self.of.time)}{tempered}"
        return f" HEIGHT={self._energy(0.5, 3)}{tempered}"

    def _metad(self) -> None:
        names, chance, r = self._some(3, 0.4), self.of.chance, self.random
        words = f" SIGMA={self._each(names, self._sigma)} PACE={r.choice((1, 2, 3))}"
        words += self._height() + self.of.flag("TEMP=310", 0.3)
        tempered = "BIASFACTOR" in words
        label = self._label("m")
        words += f" FILE=HILLS.{label}"
        if chance(0.65):
            words += self._grid(names)
            words += self.of.flag("CALC_MAX_BIAS", 0.15)
            words += self.of.flag(f"GRID_WFILE=G.{label} GRID_WSTRIDE=4 STORE_GRIDS", 0.15)
            if tempered:
                words += self.of.flag("CALC_RCT", 0.3)
            elif chance(0.2):
                words += " DAMPFACTOR=4"
        elif chance(0.15):
            words += " NLIST"
        words += self.of.flag("CALC_WORK", 0.15)
        words += self.of.flag("UPDATE_FROM=2 UPDATE_UNTIL=7", 0.05)
        if len(names) == 1 and names[0] not in self.domains and chance(0.25):
            low, high = sorted((self.seen[names[0]].min(), self.seen[names[0]].max()))
            words += f" INTERVAL={self.number(low)},{self.number(high)}"
        self.lines.append(f"{label}: METAD ARG={','.join(names)}{words}")

    def _adaptive(self) -> None:
        names = self._some(2, 0.5)
        label = self._label("m")
        kind = self.random.choice(("DIFF SIGMA=4", f"GEOM SIGMA={self.of.metres(0.02, 0.08)}"))
        words = f" ADAPTIVE={kind} PACE=2{self._height()} FILE=HILLS.{label}"
        least = self._each(names, lambda x: self.number(0.2 * self._spread(x)))
        if self.of.chance(0.5):
            words += f" SIGMA_MIN={least}"
            most = self._each(names, lambda x: self.number(2 * self._spread(x)))
            words += f" SIGMA_MAX={most}" if self.of.chance(0.5) else ""
            words += self._grid(names) if self.of.chance(0.5) else ""
        self.lines.append(f"{label}: METAD ARG={','.join(names)}{words}")

    def _pbmetad(self) -> None:
        names = self._some(3)
        label = self._label("b")
        files = ",".join(f"H{i}.{label}" for i in range(len(names)))
        words = f" SIGMA={self._each(names, self._sigma)} PACE=2{self._height()} FILE={files}"
        if self.of.chance(0.6):
            low, high, bins = zip(*(self._ends(x) for x in names), strict=True)
            words += (
                f" GRID_MIN={','.join(low)} GRID_MAX={','.join(high)} GRID_BIN={','.join(bins)}"
            )
            words += self.of.flag("GRID_NOSPLINE", 0.1)
        elif self.of.chance(0.3) and not any(x in self.domains for x in names):
            words += f" INTERVAL_MIN={self._each(names, lambda x: self.number(self.seen[x].min()))}"
            words += (
                f" INTERVAL_MAX={self._each(names, lambda x: self.number(self.seen[x].mean()))}"
            )
        self.lines.append(f"{label}: PBMETAD ARG={','.join(names)}{words}")

    def _ends(self, x: str) -> tuple[str, str, str]:
        text = self._grid([x])
        low, high = (re.findall(f"GRID_{end}=(\\S+)", text)[0] for end in ("MIN", "MAX"))
        bins = re.findall(r"GRID_BIN=(\d+)", text)
        return low, high, bins[0] if bins else "300"

    def _tempered(self) -> None:
        """Rarer ways of hills on a grid."""
        names, r = self._some(2, 0.4), self.random
        label = self._label("m")
        words = f" SIGMA={self._each(names, self._sigma)} PACE=1 HEIGHT={self._energy(0.5, 3)}"
        words += f" FILE=HILLS.{label}{self._grid(names)}"
        place = self._each(names, lambda x: self.number(self.seen[x].min()))
        other = self._each(names, lambda x: self.number(self.seen[x].max()))
        words += r.choice((
            f" TTBIASFACTOR=5 TTBIASTHRESHOLD={self._energy(0, 1)} TRANSITIONWELL0={place} "
            f"TRANSITIONWELL1={other} CALC_TRANSITION_BIAS",
            " BIASFACTOR=4 CALC_RCT RCT_USTRIDE=2 CALC_MAX_BIAS", " DAMPFACTOR=2 CALC_WORK",
            f" TTBIASFACTOR=5 TTALPHA=0.5 TRANSITIONWELL0={place}",
        ))  # fmt: skip
        self.lines.append(f"{label}: METAD ARG={','.join(names)}{words}")

    def _opes(self) -> None:
        names, chance, r = self._some(3, 0.4), self.of.chance, self.random
        label, action = self._label("o"), r.choice(("OPES_METAD", "OPES_METAD_EXPLORE"))
        words = f" PACE={r.choice((1, 2))} BARRIER={self._energy(10, 40)} FILE=K.{label}"
        if chance(0.7):
            words += f" SIGMA={self._each(names, self._sigma)}"
            words += self.of.flag("FIXED_SIGMA", 0.2)
            if chance(0.3):
                least = self._each(names, lambda x: self.number(0.2 * self._spread(x)))
                words += f" SIGMA_MIN={least}"
        else:
            words += " ADAPTIVE_SIGMA_STRIDE=4"
        words += r.choice(
            (
                "",
                "",
                " BIASFACTOR=5",
                " BIASFACTOR=inf" * (action == "OPES_METAD" and " SIGMA=" in words),
            )
        )
        for word in (
            "NO_ZED", "RECURSIVE_MERGE_OFF", "COMPRESSION_THRESHOLD=0.3", "EPSILON=0.01",
            "KERNEL_CUTOFF=3", "CALC_WORK", f"STATE_WFILE=S.{label} STATE_WSTRIDE=4", "TEMP=280",
        ):  # fmt: skip
            words += self.of.flag(word, 0.15)
        self.lines.append(f"{label}: {action} ARG={','.join(names)}{words}")

    def _external(self) -> None:
        names = self._some(2, 0.4)
        label, axes, ends = self._label("e"), [], []
        for x in names:
            periodic = x in self.domains
            if periodic:
                low, high = map(read_real, self.domains[x])
            else:
                s = self._spread(x)
                low, high = self.seen[x].min() - 20 * s, self.seen[x].max() + 20 * s
            n = 60 if len(names) == 1 else 30
            axes.append(low + (high - low) * np.arange(n + (not periodic)) / n)
            ends.append((low, high, n, periodic))
        rows = [f"#! FIELDS {' '.join(names)} {label}.bias {' '.join('der_' + x for x in names)}"]
        for x, (low, high, n, periodic) in zip(names, ends, strict=True):
            lows, highs = self.domains[x] if periodic else (f"{low:.9f}", f"{high:.9f}")
            rows += [
                f"#! SET min_{x} {lows}", f"#! SET max_{x} {highs}",
                f"#! SET nbins_{x} {n + (not periodic)}",
                f"#! SET periodic_{x} {'true' if periodic else 'false'}",
            ]  # fmt: skip
        phases = [2 * np.pi * (a - e[0]) / (e[1] - e[0]) for a, e in zip(axes, ends, strict=True)]
        steps = [2 * np.pi / (e[1] - e[0]) for e in ends]
        size = 5 / self.of.energy
        others = [None] if len(names) == 1 else list(range(len(axes[1])))
        for j in others:
            for i, u in enumerate(phases[0]):
                v = 0.0 if j is None else phases[1][j]
                place = [axes[0][i]] if j is None else [axes[0][i], axes[1][j]]
                slopes = [size * np.cos(u) * np.cos(v) * steps[0]]
                if j is not None:
                    slopes.append(-size * np.sin(u) * np.sin(v) * steps[1])
                numbers = [*place, size * np.sin(u) * np.cos(v), *slopes]
                rows.append(" ".join(f"{x:.9f}" for x in numbers))
            rows.append("")
        (self.of.folder / f"{label}.grid").write_text("\n".join([*rows, ""]))
        words = self.of.flag("SCALE=1.5", 0.3) + self.of.flag("NOSPLINE", 0.15)
        self.lines.append(
            f"{label}: EXTERNAL ARG={','.join(names)} FILE={label}.grid{words}{self._stride()}"
        )

    def _expanded(self) -> None:
        label, ecv = self._label("z"), self.of.label("y")
        if self.of.chance(0.5):
            names = self._some(2)
            low = self._each(names, lambda x: self.number(self.seen[x].min()))
            high = self._each(names, lambda x: self.number(self.seen[x].max() + self._spread(x)))
            sigma = self.number(min(self._spread(x) for x in names))
            words = (
                f"ECV_UMBRELLAS_LINE ARG={','.join(names)} CV_MIN={low} CV_MAX={high} SIGMA={sigma}"
            )
            words += self.of.flag("ADD_P0") + self.of.flag("LOWER_HALF_ONLY", 0.15)
            words += self.of.flag(f"BARRIER={self._energy(5, 20)}")
            # few windows
        else:
            names = self._some(1)
            words = f"ECV_LINEAR ARG={names[0]} LAMBDA=1 LAMBDA_MIN=0.5 LAMBDA_MAX=2 LAMBDA_STEPS=4"
            words += self.of.flag("DIMENSIONLESS")
        self.lines.append(f"{ecv}: {words}{self.of.flag('TEMP=320')}")
        self.lines.append(
            f"{label}: OPES_EXPANDED ARG={ecv}.* PACE=1 OBSERVATION_STEPS=3 PRINT_STRIDE=2 "
            f"FILE=D.{label}{self.of.flag('CALC_WORK')}"
        )
