"""Places and commands as a user would type them in a shell."""

from __future__ import annotations

import os
import shlex

from pipeline.geometry.grid import Grid
from pipeline.url import is_url


def place(url: str) -> str:
    """How a user in the current folder would type `url`, quoted for a shell."""
    if is_url(url):
        return shlex.quote(url)
    relative = os.path.relpath(url)
    if relative.startswith("-"):  # no option
        relative = f"./{relative}"
    return shlex.quote(url if relative.startswith("..") else relative)


def next_step(url: str, grid: Grid) -> str:
    """What to type when the render at `url` is finished."""
    name = url.rstrip("/").rpartition("/")[2].removesuffix(".zarr")
    film = grid.frames > 1 and min(grid.width, grid.height) > 1
    kind, ending = ("film", "mp4") if film else ("poster", "png")
    return f"next: lossatlas export {kind} {place(url)} {file(f'{name}.{ending}')}"


def file(name: str) -> str:
    """A file's name in the current folder, quoted for a shell."""
    return shlex.quote(f"./{name}" if name.startswith("-") else name)
