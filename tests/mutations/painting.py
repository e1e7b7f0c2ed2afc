"""Pictures: tones, seams, and files."""

from __future__ import annotations

from tests.mutations.fault import of

FILES = "tests/renders/test_files.py"
FRAMES = "tests/renders/test_frames.py"
GOLDEN = "tests/renders/test_golden.py"
MAP = "tests/renders/test_map.py"
PRINTED = "tests/renders/test_printed.py"
TONE = "tests/renders/test_tone.py"
VECTOR = "tests/renders/test_vector.py"

FAULTS = (
    *(
        *of(
            "renders/files/scratch.py",
            (
                "files: boxes a column off",
                "strip[:, box.x : box.right] = part",
                "strip[:, : box.width] = part",
                FILES,
            ),
            (
                "files: no room is looked for",
                "    if free < bytes_:",
                "    if False:",
                FILES,
            ),
        ),
        *of(
            "renders/film/reel.py",
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
            "renders/page/printed.py",
            (
                "seams: sheets are drawn no wider than the box",
                "return max((self._rim(artist) for artist, _ in self._pieces), default=2)",
                "return 0",
                PRINTED,
            ),
            (
                "seams: lines are passed over beside their boxes",
                "return box.grown(self._rim(artist))",
                "return box",
                PRINTED,
            ),
        ),
        *of(
            "renders/page/sheet.py",
            (
                "sheets: the user's own style",
                "matplotlib.rc_context(plain | _style(theme))",
                "matplotlib.rc_context(_style(theme))",
                PRINTED,
            ),
            (
                "files: type that journals refuse",
                '"pdf.fonttype": 42',
                '"pdf.fonttype": 3',
                VECTOR,
            ),
            (
                "files: paper on a transparent page",
                "figure.patch.set_alpha(0)",
                "figure.patch.set_alpha(1)",
                VECTOR,
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
            "renders/files/whole.py",
            (
                "files: what fails is left lying",
                "partial.unlink(missing_ok=True)",
                "pass",
                FILES,
            ),
            (
                "files: an old one goes before the new one is whole",
                "        with _locked(partial) as handle:\n",
                "        path.unlink(missing_ok=True)\n        with _locked(partial) as handle:\n",
                FILES,
            ),
        ),
        *of(
            "renders/film/frames.py",
            (
                "frames: an unfinished picture is kept",
                'if noted is None or share < 1 or noted["share"] < 1:',
                "if noted is None:",
                FRAMES,
            ),
        ),
    ),
)
