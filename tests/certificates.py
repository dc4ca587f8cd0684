"""A hospital's certificate authority in small: good certificates, and every kind of bad one.

All of it is made anew for a run and lies in a folder as PEM files: ``<name>.crt`` and ``<name>.key``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

HOSTS = ("127.0.0.1", "localhost")
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as `node.peer.tls.fingerprint` tells it."""
        found = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return found.fingerprint(hashes.SHA256()).hex()


class Authority:
    """Signs certificates; its own is self-signed, or signed by another."""

    def __init__(self, folder: Path, name: str, *, above: Authority | None = None) -> None:
        self._folder, self.name, self._above = folder, name, above
        self._key: Key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _named(f"Test {name}")
        now = datetime.now(UTC)
        self._certificate = (
            _builder(self._subject, self._key, now - 400 * DAY, now + 400 * DAY)
            .issuer_name(above._subject if above else self._subject)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(above._key if above else self._key, hashes.SHA256())
        )
        self.path = folder / f"{name}.crt"  #: what a peer is given to believe
        self.path.write_bytes(_pem(self._certificate))

    def sign(
        self,
        name: str,
        *,
        hosts: tuple[str, ...] = (),
        begins: timedelta = -DAY,
        ends: timedelta = 365 * DAY,
        is_rsa: bool = False,
    ) -> Pair:
        """Return a certificate that holds from ``begins`` to ``ends``, told from now."""
        key: Key = (
            rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
        )
        now = datetime.now(UTC)
        builder = (
            _builder(_named(name), key, now + begins, now + ends)
            .issuer_name(self._subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
            )
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        chain = _pem(builder.sign(self._key, hashes.SHA256()))
        if self._above:
            chain += self.path.read_bytes()
        pair.certificate.write_bytes(chain)
        pair.key.touch(0o600)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair


class Certificates:
    """What a test may need. ``authority`` is the one that our side believes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._authority = Authority(folder, "authority")
        self._strangers = Authority(folder, "strangers")
        self.authority = self._authority.path
        self.strangers = self._strangers.path  #: nobody believes this authority
        self.server = self._authority.sign("server", hosts=HOSTS, is_rsa=True)
        self.chained = Authority(folder, "department", above=self._authority).sign("chained", hosts=HOSTS)
        self.client = self._authority.sign("client")
        self.other_client = self._authority.sign("other-client")
        self.stranger = self._strangers.sign("stranger", hosts=HOSTS)  #: good, but of the other authority
        self.expired = self._authority.sign("expired", hosts=HOSTS, begins=-30 * DAY, ends=-DAY)
        self.not_yet = self._authority.sign("not-yet", hosts=HOSTS, begins=DAY, ends=30 * DAY)
        self.elsewhere = self._authority.sign("elsewhere", hosts=("pacs.elsewhere.example", "192.0.2.1"))
        self.ending = self._authority.sign("ending", hosts=HOSTS, ends=10 * DAY)

    def tls(self, pair: Pair | None = None, authority: Path | None = None) -> str:
        """Return a table [tls] for a configuration file: ``server`` unless told otherwise."""
        pair = pair or self.server
        return (
            f'[tls]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n'
            f'authorities = "{authority or self.authority}"\n'
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, key: Key, begins: datetime, ends: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
