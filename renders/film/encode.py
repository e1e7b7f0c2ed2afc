"""Encoders: pictures in, one after another, and a film file out; no picture is kept.

A film is written beside its place under a temporary name, read back, and only then named. H.264
films are yuv420p in BT.709 with limited range, converted so and tagged so; players that see no tag
guess by size, and show wrong colours.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import LossatlasError
from renders.files.whole import whole_file
from renders.film.gif import COLOURS, Palette

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer
    from av.video.stream import VideoStream

Pixels = npt.NDArray[np.uint8]

ENDINGS = (".mp4", ".mov", ".mkv", ".webp", ".gif")
_BT709, _SRGB_CURVE, _LIMITED, _FULL, _RGB_MATRIX = 1, 13, 1, 2, 0
_GIF_TICKS = 100
_AHEAD = 2


class EncodeError(LossatlasError):
    """A film that cannot be encoded or written as asked."""


@dataclass(frozen=True)
class Coding:
    """How a film is encoded.

    Attributes:
        container, codec: FFmpeg's names.
        pixels: FFmpeg's pixel format, as stored.
        options: of the codec.
        wrapping: of the container.
        even: whether width and height must be.
        largest_px: of either side; None where there is no bound worth stating.
    """

    container: str
    codec: str
    pixels: str
    options: Mapping[str, str]
    wrapping: Mapping[str, str]
    even: bool = False
    largest_px: int | None = None


def coding_for(path: Path, lossless: bool = False, quality: float | None = None) -> Coding:
    """The coding that a file's ending asks for.

    Args:
        path: ends in .mp4, .mov, .mkv, .webp or .gif.
        lossless: every pixel as painted: FFV1 in .mkv, H.264 in RGB in .mp4 and .mov.
        quality: of H.264, its constant rate factor, 0 to 51, lower is better, 16 by default; of
            WebP, 0 to 100, higher is better, 82 by default.

    Raises:
        EncodeError: another ending, or something it cannot do.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise EncodeError(
            f"{path} ends in {path.suffix or 'nothing'!r}: wanted one of {', '.join(ENDINGS)}; "
            "rename it"
        )
    _check_quality(ending, lossless, quality)
    fast = {"movflags": "+faststart"}
    match ending, lossless:
        case ".gif", _:
            if lossless:
                raise EncodeError(
                    "a GIF has 256 colours: wanted .mkv, .mp4, .mov or .webp to keep all"
                )
            return Coding("gif", "gif", "pal8", {}, {"loop": "0"}, largest_px=1280)
        case ".webp", _:
            if lossless:
                exact = {"lossless": "1", "compression_level": "4"}
                return Coding("webp", "libwebp_anim", "bgra", exact, {"loop": "0"}, largest_px=4096)
            # Whole pictures: libwebp's animations leave places be that change a little, and a
            # landscape that moves slowly then breaks up into blocks.
            good = {"quality": f"{82 if quality is None else quality:g}"}
            return Coding("webp", "libwebp", "bgra", good, {"loop": "0"}, largest_px=4096)
        case ".mkv", True:
            ffv1 = {"level": "3", "slicecrc": "1", "slices": "16", "g": "1"}
            return Coding("matroska", "ffv1", "bgr0", ffv1, {})
        case _, True:
            exact = {"qp": "0", "preset": "medium"}
            return Coding(ending[1:], "libx264rgb", "rgb24", exact, fast)
    # Smooth dark ground bands first: adaptive quantisation is told to spend there.
    x264 = {
        "preset": "medium",
        "crf": f"{16 if quality is None else quality:g}",
        "x264-params": "aq-mode=3:aq-strength=0.9:keyint=120",
    }
    container = "matroska" if ending == ".mkv" else ending[1:]
    wrapping = {} if ending == ".mkv" else fast
    return Coding(container, "libx264", "yuv420p", x264, wrapping, even=True)


