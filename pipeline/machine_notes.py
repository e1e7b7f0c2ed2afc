"""This machine's own notes on what was started here. A store cannot be trusted to say it.

One small file a note, in the user's state folder (`$XDG_STATE_HOME/lossatlas`, usually
`~/.local/state/lossatlas`), which nobody else can read or write. Without such a folder nothing is
noted, and commands ask for more.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def read(about: str) -> dict[str, Any]:
    """What was noted about something; empty where nothing was, or where others may write."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        path = _path(about)
        facts = path.stat()
        if facts.st_uid == os.geteuid() and not facts.st_mode & 0o022:
            found = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(found, dict) and found.get("about") == about:
                return found
    return {}


def write(about: str, **facts: Any) -> None:
    """Note facts about something, in place of what was noted before."""
    with contextlib.suppress(OSError, RuntimeError):
        path = _path(about)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent)  # of mode 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"about": about} | facts, file, indent=1)
        os.replace(temporary, path)


def _path(about: str) -> Path:
    state = os.environ.get("XDG_STATE_HOME") or ""
    folder = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return folder / "lossatlas" / f"{hashlib.sha256(about.encode()).hexdigest()}.json"
