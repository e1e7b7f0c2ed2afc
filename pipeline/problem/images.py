"""Splits that are folders of images, and decoding images."""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import memory
from pipeline.errors import described
from pipeline.problem.split import FEWER, DataError, first_few, read_bytes
from pipeline.url import UnreachableError, reached

SPLITS = ("train", "test", "val", "valid", "validation", "dev", "eval")
_SPLIT_FOLDERS = (*SPLITS, "training", "testing")
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True)
class Images:
    """A split of image files; each class is a folder, and the folders are numbered by name."""

    where: str
    files: Any
    paths: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    decoded: bool = True

    def targets(self) -> np.ndarray:
        return self.labels

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        paths = (self.paths[row] for row in rows.tolist())
        return decode_all(((path, read_bytes(self.files, path, path)) for path in paths), len(rows))


def of_folder(where: str, files: Any, root: str, classes: list[str]) -> Images:
    """The images of a split; a class is the index of its folder in `classes`."""
    found = sorted(p for p in files.find(root) if posixpath.splitext(p)[1].lower() in _IMAGES)
    inner = {path: path.removeprefix(root).lstrip("/").split("/") for path in found}
    inner = {path: parts for path, parts in inner.items() if not any(map(_is_hidden, parts))}
    stray = [parts[0] for parts in inner.values() if len(parts) == 1]
    empty = sorted(set(class_folders(files, root)) - {parts[0] for parts in inner.values()})
    if stray or empty or not inner:
        what = (
            f"{stray[0]} outside any class" if stray else f"no image in {', '.join(empty) or root}"
        )
        raise DataError(f"{where} holds {what}; wanted a folder of images for each class")
    _check_classes(where, classes, sorted({parts[1] for parts in inner.values() if parts[2:]}))
    labels = np.array([classes.index(parts[0]) for parts in inner.values()], dtype=np.int64)
    return Images(where, files, tuple(inner), labels, tuple(classes))


def _check_classes(where: str, classes: list[str], deeper: list[str]) -> None:
    """Refuse a single class, and splits in place of classes; `deeper` are the folders in them.

    A class may be called like a split if others are not: CIFAR-100 has the class `train`.
    """
    place = f"{posixpath.basename(where.rstrip('/'))}/"
    if len(classes) > 1 and not all(map(is_split, classes)):
        return
    found = f"{where} holds {'one folder, ' if len(classes) == 1 else ''}{first_few(classes, '/')}"
    if deeper:
        raise DataError(
            f"{found}, with {first_few(deeper, '/')} in it; wanted the class folders directly in "
            f"{place}. Move them there, or check data.source and data.splits"
        )
    if len(classes) == 1:
        raise DataError(
            f"{found}, which makes all images one class; wanted two or more class folders "
            f"directly in {place}. Check data.source, or load one class by file.py:callable"
        )
    raise DataError(
        f"{found}, which are names of splits; wanted class folders directly in {place}. Check "
        "data.source and data.splits, or rename the folders"
    )


def is_split(folder: str) -> bool:
    return folder.lower() in _SPLIT_FOLDERS


def class_folders(files: Any, root: str) -> list[str]:
    """The names of the class folders in a split, sorted."""
    try:
        with reached(root):
            found = files.ls(root, detail=True)
    except UnreachableError:
        raise
    except OSError as error:
        raise DataError(f"{root} cannot be read ({error}); wanted a readable folder") from None
    entries = {posixpath.basename(e["name"].rstrip("/")): e["type"] == "directory" for e in found}
    folders = sorted(n for n, is_folder in entries.items() if is_folder and not _is_hidden(n))
    lists = [n for n in entries if re.search(r"(annotations|labels).*\.(txt|csv)$", n, re.I)]
    if len(folders) == 1 and lists:  # as in Tiny ImageNet's val/
        raise DataError(
            f"{root} holds one folder, {folders[0]}/, and {lists[0]}; wanted a folder of images "
            f"for each class. Move each image into the folder of its class by {lists[0]}"
        )
    return folders


def _is_hidden(name: str) -> bool:
    """Whether a file or folder belongs to an editor or a file system, not to the data."""
    return name.startswith(".") or name == "__MACOSX"


def decode_all(encoded: Iterator[tuple[str, Any]], count: int) -> np.ndarray:
    """`count` encoded images → uint8 (n, height, width, channels); all have to be of one shape."""
    images: list[np.ndarray] = []
    for where, content in encoded:
        image = _decode(content, where)
        if images and image.shape != images[0].shape:
            raise DataError(
                f"{where} is {_size(image)} and the first image {_size(images[0])}; wanted "
                "images of one size. Resize them first"
            )
        if not images:  # all of them, and once more as one array
            memory.require(2 * count * image.nbytes, f"{count:,} images such as {where}", FEWER)
        images.append(image)
    return np.stack(images)


def _decode(content: Any, where: str) -> np.ndarray:
    from PIL import Image

    if not isinstance(content, bytes):
        raise DataError(f"{where} holds {type(content).__name__}; wanted an encoded image as bytes")
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(
                    f"{where} is an image of mode {image.mode}; wanted 8 bits a channel"
                )
            memory.require(4 * image.width * image.height, where, "Replace it")
            grey = image.mode in ("1", "L", "LA")
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{where} cannot be decoded ({described(error)[:120]}); wanted an image. Replace it"
        ) from None
    return pixels.reshape(*pixels.shape[:2], -1)


def _size(image: np.ndarray) -> str:
    height, width, channels = image.shape
    return f"{width}×{height} with {channels} channel{'s' if channels > 1 else ''}"
