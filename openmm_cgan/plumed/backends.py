"""Which backend runs an input: native forces, libplumed, or openmm-plumed."""

from __future__ import annotations

import logging
from typing import Any

from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.plumed.libplumed import kernel, plugin

log = logging.getLogger("openmm_cgan")


def choose_backend(backend: str, refusal: PlumedInputError | None, source: str) -> str:
    """The backend to take; the refusal is why it can not be native."""
    if backend == "native" and refusal is not None:
        raise refusal
    if backend == "native" or (backend == "auto" and refusal is None):
        log.info("%s: native backend, it covers the input", source)
        return "native"
    if backend == "kernel" and kernel.find_kernel() is None:
        raise RuntimeError(kernel.MISSING)
    if backend == "plugin" and not plugin.available():
        raise RuntimeError(plugin.MISSING)
    if backend != "auto":
        return backend
    assert refusal is not None
    for name, installed in (
        ("kernel", kernel.find_kernel() is not None),
        ("plugin", plugin.available()),
    ):
        if installed:
            log.info("%s: %s backend, for native refuses:\n%s", source, name, refusal)
            return name
    raise refusal


def make_plumed(backend: str, text: str, observer: Any, **settings: Any) -> Any:
    """What runs an input by PLUMED itself; `observer` is the same input natively, if it can be."""
    if backend == "kernel":
        return kernel.KernelBackend(text, **settings)
    return plugin.PluginBackend(text, observer=observer, **settings)
