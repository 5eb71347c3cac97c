"""OpenMM's platforms by name, as users write them."""

from __future__ import annotations

import openmm


def platform_named(name: str) -> openmm.Platform:
    """The platform of a name, in capitals or not: "reference", "cpu", "CUDA".

    Raises
    ------
    ValueError
        If this OpenMM has none of that name; the message lists those it has.
    """
    platforms = [openmm.Platform.getPlatform(i) for i in range(openmm.Platform.getNumPlatforms())]
    for platform in platforms:
        if platform.getName().lower() == name.lower():
            return platform
    names = ", ".join(platform.getName() for platform in platforms)
    raise ValueError(
        f"platform {name!r}: OpenMM has none of that name here; expected one of {names}"
    )
