"""FrameReporter takes frames out of a Simulation, with their CVs and bias energy."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from openmm_cgan.atom_selection import Atoms, atoms_to_take, check_selection, selected_atoms
from openmm_cgan.atomic_files import flush_to_disk, replacing, require_writable
from openmm_cgan.checkpoints import SavedState
from openmm_cgan.claims import Claim
from openmm_cgan.fingerprints import system_fingerprint
from openmm_cgan.frames import molecule_hash, topology_hash
from openmm_cgan.frames.h5md import SegmentHeader
from openmm_cgan.frames.images import shifts_into_box
from openmm_cgan.frames.segments import Row, SegmentWriter
from openmm_cgan.frames.set_aside import PATTERN, RESTORED
from openmm_cgan.plumed.native.forces.system_box import biases_beside
from openmm_cgan.quantities import number_of_steps, timestep_of
from openmm_cgan.reporters.biased_values import tell_of_other_variables, values_can_wait
from openmm_cgan.reporters.given_positions import warn_of_unit
from openmm_cgan.states import box_of, positions_of
from openmm_cgan.thermostats import held_temperature
from openmm_cgan.topologies import part_of
from openmm_cgan.topology_records import told_apart

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from openmm import State
    from openmm.app import Simulation

    from openmm_cgan.plumed.bias import PlumedBias


ATOMS = "atoms.pdb"  # of a part of the system: the topology of the files beside it


@runtime_checkable
class Measuring(Protocol):
    """What a frame is measured by: a PlumedBias."""

    @property
    def variables(self) -> Sequence[Any]:
        """The CVs."""
        ...

    def require_acting(self, simulation: Any) -> None:
        """Raise if the Simulation does not run under the bias."""
        ...

    def values(self, simulation: Any, state: Any) -> tuple[Any, float]:
        """CVs (n_cvs,) and bias energy [kJ/mol] of a frame."""
        ...


@runtime_checkable
class Seeded(Protocol):
    """An integrator or a force that draws random numbers."""

    def getRandomNumberSeed(self) -> int:
        """Its seed."""
        ...


class FrameReporter:
    """Writes frames of a simulation with their CVs and bias energy to a folder of H5MD files.

    ``read_frames(folder)`` reads them, and ``MDAnalysis.Universe(topology, files)`` opens the
    files with the CVs, ``bias``, ``segment`` and ``settling`` in ``ts.data``. Frames are on disk a
    second after they are made; a run killed at any moment loses no more than that. They are of the
    temperature that the run is held at; where that changes, those of each temperature have files of
    their own, which ``read_frames(folder, temperature=300)`` reads.

    Parameters
    ----------
    file : str or Path
        Folder for the files ``segment-00001.h5md`` ...
    reportInterval : int
        Steps between frames.
    bias : PlumedBias
        Gives the CVs and the bias energy.
    append : bool
        Continue the frames of an earlier run in ``file``. Frames later than the step that the
        simulation is restarted from are set aside as ``bck.N.segment-*.h5md``. If False, the folder
        must hold no frames.
    enforcePeriodicBox : bool, optional
        Whether molecules are put into the box, if the system has one; by default they are. CVs are
        those of the positions as they are in the run, where the bias acts.
    atomSubset : sequence of int, optional
        OpenMM's word for ``atoms``, where they are indices.
    atoms : str, sequence of int or AtomGroup, optional
        Which atoms to keep: a selection of MDAnalysis, such as "protein" or "all", the atoms that
        one found, or zero-based indices in increasing order. By default those of the solute (no
        water, ion or virtual site) where the System is periodic, and else all; the log says which.
        Of a part of the System ``atoms.pdb`` in the folder is the topology that MDAnalysis opens
        the frames with. CVs are those of the whole System whatever is kept.

    Attributes
    ----------
    folder : Path
    segment : int
        Number of the segment that the next frame belongs to, 0 before the run.

    Raises
    ------
    FileExistsError
        If the folder holds frames and ``append`` is False.
    ValueError
        If ``reportInterval`` or ``atoms`` make no sense; also, once the bias is attached and else
        before the first step, if ``atoms`` finds none in the topology.
    TypeError
        If ``bias`` is no PlumedBias.
    RuntimeError
        Before the first step, if the bias does not act in the Simulation: `require_acting`.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        reportInterval: int,
        bias: PlumedBias,
        append: bool = False,
        enforcePeriodicBox: bool | None = None,
        atomSubset: Sequence[int] | None = None,
        atoms: Atoms | None = None,
    ) -> None:
        self._interval = number_of_steps(reportInterval, "reportInterval")
        if not isinstance(bias, Measuring):
            raise TypeError(f"bias is {type(bias).__name__}, expected a PlumedBias")
        require_writable(Path(file))
        self.folder = Path(file).absolute()
        self._bias = bias
        self._append = append
        self._periodic = enforcePeriodicBox
        self._atoms = _one_of(atoms, atomSubset)
        check_selection(self._atoms)
        attached = getattr(bias, "simulation", None)
        if attached is not None and self._atoms is not None:
            selected_atoms(attached.topology, self._atoms)
        self._writer: SegmentWriter | None = None
        self._claim: Claim | None = None  # of the folder
        self._simulation: weakref.ref[Simulation] | None = None
        self._keep_box = False
        # one by one, the values would take most of the time of a report
        self._values_wait = values_can_wait(bias)
        self._require_empty()
        self.folder.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"FrameReporter({str(self.folder)!r}, {self._fingerprint})"

    @property
    def segment(self) -> int:
        """Number of the segment that the next frame belongs to, 0 before the run."""
        return 0 if self._writer is None else self._writer.segment

    def describeNextReport(self, simulation: Simulation) -> dict[str, Any]:
        """Say when the next frame is due, and that it needs positions."""
        if self._writer is None:
            self._begin(simulation)
        steps = self._interval - simulation.currentStep % self._interval
        # as they are: a CV with NOPBC is another one where molecules are put into the box
        return {"steps": steps, "periodic": False, "include": ["positions"]}

    def report(self, simulation: Simulation, state: State) -> None:
        """Take a frame.

        Raises
        ------
        ValueError
            If positions, CVs or bias are not finite; the frames before are written.
        """
        assert self._writer is not None, "describeNextReport comes first"
        step = simulation.currentStep
        self._follow_temperature(simulation)
        positions = positions_of(state)
        if not math.isfinite(np.vdot(positions, positions)):
            self._stop(step, "a position")
        box = box_of(state) if self._keep_box else None
        row = Row(step, state.getTime()._value, positions, box)  # ps; units would take longer
        if not self._values_wait:
            cvs, bias = self._bias.values(simulation, state)
            if not math.isfinite(bias + cvs.sum()):
                self._stop(step, f"the bias ({bias}) or a CV ({cvs})")
            row = row._replace(cvs=np.array(cvs), bias=float(bias))
        self._writer.append(row)

    def start_segment(self, origin: dict[str, Any], settle_steps: int = 0) -> int:
        """Begin a segment: a configuration has just been put into the simulation.

        Parameters
        ----------
        origin : dict
            What was put in, of plain JSON types, such as ``{"kind": "proposal", "number": 3}``.
        settle_steps : int
            Frames earlier than this many steps after now are marked as settling.

        Returns
        -------
        int
            Number of the new segment. Frames later than the current step belong to it.
        """
        simulation = self._simulation() if self._simulation is not None else None
        if self._writer is None or simulation is None:
            raise RuntimeError(
                "start_segment is called before the run: append this reporter to "
                "simulation.reporters, then call simulation.step"
            )
        return self._writer.start_segment(simulation.currentStep, origin, settle_steps)

    def flush(self) -> None:
        """Write the frames that are still in memory."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Write the frames that are still in memory and take no more."""
        if self._writer is not None:
            self._writer.close()
        if self._claim is not None:
            self._claim.release()

    # ---- with a checkpoint

    def saved(self) -> SavedState:
        """Where its frames end, which are on the disk now: see `checkpoints.Keeper`."""
        last = -1
        if self._writer is not None:
            self._writer.flush()
            for path in self._writer.files:
                flush_to_disk(path)
            last = -1 if self._writer.last is None else self._writer.last[0]
        return SavedState(0, last, saved_by=self._fingerprint)

    def check_saved(self, state: SavedState, simulation: Simulation, path: Path) -> None:
        """Raise where it can not go on from a state; nothing is changed."""
        self._claim = Claim(self.folder)
        if not self._append:
            raise ValueError(f"{self.folder} has frames: make the FrameReporter with append=True")
        if state.saved_by != self._fingerprint:
            raise ValueError(f"{path} has frames {state.saved_by}, and not every {self._interval}")

    def restore_saved(self, state: SavedState, simulation: Simulation) -> None:
        """Go on from a state that was checked; appends itself to the Simulation's reporters.

        Frames later than the step that the Simulation stands at are set aside.

        Raises
        ------
        ValueError
            If frames that were written then are not there.
        """
        self._begin(simulation, {RESTORED: True})
        assert self._writer is not None
        last = -1 if self._writer.last is None else self._writer.last[0]
        if last != state.updated:
            self._writer.close()
            raise ValueError(
                f"{self.folder} has frames up to step {last}; the saved run had them up to "
                f"{state.updated}"
            )
        simulation.reporters.append(self)

    @property
    def _fingerprint(self) -> str:
        return f"every {self._interval} steps"

    def _require_empty(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise FileExistsError(f"{self.folder} is a file, expected the name of a folder")
        if not self._append and next(self.folder.glob(PATTERN), None) is not None:
            raise FileExistsError(
                f"{self.folder} holds frames of an earlier run: continue them with append=True or "
                "name another folder (nothing has been overwritten)"
            )

    def _begin(self, simulation: Simulation, how: Mapping[str, Any] | None = None) -> None:
        """Everything that can be wrong is found here, before the first step."""
        self._bias.require_acting(simulation)
        tell_of_other_variables(self._bias, self.folder)
        warn_of_unit(simulation)
        self._claim = Claim(self.folder)
        self._require_empty()
        self._keep_box = simulation.system.usesPeriodicBoundaryConditions()
        purpose = f"frames in {self.folder}"
        atoms = atoms_to_take(simulation.topology, self._atoms, self._keep_box, purpose)
        header = SegmentHeader(
            variables=tuple(self._bias.variables),
            atoms=tuple(atoms.tolist()),
            topology_hash=topology_hash(simulation.topology),
            temperature=held_temperature(simulation, self._bias.temperature),
            periodic=self._keep_box,
            plumed_input=self._bias.text,
            about={
                "report_interval": self._interval,
                "backend": self._bias.backend,
                "bias_temperature": self._bias.temperature,
                "molecule_hash": molecule_hash(simulation.topology, atoms),
            }
            | _provenance(simulation, getattr(self._bias, "force_groups", set)())
            | {"time_step": _counted_step(self._bias, simulation)}
            | dict(how or {}),
        )
        time = simulation.context.getTime()._value
        self._writer = SegmentWriter(
            self.folder,
            header,
            simulation.currentStep,
            time,
            self._evaluate if self._values_wait else None,
            None if self._periodic is False else self._shifts_into_box(simulation, atoms),
        )
        self._simulation = weakref.ref(simulation)
        path = self.folder / ATOMS
        if len(atoms) < simulation.topology.getNumAtoms() and not (self._append and path.exists()):
            _write_atoms(path, simulation, atoms)

    def _follow_temperature(self, simulation: Simulation) -> None:
        """Begin a file where the temperature was changed: annealing, simulated tempering."""
        assert self._writer is not None
        before = self._writer.header.temperature
        if (now := held_temperature(simulation, before)) != before:
            self._writer.at_temperature(now)

    def _evaluate(
        self, positions: NDArray[np.float64], box: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        cvs = self._bias.cv_values(positions, box)
        return cvs, self._bias.bias_of_cvs(cvs)

    def _shifts_into_box(
        self, simulation: Simulation, atoms: NDArray[np.int64]
    ) -> Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]] | None:
        if not self._keep_box:
            return None
        every, kept = simulation.context.getMolecules(), set(atoms.tolist())
        molecules = [molecule for molecule in every if not kept.isdisjoint(molecule)]
        return partial(shifts_into_box, molecules=molecules, atoms=atoms)

    def _stop(self, step: int, what: str) -> None:
        self.flush()
        raise ValueError(
            f"{what} is not finite at step {step}; the frames before are in {self.folder}. Restart "
            "from an earlier checkpoint, with a smaller time step or a gentler bias"
        )


