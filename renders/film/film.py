"""Films: a store's frames, and smooth moments between them, encoded as they are painted."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from pipeline.errors import LossatlasError
from renders.film.reel import Look, Reel, open_reel
from renders.spread import over_threads

if TYPE_CHECKING:
    from renders.film.encode import Pixels
    from renders.film.flight import Flight, Stand
    from renders.film.gif import Palette
    from renders.film.moment import Moment
    from renders.film.scene import Scene
    from renders.picture import Picture

FULL_SIZE = (1920, 1080)
SMALL_SIZE = (960, 540)
"""Of looping .webp and .gif, which are for pages and not for screens."""
ORBIT_SECONDS = 12.0
_SAMPLES = 6
_BAND_ROWS = 128

OnProgress = Callable[[int, int], None]


class FilmError(LossatlasError):
    """A film that cannot be made as asked."""


@dataclass(frozen=True)
class FilmFacts:
    """What was made.

    Attributes:
        path: of the film.
        width, height, fps: of its pictures.
        codec: FFmpeg's name.
        pictures: in the film, those that stand counted as often as they are shown.
        computed, interpolated: how many different pictures are frames of the store, and moments
            between them.
        unfinished: how many frames show tiles that are not computed yet.
        left_out: frames in the span that are not shown.
        duration: of the film, seconds.
        bytes: of the file.
        seconds: it took.
        tone: of all of it.
        preview: whether frames are predicted that will change while a refinement goes on.
        remarks: what its maker should hear.
    """

    path: str
    width: int
    height: int
    fps: float
    codec: str
    pictures: int
    computed: int
    interpolated: int
    unfinished: int
    left_out: int
    duration: float
    bytes: int
    seconds: float
    tone: dict[str, Any]
    preview: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timing:
    """How many pictures what fills.

    Attributes:
        frames: how many computed frames there are.
        between: moments after each but the last, one picture each.
        stand: pictures that a computed frame fills.
        hold: pictures more for the first and for the last frame.
    """

    frames: int
    between: int = 0
    stand: int = 1
    hold: tuple[int, int] = (0, 0)

    @property
    def moments(self) -> int:
        return self.frames + (self.frames - 1) * self.between

    @property
    def pictures(self) -> int:
        return self.frames * self.stand + (self.frames - 1) * self.between + sum(self.hold)

    def repeats(self, moment: int) -> int:
        """How many pictures the moment with this index fills."""
        if moment % (self.between + 1):
            return 1
        ends = self.hold[0] * (moment == 0) + self.hold[1] * (moment == self.moments - 1)
        return self.stand + ends

    def grown(self, picture: int) -> float:
        """How far a line that grows has come in a picture, in [0, 1]; at the holds it stands."""
        steps = self.pictures - sum(self.hold) - 1
        return min(max((picture - self.hold[0]) / steps, 0.0), 1.0) if steps > 0 else 1.0

    def at(self, frame: int) -> int:
        """The picture in which a computed frame is first seen."""
        return frame * (self.stand + self.between) + (self.hold[0] if frame else 0)


def export_film(
    store_url: str,
    out_path: str | Path,
    *,
    fps: float | Fraction = 30,
    size: tuple[int, int] | None = None,
    hold: float | tuple[float, float] = 1.0,
    each: float = 0.0,
    interpolate: int = 0,
    flight: Flight | None = None,
    grow: bool = False,
    first: int | None = None,
    last: int | None = None,
    finished_only: bool = False,
    lossless: bool = False,
    quality: float | None = None,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
    **look: Unpack[Look],
) -> FilmFacts:
    """Make a film of a store's frames.

    Pictures are painted in parallel a few ahead of the encoder; memory does not grow with the
    film. The file appears under its name when it is complete; an interrupted export leaves none.

    Moments in between are of interpolated surfaces, not of computed ones. The picture says so
    beside the frame's number, and the file's comment, a JSON object, lists in which pictures the
    computed frames are.

    Args:
        store_url: the render's store, finished or not; frames of which nothing is finished are
            left out, others are hatched where they are not.
        out_path: .mp4, .mov or .mkv (H.264), looping .webp or .gif; in an existing folder.
        fps: pictures a second.
        size: width and height, pixels; None is 1920 × 1080, and 960 × 540 for .webp and .gif.
        hold: seconds that the first and the last frame stand longer, or one number for both.
        each: seconds that every computed frame stands; at least one picture.
        interpolate: how many moments to show between two frames.
        flight: the landscape in the round, and how the camera moves; None is a map. A store of
            one frame then makes a film too, of `each` seconds, `ORBIT_SECONDS` by default.
        grow: lines of marks grow over the film from their first mark to their last, all at the same
            pace. A store of one frame then makes a film too, as with a flight.
        first, last: which frames, both included; None is the store's own end.
        finished_only: leave frames out that are not complete.
        lossless: a master, every pixel as painted: FFV1 in .mkv, else H.264 in RGB.
        quality: see `renders.film.encode.coding_for`.
        threads: how many pictures are painted at once; the cores by default.
        on_progress: called with how many pictures are encoded, and how many there will be.
        look: quantity, split, theme, palette, tone and so on; see `renders.film.reel.Look`.

    Raises:
        LossatlasError: anything asked for that cannot be had; the message names the cure.
    """
    start = time.monotonic()
    from renders.files.whole import checked_place
    from renders.film.encode import check_size, coding_for, encoding
    from renders.page.words import title_of

    path = checked_place(Path(out_path), FilmError)
    if path.is_dir():
        raise FilmError(f"{path} is a folder: wanted the name of a file")
    coding = coding_for(path, lossless, quality)
    size = size or (SMALL_SIZE if coding.container in ("webp", "gif") else FULL_SIZE)
    check_size(size, coding, path)
    rate = _rate(fps, coding.container)
    _at_least("interpolate", interpolate, 0)
    _at_least("threads", threads, 1)
    stands = _seconds("each", each), *_holds(hold)
    least = 1.0 if finished_only else 1e-9
    reel = open_reel(
        store_url,
        size,
        first=first,
        last=last,
        least=least,
        blends=interpolate > 0,
        flat=flight is None,
        grows=grow,
        **look,
    )
    if flight is None and not grow:
        _refuse_stills(reel, finished_only)
    elif len(reel.frames) == 1 and each == 0:
        stands = (ORBIT_SECONDS, *stands[1:])
    stand, *ends = (round(seconds * rate) for seconds in stands)
    timing = Timing(len(reel.frames), interpolate, max(1, stand), (ends[0], ends[1]))
    with encoding(
        path,
        coding,
        size,
        rate,
        title=title_of(reel.scene.facts, reel.scene.style),
        comment=json.dumps(_about(reel, timing, rate, flight), ensure_ascii=False),
        palette=_palette(reel, flight) if coding.container == "gif" else None,
    ) as encoder:
        for pixels in _pictures(reel, timing, flight, threads):
            encoder.add(pixels)
            if on_progress is not None:
                on_progress(encoder.pictures, timing.pictures)
    return FilmFacts(
        str(path),
        *size,
        float(rate),
        coding.codec,
        timing.pictures,
        timing.frames,
        timing.moments - timing.frames,
        sum(reel.share(frame) < 1 for frame in reel.frames),
        reel.asked - len(reel.frames),
        float(timing.pictures / rate),
        path.stat().st_size,
        time.monotonic() - start,
        reel.tone.to_dict(),
        reel.scene.facts.preview,
        reel.remarks,
    )


def _pictures(
    reel: Reel, timing: Timing, flight: Flight | None, threads: int | None
) -> Iterator[Pixels]:
    """The painted pictures in order, uint8 (height, width, 3), those that stand again and again."""
    from renders.film.moment import moments

    source = moments(reel.surfaces(), timing.between, reel.tone)
    spread = over_threads(threads)
    if flight is not None:
        from renders.film.flight import stand_for

        stand = stand_for(reel.scene, flight, reel.surfaces())
        yield from spread(_painted_picture, _flown(stand, source, timing))
        return
    if reel.scene.grows:
        yield from spread(_painted_picture, _grown(reel.scene, source, timing))
        return
    painted = spread(lambda moment: _painted(reel, moment), source)
    for index, pixels in enumerate(painted):
        for _ in range(timing.repeats(index)):
            yield pixels


def _flown(stand: Stand, source: Iterable[Moment], timing: Timing) -> Iterator[Picture]:
    """Every picture of a flight; a model that stands is lit once, though the camera moves on."""
    number, last = 0, max(1, timing.pictures - (not stand.flight.loops))
    for index, moment in enumerate(source):
        terrain = stand.modelled(moment.surface)
        for _ in range(timing.repeats(index)):
            shown = moment
            if stand.scene.grows:
                shown = replace(moment, grown=timing.grown(number))
            yield stand.picture(shown, terrain, number / last)
            number += 1


def _grown(scene: Scene, source: Iterable[Moment], timing: Timing) -> Iterator[Picture]:
    """Every picture of a film whose lines grow; a landscape that stands is painted once."""
    from renders.film.picture import landscape, scene_picture
    from renders.picture import painted_once

    number = 0
    for index, moment in enumerate(source):
        repeats = timing.repeats(index)
        model = landscape(scene, moment.surface)
        layer = painted_once(model) if repeats > 1 else model
        for _ in range(repeats):
            yield scene_picture(scene, replace(moment, grown=timing.grown(number)), (layer,))
            number += 1


def _painted(reel: Reel, moment: Moment) -> Pixels:
    from renders.film.picture import scene_picture

    return _painted_picture(scene_picture(reel.scene, moment))


def _painted_picture(picture: Picture) -> Pixels:
    import numpy as np

    from renders.picture import paint

    pixels = np.empty((picture.height, picture.width, 3), dtype=np.uint8)
    # Bands stay in the processor's cache.
    for box in picture.box.tiles(picture.width, _BAND_ROWS):
        pixels[box.y : box.bottom] = paint(picture, box)
    return pixels


def _palette(reel: Reel, flight: Flight | None) -> Palette:
    """The colours of a few frames from all over the film."""
    from renders.film.gif import Palette
    from renders.film.moment import Moment

    step = -(-len(reel.frames) // _SAMPLES)
    chosen = sorted({*reel.frames[::step], reel.frames[-1]})
    if flight is not None:
        from renders.film.flight import stand_for

        stand = stand_for(reel.scene, flight, reel.surfaces())
        seen = []
        for part in (0.0, 0.25, 0.5, 0.75):
            frame = chosen[int(part * len(chosen))]
            moment = Moment(reel.surface(frame), frame, frame)
            terrain = stand.modelled(moment.surface)
            seen.append(_painted_picture(stand.picture(moment, terrain, part)))
        return Palette.of(seen)
    return Palette.of([_painted(reel, Moment(reel.surface(f), f, f)) for f in chosen])


def _about(reel: Reel, timing: Timing, rate: Fraction, flight: Flight | None) -> dict[str, Any]:
    """What the file says of itself."""
    scene = reel.scene
    flown: dict[str, Any] = {} if flight is None else {"flight": flight.to_dict()}
    flown |= {"grows": True} if scene.grows else {}
    return {
        **flown,
        "lossatlas": scene.facts.version,
        "fingerprint": reel.fingerprint,
        "name": scene.facts.name,
        "quantity": scene.quantity,
        "split": scene.split,
        "fps": float(rate),
        "pictures": timing.pictures,
        "frames_computed": timing.frames,
        "frames_interpolated": timing.moments - timing.frames,
        "interpolated_between_each_two": timing.between,
        "frames": list(reel.frames),
        "frames_unfinished": [frame for frame in reel.frames if reel.share(frame) < 1],
        "computed_at": [timing.at(k) for k in range(timing.frames)],
    }


def _refuse_stills(reel: Reel, finished_only: bool) -> None:
    if len(reel.frames) > 1:
        return
    url, frame = reel.store.url, reel.frames[0]
    if reel.store.frames == 1:
        found, cure = "one frame", "render the states of a curve (plane.frames)"
    elif reel.asked == 1:
        found, cure = "one frame", "ask for more"
    else:
        found = "one complete frame" if finished_only else "one finished frame"
        cure = f"run `lossatlas resume {shlex.quote(url)}`"
    raise FilmError(
        f"{url} has {found} of those asked for: wanted at least two for a film; {cure}, or draw it "
        f"with `lossatlas export poster --frame {frame}`"
    )


def _rate(fps: float | Fraction, container: str) -> Fraction:
    if not (math.isfinite(fps) and 0.01 <= fps <= 240):
        raise FilmError(f"fps is {fps:g}: wanted 0.01 to 240 pictures a second")
    if container == "gif" and fps > 50:
        raise FilmError(f"fps is {fps:g}: a GIF shows at most 50 pictures a second; choose less")
    return Fraction(fps).limit_denominator(1001)


def _holds(hold: float | tuple[float, float]) -> tuple[float, float]:
    ends = hold if isinstance(hold, tuple) else (hold, hold)
    return _seconds("hold", ends[0]), _seconds("hold", ends[1])


def _seconds(what: str, value: float) -> float:
    if not (math.isfinite(value) and 0 <= value <= 3600):
        raise FilmError(f"{what} is {value:g}: wanted seconds, 0 to 3,600")
    return value


def _at_least(what: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise FilmError(f"{what} is {value}: wanted {least} or more")
