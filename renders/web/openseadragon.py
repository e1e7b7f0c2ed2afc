"""OpenSeadragon, the one library of the web page: pinned, checked, fetched once from npm.

It is never committed. `python -m renders.web.openseadragon` fetches it into a
cache folder, and an export copies it, with its licence, into the exported folder. Where npm is
absent, the page loads the same file from a public CDN, held to the same digest.

Source: https://openseadragon.github.io, BSD-3-Clause.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from pipeline.errors import LossatlasError

VERSION = "6.0.2"
PACKAGE_SHA512 = (
    "WNPPQWp9sHunyzkV9J2yhfxnSfDF9CfBsE6unmkdxh1uTWzFcueMvBPhmuZdY7M1v/ffJ3NdaF3Qq3jogphIbA=="
)
SCRIPT_SHA384 = "7CySh3EMRRN5r2E82ru4URZMpjhLMwArPSxxAwdtldDSsY3XQJIWwlMFR7L7ZGjl"
SCRIPT, LICENCE = "openseadragon.min.js", "openseadragon.LICENSE.txt"
CDN = (
    f"https://cdn.jsdelivr.net/npm/openseadragon@{VERSION}/build/openseadragon/openseadragon.min.js"
)
_MEMBERS = {
    "package/build/openseadragon/openseadragon.min.js": SCRIPT,
    "package/LICENSE.txt": LICENCE,
}
_TIMEOUT_SECONDS = 120


class OpenSeadragonError(LossatlasError):
    """The library cannot be fetched, or is not what was pinned."""


def cache_folder() -> Path:
    """Where the library is kept: `$XDG_CACHE_HOME/lossatlas/openseadragon-…`."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "lossatlas" / f"openseadragon-{VERSION}"


def cached(folder: Path | None = None) -> Path | None:
    """The folder that holds script and licence, if they are there and the script is the pinned."""
    folder = folder or cache_folder()
    try:
        script = (folder / SCRIPT).read_bytes()
    except OSError:
        return None
    if not (folder / LICENCE).is_file() or _digest("sha384", script) != SCRIPT_SHA384:
        return None
    return folder


def fetched(folder: Path | None = None) -> Path:
    """Fetch the package with `npm pack`, check its digest, keep script and licence.

    Args:
        folder: where to keep them; `cache_folder()` by default. A filled one is left as it is.

    Returns:
        The folder.

    Raises:
        OpenSeadragonError: no npm, no network, another digest than the pinned, or no room.
    """
    folder = folder or cache_folder()
    if cached(folder) is not None:
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise OpenSeadragonError(
            f"npm is not on the PATH: wanted to fetch openseadragon {VERSION}; install Node.js, or "
            "go on without: pages then load it from a CDN"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _unpack(_packed(npm, Path(scratch)), folder)
    except OSError as error:
        raise OpenSeadragonError(
            f"{folder} cannot be written ({error.strerror or error}): wanted room and permission; "
            "set XDG_CACHE_HOME to another folder"
        ) from None
    return folder


def script_tag(library: Path | None) -> str:
    """Loads the library beside the page, from the folder `library`; None loads it from the CDN."""
    if library is not None:
        return f'<script src="{SCRIPT}"></script>'
    return (
        f'<script src="{CDN}" integrity="sha384-{SCRIPT_SHA384}" crossorigin="anonymous"></script>'
    )


def _packed(npm: str, scratch: Path) -> bytes:
    command = [npm, "pack", f"openseadragon@{VERSION}", "--silent", "--ignore-scripts"]
    try:
        done = subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise OpenSeadragonError(
            f"`npm pack openseadragon@{VERSION}` took over {_TIMEOUT_SECONDS} s: wanted the "
            "package; check the network and try again"
        ) from None
    archives = list(scratch.glob("*.tgz"))
    if done.returncode or not archives:
        why = " ".join(done.stderr.split())[:200] or f"exit code {done.returncode}"
        raise OpenSeadragonError(
            f"`npm pack openseadragon@{VERSION}` failed ({why}): wanted the package; check the "
            "network and npm's registry"
        )
    return archives[0].read_bytes()


def _unpack(archive: bytes, folder: Path) -> None:
    found = _digest("sha512", archive)
    if found != PACKAGE_SHA512:
        raise OpenSeadragonError(
            f"openseadragon {VERSION} has digest sha512-{found[:16]}…: wanted "
            f"sha512-{PACKAGE_SHA512[:16]}…; the registry serves something else, do not use it"
        )
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:gz") as package:
            for member, name in _MEMBERS.items():
                content = package.extractfile(member)
                if content is None:
                    raise OpenSeadragonError(f"{member} is not in the package: wanted it there")
                # Whole or not at all: a second export may be reading.
                partial = folder / f".{name}.{os.getpid()}.partial"
                partial.write_bytes(content.read())
                partial.replace(folder / name)


def _digest(algorithm: str, content: bytes) -> str:
    return base64.b64encode(hashlib.new(algorithm, content).digest()).decode()


if __name__ == "__main__":
    try:
        print(fetched())
    except LossatlasError as error:
        sys.exit(f"lossatlas: {error}")
