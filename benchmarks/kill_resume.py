"""Does a run that is killed at random moments end as the run that never was?

Each kind of run (kill_runs.py) is killed at random moments (SIGKILL, or another signal) and gone on
with until it ends. All its files, and the last positions and velocities, must be those of a run
that was left alone, bit for bit: text files by their bytes, frames and models by their numbers.
Backups of what was cut off, checkpoints, logs and pictures are not compared, nor are seconds in a
summary. Runs are forked from a process that has imported everything, so that a kill meets work.

    python benchmarks/kill_resume.py [--kind KIND ...] [--repeats N] [--kills N]
                                     [--signal KILL|TERM|INT] [--seed N] [--json FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))
from kill_runs import KINDS, Kind, prepare
from provenance import in_words, provenance

from openmm_cgan.frames import read_frames
from openmm_cgan.run_folders import COMMANDS

COLUMNS = ("positions", "cvs", "bias", "step", "time", "segment", "settling")
NOT_COMPARED = (".chk", ".old", ".log", ".png", ".journal", ".lock")
VOLATILE = ("seconds", "seconds_of_stages", "attempts", "worker")
PATIENCE = 600.0  # s that a run may take


def start(kind: Kind, folder: Path, prepared: Path, told: Path) -> int:
    """Fork a process that begins the run or goes on with it; its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        output = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        kind.begin_or_go_on(folder, prepared)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ends_within(child: int, seconds: float) -> int | None:
    """Exit code of a process if it ends so soon; negative for a signal."""
    until = time.monotonic() + seconds
    while True:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.001)


def ended(child: int) -> int:
    """Exit code of a process that has to end; one that hangs is killed, and is an error."""
    code = ends_within(child, PATIENCE)
    if code is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise RuntimeError(f"it has not ended in {PATIENCE:.0f} s, and was killed")
    return code


@dataclass
class Tally:
    """What became of the runs of a kind."""

    kind: str
    equal: int = 0
    runs: int = 0
    kills: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def kill_until_it_ends(
    kind: Kind, folders: tuple[Path, Path], usual: float, rng: np.random.Generator,
    plan: tuple[int, int],
) -> int:  # fmt: skip
    """Run, kill at random moments, go on. `usual`: seconds of a whole run. Return the kills."""
    folder, prepared = folders
    number, most = plan
    told = folder.with_suffix(".out")
    kills = 0
    while True:
        if not kind.is_begun(folder):
            shutil.rmtree(folder, ignore_errors=True)  # as a user would, where nothing was saved
        folder.mkdir(exist_ok=True)
        child = start(kind, folder, prepared, told)
        code = ends_within(child, rng.uniform(0, usual)) if kills < most else ended(child)
        if code is None:
            os.kill(child, number)
            kills += 1
            code = ended(child)
            if code in (-number, 128 + number):
                continue
        if code != 0:
            raise RuntimeError(f"exit code {code}: {told.read_text()[-2000:]}")
        return kills


def kill_at_least_once(
    kind: Kind, folders: tuple[Path, Path], usual: float, rng: np.random.Generator,
    plan: tuple[int, int],
) -> tuple[int, float]:  # fmt: skip
    """As `kill_until_it_ends`; what ends before it is killed is begun again. Kills, and `usual`."""
    while True:
        began = time.monotonic()
        if kills := kill_until_it_ends(kind, folders, usual, rng, plan):
            return kills, usual
        usual = min(usual, time.monotonic() - began)
        shutil.rmtree(folders[0])


def contents(root: Path) -> dict[str, str]:
    """A digest of each file of a run, and of each column of its frames, by name."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_dir() and path.name == "frames":
            frames = read_frames(path, settling=True)
            arrays = {column: np.asarray(getattr(frames, column)) for column in COLUMNS}
            found |= {f"{name}.{key}": digest(array) for key, array in arrays.items()}
        if not path.is_file() or path.suffix in (".h5md", *NOT_COMPARED):
            continue
        if path.name.startswith((".", "bck.", "later.")) or path.name == COMMANDS:
            continue
        if path.suffix == ".npz":
            with np.load(path) as archive:
                found |= {f"{name}.{key}": digest(archive[key]) for key in archive.files}
        elif path.suffix == ".json":
            record = json.loads(path.read_text())
            plain = {key: value for key, value in record.items() if key not in VOLATILE}
            found[name] = digest(json.dumps(plain).encode())
        else:
            found[name] = digest(path.read_bytes())
    return found


def digest(data: bytes | np.ndarray) -> str:
    if isinstance(data, np.ndarray):
        data = f"{data.dtype} {data.shape}".encode() + data.tobytes()
    return hashlib.sha256(data).hexdigest()


def differences(ours: dict[str, str], whole: dict[str, str]) -> list[str]:
    """Names of what is not that of the run that was left alone."""
    return sorted(name for name in ours.keys() | whole.keys() if ours.get(name) != whole.get(name))


def try_kind(name: str, prepared: Path, repeats: int, plan: tuple[int, int], seed: int) -> Tally:
    """Kill a kind of run so many times."""
    kind, tally = KINDS[name], Tally(name)
    rng = np.random.default_rng([seed, sorted(KINDS).index(name)])
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole"
        began = time.monotonic()
        kill_until_it_ends(kind, (whole, prepared), 0.0, rng, (plan[0], 0))
        usual = time.monotonic() - began
        expected = contents(whole)
        for i in tqdm(range(repeats), desc=name, disable=None):
            folder = Path(temporary) / f"run{i}"
            try:
                kills, usual = kill_at_least_once(kind, (folder, prepared), usual, rng, plan)
                wrong = differences(contents(folder), expected)
            except (RuntimeError, ValueError, OSError) as error:
                kills, wrong = 1, [f"{type(error).__name__}: {error}"]
            tally.runs, tally.kills = tally.runs + 1, tally.kills + kills
            tally.equal += not wrong
            if wrong:
                tally.wrong.append(f"run {i}: {', '.join(wrong)}")
                print(f"    {name}, {tally.wrong[-1]}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
        tally.seconds = time.monotonic() - began
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    usual = [name for name in KINDS if name != "quick-demo"]
    parser.add_argument("--kind", nargs="+", choices=list(KINDS), default=usual)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--kills", type=int, default=3, help="of a run, at most")
    parser.add_argument("--signal", choices=["KILL", "TERM", "INT"], default="KILL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    number = signal.Signals[f"SIG{args.signal}"]
    made = provenance()
    print(f"{in_words(made)}, {number.name}")
    print(f"{'kind':16} {'equal':>9} {'kills':>6} {'seconds':>8}")
    tallies = []
    with tempfile.TemporaryDirectory() as temporary:
        prepare(Path(temporary))
        for name in args.kind:
            plan = int(number), args.kills
            tally = try_kind(name, Path(temporary), args.repeats, plan, args.seed)
            tallies.append(tally)
            equal = f"{tally.equal}/{tally.runs}"
            print(f"{name:16} {equal:>9} {tally.kills:>6} {tally.seconds:>8.0f}", flush=True)
    if args.json:
        rows = [vars(tally) for tally in tallies]
        about = made | {"signal": number.name}
        args.json.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    sys.exit(any(tally.equal < tally.runs for tally in tallies))


if __name__ == "__main__":
    main()
