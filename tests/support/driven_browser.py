"""A headless Chromium that a test drives, by the protocol of its developer tools."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Tab:
    """A page that is open."""

    def __init__(self, client: ClientConnection) -> None:
        self._client, self._number = client, 0

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the developer tools, and its result."""
        self._number += 1
        self._client.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._client.recv(60))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def run(self, script: str) -> Any:
        """What an expression gives in the page."""
        found = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60.0) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < end, (script, self.run("document.body.innerText"))
            time.sleep(0.1)
        return found

    def press(self, key: str, code: int) -> None:
        """A key, down and up."""
        text = {"text": "\r"} if key == "Enter" else {}
        pressed = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **pressed, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def show(self, width: int, height: int, mobile: bool = False) -> None:
        """Give the page so many pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.ask("Emulation.setDeviceMetricsOverride", **size)

    def picture(self, path: Path) -> None:
        """What it looks like, as a PNG."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))


@contextmanager
def browsing(address: str, folder: Path, *options: str) -> Iterator[Tab]:
    """A tab at an address; the browser reaches nothing but this machine."""
    assert BROWSER is not None
    profile = folder / "profile"
    nowhere = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([BROWSER, *fixed, nowhere, *options, address], **silent) as browser:
        try:
            port = _written(profile / "DevToolsActivePort").split()[0]
            with connect(_page(port), max_size=None) as client:
                yield Tab(client)
        finally:
            browser.kill()


def _written(path: Path) -> str:
    end = time.monotonic() + 60
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < end, "the browser does not start"
        time.sleep(0.1)
    return path.read_text()


def _page(port: str) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for tab in httpx.get(f"http://127.0.0.1:{port}/json").json():
            if tab["type"] == "page" and tab["url"].startswith(("http", "file")):
                return str(tab["webSocketDebuggerUrl"])
        time.sleep(0.1)
    raise AssertionError("the browser opens no page")
