"""What the benchmark of pictures says where it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_machine_without_ffmpeg_is_told_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gigapixel", "--side", "64"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "gigapixel: no ffmpeg on the PATH; wanted one with libx264, which the case x264 measures. "
        "Install it, on Debian with apt-get install ffmpeg\n"
    )
