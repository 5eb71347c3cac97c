"""PlumedBias: a PLUMED input acting on a simulation, the one object a user holds."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import unit

from openmm_cgan.checkpoints import read_saved, write_saved
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.plumed.actions import Action, read_actions, read_known
from openmm_cgan.plumed.actions.setup import Units
from openmm_cgan.plumed.backends import choose_backend, make_plumed
from openmm_cgan.plumed.bias_reporters import UpdateReporter, tell_energy
from openmm_cgan.plumed.input.language import (
    PlumedInputError,
    include_files,
    read_statements,
    read_text,
)
from openmm_cgan.plumed.input.words import split_vector
from openmm_cgan.plumed.libplumed.schedule import BIASES, OUTPUTS
from openmm_cgan.plumed.native.backend import NativeBackend
from openmm_cgan.plumed.native.forces.system_box import bias_number, marker_force
from openmm_cgan.states import positions_and_box

log = logging.getLogger("openmm_cgan")


class PlumedBias:
    """A PLUMED input: its bias as OpenMM forces, its collective variables as numbers.

    Parameters
    ----------
    plumed_input : str or Path
        The input file, or the text itself if it contains a newline.
    topology : openmm.app.Topology, optional
        Checks the atoms of the input; else `add_to` does.
    temperature : float or Quantity, optional
        Temperature of the run [K], for what needs kT and does not say TEMP.
    backend : {"auto", "native", "kernel", "plugin"}
        "native" compiles the input to OpenMM forces; "kernel" runs libplumed through
        ``openmm.PythonForce``; "plugin" uses openmm-plumed. "auto" takes native where it covers
        the input, else the kernel, else the plugin, and logs which and why.
    directory : str or Path
        Where COLVAR, HILLS and the other files of the input are, by default the current folder.
    restart : bool
        Continue an earlier run: append to the files, read the hills.
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
        topology: Any = None,
        *,
        temperature: float | unit.Quantity | None = None,
        backend: str = "auto",
        directory: str | Path = ".",
        restart: bool = False,
        cvs: tuple[str, ...] | None = None,
    ) -> None:
        if backend not in ("auto", "native", "kernel", "plugin"):
            raise ValueError(f"backend is '{backend}'; expected auto, native, kernel or plugin")
        self.text, self.source = read_text(plumed_input)
        self.directory = Path(directory)
        self.temperature = _kelvin(temperature)
        statements = read_statements(self.text, self.source)
        self._statements = include_files(statements, self.directory)
        asked = [s.words for s in self._statements if s.action == "RESTART"]
        self.restart = restart or any("NO" not in words for words in asked)
        self._n_atoms = None if topology is None else topology.getNumAtoms()
        native, refusal = self._compile()
        if native is not None and topology is not None:
            native.set_masses(_element_masses(topology))  # until the System's are known
        self.backend = choose_backend(backend, refusal, self.source)
        self._may_change = backend == "auto"
        self._moves = False
        self._engine: Any = native if self.backend == "native" else None
        names = tuple(cvs) if cvs is not None else self._default_cvs(native)
        if not names and (native is None or not native.prints):
            raise ValueError(
                f"{self.source} names no collective variables: it has no bias and no PRINT; "
                "say which with cvs=('phi', 'psi')"
            )
        if self._engine is None:
            self._engine = self._make_engine(names, native)
        self._engine.read = names
        self.variables: tuple[CollectiveVariable, ...] = self._engine.describe(names)
        self._system: openmm.System | None = None
        self._groups: set[int] = set()
        self._witness: openmm.Force | None = None  # a force that knows the Contexts it is in
        self._marker = ""  # without one, a parameter of the Context
        self._reporter: UpdateReporter | None = None

    @property
    def static(self) -> bool:
        """Whether it is known to be the same function of the positions at all times."""
        return self.backend == "native" and self._engine.static and not self._moves

    @property
    def remembers(self) -> bool:
        """Whether it depends on the steps before, as on PATHMSD with NEIGH_SIZE."""
        return self.backend == "native" and self._engine.remembers

    # ---- building

    def _compile(self) -> tuple[NativeBackend | None, PlumedInputError | None]:
        try:
            actions: list[Action] = read_actions(self._statements, self._n_atoms, self.directory)
            return NativeBackend(actions, self.directory, self.temperature, self.restart), None
        except PlumedInputError as refusal:
            return None, refusal

    def _default_cvs(self, native: NativeBackend | None) -> tuple[str, ...]:
        """Arguments of the biases, each once; of PRINT where there is no bias."""
        if native is not None:
            return native.default_variables()
        for users in (BIASES, {"PRINT"}):
            names: dict[str, None] = {}
            for statement in self._statements:
                for word in statement.words if statement.action in users else ():
                    key, _, value = word.partition("=")
                    if key.upper() == "ARG":
                        names.update(dict.fromkeys(split_vector(value)))
            if plain := tuple(name for name in names if "*" not in name and "(" not in name):
                return plain
        return ()

    def _make_engine(self, names: tuple[str, ...], native: NativeBackend | None = None) -> Any:
        settings: dict[str, Any] = {
            "directory": self.directory,
            "temperature": self.temperature,
            "restart": self.restart,
            "read": names,
            "source": self.source,
        }
        return make_plumed(self.backend, self.text, native, **settings)

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
        at = ",".join(repr(float(c)) for c in np.broadcast_to(centres, len(names)))
        known, _ = read_known(self._statements, folder=self.directory)
        energy = next((a.system.energy for a in known if isinstance(a, Units)), 1.0)
        strengths = ",".join(repr(float(k) / energy) for k in np.broadcast_to(kappa, len(names)))
        kept = [s.text for s in self._statements if s.action not in BIASES | OUTPUTS]
        line = f"RESTRAINT ARG={','.join(names)} AT={at} KAPPA={strengths}"
        made = PlumedBias(
            "\n".join([*kept, line, ""]),
            temperature=self.temperature,
            backend="native" if self.backend == "native" else "auto",
            directory=self.directory,
        )
        made._moves = True
        return made

    # ---- in a simulation

    def add_to(self, system: openmm.System) -> list[openmm.Force]:
        """Add the bias to a System, before the Simulation is made.

        Its forces get a force group of their own.

        Returns
        -------
        list of openmm.Force
            The forces added.

        Raises
        ------
        ValueError
            If the input names atoms that the System does not have, or a temperature is missing.
        RuntimeError
            If this bias is in a System already, or no force group is free.
        """
        if self._system is not None:
            raise RuntimeError("this PlumedBias is in a System already; make another for this one")
        self._engine.check(system.getNumParticles())
        self._settle_backend(system)
        used = {force.getForceGroup() for force in system.getForces()}
        free = sorted(set(range(32)) - used, reverse=True)
        if not free:
            raise RuntimeError("no force group is free: the System's forces use all 32")
        forces = self._engine.forces(system)
        added = list(forces)
        self._witness = next((f for f in forces if hasattr(f, "updateParametersInContext")), None)
        if self._witness is None:
            self._marker = f"openmm_cgan_bias_{bias_number(system)}"
            added.append(marker_force(self._marker))
        for force in added:
            force.setForceGroup(free[0])
            system.addForce(force)
        self._groups = {free[0]}
        self._system = system
        return list(forces)

    def _settle_backend(self, system: openmm.System) -> None:
        """Go over to PLUMED itself where this System has something that native can not do."""
        if self.backend != "native" or not (problems := self._engine.refusals(system)):
            return
        refusal = PlumedInputError(problems)
        if not self._may_change:
            raise refusal
        self.backend = choose_backend("auto", refusal, self.source)
        names = self._engine.read
        self._engine = self._make_engine(names)
        self.variables = self._engine.describe(names)

    def force_groups(self) -> set[int]:
        """The force groups of the bias in its System."""
        return set(self._groups)

    def attach(self, simulation: Any, checkpoint: str | Path | None = None) -> None:
        """Let the bias act between the steps of a Simulation: lay hills, write COLVAR.

        Appends a reporter of its own to ``simulation.reporters``; call it before you append
        reporters that record the bias.

        Parameters
        ----------
        simulation : openmm.app.Simulation
        checkpoint : str or Path, optional
            What `save_checkpoint` has written: Simulation and bias go on as if they had never
            stopped, and the files of the input lose what was written after that.

        Raises
        ------
        RuntimeError
            If `add_to` was not called, or was called after the Simulation was made (its Context
            would not contain the bias, silently).
        ValueError
            If a temperature is needed and missing, or the checkpoint is of another input.
        """
        if self._system is None:
            raise RuntimeError("call bias.add_to(system) before Simulation(...), then attach")
        if self._reporter is not None:
            raise RuntimeError("this PlumedBias is attached already")
        if not self._is_in(simulation.context):
            raise RuntimeError(
                "the Simulation's Context does not contain the bias: call bias.add_to(system) "
                "before Simulation(topology, system, integrator), with the same System"
            )
        timestep = simulation.integrator.getStepSize().value_in_unit(unit.picosecond)
        begun = self.restart  # the earlier run has written this step already
        if checkpoint is None:
            self._engine.start(timestep)
        else:
            begun = self._go_on(simulation, timestep, Path(checkpoint))
        self._engine.upload(simulation.context)
        self._reporter = UpdateReporter(self._engine, begun, self._groups)
        self._simulation = simulation
        simulation.reporters.append(self._reporter)

    def _is_in(self, context: openmm.Context) -> bool:
        if self._witness is None:
            return self._marker in dict(context.getParameters())
        try:
            self._witness.updateParametersInContext(context)
        except openmm.OpenMMException as error:
            if "not present in the Context" in str(error):
                return False
            raise
        return True

    def _go_on(self, simulation: Any, timestep: float, path: Path) -> bool:
        """Go on from a checkpoint; return whether its step has been updated."""
        self._refuse_unless_native()
        state = read_saved(path)
        if state.input != self._fingerprint:
            raise ValueError(f"{path} is of another input than {self.source}")
        simulation.context.loadCheckpoint(state.checkpoint)
        self._engine.go_on(timestep, state)
        due = any(state.step % stride == 0 for stride in self._engine.strides)
        return state.updated == state.step or not due

    def save_checkpoint(self, path: str | Path) -> None:
        """Save Simulation and bias together, to go on with ``attach(simulation, checkpoint=path)``.

        OpenMM's checkpoint, hills and kernels, the work of a moving restraint, the basin of a
        COMMITTOR, and how long each file is. Call it between steps; `BiasCheckpointReporter` does.

        Raises
        ------
        RuntimeError
            If the bias is attached to no Simulation.
        ValueError
            If the backend is not native: PLUMED itself goes on with ``restart=True``.
        """
        self._refuse_unless_native()
        if self._reporter is None:
            raise RuntimeError("the bias is attached to no Simulation: there is nothing to save")
        context = self._simulation.context
        state = self._engine.saved(self._simulation.currentStep)
        write_saved(
            Path(path),
            replace(state, input=self._fingerprint, checkpoint=context.createCheckpoint()),
        )

    def _refuse_unless_native(self) -> None:
        if self.backend != "native":
            raise ValueError(
                f"backend='{self.backend}': PLUMED keeps its state in its own files; go on with "
                "PlumedBias(..., restart=True)"
            )

    @property
    def _fingerprint(self) -> str:
        """Tells inputs apart, comments and spaces left out."""
        text = "\n".join(statement.text for statement in self._statements)
        return hashlib.sha256(text.encode()).hexdigest()

    def values(self, simulation: Any, state: openmm.State) -> tuple[np.ndarray, float]:
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
        step = simulation.currentStep
        positions, box = positions_and_box(
            state, simulation.system.usesPeriodicBoundaryConditions()
        )
        if self._reporter is not None and self._reporter.has_seen(step, positions):
            return self._reporter.values, self._reporter.energy
        tell_energy(self._engine, simulation, self._groups)
        values, energy = self._engine.evaluate(positions, box, step)
        return values, energy

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

        Raises
        ------
        ValueError
            If the shape is wrong.
        """
        x = np.asarray(_bare(positions), dtype=float)
        if x.ndim not in (2, 3) or x.shape[-1] != 3:
            raise ValueError(f"positions have shape {x.shape}; expected (..., n_atoms, 3)")
        self._engine.check(x.shape[-2])
        b = None if box is None else np.asarray(_bare(box), dtype=float)
        return self._engine.cv_values(x, b)

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

        if not isinstance(self._engine, NativeBackend):
            raise ValueError(
                f"the CVs are those of the {self.backend} backend, which has no derivatives for"
                " torch; write the input with natively known actions"
            )
        self._engine.check(positions.shape[-2])
        return torch.stack(self._engine.cv_columns(positions), dim=-1)

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
        cvs = np.asarray(cvs, dtype=float)
        if cvs.ndim != 2 or cvs.shape[1] != len(self.variables):
            names = ", ".join(variable.name for variable in self.variables)
            raise ValueError(
                f"cvs have shape {cvs.shape}; expected (n, {len(self.variables)}): {names}"
            )
        if self.backend != "native":
            raise ValueError(
                f"the bias as a function of CVs is not known to backend='{self.backend}'"
            )
        step = 0 if self._reporter is None else self._simulation.currentStep
        return self._engine.bias_of_cvs(cvs, step)

    def move_restraint(self, context: openmm.Context, centres: Any) -> None:
        """Move the centre of the restraint of a `restrained` bias, in a living Context.

        Parameters
        ----------
        context : openmm.Context
            Made from the System that the bias was added to.
        centres : array_like, shape (n_cvs,)
            [CV units]
        """
        self._engine.move(context, np.asarray(centres, dtype=float))

    def close(self) -> None:
        """Close the files of the input."""
        self._engine.close()


def _element_masses(topology: Any) -> np.ndarray:
    """Masses [dalton] by element, 0 for what has none."""
    elements = [atom.element for atom in topology.atoms()]
    return np.array([0.0 if e is None else e.mass.value_in_unit(unit.dalton) for e in elements])


def _bare(quantity: Any) -> Any:
    return quantity.value_in_unit(unit.nanometer) if unit.is_quantity(quantity) else quantity


def _kelvin(temperature: Any) -> float | None:
    if temperature is None:
        return None
    if unit.is_quantity(temperature):
        temperature = temperature.value_in_unit(unit.kelvin)
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature is {temperature} K; expected a positive number")
    return float(temperature)
