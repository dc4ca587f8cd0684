"""Ask a destination whether it is there: C-ECHO (PS3.4 A)."""

from __future__ import annotations

from node.config import DimseDestination
from node.send.guard import GuardedAE

VERIFICATION = "1.2.840.10008.1.1"
SUCCESS = 0x0000  # PS3.7 C


def echo(destination: DimseDestination, calling_ae: str) -> str:
    """Return "" when the destination answers a C-ECHO, else a sentence that says what went wrong."""
    ae = GuardedAE(calling_ae)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = destination.timeout_s
    ae.add_requested_context(VERIFICATION)
    try:
        association = ae.associate(destination.host, destination.port, ae_title=destination.ae_title)
    except OSError as error:  # the name cannot be resolved
        return f"no answer: {error.strerror}"
    if not association.is_established:
        if association.is_rejected:
            return f"it rejects the association; does it know the AE title {calling_ae}?"
        return "no answer; is it running, and are host and port right?"
    try:
        answer = association.send_c_echo()
        status = answer.get("Status") if answer else None
        return "" if status == SUCCESS else "it took the association but did not answer the C-ECHO"
    finally:
        association.release()
