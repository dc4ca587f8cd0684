"""Whether a Patient ID tells one patient from another."""

from __future__ import annotations

from typing import Final

#: What scanners and people write where there is no number: capitals and digits, without the rest.
_SAID_OF_NOBODY: Final = frozenset(
    """
    NONE NULL NIL NA NOID NOPID NOPATIENTID NOTAVAILABLE NOTGIVEN UNKNOWN UNKNOWNID UNK UNBEKANNT INCONNU
    ID PATIENT PATIENTID PATID PID MRN DEFAULT DUMMY TEST TESTPATIENT EMERGENCY NOTFALL TRAUMA UNIDENTIFIED
    1234 12345 123456 1234567 12345678 123456789 1234567890
    """.split()
)
_NAMELESS: Final = "ANON"  #: Anonymous, anonymised, ANON-17 ...: what one tool counts, another counts too


def is_placeholder(patient_id: str) -> bool:
    """Return whether an ID says nothing, so that many patients may have it: "", "0", "999", "UNKNOWN"."""
    said = "".join(one for one in patient_id.upper() if one.isalnum())
    return len(set(said)) < 2 or said in _SAID_OF_NOBODY or said.startswith(_NAMELESS)
