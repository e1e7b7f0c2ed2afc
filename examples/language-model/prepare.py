"""Write token files from the documentation of lossatlas: bytes/train.bin and bytes/test.bin.

    python examples/language-model/prepare.py

A token is one ASCII byte, kept as uint16 as most code that trains language models does.
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def main():
    pages = sorted((HERE.parents[1] / "docs").rglob("*.md"))
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    ids = np.frombuffer(text.encode("ascii", "ignore"), dtype=np.uint8).astype(np.uint16)
    (HERE / "bytes").mkdir(exist_ok=True)
    cut = len(ids) * 9 // 10
    ids[:cut].tofile(HERE / "bytes" / "train.bin")
    ids[cut:].tofile(HERE / "bytes" / "test.bin")


if __name__ == "__main__":
    main()
