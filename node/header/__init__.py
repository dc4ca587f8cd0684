"""What a file says before its pixel data, read at bounded cost from whatever a sender may have written.

read     a header, and the place of the pixel data after it
value    values of a header as plain Python
"""

from __future__ import annotations

from node.header.read import Parsed, PixelElement, parse, read_header, read_headers

__all__ = ["Parsed", "PixelElement", "parse", "read_header", "read_headers"]
