"""OpenMM's platforms by name, as users write them."""

from __future__ import annotations

import openmm

# What OpenMM has anywhere: the login node of a cluster has no CUDA, its nodes do.
ANYWHERE = ("Reference", "CPU", "CUDA", "HIP", "OpenCL")


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


def platform_name_anywhere(name: str) -> str:
    """The name of a platform as OpenMM writes it, also of one that only another machine has.

    Raises
    ------
    ValueError
        If neither this OpenMM nor any has one of that name.
    """
    platforms = [openmm.Platform.getPlatform(i) for i in range(openmm.Platform.getNumPlatforms())]
    known = list(dict.fromkeys([*ANYWHERE, *(platform.getName() for platform in platforms)]))
    for one in known:
        if one.lower() == name.lower():
            return one
    raise ValueError(
        f"platform {name!r}: OpenMM has none of that name; expected one of {', '.join(known)}"
    )
