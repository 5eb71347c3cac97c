"""Whatever is typed compiles or gives PlumedInputError; benchmarks/plumed_fuzz.py tries more.

Each counterexample that was ever found stands here by name.
"""

from pathlib import Path

import pytest

from benchmarks.plumed_fuzz import fuzz, reference_pdb, tried

TORSION = "t: TORSION ATOMS=1,3,4,6\nBIASVALUE ARG=t\n"
FOUND = {
    "an infinite constant, which OpenMM never ends with": f"{TORSION}m: MATHEVAL ARG=t FUNC=1/0 "
    "PERIODIC=-pi,pi\nRESTRAINT ARG=m AT=2 KAPPA=4\n",
    "definitions that double each other": f"{TORSION}c: CUSTOM ARG=t PERIODIC=NO FUNC=a0"
    + "".join(f";a{i}=a{i + 1}+a{i + 1}" for i in range(40))
    + ";a40=x\n",
    "a constant that is no number": f"{TORSION}c: CUSTOM ARG=t FUNC=x+(-1)^0.5 PERIODIC=NO\n",
    "a division by nothing": f"{TORSION}c: CUSTOM ARG=t FUNC=0*x/(1-1) PERIODIC=NO\n",
    "no arguments": "c0: CUSTOM FUNC=pi ARG={} PERIODIC=NO\n",
    "no atoms": "g: GROUP ATOMS=,\nd: DISTANCE ATOMS={}\n",
    "a number beyond the largest": "c: COORDINATION GROUPA=1-8 R_0=0.2 D_0=1e400\n",
    "not a number": "d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=nan KAPPA=1\n",
    "an infinite sum": "d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=1e308*10 KAPPA=1\n",
    "SMAP without powers": "c: COORDINATION GROUPA=1-4 SWITCH={SMAP R_0=1 A=0 B=5}\n"
    "RESTRAINT ARG=c AT=1 KAPPA=3\n",
    "a switch that is nothing at zero": "c: COORDINATION GROUPA=1-4 GROUPB=3-8 "
    "SWITCH={MATHEVAL R_0=0.3 D_MAX=1.1 FUNC=exp(-x2)+x2*log(x2)}\nRESTRAINT ARG=c AT=1\n",
    "a switch without a kind": "c: COORDINATION GROUPA=1-4 SWITCH={}\nRESTRAINT ARG=c AT=1\n",
}


COMPILED = {
    "a power in a function that OpenMM has not": f"{TORSION}c: CUSTOM ARG=t FUNC=asinh(x^2) "
    "PERIODIC=NO\nBIASVALUE ARG=c\n",
    "a switch beyond the largest exponential": "c: COORDINATION GROUPA=1-3 GROUPB=4-6 "
    "SWITCH={Q R_0=0.1 REF=0.1 BETA=1e6}\nRESTRAINT ARG=c AT=1 KAPPA=1\n",
}


@pytest.mark.parametrize("text", COMPILED.values(), ids=COMPILED)
def test_what_fuzzing_found_and_is_input(text: str, tmp_path: Path) -> None:
    verdict, told = tried(text, tmp_path)
    assert verdict == "compiled", told


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND)
def test_what_fuzzing_found(text: str, tmp_path: Path) -> None:
    reference_pdb(tmp_path).rename(tmp_path / "x.pdb")
    verdict, told = tried(text, tmp_path)
    assert verdict == "refused", told


def test_a_thousand_inputs_compile_or_are_refused() -> None:
    counts, failures = fuzz(1000, seed=7)
    assert not failures, failures[0]
    assert counts["compiled"] > 50