def _check_quality(ending: str, lossless: bool, quality: float | None) -> None:
    if quality is None:
        return
    if lossless or ending == ".gif":
        raise EncodeError(
            f"quality is {quality:g}: lossless films and GIFs have none; leave it out"
        )
    most = 100 if ending == ".webp" else 51
    if not 0 <= quality <= most:
        raise EncodeError(f"quality is {quality:g}: wanted 0 to {most} for {ending}")


def check_size(size: tuple[int, int], coding: Coding, path: Path) -> None:
    """Refuse a size that the coding cannot hold.

    Raises:
        EncodeError: odd pixels where they come in pairs, or far too many.
    """
    width, height = size
    if coding.even and (width % 2 or height % 2):
        near = f"{width + width % 2}x{height + height % 2}"
        raise EncodeError(
            f"size is {width}x{height}: H.264 wants even numbers; {near} is the nearest"
        )
    if coding.largest_px is not None and max(size) > coding.largest_px:
        raise EncodeError(
            f"size is {width}x{height}: wanted at most {coding.largest_px} pixels a side for "
            f"{path.suffix}; make it smaller, or an .mp4"
        )


class Encoder:
    """Takes the pictures of a film in order; from `encoding`.

    Colours are converted in `pool`, a few pictures ahead of the codec.
    """

    def __init__(
        self,
        container: OutputContainer,
        stream: VideoStream,
        coding: Coding,
        fps: Fraction,
        palette: Palette | None,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._container, self._stream = container, stream
        self._coding, self._fps, self._palette = coding, fps, palette
        self._pool = pool
        self._waiting: deque[Future[VideoFrame]] = deque()
        self.pictures = 0

    def add(self, pixels: Pixels) -> None:
        """Encode one picture, uint8 (height, width, 3), sRGB; it is not changed afterwards."""
        self._waiting.append(self._pool.submit(self._frame, pixels, self.pictures))
        self.pictures += 1
        while len(self._waiting) > _AHEAD:
            self._encode_next()

    def finish(self) -> None:
        """Encode what waits."""
        while self._waiting:
            self._encode_next()
        self._container.mux(self._stream.encode(None))

    def _encode_next(self) -> None:
        self._container.mux(self._stream.encode(self._waiting.popleft().result()))

    def _frame(self, pixels: Pixels, number: int) -> VideoFrame:
        frame = self._converted(pixels)
        frame.pts, frame.time_base = number, 1 / self._fps
        if self._palette is not None:
            # GIF counts hundredths of a second; each picture gets the nearest one.
            frame.pts = round(number * _GIF_TICKS / self._fps)
            frame.time_base = Fraction(1, _GIF_TICKS)
        return frame

    def _converted(self, pixels: Pixels) -> VideoFrame:
        from av import VideoFrame
        from av.video.reformatter import ColorRange, Colorspace

        if self._palette is not None:
            opaque = np.full((COLOURS, 1), 255, np.uint8)
            colours = np.concatenate([opaque, self._palette.colours], axis=1)
            indexed: Any = (self._palette.indexed(pixels), colours)  # a pair, for pal8 alone
            return VideoFrame.from_ndarray(indexed, format="pal8")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        if self._coding.pixels == "yuv420p":
            return frame.reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
        return frame.reformat(format=self._coding.pixels)


@contextmanager
def encoding(
    path: Path,
    coding: Coding,
    size: tuple[int, int],
    fps: Fraction,
    *,
    title: str = "",
    comment: str = "",
    palette: Palette | None = None,
) -> Iterator[Encoder]:
    """Open an encoder; the film is at `path` when the block ends well, and else it is not.

    Args:
        path: the film; its folder must exist.
        coding: from `coding_for`.
        size: width and height, pixels.
        fps: pictures a second.
        title, comment: kept in the file.
        palette: of a GIF, which needs one.

    Raises:
        EncodeError: the file cannot be written, or does not hold every picture when read back.
    """
    from av import FFmpegError

    with whole_file(path, EncodeError) as partial, ThreadPoolExecutor(1) as pool:
        try:
            with _container(partial, coding) as container:
                container.metadata.update({"title": title, "comment": comment})
                stream = _stream(container, coding, size, fps)
                encoder = Encoder(container, stream, coding, fps, palette, pool)
                yield encoder
                encoder.finish()
            _finish(partial, coding, encoder.pictures, comment)
        except FFmpegError as error:
            # Our own line comes from whole_file, which knows a full disk when it sees one.
            raise OSError(error.errno, error.strerror or str(error)) from None


@contextmanager
def _container(path: Path, coding: Coding) -> Iterator[OutputContainer]:
    import av

    container = av.open(str(path), "w", format=coding.container, options=dict(coding.wrapping))
    try:
        yield container
    except BaseException:
        # The file is to be thrown away: that its end cannot be written is no news.
        with suppress(av.FFmpegError, OSError, ValueError):
            container.close()
        raise
    container.close()


def _stream(
    container: OutputContainer, coding: Coding, size: tuple[int, int], fps: Fraction
) -> VideoStream:
    stream: Any = container.add_stream(coding.codec, rate=fps, options=dict(coding.options))
    stream.width, stream.height = size
    stream.pix_fmt = coding.pixels
    context = stream.codec_context
    if coding.container == "gif":
        context.time_base = Fraction(1, _GIF_TICKS)
    elif coding.pixels == "yuv420p":
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED
    elif coding.container != "webp":
        context.color_primaries, context.color_trc = _BT709, _SRGB_CURVE
        context.colorspace, context.color_range = _RGB_MATRIX, _FULL
    result: VideoStream = stream
    return result


def _finish(path: Path, coding: Coding, pictures: int, comment: str) -> None:
    """Read the file back, and give the formats a comment whose muxers write none."""
    found = _pictures_in(path, coding)
    # GIF and WebP may join pictures that are alike.
    alike = coding.container in ("gif", "webp")
    if found != pictures and not (alike and 1 <= found <= pictures):
        raise OSError(None, f"it holds {found} of {pictures} pictures")
    if comment and coding.container == "gif":
        _comment_gif(path, comment)
    elif comment and coding.container == "webp":
        _comment_webp(path, comment)


def _pictures_in(path: Path, coding: Coding) -> int:
    if coding.container in ("gif", "webp"):
        from PIL import Image

        with Image.open(path) as image:
            return int(getattr(image, "n_frames", 1))
    import av

    with av.open(str(path)) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))


