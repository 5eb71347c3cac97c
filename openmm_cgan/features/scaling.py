"""Centre and scale of internal coordinates, and which of them are features, CVs or constants."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.internal_coordinates import Internal, PartZMatrix, ZMatrix
from openmm_cgan.large_arrays import pieces

if TYPE_CHECKING:
    from openmm_cgan.frames import Frames

CONSTANT = 1e-4  # nm or rad; the stiffest bonds of force fields vary by 2e-3 nm at 300 K
NARROW = 0.3  # rad: a torsion with a smaller deviation is standardised; phi of a peptide has 0.45
REACH = 2.0  # rad: ... if it never strays further from its mean (a rare cis peptide bond does)
BROKEN = 0.6  # nm: a longer bond of atoms means a molecule cut by the periodic boundary
LONGEST = 1.0  # nm, usual length of the bond of any model
STRETCHED = 3.0  # times its usual length: a bond is cut
CHUNK = 2048  # frames turned into internal coordinates at a time


class Scaling:
    """Centre and scale of each internal coordinate, of frames that are seen piece by piece, twice.

    Parameters
    ----------
    z_matrix : ZMatrix or PartZMatrix
    """

    def __init__(self, z_matrix: ZMatrix | PartZMatrix) -> None:
        self.z_matrix = z_matrix
        n_bonds, n_angles, n_torsions = z_matrix.widths
        n = n_bonds + n_angles + n_torsions
        self.torsion = torch.arange(n) >= n_bonds + n_angles
        self.n = 0
        self.plain, self.cosine, self.sine, self.square = torch.zeros(4, n, dtype=torch.float64)
        self.off, self.farthest = torch.zeros(2, n, dtype=torch.float64)

    def centre_on(self, internal: Internal) -> None:
        """Take in a piece, the first time."""
        q = torch.cat(internal, dim=-1)
        self.n += len(q)
        self.plain += q.sum(0)
        self.cosine += q.cos().sum(0)
        self.sine += q.sin().sum(0)

    @property
    def centre(self) -> Tensor:
        """Mean, circular for torsions."""
        return torch.where(self.torsion, torch.atan2(self.sine, self.cosine), self.plain / self.n)

    def deviate(self, internal: Internal) -> None:
        """Take in a piece, the second time."""
        deviation = torch.cat(internal, dim=-1) - self.centre
        deviation = torch.where(self.torsion, wrapped(deviation), deviation)
        self.off += deviation.sum(0)
        self.square += (deviation**2).sum(0)
        self.farthest = torch.maximum(self.farthest, deviation.abs().amax(0))

    def found(self, variables: Sequence[CollectiveVariable]) -> dict[str, Tensor]:
        """``centre``, ``scale``, ``linear`` and ``wide`` of ZMatrixFeatures."""
        scale = (self.square / self.n - (self.off / self.n) ** 2).clamp(min=0).sqrt()
        free = scale > CONSTANT
        free[[column for _, column, _ in placed_coordinates(self.z_matrix, variables)]] = False
        wide = self.torsion & free & ((scale > NARROW) | (self.farthest > REACH))
        columns = {"linear": (free & ~wide).nonzero()[:, 0], "wide": wide.nonzero()[:, 0]}
        return {"centre": self.centre, "scale": scale, **columns}


def placed_coordinates(
    z_matrix: ZMatrix | PartZMatrix, variables: Sequence[CollectiveVariable]
) -> Iterator[tuple[int, int, float]]:
    """(CV, column among all internal coordinates, scale) of the CVs that are coordinates."""
    n_bonds, n_angles, _ = z_matrix.widths
    first = {"bond": 0, "angle": n_bonds, "torsion": n_bonds + n_angles}
    taken = set()
    for k, variable in enumerate(variables):
        found = z_matrix.coordinate_of(variable)
        if found is not None and found[:2] not in taken:
            taken.add(found[:2])
            yield k, first[found.kind] + found.column, found.scale


def wrapped(angles: Tensor) -> Tensor:
    """Angles [rad] brought into [-pi, pi)."""
    return angles - 2 * math.pi * torch.floor(angles / (2 * math.pi) + 0.5)


def internals_of(
    z_matrix: ZMatrix | PartZMatrix, frames: "Frames"
) -> Iterator[tuple[Internal, NDArray]]:
    """Internal coordinates and CVs of frames, piece by piece."""
    place = {atom: i for i, atom in enumerate(frames.atoms.tolist())}
    rest = z_matrix.rest.tolist() if isinstance(z_matrix, PartZMatrix) else []
    seen = [place[atom] for atom in [*z_matrix.atoms.tolist(), *rest]]
    for piece in pieces(frames.positions):
        x, cvs = frames.positions[piece], frames.cvs[piece]
        for start in range(0, len(x), CHUNK):
            some = torch.from_numpy(x[start : start + CHUNK][:, seen]).double()
            yield z_matrix.to_internal(some), cvs[start : start + CHUNK]


def require_whole(internal: Internal) -> None:
    """Raise where a bond of some frames is much longer than usual, or longer than any bond."""
    if not internal.bonds.numel():
        return
    usual = internal.bonds.median(dim=0).values  # of beads, or a soft bond, it may be long
    most = torch.where(usual < LONGEST, (STRETCHED * usual).clamp(min=BROKEN), BROKEN)
    if (broken := internal.bonds > most).any():
        raise ValueError(
            f"a bond is {float(internal.bonds[broken].max()):.3g} nm long: the molecule is cut by"
            " the periodic boundary, or a part strays from what it hangs on. Write frames with"
            " whole molecules; of one that is bonded to its own image (a polymer, a sheet, a"
            " crystal) choose a part by atoms="
        )
