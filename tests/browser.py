"""A headless Chromium that tests control over its DevTools pipe."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--mute-audio",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
# Chromium reads commands from descriptor 3 and writes results to 4. The pipes are copied to higher
# numbers first, because one of them may already be 3 or 4.
WIRED = """import fcntl, os, sys
commands, answers = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])"""


class Page:
    """One tab. `complaints` holds console errors, exceptions and failed requests since `open`."""

    def __init__(self, commands, answers):
        self.commands, self.answers, self.numbers = commands, answers, itertools.count(1)
        self.left, self.complaints, self.requests, self.events = b"", [], [], []
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        number = next(self.numbers)
        tab = {"sessionId": self.session} if self.session else {}
        self.commands.write(
            json.dumps({"id": number, "method": method, "params": parameters} | tab).encode()
            + b"\0"
        )
        self.commands.flush()
        while (answer := self._next()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self):
        while b"\0" not in self.left:
            more = os.read(self.answers.fileno(), 1 << 16)
            assert more, "chromium ended"
            self.left += more
        message, _, self.left = self.left.partition(b"\0")
        return json.loads(message)

    def _note(self, message):
        method, said = message["method"], message.get("params", {})
        self.events.append(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.consoleAPICalled" and said["type"] in {
            "error",
            "warning",
            "assert",
        }:
            self.complaints.append(str([one.get("value") for one in said["args"]]))
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {said['message']}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(said["entry"]["text"])
        elif method == "Network.loadingFailed" and not said.get("canceled"):
            self.complaints.append(f"failed: {said}")

    def open(self, url, width=1280, height=900, *, dark=False):
        """Open a page and wait until it is loaded and drawn."""
        self.complaints.clear()
        self.requests.clear()
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.call("Page.navigate", url=url)
        while "Page.loadEventFired" not in self.events:
            self._note(self._next())
        self.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def evaluate(self, script):
        """Return the value of a script; a promise is awaited."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def picture(self, path, *, whole=True):
        """Save a screenshot as PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def browser(profile):
    """Start a Chromium and yield its page; skip the test if Chromium is not installed."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine")
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    command = [program, *FLAGS, f"--user-data-dir={profile}"]
    wired = [sys.executable, "-c", WIRED, str(their_in), str(their_out), *command]
    process = subprocess.Popen(
        wired, pass_fds=(their_in, their_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(their_in)
    os.close(their_out)
    with open(our_out, "wb") as commands, open(our_in, "rb") as answers:  # noqa: PTH123 - they are descriptors
        try:
            yield Page(commands, answers)
        finally:
            process.terminate()
            process.wait(timeout=20)
