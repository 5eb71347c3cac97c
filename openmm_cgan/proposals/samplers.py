"""Sampler: the contract of what makes configurations at CV values.

A ConditionalGenerator is one; whatever else has these attributes and methods can propose as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable, why_other_cvs
from openmm_cgan.frames import require_molecule
from openmm_cgan.topologies import openmm_topology


@runtime_checkable
class Sampler(Protocol):
    """What makes configurations at CV values.

    Attributes
    ----------
    variables : sequence of CollectiveVariable
        The CVs, in the order of the columns of ``cvs``.
    topology_hash : str
        Of the whole topology that it was made for; empty if that is not known.
    n_atoms : int
        Number of atoms of a configuration.
    atoms : ndarray of int, shape (n_atoms,)
        Their indices in the whole topology, in the order of a configuration.
    cv_range : ndarray, shape (n_cvs, 2), or None
        Lowest and highest CV values that it knows [CV units]; None for whole periodic domains.
    has_density : bool
        Whether it is a DensitySampler.
    """

    @property
    def variables(self) -> Sequence[CollectiveVariable]: ...

    @property
    def topology_hash(self) -> str: ...

    @property
    def n_atoms(self) -> int: ...

    @property
    def atoms(self) -> NDArray[np.int64]: ...

    @property
    def cv_range(self) -> NDArray[np.float64] | None: ...

    @property
    def has_density(self) -> bool: ...

    def sample(self, cvs: NDArray, n: int | None = None, seed: int = 0) -> NDArray:
        """Return (m, n_atoms, 3) configurations [nm], one for each row of ``cvs`` (m, n_cvs)."""
        ...


@runtime_checkable
class DensitySampler(Sampler, Protocol):
    """A Sampler whose density is known: what exact proposals need.

    Attributes
    ----------
    condition_noise : ndarray, shape (n_cvs,)
        Standard deviation of the condition about the CV [CV units]; 0 for CVs that are coordinates.
    constant_bonds : ndarray of int, shape (k, 2)
        Atoms, in the whole topology, that it holds at one distance.
    constant_others : list of str
        Other coordinates that it does not vary; must be empty.
    """

    @property
    def condition_noise(self) -> NDArray[np.float64]: ...

    @property
    def constant_bonds(self) -> NDArray[np.int64]: ...

    @property
    def constant_others(self) -> list[str]: ...

    def sample_with_log_prob(
        self, cvs: NDArray, n: int | None = None, seed: int = 0
    ) -> tuple[NDArray, NDArray]:
        """Return configurations (m, n_atoms, 3) [nm] and their log densities (m,).

        Made at CVs (m, n_cvs) [CV units], or n of them at (n_cvs,). +inf where a coordinate left
        the range that can be decoded.
        """
        ...

    def log_prob(self, positions: NDArray, cvs: NDArray) -> NDArray:
        """Return log densities (m,) of configurations (m, n_atoms, 3) at conditions (m, n_cvs)."""
        ...


class Mapped(Protocol):
    """Configurations made of latent numbers.

    Attributes
    ----------
    positions : ndarray, shape (n, n_atoms, 3)
        [nm]
    log_prob : ndarray, shape (n,)
        As `DensitySampler.log_prob`.
    log_angles : ndarray, shape (n,)
        Log density of the angles among the latent numbers [1/rad].
    """

    positions: NDArray[np.float64]
    log_prob: NDArray[np.float64]
    log_angles: NDArray[np.float64]

    def angle_slopes(self) -> NDArray[np.float64]:
        """Gradient (n, n_latent) of ``log_angles`` by the latent numbers."""
        ...

    def pulled_back(self, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Gradient (n, n_latent) of log target - log q by the latent numbers.

        Of the slopes (n, n_atoms, 3) of the log target by positions [1/nm]; zero in rows of NaN.
        """
        ...


