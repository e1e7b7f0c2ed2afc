"""A headless Chromium, driven over its own pipe with the DevTools protocol; nothing to install."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


def found() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Chromium:
    """One browser with one page; what the page complains about is in `complaints`."""

    def __init__(self, profile: Path, width: int = 1200, height: int = 800) -> None:
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()

        def hand_over() -> None:
            # Chromium reads commands from descriptor 3 and answers on 4.
            a, b = os.dup(to_read), os.dup(to_write)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self._process = subprocess.Popen(
            [str(found()), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=hand_over,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._left, self._id = b"", 0
        self.complaints: list[str] = []
        pages = self.call("Target.getTargets", page=False)["targetInfos"]
        target = next(p["targetId"] for p in pages if p["type"] == "page")
        attached = self.call("Target.attachToTarget", page=False, targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def call(self, method: str, page: bool = True, **parameters: Any) -> dict[str, Any]:
        self._id += 1
        message: dict[str, Any] = {"id": self._id, "method": method, "params": parameters}
        if page:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._id:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._in], [], [], 60)
            piece = os.read(self._in, 1 << 20) if ready else b""
            assert piece, "Chromium says nothing"
            self._left += piece
        line, _, self._left = self._left.partition(b"\0")
        event: dict[str, Any] = json.loads(line)
        about = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(about["exceptionDetails"])[:600])
            case "Runtime.consoleAPICalled" if about["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(about["args"])[:600])
            case "Log.entryAdded" if about["entry"]["level"] in ("error", "warning"):
                self.complaints.append(json.dumps(about["entry"])[:600])
            case "Network.loadingFailed" if not about.get("canceled"):
                self.complaints.append(json.dumps(about)[:600])
        return event

    def open(self, url: str) -> None:
        self.call("Page.navigate", url="about:blank")
        # What a page left behind still complains about is no concern of the next.
        self.until("location.href === 'about:blank'")
        self.complaints.clear()
        self.call("Page.navigate", url=url)
        self.until("document.documentElement?.dataset.ready === 'yes'")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, condition: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not self.ask(f"Boolean({condition})"):
            assert time.monotonic() < end, (condition, self.complaints)
            time.sleep(0.05)

    def resize(self, width: int, height: int, phone: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def mouse(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, path: Path) -> None:
        import base64

        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        self._process.wait(20)
