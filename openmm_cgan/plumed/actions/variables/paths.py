"""Progress along a path of configurations, and the distance from it: PATHMSD, PROPERTYMAP.

Branduardi, Gervasio, Parrinello, doi 10.1063/1.2432340; with properties of the configurations in
place of their number, Spiwok and Kralova, doi 10.1063/1.3660208.
"""

from __future__ import annotations

import uuid
import weakref
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.shapes import (
    NOPBC,
    GroupVariable,
    read_references,
    references_of,
)
from openmm_cgan.plumed.geometry.last_frames import LastFrame
from openmm_cgan.plumed.geometry.superposition import (
    References,
    deviations,
    mean_square_deviation,
)
from openmm_cgan.plumed.input.expressions import namespace
from openmm_cgan.plumed.input.pdb import read_remarks
from openmm_cgan.plumed.input.words import read_real, split_vector

_living: weakref.WeakValueDictionary[str, NearestModels] = weakref.WeakValueDictionary()


class NearestModels:
    """Which models of a path count at present: all, or those nearest at an earlier step.

    OpenMM copies what it calls back by pickling: a copy in the same process has the same list.

    Parameters
    ----------
    size : int
        Models in the list.
    stride : int
        At multiples of this the list is dropped; the next step counts all models and makes a new.
    """

    def __init__(self, size: int, stride: int) -> None:
        self.size, self.stride = size, stride
        self.index: np.ndarray | None = None  # None: all
        self._token = uuid.uuid4().hex
        _living[self._token] = self

    def __reduce__(self) -> tuple[Any, ...]:
        return _reconnect, (self._token, self.size, self.stride)

    def update(self, square: np.ndarray, step: int) -> None:
        """Take a step.

        Parameters
        ----------
        square : ndarray, shape (n_models,)
            Mean square deviation from each model [nm^2]; looked at only where a list is made.
        step : int
        """
        if step % self.stride == 0:
            self.index = None
        elif self.index is None:
            self.index = np.sort(np.argsort(square, kind="stable")[: self.size])


def _reconnect(token: str, size: int, stride: int) -> NearestModels:
    return _living.get(token) or NearestModels(size, stride)  # elsewhere nobody makes lists


_KEYWORDS = (
    Keyword("REFERENCE", "text", "a PDB file of several models", compulsory=True),
    Keyword("LAMBDA", "real", "smoothing, per square of the length unit", compulsory=True),
    Keyword("NEIGH_SIZE", "integer", "sum over so many of the models, the nearest of late"),
    Keyword("NEIGH_STRIDE", "integer", "steps from one list of these to the next"),
    NOPBC,
)


