"""FUNNEL: a wall round a cone or a sphere that goes over into a cylinder, as a grid in a file.

Limongelli, Bonomi, Parrinello, doi 10.1073/pnas.1303186110; the sphere, doi
10.1038/s41596-020-0342-4. PLUMED writes the file where there is none, forces in its columns of
derivatives, and one bin less in its header than it has; what it reads then is read here as well.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.external import External
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.files.tables import FieldTable

MAX_NODES = 2_000_000  # of a file that is made here: seconds, and 140 MB
_ROW = "%13.6f %13.6f %13.6f %13.6f %13.6f\n"


class Funnel(External):
    """A funnel-shaped wall for the two values of a FUNNEL_PS.

    Attributes
    ----------
    text : str
        What is to be written to its file; empty where there is one.
    """

    name = "FUNNEL"
    summary = "a funnel-shaped wall, from a file that is written where there is none"
    keywords = (
        *External.keywords,
        Keyword("MAXS", "real", "upper end of the first argument", compulsory=True),
        Keyword("ZCC", "real", "where the cone goes over into the cylinder", compulsory=True),
        Keyword("MINS", "real", "lower end of the first argument", default=0.0),
        Keyword("RCYL", "real", "radius of the cylinder", default=0.1),
        Keyword("ALPHA", "real", "angle of the cone", default=1.413),
        Keyword("KAPPA", "real", "force constant of the wall", default=84.0),
        Keyword("SPHERE", "flag", "a sphere in place of the cone"),
        Keyword("SAFETY", "real", "how far the grid goes beyond the sphere", default=1.0),
        Keyword("SLOPE", "real", "of the wall between sphere and cylinder", default=1.0),
        Keyword("NBINS", "integer", "bins of the first argument", default=500),
        Keyword("NBINZ", "integer", "bins of the second", default=500),
        Keyword("WALKERS_MPI", "flag", "accepted: one process writes the file"),
    )
    has_rows_at_nodes = False  # PLUMED's own FUNNEL writes a row more than its header tells of

    def _table(self, path: Path, given: Given) -> FieldTable:
        self.text = ""
        if path.exists():
            return read_fields(path)
        if len(self.arguments) != 2:
            raise ValueError(f"a funnel is of two values, {len(self.arguments)} given")
        options = given.options
        bins = options["NBINS"], options["NBINZ"]
        if min(bins) < 2 or (bins[0] + 1) * (bins[1] + 1) > MAX_NODES:
            raise ValueError(f"expected at least two bins, natively {MAX_NODES} nodes at most")
        a, b = (value.name for value in self.arguments)
        fields = [a, b, f"{self.label}.bias", f"der_{a}", f"der_{b}"]
        ends, nodes = _nodes(options)
        self.text, constants = f"#! FIELDS {' '.join(fields)} \n", {}
        for value, (lower, upper), n in zip((a, b), ends, bins, strict=True):
            own = {"min": f"{lower:f}", "max": f"{upper:f}", "nbins": f"{n:f}"}
            for word, text in (own | {"periodic": "false"}).items():
                constants[f"{word}_{value}"] = text
                self.text += f"#! SET {word}_{value} {text}\n"
        block = _ROW * (bins[1] + 1) + "\n"
        rows = nodes.reshape(bins[0] + 1, -1)
        self.text += "".join(block % tuple(row) for row in rows.tolist())
        numbers = [line.split() for line in self.text.splitlines() if line and line[0] != "#"]
        return FieldTable.from_values(fields, constants, np.array(numbers, dtype=float), str(path))

    def write(self, path: Path) -> None:
        """Write the file where there was none."""
        if self.text and not path.exists():
            path.write_text(self.text)
        self.text = ""


def _nodes(options: dict[str, Any]) -> tuple[list[tuple[float, float]], np.ndarray]:
    """Ends of both axes; both values, the wall and its forces, (n_s + 1, n_z + 1, 5)."""
    switch, radius, reach = options["ZCC"], options["RCYL"], options["SAFETY"]
    sphere, upper = options["SPHERE"], options["MAXS"]
    lower = -switch - reach if sphere else options["MINS"]
    widening = math.tan(options["ALPHA"])
    widest = switch + reach if sphere else radius + widening * (switch - lower)
    if not (upper > lower and widest > 0):
        raise ValueError(f"the funnel goes from {lower} to {upper} and is {widest} wide")
    s = lower + np.arange(options["NBINS"] + 1) * ((upper - lower) / options["NBINS"])
    z = np.arange(options["NBINZ"] + 1) * (widest / options["NBINZ"])
    s, z = (x.astype(float) for x in np.meshgrid(s, z, indexing="ij"))
    shape = _sphere if sphere else _cone
    wall, along, across = shape(s, z, options, widening)
    ends = [(lower, upper), (0.0, widest)]
    return ends, np.stack([s, z, wall, along, across], axis=-1) + 0.0  # no zero has a sign


def _cone(s: np.ndarray, z: np.ndarray, options: dict[str, Any], widening: float) -> Any:
    """A harmonic wall in the distance from the axis, and its forces."""
    switch, kappa = options["ZCC"], options["KAPPA"]
    in_cone = s <= switch
    deep = z - options["RCYL"] - np.where(in_cone, (switch - s) * widening, 0.0)
    deep = np.where(deep >= 0, deep, 0.0)
    return kappa / 2 * deep**2, -kappa * deep * np.where(in_cone, widening, 0.0), -kappa * deep


def _sphere(s: np.ndarray, z: np.ndarray, options: dict[str, Any], _: float) -> Any:
    """A harmonic wall in the distance from the centre, less so beside the cylinder."""
    switch, radius, kappa = options["ZCC"], options["RCYL"], options["KAPPA"]
    steep = options["SLOPE"]
    in_sphere = s <= math.sqrt(max(switch**2 - radius**2, 0.0))
    edge = np.where(s > -switch, np.sqrt(np.maximum(switch**2 - s * s, 0.0)), 0.0)
    outside = z >= np.where(in_sphere, edge, radius)
    far = np.sqrt(z * z + s * s)
    beside = np.sqrt(((z + steep * switch - radius) / steep) ** 2 + z * z)
    from_centre = in_sphere | (z >= radius + steep * (s - switch))
    length = np.where(from_centre, far, beside)
    deep = np.where(outside, length - switch, 0.0)
    length = np.where(length > 0, length, 1.0)
    along = np.where(from_centre, -kappa * deep * s / length, 0.0)
    return kappa / 2 * deep**2, along, -kappa * deep * z / length
