"""Who we are and whom we believe in TLS, for every DICOM and HTTP door and for every call of ours.

The profile is that of DICOM PS3.15 B.12, "BCP 195 RFC 8996, 9325": TLS 1.3 where the peer has it, else
TLS 1.2, never less; no compression, no renegotiation, no resumption of sessions. Cipher suites of TLS 1.3
are OpenSSL's (AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305); of TLS 1.2 those with ephemeral elliptic
curves and authenticated encryption: ECDHE_RSA and ECDHE_ECDSA with AES-128-GCM, AES-256-GCM (RFC 9325
4.2) and ChaCha20-Poly1305. Keys of RSA have at least 2048 bits (OpenSSL's security level 2).
"""

from __future__ import annotations

import hashlib
import ssl
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from node.config import TlsTable
from node.errors import ConfigError

#: Of TLS 1.2; those of TLS 1.3 are set apart by OpenSSL, and all of them are good.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=2"


def client_context(tls: TlsTable) -> ssl.SSLContext:
    """Return how we call a peer: its certificate must lead to an authority and name the host we called.

    We show our own certificate, if there is one, to a peer that asks for it.

    Raises
    ------
    ConfigError
        A file of [tls] cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks host names (RFC 9525)
    _restrict(context)
    if tls.authorities:
        _believe(context, tls.authorities)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if tls.certificate and tls.key:
        _show(context, tls.certificate, tls.key)
    return context


def server_context(tls: TlsTable, door: Literal["on", "mutual"]) -> ssl.SSLContext:
    """Return how a door is opened: we show our certificate; callers must show theirs if ``door`` is mutual.

    Raises
    ------
    ConfigError
        A file of [tls] cannot be used, or is not named.
    """
    if not (tls.certificate and tls.key):
        raise ConfigError("[tls] certificate and key are needed where a door speaks TLS.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_TICKET
    context.num_tickets = 0  # who comes again shows his certificate again
    _show(context, tls.certificate, tls.key)
    if door == "mutual":
        if not tls.authorities:
            raise ConfigError('[tls] authorities are needed where a door has tls = "mutual".')
        _believe(context, tls.authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def fingerprint(connection: ssl.SSLSocket | ssl.SSLObject) -> str:
    """Return SHA-256 of the certificate that the peer showed, hexadecimal; "" if it showed none."""
    shown = connection.getpeercert(binary_form=True)
    return hashlib.sha256(shown).hexdigest() if shown else ""


def reason_of(error: OSError) -> str:
    """Return why TLS with a peer came to nothing, about the peer ("it ..."); "" if it was not about TLS.

    The words are ours, at either end of a connection, and hold nothing that the peer said.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _DISTRUST.get(error.verify_code, "its certificate cannot be verified")
    if not isinstance(error, ssl.SSLError):
        return ""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _BROKE_OFF
    reason = error.reason or ""
    return next((told for word, told in _TROUBLES if word in reason), "it does not speak TLS as we do")


#: X509_V_ERR_* of OpenSSL (x509_vfy.h).
_DISTRUST = {
    **dict.fromkeys((2, 18, 19, 20, 21, 24), "its certificate leads to no authority that we believe"),
    9: "its certificate does not hold yet",
    10: "its certificate has ended",
    23: "its certificate was revoked",
    26: "its certificate is not made for this use",
    **dict.fromkeys((62, 64), "its certificate names another host"),
    **dict.fromkeys((66, 67, 68), "its certificate or its authority is too weak"),
}
_BROKE_OFF = "it broke off TLS, as who does not speak it or does not accept our certificate"
#: A part of the reason that OpenSSL gives; the first that is found counts.
_TROUBLES = (
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "it showed no certificate"),
    ("UNSUPPORTED_PROTOCOL", "it knows no TLS from 1.2 on"),
    ("PROTOCOL_VERSION", "it knows no TLS from 1.2 on"),
    ("NO_SHARED_CIPHER", "it has no cipher suite in common with us"),
    ("ALERT_HANDSHAKE_FAILURE", "it has no cipher suite in common with us, or wants our certificate"),
    ("ALERT_CERTIFICATE_REQUIRED", "it wants our certificate; name one in [tls]"),
    ("ALERT_CERTIFICATE", "it does not accept our certificate"),
    ("ALERT_BAD_CERTIFICATE", "it does not accept our certificate"),
    ("ALERT_UNKNOWN_CA", "it does not accept our certificate"),
    ("ALERT_ACCESS_DENIED", "it does not accept our certificate"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS"),
    ("HTTP_REQUEST", "it does not speak TLS"),
    ("UNEXPECTED_EOF", _BROKE_OFF),
)


def expiring(tls: TlsTable, now: datetime) -> str:
    """Return a complaint about certificates of [tls] that have ended or soon will, or "".

    Parameters
    ----------
    now
        Aware.

    Raises
    ------
    ConfigError
        A file cannot be read.
    """
    return " ".join(_ends(tls, now))


def _ends(tls: TlsTable, now: datetime) -> Iterator[str]:
    for key, path in (("certificate", tls.certificate), ("authorities", tls.authorities)):
        for one in _certificates(key, path) if path else ():
            ends, begins = one.not_valid_after_utc, one.not_valid_before_utc
            what = f"[tls] {key} = {str(path)!r}: the certificate of {_name(one)}"
            if ends <= now:
                yield f"{what} ended on {ends:%Y-%m-%d}; have it renewed."
            elif begins > now:
                yield f"{what} does not hold before {begins:%Y-%m-%d}; is the clock right?"
            elif ends - now < timedelta(days=tls.warn_days):
                days = (ends - now).days
                yield f"{what} ends on {ends:%Y-%m-%d}, in {days} day{'' if days == 1 else 's'}; renew it."


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _believe(context: ssl.SSLContext, authorities: Path) -> None:
    """Believe whoever stands in a file, be it a root, one below it, or a peer's certificate itself."""
    _certificates("authorities", authorities)
    context.load_verify_locations(authorities)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Show our certificate; the sentences say which key of [tls] is wrong."""
    ours = _certificates("certificate", certificate)[0]
    where = f"[tls] key = {str(key)!r}"
    try:
        private = load_pem_private_key(_read("key", key), None)
    except TypeError as error:
        raise ConfigError(f"{where} has a password, which nobody could type; use one without.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{where} holds no private key in PEM.") from error
    if key.stat().st_mode & stat.S_IRWXO:
        raise ConfigError(f"{where} is open to every user of this machine; chmod o= {key}.")
    if private.public_key() != ours.public_key():
        raise ConfigError(
            f"{where} is not the key of certificate = {str(certificate)!r}; ours must come first there."
        )
    try:
        context.load_cert_chain(certificate, key, password="")  # never asks for one at the terminal
    except ssl.SSLError as error:
        why = (error.reason or "no reason given").lower().replace("_", " ")
        raise ConfigError(f"[tls] certificate = {str(certificate)!r} cannot be used: {why}.") from error


def _certificates(key: str, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(key, path))
    except ValueError as error:
        raise ConfigError(f"[tls] {key} = {str(path)!r} holds no certificate in PEM.") from error


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"[tls] {key} = {str(path)!r} cannot be read: {error.strerror}.") from error


def _name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return repr(str(names[0].value)) if names else "no name"