class PathMsd(GroupVariable):
    """Progress ``.sss`` along the models of a PDB file, and distance ``.zzz`` from them."""

    name = "PATHMSD"
    summary = "progress along a path of configurations and distance from it"
    keywords: ClassVar[tuple[Keyword, ...]] = _KEYWORDS

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.smoothing: float = options["LAMBDA"]
        if not self.smoothing > 0:
            raise self.error("LAMBDA", "must be positive")
        models = read_references(self, given)
        self.atoms, self.references = references_of(self, models, rotate=True)
        self.n_models = len(models)
        self.names, self.places = self._read_places(given)
        self._deviations = LastFrame(deviations)
        self._some: tuple[np.ndarray, References, np.ndarray] | None = None
        self.nearest = self._read_list(options["NEIGH_SIZE"], options["NEIGH_STRIDE"])

    def _read_places(self, given: Given) -> tuple[tuple[str, ...], np.ndarray]:
        """Names of what is averaged over models, and its values, shape (n_names, n_models)."""
        return ("sss",), np.arange(1.0, self.n_models + 1)[None]

    def _read_list(self, size: int | None, stride: int | None) -> NearestModels | None:
        """The list of models; None where it would have them all at every step."""
        if size is None or not 0 < size < self.n_models:
            return None
        if stride == 0:
            raise self.error("NEIGH_STRIDE=0", "must be positive")
        return None if stride in (None, 1) else NearestModels(size, abs(stride))

    @property
    def outputs(self) -> tuple[Value, ...]:
        unit = f"{self.units.length_name}^2"
        averages = (Value(f"{self.label}.{name}") for name in self.names)
        return *averages, Value(f"{self.label}.zzz", unit)

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        """Progress and distance, over all models; parameters and shapes as of `Variable.values`."""
        return self._sums(self._whole(positions, box), self.references, self.places)

    def values_of_list(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        """The same, of the same shapes, over the models that count at present in a run."""
        return self._sums(self._whole(positions, box), *self._counted())

    def _counted(self) -> tuple[References, np.ndarray]:
        index = None if self.nearest is None else self.nearest.index
        if index is None:
            return self.references, self.places
        if self._some is None or self._some[0] is not index:  # kept, for each step asks
            self._some = index, self.references.some(index), self.places[:, index]
        return self._some[1:]

    def _sums(self, points: Any, references: References, places: np.ndarray) -> tuple[Any, ...]:
        xp = namespace(points)
        square = mean_square_deviation(points, references) / self.units.length**2
        nearest = xp.amin(square, -1)
        likeness = xp.exp(-self.smoothing * (square - nearest[..., None]))
        total = likeness.sum(-1)
        averages = ((likeness * xp.asarray(place)).sum(-1) / total for place in places)
        return *averages, nearest - xp.log(total) / self.smoothing

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        references, places = self._counted()
        listed = None if self.nearest is None else self.nearest.index
        square, pulled = self._deviations(self._whole(positions, box), references, listed)
        square = square / self.units.length**2
        likeness = np.exp(-self.smoothing * (square - square.min()))
        shares = likeness / likeness.sum()
        if index < len(places):
            value = shares @ places[index]
            factors = self.smoothing * shares * (value - places[index])
        else:
            value, factors = square.min() - np.log(likeness.sum()) / self.smoothing, shares
        return float(value), pulled(factors / self.units.length**2)

    # ---- between steps

    def update_list(self, positions: np.ndarray, box: np.ndarray | None, step: int) -> None:
        """Renew the list of models where that is due.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms_of_the_system, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            [nm]
        step : int
        """
        if self.nearest is None:
            return
        square = np.zeros(0)
        if self.nearest.index is None and step % self.nearest.stride:
            seen = self.whole_positions(positions, box)
            square = mean_square_deviation(self._whole(seen, box), self.references)
        self.nearest.update(square, step)

    def saved(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps: ``models`` (n_listed,), from zero, where there is a list."""
        if self.nearest is None:
            return {}
        every, index = np.arange(self.n_models), self.nearest.index
        return {"models": every if index is None else index}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take what a checkpoint has kept, ``models`` (n_listed,)."""
        if self.nearest is None:
            return
        index = saved_array(arrays, "models", (None,)).astype(int)
        n = self.n_models
        if len(index) not in (self.nearest.size, n) or np.any(index < 0) or np.any(index >= n):
            raise ValueError(
                f"the saved list of {self.label} in shape {index.shape} is not its own"
            )
        self.nearest.index = None if len(index) == n else index


class PropertyMap(PathMsd):
    """Averages of properties that the REMARK lines of the models give, and distance ``.zzz``."""

    name = "PROPERTYMAP"
    summary = "properties of configurations averaged by likeness, and distance from these"
    keywords = (
        *_KEYWORDS,
        Keyword("PROPERTY", "text", "names in the REMARK lines: REMARK X=1 Y=2", compulsory=True),
    )

    def _read_places(self, given: Given) -> tuple[tuple[str, ...], np.ndarray]:
        names = tuple(split_vector(given.options["PROPERTY"]))
        remarks = read_remarks(given.folder / given.options["REFERENCE"])
        try:
            places = [[read_real(remark[name]) for remark in remarks] for name in names]
        except KeyError as error:
            raise self.error("PROPERTY", f"a model has no REMARK {error.args[0]}=") from None
        except ValueError as error:
            raise self.error("REFERENCE", f"REMARK: {error}") from None
        if len(set(names)) < len(names) or "zzz" in names:
            raise self.error("PROPERTY", "expected different names, and not zzz")
        return names, np.array(places)
