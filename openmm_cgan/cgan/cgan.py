"""The conditional GAN: the trained artefact that makes configurations at CV values asked for.

The method is that of "GANs and Closures" [1]_; the critic and the training loop stand in
training.py.

References
----------
.. [1] E. R. Crabtree, J. M. Bello-Rivas, A. L. Ferguson, I. G. Kevrekidis, Multiscale Model. Simul.
   21, 1122 (2023), doi 10.1137/22M1517834.
"""

import io
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openmm_cgan import __version__
from openmm_cgan.cgan.training import (
    Critic,
    TrainingData,
    TrainingSettings,
    train,
    write_atomically,
)
from openmm_cgan.features import Features
from openmm_cgan.frames import Frames, read_frames, topology_hash
from openmm_cgan.generators import KINDS, MLPGenerator
from openmm_cgan.internal_coordinates import Internal, ZMatrix
from openmm_cgan.plumed.colvar import CollectiveVariable

FORMAT = "openmm_cgan.ConditionalGAN"
FORMAT_VERSION = 1
MAX_BYTES = 2**30  # of an artefact once unpacked
CHUNK = 2048  # configurations made at a time: enough for speed, few enough for the caches
MARGIN = 0.25  # conditions may lie outside the range trained on by this part of its width
LEAST_FRAMES = 20
BROKEN = 0.6  # nm: a longer bond means a molecule cut by the periodic boundary
DISAGREE = 1e-3  # rad or nm: between a CV of the frames and the same one of their positions


