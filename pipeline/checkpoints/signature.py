"""What a file is, by its first bytes. Its name may say something else."""

from __future__ import annotations

from typing import Literal

from pipeline.checkpoints.place import CheckpointError

HEAD_BYTES = 512  # where a tar archive has its mark, and more than any other kind needs

_TAR = slice(257, 262)
# First bytes → what the file is, and what to do about it.
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "is a pointer of Git LFS, not the file itself",
        "Fetch it with git lfs pull",
    ),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file", "Save network.state_dict() with torch"),
    (b"\x1f\x8b", "is compressed by gzip", "Unpack it with gunzip or tar first"),
    (b"\x03\x00\x00\x00", "is a file of Lua's Torch", "Convert it, and save a state dict"),
    (b"\x04\x00\x00\x00", "is a file of Lua's Torch", "Convert it, and save a state dict"),
    (b"\x93NUMPY", "is one numpy array", "Save named tensors: network.state_dict()"),
)
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head")


def kind_of(head: bytes, path: str) -> Literal["safetensors", "torch", "index"]:
    """How a checkpoint with this beginning is read.

    Args:
        head: its first `HEAD_BYTES`.
        path: for messages, and for files whose first bytes say nothing.

    Raises:
        CheckpointError: it is something else, and what.
    """
    if not head:
        raise CheckpointError(
            f"{path} is empty; wanted a whole file of tensors. Copy it again, or train again"
        )
    for beginning, what, cure in _OTHERS:
        if head.startswith(beginning):
            raise _refused(path, what, cure)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_MARKUP):
        raise _refused(path, "is a web page", "Download the file itself: its link was of a page")
    if head[_TAR] == b"ustar":
        raise _refused(path, "is a tar archive", "Unpack it, and name the file in it")
    if path.lower().endswith(".onnx"):
        raise _refused(path, "is an ONNX model", "Save network.state_dict() with torch")
    if head[8:9] == b"{":
        return "safetensors"
    if text.startswith(b"{"):
        return "index"
    return "safetensors" if path.lower().endswith(".safetensors") else "torch"


def _refused(path: str, what: str, cure: str) -> CheckpointError:
    return CheckpointError(f"{path} {what}; wanted a checkpoint of tensors. {cure}")
