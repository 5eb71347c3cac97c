"""OpenMM's platforms and their properties, as users write them in a word."""

from __future__ import annotations

import re

import openmm

# What OpenMM has anywhere: the login node of a cluster has no CUDA, its nodes do.
ANYWHERE = ("Reference", "CPU", "CUDA", "HIP", "OpenCL")

# What properties may be, in capitals or not: OpenMM takes "Threads=all" for 0 and
# "DeterministicForces=yes" for false.
SWITCH = ("true|false", "true or false")
VALUES = {
    "threads": (r"[1-9]\d*", "a number from 1"),
    "precision": ("single|mixed|double", "single, mixed or double"),
    "deviceindex": (r"\d+(\s*,\s*\d+)*", "numbers such as 0 or 0,1"),
    "openclplatformindex": (r"\d+", "a number from 0"),
    "deterministicforces": SWITCH,
    "usecpupme": SWITCH,
    "disablepmestream": SWITCH,
    "useblockingsync": SWITCH,
}


def platform_named(word: str) -> openmm.Platform:
    """The platform of a word, in capitals or not: "reference", "cpu", "CUDA:Precision=mixed".

    Raises
    ------
    ValueError
        If this OpenMM has none of that name; the message lists those it has.
    """
    return platform_and_properties(word)[0]


def platform_and_properties(word: str) -> tuple[openmm.Platform, dict[str, str]]:
    """A platform and the properties that a word gives it.

    Parameters
    ----------
    word : str
        Its name, and behind a colon properties: ``CUDA:Precision=mixed,DeviceIndex=1``, in capitals
        or not. Properties that are not named are those of OpenMM.

    Raises
    ------
    ValueError
        If this OpenMM has no such platform, or the platform no such property; the message lists
        those it has. If the word can not be read, names a property twice, or gives it a value that
        it can not have.
    """
    name, given = _name_and_properties(word)
    platforms = [openmm.Platform.getPlatform(i) for i in range(openmm.Platform.getNumPlatforms())]
    for platform in platforms:
        if platform.getName().lower() == name.lower():
            return platform, _known(platform, given, word)
    names = ", ".join(platform.getName() for platform in platforms)
    raise ValueError(
        f"platform {name!r}: OpenMM has none of that name here; expected one of {names}"
    )


def platform_word(word: str) -> str:
    """A word for a platform as OpenMM writes its name and properties; as for those."""
    platform, properties = platform_and_properties(word)
    return _joined(platform.getName(), properties)


def platform_word_anywhere(word: str) -> str:
    """The same word, also of a platform that only another machine has.

    Raises
    ------
    ValueError
        If neither this OpenMM nor any has one of that name.
    """
    name, properties = _name_and_properties(word)
    platforms = [openmm.Platform.getPlatform(i) for i in range(openmm.Platform.getNumPlatforms())]
    known = list(dict.fromkeys([*ANYWHERE, *(platform.getName() for platform in platforms)]))
    for one in known:
        if one.lower() == name.lower():
            return _joined(one, properties)
    raise ValueError(
        f"platform {name!r}: OpenMM has none of that name; expected one of {', '.join(known)}"
    )


def properties_of(context: openmm.Context) -> dict[str, str]:
    """The properties of the platform of a Context, for another one beside it."""
    platform = context.getPlatform()
    return {name: platform.getPropertyValue(context, name) for name in platform.getPropertyNames()}


def _name_and_properties(word: str) -> tuple[str, dict[str, str]]:
    if not isinstance(word, str):
        raise ValueError(f"platform {word!r}: expected a name such as CPU or CUDA:Precision=mixed")
    name, colon, rest = word.partition(":")
    found: dict[str, str] = {}
    for part in re.split(r",(?=\s*\w+\s*=)", rest) if colon else []:  # DeviceIndex=0,1 is one
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise ValueError(
                f"platform {word!r}: {part!r} is not understood; expected properties such as "
                "CUDA:Precision=mixed,DeviceIndex=1"
            )
        if key.lower() in map(str.lower, found):
            raise ValueError(f"platform {word!r}: {key} is given twice")
        pattern, expected = VALUES.get(key.lower(), (".*", ""))
        if not re.fullmatch(pattern, value, re.IGNORECASE):
            raise ValueError(f"platform {word!r}: {key} is {value!r}; expected {expected}")
        found[key] = value
    return name.strip(), found


def _known(platform: openmm.Platform, given: dict[str, str], word: str) -> dict[str, str]:
    """Properties by the names that OpenMM has for them."""
    names = {name.lower(): name for name in platform.getPropertyNames()}
    if unknown := [name for name in given if name.lower() not in names]:
        has = ", ".join(names.values()) or "none"
        raise ValueError(
            f"platform {word!r}: {platform.getName()} has no property {unknown[0]!r}; it has {has}"
        )
    return {names[name.lower()]: value for name, value in given.items()}


def _joined(name: str, properties: dict[str, str]) -> str:
    given = ",".join(f"{key}={value}" for key, value in properties.items())
    return f"{name}:{given}" if given else name
