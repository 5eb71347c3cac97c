"""Files of the forces of the biases on the frames, for ``--dump-forces`` and ``--debug-forces``."""

from __future__ import annotations

from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.atomic_files import replaceable
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.files.contents import open_rows
from openmm_cgan.plumed.files.fields import FieldWriter


class ForcesFile:
    """What ``--dump-forces`` writes: for each frame the virial and the forces."""

    def __init__(self, settings: DriverSettings) -> None:
        assert settings.forces is not None
        self._settings = settings
        path = settings.directory / settings.forces
        if replaceable(path):
            path.write_bytes(b"")  # PLUMED begins it anew without a backup
        self._file: TextIO = open_rows(path)

    def write(self, forces: NDArray, virial: NDArray) -> None:
        """Write one frame: forces [kJ/mol/nm], virial [kJ/mol] of shape (3, 3)."""
        fmt = self._settings.forces_format
        shown = virial.ravel() if self._settings.full_virial else np.diag(virial)
        lines = [str(len(forces)), " ".join(fmt % x for x in shown)]
        for row in self._settings.length * forces:
            lines.append("X " + " ".join(fmt % x for x in row))
        self._file.write("\n".join(lines) + "\n")

    def close(self) -> None:
        self._file.close()


class DebugFile:
    """What ``--debug-forces`` writes: each derivative of the bias, computed and by differences."""

    def __init__(self, settings: DriverSettings) -> None:
        assert settings.debug_forces is not None
        self._settings = settings
        path = settings.directory / settings.debug_forces
        self._writer = FieldWriter(path, ("parameter", "analytical", "numerical"))

    def write(self, engine: Any) -> None:
        """Write the forces on the atoms of the present frame and its virial."""
        length, fmt = self._settings.length, " " + self._settings.forces_format
        positions, box, step = engine.frame
        engine.calculate(positions, box, step)
        forces, virial = engine.forces()
        computed = [*(length * forces).ravel(), *np.ravel(virial)]
        base, delta = engine.bias(positions, box), np.sqrt(np.finfo(float).eps)
        by_differences = []
        for place in np.ndindex(positions.shape):
            moved = positions.copy()
            moved[place] += delta * length
            by_differences.append(-(engine.bias(moved, box) - base) / delta)
        if box is None:
            by_differences += [np.nan] * 9  # no box to strain
        else:
            by_differences += list(_virial_by_differences(engine, delta).ravel())
        for i, (here, there) in enumerate(zip(computed, by_differences, strict=True)):
            self._writer.write((f" {i}", fmt % here, fmt % there))

    def close(self) -> None:
        self._writer.close()


def _virial_by_differences(engine: Any, delta: float) -> NDArray:
    positions, box, _ = engine.frame
    base = engine.bias(positions, box)
    slope = np.zeros((3, 3))
    for place in np.ndindex(3, 3):
        moved = box.copy()
        moved[place] += delta
        strained = positions @ np.linalg.inv(box) @ moved
        slope[place] = (engine.bias(strained, moved) - base) / delta
    return box.T @ slope
