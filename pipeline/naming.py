"""Names that become files, keys and lines: of splits, frames, anchors, quantities and runs.

They come from specs and from stores, which others may have written. Each is checked once, when it
is read; text that was not checked is made harmless when it is printed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from pipeline.errors import LossatlasError

_LONGEST_BYTES = 200
_WANTED = "wanted letters, digits and punctuation, such as train or test-2"
OF_A_FILE = "wanted a file name that can be printed and drawn, such as epoch-20.pt. Rename the file"
"""The end of a message, where the names are those of checkpoints."""
_UNUSUAL = re.compile(r"[^ -~]")
_JOINERS = "\u200c\u200d"  # of Persian, of Indian scripts, and of emoji


class NamingError(LossatlasError):
    """A name that cannot be one of a file, a key, or a line."""


def fault(name: object) -> str | None:
    """What keeps `name` from being used as one, or None.

    Letters of every script, digits, spaces inside and punctuation are fine. Slashes, backslashes,
    a leading dot, spaces at the ends, and characters that are not seen or that move the cursor or
    turn the direction of writing are not, nor are more than 200 bytes in UTF-8.
    """
    if not isinstance(name, str) or not name:
        return f"{name!r} is no name"
    if any(_is_hidden(character) for character in name):
        return f"'{shown(name)}' has a control character in it"
    if "/" in name or "\\" in name:
        return f"'{name}' has a slash in it"
    if name[0] == "." or name != name.strip():
        return f"'{name}' begins with a dot, or with or ends in a space"
    if len(name.encode()) > _LONGEST_BYTES:
        return f"{name[:20]}… has {len(name.encode()):,} bytes, and {_LONGEST_BYTES} are the most"
    return None


def require(names: Iterable[object], what: str, wanted: str = _WANTED) -> None:
    """Refuse texts that cannot be names.

    Args:
        names: to look at.
        what: they are, with its place: `split of runs/x.zarr`.
        wanted: the end of the message.

    Raises:
        NamingError: the first that is none.
    """
    for name in names:
        found = fault(name)
        if found is not None:
            raise NamingError(f"{what}: {found}; {wanted}")


def shown(text: str, keep: str = "") -> str:
    r"""`text` for a terminal: characters that would steer it are written out, such as `\u001b`.

    Args:
        text: anybody's.
        keep: control characters to leave as they are, such as the ends of lines.
    """

    def written(found: re.Match[str]) -> str:
        character = found[0]
        if character in keep or not _is_hidden(character):
            return character
        code = ord(character)
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return _UNUSUAL.sub(written, text)


def _is_hidden(character: str) -> bool:
    """Controls (C0, C1), format (bidi, tags, zero width), surrogates, and ends of lines."""
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS
