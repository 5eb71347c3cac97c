"""report.html: its size, what it takes to write and to open, in a headless Chromium.

A demo (its folder is given), and a run of 200,000 frames with draws of a known free energy. Opening
is from navigation to the end of the page's own script with what is first seen drawn, median of
several in one browser, a first one left out. Complaints are those of the console.

    python benchmarks/report_page.py demo
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from provenance import in_words, provenance

sys.path.insert(0, str(Path(__file__).parents[1]))

from openmm_cgan.report.page import write_report
from tests.cases.browser import Browser
from tests.cases.written_runs import write_run

OPENED = "Number(document.documentElement.dataset.opened)"


def measured(folder: Path, page: Path, browser: Browser, times: int) -> dict[str, float]:
    """Seconds to write a page and to open it, its size, and complaints."""
    begun, used = time.perf_counter(), time.process_time()
    write_report(folder, page)
    wall, cpu = time.perf_counter() - begun, time.process_time() - used
    opened = []
    for _ in range(times + 1):
        browser.open(page)
        opened.append(browser.ask(OPENED) / 1000)
    return {
        "megabytes": page.stat().st_size / 1e6,
        "seconds_to_write": wall,
        "processor_seconds_to_write": cpu,
        "seconds_to_open": statistics.median(opened[1:]),
        "slowest_to_open": max(opened[1:]),
        "complaints": len(browser.complaints),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, nargs="?", help="folder of openmm-cgan demo")
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--out", type=Path, help="JSON file")
    arguments = parser.parse_args()
    logging.getLogger("openmm_cgan").setLevel(logging.ERROR)
    about = provenance()
    print(in_words(about))
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_run(folder / "run", arguments.frames)
        asked = {f"{arguments.frames:,} frames": folder / "run"}
        if arguments.demo is not None:
            asked["demo"] = arguments.demo
        with closing(Browser(folder / "browser")) as browser:
            for name, path in asked.items():
                found = measured(path, folder / "page.html", browser, arguments.times)
                results[name] = found
                print(name, ", ".join(f"{k} {v:.3g}" for k, v in found.items()))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"provenance": about, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
