"""TorchScript files: models of collective variables that others have trained and exported.

A TorchScript file holds code, which loading and calling it runs: in the interpreter of TorchScript,
not in Python's, but code all the same. Only the file that an input names is loaded, from this
machine; load none whose origin is not known. No pickle of Python's is read.
"""

from __future__ import annotations

import hashlib
import uuid
import warnings
import weakref
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

MAX_MODEL_BYTES = 1024**3
MAX_INPUTS_TRIED = 256  # for the number of inputs that an error names
EXPORT = (
    "export it by torch.jit.trace or torch.jit.script and save(), as to_torchscript of mlcolvar"
)

_living: weakref.WeakValueDictionary[str, TorchModel] = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class Encoding:
    """Inputs of a model that are functions of other numbers.

    Attributes
    ----------
    n_numbers : int
    inputs : callable
        Of the numbers of one frame, a tensor without an axis each; gives the inputs (n_inputs,),
        differentiable.
    """

    n_numbers: int
    inputs: Callable[[Sequence[torch.Tensor]], torch.Tensor]


class TorchModel:
    """A TorchScript model that turns the inputs of a frame into one or more numbers.

    It is called in the precision of its parameters; where it has none, in double precision.

    Parameters
    ----------
    path : Path
    shapes : sequence of tuple of int
        Of the inputs of one frame: the first that the model takes is its own.

    Attributes
    ----------
    path : Path
    shape : tuple of int
    n_outputs : int
    dtype : torch.dtype
    digest : ndarray, shape (32,)
        Of the file.
    batched : bool
        Whether it takes many frames at once, each by itself.

    Raises
    ------
    ValueError
        If it is no such model, does not take these inputs, or gives no finite numbers or gradients.
    """

    def __init__(self, path: Path, *shapes: tuple[int, ...]) -> None:
        self.path = path
        self._model, dtypes = _load(path)
        self.digest = np.frombuffer(hashlib.sha256(path.read_bytes()).digest(), np.uint8)
        self.shape, self.dtype = self._fit(shapes, dtypes)
        frames = self._trial_frames()
        found = self.values(frames[:1])
        self.n_outputs = found.shape[1]
        self.batched = True
        self.batched = self._takes_batches(frames)
        self._check(frames)
        self._slopes: dict[Any, Callable[[Any], np.ndarray]] = {}
        self._token = uuid.uuid4().hex
        _living[self._token] = self

    def __reduce__(self) -> tuple[Any, ...]:
        # OpenMM copies what it calls back by pickling: in this process it is the same model
        return _reconnect, (self._token, self.path.absolute(), self.shape)

    def values(self, inputs: torch.Tensor) -> torch.Tensor:
        """The outputs for some frames, differentiable.

        Parameters
        ----------
        inputs : tensor, shape (n, ...)
            With `shape` behind the first.

        Returns
        -------
        tensor, shape (n, n_outputs)
            Of the precision of the inputs.
        """
        import torch

        frames = inputs.to(self.dtype)
        with _quiet():
            if not len(frames):
                return inputs.new_zeros(0, self.n_outputs)
            if len(frames) == 1 or self.batched:
                found = self._model(frames)
            else:
                found = torch.cat([self._model(frame[None]).reshape(1, -1) for frame in frames])
        return found.reshape(len(frames), -1).to(inputs.dtype)

    def slopes_of(
        self, nodes: tuple[int, ...], encoding: Encoding | None = None
    ) -> Callable[[Any], np.ndarray]:
        """What gives the outputs of one frame and the gradients of some of them, quickly.

        The calls of the model and of its gradient are written out once for numpy, several times
        quicker for small models. Where a model branches on its inputs, or the program would not
        be the model, autograd is asked at each frame.

        Parameters
        ----------
        nodes : tuple of int
            The outputs whose gradients are wanted.
        encoding : Encoding, optional
            Where the inputs are functions of other numbers: then these are given, and gradients
            are with respect to them.

        Returns
        -------
        callable
            Takes the inputs of one frame, an array of `shape`, or (n_numbers,) of an encoding;
            gives all outputs and then the gradients, flat, shape (n_outputs + n_nodes n_numbers,).
        """
        import torch

        if (nodes, encoding) in self._slopes:
            return self._slopes[nodes, encoding]

        def by_autograd(*inputs: torch.Tensor) -> torch.Tensor:
            x, y = self._followed(inputs, encoding)
            rows = [torch.autograd.grad(y[k], x, retain_graph=True) for k in nodes]
            return torch.cat([y.detach(), *(_flat(row) for row in rows)])

        picked = torch.eye(self.n_outputs, dtype=self.dtype, device="cpu")[list(nodes)]

        def at_once(*inputs: torch.Tensor) -> torch.Tensor:
            x, y = self._followed(inputs, encoding)
            rows = torch.autograd.grad(y, x, picked, is_grads_batched=True)
            flat = torch.stack(rows, -1) if rows[0].ndim == 1 else rows[0]
            return torch.cat([y.detach(), flat.reshape(-1)])

        if encoding is None:
            trials = [(frame[None],) for frame in self._trial_frames()]
        else:  # in double precision up to the model
            frames = _drawn((encoding.n_numbers,), torch.float64)
            trials = [frame.unbind() for frame in frames]
        program = self._written_out(by_autograd, trials)
        if program is not None and len(nodes) > 1:  # one way back for all is shorter
            program = self._written_out(at_once, trials) or program
        kind = _numpys(trials[0][0]).dtype

        def slopes(inputs: Any) -> np.ndarray:
            x = np.array(inputs, dtype=kind)
            given = (x[None],) if encoding is None else tuple(x)
            if program is not None:
                with np.errstate(all="ignore"):  # whoever asks looks at what comes out
                    return program(*given)
            with torch.enable_grad():
                return by_autograd(*map(torch.as_tensor, given)).numpy()

        self._slopes[nodes, encoding] = slopes
        return slopes

    def _followed(
        self, inputs: Sequence[torch.Tensor], encoding: Encoding | None
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Inputs or numbers of a frame that autograd follows, and the outputs (n_outputs,)."""
        x = [one.detach().requires_grad_(True) for one in inputs]
        encoded = x[0] if encoding is None else encoding.inputs(x)[None]
        return x, self._model(encoded.to(self.dtype)).reshape(-1)

    def _written_out(
        self, function: Any, trials: Sequence[tuple[torch.Tensor, ...]]
    ) -> Callable[..., np.ndarray] | None:
        """The same function in numpy for one frame; None where there is none."""
        import torch

        from openmm_cgan.plumed.files.model_programs import written_out

        graph = str(self._model.graph)
        if "prim::If" in graph or "prim::Loop" in graph:
            return None
        try:
            with _quiet(), torch.enable_grad():
                program = written_out(function, *trials[1])
            if program is None:
                return None
            with np.errstate(all="ignore"):
                found = [program(*map(_numpys, trial)) for trial in trials]
        except Exception:  # of many kinds: whatever a model does that can not be written out
            return None
        with torch.enable_grad():
            expected = [function(*trial).numpy() for trial in trials]
        tolerance = 1e-10 if self.dtype is torch.float64 else 1e-4
        same = np.allclose(found, expected, tolerance, tolerance, equal_nan=True)
        return program if same else None

    # ---- what is looked at before anything runs

    def _fit(self, shapes: tuple[tuple[int, ...], ...], dtypes: list[torch.dtype]) -> Any:
        """The first shape and precision of inputs that it takes."""
        import torch

        problem = ""
        for shape in shapes:
            for dtype in dtypes:
                try:
                    with _quiet(), torch.no_grad():
                        found = self._model(torch.zeros(1, *shape, dtype=dtype, device="cpu"))
                except Exception as error:  # of any kind: the model is anybody's
                    problem = problem or str(error).strip().splitlines()[-1]
                    continue
                if not isinstance(found, torch.Tensor) or not found.is_floating_point():
                    raise ValueError(f"{self.path} gives no tensor of numbers, as it should")
                if found.numel() == 0:
                    raise ValueError(f"{self.path} gives no numbers")
                return shape, dtype
        n = int(np.prod(shapes[-1]))
        takes = self._number_taken(dtypes[0])
        wants = f"but takes {takes}" if takes else f"it says: {problem}"
        raise ValueError(f"{self.path} does not take {n} inputs, {wants}")

    def _number_taken(self, dtype: torch.dtype) -> int:
        """How many inputs it takes, of those tried; 0 for none."""
        import torch

        with _quiet(), torch.no_grad():
            for n in range(1, MAX_INPUTS_TRIED + 1):
                try:
                    self._model(torch.zeros(1, n, dtype=dtype, device="cpu"))
                except Exception:
                    continue
                return n
        return 0

    def _trial_frames(self) -> torch.Tensor:
        return _drawn(self.shape, self.dtype)

    def _takes_batches(self, frames: torch.Tensor) -> bool:
        import torch

        one_by_one = torch.cat([self.values(frame[None]) for frame in frames])
        try:
            together = self.values(frames)
        except Exception:  # of any kind: the model is anybody's
            return False
        tolerance = 1e-9 if self.dtype is torch.float64 else 1e-4
        return together.shape == one_by_one.shape and torch.allclose(
            together, one_by_one, tolerance, tolerance, equal_nan=True
        )

    def _check(self, frames: torch.Tensor) -> None:
        import torch

        found = [self.values(frames) for _ in range(3)]  # TorchScript settles in the first calls
        if not all(torch.equal(found[0].nan_to_num(), other.nan_to_num()) for other in found):
            raise ValueError(f"{self.path} gives other numbers for the same inputs each time")
        finite = torch.isfinite(found[0]).all(1)
        if not finite.any():
            raise ValueError(f"{self.path} gives NaN or infinite numbers for all inputs tried")
        with torch.enable_grad():
            x = frames[finite].requires_grad_(True)
            y = self.values(x)
            if not y.requires_grad:
                raise ValueError(f"{self.path} has no gradient: its outputs are not differentiable")
            for k in range(self.n_outputs):
                [slope] = torch.autograd.grad(
                    y[:, k].sum(), x, retain_graph=True, allow_unused=True
                )
                if slope is not None and not torch.isfinite(slope).all(dim=-1).any():
                    raise ValueError(f"{self.path}: the gradient of output {k} is NaN or infinite")


def _reconnect(token: str, path: Path, shape: tuple[int, ...]) -> TorchModel:
    return _living.get(token) or TorchModel(path, shape)


def _numpys(tensor: torch.Tensor) -> Any:
    """An array, or where there is no axis a number."""
    return tensor.numpy()[()]


def _flat(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """The gradients along one tensor, or along many numbers, in one row."""
    import torch

    return torch.stack(list(gradients)) if gradients[0].ndim == 0 else gradients[0].reshape(-1)


def _drawn(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Inputs to try a model with: zeros, and numbers of the order of one."""
    import torch

    drawn = np.random.default_rng(0).normal(size=(4, *shape))
    drawn[0] = 0.0
    drawn[3] = np.abs(drawn[3])  # for models of distances
    return torch.tensor(drawn, dtype=dtype, device="cpu")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's notes that TorchScript is to be replaced one day."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)
        warnings.filterwarnings("ignore", ".*torch.jit", FutureWarning)
        yield


def _load(path: Path) -> tuple[Any, list[torch.dtype]]:
    """The model of a file, and the precisions to call it in, the likeliest first."""
    _require_torchscript(path)
    import torch

    try:
        with _quiet():
            model = torch.jit.load(path, map_location="cpu").eval()
            numbers = [*model.parameters(), *model.buffers()]
            model = torch.jit.freeze(model, optimize_numerics=False)
    except Exception as error:  # torch raises errors of many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} can not be read as TorchScript: {reason}; {EXPORT}") from None
    both = [torch.float64, torch.float32]
    own = [x.dtype for x in numbers if x.is_floating_point()]
    return model, sorted(both, key=lambda dtype: dtype not in own)


def _require_torchscript(path: Path) -> None:
    """Refuse by name what is no TorchScript file, before torch reads it."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise ValueError(f"{path} has more than {MAX_MODEL_BYTES} bytes")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a TorchScript file; {EXPORT}")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any("/code/" in name for name in names):
        return
    if any(name.endswith("data.pkl") for name in names):
        raise ValueError(f"{path} is a file of torch.save, not TorchScript; {EXPORT}")
    raise ValueError(f"{path} is not a TorchScript file; {EXPORT}")
