"""A part of a molecule, generated among the rest of it as it stands in the running simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.proposals import Rest, Sampler, generated_atoms, keeps_place
from openmm_cgan.reporters.surroundings import Surroundings
from openmm_cgan.reporters.tied_molecules import TiedMolecules

if TYPE_CHECKING:
    from openmm.app import Simulation


@runtime_checkable
class PartFeatures(Protocol):
    """Features of a part, that can be placed: of `AlignedFeatures` and `ZMatrixFeatures`."""

    @property
    def rest(self) -> NDArray[np.int64]:
        """Atoms, in the whole topology, that the part stands among."""

    def place(self, positions: NDArray, rest: NDArray, cvs: NDArray) -> NDArray:
        """Positions (n, n_atoms, 3) moved to where the rest (n_rest, 3) stands [nm]."""
        ...


class PartSampler:
    """A Sampler whose configurations stand among the rest of the running simulation.

    Parameters
    ----------
    sampler : Sampler
        Of a part.
    features : PartFeatures
        Its features.
    surroundings : Surroundings
        Tells where the rest is.
    """

    has_density = False
    keeps_place = True

    def __init__(self, sampler: Sampler, features: PartFeatures, surroundings: Surroundings):
        self._sampler, self._features, self._surroundings = sampler, features, surroundings
        self.variables, self.cv_range = sampler.variables, sampler.cv_range
        self.topology_hash = sampler.topology_hash
        self.atoms, self.n_atoms = sampler.atoms, sampler.n_atoms

    def sample(self, cvs: NDArray, n: int | None = None, seed: int = 0) -> NDArray:
        """Configurations (m, n_atoms, 3) [nm] in their place, one for each row of ``cvs``."""
        generated = self._sampler.sample(cvs, n, seed)
        targets = np.broadcast_to(np.asarray(cvs, float), (len(generated), len(self.variables)))
        rest = self._surroundings.positions[self._features.rest]
        return self._features.place(generated, rest, targets.copy())


def placed(sampler: Sampler, surroundings: Surroundings) -> Sampler:
    """What makes configurations in their place: the sampler, or one about it if it makes a part."""
    features = _part_features(sampler)
    return sampler if features is None else PartSampler(sampler, features, surroundings)


def rest_of(sampler: Sampler, surroundings: Surroundings) -> Rest | None:
    """What a part stands among, for a Screen; None if a sampler makes whole molecules."""
    features = _part_features(sampler)
    if features is None:
        return None
    return Rest(features.rest.tolist(), lambda: surroundings.positions)


def tied_in(
    sampler: Sampler,
    simulation: Simulation,
    positions: NDArray[np.float64],
    box: NDArray[np.float64] | None,
) -> TiedMolecules | None:
    """What is made and what it stands among, tied together.

    None if it is one molecule, or stands where it does for other reasons than its neighbours.
    """
    features = _part_features(sampler)
    if box is None or (features is None and keeps_place(sampler)):
        return None
    atoms = generated_atoms(sampler, simulation.topology)
    rest = np.zeros(0, dtype=np.int64) if features is None else np.asarray(features.rest)
    wanted = np.concatenate([atoms, rest])
    molecules = [m for m in simulation.context.getMolecules() if np.isin(m, wanted).any()]
    if len(molecules) < 2:
        return None
    return TiedMolecules(molecules, atoms, rest, positions, box)


def _part_features(sampler: Any) -> PartFeatures | None:
    features = getattr(sampler, "features", None)
    return features if isinstance(features, PartFeatures) and len(features.rest) else None
