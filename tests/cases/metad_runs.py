"""Variables and grids for METAD on eight atoms; both backends run, and their files compared."""

import numpy as np

from benchmarks.eight_atoms import made, random_frames
from tests.cases.eight_atoms import header

VALUES = (
    "t: TORSION ATOMS=1,3,4,6\nu: TORSION ATOMS=2,4,5,7\nd: DISTANCE ATOMS=5,8\n"
    "a: ANGLE ATOMS=2,4,7\nc: COORDINATION GROUPA=1-4 GROUPB=5-8 R_0=0.3\n"
    "x: CUSTOM ARG=t,d FUNC=cos(x)+3*y PERIODIC=NO\n"
)
GRID_T = "GRID_MIN=-pi GRID_MAX=pi GRID_BIN=80"
GRID_TU = "GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=30,25"
GRID_D = "GRID_MIN=0 GRID_MAX=3 GRID_SPACING=0.02"
GRID_TDU = "GRID_MIN=-pi,0,-pi GRID_MAX=pi,3,pi GRID_BIN=20,25,15"


def run_both(text, folder, n_frames=40, seed=4):
    frames = random_frames(None, np.random.default_rng(seed), n_frames)
    for backend in ("native", "kernel"):
        bias, _ = made(text, backend, None, folder, frames)
        bias.close()


def assert_same_file(folder, name, digits=1e-12):
    """The same text, but for rounding in the last digit: then the same numbers."""
    ours, plumeds = ((folder / b / name).read_text() for b in ("native", "kernel"))
    if ours == plumeds:
        return
    assert header(ours) == header(plumeds)
    rows = [
        [line.split() for line in text.splitlines() if not line.startswith("#")]
        for text in (ours, plumeds)
    ]
    assert [len(row) for row in rows[0]] == [len(row) for row in rows[1]]
    numbers = [np.array([float(word) for row in half for word in row]) for half in rows]
    np.testing.assert_allclose(numbers[0], numbers[1], rtol=digits, atol=digits)
