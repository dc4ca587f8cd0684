"""Why a TLS handshake with a peer failed, and what to do about it; at every kind of connection."""

from __future__ import annotations

import ssl

#: X509_V_ERR_... of OpenSSL -> what it means and the remedy.
_CERTIFICATE = {
    9: "its certificate does not hold yet; is the clock right, here and there?",
    10: "its certificate has ended; have it renewed there.",
    18: "it signed its certificate itself; name that in [tls] authorities if it is the right one.",
    19: "nobody whom we believe signed its certificate; name its authority in [tls] authorities.",
    20: "nobody whom we believe signed its certificate; name its authority in [tls] authorities.",
    21: "nobody whom we believe signed its certificate; name its authority in [tls] authorities.",
    23: "its certificate was revoked; have it replaced there.",
    62: "its certificate is for another host name; use the name that stands in it, or have it renewed.",
    64: "its certificate is not for this address; use the name that stands in it, or have it renewed.",
}
#: What OpenSSL calls the reason, or a part of it -> the same.
_HANDSHAKE = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS there; compare the port, and whether it is to be TLS.",
    "UNEXPECTED_EOF": "it hangs up on TLS; does it speak TLS there, and does it take our certificate?",
    "CERTIFICATE_REQUIRED": "it wants to see our certificate; set [tls] certificate and key.",
    "UNKNOWN_CA": "it does not believe who signed our certificate; have our authority made known to it.",
    "BAD_CERTIFICATE": "it does not take our certificate; [tls] certificate must be one that it knows.",
    "CERTIFICATE_EXPIRED": "it says that our certificate has ended; have [tls] certificate renewed.",
    "CERTIFICATE_UNKNOWN": "it does not take our certificate; [tls] certificate must be one that it knows.",
    "HANDSHAKE_FAILURE": "it takes no cipher of ours, or wants to see [tls] certificate, and there is none.",
    "PROTOCOL": "it speaks only versions of TLS that are broken; have TLS 1.2 or 1.3 switched on there.",
}


def distrust(error: ssl.SSLError) -> str:
    """Return why there is no TLS connection, as the second half of a sentence, with the remedy."""
    if isinstance(error, ssl.SSLCertVerificationError):
        other = "its certificate cannot be trusted; have those who run it look at it."
        return _CERTIFICATE.get(error.verify_code, other)
    if isinstance(error, ssl.SSLEOFError):
        return _HANDSHAKE["UNEXPECTED_EOF"]
    reason = error.reason or ""
    other = f"TLS failed ({reason.lower().replace('_', ' ') or 'no reason given'})."
    return next((told for part, told in _HANDSHAKE.items() if part in reason), other)
