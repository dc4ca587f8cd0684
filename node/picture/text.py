"""Letters in pictures: one font with wide coverage that travels with the node.

DejaVu Sans knows Latin, Greek, Cyrillic, Hebrew and more, no Chinese, Japanese or Korean; what it has
no sign for is told in other words (`printable`). Laid out without the operating system's libraries,
so that the same words give the same pixels.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import ImageFont

FONT_FOLDER = Path(__file__).parent / "fonts"
REGULAR = FONT_FOLDER / "DejaVuSans.ttf"
BOLD = FONT_FOLDER / "DejaVuSans-Bold.ttf"
ELLIPSIS = "…"
_NO_SIGN = "\uffff"  # not a character, so no font has a sign for it


@cache
def font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font at a size."""
    return ImageFont.truetype(BOLD if bold else REGULAR, size_px, layout_engine=ImageFont.Layout.BASIC)


@cache
def _has_sign(character: str) -> bool:
    drawn, unknown = (bytes(font(24).getmask(c)) for c in (character, _NO_SIGN))
    return drawn != unknown or character.isspace()


def printable(text: str, instead: str = "") -> str:
    """Return the text, or other words where the font lacks a sign of it.

    Without other words each such sign becomes a question mark.
    """
    text = " ".join(text.split())
    if all(map(_has_sign, text)):
        return text
    if instead:
        return printable(instead)
    return "".join(c if _has_sign(c) else "?" for c in text)


def fit(text: str, pen: ImageFont.FreeTypeFont, width_px: float) -> str:
    """Return as much of one line of text as there is room for."""
    if pen.getlength(text) <= width_px:
        return text
    kept = len(text)
    while kept and pen.getlength(text[:kept] + ELLIPSIS) > width_px:
        kept -= 1
    return text[:kept].rstrip() + ELLIPSIS


def wrap(text: str, pen: ImageFont.FreeTypeFont, width_px: float) -> list[str]:
    """Return the text in lines; a word that is too long for a line is cut."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and pen.getlength(longer) <= width_px:
            lines[-1] = longer
        else:
            lines.append(fit(word, pen, width_px))
    return lines
