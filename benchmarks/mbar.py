"""MBAR of this package beside pymbar's: random sets of soft and stiff states, and many windows.

Sets: 2 to 12 harmonic biases on a Gaussian, from none at all to 2,000 kT, with 20 to 2,000 exact
samples of each. A set counts as unsolved where the weights of a state, made from all frames by the
dense formula, do not add up to 1 within 1e-9, and as wrong where a free energy differs from that of
pymbar by more than 1e-4 kT between states that share frames. Many windows: 500 of 10,000 frames
each, all of them in the equations, in a process of its own, whose largest memory is counted; with
--windows other numbers of them, and what N frames of K windows take is fitted by their logarithms.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from openmm_cgan.free_energy.mbar import pymbar_quietly, solve_mbar

SETS = 40
WINDOWS, FRAMES = 500, 10_000
SHARED = 1.0  # frames that two states must share to be compared


def random_set(seed: int) -> tuple[NDArray, NDArray]:
    """Reduced biases (K, N) and the state of each sample (N,) of one random set."""
    rng = np.random.default_rng(seed)
    n_states = int(rng.integers(2, 13))
    centres = rng.uniform(-2.0, 2.0, n_states)
    stiffness = 10.0 ** rng.uniform(-1.0, 3.3, n_states)
    stiffness[rng.random(n_states) < 0.3] = 0.0
    prior = 4.0 * 10.0 ** rng.uniform(-1.0, 0.5)  # stiffness of the Gaussian, kT
    n_k = np.round(10.0 ** rng.uniform(1.3, 3.3, n_states)).astype(int)
    total = prior + stiffness
    samples = [
        rng.normal(k * c / t, t**-0.5, n)
        for k, c, t, n in zip(stiffness, centres, total, n_k, strict=True)
    ]
    x = np.concatenate(samples)
    u_kn = 0.5 * stiffness[:, None] * (x - centres[:, None]) ** 2
    return u_kn, np.repeat(np.arange(n_states), n_k)


def column_sums(f_k: NDArray, u_kn: NDArray, n_k: NDArray) -> NDArray:
    """Sum of the weights of each state, by the dense formula."""
    logs = f_k[:, None] - u_kn
    return np.exp(logs - logsumexp(logs, axis=0, b=n_k[:, None])).sum(axis=1)


def judge(seed: int) -> tuple[str, float, float]:
    """'' or what is wrong with a set, how far its columns are from 1, and from pymbar [kT]."""
    u_kn, states = random_set(seed)
    n_k = np.bincount(states)
    try:
        weights_nk, log_weights = solve_mbar(lambda rows: u_kn[:, rows], states)
    except RuntimeError as error:
        return f"unsolved: {error}", np.inf, np.inf
    f_k = -logsumexp(log_weights - u_kn, axis=1)
    error = float(np.abs(column_sums(f_k, u_kn, n_k) - 1.0).max())
    error = max(error, float(np.abs(weights_nk.sum(axis=0) - 1.0).max()))
    theirs = pymbar_quietly().MBAR(u_kn, n_k, solver_protocol="robust").f_k
    if np.abs(column_sums(theirs, u_kn, n_k) - 1.0).max() > 1e-5:
        return "" if error < 1e-9 else "unsolved", error, 0.0  # pymbar is no judge of this set
    shares = weights_nk.toarray() * n_k
    joined = shares.T @ shares > SHARED
    differences = (f_k - theirs)[:, None] - (f_k - theirs)
    apart = float(np.abs(differences[joined]).max())
    return "unsolved" if error >= 1e-9 else "wrong" if apart > 1e-4 else "", error, apart


def many_windows(number: int, frames: int) -> dict[str, float]:
    """Seconds and GiB that the solution of many windows takes, and how well it is solved."""
    rng = np.random.default_rng(0)
    centres, stiffness = np.arange(number) * (500.0 / (WINDOWS - 1)), 1.0
    x = np.concatenate([rng.normal(c, stiffness**-0.5, frames) for c in centres])

    def reduced_bias(rows: NDArray) -> NDArray:
        u_kn = x[rows] - centres[:, None]
        u_kn *= u_kn
        u_kn *= 0.5 * stiffness
        return u_kn

    pymbar_quietly()
    start, begun = time.perf_counter(), time.process_time()
    weights_nk, _ = solve_mbar(reduced_bias, np.repeat(np.arange(number), frames))
    seconds, processor = time.perf_counter() - start, time.process_time() - begun
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    error = float(np.abs(weights_nk.sum(axis=0) - 1.0).max())
    found = {"windows": number, "frames": frames}
    return found | {"seconds": seconds, "processor": processor, "GiB": gib, "error": error}


def in_a_process_of_its_own(number: int, frames: int) -> dict[str, float]:
    """As `many_windows`, with a memory that nothing else was in."""
    command = [sys.executable, __file__, "--many", f"{number},{frames}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def growth(numbers: list[int], frames: int) -> None:
    """Print what numbers of windows take, and with which power of their number that grows."""
    print(f"{'windows':>8} {'frames each':>12} {'seconds':>8} {'processor s':>11} {'GiB':>6} "
          f"{'columns within':>15}")  # fmt: skip
    table = []
    for number in numbers:
        each = in_a_process_of_its_own(number, frames)
        table.append([number, each["processor"], each["GiB"]])
        times = f"{each['seconds']:8.1f} {each['processor']:11.1f}"
        print(f"{number:8d} {frames:12d} {times} {each['GiB']:6.2f} {each['error']:15.1g}")
    if len(table) > 1:
        logs = np.log(np.array(table))
        powers = [np.polyfit(logs[:, 0], logs[:, i], 1)[0] for i in (1, 2)]
        print(
            f"processor seconds grow as windows^{powers[0]:.2f}, memory as windows^{powers[1]:.2f}"
        )


def rows() -> list[dict[str, object]]:
    """The table's rows."""
    bad, worst, farthest = [], 0.0, 0.0
    for seed in range(SETS):
        why, error, apart = judge(seed)
        if why:
            bad.append(seed)
            print(f"set {seed}: {why} (columns {error:.1g}, pymbar {apart:.1g} kT)", flush=True)
        worst, farthest = max(worst, error), max(farthest, apart)
    print(f"{SETS} sets: columns within {worst:.1g}, pymbar within {farthest:.1g} kT", flush=True)
    many = in_a_process_of_its_own(WINDOWS, FRAMES)
    return [
        row(f"MBAR, {SETS} random sets: wrong or unsolved", len(bad), "sets", "0", not bad),
        row(f"MBAR, {WINDOWS} windows of {FRAMES} frames", many["seconds"], "s", "<= 60",
            many["seconds"] <= 60 and many["error"] < 1e-9),
        row("the same, memory", many["GiB"], "GiB", "<= 2", many["GiB"] <= 2),
    ]  # fmt: skip


def row(name: str, value: float, unit: str, target: str, met: bool) -> dict[str, object]:
    """One row of the table."""
    command = "python benchmarks/mbar.py"
    return {"name": name, "value": value, "unit": unit, "target": target, "met": met,
            "peers": {}, "command": command}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--many", metavar="K,N", help="only K windows of N frames, as JSON")
    parser.add_argument("--windows", type=int, nargs="+", help="only such numbers of windows")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each, with --windows")
    options = parser.parse_args()
    if options.many:
        number, frames = map(int, options.many.split(","))
        print(json.dumps(many_windows(number, frames)))
        return
    if options.windows:
        growth(options.windows, options.frames)
        return
    found = rows()
    for each in found:
        print(f"{each['name']}: {each['value']:.4g} {each['unit']} (wanted {each['target']})")
    if options.json:
        options.json.write_text(json.dumps(found))
    sys.exit(not all(each["met"] for each in found))


if __name__ == "__main__":
    main()
