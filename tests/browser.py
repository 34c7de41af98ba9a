"""Drive a headless Chromium over its debugging pipe: no driver, no socket, no package.

Chromium reads commands of the DevTools protocol from file descriptor 3 and answers on 4, JSON
ended by a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT_S = 60
# Runs a program with two of our pipes as its descriptors 3 and 4.
_LAUNCHER = """
import fcntl, os, sys
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for source, target in zip(high, (3, 4)):
    os.dup2(source, target)
os.execv(sys.argv[3], sys.argv[3:])
"""
_KEYS = {
    "ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39, "PageUp": 33,
    "PageDown": 34, "Home": 36, "End": 35, "Enter": 13, "Tab": 9, " ": 32, "n": 78, "p": 80,
}  # fmt: skip


def find_browser() -> str | None:
    """Return the browser to test with: $SWIN_UNET_BROWSER, or the first Chromium on the path."""
    named = os.environ.get("SWIN_UNET_BROWSER")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a headless Chromium without network.

    Args:
        executable: Chromium.
        profile: An empty folder for its state.

    Attributes:
        problems: Console errors and warnings, uncaught exceptions and requests for anything but
            the opened file and data URLs.
    """

    def __init__(self, executable: str, profile: Path) -> None:
        self.problems: list[str] = []
        self._number = 0
        self._buffer = b""
        self._session: str | None = None
        self._start(executable, profile)
        try:
            self._session = self._attach()
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.send(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def _start(self, executable: str, profile: Path) -> None:
        to_browser, self._output = os.pipe()
        self._input, from_browser = os.pipe()
        ends = (to_browser, from_browser)
        flags = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--proxy-server=127.0.0.1:9", f"--user-data-dir={profile}", "--window-size=1400,1000",
            "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER, *map(str, ends), executable, *flags],
            pass_fds=ends,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in ends:
            os.close(end)

    def _attach(self) -> str:
        """Return the session of the first page, with its events on."""
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        return str(attached["sessionId"])

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(timeout=TIMEOUT_S)
        os.close(self._input)
        os.close(self._output)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come before it are looked at."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._output, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._notice(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._input], [], [], TIMEOUT_S)
            assert ready, "the browser does not answer"
            part = os.read(self._input, 2**20)
            assert part, "the browser has ended"
            self._buffer += part
        text, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        return message

    def _notice(self, event: dict[str, Any]) -> None:
        """Collect what must not happen."""
        details = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(json.dumps(details["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if details["type"] in ("error", "warning", "assert"):
                self.problems.append(json.dumps(details["args"]))
            case "Log.entryAdded" if details["entry"]["level"] in ("error", "warning"):
                self.problems.append(json.dumps(details["entry"]))
            case "Network.requestWillBeSent":
                url = details["request"]["url"]
                if not url.startswith(("data:", "file:", "about:")):
                    self.problems.append(f"request for {url}")

    def open(self, path: Path) -> None:
        """Open a file as from disk."""
        self.send("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Return the JSON value of a JavaScript expression, awaited if it is a promise."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript condition holds."""
        deadline = time.monotonic() + TIMEOUT_S
        while not self.evaluate(condition):
            assert time.monotonic() < deadline, f"not within {TIMEOUT_S} s: {condition}"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press and release a key, as the user would."""
        common = {"key": key, "code": "Space" if key == " " else key}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else None)
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        code = {"windowsVirtualKeyCode": _KEYS[key]}
        self.send("Input.dispatchKeyEvent", **common, **code, **down)
        self.send("Input.dispatchKeyEvent", **common, **code, type="keyUp")

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Click into an element, at these fractions of its width and height."""
        where = self._point(selector, x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)

    def hover(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Move the mouse over an element."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", **self._point(selector, x, y))

    def wheel(self, selector: str, delta: float) -> None:
        """Turn the mouse wheel over an element; positive is towards the user."""
        where = self._point(selector, 0.5, 0.5)
        self.send("Input.dispatchMouseEvent", type="mouseWheel", deltaX=0, deltaY=delta, **where)

    def _point(self, selector: str, x: float, y: float) -> dict[str, float]:
        box = self.evaluate(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)});"
            "node.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const box = node.getBoundingClientRect();"
            "return [box.left, box.top, box.width, box.height]; })()"
        )
        return {"x": box[0] + x * box[2], "y": box[1] + y * box[3]}

    def screenshot(self, path: Path, *, width: int = 1400, height: int = 1000) -> None:
        """Save what the page looks like."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        picture = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(picture))

    def emulate_media(self, **features: str) -> None:
        """Set media features such as prefers_color_scheme='dark'."""
        named = [{"name": k.replace("_", "-"), "value": value} for k, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=named)
