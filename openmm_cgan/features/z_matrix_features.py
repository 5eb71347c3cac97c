"""ZMatrixFeatures: bonds, angles and torsions of a molecule or a part of it, scaled for a network.

What hardly varies (constrained bonds) becomes a constant; a CV that is a coordinate of the Z-matrix
is left out and put back exactly at decoding; a torsion that stays near one value is standardised
like bonds and angles, and one that turns round becomes the pair (cos, sin).

A part (a side chain, a rotor of a ligand, the end of a chain) hangs on the rest, which is held:
`ZMatrixFeatures.of_part`. Its density is known as that of a molecule is, so that moves of the part
alone are exact, whatever stands around.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.atom_selection import Atoms, check_selection
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features.featurization import Featurize
from openmm_cgan.features.part_of_frames import PartOfFrames, first_positions
from openmm_cgan.features.scaling import (
    Scaling,
    internals_of,
    placed_coordinates,
    require_whole,
    wrapped,
)
from openmm_cgan.internal_coordinates import Internal, PartZMatrix, ZMatrix
from openmm_cgan.rotors import Rotor

if TYPE_CHECKING:
    from openmm_cgan.frames import Frames

STRAIGHT = 0.02  # rad: decoded angles stay that far from 0 and pi, where torsions are undefined
DISAGREE = 1e-3  # rad or nm: between a CV of the frames and the same one of their positions


class ZMatrixFeatures:
    """A `Featurization` over the internal coordinates of a Z-matrix.

    Of a part all is relative to the atoms of the rest that it hangs on, as they stand in a frame;
    `decode` places it where they stood in the first frame, or where `among` says.

    A feature vector holds ``n_linear`` standardised bonds, angles and narrow torsions, then the
    cosines and then the sines of ``n_pairs`` wide torsions. All is done in float64.

    Parameters
    ----------
    z_matrix : ZMatrix or PartZMatrix
    variables : sequence of CollectiveVariable
        Columns of the CVs.
    centre, scale : Tensor, shape (3 n_atoms - 6,), of a part (3 n_atoms,)
        Mean, circular for torsions, and standard deviation of each coordinate [nm, rad].
    linear, wide : Tensor of int, shape (n_linear,), (n_pairs,)
        Columns that are standardised, and columns (torsions) that are pairs.
    """

    def __init__(
        self,
        z_matrix: ZMatrix | PartZMatrix,
        variables: Sequence[CollectiveVariable],
        *,
        centre: Tensor,
        scale: Tensor,
        linear: Tensor,
        wide: Tensor,
    ) -> None:
        self.z_matrix = z_matrix
        self.variables = tuple(variables)
        self.centre, self.scale, self.linear, self.wide = centre, scale, linear, wide
        self.n_linear, self.n_pairs = len(linear), len(wide)
        self.widths = list(z_matrix.widths)
        n_bonds, n_angles, n_torsions = self.widths
        # Bounds of a decoded geometry; a network that strays must not turn an angle inside out,
        # which would change torsions that are placed exactly.
        lower = [*(0.5 * self.centre[:n_bonds]).tolist(), *[STRAIGHT] * n_angles]
        upper = [*[math.inf] * n_bonds, *[math.pi - STRAIGHT] * n_angles]
        bounds = (lower + [-math.inf] * n_torsions, upper + [math.inf] * n_torsions)
        self._lower, self._upper = torch.tensor(bounds, dtype=torch.float64).to(centre.device)
        self._placed = list(placed_coordinates(z_matrix, self.variables))
        self.placed_variables = tuple(cv for cv, _, _ in self._placed)

    @classmethod
    def fit(cls, frames: "Frames", topology: Any) -> Self:
        """Choose a Z-matrix and find the scaling of frames.

        Parameters
        ----------
        frames : Frames
            positions (n_frames, n_atoms, 3) [nm], molecules whole.
        topology : openmm.app.Topology
            Of the whole system; its bonds must connect the atoms of the frames.

        Raises
        ------
        ValueError
            If there is one atom only, bonds do not connect the atoms, a molecule is cut by the
            periodic boundary, or CVs and positions do not belong together.
        """
        if len(frames.atoms) < 2:
            raise ValueError(
                "one atom has no internal coordinates: a particle in an external field is trained"
                " on by its plain coordinates, featurize=PlainFeatures.fit"
            )
        z_matrix = ZMatrix.from_topology(
            topology, frames.atoms, frames.variables, first_positions(frames)
        )
        return cls._fit(z_matrix, frames)

    @classmethod
    def of_part(cls, part: Atoms) -> Featurize:
        """What featurizes frames by a part of their atoms, hanging on the others.

        Parameters
        ----------
        part : str, sequence of int or AtomGroup
            Atoms, for `selected_atoms`. Bonds join each piece of it to the rest at one place. The
            frames must hold them and the atoms that these bonds, their angles and torsions refer
            to: those within three bonds.

        Returns
        -------
        callable
            For ``ConditionalGenerator.fit(frames, topology, featurize=...)``. It raises ValueError
            where a piece is attached at several places or none, or the frames lack atoms.
        """
        check_selection(part)
        return PartOfFrames(part, cls._fit)

    @classmethod
    def _fit(cls, z_matrix: ZMatrix | PartZMatrix, frames: "Frames") -> Self:
        scaling = Scaling(z_matrix)
        for internal, _ in internals_of(z_matrix, frames):
            require_whole(internal)
            scaling.centre_on(internal)
        for internal, _ in internals_of(z_matrix, frames):
            scaling.deviate(internal)
        features = cls(z_matrix, frames.variables, **scaling.found(frames.variables))
        for internal, cvs in internals_of(z_matrix, frames):
            features._require_agreement(internal, cvs)
        return features

    @classmethod
    def of_internal(
        cls, z_matrix: ZMatrix, variables: Sequence[CollectiveVariable], internal: Internal
    ) -> Self:
        """Find the scaling of internal coordinates.

        Parameters
        ----------
        z_matrix : ZMatrix
        variables : sequence of CollectiveVariable
        internal : Internal
            Of all frames, float64: bonds (n_frames, n_atoms - 1) [nm] and so on.
        """
        scaling = Scaling(z_matrix)
        scaling.centre_on(internal)
        scaling.deviate(internal)
        return cls(z_matrix, variables, **scaling.found(variables))

    def _require_agreement(self, internal: Internal, cvs: NDArray[np.float64]) -> None:
        """Refuse frames whose CVs are not those of their positions."""
        for k, scale, value in self.placed_values(internal):
            variable = self.variables[k]
            off = np.abs(variable.difference(cvs[:, k], value.numpy())).max()
            if off > DISAGREE * max(1.0, abs(scale)):
                raise ValueError(
                    f"{variable.name} of the frames differs from the {variable.action} of their"
                    f" positions by up to {off:.3g} {variable.unit}: CVs and positions do not"
                    " belong together"
                )

    @property
    def atoms(self) -> NDArray[np.int64]:
        """Indices in the whole topology, shape (n_atoms,)."""
        return self.z_matrix.atoms

    @property
    def rest(self) -> NDArray[np.int64]:
        """Atoms, in the whole topology, that a part hangs on; none where it is no part."""
        none = np.zeros(0, dtype=np.int64)
        return self.z_matrix.rest if isinstance(self.z_matrix, PartZMatrix) else none

    @property
    def encoded_atoms(self) -> NDArray[np.int64]:
        """The atoms, and those that a part hangs on."""
        return np.concatenate([self.atoms, self.rest])

    @property
    def keeps_place(self) -> bool:
        """Whether it is a part, which stands among the rest."""
        return isinstance(self.z_matrix, PartZMatrix)

    def among(self, held: NDArray[np.float64]) -> Self:
        """The same features of a part where the atoms that it hangs on stand at (n_rest, 3) [nm].

        Or at m places (m, n_rest, 3), as `PartZMatrix` takes them.

        Raises
        ------
        ValueError
            If it is no part.
        """
        if not isinstance(self.z_matrix, PartZMatrix):
            raise ValueError(
                "a whole molecule hangs on nothing: featurize by ZMatrixFeatures.of_part"
            )
        names = ("centre", "scale", "linear", "wide")
        scaling = {name: getattr(self, name) for name in names}
        return type(self)(self.z_matrix.among(held), self.variables, **scaling)

    def place(
        self, positions: NDArray[np.float64], rest: NDArray[np.float64], cvs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Put a part among the rest as it stands: the same bonds, angles and torsions there.

        Parameters
        ----------
        positions : ndarray, shape (n, n_atoms, 3)
            As `decode` gives them [nm].
        rest : ndarray, shape (n_rest, 3)
            Where the atoms stand that it hangs on [nm].
        cvs : ndarray, shape (n, n_cvs)
            Of no use to it.

        Returns
        -------
        ndarray, shape (n, n_atoms, 3)
        """
        internal = self.z_matrix.to_internal(torch.from_numpy(positions))
        return self.among(rest).z_matrix.to_cartesian(internal).numpy()

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return self.z_matrix.n_atoms

    @property
    def log_scale(self) -> float:
        """log of the volume of coordinates [nm, rad] that a unit of features and CVs spans."""
        placed = sum(math.log(abs(scale)) for _, _, scale in self._placed)
        return float(self.scale[self.linear].log().sum()) - placed

    @property
    def constant(self) -> list[int]:
        """Columns, among all internal coordinates, that neither vary nor are CVs."""
        n, placed = len(self.centre), {column for _, column, _ in self._placed}
        return sorted(set(range(n)) - placed - {*self.linear.tolist(), *self.wide.tolist()})

    @property
    def constant_bonds(self) -> NDArray[np.int64]:
        """Atoms (k, 2) of the bonds that do not vary, as numbers in the whole topology."""
        bonded, _, _ = self._rows
        bonds = [bonded[column, :2] for column in self.constant if column < len(bonded)]
        return self.encoded_atoms[np.array(bonds, dtype=np.int64).reshape(-1, 2)]

    @property
    def constant_others(self) -> list[str]:
        """Angles and torsions that do not vary, by their atoms in the whole topology."""
        (_, angled, turned), (n_bonds, n_angles, _) = self._rows, self.widths
        names = []
        for column in self.constant:
            if column >= n_bonds + n_angles:
                names.append(("torsion", turned[column - n_bonds - n_angles, :4]))
            elif column >= n_bonds:
                names.append(("angle", angled[column - n_bonds, :3]))
        atoms = self.encoded_atoms
        return [f"{kind} {'-'.join(str(a) for a in atoms[row])}" for kind, row in names]

    @property
    def _rows(self) -> list[NDArray[np.int64]]:
        """Rows that have a bond, those that have an angle, and those that have a torsion."""
        rows = self.z_matrix.rows
        return [rows[len(rows) - width :] for width in self.widths]

    def encode(self, positions: Tensor) -> Tensor:
        """Features (n, n_features) of positions (n, n_atoms, 3) [nm]."""
        return self.encode_internal(self.z_matrix.to_internal(positions))

    def encode_with_log_det(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        r"""Features (n, n_features) of positions (n, n_atoms, 3) [nm], and log\|J\| (n,)."""
        internal = self.z_matrix.to_internal(positions)
        return self.encode_internal(internal), self.z_matrix.log_det(internal)

    def decode(self, features: Tensor, cvs: Tensor) -> Tensor:
        """Positions (n, n_atoms, 3) [nm] of features (n, n_features), CVs (n, n_cvs) placed."""
        return self.z_matrix.to_cartesian(self.decode_internal(features, cvs))

    def decode_with_log_det(self, features: Tensor, cvs: Tensor) -> tuple[Tensor, Tensor]:
        r"""Positions (n, n_atoms, 3), as `decode`, and log\|J\| (n,) by internal coordinates."""
        internal = self.decode_internal(features, cvs)
        return self.z_matrix.to_cartesian(internal), self.z_matrix.log_det(internal)

    def encode_internal(self, internal: Internal) -> Tensor:
        """Features (n, n_features) of internal coordinates: bonds (n, n_atoms - 1) and so on."""
        q = torch.cat(internal, dim=-1).double()
        deviation = q[:, self.linear] - self.centre[self.linear]
        torsion = self.linear >= sum(self.widths[:2])
        deviation = torch.where(torsion, wrapped(deviation), deviation)
        turning = q[:, self.wide]
        return torch.cat([deviation / self.scale[self.linear], turning.cos(), turning.sin()], dim=1)

    def decode_internal(self, features: Tensor, cvs: Tensor) -> Internal:
        """Internal coordinates of features (n, n_features), with the CVs (n, n_cvs) placed.

        CVs that are coordinates of the Z-matrix come out as they went in, to rounding.
        """
        x = features.double()
        linear, cosine, sine = x.split([self.n_linear, self.n_pairs, self.n_pairs], dim=1)
        columns, values = (
            [self.linear],
            [linear * self.scale[self.linear] + self.centre[self.linear]],
        )
        columns, values = [*columns, self.wide], [*values, torch.atan2(sine, cosine)]
        for cv, column, scale in self._placed:
            columns.append(torch.tensor([column]).to(self.linear))
            values.append(cvs[:, cv : cv + 1].double() / scale)
        q = self.centre.repeat(len(x), 1)
        q = q.index_copy(1, torch.cat(columns), torch.cat(values, dim=1))
        bonds, angles, torsions = self.stopped(q).split(self.widths, dim=1)
        return Internal(bonds, angles, wrapped(torsions))

    def stopped(self, q: Tensor) -> Tensor:
        """Internal coordinates (..., n_coordinates) [nm, rad], at the bounds where beyond them."""
        return q.clamp(self._lower, self._upper)

    def within(self, features: Tensor) -> Tensor:
        """Whether (n,) decoding keeps features (n, n_features) as they are: no bound is met.

        Beyond the bounds `decode` stops bonds and angles, and a narrow torsion comes round the
        circle to where another feature vector leads too, so that no density is known there.
        """
        deviation = features[:, : self.n_linear].double() * self.scale[self.linear]
        q = deviation + self.centre[self.linear]
        stopped = (q < self._lower[self.linear]) | (q > self._upper[self.linear])
        torsion = self.linear >= sum(self.widths[:2])
        return ~(stopped | (torsion & (deviation.abs() > math.pi))).any(dim=1)

    def placed_values(self, internal: Internal) -> Iterator[tuple[int, float, Tensor]]:
        """CVs that are coordinates: which one, CV units in a nm or rad, its values (n,)."""
        q = torch.cat(internal, dim=-1)
        for cv, column, scale in self._placed:
            yield cv, scale, scale * q[:, column]

    def placeable(self, cv: int) -> tuple[float, float]:
        """Lowest and highest value of a CV [CV unit] that decoding can place."""
        for which, column, scale in self._placed:
            if which == cv:
                return scale * float(self._lower[column]), scale * float(self._upper[column])
        return -math.inf, math.inf

    def folds(self, rotors: Sequence[Rotor]) -> list[int]:
        """3 for each torsion by which a rotor turns, 1 for the other torsions that turn."""
        first = sum(self.widths[:2])
        wide = [self._rows[2][column - first].tolist() for column in self.wide.tolist()]
        turning = [{*rotor} for rotor in rotors]
        return [
            3 if any(row[0] in rotor and row[3] not in rotor for rotor in turning) else 1
            for row in wide
        ]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Rows and atoms of the Z-matrix, and the scaling, by name.

        Returns
        -------
        dict of str to ndarray
            ``rows`` (n_atoms, 4) and ``atoms`` (n_atoms,), ``centre`` and ``scale``
            (3 n_atoms - 6,) [nm, rad], ``linear`` (n_linear,), ``wide`` (n_pairs,); of a part also
            ``rest`` (n_rest,) and ``held`` (n_rest, 3) [nm].
        """
        scaling = {"centre": self.centre, "scale": self.scale}
        scaling |= {"linear": self.linear, "wide": self.wide}
        own = {name: tensor.numpy() for name, tensor in scaling.items()}
        own |= {"rows": self.z_matrix.rows, "atoms": self.atoms}
        if isinstance(self.z_matrix, PartZMatrix):
            own |= {"rest": self.rest, "held": self.z_matrix.held}
        return own

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], variables: Sequence[CollectiveVariable]
    ) -> Self:
        """Make it again from its `arrays`, of the shapes that stand there."""
        names = ("centre", "scale", "linear", "wide")
        scaling = {name: torch.from_numpy(arrays[name]) for name in names}
        table = arrays["rows"], arrays["atoms"]
        part = "rest" in arrays
        z_matrix = PartZMatrix(*table, arrays["rest"], arrays["held"]) if part else ZMatrix(*table)
        return cls(z_matrix, variables, **scaling)
