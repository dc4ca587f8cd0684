"""What an archive may be asked to match: in [sources.<name>.watch] match, and by ``radnode pull --match``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Final

from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword

LONGEST_ASKED: Final = 1024  #: characters

#: Sequences and bulk data; nobody matches by these (PS3.4 C.2.2.2).
_NOT_ASKED = frozenset("SQ OB OD OF OL OV OW UN AT".split())


def misfits(match: Mapping[str, str]) -> Iterator[str]:
    """Yield what cannot be asked for: an unknown keyword, a value that would be taken for another."""
    for keyword, value in match.items():
        if not _is_asked(keyword):
            yield f"{keyword!r} is no DICOM keyword that an archive can be asked for{_nearest(keyword)}"
        elif not value.isprintable() or len(value) > LONGEST_ASKED:
            yield f"what {keyword} is to match has control characters, or is too long"


def _is_asked(keyword: str) -> bool:
    tag = tag_for_keyword(keyword)
    # 0000 is of commands and 0002 of files (PS3.5 7.1): no object has these.
    return tag is not None and tag >> 16 not in (0x0000, 0x0002) and dictionary_VR(tag)[:2] not in _NOT_ASKED


def _nearest(keyword: str) -> str:
    if tag_for_keyword(keyword) is not None:
        return ""  # it was meant
    known = {name.lower(): name for name in keyword_dict if _is_asked(name)}
    near = difflib.get_close_matches(keyword.lower(), known, n=1)
    return f"; did you mean {known[near[0]]!r}?" if near else ""
