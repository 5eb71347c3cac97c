"""Fuzzing of the files that the package reads: each gives its data, or an error that names it.

Every kind of file (file_kinds.py) is written once and read again many times with changes: bytes,
cut off ends, doubled and exchanged parts; in texts also rows, numbers (nan, inf, 1e400, -1, ...)
and words; in archives also numbers and words under right checksums ("repacked"). Verdicts:

right     the data of the file that was not changed
refused   ValueError or OSError that names the file
altered   other data, all finite: where nothing in a file can tell (no checksums, or right ones)
fault     anything else: another error, one without the name of the file, data that are not finite,
          data altered in spite of checksums, more than 20 s of the processor or 4 GiB

    python benchmarks/fuzz_files.py [--seed N] [--scale X] [--only NAME] [--keep FOLDER]
                                    [--json FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.file_kinds import KINDS, Kind, is_finite
from benchmarks.provenance import provenance

NUMBERS = {
    "H5MD": 300, "tables": 500, "models": 300, "checkpoints": 150, "PDB files": 150,
    "index files": 100, "records": 150,
}  # fmt: skip
SECONDS = 20
BYTES = 4 * 1024**3  # of memory, more than before
VALUES = (
    "nan", "-nan", "inf", "-inf", "1e400", "-1e400", "-1", "0", "1e308", "1e-320", "99999999999",
    "1" * 400, "1_0", "0x10", "pi", "text", "", "\x00", "\u0661", "null", "{}", "[]", "true",
)  # fmt: skip
REPACKED = ("metadata.npy", "header.npy")


@dataclass(frozen=True)
class Original:
    """A file that was not changed, in its folder.

    Attributes
    ----------
    kind : Kind
    folder : Path
    name : Path
        From the folder.
    content : bytes
    data : str
        Digest of what is read of it.
    """

    kind: Kind
    folder: Path
    name: Path
    content: bytes
    data: str


@dataclass(frozen=True)
class Fault:
    """What should not have happened, and the file that made it happen."""

    kind: str
    change: str
    told: str
    content: bytes

    @property
    def where(self) -> str:
        """The last line of the package that was run."""
        lines = [line for line in self.told.splitlines() if "openmm_cgan/" in line]
        return lines[-1] if lines else self.told


def originals(kinds: list[Kind], folder: Path) -> list[Original]:
    """Write and read one file of each kind."""
    made = []
    for i, kind in enumerate(kinds):
        own = folder / f"original-{i}"
        own.mkdir()
        path = kind.write(own)
        content, name = path.read_bytes(), path.relative_to(own)
        data = digest(read_in_copy(kind, own, name, content, folder))
        made.append(Original(kind, own, name, content, data))
    return made


def read_in_copy(kind: Kind, own: Path, name: Path, content: bytes, folder: Path) -> list[Any]:
    """What is read of a changed file, all others of its folder beside it."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(own, copy)
    (copy / name).write_bytes(content)
    return kind.read(copy / name)


def digest(data: Any) -> str:
    """The same for the same data."""
    if isinstance(data, np.ndarray):
        text = f"{data.dtype}{data.shape}".encode() + np.ascontiguousarray(data).tobytes()
    elif isinstance(data, list):
        text = "".join(map(digest, data)).encode()
    else:
        text = repr(data).encode()
    return hashlib.sha256(text).hexdigest()


def tried(original: Original, content: bytes, repacked: bool, folder: Path) -> tuple[str, str]:
    """The verdict of a changed file, and what is told of a fault."""
    kind = original.kind
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of this process, however busy the others
    try:
        data = read_in_copy(kind, original.folder, original.name, content, folder)
    except (ValueError, OSError) as error:
        if original.name.name in str(error):
            return "refused", ""
        return "fault", f"does not name the file:\n{short_traceback()}"
    except BaseException:
        return "fault", short_traceback()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if digest(data) == original.data:
        return "right", ""
    if not is_finite(data):
        return "fault", "numbers that are not finite were read"
    if kind.checked and not repacked:
        return "fault", "altered data were read in spite of checksums"
    return "altered", ""


def short_traceback() -> str:
    """The last calls and the error."""
    return "".join(traceback.format_exc(limit=-3).splitlines(keepends=True)[-9:])


