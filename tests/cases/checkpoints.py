"""Checkpoints as earlier versions wrote them."""

import json

import numpy as np


def write_version_1(path, run):
    """Write a run with one bias as version 1 did: the arrays of the bias beside the header."""
    state = run.keepers["bias"]
    header = {
        "version": 1,
        "step": run.step,
        "updated": state.updated,
        "files": state.files,
        "input": state.saved_by,
    }
    checkpoint = np.frombuffer(run.checkpoint, dtype=np.uint8)
    with open(path, "wb") as file:
        np.savez(file, header=np.array(json.dumps(header)), checkpoint=checkpoint, **state.arrays)
