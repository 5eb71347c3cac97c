"""Training curves for TensorBoard, written while a training goes on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOLD_BY = "openmm_cgan.training"  # the logger whose records carry rows of a history
MISSING = "--tensorboard needs TensorBoard: pip install 'openmm_cgan[tensorboard]'"


class _Board(logging.Handler):
    """Writes each row of a history that a record carries."""

    def __init__(self, writer: Any) -> None:
        super().__init__(logging.DEBUG)
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        row = getattr(record, "row", {})
        for name, value in row.items():
            if name not in ("step", "seconds"):
                self._writer.add_scalar(f"training/{name}", value, row["step"])
        self._writer.flush()


@contextlib.contextmanager
def tensor_board(folder: Path | None) -> Iterator[None]:
    """Write the rows of trainings within the block to a folder, if one is given.

    Raises
    ------
    RuntimeError
        If TensorBoard is not installed; before anything is trained.
    """
    if folder is None:
        yield
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise RuntimeError(MISSING) from None
    logger = logging.getLogger(TOLD_BY)
    before = logger.level, logger.propagate
    with contextlib.closing(SummaryWriter(str(folder))) as writer:
        handler = _Board(writer)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before[0])
            logger.propagate = before[1]
