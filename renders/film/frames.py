"""Frame sequences: numbered PNG files of a film's frames, made in parallel and resumable.

Every picture is written whole and then noted in the manifest beside it. A frame is made again
unless the manifest says that it was made in the same way, from a complete frame of the same render,
and its file is still as long as it was then.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Unpack

from pipeline.errors import LossatlasError
from renders.files.whole import sweep, whole_file
from renders.film.reel import Look, Reel, open_reel
from renders.source.marks import MarkGroup
from renders.spread import over_threads

MANIFEST = "frames.json"
PICTURES = 4
"""Rises whenever the same settings give other pixels."""
_SECONDS_BETWEEN_NOTES = 1.0
_DPI = 96.0

OnProgress = Callable[[int, int], None]


class FramesError(LossatlasError):
    """A sequence of frames that cannot be made as asked."""


@dataclass(frozen=True)
class FramesFacts:
    """What is in the folder now.

    Attributes:
        folder: where.
        width, height: of the pictures, pixels.
        frames: how many were asked for and are there.
        made, kept: how many of them are new, and how many were there already.
        unfinished: how many show tiles that are not computed yet; made again next time.
        left_out: frames in the span that are not shown.
        seconds: it took.
        tone: of all of them.
        preview: whether frames are predicted that will change while a refinement goes on.
    """

    folder: str
    width: int
    height: int
    frames: int
    made: int
    kept: int
    unfinished: int
    left_out: int
    seconds: float
    tone: dict[str, Any]
    preview: bool = False
    remarks: tuple[str, ...] = ()


@dataclass
class _Manifest:
    """Which pictures are in a folder, and how they were made."""

    path: Path
    digest: str
    about: Mapping[str, Any]
    frames: dict[str, dict[str, Any]] = field(default_factory=dict)
    written: float = -1e9

    def holds(self, name: str, share: float) -> bool:
        """Whether the picture is there, whole, as it would be made now."""
        noted = self.frames.get(name)
        if noted is None or share < 1 or noted["share"] < 1:
            return False
        try:
            return (self.path.parent / name).stat().st_size == int(noted["bytes"])
        except OSError:
            return False

    def note(self, name: str, share: float, bytes_: int) -> None:
        self.frames[name] = {"share": share, "bytes": bytes_}
        if time.monotonic() - self.written > _SECONDS_BETWEEN_NOTES:
            self.write()

    def write(self) -> None:
        content = {**self.about, "digest": self.digest, "frames": dict(sorted(self.frames.items()))}
        with whole_file(self.path, FramesError) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        self.written = time.monotonic()


def export_frames(
    store_url: str,
    folder: str | Path,
    *,
    size: tuple[int, int] = (1920, 1080),
    first: int | None = None,
    last: int | None = None,
    finished_only: bool = False,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
    **look: Unpack[Look],
) -> FramesFacts:
    """Draw a store's frames as `frame-00000.png` and so on, numbered as in the store.

    Pictures that are there already, made in the same way from complete frames, are kept; parts of
    a sequence may be made apart and by several machines, each into a folder of its own.

    Args:
        store_url: the render's store, finished or not.
        folder: made if it is missing; other files in it are left alone.
        size: width and height, pixels.
        first, last: which frames, both included; None is the store's own end.
        finished_only: leave frames out that are not complete, instead of hatching what is missing.
        workers: how many pictures are painted at once; the cores by default.
        on_progress: called with how many pictures are there, and how many there will be.
        look: quantity, split, theme, palette, tone and so on; see `renders.film.reel.Look`.

    Raises:
        LossatlasError: anything asked for that cannot be had; the message names the cure.
    """
    start = time.monotonic()
    place = _checked_folder(Path(folder))
    if workers is not None and workers < 1:
        raise FramesError(f"workers is {workers}: wanted at least one")
    reel = open_reel(
        store_url,
        size,
        first=first,
        last=last,
        least=1.0 if finished_only else 0.0,
        whole=True,
        **look,
    )
    try:
        place.mkdir(exist_ok=True)
        sweep(place, rf"frame-\d+\.png|{re.escape(MANIFEST)}")
    except OSError as error:
        raise FramesError(f"{place} cannot be made ({error.strerror}): choose another") from None
    manifest = _opened(place / MANIFEST, reel)
    names = {frame: f"frame-{frame:05d}.png" for frame in reel.frames}
    todo = [f for f in reel.frames if not manifest.holds(names[f], reel.share(f))]
    kept = len(names) - len(todo)
    # A manifest that no longer speaks of old pictures comes before the first new one.
    manifest.write()
    try:
        for done, (frame, bytes_) in enumerate(_drawn(reel, todo, names, place, workers), start=1):
            manifest.note(names[frame], reel.share(frame), bytes_)
            if on_progress is not None:
                on_progress(kept + done, len(names))
    finally:
        manifest.write()
    return FramesFacts(
        str(place),
        *size,
        len(names),
        len(todo),
        kept,
        sum(reel.share(frame) < 1 for frame in reel.frames),
        reel.asked - len(names),
        time.monotonic() - start,
        reel.tone.to_dict(),
        reel.scene.facts.preview,
        reel.remarks,
    )


def _drawn(
    reel: Reel, todo: list[int], names: Mapping[int, str], place: Path, workers: int | None
) -> Iterator[tuple[int, int]]:
    """Each frame and its file's size, in order, as they are written."""

    def draw(frame: int) -> tuple[int, int]:
        return frame, _draw(reel, frame, place / names[frame])

    return over_threads(workers)(draw, todo)