class LatentMap(Protocol):
    """A map from latent numbers of known density to configurations, and back.

    Attributes
    ----------
    n_normal, n_angles : int
        Latent numbers: standard normal ones, then angles [rad] with a density of their own.
    """

    n_normal: int
    n_angles: int

    def draw(self, cvs: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        """Latent numbers (n, n_latent) for conditions (n, n_cvs)."""
        ...

    def mapped(self, latent: NDArray[np.float64], cvs: NDArray[np.float64]) -> Mapped:
        """Configurations of latent numbers (n, n_latent) at conditions (n, n_cvs)."""
        ...

    def latent(
        self, positions: NDArray[np.float64], cvs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Latent numbers (n, n_latent) of configurations (n, n_atoms, 3) [nm]."""
        ...


@runtime_checkable
class LatentSampler(DensitySampler, Protocol):
    """A DensitySampler that maps latent numbers: what annealed proposals need."""

    def latent_map(self) -> LatentMap:
        """Its latent numbers as coordinates; ValueError if it has none."""
        ...


class TorsionMap(Protocol):
    """The torsions that turn in what a sampler makes, with their density by themselves.

    Attributes
    ----------
    rows : ndarray of int, shape (n_torsions, 4)
        Their atoms in the whole topology: first the CVs that are torsions, then the others.
    placed : ndarray of int, shape (n_placed,)
        The CVs that the first torsions are.
    scales : ndarray, shape (n_placed,)
        CV units in a radian of each.
    folds : ndarray of int, shape (n_torsions,)
        Symmetry of each: 3 where thirds of a turn exchange hydrogens that nothing tells apart.
    """

    rows: NDArray[np.int64]
    placed: NDArray[np.int64]
    scales: NDArray[np.float64]
    folds: NDArray[np.int64]

    def draw(
        self, cvs: NDArray[np.float64], kept: NDArray[np.float64], seed: int
    ) -> NDArray[np.float64]:
        """Torsions (n, n_torsions) [rad] at conditions; those of ``kept`` that are no NaN."""
        ...

    def log_prob(
        self, torsions: NDArray[np.float64], cvs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Log density (n, n_torsions) of each given those before it; zero of those placed."""
        ...


@runtime_checkable
class TorsionSampler(DensitySampler, Protocol):
    """A DensitySampler that knows the density of its torsions: what steered proposals need."""

    def torsion_map(self) -> TorsionMap:
        """Its torsions that turn; ValueError if it has none."""
        ...


@runtime_checkable
class PlacedSampler(Sampler, Protocol):
    """A Sampler that says whether its configurations stand where they belong.

    Attributes
    ----------
    keeps_place : bool
        True of configurations in an external field; False of a molecule that may be moved and
        turned as a whole, as those of any other Sampler are.
    """

    @property
    def keeps_place(self) -> bool: ...


@runtime_checkable
class LocalSampler(DensitySampler, Protocol):
    """A DensitySampler of a part of a system, among the rest as it stands.

    Attributes
    ----------
    rest : ndarray of int, shape (n_rest,)
        Atoms of the topology that the part hangs on; none where it makes whole molecules.
    """

    @property
    def rest(self) -> NDArray[np.int64]: ...

    def among(self, held: NDArray[np.float64]) -> DensitySampler:
        """The same where these atoms stand at (n_rest, 3) [nm].

        It makes positions in their place, and its density is one over the part's positions.
        """
        ...


@runtime_checkable
class TiedSampler(Sampler, Protocol):
    """A Sampler that knows its molecule, whatever that was solvated in.

    Attributes
    ----------
    molecule_hash : str
        `frames.molecule_hash` of the atoms that it makes; empty if that is not known.
    system_hash : str
        `system_fingerprint` of the System whose frames it was trained on; empty if not known.
    temperature : float or None
        Of that run [K].
    """

    @property
    def molecule_hash(self) -> str: ...

    @property
    def system_hash(self) -> str: ...

    @property
    def temperature(self) -> float | None: ...


def molecule_of(sampler: Sampler) -> str:
    """The hash of the molecule that a sampler makes; empty if that is not known."""
    return sampler.molecule_hash if isinstance(sampler, TiedSampler) else ""


def why_not_alike(sampler: Sampler, other: Sampler) -> str:
    """Why two samplers do not make the same atoms of the same molecule; empty if they do."""
    if not np.array_equal(sampler.atoms, other.atoms):
        return "makes other atoms than the one it would replace"
    pairs = (molecule_of(sampler), molecule_of(other))
    if not all(pairs):
        pairs = (sampler.topology_hash, other.topology_hash)
    if all(pairs) and pairs[0] != pairs[1]:
        return "was trained on another topology"
    return ""


def require_sampler(sampler: Any) -> None:
    """Check that something makes configurations.

    Raises
    ------
    TypeError
        If it lacks what a Sampler has, or a DensitySampler where it says that its density is known.
    """
    kind = type(sampler).__name__
    if not isinstance(sampler, Sampler):
        raise TypeError(
            f"{kind} is no Sampler: it needs variables, topology_hash, n_atoms, atoms, cv_range, "
            "has_density and sample, as openmm_cgan.proposals.Sampler says"
        )
    if sampler.has_density and not isinstance(sampler, DensitySampler):
        raise TypeError(
            f"{kind} says that its density is known, and needs condition_noise, constant_bonds, "
            "constant_others, sample_with_log_prob and log_prob, as "
            "openmm_cgan.proposals.DensitySampler says"
        )


def knows_density(sampler: Sampler) -> TypeGuard[DensitySampler]:
    """Whether the density of a sampler is known."""
    return sampler.has_density


def keeps_place(sampler: Sampler) -> bool:
    """Whether configurations of a sampler must not be moved as a whole."""
    return isinstance(sampler, PlacedSampler) and sampler.keeps_place


def hangs_on_rest(sampler: Sampler) -> TypeGuard[LocalSampler]:
    """Whether a sampler, whose density is known, makes a part among the rest as it stands."""
    return isinstance(sampler, LocalSampler) and len(sampler.rest) > 0 and sampler.has_density


def require_same_variables(
    sampler: Sequence[CollectiveVariable], bias: Sequence[CollectiveVariable]
) -> None:
    """Check that a sampler and a bias speak of the same CVs, in the same order.

    Raises
    ------
    ValueError
        If names, units, periodic domains or atoms differ.
    """
    if [v.name for v in sampler] != [v.name for v in bias]:
        raise ValueError(
            f"the sampler was trained on the CVs {[v.name for v in sampler]}, the bias has "
            f"{[v.name for v in bias]}; they must be the same, in the same order: where biases act "
            f"on others, PlumedBias(..., cvs={[v.name for v in sampler]})"
        )
    if why := why_other_cvs(sampler, bias):
        raise ValueError(
            f"the sampler was trained on another CV than that of the bias: {why}; use the PLUMED "
            "input that the training frames were made with"
        )
    for ours, theirs in zip(sampler, bias, strict=True):
        same_domain = (ours.domain is None) == (theirs.domain is None) and np.allclose(
            ours.domain or 0.0, theirs.domain or 0.0, atol=1e-6
        )
        # libplumed does not tell units, so that they may be unknown on one side
        same_unit = ours.unit == theirs.unit or not (ours.unit and theirs.unit)
        if not (same_domain and same_unit):
            raise ValueError(
                f"the sampler was trained on {ours.name} with the domain {ours.domain} "
                f"{ours.unit}, the bias has the domain {theirs.domain} {theirs.unit}; use the "
                "PLUMED input that the training frames were made with"
            )


def generated_atoms(sampler: Sampler, topology: Any) -> NDArray:
    """Atoms that a sampler makes, checked against the topology of a simulation.

    Parameters
    ----------
    sampler : Sampler
        Its ``n_atoms`` and ``atoms`` are looked at, and its ``molecule_hash``, else its
        ``topology_hash``, as far as they are known.
    topology : openmm.app.Topology

    Returns
    -------
    ndarray of int, shape (n_generated,)
        Zero-based indices in the topology.

    Raises
    ------
    ValueError
        If it was trained on another molecule or makes another number of atoms.
    """
    topology = openmm_topology(topology)
    n_atoms = sum(1 for _ in topology.atoms())
    atoms, made = np.asarray(sampler.atoms, dtype=int), sampler.n_atoms
    if made != len(atoms) or len(atoms) == 0 or atoms.min() < 0 or atoms.max() >= n_atoms:
        raise ValueError(
            f"the sampler makes {made} atoms, the simulation has {n_atoms}; expected the same "
            "number, or a sampler whose attribute 'atoms' tells which of them it makes"
        )
    require_molecule(topology, atoms, molecule_of(sampler), sampler.topology_hash, "the sampler")
    return atoms
