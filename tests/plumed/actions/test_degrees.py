"""Numbers that look like degrees where PLUMED takes radians: taken as PLUMED does, and said."""

import logging
import re

import numpy as np
import pytest

from openmm_cgan.plumed.bias import PlumedBias

PHI = "phi: TORSION ATOMS=1,2,3,4\nd: DISTANCE ATOMS=1,4\n"
TAKEN = -60 + 20 * np.pi


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("RESTRAINT ARG=d,phi AT=60,-60 KAPPA=0,10", ["AT=-60: phi .* taken as 2.832; .*radians"]),
        ("UPPER_WALLS ARG=phi AT={60} KAPPA=1", ["AT=60: phi"]),
        (
            "MOVINGRESTRAINT ARG=phi STEP0=0 AT0=-60 KAPPA0=1 STEP1=9 AT1=90",
            ["AT0=-60: phi", "AT1=90: phi"],
        ),
        ("METAD ARG=phi,d SIGMA=20,20 HEIGHT=1 PACE=9", ["SIGMA=20: .* half the period 6.283 of"]),
        ("RESTRAINT ARG=phi AT=3.5 KAPPA=10", []),
        ("RESTRAINT ARG=phi AT=-pi/3 KAPPA=10", []),
        ("MOVINGRESTRAINT ARG=phi STEP0=0 AT0=-3 KAPPA0=1 STEP1=9 AT1=9", []),  # once round
        ("METAD ARG=phi,d SIGMA=0.35,20 HEIGHT=1 PACE=9", []),
    ],
)
def test_degrees_are_told_of(line: str, told: list[str], caplog) -> None:
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        bias = PlumedBias(PHI + line + "\n", temperature=300)
    assert len(caplog.messages) == len(told)
    for message, words in zip(caplog.messages, told, strict=True):
        assert message.startswith("<input>:3: ")
        assert re.search(words, message)
    if line.startswith("RESTRAINT ARG=d,phi"):  # as PLUMED takes it
        x = bias.bias_of_cvs([[60.0, TAKEN], [60.0, TAKEN + 0.1]])
        np.testing.assert_allclose(x, [0, 0.05], atol=1e-9)