def _comment_gif(path: Path, comment: str) -> None:
    """Put a comment block before the trailer. Source: GIF89a specification, §24."""
    content = comment.encode()
    pieces = [content[k : k + 255] for k in range(0, len(content), 255)]
    block = b"\x21\xfe" + b"".join(bytes([len(p)]) + p for p in pieces) + b"\0"
    with path.open("r+b") as file:
        file.seek(-1, 2)
        if file.read(1) == b"\x3b":
            file.seek(-1, 2)
            file.write(block + b"\x3b")


def _comment_webp(path: Path, comment: str) -> None:
    """Append the comment as XMP and say so in the header. Source: RFC 9649, §2.7."""
    words = comment.replace("&", "&amp;").replace("<", "&lt;")
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        'syntax-ns#"><rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description>'
        f"{words}</dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()
    with path.open("r+b") as file:
        head = file.read(21)
        if head[:4] != b"RIFF" or head[12:16] != b"VP8X":
            return
        file.seek(0, 2)
        file.write(b"XMP " + struct.pack("<I", len(packet)) + packet + b"\0" * (len(packet) % 2))
        end = file.tell()
        file.seek(4)
        file.write(struct.pack("<I", end - 8))
        file.seek(20)
        file.write(bytes([head[20] | 0x04]))
