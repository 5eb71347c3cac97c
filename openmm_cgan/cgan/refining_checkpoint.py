"""The file of a refining that goes on."""

import hashlib
import logging
import math
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from openmm_cgan.cgan.training_checkpoint import read_checkpoint, write_checkpoint
from openmm_cgan.cgan.weighed_torsions import WeighedTorsions

# What is saved as it is, and what has a state of its own.
CHANGING = ("step", "ended", "judged_at", "history", "rows", "first")
PARTS = ("generator", "averaged", "optimiser")
SAME_SHARE = 1e-3  # devices and platforms round otherwise

logger = logging.getLogger("openmm_cgan")


def save_refining(refining: Any, path: str | os.PathLike[str]) -> None:
    """Write all that changes in what `refine` works on."""
    state = {name: getattr(refining, name).state_dict() for name in PARTS}
    state |= {name: getattr(refining, name) for name in CHANGING}
    state |= {"rng": refining.rng.get_state(), "seconds": time.perf_counter() - refining.started}
    state |= {"best": tuple(refining.best), "energies": refining.counted.n}
    state["weighed"] = None if refining.weighed is None else tuple(refining.weighed)
    write_checkpoint(path, state | {"belongs_to": _belongs_to(refining)})


def load_refining(refining: Any, path: str | os.PathLike[str]) -> None:
    """Go on from a checkpoint with what has been judged before its first step.

    Raises
    ------
    ValueError
        If it is no checkpoint, or one of another model, energy, frames or settings.
    """
    state = read_checkpoint(Path(path), _belongs_to(refining))
    if not math.isclose(state["first"], refining.first, rel_tol=SAME_SHARE, abs_tol=SAME_SHARE):
        raise ValueError(
            f"the checkpoint {path} was made with another energy: by it a share of "
            f"{state['first']:.4f} of what the model makes was effective at first, by this one "
            f"{refining.first:.4f}. Delete it or name another to start afresh"
        )
    for name in PARTS:
        getattr(refining, name).load_state_dict(state[name])
    for name in CHANGING:
        setattr(refining, name, state[name])
    refining.rng.set_state(state["rng"])
    refining.best, refining.counted.n = type(refining.best)(*state["best"]), state["energies"]
    weighed = state.get("weighed")  # files of before have none
    refining.weighed = None if weighed is None else WeighedTorsions(*weighed)
    refining.started = time.perf_counter() - state["seconds"]
    logger.info("refining goes on from step %d of %s", refining.step, path)


def _belongs_to(refining: Any) -> dict[str, Any]:
    """What must be the same where it goes on."""
    data = hashlib.sha256(refining.conditions.numpy().tobytes())
    for tensor in refining.gan.generator.state_dict().values():
        data.update(tensor.cpu().numpy().tobytes())
    if refining.frames is not None:
        data.update(refining.frames.fingerprint().encode())
    of = {"model or frames": data.hexdigest(), "kT": refining.target.kT}
    return {"settings": asdict(refining.settings), **of}