# ---- changes


def changed(random: Random, original: Original) -> tuple[str, bytes, bool]:
    """A name for the change, the changed file, and whether its checksums are right again."""
    content = original.content
    if any(name.encode() in content for name in REPACKED) and random.random() < 0.4:
        return "repacked", repacked(random, content), True
    is_text = b"\x00" not in content
    change = random.choice(ON_TEXT if is_text and random.random() < 0.75 else ON_BYTES)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        content = change(random, content)
    return change.__name__, content, False


def bytes_changed(random: Random, content: bytes) -> bytes:
    new = bytearray(content)
    for _ in range(random.choice((1, 1, 3, 10))):
        if new:
            new[random.randrange(len(new))] = random.randrange(256)
    return bytes(new)


def head_changed(random: Random, content: bytes) -> bytes:
    new = bytearray(content)
    if new:
        new[random.randrange(min(len(new), 2048))] ^= 1 << random.randrange(8)
    return bytes(new)


def cut(random: Random, content: bytes) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def doubled(random: Random, content: bytes) -> bytes:
    begin, end = part(random, content)
    return content[:end] + content[begin:]


def left_out(random: Random, content: bytes) -> bytes:
    begin, end = part(random, content)
    return content[:begin] + content[end:]


def exchanged(random: Random, content: bytes) -> bytes:
    begin, end = part(random, content)
    middle = (begin + end) // 2
    return content[:begin] + content[middle:end] + content[begin:middle] + content[end:]


def zeroed(random: Random, content: bytes) -> bytes:
    begin, end = part(random, content)
    return content[:begin] + bytes(end - begin) + content[end:]


def part(random: Random, content: bytes) -> tuple[int, int]:
    begin = random.randrange(len(content) + 1)
    return begin, min(len(content), begin + random.choice((1, 8, 64, 512, 4096)))


