"""What PLUMED is asked before a run begins: muted instances, which read no hills, answer."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.plumed.actions import read_known
from openmm_cgan.plumed.actions.variables.centers import Centroid
from openmm_cgan.plumed.actions.variables.shapes import Gyration
from openmm_cgan.plumed.actions.variables.surroundings import NO_FORCE_OF_ENERGY
from openmm_cgan.plumed.actions.variables.variable import Variable, describe
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError, Problem, Statement
from openmm_cgan.plumed.input.words import read_real
from openmm_cgan.plumed.libplumed.instance import MDSettings, Plumed
from openmm_cgan.plumed.libplumed.statements import BIASES

IDLE_STEP = 1_000_003  # a prime: at this step nothing with a stride is due

CHARGED = ("DIPOLE", "DIPOLE_SCALAR", "DIPOLE_COMPONENTS", "DHENERGY")

Domain = tuple[float, float] | None


def probe(settings: MDSettings, statements: Sequence[Statement]) -> Plumed:
    """Make a muted instance to ask about an input: one that reads no hills.

    Its biases act at every step, so that what they act on can be asked for at any.

    Raises
    ------
    PlumedInputError
        If PLUMED refuses a statement.
    """
    # DUMPMASSCHARGE acts at the first update, and fails where nothing was calculated before
    left_out = ("RESTART", "DUMPMASSCHARGE")
    asked = [_at_rest(_without_stride(s)) for s in statements if s.action not in left_out]
    return Plumed.muted(replace(settings, restart=False), asked)


def _without_stride(statement: Statement) -> Statement:
    if statement.action not in BIASES:
        return statement
    words = [word for word in statement.words if not word.upper().startswith("STRIDE=")]
    return replace(statement, words=tuple(words))


def _at_rest(statement: Statement) -> Statement:
    """The same statement, but a METAD never updated: with CALC_WORK it asks its grid for a bias."""
    if statement.action != "METAD":
        return statement
    words = [word for word in statement.words if not word.upper().startswith("UPDATE_FROM=")]
    return replace(statement, words=(*words, "UPDATE_FROM=1e30"))


def require_masses(statements: Sequence[Statement], folder: Path, masses: np.ndarray) -> None:
    """Check that what weighs atoms by mass finds masses: without, PLUMED divides by zero or hangs.

    Parameters
    ----------
    statements : sequence of Statement
        The input.
    folder : Path
        Where the names of its files begin.
    masses : ndarray, shape (n_atoms,)
        [dalton]

    Raises
    ------
    ValueError
        With file and line, as of an input that is compiled.
    """
    if (masses > 0).all():
        return
    known, _ = read_known(list(statements), len(masses), folder)
    for action in known:
        if isinstance(action, Centroid | Gyration):
            action.set_masses(masses)
            action.require_weights()


def require_charges(statements: Sequence[Statement], charges: np.ndarray) -> None:
    """Check that what asks for charges finds them.

    Parameters
    ----------
    statements : sequence of Statement
        The input.
    charges : ndarray, shape (n_atoms,)
        [e]; NaN where they are not known.

    Raises
    ------
    PlumedInputError
        With file and line. What is not found here is NaN.
    """
    if not np.isnan(charges).all():
        return
    text = (
        "the charges are those of the System's only NonbondedForce, and it has none or several; "
        "keep charges in one"
    )
    if asking := [s for s in statements if _asks_for_charges(s)]:
        raise PlumedInputError([Problem(s.location, s.action, text) for s in asking])


def _asks_for_charges(statement: Statement) -> bool:
    if statement.action == "DUMPMASSCHARGE":
        return "ONLY_MASSES" not in [word.upper() for word in statement.words]
    return statement.action in CHARGED or "@charges" in statement.text.lower()


def require_finite(positions: np.ndarray) -> None:
    """Raise ValueError where coordinates are NaN or infinite."""
    flat = positions.reshape(-1)
    if not math.isfinite(flat.dot(flat)):
        raise ValueError("a coordinate given to PLUMED is NaN or infinite")


def require_number(energy: float) -> None:
    """Raise ValueError where a bias is NaN or infinite."""
    if not math.isfinite(energy):
        raise ValueError(
            f"the bias is {energy} kJ/mol: a function of the input has no value at these positions"
        )


def energy_needed(plumed: Plumed, statements: Sequence[Statement]) -> bool:
    """Whether an input asks for the potential energy, where it writes.

    Parameters
    ----------
    plumed : Plumed
        Made by `probe`.
    statements : sequence of Statement
        The input.

    Raises
    ------
    PlumedInputError
        If a bias acts on it: OpenMM gives it to no force.
    """
    if plumed.needs_energy(IDLE_STEP):
        named = [s for s in statements if s.action == "ENERGY"]
        raise PlumedInputError([Problem(s.location, s.action, NO_FORCE_OF_ENERGY) for s in named])
    return plumed.needs_energy(0)


def periodic_domains(plumed: Plumed, names: Sequence[str]) -> dict[str, Domain]:
    """Periodic domains of some values, as PLUMED declares them in COLVAR.

    Parameters
    ----------
    plumed : Plumed
        Made by `probe`; ended here.
    names : sequence of str
        Of the values.

    Raises
    ------
    ValueError
        If the input does not define one.
    """
    with tempfile.TemporaryDirectory() as folder:
        line = f"PRINT ARG={','.join(names)} FILE={folder}/domains STRIDE={IDLE_STEP}"
        try:
            plumed.command("readInputLine", line.encode())
        except RuntimeError as error:
            raise ValueError(f"of {', '.join(names)}: {error}") from None
        plumed.set_step(IDLE_STEP)
        plumed.command("prepareDependencies")
        plumed.update()
        plumed.close()
        [written] = Path(folder).iterdir()
        constants = read_fields(written).constants
    found: dict[str, Domain] = {}
    for name in names:
        limits = [constants.get(f"{end}_{name}") for end in ("min", "max")]
        lower, upper = (None if text is None else read_real(text) for text in limits)
        found[name] = None if lower is None or upper is None else (lower, upper)
    return found


def variables_with(
    domains: Mapping[str, Domain], statements: Sequence[Statement], folder: Path
) -> tuple[CollectiveVariable, ...]:
    """What is known of values with these domains: their atoms and units are from the input.

    Parameters
    ----------
    domains : mapping of str to (float, float) or None
        By the name of the value.
    statements : sequence of Statement
        The input.
    folder : Path
        Where the names of its files begin.
    """
    known, _ = read_known(list(statements), folder=folder)
    owner = {value.name: action for action in known for value in action.outputs}
    return tuple(
        replace(describe(owner[name], name), domain=domain)
        if isinstance(owner.get(name), Variable)
        else CollectiveVariable(name, "", domain)
        for name, domain in domains.items()
    )
