"""Folders of runs and windows whose distributions are known, written without simulating."""

import json

import numpy as np

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames.h5md import SegmentHeader
from openmm_cgan.frames.segments import Row, SegmentWriter

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE
KAPPA, AT = 60.0, 1.2
STIFFNESS, CENTRE = 100.0, 1.0  # of the free energy: STIFFNESS / 2 (d - CENTRE)^2
INPUT = f"d: DISTANCE ATOMS=1,2 NOPBC\nRESTRAINT ARG=d AT={AT} KAPPA={KAPPA}\n"


def write_frames(folder, values, bias, text=INPUT, origins=(), name="d", temperatures=()):
    """Frames of two atoms at distances `values`; `origins` begin segments: {step: settle steps}.

    From some on at other temperatures: {step: K}.
    """
    variable = CollectiveVariable(name, "nm")
    header = SegmentHeader((variable,), (0, 1), "", TEMPERATURE, False, text, {"backend": "native"})
    writer = SegmentWriter(folder / "frames", header)
    for step, (value, energy) in enumerate(zip(values, bias, strict=True), start=1):
        if step - 1 in origins:
            writer.start_segment(step - 1, {"kind": "proposal", "mode": "seed"}, origins[step - 1])
        if step - 1 in temperatures:
            writer.at_temperature(temperatures[step - 1])
        positions = np.array([[0.0, 0.0, 0.0], [value, 0.0, 0.0]])
        writer.append(Row(step, 0.1 * step, positions, None, np.array([value]), energy))
    writer.close()


def write_run(folder, n=2000, seed=1, drift=0.0, text=INPUT):
    """Independent draws of a harmonic free energy under a RESTRAINT; `drift` moves the halves."""
    total = STIFFNESS + KAPPA
    mean = (STIFFNESS * CENTRE + KAPPA * AT) / total
    values = np.random.default_rng(seed).normal(mean, np.sqrt(KT / total), n)
    values[n // 2 :] += drift
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plumed.dat").write_text(text)
    write_frames(folder, values, KAPPA / 2 * (values - AT) ** 2, text)


def write_window(folder, at, n=400, seed=1, **record):
    """Independent draws of the same free energy under a stiff RESTRAINT."""
    kappa = 300.0
    mean = (STIFFNESS * CENTRE + kappa * at) / (STIFFNESS + kappa)
    values = np.random.default_rng(seed).normal(mean, np.sqrt(KT / (STIFFNESS + kappa)), n)
    text = f"d: DISTANCE ATOMS=1,2 NOPBC\nRESTRAINT ARG=d AT={at} KAPPA={kappa}\n"
    folder.mkdir(parents=True)
    (folder / "plumed.dat").write_text(text)
    known = {"status": "finished", "step": n, "steps": n, "attempts": 1, "origin": "frame",
             "error": "", "temperature": TEMPERATURE, "timestep": 0.002,
             "centre": {"d": at}}  # fmt: skip
    (folder / "window.json").write_text(json.dumps(known | record))
    write_frames(folder, values, kappa / 2 * (values - at) ** 2, text)
