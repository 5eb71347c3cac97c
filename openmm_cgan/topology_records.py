"""A Topology in JSON, as runs and windows keep it.

A PDB file would lose the bonds of molecules that OpenMM does not know, and with them the
topology's fingerprint.
"""

from __future__ import annotations

import string
from collections import Counter
from itertools import pairwise
from pathlib import Path

import openmm
from openmm import app, unit

from openmm_cgan.json_files import read_json
from openmm_cgan.run_folders import BONDS, TOPOLOGY

DIGITS = string.digits + string.ascii_uppercase


def read_topology(folder: Path) -> app.Topology:
    """The Topology beside the frames of a run or of windows, as `topology_record` tells it.

    Raises
    ------
    ValueError
        If its file is damaged.
    """
    path = folder / BONDS
    record = read_json(path)
    try:
        topology = topology_of(record)
        if topology_record(topology) != record:  # indices that count from the end, and the like
            raise ValueError("it does not say what a Topology is")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} holds no topology, or is damaged: {error!r}") from None
    return topology


def topology_beside(structure: Path) -> app.Topology | None:
    """The Topology whose PDB file a structure is in the folder of a run; None where it is not.

    OpenMM reads no bond from a PDB file that closes a ring of residues, or holds a metal.

    Raises
    ------
    ValueError
        If its record is damaged.
    """
    if structure.name != TOPOLOGY or not (structure.parent / BONDS).is_file():
        return None
    return read_topology(structure.parent)


def topology_record(topology: app.Topology) -> dict[str, list]:
    """A Topology in plain JSON types."""
    box = topology.getPeriodicBoxVectors()
    return {
        "chains": [chain.id for chain in topology.chains()],
        "residues": [[r.name, r.chain.index, r.id, r.insertionCode] for r in topology.residues()],
        "atoms": [
            [a.name, a.element.symbol if a.element is not None else None, a.residue.index, a.id]
            for a in topology.atoms()
        ],
        "bonds": [[bond[0].index, bond[1].index] for bond in topology.bonds()],
        "box": [] if box is None else [list(row) for row in box.value_in_unit(unit.nanometer)],
    }


def topology_of(record: dict[str, list]) -> app.Topology:
    """The Topology of a `topology_record`."""
    topology = app.Topology()
    chains = [topology.addChain(name) for name in record["chains"]]
    residues = [
        topology.addResidue(name, chains[chain], number, insertion)
        for name, chain, number, insertion in record["residues"]
    ]
    atoms = [
        topology.addAtom(
            name, symbol and app.Element.getBySymbol(symbol), residues[residue], number
        )
        for name, symbol, residue, number in record["atoms"]
    ]
    for first, second in record["bonds"]:
        topology.addBond(atoms[first], atoms[second])
    if record["box"]:
        topology.setPeriodicBoxVectors([openmm.Vec3(*row) for row in record["box"]])
    return topology


def told_apart(topology: app.Topology) -> app.Topology:
    """A Topology whose atoms a PDB file tells apart; the same one where they are.

    Atoms of one name in a residue are one atom to who reads the file, and so are those of two
    residues of one number and name that follow each other. Names have four letters there.
    """
    names = [(a.residue.index, a.name[:4].strip()) for a in topology.atoms()]
    numbers = [(r.chain.index, r.id, r.insertionCode, r.name[:3]) for r in topology.residues()]
    again = {one[0] for one, n in Counter(names).items() if n > 1 or not one[1]}
    joined = any(one == next_one for one, next_one in pairwise(numbers))
    if not again and not joined:
        return topology
    record, counts = topology_record(topology), Counter[tuple[int, str]]()
    for atom in record["atoms"]:
        _, symbol, residue, _ = atom
        if residue in again:
            counts[residue, symbol] += 1
            atom[0] = (symbol or "X") + _in_letters(counts[residue, symbol])
    if joined:
        for number, residue in enumerate(record["residues"], start=1):
            residue[2:] = [str(number), " "]
    return topology_of(record)


def _in_letters(number: int) -> str:
    """A number by digits and letters: 46,655 of them are of three."""
    text = ""
    while number:
        number, last = divmod(number, len(DIGITS))
        text = DIGITS[last] + text
    return text