@dataclass(frozen=True, eq=False, repr=False)
class ConditionalGAN:
    """A trained conditional generator: configurations at any CV values asked for.

    Made by `fit` or `load`.

    Attributes
    ----------
    features : Features
        Scaling of the internal coordinates; holds the Z-matrix and the CVs.
    generator : Generator
    topology_hash : str
        Of the whole topology it was trained for.
    cv_range : ndarray, shape (n_cvs, 2)
        Lowest and highest CV values trained on [CV units].
    settings : TrainingSettings
    history : list of dict
        Rows as `train` gives them; ``seconds`` are not saved.
    temperature : float or None
        Of the run that was trained on [K].
    versions : dict
        Versions of this package and of torch that trained it.
    """

    features: Features
    generator: Any
    topology_hash: str
    cv_range: np.ndarray
    settings: TrainingSettings
    history: list[dict[str, float]]
    temperature: float | None
    versions: dict[str, str]

    @classmethod
    def fit(
        cls,
        frames: Frames | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        topology: Any,
        settings: TrainingSettings | None = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> "ConditionalGAN":
        """Train on the frames of a run.

        Parameters
        ----------
        frames : Frames, or path or paths for `read_frames`
        topology : openmm.app.Topology
            Of the whole system; the frames may hold some of its atoms.
        settings : TrainingSettings, optional
        checkpoint : path, optional
            Written while training; training goes on from it if it exists.

        Raises
        ------
        ValueError
            If there are too few frames or no CVs, if frames and topology do not belong together, or
            if the checkpoint belongs to another training.
        RuntimeError
            If training diverges.
        """
        settings = settings or TrainingSettings()
        if not isinstance(frames, Frames):
            frames = read_frames(frames)  # type: ignore[arg-type]
        found = topology_hash(topology)
        _check_frames(frames, found)
        rng = np.random.default_rng(settings.seed)
        if len(frames) > settings.max_frames:
            frames = frames.select(np.sort(rng.permutation(len(frames))[: settings.max_frames]))
        features, encoded = _features_of(frames, topology)
        condition = features.condition(torch.from_numpy(frames.cvs))
        weights = torch.from_numpy(flat_weights(frames.cvs, frames.variables, settings.flatten))
        data = TrainingData.split(encoded, condition, weights, settings.seed)
        sizes = (features.n_linear, features.n_pairs, features.n_condition)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            generator = MLPGenerator(*sizes, settings.width, settings.depth)
            critic = Critic(*sizes, settings.width, settings.depth)
        generator.start_from(data.features, data.condition)
        history = train(generator, critic, data, settings, checkpoint)
        cv_range = np.stack([frames.cvs.min(0), frames.cvs.max(0)], axis=1)
        versions = {"openmm_cgan": __version__, "torch": torch.__version__}
        return cls(
            features, generator, found, cv_range, settings, history, frames.temperature, versions
        )

    @property
    def variables(self) -> tuple[CollectiveVariable, ...]:
        """The CVs, in the order of the columns of ``cvs``."""
        return self.features.variables

    @property
    def n_atoms(self) -> int:
        """Number of atoms of a configuration."""
        return self.features.z_matrix.n_atoms

    @property
    def atoms(self) -> np.ndarray:
        """Their indices in the whole topology, shape (n_atoms,)."""
        return self.features.z_matrix.atoms

    def sample(self, cvs: Any, n: int | None = None, seed: int = 0) -> np.ndarray:
        """Configurations at CV values.

        Parameters
        ----------
        cvs : array_like, shape (n_cvs,) or (m, n_cvs)
            Values asked for [CV units]: one row for all, or one for each configuration.
        n : int, optional
            Number of configurations at a single row (1 if omitted).
        seed : int

        Returns
        -------
        ndarray, shape (n or m, n_atoms, 3)
            Positions [nm], float64, first atom at the origin. CVs that are bonds, angles or
            torsions of the Z-matrix have the values asked for to 1e-10.

        Raises
        ------
        ValueError
            If a value is not finite, or far outside its domain or the range trained on.
        """
        targets = self._targets(cvs, n)
        rng = torch.Generator().manual_seed(seed)
        positions = np.empty((len(targets), self.n_atoms, 3))
        with torch.no_grad():
            for start in range(0, len(targets), CHUNK):
                part = targets[start : start + CHUNK]
                made = self.generator.sample(self.features.condition(part).float(), rng)
                internal = self.features.decode(made, part)
                x = self.features.z_matrix.to_cartesian(internal)
                positions[start : start + CHUNK] = x.numpy()
        return positions

    def _targets(self, cvs: Any, n: int | None) -> Tensor:
        """Checked CV values (m, n_cvs), one row for each configuration."""
        values = np.asarray(cvs, dtype=np.float64)
        names = ", ".join(v.name for v in self.variables)
        n_cvs = len(self.variables)
        if values.shape == (n_cvs,):
            values = np.repeat(values[None], 1 if n is None else n, axis=0)
        if values.ndim != 2 or values.shape[1] != n_cvs or n not in (None, len(values)):
            raise ValueError(
                f"cvs has shape {np.shape(cvs)} with n={n}, but the generator was trained on"
                f" {n_cvs} CVs ({names}): give ({n_cvs},) with n, or (m, {n_cvs}) without"
            )
        limits = np.array([self._limits(k) for k in range(n_cvs)])
        good = np.isfinite(values) & (values >= limits[:, 0]) & (values <= limits[:, 1])
        for k in np.flatnonzero(~good.all(axis=0)):
            variable, wrong = self.variables[k], values[~good[:, k], k]
            raise ValueError(
                f"{variable.name} = {wrong[0]:g} {variable.unit} is asked for ({len(wrong)} of"
                f" {len(values)} rows), expected a number from {limits[k, 0]:.4g} to"
                f" {limits[k, 1]:.4g}: training saw {self.cv_range[k, 0]:.4g} to"
                f" {self.cv_range[k, 1]:.4g}"
            )
        return torch.from_numpy(values)

    def _limits(self, k: int) -> tuple[float, float]:
        """Lowest and highest value of a CV that may be asked for."""
        variable, (low, high) = self.variables[k], self.cv_range[k].tolist()
        if variable.domain is not None:  # a turn too many is no mistake, but degrees are
            half = 0.5 * (variable.domain[1] - variable.domain[0])
            return variable.domain[0] - half, variable.domain[1] + half
        margin = MARGIN * (high - low)
        least, most = self.features.placeable(k)
        return max(low - margin, least), min(high + margin, most)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the artefact: a zip of arrays, readable by ``numpy.load``, without pickle."""
        metadata = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "versions": self.versions,
            "units": {"length": "nm", "angle": "rad", "temperature": "K"},
            "variables": [v.to_dict() for v in self.variables],
            "topology_hash": self.topology_hash,
            "temperature": self.temperature,
            "generator": {"kind": type(self.generator).__name__, **self.generator.settings},
            "settings": asdict(self.settings),
            "history": [{k: v for k, v in row.items() if k != "seconds"} for row in self.history],
        }
        text = json.dumps(metadata, indent=1).encode()
        arrays = {"metadata": np.frombuffer(text, np.uint8), "cv_range": self.cv_range}
        arrays |= {"rows": self.features.z_matrix.rows, "atoms": self.atoms}
        for name, part in (("features", self.features), ("generator", self.generator)):
            arrays |= {f"{name}.{k}": v.numpy() for k, v in part.state_dict().items()}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str], topology: Any = None) -> "ConditionalGAN":
        """Read an artefact.

        Parameters
        ----------
        path : path
        topology : openmm.app.Topology, optional
            Refused unless it is the one trained on.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is no artefact, is damaged, or belongs to another topology.
        """
        metadata, arrays = _read(Path(path))
        found = metadata["topology_hash"]
        if topology is not None and topology_hash(topology) != found:
            raise ValueError(
                f"{path} was trained for another topology: its hash is {found[:12]}..., that of the"
                f" topology given is {topology_hash(topology)[:12]}...; give the one it was trained"
                " with, or train again"
            )
        try:
            variables = [CollectiveVariable.from_dict(d) for d in metadata["variables"]]
            z_matrix = ZMatrix(arrays["rows"], arrays["atoms"])
            features = Features(z_matrix, variables, _tensors(arrays, "features."))
            options = dict(metadata["generator"])
            generator = KINDS[options.pop("kind")](**options)
            generator.load_state_dict(_tensors(arrays, "generator."))
            settings = TrainingSettings(**metadata["settings"])
            gan = cls(
                features, generator, found, arrays["cv_range"], settings, metadata["history"],
                metadata["temperature"], metadata["versions"],
            )  # fmt: skip
            made = gan.sample(gan.cv_range.mean(axis=1))  # wrong sizes and indices show themselves
            if not np.isfinite(made).all():
                raise ValueError("it generates positions that are not finite")
        except Exception as error:
            raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from error
        return gan


def flat_weights(
    cvs: np.ndarray, variables: Sequence[CollectiveVariable], power: float
) -> np.ndarray:
    """Weights density^-power (n,) of frames, density being that of their CVs (n, n_cvs).

    The density is a histogram with about 20 frames a cell. A tenth of the mean count is added, so
    that no single frame weighs more than ten usual ones.
    """
    n, n_cvs = cvs.shape
    bins = int(np.clip((n / 20) ** (1 / n_cvs), 1, 48))
    cell = np.zeros(n, dtype=np.int64)
    for k, variable in enumerate(variables):
        low, high = variable.domain or (cvs[:, k].min(), cvs[:, k].max())
        place = (cvs[:, k] - low) / max(high - low, np.finfo(float).tiny)
        cell = cell * bins + np.clip((bins * place).astype(np.int64), 0, bins - 1)
    _, which, counts = np.unique(cell, return_inverse=True, return_counts=True)
    return (counts[which] + 0.1 * counts.mean()) ** -power


def _check_frames(frames: Frames, topology: str) -> None:
    """Refuse frames that cannot be trained on."""
    if not frames.variables:
        raise ValueError("the frames hold no CVs: a conditional generator needs at least one")
    if len(frames) < LEAST_FRAMES:
        raise ValueError(f"there are {len(frames)} frames, expected at least {LEAST_FRAMES}")
    if frames.topology_hash not in ("", topology):
        raise ValueError(
            f"the frames belong to another topology: their hash is {frames.topology_hash[:12]}...,"
            f" that of the topology given is {topology[:12]}..."
        )
    for name in ("positions", "cvs"):
        bad = ~np.isfinite(getattr(frames, name)).reshape(len(frames), -1).all(axis=1)
        if bad.any():
            raise ValueError(f"{bad.sum()} frames have {name} that are not finite: leave them out")


def _features_of(frames: Frames, topology: Any) -> tuple[Features, Tensor]:
    """Fitted scaling and the features (n_frames, n_features) of frames."""
    reference = np.zeros((1 + int(frames.atoms.max()), 3))
    reference[frames.atoms] = frames.positions[0]
    z_matrix = ZMatrix.from_topology(topology, frames.atoms, frames.variables, reference)
    parts = [
        z_matrix.to_internal(torch.from_numpy(frames.positions[i : i + CHUNK]).double())
        for i in range(0, len(frames), CHUNK)
    ]
    internal = Internal(*(torch.cat(c) for c in zip(*parts, strict=True)))
    longest = float(internal.bonds.max()) if z_matrix.n_atoms > 1 else 0.0
    if longest > BROKEN:
        raise ValueError(
            f"a bond is {longest:.3g} nm long: the molecule is cut by the periodic boundary. Write"
            " frames with whole molecules"
        )
    cvs = torch.from_numpy(frames.cvs)
    features = Features.fit(z_matrix, frames.variables, internal, cvs)
    for k, scale, value in features.placed_values(internal):
        variable = frames.variables[k]
        off = np.abs(variable.difference(frames.cvs[:, k], value.numpy())).max()
        if off > DISAGREE * max(1.0, abs(scale)):
            raise ValueError(
                f"{variable.name} of the frames differs from the {variable.action} of their"
                f" positions by up to {off:.3g} {variable.unit}: CVs and positions do not belong"
                " together"
            )
    encoded = features.encode(internal).float()
    if not encoded.shape[1]:
        raise ValueError("no coordinate of the frames varies but the CVs: nothing to generate")
    return features, encoded


def _tensors(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    return {
        k.removeprefix(prefix): torch.from_numpy(v)
        for k, v in arrays.items()
        if k.startswith(prefix)
    }


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metadata and arrays of an artefact."""
    with path.open("rb") as file:  # FileNotFoundError, PermissionError speak for themselves
        try:
            with zipfile.ZipFile(file) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > MAX_BYTES:
                raise ValueError(f"it unpacks to {size} bytes, more than {MAX_BYTES}")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            metadata = json.loads(arrays.pop("metadata").tobytes())
            known = isinstance(metadata, dict) and metadata.get("format") == FORMAT
        except Exception as error:
            raise ValueError(
                f"{path} is no saved ConditionalGAN, or is damaged: {type(error).__name__}: {error}"
            ) from error
    if not known:
        raise ValueError(f"{path} is no saved ConditionalGAN: it does not name the format {FORMAT}")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {metadata.get('format_version')}, this openmm_cgan"
            f" ({__version__}) reads {FORMAT_VERSION}: use the release that wrote it"
            f" ({metadata.get('versions')}) or train again"
        )
    return metadata, arrays
