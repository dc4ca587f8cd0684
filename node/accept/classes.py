"""Which storage classes the node takes.

By default every composite storage class of PS3.4 B.5, retired ones too: an archive that routes
whole studies counts a refused presentation context as an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cache

from pydicom._uid_dict import UID_dictionary

from node.errors import ConfigError

#: Younger than pydicom's dictionary.
_YOUNG = {
    "LabelMapSegmentationStorage": "1.2.840.10008.5.1.4.1.1.66.7",
    "HeightMapSegmentationStorage": "1.2.840.10008.5.1.4.1.1.66.8",
    "WaveformPresentationStateStorage": "1.2.840.10008.5.1.4.1.1.9.100.1",
    "WaveformAcquisitionPresentationStateStorage": "1.2.840.10008.5.1.4.1.1.9.100.2",
}
#: All composite storage classes stand below this root ...
_ROOT = "1.2.840.10008.5.1.4.1.1."
#: ... with these exceptions: objects that belong to no patient (PS3.4 GG.3), and security and
#: industry (DICOS, DICONDE), whose classes are not DICOM's own.
_NOT_HERE = re.compile(
    r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(?:200\.[137]|201\.1|501\.\d+(?:\.\d+)?|601\.\d+)\Z"
)


@cache
def storage_classes() -> Mapping[str, str]:
    """Return the standard storage classes: keyword -> SOP Class UID."""
    found = {
        keyword: uid
        for uid, (name, kind, _info, _retired, keyword) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and uid.startswith(_ROOT) and not _NOT_HERE.match(uid)
    }
    return found | _YOUNG


def chosen_classes(wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the SOP Class UIDs that a configuration asks for.

    Parameters
    ----------
    wanted
        UIDs or keywords; none: every standard storage class. A private class is named by its UID.

    Raises
    ------
    ConfigError
        Names every entry that is no storage class, and the most similar keyword.
    """
    known = storage_classes()
    if not wanted:
        return tuple(known.values())
    uids = set(known.values())
    complaints = []
    chosen = []
    for entry in wanted:
        is_private = re.fullmatch(r"[0-9.]{3,64}", entry) and not entry.startswith("1.2.840.10008.")
        if entry in known:
            chosen.append(known[entry])
        elif entry in uids or is_private:
            chosen.append(entry)
        else:
            near = difflib.get_close_matches(entry, [*known, *uids], n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            complaints.append(f"[accept.dimse] sop_classes: {entry!r} is no storage class{hint}")
    if complaints:
        raise ConfigError("\n".join(complaints))
    return tuple(dict.fromkeys(chosen))