def frame_reporters_of(simulation: Simulation) -> list[FrameReporter]:
    """The FrameReporters of a simulation, in their order."""
    return [reporter for reporter in simulation.reporters if isinstance(reporter, FrameReporter)]


def _one_of(atoms: Atoms | None, subset: Sequence[int] | None) -> Atoms | None:
    if atoms is not None and subset is not None:
        raise ValueError("atoms and atomSubset are two words for one thing: give one of them")
    if isinstance(subset, str):
        raise ValueError(f"atomSubset is {subset!r}; expected indices: give a selection as atoms=")
    return subset if atoms is None else atoms


def _write_atoms(path: Path, simulation: Simulation, atoms: NDArray[np.int64]) -> None:
    """What MDAnalysis opens frames of a part of the system with."""
    from openmm import app, unit

    positions = positions_of(simulation.context.getState(positions=True))[atoms]
    with replacing(path) as unfinished, unfinished.open("w") as file:
        topology = told_apart(part_of(simulation.topology, atoms))
        app.PDBFile.writeFile(topology, positions * unit.nanometer, file, keepIds=True)


def _counted_step(bias: Any, simulation: Simulation) -> float:
    """The length of a step by which the bias counts times [ps]; the integrator's for others."""
    counted: float | None = getattr(bias, "timestep", None)
    return timestep_of(simulation) if counted is None else counted


def _provenance(simulation: Simulation, groups: set[int]) -> dict[str, Any]:
    """Seeds, integrator and versions, as far as the simulation tells."""
    integrator, platform = simulation.integrator, simulation.context.getPlatform()
    seeded = [integrator, *simulation.system.getForces()]
    return {
        "system_hash": system_fingerprint(simulation.system),
        "other_biases": biases_beside(simulation.system, groups),
        "seeds": {
            type(part).__name__: part.getRandomNumberSeed()
            for part in seeded
            if isinstance(part, Seeded)
        },
        "integrator": type(integrator).__name__,
        "platform": platform.getName(),
        "openmm": platform.getOpenMMVersion(),
    }
