"""Pictures: tones, seams, and files."""

from __future__ import annotations

from tests.mutations.fault import of

FRAMES = "tests/renders/test_frames.py"
PNG = "tests/renders/test_png.py"
GOLDEN = "tests/renders/test_golden.py"
MAP = "tests/renders/test_map.py"
TIFF = "tests/renders/test_tiff.py"
TONE = "tests/renders/test_tone.py"

FAULTS = (
    *(
        *of(
            "renders/reel.py",
            (
                "tone: fitted to the frames that are shown",
                "finished_values(store, quantity, (samples[0].split,), absent),",
                "(store.read(quantity, samples[0].split, f) for f in range(span[0], span[1] + 1)),",
                FRAMES,
            ),
        ),
        *of(
            "renders/map/tone.py",
            (
                "tone: infinities are fitted",
                "flat[np.isfinite(flat)]",
                "flat[~np.isnan(flat)]",
                TONE,
            ),
        ),
        *of(
            "renders/map/line.py",
            (
                "seams: strokes without a halo",
                "return math.ceil(self.width_px / 2 + 2)",
                "return 0",
                MAP,
            ),
        ),
        *of(
            "renders/map/holes.py",
            (
                "seams: hatching by the tile",
                "across = (x + y[:, None]) * math.sqrt(0.5)",
                "across = (x - x[0] + y[:, None]) * math.sqrt(0.5)",
                MAP,
            ),
        ),
        *of(
            "renders/map/palette.py",
            (
                "seams: dither by the tile",
                "lo, hi, lit, *self._tables, x, y, rgba)",
                "lo, hi, lit, *self._tables, 0, 0, rgba)",
                MAP,
            ),
            (
                "colours: lines beyond the palette's ends",
                "off = values[i] - levels[m, 0]",
                "off = min(values[i], levels[m, 0]) - levels[m, 0]",
                (MAP, GOLDEN),
            ),
        ),
        *of(
            "renders/png.py",
            (
                "png: bands out of their order",
                "for packed, raw_checksum, length in _bands(picture, spread):",
                "for packed, raw_checksum, length in reversed(list(_bands(picture, spread))):",
                PNG,
            ),
            (
                "png: the checksum of the last band",
                "checksum = adler32_combine(checksum, raw_checksum, length)",
                "checksum = raw_checksum",
                PNG,
            ),
            (
                "png: rows upside down in a band",
                "flat = pixels.reshape(height, 3 * width)",
                "flat = pixels[::-1].reshape(height, 3 * width)",
                PNG,
            ),
        ),
        *of(
            "renders/tiff.py",
            (
                "tiff: a level's rows one tile off",
                "row, top = self._rows[k], y % TILE",
                "row, top = self._rows[k], 0",
                TIFF,
            ),
            (
                "tiff: rows of a level not written",
                "if x + small.shape[1] < width or (bottom % TILE and bottom < height):",
                "if x + small.shape[1] < width or bottom % TILE:",
                TIFF,
            ),
        ),
        *of(
            "renders/whole.py",
            (
                "files: what fails is left lying",
                "partial.unlink(missing_ok=True)",
                "pass",
                (PNG, TIFF),
            ),
            (
                "files: an old one goes before the new one is whole",
                "        with _locked(partial) as handle:\n",
                "        path.unlink(missing_ok=True)\n        with _locked(partial) as handle:\n",
                (PNG, TIFF),
            ),
        ),
        *of(
            "renders/frames.py",
            (
                "frames: an unfinished picture is kept",
                'if noted is None or share < 1 or noted["share"] < 1:',
                "if noted is None:",
                FRAMES,
            ),
        ),
    ),
)
