"""AlignedFeatures: aligned Cartesian coordinates, whitened, and mended until they are chemistry.

Of a large molecule a Z-matrix tells small errors of many torsions as large ones of its far end: of
582 atoms no configuration was without a clash. Coordinates moved onto a mean structure tell folded
molecules as they are: their principal modes are the features. What a linear combination of modes
gets wrong, bonds that turned and atoms that touch, `LocalGeometry` mends, so that all of it is
within what the frames show. CVs that are torsions, angles or distances are drawn to their values
with it. It needs no connected molecule: chains, ligands, ions and metals stand where they stood.

A part (a loop, a ligand in its pocket, side chains) is made among the rest, which is held:
`AlignedFeatures.of_part`. Frames are moved onto the rest around it, and the modes are those of the
part; `place` puts what was generated among the rest as it stands now, and mends it there, bonds to
the rest and rings through it included.

That is many to one, so no density is known: it makes seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.atom_selection import Atoms, check_selection, selected_atoms
from openmm_cgan.features.alignment import (
    aligned,
    around,
    renamed,
    require_whole,
    some_positions,
)
from openmm_cgan.features.featurization import Featurization, Featurize
from openmm_cgan.features.modes import principal_modes
from openmm_cgan.internal_coordinates import NM
from openmm_cgan.internal_coordinates.local_geometry import LocalGeometry, Tie
from openmm_cgan.internal_coordinates.molecule import MoleculeGraph
from openmm_cgan.internal_coordinates.superposition import superposed
from openmm_cgan.rotors import Rotor, find_rotors

if TYPE_CHECKING:
    from openmm_cgan.collective_variable import CollectiveVariable
    from openmm_cgan.frames import Frames

# Frames, evenly spaced, that modes and bounds are read off: less of large molecules, for memory
ROWS, LEAST_ROWS, POSITIONS = 2000, 600, 2_000_000


class AlignedFeatures:
    """A `Featurization` over principal modes of aligned Cartesian coordinates.

    Parameters
    ----------
    atoms, rest : ndarray of int, shape (n_atoms,), (n_rest,)
        What is made, and what it stands among, if anything.
    variables : sequence of CollectiveVariable
        Columns of the CVs.
    mean : Tensor, shape (n_atoms + n_rest, 3)
        Structure that frames are moved onto [nm], float64.
    fitted : Tensor of int, shape (n_fitted,)
        Atoms by which they are: the heavy ones, of the rest where there is one.
    modes : Tensor, shape (n_modes, 3 n_atoms)
        Orthonormal.
    scale : Tensor, shape (n_modes,)
        Standard deviation along each [nm].
    rotors : Tensor of int, shape (n_rotors, 3)
        Hydrogens that nothing tells apart: which is called which is decided by the mean structure.
    geometry : LocalGeometry
    """

    n_pairs = 0
    calls_rotors_alike = True  # so that nobody need exchange their hydrogens
    placed_variables: tuple[int, ...] = ()

    def __init__(
        self,
        atoms: NDArray[np.int64],
        variables: Sequence[CollectiveVariable],
        *,
        rest: NDArray[np.int64],
        mean: Tensor,
        fitted: Tensor,
        modes: Tensor,
        scale: Tensor,
        rotors: Tensor,
        geometry: LocalGeometry,
    ) -> None:
        self.atoms, self.rest, self.variables = atoms, rest, tuple(variables)
        self.mean, self.fitted, self.rotors = mean, fitted, rotors
        self.modes, self.scale, self.geometry = modes, scale, geometry
        self.n_linear = len(scale)
        self._tied = list(_ties(self.variables, self.encoded_atoms))

    @classmethod
    def fit(cls, frames: Frames, topology: Any) -> Self:
        """Find the modes of frames, and the local geometry that they show.

        Parameters
        ----------
        frames : Frames
            positions (n_frames, n_atoms, 3) [nm], molecules whole and together.
        topology : openmm.app.Topology
            Of the whole system.

        Raises
        ------
        ValueError
            If there are fewer than three atoms, or a molecule is cut by the periodic boundary.
        """
        if len(frames.atoms) < 3:
            raise ValueError(
                f"{len(frames.atoms)} atoms can not be aligned: expected three at least. Particles"
                " in a field are trained on by their plain coordinates, featurize=PlainFeatures.fit"
            )
        return cls._fit(frames, topology, frames.atoms, frames.atoms[:0])

    @classmethod
    def of_part(cls, part: Atoms) -> Featurize:
        """What featurizes frames by a part of their atoms, made among the others.

        Parameters
        ----------
        part : str, sequence of int or AtomGroup
            Atoms, for `selected_atoms`: of a loop, a ligand, side chains. The frames must hold them
            and what is around them; residues with an atom within `AROUND` of the part count as
            that, solvent does not.

        Returns
        -------
        callable
            For ``ConditionalGenerator.fit(frames, topology, featurize=...)``. It raises ValueError
            where the frames lack atoms of the part, or less than three heavy atoms are around it.
        """
        check_selection(part)

        def fit_part(frames: Frames, topology: Any) -> Featurization:
            chosen = selected_atoms(topology, part)
            missing = np.setdiff1d(chosen, frames.atoms)
            if len(missing):
                raise ValueError(
                    f"the frames lack the atoms {missing.tolist()} of the part: expected frames of"
                    " the part and of what is around it"
                )
            rest = around(frames, topology, chosen)
            return cls._fit(frames, topology, chosen, rest)

        fit_part.calls_rotors_alike = True  # type: ignore[attr-defined]
        return fit_part

    @classmethod
    def _fit(
        cls, frames: Frames, topology: Any, atoms: NDArray[np.int64], rest: NDArray[np.int64]
    ) -> Self:
        every = np.concatenate([atoms, rest])
        molecule = MoleculeGraph.from_topology(topology, every.tolist(), None)
        told_apart = {a for variable in frames.variables for a in variable.atoms}
        found = find_rotors(topology, every.tolist(), told_apart)
        rotors = torch.tensor(found, dtype=torch.int64).reshape(-1, 3)
        rows = min(ROWS, max(LEAST_ROWS, POSITIONS // len(every)))
        x = torch.from_numpy(some_positions(frames, rows, every))
        require_whole(molecule, x.numpy())
        own = np.arange(len(every)) < len(atoms)
        heavy = (np.array(molecule.elements) > 1) & (~own if len(rest) else own)
        fitted = torch.from_numpy(np.flatnonzero(heavy if heavy.sum() > 2 else own))
        x, mean = aligned(x, fitted, rotors)
        modes, scale = principal_modes((x - mean).numpy()[:, own])
        return cls(
            atoms,
            frames.variables,
            rest=rest,
            mean=mean,
            fitted=fitted,
            modes=torch.from_numpy(modes),
            scale=torch.from_numpy(scale),
            rotors=rotors,
            geometry=LocalGeometry.of_frames(molecule, x.numpy(), own),
        )

    @property
    def encoded_atoms(self) -> NDArray[np.int64]:
        """The atoms, and the rest that they stand among."""
        return np.concatenate([self.atoms, self.rest])

    @property
    def keeps_place(self) -> bool:
        """Whether it is a part, which stands among the rest."""
        return len(self.rest) > 0

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.atoms)

    @property
    def log_scale(self) -> float:
        """log of the volume of modes [nm] that a unit of features spans."""
        return float(self.scale.log().sum())

    @property
    def constant_bonds(self) -> NDArray[np.int64]:
        """None: bonds are kept within bounds."""
        return np.zeros((0, 2), dtype=np.int64)

    @property
    def constant_others(self) -> list[str]:
        """Why there is no density, in words."""
        left_out = 3 * self.n_atoms - self.n_linear
        return [f"{left_out} of {3 * self.n_atoms} aligned coordinates, and mends the others"]

    def encode(self, positions: Tensor) -> Tensor:
        """Features (n, n_modes) of positions (n, n_atoms, 3) [nm].

        Positions (n, n_atoms + n_rest, 3) of the atoms and of the rest are moved onto the rest;
        those of a part alone stand among the mean rest already.
        """
        x = positions.double()
        if x.shape[1] == self.n_atoms and self.keeps_place:
            x = torch.cat([x, self._mean_rest.expand(len(x), -1, -1)], dim=1)
        x = superposed(x, self.mean[self.fitted], self.fitted)
        x = renamed(x, self.mean, self.rotors)
        return (x - self.mean)[:, : self.n_atoms].flatten(1) @ self.modes.T / self.scale

    def encode_with_log_det(self, positions: Tensor) -> NoReturn:
        """Raise ValueError: no density is known."""
        raise _no_density()

    def decode(self, features: Tensor, cvs: Tensor) -> Tensor:
        """Positions (n, n_atoms, 3) [nm] of features (n, n_modes), where the mean stands.

        CVs (n, n_cvs) that are torsions, angles or distances come out as they went in, as nearly as
        mending brings them there.
        """
        x = ((features.double() * self.scale) @ self.modes).reshape(-1, self.n_atoms, 3)
        x = x + self.mean[: self.n_atoms]
        return self._mended(x, self._mean_rest, cvs)

    def place(
        self,
        positions: NDArray[np.float64],
        rest: NDArray[np.float64],
        cvs: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Put a part among the rest as it stands, and mend it there.

        Parameters
        ----------
        positions : ndarray, shape (n, n_atoms, 3)
            As `decode` gives them [nm].
        rest : ndarray, shape (n_rest, 3)
            Where the rest stands [nm].
        cvs : ndarray, shape (n, n_cvs)
            [CV units]

        Returns
        -------
        ndarray, shape (n, n_atoms, 3)
        """
        generated, held = (torch.from_numpy(a).to(self.mean) for a in (positions, rest))
        frame = torch.cat([generated, self._mean_rest.expand(len(generated), -1, -1)], dim=1)
        onto = held[self.fitted - self.n_atoms]
        moved = superposed(frame, onto, self.fitted)[:, : self.n_atoms]
        with torch.no_grad():
            return self._mended(moved, held, torch.from_numpy(cvs)).cpu().numpy()

    @property
    def _mean_rest(self) -> Tensor:
        return self.mean[self.n_atoms :]

    def _mended(self, x: Tensor, rest: Tensor, cvs: Tensor) -> Tensor:
        whole = torch.cat([x, rest.expand(len(x), -1, -1)], dim=1)
        return self.geometry.mend(whole, self._ties(cvs))[:, : self.n_atoms]

    def decode_with_log_det(self, features: Tensor, cvs: Tensor) -> NoReturn:
        """Raise ValueError: no density is known."""
        raise _no_density()

    def within(self, features: Tensor) -> Tensor:
        """All (n,): there are no bounds."""
        return features.new_ones(len(features), dtype=torch.bool)

    def placeable(self, cv: int) -> tuple[float, float]:
        """Any value."""
        return -math.inf, math.inf

    def folds(self, rotors: Sequence[Rotor]) -> list[int]:
        """None: there are no pairs."""
        return []

    def _ties(self, cvs: Tensor) -> list[Tie]:
        values = cvs.double()
        return [Tie(kind, atoms, values[:, cv] * unit) for cv, kind, atoms, unit in self._tied]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Atoms, mean, modes and local geometry, by name."""
        tensors = ("mean", "fitted", "modes", "scale", "rotors")
        own = {name: getattr(self, name).numpy() for name in tensors}
        local = {f"geometry.{name}": array for name, array in self.geometry.arrays().items()}
        return {"atoms": self.atoms, "rest": self.rest, **own, **local}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], variables: Sequence[CollectiveVariable]
    ) -> Self:
        """Make it again from its `arrays`, of the shapes that stand there."""
        names = ("mean", "fitted", "modes", "scale", "rotors")
        tensors = {name: torch.from_numpy(arrays[name]) for name in names}
        local = {k.removeprefix("geometry."): a for k, a in arrays.items()}
        geometry = LocalGeometry.from_arrays(local)
        return cls(arrays["atoms"], variables, rest=arrays["rest"], geometry=geometry, **tensors)


def _ties(
    variables: Sequence[CollectiveVariable], atoms: NDArray[np.int64]
) -> Iterator[tuple[int, str, tuple[int, ...], float]]:
    """Of the CVs that can be tied: which, its kind, its atoms, its unit in nm or rad."""
    local = {int(a): i for i, a in enumerate(atoms)}
    for k, variable in enumerate(variables):
        distinct = len(set(variable.atoms)) == len(variable.atoms)
        if variable.action in ("TORSION", "ANGLE", "DISTANCE") and distinct:
            own = tuple(local.get(int(a), -1) for a in variable.atoms)
            unit = NM.get(variable.unit) if variable.action == "DISTANCE" else 1.0
            if -1 not in own and unit and len(own) == _SITES[variable.action]:
                yield k, variable.action, own, unit


_SITES = {"TORSION": 4, "ANGLE": 3, "DISTANCE": 2}


def _no_density() -> ValueError:
    return ValueError(
        "AlignedFeatures knows no density: it mends what it makes. Train with"
        " featurize=ZMatrixFeatures.fit where exact weights are wanted"
    )
