"""A headless Chromium to look at a page with, over its pipe: no network, no driver."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


class Browser:
    """A tab of a headless Chromium.

    Attributes:
      complaints: what the page logged to its console, the errors that it raised, the requests that it made.
    """

    def __init__(self):
        program = (
            shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        )
        if program is None:
            pytest.skip("no Chromium is installed: the page is not opened")
        read_here, write_there = map(_high, os.pipe())
        read_there, self._commands = map(_high, os.pipe())
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        flags += [f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(  # it reads commands from 3, and writes answers to 4
            ["bash", "-c", f'exec "$@" 3<&{read_there} 4>&{write_there}', "bash", program, *flags],
            pass_fds=(read_there, write_there),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_there)
        os.close(write_there)
        self._answers = os.fdopen(read_here, "rb")
        self._unread, self._number, self._session = b"", 0, None
        self.complaints, self._events = [], []
        pages = self.send("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def open(self, file: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Opens a file, and waits until it is loaded."""
        self.resize(width, height)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        self._events.clear()
        self.send("Page.navigate", url=file.resolve().as_uri())
        while "Page.loadEventFired" not in self._events:
            self._receive()

    def resize(self, width: int, height: int) -> None:
        """Gives the tab a size in CSS pixels; a narrow one is a phone's."""
        is_phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1 + is_phone, "mobile": is_phone}
        self.send("Emulation.setDeviceMetricsOverride", **size)

    def value_of(self, expression: str):
        """The value of a JavaScript expression, or of what it promises."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def move_to(self, x: float, y: float) -> None:
        """Moves the pointer."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, file: Path) -> None:
        """Writes the whole page as a PNG."""
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(answer["data"]))

    def printed(self) -> bytes:
        """The page as a PDF."""
        return base64.b64decode(self.send("Page.printToPDF", printBackground=False)["data"])

    def close(self) -> None:
        """Ends the browser."""
        os.close(self._commands)
        self._answers.close()
        self._process.kill()
        self._process.wait()
        self._profile.cleanup()

    def send(self, method: str, **params):
        """Sends a command of the DevTools protocol, and waits for its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        command |= {} if self._session is None else {"sessionId": self._session}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self) -> dict:
        while b"\0" not in self._unread:
            read = self._answers.read1(1 << 16)
            assert read, "the browser ended"
            self._unread += read
        text, _, self._unread = self._unread.partition(b"\0")
        message = json.loads(text)
        method, params = message.get("method"), message.get("params", {})
        self._events.append(method)
        if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(params)[:500])
        if method == "Network.requestWillBeSent" and not params["request"]["url"].startswith("file:"):
            self.complaints.append(params["request"]["url"][:200])
        return message


def _high(descriptor: int) -> int:
    """The same file under a number above those that the browser takes."""
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return high
