"""What a picture file says of itself: resolution, colours, title and description.

Titles go into an XMP packet, because libvips writes PNG's text as Latin-1. The packet is ASCII,
with character references for everything else, so that every reader sees the same words.

Source: ISO 16684-1:2019 (XMP), §7; ISO 15076-1:2010 (ICC), §7.2.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from xml.sax.saxutils import escape

import pyvips

KEEP = "icc|xmp|other"
"""What libvips is to write of it: all but an Exif block, which holds nothing more."""


def labelled(image: pyvips.Image, dpi: float, text: Mapping[str, str]) -> pyvips.Image:
    """`image` with its resolution, the sRGB profile, and `text`.

    Args:
        image: the pixels.
        dpi: pixels an inch.
        text: of Title, Description and Software what there is.
    """
    words = {key: _printable(value) for key, value in text.items()}
    per_mm = dpi / 25.4
    image = image.copy(xres=per_mm, yres=per_mm)
    blob, string = pyvips.GValue.blob_type, pyvips.GValue.gstr_type
    image.set_type(blob, "icc-profile-data", srgb_profile())
    image.set_type(blob, "xmp-data", xmp(words))
    software = words.get("Software", "lossatlas").encode("ascii", "replace").decode()
    image.set_type(string, "png-comment-0-Software", software)
    if "Description" in words:  # TIFF's own tag
        image.set_type(string, "image-description", words["Description"])
    return image


def xmp(text: Mapping[str, str]) -> bytes:
    """An XMP packet of Title, Description and Software, in ASCII."""
    tool = escape(text.get("Software", "lossatlas"))
    parts = [f"<xmp:CreatorTool>{tool}</xmp:CreatorTool>"]
    for tag, key in (("title", "Title"), ("description", "Description")):
        if key in text:
            item = f'<rdf:li xml:lang="x-default">{escape(text[key])}</rdf:li>'
            parts.append(f"<dc:{tag}><rdf:Alt>{item}</rdf:Alt></dc:{tag}>")
    packet = (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        f'xmlns:xmp="http://ns.adobe.com/xap/1.0/">{"".join(parts)}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )
    return packet.encode("ascii", "xmlcharrefreplace")


@functools.cache
def srgb_profile() -> bytes:
    """The sRGB ICC profile that Little CMS makes, with its creation date set to a fixed one."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    profile[84:100] = bytes(16)  # the profile id, a digest that would no longer match
    return bytes(profile)


def _printable(text: str) -> str:
    # XML has no place for control characters, not even as references.
    return "".join(c if c.isprintable() else " " for c in text)
