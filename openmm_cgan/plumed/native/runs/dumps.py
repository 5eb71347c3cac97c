"""DUMPATOMS during a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.dumps import Dump, DumpAtoms
from openmm_cgan.plumed.actions.variables.variable import site_position
from openmm_cgan.plumed.files.contents import append_rows
from openmm_cgan.plumed.files.dump_frames import cut_half_frame
from openmm_cgan.plumed.files.fields import begin_file
from openmm_cgan.plumed.files.xdr_frames import XdrFrame, trr_bytes, xtc_bytes
from openmm_cgan.plumed.native.runs.run import ActionRun, RunSettings, Step


class DumpRun(ActionRun):
    """What is written every so many steps."""

    acts_last = True

    def __init__(self, action: Any, settings: RunSettings) -> None:
        self.action = action
        self._files = settings.files

    @property
    def strides(self) -> tuple[int, ...]:
        assert isinstance(self.action, Dump)
        return (self.action.stride,)

    def act(self, step: Step) -> bool:
        """Write where it is due."""
        if self._is_due(step):
            self._write(step)
        return False

    def _is_due(self, step: Step) -> bool:
        assert isinstance(self.action, Dump)
        since, until = self.action.window
        due = step.number % self.action.stride == 0
        return due and since <= step.time_for(self.action) < until

    def _write(self, step: Step) -> None:
        raise NotImplementedError


class DumpAtomsRun(DumpRun):
    """A DUMPATOMS with its file, which begins with the run."""

    action: DumpAtoms

    def begin(self) -> None:
        path = self._files.path(self.action.file)
        if not self._files.continues(self.action.restarts):
            begin_file(path, append=False)
        else:
            cut_half_frame(path, self.action.type)
        self._files.watch(self.action.file)

    def go_on(self) -> None:
        self._files.watch(self.action.file)

    def _write(self, step: Step) -> None:
        action, seen, box = self.action, step.positions, step.box
        for mover in action.movers:
            seen, box = mover.moved(seen, box)
        points = np.array([site_position(site, seen, box) for site in action.sites]) / action.unit
        edges = np.zeros((3, 3)) if box is None else box / action.unit
        write: Any = {"xtc": _xdr, "trr": _xdr, "gro": _gro}.get(action.type, _xyz)
        append_rows(self._files.path(action.file), write(action, points, edges, step))


def _xyz(action: DumpAtoms, points: np.ndarray, box: np.ndarray, _: Step) -> str:
    """One frame: number of atoms, box, names and positions."""
    digits = action.digits
    fmt = "%f" if digits is None else f"%{digits + 5}.{digits}f"
    diagonal = box.any() and np.array_equal(box, np.diag(np.diag(box)))  # nine zeros for no box
    shown = np.diag(box) if diagonal else box.ravel()
    lines = [str(len(points)), "".join(f" {fmt % x}" for x in shown)]
    for site, point in zip(action.sites, points, strict=True):
        lines.append(_named(action, site)[2] + "".join(f" {fmt % x}" for x in point))
    return "\n".join([*lines, ""])


def _gro(action: DumpAtoms, points: np.ndarray, box: np.ndarray, step: Step) -> str:
    """One frame as GROMACS has it."""
    digits = action.digits
    fmt, box_fmt = "%8.3f", "%12.7f"
    if digits is not None:
        fmt = box_fmt = f"%{digits + 5}.{digits}f"
    lines = [f"Made with PLUMED t={step.time_for(action) / action.units.time:f}", str(len(points))]
    for site, point in zip(action.sites, points, strict=True):
        number, residue, name = _named(action, site)
        serial = site if isinstance(site, int) else len(step.positions) + action.virtual[site]
        columns = f"{residue:>3s}"  # as they are in a PDB file
        where = f"{number % 100000:5d}{columns:<5s}{name:>5s}{(serial + 1) % 100000:5d}"
        lines.append(where + "".join(fmt % x for x in point))
    order = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))
    lines.append(" ".join(box_fmt % box[place] for place in order))
    return "\n".join([*lines, ""])


def _xdr(action: DumpAtoms, points: np.ndarray, box: np.ndarray, step: Step) -> bytes:
    """One frame of an xtc or trr file."""
    time = step.time_for(action) / action.units.time  # divided twice, as PLUMED has it
    frame = XdrFrame(points, box, step.number, time)
    if action.type == "trr":
        return trr_bytes(frame)
    return xtc_bytes(frame, 3 if action.digits is None else action.digits)


def _named(action: DumpAtoms, site: Any) -> tuple[int, str, str]:
    """Number and name of the residue, and name of an atom, as MOLINFO has them."""
    atom = action.named.get(site) if isinstance(site, int) else None
    return (0, "", "X") if atom is None else (atom.number, atom.residue, atom.name)