def row_exchanged(random: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    i, j = random.randrange(len(lines)), random.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return b"\n".join(lines)


def row_doubled(random: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    lines.insert(random.randrange(len(lines)), random.choice(lines))
    return b"\n".join(lines)


def row_left_out(random: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    del lines[random.randrange(len(lines))]
    return b"\n".join(lines)


def word_changed(random: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    i = random.randrange(min(len(lines), 8)) if random.random() < 0.4 else None
    i = random.randrange(len(lines)) if i is None else i
    separator = random.choice((b" ", b" ", b",", b":"))
    words = lines[i].split(separator)
    full = [k for k, word in enumerate(words) if word]
    if full:
        value = random.choice((*VALUES, "d", "time", "#!", "FIELDS", "SET", "height"))
        words[random.choice(full)] = value.encode()
    lines[i] = separator.join(words)
    return b"\n".join(lines)


def word_left_out(random: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    i = random.randrange(len(lines))
    words = lines[i].split(b" ")
    del words[random.randrange(len(words))]
    lines[i] = b" ".join(words)
    return b"\n".join(lines)


ON_BYTES = (bytes_changed, head_changed, cut, doubled, left_out, exchanged, zeroed)
ON_TEXT = (
    *(row_exchanged, row_doubled, row_left_out, word_left_out, cut),
    *(word_changed, word_changed, word_changed),
)


def repacked(random: Random, content: bytes) -> bytes:
    """Change an array or the header of an archive; OpenMM's own bytes are left to OpenMM."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = next(name for name in REPACKED if name in members)
    names = [name for name in members if name not in (header, "checkpoint.npy")]
    if random.random() < 0.6 or not names:
        members[header] = header_changed(random, members[header])
    else:
        name = random.choice(names)
        members[name] = array_changed(random, members[name])
        if members[name] == b"":
            del members[name]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return buffer.getvalue()


def header_changed(random: Random, member: bytes) -> bytes:
    """Other words or numbers in the JSON of a header."""
    array = np.load(io.BytesIO(member))
    text = array.tobytes().decode() if array.dtype == np.uint8 else str(array)
    record = json.loads(text)
    place: Any = record
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return member
        key = random.choice(keys)
        if not isinstance(place[key], dict | list) or random.random() < 0.1:
            break
        place = place[key]
    if random.random() < 0.1:
        del place[key]
    else:
        place[key] = random.choice(
            (None, -1, 0, 1, 10**9, 10**30, 1e308, float("nan"), float("inf"), "", "x", [], {},
             [1, 2], True, "../x", -0.5)
        )  # fmt: skip
    text = json.dumps(record)
    new = np.frombuffer(text.encode(), np.uint8) if array.dtype == np.uint8 else np.array(text)
    return packed(new)


def array_changed(random: Random, member: bytes) -> bytes:
    """Another number, shape or type; nothing: the array is gone."""
    array = np.load(io.BytesIO(member))
    what = random.randrange(6)
    if what == 0:
        return b""
    if what == 1:
        return packed(array[:-1] if array.ndim and len(array) else array[None])
    if what == 2:
        return packed(array.reshape(-1))
    if what == 3:
        return packed(array.astype(random.choice((np.int8, np.float64, np.float32, bool, "U3"))))
    new = array.astype(array.dtype)
    if new.size and new.dtype.kind in "iuf":
        values = (0, 1, -1, 10**6, np.nan, np.inf, 1e300) if new.dtype.kind == "f" else (0, 1, 99)
        with np.errstate(all="ignore"):
            new.reshape(-1)[random.randrange(new.size)] = random.choice(values)
    return packed(new)


def packed(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


# ---- all


def fuzz(
    numbers: dict[str, int], seed: int, only: str = ""
) -> tuple[dict[str, Counter[str]], list[Fault]]:
    """Counts of verdicts by group, and the faults."""
    random = Random(seed)
    counts: dict[str, Counter[str]] = {}
    faults = []
    before = signal.signal(signal.SIGPROF, _stop)
    kinds = [kind for kind in KINDS if only in kind.name and kind.group in numbers]
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        made = originals(kinds, folder)
        for group in sorted({kind.group for kind in kinds}):
            own = [original for original in made if original.kind.group == group]
            counts[group] = Counter()
            for i in tqdm(range(numbers[group]), desc=group, disable=None):
                original = own[i % len(own)]
                change, content, is_right = changed(random, original)
                with np.errstate(all="ignore"):
                    verdict, told = tried(original, content, is_right, folder)
                counts[group][verdict] += 1
                if told:
                    faults.append(Fault(original.kind.name, change, told, content))
    signal.signal(signal.SIGPROF, before)
    return counts, faults


def _stop(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="so many times as many files")
    parser.add_argument("--only", default="", help="kinds whose names have this in them")
    parser.add_argument("--keep", type=Path, help="folder for the files that made faults")
    parser.add_argument("--json", type=Path, help="write the rows of the table here")
    args = parser.parse_args()
    logging.getLogger("openmm_cgan").setLevel(logging.ERROR)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + BYTES, size + BYTES))
    numbers = {group: round(args.scale * number) for group, number in NUMBERS.items()}
    made = provenance()
    counts, faults = fuzz(numbers, args.seed, args.only)
    seen = Counter((fault.kind, fault.where) for fault in faults)
    for i, fault in enumerate(faults):
        if times := seen.pop((fault.kind, fault.where), 0):
            print(f"---- {times} of {fault.kind}, such as {fault.change}\n{fault.told}")
        if args.keep is not None:
            args.keep.mkdir(parents=True, exist_ok=True)
            (args.keep / f"{i:03d} {fault.kind}").write_bytes(fault.content)
    verdicts = ("right", "refused", "altered", "fault")
    print(f"{'files':12s} {'number':>7s} " + " ".join(f"{v:>8s}" for v in verdicts))
    rows = []
    for group, own in counts.items():
        told = " ".join(f"{own[v]:8d}" for v in verdicts)
        print(f"{group:12s} {sum(own.values()):7d} {told}")
        rows.append({
            "name": f"changed files, {group}, {sum(own.values())}: faults", "value": own["fault"],
            "unit": "", "target": "0", "met": not own["fault"], "peers": dict(own),
            "command": f"python benchmarks/fuzz_files.py --seed {args.seed}",
        } | made)  # fmt: skip
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(bool(faults) and args.json is None)


if __name__ == "__main__":
    main()
