"""CONTACTMAP: contacts one by one, their sum, or their distance from a map."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.contacts import PairSum
from openmm_cgan.plumed.actions.variables.variable import BoxKind, Name, Term
from openmm_cgan.plumed.geometry.switching import Switch, read_switch
from openmm_cgan.plumed.input.expressions import namespace


class ContactMap(PairSum):
    """Contacts one by one, their weighted sum, or the squared distance from a reference map."""

    name = "CONTACTMAP"
    summary = "contacts, their sum (SUM) or distance from a map (CMDIST)"
    keywords = (
        Keyword("ATOMS", "atoms", "the two atoms of a contact", compulsory=True, first=1),
        Keyword("SWITCH", "text", "the switching function of a contact", first=1),
        Keyword("SWITCH", "text", "the switching function of all contacts"),
        Keyword("REFERENCE", "real", "subtracted from a contact", first=1),
        Keyword("REFERENCE", "real", "the same for all contacts"),
        Keyword("WEIGHT", "real", "multiplies a contact", first=1),
        Keyword("WEIGHT", "real", "the same for all contacts"),
        Keyword("SUM", "flag", "add the contacts"),
        Keyword("CMDIST", "flag", "add their squares"),
        Keyword("NOPBC", "flag", "ignore the periodic box"),
        Keyword("SERIAL", "flag", "accepted"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.pairs = []
        for atoms in options["ATOMSi"]:
            if len(atoms) != 2:
                raise self.error("ATOMS", f"{len(atoms)} atoms; expected two for each contact")
            self.pairs.append((atoms[0], atoms[1]))
        self._refuse_fixed_pairs("ATOMS")
        n = len(self.pairs)
        if options["SUM"] and options["CMDIST"]:
            raise self.error("CONTACTMAP", "give SUM or CMDIST, not both")
        self.separate: bool = not options["SUM"] and not options["CMDIST"]
        self.squared: bool = options["CMDIST"]
        self.references = self._numbers("REFERENCE", options, 0.0, n)
        self.weights = self._numbers("WEIGHT", options, 1.0, n)
        self.switches = self._switches(options, n)

    def _numbers(self, name: str, options: dict[str, Any], default: float, n: int) -> list[float]:
        each, common = options[f"{name}i"], options[name]
        if each and common is not None:
            raise self.error(name, f"give {name} once, or {name}1, {name}2 ..., not both")
        if each and len(each) != n:
            raise self.error(name, f"{len(each)} given for {n} contacts")
        return list(each) or [default if common is None else common] * n

    def _switches(self, options: dict[str, Any], n: int) -> list[Switch]:
        texts = list(options["SWITCHi"]) or [options["SWITCH"]] * n
        if len(texts) != n or texts[0] is None:
            raise self.error("SWITCH", "give SWITCH once, or SWITCH1, SWITCH2 ... for each contact")
        try:
            return [read_switch(text) for text in texts]
        except ValueError as error:
            raise self.not_native("SWITCH", str(error)) from None

    @property
    def outputs(self) -> tuple[Value, ...]:
        if not self.separate:
            return (Value(self.label),)
        return tuple(Value(f"{self.label}.contact-{k + 1}") for k in range(len(self.pairs)))

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        if not self.separate:
            return super().values(positions, box)
        contacts = self.pair_values(self.distances(positions, box))
        return tuple(contacts[..., k] for k in range(len(self.pairs)))

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        if not self.separate:
            return super().gradient(index, positions, box)
        return self._pull(positions, box, np.arange(len(self.pairs)) == index)[:2]

    def gradient_of_ends(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> np.ndarray:
        """Gradient by the first atom of each pair, then by the second, shape (2 n_pairs, 3)."""
        chosen = np.arange(len(self.pairs)) == index if self.separate else np.ones(len(self.pairs))
        return self._slopes_of_pairs(positions, box, chosen)

    def _strained(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        chosen = np.arange(len(self.pairs)) == index if self.separate else np.ones(len(self.pairs))
        return self._pull(positions, box, chosen)[2]

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        if not self.separate or self._in_python(box):
            return super().expression(index, name, box)
        periodic = self.periodic and box.periodic
        r = name(Term(self.pairs[index], "distance", periodic=periodic))
        text = self.pair_expression(index, r)
        for parameter, number in self.pair_parameters(index).items():
            text = re.sub(rf"\b{parameter}\b", f"({number!r})", text)
        return text

    def pair_values(self, r: Any) -> Any:
        contacts = [
            self.weights[k] * (switch.value(r[..., k]) - self.references[k])
            for k, switch in enumerate(self.switches)
        ]
        values = namespace(r).stack(contacts, -1)
        return values**2 if self.squared else values

    @property
    def reach(self) -> float:
        return max(switch.d_max for switch in self.switches) * self.units.length

    def pair_expression(self, k: int, r: str) -> str:
        switch = self.switches[k].expression(f"({r}*{1 / self.units.length!r})")
        return f"(weight*({switch}-ref))" + ("^2" if self.squared else "")

    def pair_parameters(self, k: int) -> dict[str, float]:
        return {"weight": self.weights[k], "ref": self.references[k]}
