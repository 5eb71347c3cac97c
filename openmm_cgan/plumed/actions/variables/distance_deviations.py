"""DRMSD: how far the distances within a group of atoms are from those of a reference."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.contacts import MAX_PAIRS, PairSum
from openmm_cgan.plumed.actions.variables.variable import BoxKind, Name
from openmm_cgan.plumed.input.expressions import namespace
from openmm_cgan.plumed.input.pdb import PdbAtom, read_blocks, read_models
from openmm_cgan.plumed.input.words import NotNativeError

TYPES = ("DRMSD", "INTER-DRMSD", "INTRA-DRMSD")
DIGITS = 6  # of the lengths of a reference [nm] that PLUMED keeps; its file has four decimals
_NOTHING = 1e-20  # of a sum of squares, below which its root has no slope


class Drmsd(PairSum):
    """Root mean square deviation of distances between atoms from those in a reference.

    Of all pairs, of those between the blocks that TER parts in the file (INTER-DRMSD), or of those
    within them (INTRA-DRMSD).
    """

    name = "DRMSD"
    summary = "deviation of distances from those of a reference"
    keywords = (
        Keyword("REFERENCE", "text", "a PDB file of one model", compulsory=True),
        Keyword("LOWER_CUTOFF", "real", "only distances longer in the reference", default=0.0),
        Keyword("UPPER_CUTOFF", "real", "only distances shorter in the reference"),
        Keyword("TYPE", "text", ", ".join(TYPES), default="DRMSD"),
        Keyword("SQUARED", "flag", "the mean square deviation"),
        Keyword("NOPBC", "flag", "ignore the periodic box"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.squared: bool = options["SQUARED"]
        kind: str = options["TYPE"]
        if kind not in TYPES:
            raise self.error(f"TYPE={kind}", f"expected one of {', '.join(TYPES)}")
        atoms, blocks = self._read(given)
        upper = math.inf if options["UPPER_CUTOFF"] is None else options["UPPER_CUTOFF"]
        pairs, lengths = [], []
        for (one, i), (two, j) in combinations(zip(atoms, blocks, strict=True), 2):
            length = math.dist(one.position, two.position)
            length = float(f"{length:.{DIGITS}g}") / self.units.length
            wanted = kind == "DRMSD" or (i == j) == (kind == "INTRA-DRMSD")
            if wanted and options["LOWER_CUTOFF"] < length < upper:
                pairs.append((one.serial - 1, two.serial - 1))
                lengths.append(length)
        if not pairs:
            parted = "" if kind == "DRMSD" else ", or none that TER parts so"
            raise self.error(
                "REFERENCE",
                f"no pair of its atoms is between LOWER_CUTOFF and UPPER_CUTOFF{parted}",
            )
        self.pairs = [*pairs]
        self._lengths = np.array(lengths)

    def _read(self, given: Given) -> tuple[list[PdbAtom], list[int]]:
        """The atoms of the reference, and the number of the block of each."""
        name, path = given.options["REFERENCE"], given.folder / given.options["REFERENCE"]
        if given.units.natural:
            raise self.not_native("REFERENCE", "a PDB file in natural units is not native")
        try:
            models, blocks = read_models(path), read_blocks(path)
        except NotNativeError as error:
            raise self.not_native(f"REFERENCE={name}", str(error)) from None
        except ValueError as error:
            raise self.error(f"REFERENCE={name}", str(error)) from None
        if len(models) > 1:
            raise self.not_native("REFERENCE", f"{len(models)} models; natively one")
        n = len(models[0])
        if n * (n - 1) // 2 > MAX_PAIRS:
            raise self.not_native("REFERENCE", f"{n} atoms; natively {MAX_PAIRS} pairs at most")
        return models[0], blocks

    @property
    def outputs(self) -> tuple[Value, ...]:
        unit = self.units.length_name
        return (Value(self.label, f"{unit}^2" if self.squared else unit),)

    @property
    def reach(self) -> float:
        return math.inf

    def pair_values(self, r: Any) -> Any:
        return (r - namespace(r).asarray(self._lengths)) ** 2 / len(self._lengths)

    def pair_expression(self, k: int, r: str) -> str:
        return f"({r}*{1 / self.units.length!r}-length)^2*{1 / len(self._lengths)!r}"

    def pair_parameters(self, k: int) -> dict[str, float]:
        return {"length": float(self._lengths[k])}

    def value(self, positions: Any, box: Any = None) -> Any:
        square = super().value(positions, box)
        return square if self.squared else namespace(square).sqrt(square)

    def _pull(
        self, positions: np.ndarray, box: np.ndarray | None, chosen: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        square, slopes, strained = super()._pull(positions, box, chosen)
        if self.squared:
            return square, slopes, strained
        root = math.sqrt(square)
        over = 1 / (2 * root) if square > _NOTHING else 0.0
        return root, over * slopes, over * strained

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        found = super().expression(index, name, box)
        if self.squared or self._in_python(box):
            return found
        return f"sqrt(max({found},{_NOTHING!r}))"
