"""A picture painted into a scratch file, and libvips writing from it.

The scratch file lies on the target's disk, three bytes a pixel. It has no name, so it ends with its
process, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyvips

from pipeline import format
from renders.picture import Picture, paint
from renders.spread import Spread

_COLUMNS, _ROWS = 1_024, 256
_LEAST_FREE = 2**20


@contextlib.contextmanager
def painted(picture: Picture, folder: Path, spread: Spread) -> Iterator[pyvips.Image]:
    """The picture as a libvips image, sRGB; memory is a few boxes, whatever its size.

    Args:
        picture: what to paint.
        folder: where the scratch file goes.
        spread: who paints.

    Raises:
        OSError: `folder` has no room for the scratch file, which is looked for before painting, or
            cannot be written.
    """
    # libvips would keep the scratch file of the last hundred pictures open.
    pyvips.cache_set_max(0)
    _check_room(folder, 3 * picture.width * picture.height)
    with tempfile.TemporaryFile(dir=folder) as file:
        for strip in strips(picture, spread):
            file.write(strip.data)
        file.flush()
        pixels = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size = (picture.width, picture.height)
        image = pyvips.Image.new_from_memory(pixels, *size, 3, "uchar")
        yield image.copy(interpretation="srgb")


def strips(picture: Picture, spread: Spread) -> Iterator[npt.NDArray[np.uint8]]:
    """The picture from top to bottom: uint8 (rows, width, 3), at most 256 rows each."""
    boxes = list(picture.box.tiles(_COLUMNS, _ROWS))
    strip = np.empty((0, picture.width, 3), dtype=np.uint8)
    pixels = spread(functools.partial(paint, picture), boxes)
    for box, part in zip(boxes, pixels, strict=True):
        if box.x == 0:
            strip = np.empty((box.height, picture.width, 3), dtype=np.uint8)
        strip[:, box.x : box.right] = part
        if box.right == picture.width:
            yield strip


def save(image: pyvips.Image, folder: Path, write: Callable[[], None]) -> None:
    """Let libvips write `image` into `folder`; ^C is heard meanwhile, and stops it.

    Args:
        image: what is written.
        folder: where.
        write: calls libvips.

    Raises:
        OSError: libvips could not write.
    """
    # Python hears a signal between two of its instructions: libvips works in another thread.
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            writing.result()
        except pyvips.Error as failure:
            # What libvips says of a full disk depends on the format.
            if _free(folder) < _LEAST_FREE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
            reason = str(failure).strip().splitlines()[-1].strip()
            raise OSError(errno.EIO, f"libvips: {reason}") from None
        except BaseException:
            image.set_kill(True)
            raise
        finally:
            del writing  # it holds the error, whose traceback would hold the scratch file


def _check_room(folder: Path, bytes_: int) -> None:
    free = _free(folder)
    if free < bytes_:
        raise OSError(
            errno.ENOSPC,
            f"its pixels need {format.size(bytes_)} there until it is written, and "
            f"{format.size(free)} are free",
        )


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