def _draw(reel: Reel, frame: int, path: Path) -> int:
    from renders.files.image import write_png
    from renders.film.moment import Moment
    from renders.film.picture import scene_picture
    from renders.page.words import title_of

    scene = reel.scene
    called = f"{scene.labels.heading.lower()} {scene.labels.names[frame]}"
    picture = scene_picture(scene, Moment(reel.surface(frame), frame, frame))
    words = {
        "Software": f"lossatlas {scene.facts.version}",
        "Title": title_of(scene.facts, scene.style),
        "Description": f"frame {frame} of {reel.store.frames}: {called}",
    }
    return write_png(picture, path, dpi=_DPI, text=words, spread=over_threads(1))


def _opened(path: Path, reel: Reel) -> _Manifest:
    """The folder's manifest; empty where there is none, or one of pictures made otherwise."""
    scene = reel.scene
    about = {
        "lossatlas": scene.facts.version,
        "store": reel.fingerprint,
        "size": [scene.stage.width, scene.stage.height],
        "quantity": scene.quantity,
        "split": scene.split,
        "style": asdict(scene.style),
        "tone": reel.tone.to_dict(),
    }
    made_of = {
        **about,
        "pictures": PICTURES,
        "facts": scene.facts.name,
        "network": scene.facts.network,
        "labels": asdict(scene.labels),
        "inks": [scene.inks.pen.tolist(), scene.inks.casing.tolist()],
        "sides": dict(scene.sides),
    }
    shown = [a.shown for a in reel.store.anchors()]
    made_of["words"] = [shown, scene.facts.measures.get(scene.quantity), scene.facts.own_losses]
    if scene.groups:
        made_of["marks"] = [_digest(group) for group in scene.groups]
    if scene.facts.refinement:
        # A preview goes on, and so may what was finished: to a tighter tolerance.
        made_of["refinement"] = scene.facts.refinement
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    frames: dict[str, dict[str, Any]] = {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["digest"] == digest:
            frames = {
                name: {"share": float(noted["share"]), "bytes": int(noted["bytes"])}
                for name, noted in found["frames"].items()
            }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        frames = {}
    return _Manifest(path, digest, about, frames)


def _digest(group: MarkGroup) -> str:
    """Of everything about a group that pictures show; its places follow from the render."""
    own = {name: values.tolist() for name, values in group.own.items()}
    look = group.label, group.glyph, group.colour, group.line, group.names, group.numbers.tolist()
    shown = json.dumps([look, own, group.finished.tolist()])
    return hashlib.sha256(shown.encode()).hexdigest()


def _checked_folder(folder: Path) -> Path:
    if folder.exists() and not folder.is_dir():
        raise FramesError(f"{folder} is a file: wanted a folder for the frames; choose another")
    if not folder.exists() and not folder.parent.is_dir():
        raise FramesError(f"{folder.parent} is no folder: wanted one to make {folder.name} in")
    if not os.access(folder if folder.exists() else folder.parent, os.W_OK):
        raise FramesError(f"{folder} cannot be written: wanted permission; choose another")
    return folder
