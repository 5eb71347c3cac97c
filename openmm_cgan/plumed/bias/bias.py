"""PlumedBias: a PLUMED input acting on a simulation, the one object a user holds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm
from openmm import unit

from openmm_cgan.checkpoints import BIAS, SavedState, require_files, restore_run, save_run
from openmm_cgan.checkpoints.running import require_input
from openmm_cgan.claims import Claim
from openmm_cgan.collective_variable import CollectiveVariable, cv_rows
from openmm_cgan.notebooks import bias_html
from openmm_cgan.plumed.backends import (
    BACKENDS,
    Backend,
    backend_of_restraints,
    choose_backend,
    compile_natively,
    make_backend,
    refuse,
    variables_to_read,
)
from openmm_cgan.plumed.bias.attachment import Attachment
from openmm_cgan.plumed.bias.serials import atoms_beside
from openmm_cgan.plumed.bias.watch import with_temperature
from openmm_cgan.plumed.input.language import PlumedInput, PlumedInputError, read_text
from openmm_cgan.plumed.libplumed.statements import has_biases, restrained_text, written_files
from openmm_cgan.plumed.native.backend import NativeBackend
from openmm_cgan.plumed.native.forces.system_box import KnownAtoms, masses_and_charges
from openmm_cgan.quantities import kelvin, nanometers, numbers_of, positions_in_nm, timestep_of

if TYPE_CHECKING:
    from openmm.app import Simulation, Topology


class PlumedBias:
    """A PLUMED input: its bias as OpenMM forces, its collective variables as numbers.

    Parameters
    ----------
    plumed_input : str or Path
        The input file, or the text itself if it contains a newline.
    topology : openmm.app.Topology, or what has one, optional
        Checks the atoms of the input; else `add_to` does. One with a System tells the masses.
    temperature : float or Quantity, optional
        Temperature [K] for what needs kT and does not say TEMP; by default the Simulation's.
    backend : {"auto", "native", "kernel", "plugin"}
        "native" compiles the input to OpenMM forces; "kernel" runs libplumed through
        ``openmm.PythonForce``; "plugin" uses openmm-plumed. "auto" takes native where it covers
        the input, else the kernel, else the plugin, and logs which and why.
    directory : str or Path
        Where COLVAR, HILLS and other files are, by default the current folder.
    restart : bool
        Append to the files and read the hills; RESTART in the input has the last word.
    cvs : sequence of str, optional
        Names of the collective variables; by default the arguments of the biases, or of PRINT
        where there are none.

    Attributes
    ----------
    backend : str
        The backend taken.
    variables : tuple of CollectiveVariable
        The collective variables, in order.
    temperature : float or None
        [K]
    text : str
        The input.

    Raises
    ------
    PlumedInputError
        If the input can not be used, with every problem as file:line.
    RuntimeError
        If the backend asked for is not installed.

    Examples
    --------
    >>> bias = PlumedBias("phi: TORSION ATOMS=5,7,9,15\\nRESTRAINT ARG=phi AT=-1 KAPPA=50")
    >>> bias.backend, [variable.name for variable in bias.variables]
    ('native', ['phi'])
    """

    def __init__(
        self,
        plumed_input: str | Path,
        topology: Topology | Any = None,
        *,
        temperature: float | unit.Quantity | None = None,
        backend: str = "auto",
        directory: str | Path = ".",
        restart: bool = False,
        cvs: Sequence[str] | None = None,
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"backend is '{backend}'; expected auto, native, kernel or plugin")
        self.text, self.source = read_text(plumed_input)
        self.directory, self.temperature = Path(directory).absolute(), kelvin(temperature)
        self._input = PlumedInput.read(self.text, self.source, self.directory)
        self.restart = restart if (said := self._input.restarts) is None else said
        known = atoms_beside(self._input.followed, self.directory, topology)
        self._known: Callable[[], KnownAtoms | None] = lambda: known
        native, refusal = compile_natively(self._input, known, self.temperature, self.restart)
        self.backend = choose_backend(backend, refusal, self._input)
        self._asked, self._moves = backend, False
        self._take_backend(variables_to_read(cvs, self._input, native), native)
        self._attachment = Attachment(written_files(self._input.followed, self.directory))
        self._claims: list[Claim] = []  # of the files of a saved run, until they are open

    @property
    def simulation(self) -> Simulation | None:
        """That it is attached to."""
        return self._attachment.simulation

    @property
    def timestep(self) -> float | None:
        """That it counts times with [ps], as HILLS and COLVAR have them, once it is attached."""
        return self._attachment.timestep

    @property
    def static(self) -> bool:
        """Whether it is known to be the same function of the positions at all times."""
        return self._engine.static and not self._moves

    @property
    def remembers(self) -> bool:
        """Whether it depends on the steps before, as on PATHMSD with NEIGH_SIZE."""
        return self._engine.remembers

    _repr_html_ = bias_html

    def __repr__(self) -> str:
        names = ", ".join(variable.name for variable in self.variables)
        return f"PlumedBias({self.source}: {names}; backend {self.backend!r})"

    def _take_backend(self, names: tuple[str, ...], native: NativeBackend | None) -> None:
        self._engine: Backend = make_backend(
            self.backend, self._input, native, self.temperature, self.restart, names, self._known()
        )
        self.variables: tuple[CollectiveVariable, ...] = self._engine.describe(names)

    def restrained(self, centres: Any, kappa: Any) -> PlumedBias:
        """Make a bias on the same variables that only restrains them, and writes no file.

        Parameters
        ----------
        centres : array_like, shape (n_cvs,)
            [CV units]
        kappa : float or array_like, shape (n_cvs,)
            [kJ/mol per CV unit squared]
        """
        names = [variable.name for variable in self.variables]
        made = PlumedBias(
            restrained_text(self._input.followed, self.directory, names, centres, kappa),
            self._known(),
            temperature=self.temperature,
            backend=backend_of_restraints(self.backend),
            directory=self.directory,
        )
        made._moves = True
        return made

    # ---- in a simulation

    def add_to(
        self, system: openmm.System, *, force_group: int | None = None
    ) -> list[openmm.Force]:
        """Add the bias to a System, before the Simulation is made.

        Parameters
        ----------
        system : openmm.System
        force_group : int, optional
            One without other forces, where an integrator tells them apart; default: the highest.

        Returns
        -------
        list of openmm.Force
            The forces added.

        Raises
        ------
        ValueError
            If the input names atoms that the System lacks, or the force group is not free.
        RuntimeError
            If this bias is in a System already, or no group is free.
        """
        self._attachment.require_none()
        self._engine.check(system.getNumParticles())
        self._known = functools.cache(lambda: KnownAtoms(*masses_and_charges(system)))
        self._settle_backend(system)
        return list(self._attachment.add(self._engine, system, force_group, self._moves))

    def _settle_backend(self, system: openmm.System) -> None:
        """Go over to PLUMED itself where this System has something that native can not do."""
        if not (problems := self._engine.refusals(system)):
            return
        self.backend = choose_backend(self._asked, PlumedInputError(problems), self._input)
        self._take_backend(self._engine.read, None)

    def force_groups(self) -> set[int]:
        """The force groups of the bias in its System, as they are now."""
        return self._attachment.groups

    def attach(self, simulation: Simulation, checkpoint: str | Path | None = None) -> None:
        """Let the bias act between the steps of a Simulation: lay hills, write COLVAR.

        Appends a reporter of its own: call it before you append others that record the bias.

        Parameters
        ----------
        simulation : openmm.app.Simulation
        checkpoint : str or Path, optional
            What `save_checkpoint` has written: Simulation and bias go on as if they had never
            stopped, and the files of the input lose what was written after that.

        Raises
        ------
        RuntimeError
            If `add_to` was not called, or after the Simulation was made: it would not act.
        ValueError
            If a temperature is missing, the integrator does not feel the bias, or the checkpoint
            is of another input.
        """
        self._require_attachable(simulation)
        if checkpoint is not None:
            refuse(self._engine.why_not_saved)
            restore_run(Path(checkpoint), simulation, {BIAS: self})
            return
        self._engine.start(timestep_of(simulation))
        self._begin(simulation, self.restart)  # the earlier run has written this step already

    def _require_attachable(self, simulation: Simulation) -> None:
        self._attachment.require_attachable(simulation)
        self.temperature = with_temperature(self._engine, simulation)

    def _begin(self, simulation: Simulation, begun: bool) -> None:
        """Act from now on; the step where the Simulation stands may have been updated before."""
        self._attachment.begin(self._engine, simulation, begun, self.temperature)

    def require_acting(self, simulation: Simulation) -> None:
        """Check that a Simulation runs under this bias, so that its frames are weighed rightly.

        An input that only measures may be used anywhere. Of biases beside it the log tells.

        Raises
        ------
        RuntimeError
            If the bias is not in the Context, or must be attached to this Simulation and is not.
        ValueError
            If the integrator does not feel it.
        """
        acts = has_biases(self._input.followed)
        self._attachment.require_acting(simulation, acts, not self.static, self.source)

    # ---- with a checkpoint

    def save_checkpoint(self, path: str | Path) -> None:
        """Save Simulation and bias together, to go on with ``attach(simulation, checkpoint=path)``.

        With all that the bias has gathered. Call it between steps; `BiasCheckpointReporter` does.
        Raises RuntimeError if the bias is attached to no Simulation, and ValueError if the backend
        is not native: PLUMED itself goes on with ``restart=True``.
        """
        save_run(Path(path), self._saved_simulation(), {BIAS: self})

    def _saved_simulation(self) -> Simulation:
        refuse(self._engine.why_not_saved)
        if self.simulation is None:
            raise RuntimeError("the bias is attached to no Simulation: there is nothing to save")
        return self.simulation

    def saved(self) -> SavedState:
        """What an attached bias has gathered up to the present step: see `checkpoints.Keeper`."""
        state = self._engine.saved(self._saved_simulation().currentStep)
        return replace(state, saved_by=self._input.fingerprint)

    def check_saved(self, state: SavedState, simulation: Simulation, path: Path) -> None:
        """Raise, as `attach` does, where it can not go on from a state; nothing is changed."""
        self._claims = [Claim(self.directory / name) for name in state.files]
        self._require_attachable(simulation)
        refuse(self._engine.why_not_saved)
        require_input(path, state, self._input.fingerprint, self.source)
        require_files(self.directory, state.files)

    def restore_saved(self, state: SavedState, simulation: Simulation) -> None:
        """Go on from a state that was checked, in place of `attach`."""
        self._engine.go_on(timestep_of(simulation), state)
        due = any(state.step % stride == 0 for stride in self._engine.strides)
        self._begin(simulation, state.updated == state.step or not due)
        self._claims.clear()  # open files have claims of their own

    # ---- values

    def values(self, simulation: Simulation, state: openmm.State) -> tuple[np.ndarray, float]:
        """Values of the variables and the bias at a state of the simulation, leaving no trace.

        Parameters
        ----------
        simulation : openmm.app.Simulation
        state : openmm.State
            With positions.

        Returns
        -------
        ndarray, shape (n_cvs,)
            [CV units]
        float
            Bias [kJ/mol], before the hill that is laid at this step: what COLVAR prints.
        """
        return self._attachment.measure(self._engine, simulation, state)

    def cv_values(self, positions: Any, box: Any = None) -> np.ndarray:
        """Values of the collective variables, leaving no trace; PATHMSD counts all its models.

        Parameters
        ----------
        positions : ndarray or Quantity, shape (n_atoms, 3) or (n, n_atoms, 3)
            [nm]
        box : ndarray or Quantity, shape (3, 3) or (n, 3, 3), optional
            Box vectors in rows [nm]; none for a system without periodic box.

        Returns
        -------
        ndarray, shape (n_cvs,) or (n, n_cvs)
            [CV units]
        """
        x = positions_in_nm(positions)
        self._engine.check(x.shape[-2])
        return self._engine.cv_values(x, None if box is None else nanometers(box))

    def differentiable_cvs(self, positions: Any) -> Any:
        """Values of the collective variables as a tensor with gradients, without a box.

        Parameters
        ----------
        positions : torch.Tensor, shape (n, n_atoms, 3)
            [nm]

        Returns
        -------
        torch.Tensor, shape (n, n_cvs)
            [CV units]

        Raises
        ------
        ValueError
            If the input is run by libplumed.
        """
        import torch

        refuse(self._engine.why_no_derivatives)
        self._engine.check(positions.shape[-2])
        return torch.stack(self._engine.cv_columns(positions.double()), dim=-1).to(positions)

    def bias_of_cvs(self, cvs: Any) -> np.ndarray:
        """The bias as it stands now, as a function of the variables alone; without NLIST.

        Parameters
        ----------
        cvs : array_like, shape (n, n_cvs)
            [CV units]

        Returns
        -------
        ndarray, shape (n,)
            [kJ/mol]

        Raises
        ------
        ValueError
            If a bias depends on something else than `variables`, or only PLUMED itself knows it.
        """
        step = 0 if self.simulation is None else self.simulation.currentStep
        return self._engine.bias_of_cvs(cv_rows(cvs, self.variables), step)

    def move_restraint(self, context: openmm.Context, centres: Any) -> None:
        """Move the centre of the restraint of a `restrained` bias, in a living Context.

        Parameters
        ----------
        context : openmm.Context
            Made from the System that the bias was added to.
        centres : array_like, shape (n_cvs,)
            [CV units]
        """
        self._engine.move(context, numbers_of(centres, "centres"))

    def close(self, used: bool = True) -> None:
        """Close the files of the input; not `used` where nothing was run under it, for an error."""
        self._attachment.end(used)
        self._engine.close()
        self._claims.clear()
