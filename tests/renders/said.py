"""What a picture file says of itself, read by another library than wrote it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

_DC = "{http://purl.org/dc/elements/1.1/}"
_LI = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"


def said(path: Path) -> dict[str, str]:
    """Title and Description out of the XMP packet of a PNG or TIFF."""
    with Image.open(path) as image:
        packet = image.info.get("XML:com.adobe.xmp") or image.info["xmp"]
    tree = ElementTree.fromstring(packet)
    found = {tag: tree.find(f".//{_DC}{tag}//{_LI}") for tag in ("title", "description")}
    return {tag.capitalize(): item.text or "" for tag, item in found.items() if item is not None}
