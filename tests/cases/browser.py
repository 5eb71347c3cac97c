"""A headless Chromium, driven over a pipe: pages opened, clicked and listened to."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
LONGEST = 60.0  # s, of a busy machine
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--disable-dev-shm-usage", "--no-first-run",
    "--window-size=1400,1000", "--remote-debugging-pipe",
)  # fmt: skip


def chromium() -> str:
    """Where it is; the test is skipped where it is not installed."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    return found


class Browser:
    """One page in a browser of its own; everything that it complains of is kept.

    Attributes
    ----------
    complaints : list of str
        Messages of the console but plain words, and what no script has caught.
    asked_for : list of str
        Addresses that pages wanted to load.
    """

    def __init__(self, folder: Path) -> None:
        command = [chromium(), *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()

        def arrange() -> None:  # the browser reads from 3 and writes to 4
            ends = os.dup(to_read), os.dup(to_write)
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        self._process = subprocess.Popen(
            command, preexec_fn=arrange, close_fds=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._number, self._rest, self._session = 0, b"", ""
        self.complaints: list[str] = []
        self.asked_for: list[str] = []
        self._events: list[str] = []
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, path: Path, seconds: float = LONGEST) -> None:
        """Open a page and wait until it is loaded."""
        self._events.clear()
        self._call("Page.navigate", url=path.resolve().as_uri())
        end = time.monotonic() + seconds
        while "Page.loadEventFired" not in self._events:
            self._take(end)

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page."""
        given = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", **given)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = LONGEST) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.ask(expression):
            assert time.monotonic() < end, f"{expression} is not true after {seconds} s"
            time.sleep(0.05)

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(10)
        os.close(self._to)
        os.close(self._from)

    def _call(self, method: str, **given: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + LONGEST
        while True:
            answer = self._take(end)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _take(self, end: float) -> dict[str, Any]:
        """The next message; what it complains of is kept."""
        while b"\0" not in self._rest:
            left = end - time.monotonic()
            ready = left > 0 and select.select([self._from], [], [], left)[0]
            assert ready, "the browser does not answer"
            piece = os.read(self._from, 65536)
            assert piece, "the browser has ended"
            self._rest += piece
        one, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(one)
        self._listen(message.get("method", ""), message.get("params", {}))
        return message

    def _listen(self, method: str, given: dict[str, Any]) -> None:
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(given["exceptionDetails"])[:500])
        elif method == "Log.entryAdded":
            entry = given["entry"]
            if "GL Driver Message" not in entry["text"]:  # of the machine's driver, not the page
                self.complaints.append(f"{entry['level']}: {entry['text']}")
        elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(given["args"])[:500])
        elif method == "Network.requestWillBeSent":
            self.asked_for.append(given["request"]["url"])
